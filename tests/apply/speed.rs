//! How fast: TPC-B's journal on one connection. Not part of the tests: `cargo test --test apply speed -- --ignored --nocapture`.

use std::time::Instant;

use pgcanon::apply::Mode;

use crate::common::Pg;
use crate::common::cluster::PG15_BIN;
use crate::common::node::PUBLIC;
use crate::common::proc;
use crate::site::{Site, forward, run};

const TABLES: &str = "create table pgbench_branches (bid int primary key, bbalance int, filler char(88));
    create table pgbench_tellers (tid int primary key, bid int, tbalance int, filler char(84));
    create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84));
    create table pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
    insert into pgbench_branches select i, 0 from generate_series(1, 10) i;
    insert into pgbench_tellers select i, (i - 1) / 10 + 1, 0 from generate_series(1, 100) i;
    insert into pgbench_accounts select i, 1, 0, '' from generate_series(1, 1000000) i";

#[test]
#[ignore = "a measurement"]
fn tpcb() {
    for how in ["simple", "prepared"] {
        let site = Site::new(Pg::V15, TABLES, PUBLIC);
        site.peer.session().ok("vacuum analyze");
        let mut pgbench = std::process::Command::new(format!("{PG15_BIN}/pgbench"));
        pgbench.args(["-n", "-h", "127.0.0.1", "-p", &site.node.proxy.tcp().port().to_string(), "-U", "postgres"]);
        pgbench.args(["-M", how, "-c", "4", "-t", "5000", &site.node.database]);
        proc::run(&mut pgbench, crate::common::PATIENCE * 20);
        site.ticked();
        reader_alone(&site);
        for group in [1, 4, 16, 64, 256] {
            run(async {
                site.peer.session().ok("delete from pgcanon.progress");
                let mut applier = site.applier().await;
                let mut reader = site.reader().await;
                let start = Instant::now();
                let all = forward(&mut reader, &mut applier, group, Mode::default()).await.expect("apply");
                let took = start.elapsed().as_secs_f64();
                println!("{how}: {all} transactions by {group}: {:.0}/s", all as f64 / took);
            });
        }
    }
}

fn reader_alone(site: &Site) {
    run(async {
        let mut reader = site.reader().await;
        let start = Instant::now();
        let (mut entries, mut lanes) = (0, std::collections::BTreeMap::new());
        let (first, last) = reader.range().await.expect("a range").expect("ticks");
        for id in first.0..=last.0 {
            reader.open(pgcanon::journal::TickId(id), 0).await.expect("open");
            while let Some(item) = reader.next().await.expect("read") {
                if let pgcanon::journal::Item::Entry(entry) = item {
                    entries += 1;
                    *lanes.entry(format!("{:?} {:?}", entry.head.lane, entry.head.op)).or_insert(0) += 1;
                }
            }
        }
        let took = start.elapsed().as_secs_f64();
        println!("{entries} entries in {} ticks {lanes:?}, read alone at {:.0}/s", last.0, f64::from(entries) / took);
    });
}

#[test]
#[ignore = "a measurement"]
fn bulk() {
    let tables = "create table t (id int primary key, v text, n int)";
    let site = Site::new(Pg::V15, tables, PUBLIC);
    let mut s = site.node.client();
    s.ok("insert into t select i, 'v' || random(), i from generate_series(1, 300000) i");
    s.ok("update t set n = (random() * 100)::int");
    s.ok("delete from t where random() < 0.5");
    run(async {
        for mode in [Mode::default(), Mode { row_by_row: true, ..Mode::default() }] {
            site.peer.session().ok("delete from pgcanon.progress; truncate t");
            let mut applier = site.applier().await;
            site.ticked();
            let mut reader = site.reader().await;
            let start = Instant::now();
            forward(&mut reader, &mut applier, 1, mode).await.expect("apply");
            println!("750000 rows, {mode:?}: {:.0}/s", 750_000.0 / start.elapsed().as_secs_f64());
        }
    });
    site.assert_equal();
}
