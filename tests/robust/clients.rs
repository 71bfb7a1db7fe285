//! Clients that die, at every step of their life, orderly and by reset.

use std::time::Duration;

use crate::common::{Addr, Client, eventually, msg, scram};
use crate::{QUIET, Scene, outline, runs, startup};

type Step = (&'static str, fn(&Addr) -> Client);

/// How far a client gets before it dies.
const STEPS: [Step; 22] = [
    ("connected", Client::connect),
    ("half an SSLRequest", |addr| with(addr, &msg::packet(msg::SSL_REQUEST, b"")[..5])),
    ("an SSLRequest", |addr| with(addr, &msg::packet(msg::SSL_REQUEST, b""))),
    ("an SSLRequest answered", |addr| {
        let mut client = with(addr, &msg::packet(msg::SSL_REQUEST, b""));
        assert_eq!(client.byte(), Some(b'N'));
        client
    }),
    ("half a startup packet", |addr| with(addr, &startup("postgres")[..20])),
    ("a startup packet, and gone at once", |addr| with(addr, &startup("postgres"))),
    ("half a CancelRequest", |addr| with(addr, &msg::cancel(1, b"1234")[..9])),
    ("a CancelRequest for nobody", |addr| with(addr, &msg::cancel(1, b"1234"))),
    ("asked for SCRAM", |addr| {
        let mut client = with(addr, &startup("joe"));
        client.until(b'R');
        client
    }),
    ("half through SCRAM", |addr| {
        let mut client = with(addr, &startup("joe"));
        client.until(b'R');
        client.send(&msg::sasl_initial("SCRAM-SHA-256", b"n,,n=,r=fyko+d2lbbFgONRv9qkxdawL"));
        client.until(b'R');
        client
    }),
    ("logged in by SCRAM", |addr| {
        let mut client = with(addr, &startup("joe"));
        scram::authenticate(&mut client, "secret", |_| unreachable!("no MD5 here"));
        client
    }),
    ("idle", Client::login),
    ("one byte of a message", |addr| logged_in(addr, b"Q")),
    ("half a query", |addr| logged_in(addr, &msg::query("select 1")[..8])),
    ("a frame that promises a gigabyte", |addr| logged_in(addr, b"Q\x3f\xff\xff\xffselect 1")),
    ("Parse without Sync", |addr| {
        let mut client = logged_in(addr, &msg::together(&[msg::parse("s", "select 1", &[]), msg::flush()]));
        client.until(b'1');
        client
    }),
    ("within COPY in", |addr| {
        let mut client = logged_in(addr, &msg::query("copy t from stdin"));
        client.until(b'G');
        client.send(&msg::copy_data("1\n2\n"));
        client.send(&msg::copy_data("3\n4\n")[..6]);
        client
    }),
    ("within COPY out", |addr| {
        let mut client = logged_in(addr, &msg::query("copy (select generate_series(1, 10000000)) to stdout"));
        client.until(b'd');
        client
    }),
    ("within a large result", |addr| {
        let mut client = logged_in(addr, &msg::query("select repeat('x', 100000) from generate_series(1, 10000)"));
        client.until(b'D');
        client
    }),
    ("a query running", |addr| logged_in(addr, &msg::query("select pg_sleep(0.4)"))),
    ("in a transaction that holds a lock", |addr| {
        let mut client = Client::login(addr);
        client.query("begin");
        client.query("insert into t values (1)");
        client.query("lock table t");
        client
    }),
    ("a replication connection", |addr| {
        let params = [("user", "postgres"), ("database", "postgres"), ("replication", "database")];
        let mut client = with(addr, &msg::startup(msg::version(3, 0), &params));
        client.until_ready();
        client.query("IDENTIFY_SYSTEM");
        client
    }),
];

fn with(addr: &Addr, bytes: &[u8]) -> Client {
    let mut client = Client::connect(addr);
    client.send(bytes);
    client
}

fn logged_in(addr: &Addr, bytes: &[u8]) -> Client {
    let mut client = Client::login(addr);
    client.send(bytes);
    client
}

#[test]
fn a_client_may_die_at_any_step() {
    let mut scene = Scene::new("");
    for (name, step) in STEPS {
        println!("{name}"); // shown when it fails
        for addr in scene.addrs() {
            drop(step(&addr));
            step(&addr).reset();
        }
        scene.is_clean();
    }
    assert_eq!(scene.cluster.psql("select count(*) from t"), "0", "nothing of theirs was committed");
}

#[test]
fn many_die_at_once_at_different_steps() {
    let mut scene = Scene::new("");
    for addr in scene.addrs() {
        let clients: Vec<Client> =
            STEPS.iter().filter(|(name, _)| !name.contains("lock")).map(|(_, step)| step(&addr)).collect();
        scene.others_are_served();
        drop(clients);
    }
    scene.is_clean();
}

#[test]
fn a_client_that_ends_its_half_gets_its_answers() {
    let scene = Scene::new("");
    let scripts: [(&str, Vec<u8>); 6] = [
        ("query", msg::query("select pg_sleep(0.1), 'answer'")),
        ("two queries", msg::together(&[msg::query("select 1"), msg::query("select 2")])),
        ("error", msg::query("select 1/0")),
        (
            "pipeline",
            msg::together(&[msg::parse("", "select 7", &[]), msg::bind("", "", &[]), msg::execute("", 0), msg::sync()]),
        ),
        ("no Sync", msg::together(&[msg::parse("", "select 7", &[]), msg::bind("", "", &[]), msg::execute("", 0)])),
        ("half a message", msg::query("select 1")[..7].to_vec()),
    ];
    for (name, bytes) in scripts {
        let ask = |addr: &Addr| {
            let mut client = logged_in(addr, &bytes);
            client.finish_writing();
            outline(&mut client)
        };
        let expected = ask(&scene.cluster.unix());
        for addr in scene.addrs() {
            assert_eq!(ask(&addr), expected, "{name} over {addr:?}");
        }
    }
}

#[test]
fn a_client_that_dies_within_its_query_leaves_the_server_as_it_would_without_a_proxy() {
    let mut scene = Scene::new("");
    let sql = "select pg_sleep(1)";
    // PostgreSQL notices a dead client when it writes to it, and not before; so does this.
    drop(logged_in(&scene.proxy.tcp(), &msg::query(sql)));
    runs(&scene.cluster, sql);
    scene.is_clean();
}

#[test]
fn who_does_not_log_in_is_not_kept() {
    let mut scene = Scene::new("[node]\nlogin_timeout = \"300ms\"");
    for addr in scene.addrs() {
        let mut silent =
            [Client::connect(&addr), with(&addr, &startup("postgres")[..10]), with(&addr, &startup("joe"))];
        silent[2].until(b'R');
        for client in &mut silent {
            assert_eq!(outline(client), ["closed"]);
        }
    }
    let given_up = || scene.proxy.metric("pgcanon_refusals_total{reason=\"timeout\"}");
    eventually("all to be counted", || (given_up() == 6.0).then_some(()));
    scene.is_clean();
    let mut logged_in = Client::login(&scene.proxy.tcp());
    let quiet = logged_in.frame_within(QUIET + Duration::from_millis(300));
    assert!(matches!(quiet, crate::common::raw::Got::Nothing), "who is in may be silent for as long as he likes");
}

#[test]
fn too_few_file_descriptors_pass() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let mut scene = Scene::new("");
    let pid = i32::try_from(scene.proxy.pid()).ok().and_then(Pid::from_raw);
    let few = scene.before.descriptors as u64 + 7;
    let before = came(&scene);
    let old = prlimit(pid, Resource::Nofile, Rlimit { current: Some(few), maximum: Some(few) }).expect("set a limit");
    let clients: Vec<Client> = (0..20).map(|_| with(&scene.proxy.tcp(), &startup("postgres"))).collect();
    scene.proxy.wait_log("cannot accept a connection");
    assert_eq!(scene.bystander.rows("select 1"), [[Some("1".to_owned())]]);
    drop(clients);
    // Those who could not be accepted wait in the kernel, gone or not: the crowd has passed when all have been seen.
    eventually("the crowd to have come", || (came(&scene) == before + 20.0).then_some(()));
    eventually("the crowd to be gone", || (scene.proxy.metric("pgcanon_sessions") == 1.0).then_some(()));
    Client::login(&scene.proxy.tcp());
    if prlimit(pid, Resource::Nofile, old).is_ok() {
        scene.is_clean(); // only root may raise it again
    }
}

/// How many sessions were let in or turned away so far.
fn came(scene: &Scene) -> f64 {
    let text = scene.proxy.metrics();
    let counts =
        text.lines().filter(|l| l.starts_with("pgcanon_logins_total") || l.starts_with("pgcanon_refusals_total"));
    counts.map(|line| line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("a count")).sum()
}
