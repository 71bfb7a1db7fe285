//! A node: a database with tables, its journal, and a proxy in front that captures what is written to them.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::entry::{Dump, Entry};
use super::replay::Replica;
use super::session::Session;
use super::{Addr, Cluster, PATIENCE, Pg, Proxy, entry, eventually, proc, proxy, temp_dir};

/// The rule most tests have: every table of schema `public`.
pub(crate) const PUBLIC: &str = "[[table]]\nname = \"public.*\"\ntriggers = \"fire\"\n";

/// What a node's server must be able to do.
const CONF: &str = "max_connections = 200\nmax_prepared_transactions = 40\ndeadlock_timeout = 50ms\n";

/// A database, its rules and its proxy.
#[derive(Debug)]
pub(crate) struct Node {
    // dropped in this order: the proxy before its server
    pub(crate) proxy: Proxy,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) database: String,
    plan: Plan,
}

/// What a node is made of, before it runs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) database: String,
    /// What is laid over a proxy's own configuration.
    overrides: String,
    /// SQL that makes an empty copy of the node's tables.
    tables: String,
    dir: tempfile::TempDir,
}

impl Node {
    /// A node in a database of its own on a cluster that tests share.
    ///
    /// `tables` is SQL that makes the tables and their first rows: the same on every run, since the copy is made by it, too.
    pub(crate) fn start(pg: Pg, tables: &str, rules: &str) -> Node {
        Node::on(shared(pg), tables, rules)
    }

    /// A node on a cluster of its own, which a test may crash.
    pub(crate) fn alone(pg: Pg, more_conf: &str, tables: &str, rules: &str) -> Node {
        Node::on(Arc::new(Cluster::start(pg, &format!("{CONF}{more_conf}"), "")), tables, rules)
    }

