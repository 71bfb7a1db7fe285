//! pgbench's TPC-B through all nodes at once (scenario C5): every deposit is on each, and the books balance.

use std::process::Command;
use std::time::Duration;

use crate::common::cluster::PG15_BIN;
use crate::common::node::Node;
use crate::common::{Cluster, Pg, proc};
use crate::mesh::{Member, Mesh, server};

pub(crate) const LIMIT: Duration = Duration::from_secs(180);

const TABLES: [&str; 4] = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"];

pub(crate) fn pgbench(host: &str, port: u16, database: &str, args: &[&str]) -> Command {
    let mut pgbench = Command::new(format!("{PG15_BIN}/pgbench"));
    pgbench.args(["-h", host, "-p", &port.to_string(), "-U", "postgres"]).args(args).arg(database);
    pgbench
}

/// pgbench's tables, the same in every database.
fn fill(cluster: &Cluster, database: &str) {
    proc::run(
        &mut pgbench(&cluster.socket_dir().display().to_string(), cluster.port(), database, &["-i", "-q", "-s", "1"]),
        LIMIT,
    );
}

fn load(node: &Node, how: &[&str]) {
    let printed =
        proc::run(&mut pgbench("127.0.0.1", node.proxy.port(), &node.database, &[&["-n"], how].concat()), LIMIT);
    assert!(printed.contains("number of failed transactions: 0"), "{printed}");
}

fn mesh(nodes: &[(&'static str, Pg)]) -> Mesh {
    let rules = "[[table]]\nname = \"public.pgbench_*\"\n";
    // Each has a server of its own.
    let member = |(name, pg): &(&'static str, Pg)| {
        let which = name.chars().next().expect("a name");
        Member::new(name, server(*pg, which), "", rules)
    };
    Mesh::start_with(nodes.iter().map(member).collect(), fill)
}

/// Through all nodes at once; then they are equal, and what was deposited is in every sum.
fn tpc_b(mesh: &Mesh, how: &[&[&str]], transactions: u32) {
    std::thread::scope(|scope| {
        for (node, how) in mesh.names().zip(how) {
            scope.spawn(move || load(mesh.node(node), how));
        }
    });
    for table in TABLES {
        mesh.assert_all_equal(table);
    }
    for node in mesh.names() {
        let sums = "select (select count(*) from pgbench_history), (select sum(delta) from pgbench_history) = all (array[\
            (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), \
            (select sum(bbalance) from pgbench_branches)])";
        assert_eq!(mesh.node(node).sql(sums), format!("{transactions}|t"), "{node}");
    }
    mesh.assert_without_conflict();
}

fn how(mode: &str) -> [&str; 8] {
    ["-M", mode, "-c", "8", "-j", "2", "-t", "150"]
}

#[test]
fn tpc_b_through_two_nodes_at_once() {
    let mesh = mesh(&[("a", Pg::V15), ("b", Pg::V15)]);
    tpc_b(&mesh, &[&how("prepared"), &how("prepared")], 2400);
    tpc_b(&mesh, &[&how("simple"), &how("extended")], 4800);
}

#[test]
fn tpc_b_through_15_and_18_at_once() {
    let mesh = mesh(&[("a", Pg::V15), ("b", Pg::V18)]);
    tpc_b(&mesh, &[&how("prepared"), &how("simple")], 2400);
}

#[test]
fn c5_tpc_b_through_three_nodes_at_once() {
    let mesh = mesh(&[("a", Pg::V15), ("b", Pg::V15), ("c", Pg::V18)]);
    tpc_b(&mesh, &[&how("prepared"), &how("simple"), &how("extended")], 3600);
}
