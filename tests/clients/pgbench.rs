//! pgbench: its own tables, every protocol, pipelines, a connection per transaction; the books must balance.

use crate::common::{Pg, proc, temp_dir};
use crate::{SUITE, Site};

/// Everything that was deposited is in the branches, the tellers, the accounts and the history.
fn assert_balanced(site: &Site, transactions: u32) {
    let sql = "select (select count(*) from pgbench_history), (select sum(delta) from pgbench_history) \
               = all (array[(select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), \
               (select sum(bbalance) from pgbench_branches)])";
    assert_eq!(site.sql(sql), format!("{transactions}|t"));
}

fn init(site: &Site, how: &[&str]) {
    let mut pgbench = site.tool("pgbench");
    pgbench.args(["-i", "-q", "-s", "2"]).args(how);
    proc::run(&mut pgbench, SUITE);
    assert_eq!(site.sql("select count(*) from pgbench_accounts"), "200000");
}

fn run(site: &Site, args: &[&str]) {
    let mut pgbench = site.tool("pgbench");
    pgbench.arg("-n").args(args);
    let printed = proc::run(&mut pgbench, SUITE);
    assert!(printed.contains("number of failed transactions: 0"), "{printed}");
}

#[test]
fn balances_in_every_protocol() {
    for pg in [Pg::V15, Pg::V18] {
        let site = Site::new(pg, "pgbench_modes");
        init(&site, &[]); // COPY … WITH (FREEZE ON)
        for (round, mode) in (1..).zip(["simple", "extended", "prepared"]) {
            run(&site, &["-M", mode, "-c", "8", "-j", "2", "-t", "50"]);
            assert_balanced(&site, round * 400);
            run(&site, &["-M", mode, "-S", "-c", "4", "-t", "200"]);
        }
    }
}

#[test]
fn makes_its_tables_on_the_server() {
    let site = Site::new(Pg::V15, "pgbench_server");
    init(&site, &["-I", "dtGvpf"]);
}

#[test]
fn connects_for_every_transaction() {
    let site = Site::new(Pg::V15, "pgbench_connect");
    init(&site, &[]);
    run(&site, &["-C", "-c", "8", "-j", "2", "-t", "25"]);
    assert_balanced(&site, 200);
}

#[test]
fn runs_pipelines() {
    const SCRIPT: &str = r"
\set aid random(1, 100000 * :scale)
\set tid random(1, 10 * :scale)
\set bid random(1, 1 * :scale)
\set delta random(-5000, 5000)
\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, now());
COMMIT;
\endpipeline
";
    for pg in [Pg::V15, Pg::V18] {
        let site = Site::new(pg, "pgbench_pipeline");
        init(&site, &[]);
        let dir = temp_dir("pgbench");
        let script = dir.path().join("pipeline.sql");
        std::fs::write(&script, SCRIPT).expect("write the script");
        for (round, mode) in (1..).zip(["extended", "prepared"]) {
            run(&site, &["-M", mode, "-c", "8", "-j", "2", "-t", "50", "-s", "2", "-f", &script.display().to_string()]);
            assert_balanced(&site, round * 400);
        }
    }
}
