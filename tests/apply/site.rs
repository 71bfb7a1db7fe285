//! A node whose journal is applied on a second database, and the small forwarder that does it.

use std::future::Future;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pgcanon::apply::{Applier, ApplyError, Mode, Route};
use pgcanon::catalog::ControlSettings;
use pgcanon::config::{Config, ConnInfo, NodeName};
use pgcanon::journal::{Item, Progress, Reader, TickId, access};
use pgcanon::wire::stream::{Liveness, Stream};
use tokio_postgres::NoTls;

use crate::common::node::Node;
use crate::common::replay::Replica;
use crate::common::session::Session;
use crate::common::{Cluster, PATIENCE, Pg, eventually, proc, temp_dir};

/// The role that applies; what it may do, `pgcanon init --grant` has given it.
pub(crate) const APPLIER: &str = "applier";

/// A database that changes are applied to.
pub(crate) struct Peer {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) database: String,
    pub(crate) user: &'static str,
}

/// A node and its peer.
pub(crate) struct Site {
    // dropped in this order
    pub(crate) node: Node,
    pub(crate) peer: Peer,
    rules: String,
}

/// Runs a test's async part.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("make a runtime").block_on(work)
}

pub(crate) fn name(name: &str) -> NodeName {
    NodeName::new(name).expect("a node's name")
}

/// The rules of a configuration whose peer is `b`.
pub(crate) fn route(rules: &str) -> Route {
    let dir = temp_dir("route");
    let path = dir.path().join("pgcanon.toml");
    let toml = format!(
        "[node]\nname = \"a\"\nserver = \"host=/tmp\"\ncontrol = \"user=x dbname=y\"\n\n\
         [[peer]]\nname = \"b\"\nconnect = \"host=/tmp user=x dbname=z\"\n\n{rules}"
    );
    std::fs::write(&path, toml).expect("write the rules");
    Route::new(&Config::load(&path).expect("rules").tables, &name("b"))
}

// === impl Peer ===

