//! Making ticks: one leads, what committed is in a tick soon, and idling costs next to nothing.

use std::time::{Duration, Instant};

use pgcanon::journal::{Reader, State, TickId, Ticker};

use crate::common::cluster::Stop;
use crate::common::{Cluster, PATIENCE, Pg};
use crate::store::{Store, run, tick, until};

/// Waits for what a ticker says of itself.
async fn says(ticker: &Ticker, what: impl FnMut(&State) -> bool) {
    let mut state = ticker.state();
    let said = tokio::time::timeout(PATIENCE, state.wait_for(what)).await;
    said.expect("the ticker says so in time").expect("the ticker runs");
}

/// The first tick from `id` on that has transactions, and the bodies in it.
async fn found(reader: &mut Reader, id: i64) -> (TickId, Vec<String>) {
    until("a tick", async || {
        let (_, last) = reader.range().await.expect("the range of ticks")?;
        for id in id..=last.0 {
            let bodies: Vec<String> = tick(reader, TickId(id)).await.iter().flat_map(|t| t.bodies()).collect();
            if !bodies.is_empty() {
                return Some((TickId(id), bodies));
            }
        }
        None
    })
    .await
}

#[test]
fn what_commits_is_in_a_tick_with_what_the_node_had_seen() {
    for pg in [Pg::V15, Pg::V18] {
        run(async {
            let store = Store::new(Cluster::start(pg, "", ""));
            let writer = store.writer().await;
            // Before there was any ticker: the first tick covers everything.
            writer.append(0, b"early").await;
            writer.append(1, b"early too").await;
            let ticker = store.ticker();
            let mut reader = store.reader().await;
            let (id, bodies) = found(&mut reader, 1).await;
            assert_eq!((id, bodies), (TickId(1), vec!["early".to_owned(), "early too".to_owned()]));

            let owner = store.connect("owner").await;
            owner.batch_execute("insert into pgcanon.progress values ('b', 77, 3, 12, 4)").await.expect("progress");
            // Nobody wakes the ticker: it looks by itself.
            writer.append(0, b"late").await;
            let (id, bodies) = found(&mut reader, 2).await;
            assert_eq!(bodies, ["late"]);
            let read = reader.open(id, 0).await.expect("the tick");
            let sql = "select system_identifier, timeline_id from pg_control_system(), pg_control_checkpoint()";
            let node = owner.query_one(sql, &[]).await.expect("ask who it is");
            assert_eq!((read.system, read.timeline), (node.get(0), node.get(1)));
            let seen = read.deps.get("b").expect("what the node had seen of b");
            assert_eq!((seen.system, seen.timeline, seen.tick, seen.ord), (77, 3, TickId(12), 4));
            assert_eq!(ticker.state().borrow().latest, Some(id));
        });
    }
}

#[test]
fn what_is_in_progress_waits_for_the_tick_after_its_end() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V15, "max_prepared_transactions = 5", ""));
        let (long, short, prepared) = (store.writer().await, store.writer().await, store.writer().await);
        let ticker = store.ticker();
        let mut reader = store.reader().await;
        long.batch("begin").await;
        long.append(0, b"long 1").await;
        prepared.batch("begin").await;
        prepared.append(0, b"prepared").await;
        prepared.batch("prepare transaction 'p'").await;
        let mut at = 1;
        for n in 0..5 {
            short.append(0, format!("short {n}").as_bytes()).await;
            ticker.waker().wake();
            let (id, bodies) = found(&mut reader, at).await;
            assert_eq!(bodies, [format!("short {n}")]);
            at = id.0 + 1;
        }
        long.append(0, b"long 2").await;
        long.batch("commit").await;
        let (id, bodies) = found(&mut reader, at).await;
        assert_eq!(bodies, ["long 1", "long 2"]);
        short.batch("commit prepared 'p'").await;
        assert_eq!(found(&mut reader, id.0 + 1).await.1, ["prepared"]);
        // Nothing came twice.
        let all: Vec<String> = store.all().await.iter().flat_map(|t| t.bodies()).collect();
        assert_eq!(all.len(), 8, "{all:?}");
    });
}

