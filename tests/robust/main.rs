//! What must not happen, whatever clients and servers do: a panic, a leak, another session that notices.

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod fake;
mod frames;
mod leaks;
mod peers;
mod pressure;
mod servers;

use std::path::Path;
use std::time::Duration;

use common::raw::{Frame, Got};
use common::{Addr, Client, Cluster, PATIENCE, Pg, Proxy, eventually, msg};

/// Local users are trusted, `joe` (password `secret`) has to prove himself.
const HBA: &str = "local all joe scram-sha-256\nlocal all all trust\nhost all joe 127.0.0.1/32 scram-sha-256\n\
                   host all all 127.0.0.1/32 trust\nlocal replication all trust\nhost replication all 127.0.0.1/32 trust\n";

/// A proxy, its server, and a session that has nothing to do with what happens to the others.
struct Scene {
    cluster: Cluster,
    proxy: Proxy,
    bystander: Client,
    before: Usage,
}

/// What a process holds of the kernel's things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Usage {
    descriptors: usize,
    threads: usize,
}

// === impl Scene ===

impl Scene {
    fn new(overrides: &str) -> Scene {
        Scene::with("", overrides)
    }

    fn with(server_conf: &str, overrides: &str) -> Scene {
        let cluster = Cluster::start(Pg::V15, server_conf, HBA);
        cluster.psql("create role joe login password 'secret'; create table t (a int)");
        let proxy = Proxy::start(&cluster, overrides);
        let bystander = Client::login(&proxy.tcp());
        // Once over each kind of socket, so that what is done only once has been done.
        Client::login(&proxy.unix());
        proxy.metrics();
        let mut scene = Scene { cluster, proxy, bystander, before: Usage { descriptors: 0, threads: 0 } };
        scene.others_are_served();
        eventually("only the bystander to be left", || (scene.backends() == 1).then_some(()));
        eventually("its session alone", || (scene.proxy.metric("pgcanon_sessions") == 1.0).then_some(()));
        scene.before = settled(scene.proxy.pid());
        scene
    }

    fn addrs(&self) -> [Addr; 2] {
        [self.proxy.tcp(), self.proxy.unix()]
    }

    /// Sessions on the server, without the one that asks.
    fn backends(&self) -> usize {
        let count = "select count(*) - 1 from pg_stat_activity where backend_type in ('client backend', 'walsender')";
        self.cluster.psql(count).parse().expect("a number")
    }

    /// The session that was there before goes on, and new ones are let in.
    fn others_are_served(&mut self) {
        assert_eq!(self.bystander.rows("select 'still here'"), [[Some("still here".to_owned())]]);
        for addr in self.addrs() {
            let mut client = Client::login(&addr);
            client.query("select 1");
            client.send(&msg::terminate());
        }
    }

    /// Everything is as it was before: nothing held, nothing running, no panic.
    fn is_clean(&mut self) {
        self.others_are_served();
        eventually("the backends of the others to end", || (self.backends() == 1).then_some(()));
        self.nothing_is_held();
    }

    fn nothing_is_held(&self) {
        let pid = self.proxy.pid();
        eventually(&format!("{:?} instead of {:?}", self.before, usage(pid)), || {
            (usage(pid) == self.before).then_some(())
        });
        assert_eq!(self.proxy.metric("pgcanon_sessions"), 1.0);
        no_panic(&self.proxy);
    }
}

fn no_panic(proxy: &Proxy) {
    let log = proxy.log();
    assert!(!log.contains("panicked"), "{log}");
}

fn usage(pid: u32) -> Usage {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).expect("the process lives").count();
    Usage { descriptors: count("fd"), threads: count("task") }
}

/// What a process holds once that does not change any more: the other end of a connection sees its end a moment before
/// the descriptor is gone.
fn settled(pid: u32) -> Usage {
    let (mut last, mut same) = (usage(pid), 0);
    eventually("the process to come to rest", || {
        let now = usage(pid);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same == 20).then_some(now)
    })
}

/// A number of bytes from `/proc/PID/status`: `VmRSS` or `VmHWM`.
fn memory(pid: u32, key: &str) -> i64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).expect("the kernel tells");
    let kib: i64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// All frames up to the end of the connection, and how it ended.
fn rest(client: &mut Client) -> (Vec<Frame>, Got) {
    let mut frames = Vec::new();
    loop {
        match client.frame_within(PATIENCE) {
            Got::Frame(frame) => frames.push(frame),
            end => return (frames, end),
        }
    }
}

/// What a conversation comes to: the frames with what is the same in any run, and how it ended.
fn outline(client: &mut Client) -> Vec<String> {
    let (frames, end) = rest(client);
    let mut lines: Vec<String> = frames.iter().map(sketch).collect();
    lines.push(match end {
        Got::Closed => "closed".into(),
        Got::Torn(_) => "torn".into(),
        other => format!("{other:?}"),
    });
    lines
}

/// A frame without what differs between two sessions.
fn sketch(frame: &Frame) -> String {
    match frame.tag {
        b'E' | b'N' => {
            let field = |code| frame.field(code).unwrap_or_default();
            format!("{} {} {} {}", char::from(frame.tag), field(b'S'), field(b'C'), field(b'M'))
        }
        b'K' => "K".into(),
        _ => format!("{frame:?}"),
    }
}

fn startup(user: &str) -> Vec<u8> {
    msg::startup(msg::version(3, 0), &[("user", user), ("database", "postgres")])
}

/// Waits until a query of this text runs on the server.
fn runs(cluster: &Cluster, text: &str) {
    let sql = format!(
        "select count(*) from pg_stat_activity where query = $q${text}$q$ and state = 'active' and pid <> pg_backend_pid()"
    );
    eventually(&format!("{text} to run"), || (cluster.psql(&sql) != "0").then_some(()));
}

/// A time in which nothing is expected, and nothing waited for.
const QUIET: Duration = Duration::from_millis(200);
