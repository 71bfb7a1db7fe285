//! Two nodes that follow each other, of which every part can be killed and started again: proxies, of which a node may have
//! several, and servers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::node::Plan;
use crate::common::relay::Relay;
use crate::common::session::Session;
use crate::common::settle::{last_place, reached};
use crate::common::{Addr, Cluster, Pg, Proxy, node};

/// The role that peers log in as.
pub(crate) const APPLIER: &str = "applier";

/// How long the nodes may take to be equal after the last fault, on a machine that does much else.
const CATCH_UP: Duration = Duration::from_secs(120);

const DATABASE: &str = "app";
pub(crate) const CONF: &str = "max_connections = 120\nmax_prepared_transactions = 20\n";
const RULE: &str = "[[table]]\nname = \"public.*\"\n";

pub(crate) struct Site {
    pub(crate) sides: [Side; 2],
}

/// A node: its server and its proxies.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    // dropped in this order: the proxies before their server
    proxies: Vec<Mutex<Arc<Proxy>>>,
    cluster: Mutex<Arc<Cluster>>,
    /// `[node] server` of its proxies, and what else they are told.
    server: String,
    config: String,
    /// From its proxies to its server, and from its forwarders to the peer's.
    wires: Option<(Relay, Relay)>,
}

/// What a site is made of.
#[derive(Clone, Copy)]
pub(crate) struct Layout<'a> {
    pub(crate) tables: &'a str,
    /// How many proxies each node has.
    pub(crate) proxies: usize,
    /// Whether what goes to a server goes through a relay.
    pub(crate) wired: bool,
    /// How long a peer may be away before its changes are moved to the queue.
    pub(crate) spill_after: &'a str,
}

impl<'a> Layout<'a> {
    pub(crate) fn new(tables: &'a str) -> Self {
        Self { tables, proxies: 1, wired: false, spill_after: "200ms" }
    }

    pub(crate) fn wired(tables: &'a str) -> Self {
        Self { wired: true, ..Self::new(tables) }
    }
}

// === impl Site ===

impl Site {
    /// Two nodes, which both write these tables and follow each other.
    pub(crate) fn start(layout: Layout<'_>) -> Site {
        let clusters = [(); 2].map(|()| Arc::new(Cluster::start(Pg::V15, CONF, "")));
        let side = |n: usize, name, peer| Side::start(name, peer, &clusters[n], clusters[1 - n].port(), layout);
        Site { sides: [side(0, "a", "b"), side(1, "b", "a")] }
    }

