//! Nodes that are each other's peers: a database with its proxy for each, and every other one in its configuration.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::node::{Node, Plan};
use crate::common::session::Session;
use crate::common::settle::{last_place, reached};
use crate::common::{Cluster, Pg};

/// The role that peers log in as: a member of `pgcanon_apply`, and of nothing else.
pub(crate) const APPLIER: &str = "applier";

/// How long a node may take to follow what was written, on a machine that does much else.
const CATCH_UP: Duration = Duration::from_secs(90);

/// A node to be.
pub(crate) struct Member<'a> {
    pub(crate) name: &'a str,
    pub(crate) cluster: Arc<Cluster>,
    /// Owns the database and its tables, and is whom the proxy's own connection logs in as.
    pub(crate) owner: &'a str,
    /// SQL that makes the tables, run by the owner.
    pub(crate) tables: String,
    /// More keys of its `[node]`.
    pub(crate) own: String,
    /// The `[[table]]` rules.
    pub(crate) rules: String,
    /// More keys of each `[[peer]]`.
    pub(crate) peers: String,
    /// How others log in here, besides where and as whom.
    pub(crate) reached: String,
}

pub(crate) struct Mesh {
    nodes: Vec<(String, Node)>,
}

impl<'a> Member<'a> {
    pub(crate) fn new(name: &'a str, cluster: Arc<Cluster>, tables: &str, rules: &str) -> Self {
        Self {
            name,
            cluster,
            owner: "postgres",
            tables: tables.to_owned(),
            own: String::new(),
            rules: rules.to_owned(),
            peers: String::new(),
            reached: "sslmode=disable".to_owned(),
        }
    }

    /// With these keys for itself.
    pub(crate) fn own(self, keys: &str) -> Self {
        Self { own: format!("{keys}\n"), ..self }
    }

    /// With these keys for each of its peers.
    pub(crate) fn peers(self, keys: &str) -> Self {
        Self { peers: format!("{keys}\n"), ..self }
    }

    /// With these keywords for those whose peer it is.
    pub(crate) fn reached(self, keywords: &str) -> Self {
        Self { reached: keywords.to_owned(), ..self }
    }

    pub(crate) fn owned_by(self, owner: &'a str) -> Self {
        Self { owner, ..self }
    }
}

/// What a server of many nodes must be able to do; everything else is as PostgreSQL has it, above all how soon a client looks
/// for a deadlock. The origins of one database keep their places when it is dropped.
const CONF: &str = "max_connections = 200\nmax_prepared_transactions = 40\ntrack_commit_timestamp = on\nmax_replication_slots = 1000\n";

/// One of the servers that tests share: each letter is another one. It lives until the last test that asked for it ends.
pub(crate) fn server(pg: Pg, which: char) -> Arc<Cluster> {
    server_ahead(pg, which, 0)
}

