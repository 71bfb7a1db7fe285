//! How fast: TPC-B's journal on one connection. Not part of the tests: `cargo test --test apply speed -- --ignored --nocapture`.

use std::time::Instant;

use pgcanon::apply::Mode;
use pgcanon::journal::{Entry, Item, Progress, TickId};

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
        let journal = read(&site);
        for group in [1, 4, 16, 64] {
            run(async {
                site.peer.session().ok("delete from pgcanon.progress");
                site.peer.session().ok("vacuum pgbench_branches, pgbench_tellers, pgbench_accounts");
                let mut applier = site.applier().await;
                let (own, theirs, start) = (own_cpu(), backend_cpu(&site), Instant::now());
                for transactions in journal.chunks(group) {
                    applier.begin(Mode::default()).expect("begin");
                    for (at, entries) in transactions {
                        applier.source(*at).expect("a source transaction");
                        for entry in entries {
                            let to = applier.destination(&entry.head).expect("a destination");
                            applier.entry(&to, entry).await.expect("apply");
                        }
                    }
                    applier.commit().await.expect("commit");
                }
                applier.settle().await.expect("commit");
                let (all, took) = (journal.len() as f64, start.elapsed().as_secs_f64());
                let (own, theirs) = (own_cpu() - own, backend_cpu(&site) - theirs);
                println!(
                    "{how}, by {group}: {:.0} transactions/s; CPU of each: here {:.0} us, in the backend {:.0} us",
                    all / took,
                    own / all * 1e6,
                    theirs / all * 1e6
                );
            });
        }
        run(async {
            site.peer.session().ok("delete from pgcanon.progress");
            let (mut applier, mut reader) = (site.applier().await, site.reader().await);
            let start = Instant::now();
            let all = forward(&mut reader, &mut applier, 16, Mode::default()).await.expect("apply");
            println!("{how}, by 16, out of the journal: {:.0}/s", all as f64 / start.elapsed().as_secs_f64());
        });
    }
}

/// Seconds of CPU that a process has used.
fn cpu(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat of a process");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |n: usize| fields[n].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

fn own_cpu() -> f64 {
    cpu("self")
}

fn backend_cpu(site: &Site) -> f64 {
    let sql = "select pid from pg_stat_activity where application_name = 'pgcanon:a' and datname = current_database()";
    cpu(&site.peer.sql(sql))
}

fn read(site: &Site) -> Vec<(Progress, Vec<Entry>)> {
    run(async {
        let mut reader = site.reader().await;
        let (start, mut all, mut lanes) = (Instant::now(), Vec::new(), std::collections::BTreeMap::new());
        let (first, last) = reader.range().await.expect("a range").expect("ticks");
        for id in first.0..=last.0 {
            let tick = reader.open(TickId(id), 0).await.expect("open");
            while let Some(item) = reader.next().await.expect("read") {
                match item {
                    Item::TxBegin { ord, .. } => {
                        let at =
                            Progress { system: tick.system, timeline: tick.timeline, tick: TickId(id), ord, part: 0 };
                        all.push((at, Vec::new()));
                    }
                    Item::Entry(entry) => {
                        *lanes.entry(format!("{:?} {:?}", entry.head.lane, entry.head.op)).or_insert(0) += 1;
                        all.last_mut().expect("a transaction").1.push(*entry);
                    }
                    _ => {}
                }
            }
        }
        let took = start.elapsed().as_secs_f64();
        println!(
            "{} transactions in {} ticks, {lanes:?}, read alone at {:.0}/s",
            all.len(),
            last.0,
            all.len() as f64 / took
        );
        all
    })
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