impl Peer {
    /// A database with these tables, whose apply role has rights on what `rules` name there.
    pub(crate) fn new(cluster: Arc<Cluster>, tables: &str, rules: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("peer_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        cluster.psql(&format!("create database {database} template template0"));
        let peer = Self { cluster, database, user: APPLIER };
        peer.session().ok(tables);
        peer.init(rules);
        peer
    }

    /// On a shared server.
    pub(crate) fn shared(pg: Pg, tables: &str, rules: &str) -> Self {
        Self::new(Cluster::shared(pg), tables, rules)
    }

    /// What `pgcanon init` makes there, and the role.
    fn init(&self, rules: &str) {
        let dir = temp_dir("peer");
        let config = dir.path().join("pgcanon.toml");
        let server = format!("host={} port={}", self.cluster.socket_dir().display(), self.cluster.port());
        let toml = format!(
            "[node]\nname = \"b\"\nserver = \"{server}\"\ncontrol = \"user=postgres dbname={}\"\n\n{rules}",
            self.database
        );
        std::fs::write(&config, toml).expect("write the configuration");
        let mut init = Command::new(env!("CARGO_BIN_EXE_pgcanon"));
        init.args(["init", "--grant", "--config"]).arg(&config);
        proc::run(&mut init, PATIENCE * 4);
        self.session().ok(&format!(
            "do $$ begin create role {APPLIER} login; exception when duplicate_object or unique_violation then end $$; \
             grant pgcanon_apply to {APPLIER}"
        ));
    }

    pub(crate) fn session(&self) -> Session {
        Session::open(&self.cluster.unix(), "postgres", &self.database)
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        let rows = self.session().ok(sql).rows();
        let line =
            |row: Vec<Option<String>>| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join("|");
        rows.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    pub(crate) async fn log_in(&self) -> Stream {
        log_in(&self.cluster, self.user, &self.database).await
    }

    pub(crate) async fn applier(&self, rules: &str) -> Applier {
        self.try_applier(rules).await.expect("an applier")
    }

    pub(crate) async fn try_applier(&self, rules: &str) -> Result<Applier, ApplyError> {
        Applier::open(self.log_in().await, &name("a"), route(rules)).await
    }
}

async fn log_in(cluster: &Cluster, user: &str, database: &str) -> Stream {
    let text = format!("host=127.0.0.1 port={} user={user} dbname={database} sslmode=disable", cluster.port());
    let keepalive = Duration::from_secs(60);
    let liveness =
        Liveness { keepalive_idle: keepalive, keepalive_interval: keepalive, keepalive_count: 3, user_timeout: None };
    let settings = ControlSettings::load(&ConnInfo::parse(&text).expect("a connection string"), PATIENCE, liveness);
    settings.expect("settings").log_in("pgcanon:a").await.expect("log in at the peer")
}

// === impl Site ===

impl Site {
    /// A node and a peer with the same tables.
    pub(crate) fn new(pg: Pg, tables: &str, rules: &str) -> Self {
        let node = Node::start(pg, tables, rules);
        let peer = Peer::shared(pg, tables, rules);
        Self { node, peer, rules: rules.to_owned() }
    }

    /// A node and a peer that calls things otherwise; `there` are rules that name its tables.
    pub(crate) fn unlike(pg: Pg, tables: &str, rules: &str, tables_there: &str, there: &str) -> Self {
        let with_peer = format!("[[peer]]\nname = \"b\"\nconnect = \"host=/tmp user=x dbname=z\"\n\n{rules}");
        let node = Node::start(pg, tables, &with_peer);
        Self { node, peer: Peer::shared(pg, tables_there, there), rules: rules.to_owned() }
    }

    pub(crate) async fn reader(&self) -> Reader {
        let config =
            format!("host=127.0.0.1 port={} user=postgres dbname={}", self.node.cluster.port(), self.node.database);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("connect");
        tokio::spawn(connection);
        let key = access::key(&client, None).await.expect("the journal's key");
        Reader::new(client, key)
    }

    pub(crate) async fn applier(&self) -> Applier {
        self.peer.applier(&self.rules).await
    }

    /// Waits until all that was written is in a tick.
    pub(crate) fn ticked(&self) {
        let mut session = self.node.direct();
        let covered = "select coalesce(bool_and(coalesce(pg_visible_in_snapshot(j.xid, t.snapshot), false)), true) \
             from pgcanon.journal j left join (select snapshot from pgcanon.tick order by id desc limit 1) t on true";
        eventually("every journal row to be covered by a tick", || (session.ok(covered).value() == "t").then_some(()));
    }

    /// Applies all that there is, so many source transactions at once.
    pub(crate) async fn forward(&self, applier: &mut Applier, group: usize, mode: Mode) -> Result<usize, ApplyError> {
        self.ticked();
        let mut reader = self.reader().await;
        forward(&mut reader, applier, group, mode).await
    }

    /// … by sixteens, and then both are equal.
    pub(crate) fn assert_follows(&self) {
        run(async {
            let mut applier = self.applier().await;
            self.forward(&mut applier, 16, Mode::default()).await.expect("apply the journal");
        });
        self.assert_equal();
    }

    pub(crate) fn assert_equal(&self) {
        Replica::on(&self.peer.cluster.unix(), &self.peer.database).assert_equals(&mut self.node.direct(), &[]);
    }
}

/// Applies what lies behind the applier's progress; how many source transactions that were.
pub(crate) async fn forward(
    reader: &mut Reader,
    applier: &mut Applier,
    group: usize,
    mode: Mode,
) -> Result<usize, ApplyError> {
    let Some((_, last)) = reader.range().await.expect("the range of ticks") else { return Ok(0) };
    let (mut id, mut after) = applier.progress().map_or((TickId(1), 0), |p| (p.tick, p.ord));
    let (mut open, mut all) = (0, 0);
    while id <= last {
        let tick = reader.open(id, after).await.expect("open a tick");
        while let Some(item) = reader.next().await.expect("read a tick") {
            match item {
                Item::TxBegin { ord, .. } => {
                    if open == 0 {
                        applier.begin(mode)?;
                    }
                    open += 1;
                    all += 1;
                    applier.source(Progress {
                        system: tick.system,
                        timeline: tick.timeline,
                        tick: id,
                        ord,
                        part: 0,
                    })?;
                }
                Item::Entry(entry) => {
                    if let Some(to) = applier.destination(&entry.head) {
                        applier.entry(&to, &entry).await?;
                    }
                }
                Item::TxEnd if open >= group => {
                    applier.commit().await?;
                    open = 0;
                }
                Item::TxEnd => {}
                Item::Forged { why, .. } => panic!("a forged row: {why}"),
            }
        }
        (id, after) = (TickId(id.0 + 1), 0);
    }
    if open > 0 {
        applier.commit().await?;
    }
    applier.settle().await?;
    Ok(all)
}