/// [`server`], with a clock that is so many seconds ahead of the machine's, or behind it.
pub(crate) fn server_ahead(pg: Pg, which: char, ahead: i32) -> Arc<Cluster> {
    type Servers = Vec<((u8, char, i32), Weak<Cluster>)>;
    thread_local! { // a test is a thread
        static HELD: RefCell<Vec<Arc<Cluster>>> = const { RefCell::new(Vec::new()) };
    }
    static SHARED: Mutex<Servers> = Mutex::new(Vec::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (pg as u8, which, ahead);
    let known = shared.iter().find(|(k, _)| *k == key).and_then(|(_, cluster)| cluster.upgrade());
    let cluster = known.unwrap_or_else(|| Arc::new(Cluster::start_ahead(pg, CONF, "", ahead)));
    shared.retain(|(k, _)| *k != key);
    shared.push((key, Arc::downgrade(&cluster)));
    HELD.with_borrow_mut(|held| held.push(Arc::clone(&cluster)));
    cluster
}

// === impl Mesh ===

impl Mesh {
    /// Makes the databases, `pgcanon init` for each, and then the proxies.
    pub(crate) fn start(members: Vec<Member<'_>>) -> Mesh {
        Mesh::start_with(members, |_, _| {})
    }

    /// [`start`](Self::start), with more to be done to a database (its cluster, its name) when its tables are there.
    pub(crate) fn start_with(members: Vec<Member<'_>>, more: impl Fn(&Cluster, &str)) -> Mesh {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = |name: &str| format!("mesh_{number}_{name}");
        let plans: Vec<(String, Plan)> = {
            // Roles and their memberships belong to the cluster, and PostgreSQL fails who changes them at once with another.
            static ROLES: Mutex<()> = Mutex::new(());
            let _one = ROLES.lock().unwrap_or_else(PoisonError::into_inner);
            let plan = |member: &Member<'_>| {
                let mut config = member.own.clone();
                for peer in members.iter().filter(|peer| peer.name != member.name) {
                    config.push_str(&format!(
                        "[[peer]]\nname = \"{}\"\nconnect = \"host=127.0.0.1 port={} user={APPLIER} dbname={} {}\"\n{}\n",
                        peer.name, peer.cluster.port(), database(peer.name), peer.reached, member.peers
                    ));
                }
                config.push_str(&member.rules);
                prepare(member, &database(member.name), &more);
                let plan =
                    Plan::new(Arc::clone(&member.cluster), &database(member.name), member.name, member.owner, &config);
                plan.init(&["--grant", "--connect", "user=postgres"]);
                member.cluster.psql(&format!("grant pgcanon_apply to {APPLIER}"));
                (member.name.to_owned(), plan)
            };
            members.iter().map(plan).collect()
        };
        Mesh { nodes: plans.into_iter().map(|(name, plan)| (name, plan.start())).collect() }
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        let found = self.nodes.iter().find(|(n, _)| n == name);
        &found.unwrap_or_else(|| panic!("no node {name}")).1
    }

    /// A node's proxy, which is gone or is to go, and another one in its place.
    pub(crate) fn restart(&mut self, name: &str) {
        let node = self.nodes.iter_mut().find(|(n, _)| n == name).map(|(_, node)| node).expect("a node");
        node.proxy.signal(Signal::KILL);
        node.proxy.wait_exit();
        node.proxy = node.second_proxy();
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|(name, _)| name.as_str())
    }

    /// A client of a node, through its proxy.
    pub(crate) fn client(&self, name: &str) -> Session {
        self.node(name).client()
    }

    /// Waits until nothing waits: every node's journal is covered by ticks, and every other node says that it has applied the
    /// last of it.
    pub(crate) fn settle(&self) {
        for (origin, node) in &self.nodes {
            let mut here = node.direct();
            let start = Instant::now();
            let mut last = last_place(&mut here);
            for (peer, there) in self.nodes.iter().filter(|(peer, _)| peer != origin) {
                let mut there = there.direct();
                loop {
                    let reached = reached(&mut there, origin);
                    match last {
                        Ok(last) if reached >= last => break,
                        _ => {}
                    }
                    assert!(
                        start.elapsed() < CATCH_UP,
                        "{peer} has applied {reached:?} of {origin}, whose journal ends at {last:?} (tick, transaction)"
                    );
                    std::thread::sleep(Duration::from_millis(5));
                    if last.is_err() {
                        last = last_place(&mut here);
                    }
                }
            }
        }
    }

    /// Asserts that nothing was in anybody's way: nothing waits in a queue, and no conflict was decided.
    pub(crate) fn assert_without_conflict(&self) {
        for name in self.names() {
            let found = self.node(name).sql(
                "select 'waits: ' || concat_ws(' ', dst_server, table_name, dst_query, message) from pgcanon.error_queue \
                 union all select 'conflict: ' || concat_ws(' ', origin, table_name, kind, decision) from pgcanon.conflict",
            );
            assert_eq!(found, "", "on {name}");
        }
    }

    /// How many rows a node's journal has: what peers have applied there is not among them.
    pub(crate) fn journal_rows(&self, name: &str) -> u64 {
        self.node(name).sql("select count(*) from pgcanon.journal").parse().expect("a number")
    }
}

impl Drop for Mesh {
    /// Shared servers go on after a failure, so their logs are shown here.
    fn drop(&mut self) {
        for (name, node) in self.nodes.iter().filter(|_| std::thread::panicking()) {
            let log = node.cluster.log();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("LOG:")).collect();
            let deadlocks = log.matches("deadlock detected").count();
            eprintln!("--- end of the log of {name}'s server; deadlocks in all of it: {deadlocks}");
            eprintln!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// A database with its tables, and the role that peers come as.
fn prepare(member: &Member<'_>, database: &str, more: &impl Fn(&Cluster, &str)) {
    let cluster = &member.cluster;
    for role in [APPLIER, member.owner] {
        let there = cluster.psql(&format!("select count(*) from pg_roles where rolname = '{role}'"));
        if there == "0" {
            cluster.psql(&format!("create role {role} login"));
        }
    }
    cluster.psql(&format!("create database {database} template template0 owner {}", member.owner));
    if !member.tables.is_empty() {
        Session::open(&cluster.unix(), member.owner, database).ok(&member.tables);
    }
    more(cluster, database);
}
