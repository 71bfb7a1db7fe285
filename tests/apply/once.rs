//! Exactly once: whatever ends the connection, and whoever else wants to apply.

use std::time::Duration;

use pgcanon::apply::{Applier, ApplyError, CONFLICT, Mode};
use pgcanon::journal::Entry;
use pgcanon::journal::entry::{Extra, Lane, Op};

use crate::common::Pg;
use crate::common::cluster::Cluster;
use crate::common::node::PUBLIC;
use crate::common::rng::Rng;
use crate::made::{apply, int, place, rows, text};
use crate::site::{Peer, Site, forward, run};

const TABLES: &str = "create table t (id int primary key, n int not null default 0);
    create table log (line int, made text);
    insert into t select i, 0 from generate_series(1, 50) i";

fn add(id: i32) -> Entry {
    text(Lane::Statement, Op::Update, "t", &format!("update <t> set n = n + 1 where id = {id}"), Some(1))
}

/// An applier, as soon as the one before is gone.
async fn again(peer: &Peer) -> Applier {
    loop {
        match peer.try_applier(PUBLIC).await {
            Err(ApplyError::Taken(_)) => tokio::time::sleep(Duration::from_millis(2)).await,
            other => return other.expect("an applier"),
        }
    }
}

#[test]
fn only_one_applies_what_comes_from_an_origin() {
    let peer = Peer::shared(Pg::V15, TABLES, PUBLIC);
    run(async {
        let mut first = peer.applier(PUBLIC).await;
        assert!(matches!(peer.try_applier(PUBLIC).await, Err(ApplyError::Taken(origin)) if origin.as_str() == "a"));
        apply(&mut first, Mode::default(), place(3, 1), &[add(1)]).await.expect("all is well");
        drop(first);
        let mut second = again(&peer).await;
        assert_eq!(second.progress(), Some(place(3, 1)));
        // Somebody who holds no lock has moved on: nothing may be applied on top of it.
        peer.session().ok("update pgcanon.progress set ord = 2");
        let failed = apply(&mut second, Mode::default(), place(3, 2), &[add(1)]).await.expect_err("a stale progress");
        assert!(matches!(&failed, ApplyError::Rejected(r) if r.sqlstate == CONFLICT), "{failed}");
        assert_eq!(peer.sql("select n from t where id = 1"), "1");
    });
}

#[test]
fn a_kill_at_any_point_loses_and_repeats_nothing() {
    let site = Site::new(Pg::V15, TABLES, PUBLIC);
    let mut s = site.node.client();
    for n in 0..300 {
        let id = 1 + n % 50;
        match n % 5 {
            0 => s.ok(&format!("insert into log select i, now()::text from generate_series(1, {}) i", n % 40 + 1)),
            1 => s.ok(&format!(
                "begin; update t set n = n + 1 where id = {id}; insert into log values ({n}, 'x'); commit"
            )),
            2 => s.ok(&format!("update t set n = n + (random() * 9)::int where id % 7 = {}", n % 7)),
            _ => s.ok(&format!("update t set n = n + {n} where id = {id}")),
        };
    }
    site.ticked();
    let mut rng = Rng::new(20_240_229);
    let (mut kills, mut ended) = (0_u64, false);
    let mut killer = site.peer.session();
    while !ended {
        run(async {
            let mut reader = site.reader().await;
            let mut applier = again(&site.peer).await;
            let group = 1 + usize::try_from(rng.below(20)).expect("small");
            // Longer and longer: however slow the machine is, it comes to its end.
            let pause = Duration::from_micros(rng.below(20_000 + 3_000 * kills));
            let own = rng.below(3) == 0;
            tokio::select! {
                done = forward(&mut reader, &mut applier, group, Mode::default()) => match done {
                    Ok(_) => ended = true,
                    Err(e) => panic!("nobody has killed it: {e}"),
                },
                () = tokio::time::sleep(pause) => {
                    kills += 1;
                    // Either end goes.
                    if !own {
                        killer.ok("select pg_terminate_backend(pid) from pg_stat_activity \
                            where application_name = 'pgcanon:a' and datname = current_database()");
                        let lost = applier.rollback().await;
                        assert!(matches!(lost, Ok(_) | Err(ApplyError::Lost { .. })), "{lost:?}");
                    }
                }
            }
        });
        assert!(kills < 500, "it never comes to an end");
    }
    assert!(kills >= 3, "only {kills} kills");
    site.assert_equal();
    println!("{kills} kills");
}

#[test]
fn a_crash_of_the_peer_takes_progress_and_data_together() {
    use std::sync::Arc;
    let cluster = Arc::new(Cluster::start(Pg::V15, "fsync = on\nwal_writer_delay = 10s\n", ""));
    let peer = Peer::new(Arc::clone(&cluster), TABLES, PUBLIC);
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        let mut safe = None;
        for n in 1..=400 {
            apply(&mut applier, Mode::default(), place(1, n), &[add(1)]).await.expect("all is well");
            if n % 7 == 0 {
                safe = applier.flushed().await.expect("ask what is durable").or(safe);
            }
            if n == 200 {
                cluster.psql("checkpoint");
                safe = applier.flushed().await.expect("ask what is durable");
                assert!(safe.is_some_and(|p| p.ord >= 196), "{safe:?}");
            }
        }
        cluster.kill9();
        assert!(matches!(applier.flushed().await, Err(ApplyError::Lost { .. })));
        cluster.restart();
        let applier = peer.applier(PUBLIC).await;
        let there = applier.progress().expect("some progress");
        assert_eq!(peer.sql("select n from t where id = 1"), there.ord.to_string());
        let safe = safe.expect("something was durable");
        assert!(safe.ord <= there.ord, "{safe:?} was said to be durable, and {there:?} is there");
    });
}

#[test]
fn what_is_durable_is_said_in_the_end() {
    let peer = Peer::shared(Pg::V15, TABLES, PUBLIC);
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        assert_eq!(applier.flushed().await.expect("ask"), None);
        apply(&mut applier, Mode::default(), place(1, 1), &[add(1)]).await.expect("all is well");
        let start = std::time::Instant::now();
        while applier.flushed().await.expect("ask") != Some(place(1, 1)) {
            assert!(start.elapsed() < crate::common::PATIENCE, "the peer never flushes its log");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

/// The memory that this process has held at most, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("read the status");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_large_transaction_is_applied_in_little_memory() {
    let peer = Peer::shared(Pg::V15, TABLES, PUBLIC);
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        applier.begin(Mode::default()).expect("begin");
        applier.source(place(1, 1)).expect("a source transaction");
        let text = vec![b'x'; 4 << 10];
        let images: Vec<_> = (0..128).map(|n| vec![int(n), Some(text.clone())]).collect();
        let entry = rows(Op::Insert, Extra::None, "log", "line:integer made:text", &images);
        let to = applier.destination(&entry.head).expect("a destination");
        applier.entry(&to, &entry).await.expect("apply");
        let before = peak();
        for _ in 0..200 {
            applier.entry(&to, &entry).await.expect("apply");
        }
        // 100 MiB went by.
        let grown = peak() - before;
        assert!(grown < 32 << 10, "it took {grown} KiB");
        applier.commit().await.expect("commit");
        applier.settle().await.expect("commit");
    });
    assert_eq!(peer.sql("select count(*) from log"), (201 * 128).to_string());
}