    pub(crate) fn on(cluster: Arc<Cluster>, tables: &str, rules: &str) -> Node {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("node_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        create(&cluster, &database, tables);
        let plan = Plan { tables: tables.to_owned(), ..Plan::new(cluster, &database, "a", "postgres", rules) };
        plan.init(&[]);
        plan.start()
    }

    /// Another proxy in front of the same database.
    pub(crate) fn second_proxy(&self) -> Proxy {
        Proxy::start(&self.cluster, &self.plan.overrides)
    }

    /// `pgcanon init` once more.
    pub(crate) fn init(&self, more: &[&str]) {
        self.plan.init(more);
    }

    /// A session through the proxy, as superuser.
    pub(crate) fn client(&self) -> Session {
        self.client_as("postgres")
    }

    pub(crate) fn client_as(&self, user: &str) -> Session {
        Session::open(&self.proxy.tcp(), user, &self.database)
    }

    /// A session through another way to this node.
    pub(crate) fn client_at(&self, addr: &Addr) -> Session {
        Session::open(addr, "postgres", &self.database)
    }

    /// A session directly on the server: nothing it does is captured.
    pub(crate) fn direct(&self) -> Session {
        Session::open(&self.cluster.unix(), "postgres", &self.database)
    }

    /// SQL directly on the server, as superuser; the unaligned output.
    pub(crate) fn sql(&self, sql: &str) -> String {
        psql(&self.cluster, &self.database, sql)
    }

    /// The configuration that `init` and `journal dump` read.
    pub(crate) fn config(&self) -> PathBuf {
        self.plan.config()
    }

    /// The whole journal once every committed row of it is covered by a tick.
    pub(crate) fn dump(&self) -> Dump {
        let mut session = self.direct();
        let covered = "select coalesce(bool_and(coalesce(pg_visible_in_snapshot(j.xid, t.snapshot), false)), true) from pgcanon.journal j \
             left join (select snapshot from pgcanon.tick order by id desc limit 1) t on true";
        eventually("every journal row to be covered by a tick", || (session.ok(covered).value() == "t").then_some(()));
        self.pending()
    }

    /// The journal as it is now, uncovered rows included.
    pub(crate) fn pending(&self) -> Dump {
        entry::dump(&run(&["journal", "dump", "--json", "--pending", "--config"], &self.config()))
    }

    /// The changes in the journal; a forged row in it is a failure.
    pub(crate) fn journal(&self) -> Vec<Entry> {
        let dump = self.dump();
        assert_eq!(dump.forged, Vec::<String>::new(), "rows that do not verify");
        dump.entries
    }

    /// The changes of all ticks behind this one: a long journal need not be read again from its beginning.
    pub(crate) fn journal_after(&self, tick: u64) -> Vec<Entry> {
        let from = tick.to_string();
        let dump = eventually("every journal row to be covered by a tick", || {
            // Before the first tick there is none to begin with.
            let from = ["--from", from.as_str()];
            let from = if tick == 0 { &from[..0] } else { &from[..] };
            let args = [&["journal", "dump", "--json", "--pending"], from, &["--config"]].concat();
            let dump = entry::dump(&run(&args, &self.config()));
            dump.entries.iter().all(|entry| entry.tick.is_some()).then_some(dump)
        });
        assert_eq!(dump.forged, Vec::<String>::new(), "rows that do not verify");
        dump.entries.into_iter().filter(|entry| entry.tick > Some(tick)).collect()
    }

    /// The lanes of the entries, in order: what most tests of a lane compare.
    pub(crate) fn lanes(&self) -> Vec<String> {
        self.journal().iter().map(|entry| format!("{} {}", entry.lane, entry.op)).collect()
    }

    /// Rebuilds the tables from the journal in an empty copy of the schema and compares them with the node's.
    pub(crate) fn assert_replays(&self) -> Vec<Entry> {
        self.assert_replays_filtered(&[])
    }

    /// [`assert_replays`](Self::assert_replays) where rules have conditions: `(schema.table, condition)`.
    pub(crate) fn assert_replays_filtered(&self, filters: &[(&str, &str)]) -> Vec<Entry> {
        let entries = self.journal();
        self.assert_makes(&entries, filters);
        entries
    }

    /// Asserts that these changes make the node's tables.
    pub(crate) fn assert_makes(&self, entries: &[Entry], filters: &[(&str, &str)]) {
        let copy = self.copy();
        let mut replica = Replica::on(&self.cluster.unix(), &copy);
        replica.apply(entries);
        replica.assert_equals(&mut self.direct(), filters);
        drop(replica);
        remove(&self.cluster, &copy);
    }

    /// An empty copy of the node's schema: a database beside its own.
    pub(crate) fn copy(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let copy = format!("copy_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        create(&self.cluster, &copy, &self.plan.tables);
        copy
    }
}

// === impl Plan ===

impl Plan {
    /// In front of a database that is there; the proxy's own connection is `user`'s. `rules` is TOML behind
    /// the first keys of `[node]`.
    pub(crate) fn new(cluster: Arc<Cluster>, database: &str, name: &str, user: &str, rules: &str) -> Plan {
        let dir = temp_dir("node");
        let server = format!("host={} port={}", cluster.socket_dir().display(), cluster.port());
        let node = format!("name = \"{name}\"\ncontrol = \"user={user} dbname={database}\"\n");
        std::fs::write(dir.path().join("pgcanon.toml"), format!("[node]\nserver = \"{server}\"\n{node}\n{rules}"))
            .expect("write the configuration");
        let overrides = format!("[node]\nadmin = \"127.0.0.1:0\"\n{node}\n{rules}");
        Plan { cluster, database: database.to_owned(), overrides, tables: String::new(), dir }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("pgcanon.toml")
    }

    /// `pgcanon init`, with more arguments.
    pub(crate) fn init(&self, more: &[&str]) {
        run(&[&["init"], more, &["--config"]].concat(), &self.config());
    }

    /// Puts a proxy in front.
    pub(crate) fn start(self) -> Node {
        let proxy = Proxy::start(&self.cluster, &self.overrides);
        Node { proxy, cluster: Arc::clone(&self.cluster), database: self.database.clone(), plan: self }
    }
}

/// A cluster for nodes that lives until the last test that asked for it ends.
fn shared(pg: Pg) -> Arc<Cluster> {
    thread_local! { // a test is a thread
        static HELD: RefCell<Vec<Arc<Cluster>>> = const { RefCell::new(Vec::new()) };
    }
    static SHARED: Mutex<[Weak<Cluster>; 3]> = Mutex::new([Weak::new(), Weak::new(), Weak::new()]);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = &mut shared[pg as usize];
    let cluster = slot.upgrade().unwrap_or_else(|| Arc::new(Cluster::start(pg, CONF, "")));
    *slot = Arc::downgrade(&cluster);
    HELD.with_borrow_mut(|held| held.push(Arc::clone(&cluster)));
    cluster
}

pub(crate) fn create(cluster: &Cluster, database: &str, tables: &str) {
    cluster.psql(&format!("create database {database} template template0"));
    psql(cluster, database, tables);
}

/// Drops a database that no longer matters; one that is still in use goes with its cluster.
fn remove(cluster: &Cluster, database: &str) {
    let mut psql = proxy::psql(&cluster.socket_dir().display().to_string(), cluster.port());
    psql.args(["-qc", &format!("drop database if exists {database} with (force)")]);
    let _ = proc::output(&mut psql, PATIENCE);
}

fn psql(cluster: &Cluster, database: &str, sql: &str) -> String {
    let mut psql = proxy::psql(&cluster.socket_dir().display().to_string(), cluster.port());
    psql.args(["-d", database, "-v", "ON_ERROR_STOP=1", "-qAtc", sql]);
    proc::run(&mut psql, PATIENCE).trim_end().to_owned()
}

/// Runs the program to its end; the configuration comes last.
fn run(args: &[&str], config: &Path) -> String {
    proc::run(Command::new(env!("CARGO_BIN_EXE_pgcanon")).args(args).arg(config), PATIENCE * 4)
}

/// [`run`] for what may fail.
pub(crate) fn output(args: &[&str], config: &Path) -> Output {
    proc::output(Command::new(env!("CARGO_BIN_EXE_pgcanon")).args(args).arg(config), PATIENCE * 4)
}
