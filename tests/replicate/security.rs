//! On the way to a peer: it has to be who its certificate says, and what proves us to it is told to nobody.

use std::sync::Arc;

use crate::common::certs::Certs;
use crate::common::{Cluster, Pg, eventually, proc, proxy};
use crate::mesh::{APPLIER, Member, Mesh, server};

const TABLE: &str = "create table t (id int primary key)";
const RULE: &str = "[[table]]\nname = \"public.*\"\n";
const PASSWORD: &str = "s3cret-of-b";

/// A server that lets the applier in by TLS and password only.
fn guarded(certs: &Certs) -> Arc<Cluster> {
    let hba = format!("local all all trust\nhostssl all {APPLIER} all scram-sha-256\n");
    let cluster = Arc::new(Cluster::start(Pg::V15, "max_connections = 50\n", &hba));
    certs.server("b").copy_for(&cluster);
    cluster.psql("alter system set ssl = on");
    cluster.psql(&format!("create role {APPLIER} login password '{PASSWORD}'"));
    cluster.reload();
    eventually("the server to have TLS", || (cluster.psql("show ssl") == "on").then_some(()));
    cluster
}

fn pair(b: &Arc<Cluster>, reached: &str) -> Mesh {
    let a = Member::new("a", server(Pg::V15, 'a'), TABLE, RULE);
    Mesh::start(vec![a, Member::new("b", b.clone(), TABLE, RULE).reached(reached)])
}

fn trouble(mesh: &Mesh) -> String {
    eventually("the forwarder to be in trouble", || {
        let log = mesh.node("a").proxy.log();
        log.lines().find(|line| line.contains("nothing is forwarded")).map(str::to_owned)
    })
}

#[test]
fn a_peer_has_to_be_who_its_certificate_says() {
    let (certs, others) = (Certs::new(), Certs::new());
    let b = guarded(&certs);
    let keywords = |ca: &Certs, password: &str| {
        format!("password={password} sslmode=verify-full sslrootcert={}", ca.ca().display())
    };
    let mesh = pair(&b, &keywords(&others, PASSWORD));
    mesh.client("a").ok("insert into t values (1)");
    let told = trouble(&mesh);
    assert!(told.contains("certificate"), "{told}");
    assert_eq!(mesh.node("b").sql("select count(*) from t"), "0");
    drop(mesh);

    let mesh = pair(&b, &keywords(&certs, PASSWORD));
    mesh.client("a").ok("insert into t values (1)");
    eventually("b to have it", || (mesh.node("b").sql("select count(*) from t") == "1").then_some(()));
    let encrypted = format!(
        "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where usename = '{APPLIER}' and datname = current_database()"
    );
    assert_eq!(mesh.node("b").sql(&encrypted), "t");
}

#[test]
fn what_proves_us_is_told_to_nobody() {
    let certs = Certs::new();
    let b = guarded(&certs);
    let mesh = pair(&b, "password=wr0ng-of-b sslmode=require");
    mesh.client("a").ok("insert into t values (1)");
    let told = trouble(&mesh);
    assert!(told.contains("password authentication failed"), "{told}");
    let node = mesh.node("a");
    let key = node.sql("select value from pgcanon.meta where key = 'cluster_key'");
    let shown: String = ["config", "peers", "queue", "rules", "status", "sessions", "ticks", "conflicts"]
        .map(|view| {
            let mut psql = proxy::psql("127.0.0.1", node.proxy.console_port());
            let output = proc::output(psql.args(["-c", &format!("show {view}")]), crate::common::PATIENCE);
            assert!(output.status.success(), "{view}");
            String::from_utf8(output.stdout).expect("UTF-8")
        })
        .concat();
    assert!(shown.contains("password=***"), "{shown}");
    let processes = std::fs::read(format!("/proc/{}/cmdline", node.proxy.pid())).expect("read the command line");
    let processes = String::from_utf8_lossy(&processes).into_owned();
    for (what, text) in [
        ("the log", node.proxy.log()),
        ("the console", shown),
        ("the metrics", node.proxy.metrics()),
        ("the process list", processes),
        ("the peer's log", b.log()),
        ("the error that the queue shows", node.sql("select coalesce(string_agg(reason, ' '), '') from pgcanon.peer")),
    ] {
        for secret in ["wr0ng-of-b", PASSWORD, key.as_str()] {
            assert!(!text.contains(secret), "{what} tells {secret}: {text}");
        }
    }
}