    /// Waits until nothing waits: every journal is covered by ticks, the other node has applied all of it, nothing is queued,
    /// and the peers are live.
    pub(crate) fn settle(&self) {
        let start = Instant::now();
        for (origin, peer) in [(0, 1), (1, 0)].map(|(a, b)| (&self.sides[a], &self.sides[b])) {
            let (mut here, mut there) = (origin.direct(), peer.direct());
            loop {
                let last = last_place(&mut here);
                let reached = reached(&mut there, origin.name);
                let queue = "select state, (select count(*) from pgcanon.error_queue) from pgcanon.peer";
                let waits = here.ok(queue).rows();
                let live = waits.iter().all(|row| row[0].as_deref() == Some("live") && row[1].as_deref() == Some("0"));
                if live && last.is_ok_and(|last| reached >= last) {
                    break;
                }
                assert!(
                    start.elapsed() < CATCH_UP,
                    "{} has applied {reached:?} of {}, whose journal ends at {last:?} (tick, transaction); in its queue: {waits:?}",
                    peer.name,
                    origin.name
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Asserts that a query gives the same on both nodes, once nothing waits; what it gives.
    pub(crate) fn assert_same(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.settle();
        let [a, b] = self.sides.each_ref().map(|side| side.direct().ok(sql).rows());
        let only = |one: &[Vec<Option<String>>], other: &[Vec<Option<String>>]| -> Vec<String> {
            one.iter().filter(|row| !other.contains(row)).take(10).map(|row| format!("{row:?}")).collect()
        };
        if a != b {
            panic!("not equal: {sql}\n  only on a: {:#?}\n  only on b: {:#?}", only(&a, &b), only(&b, &a));
        }
        a
    }
}

// === impl Side ===

impl Side {
    fn start(name: &'static str, peer: &str, cluster: &Arc<Cluster>, peer_port: u16, layout: Layout<'_>) -> Side {
        cluster.psql(&format!("create role {APPLIER} login"));
        node::create(cluster, DATABASE, layout.tables);
        let wires = layout.wired.then(|| (Relay::start(cluster.port()), Relay::start(peer_port)));
        let ports = wires.as_ref().map_or((cluster.port(), peer_port), |wires| (wires.0.port(), wires.1.port()));
        let peer = format!(
            "[[peer]]\nname = \"{peer}\"\nspill_after = \"{}\"\n\
             connect = \"host=127.0.0.1 port={} user={APPLIER} dbname={DATABASE} sslmode=disable\"\n\n{RULE}",
            layout.spill_after, ports.1
        );
        let plan = Plan::new(Arc::clone(cluster), DATABASE, name, "postgres", &peer);
        plan.init(&["--grant", "--connect", "user=postgres"]);
        cluster.psql(&format!("grant pgcanon_apply to {APPLIER}"));
        let server = format!("host=127.0.0.1 port={} sslmode=disable", ports.0);
        let config = format!("[node]\nname = \"{name}\"\ncontrol = \"user=postgres dbname={DATABASE}\"\n\n{peer}");
        let launch = |_| Mutex::new(Arc::new(Proxy::start_for(&server, &config)));
        let proxies = (0..layout.proxies).map(launch).collect();
        Side { name, proxies, cluster: Mutex::new(Arc::clone(cluster)), server, config, wires }
    }

    pub(crate) fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&lock(&self.cluster))
    }

    /// From now on its server is this one.
    pub(crate) fn moves_to(&self, cluster: Cluster) {
        self.to_server().point_to(cluster.port());
        *lock(&self.cluster) = Arc::new(cluster);
    }

    /// What lies between its proxies and its server.
    pub(crate) fn to_server(&self) -> &Relay {
        &self.wires.as_ref().expect("a wired site").0
    }

    /// What lies between its forwarders and the peer's server.
    pub(crate) fn to_peer(&self) -> &Relay {
        &self.wires.as_ref().expect("a wired site").1
    }

    /// How its peer stands.
    pub(crate) fn peer_state(&self) -> String {
        self.sql("select state from pgcanon.peer")
    }

    pub(crate) fn queued(&self) -> u64 {
        self.sql("select count(*) from pgcanon.error_queue").parse().expect("a number")
    }

    /// One of the proxies as it is now: it may be dead, and the next one elsewhere.
    pub(crate) fn proxy(&self, n: usize) -> Arc<Proxy> {
        Arc::clone(&lock(&self.proxies[n % self.proxies.len()]))
    }

    pub(crate) fn addr(&self, n: usize) -> Addr {
        self.proxy(n).tcp()
    }

    pub(crate) fn kill_proxy(&self, n: usize) {
        self.proxy(n).signal(Signal::KILL);
        self.proxy(n).wait_exit();
    }

    pub(crate) fn start_proxy(&self, n: usize) {
        let new = Arc::new(Proxy::start_for(&self.server, &self.config));
        *lock(&self.proxies[n % self.proxies.len()]) = new;
    }

    /// A client of its first proxy.
    pub(crate) fn client(&self) -> Session {
        Session::open(&self.addr(0), "postgres", DATABASE)
    }

    /// A client of the first proxy whose connection to the server can be told by this name.
    pub(crate) fn client_called(&self, name: &str) -> Session {
        Session::open_as(&self.addr(0), &[("user", "postgres"), ("database", DATABASE), ("application_name", name)])
    }

    pub(crate) fn try_client(&self, n: usize) -> Option<Session> {
        Session::try_open(&self.addr(n), "postgres", DATABASE).ok()
    }

    /// A session directly on the server: nothing it does is captured.
    pub(crate) fn direct(&self) -> Session {
        Session::open(&self.cluster().unix(), "postgres", DATABASE)
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.direct().ok(sql).value()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