#[test]
fn of_two_tickers_one_leads_and_the_other_takes_over() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V15, "", ""));
        let writer = store.writer().await;
        let first = store.ticker();
        says(&first, |s| s.leading).await;
        let second = store.ticker();
        let mut reader = store.reader().await;
        // Woken at the one that does not lead, which says so to the other.
        writer.append(0, b"one").await;
        second.waker().wake();
        let (id, _) = found(&mut reader, 1).await;
        says(&second, |s| s.latest >= Some(id) && !s.leading).await;

        drop(first);
        says(&second, |s| s.leading).await;
        writer.append(0, b"two").await;
        let (id, bodies) = found(&mut reader, id.0 + 1).await;
        assert_eq!(bodies, ["two"]);

        // A leader whose backend is killed gives way, or leads again; either way ticks go on without a gap.
        let third = store.ticker();
        let sql = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted";
        let killed = store.connect("postgres").await.query(sql, &[]).await.expect("kill the leader");
        assert_eq!(killed.len(), 1, "one leads");
        writer.append(0, b"three").await;
        assert_eq!(found(&mut reader, id.0 + 1).await.1, ["three"]);
        // The one that lost its backend knows when it next looks; the lock has only ever had one owner.
        let leading = || [&second, &third].iter().filter(|t| t.state().borrow().leading).count();
        until("one leads", async || (leading() == 1).then_some(())).await;
    });
}

#[test]
fn ticks_go_on_after_a_crash_of_the_server() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V15, "fsync = on", ""));
        let _ticker = store.ticker();
        let mut last = None;
        for round in 0..3 {
            let writer = store.writer().await;
            for n in 0..20 {
                writer.append(0, format!("{round}.{n}").as_bytes()).await;
            }
            let reader = store.reader().await;
            let range = until("a tick", async || {
                let (_, tick) = reader.range().await.expect("the range of ticks")?;
                (Some(tick) > last).then_some(tick)
            });
            last = Some(range.await);
            let cluster = std::sync::Arc::clone(&store.cluster);
            let crash = move || {
                cluster.stop(Stop::Immediate);
                cluster.restart();
            };
            tokio::task::spawn_blocking(crash).await.expect("crash the server");
            // What was read in a tick is there after the crash.
            let reader = store.reader().await;
            let (_, now) = reader.range().await.expect("the range of ticks").expect("ticks");
            assert!(Some(now) >= last, "{now:?} after {last:?}");
        }
        store.ticked().await;
        let all: Vec<String> = store.all().await.iter().flat_map(|t| t.bodies()).collect();
        let expected: Vec<String> = (0..3).flat_map(|r| (0..20).map(move |n| format!("{r}.{n}"))).collect();
        assert_eq!(all, expected);
    });
}

#[test]
fn a_database_from_a_dump_of_another_cluster_is_not_ticked() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V15, "", ""));
        let owner = store.connect("owner").await;
        let sql = "insert into pgcanon.tick (id, system, timeline, snapshot) values (7, 1, 1, '900000000:900000000:')";
        owner.batch_execute(sql).await.expect("a tick from elsewhere");
        let ticker = store.ticker();
        let writer = store.writer().await;
        writer.append(0, b"new").await;
        ticker.waker().wake();
        tokio::time::sleep(Duration::from_millis(300)).await; // a tick would have come: nothing else ends this wait
        assert!(!ticker.state().borrow().leading);
        let ticks: i64 = owner.query_one("select count(*) from pgcanon.tick", &[]).await.expect("count").get(0);
        assert_eq!(ticks, 1);
    });
}

#[test]
fn idling_costs_next_to_nothing_and_waking_is_quick() {
    run(async {
        let conf = "log_statement = all";
        let store = Store::new(Cluster::start(Pg::V15, conf, ""));
        let writer = store.writer().await;
        let ticker = store.ticker();
        says(&ticker, |s| s.leading).await;
        writer.append(0, b"first").await;
        store.ticked().await;
        let statements =
            || store.cluster.log().matches("execute").count() + store.cluster.log().matches("statement:").count();
        let before = statements();
        tokio::time::sleep(Duration::from_secs(2)).await; // the span that is measured
        let queries = statements() - before;
        assert!(queries <= 2 * (20 + 5), "{queries} queries in two seconds");

        let latest = |ticker: &Ticker| ticker.state().borrow().latest.map_or(0, |t| t.0);
        let mut times = Vec::new();
        for n in 0..20 {
            let known = latest(&ticker);
            writer.append(0, format!("{n}").as_bytes()).await;
            let start = Instant::now();
            ticker.waker().wake();
            says(&ticker, |s| s.latest.map_or(0, |t| t.0) > known).await;
            times.push(start.elapsed());
        }
        times.sort();
        assert!(times[10] < Duration::from_millis(25), "{times:?}");
    });
}
