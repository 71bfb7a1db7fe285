//! Trimming: what everybody has passed goes, what anybody needs stays, and nobody waits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgcanon::journal::trim::{rotate, trim};
use pgcanon::journal::{Passed, ReadError, TickId, Trim, TrimOptions};

use crate::common::{Cluster, Pg};
use crate::store::{Store, run, tick, until};

/// Nothing is kept, and every look moves on.
const EAGER: TrimOptions = TrimOptions { retain: Duration::ZERO, slot_bytes: 0, slot_age: Duration::ZERO };

async fn rows(client: &tokio_postgres::Client) -> i64 {
    client.query_one("select count(*) from pgcanon.journal", &[]).await.expect("count").get(0)
}

#[test]
fn a_child_goes_when_its_last_row_was_passed_and_not_before() {
    for pg in [Pg::V15, Pg::V18] {
        run(async {
            let store = Store::new(Cluster::start(pg, "", ""));
            let (writer, owner) = (store.writer().await, store.connect("owner").await);
            // A ticker that keeps its hands off the children.
            let _ticker = store.ticker();
            writer.append(0, b"one").await;
            store.ticked().await;
            let mut reader = store.reader().await;
            let (_, first) = reader.range().await.expect("range").expect("ticks");
            assert_eq!(rotate(&owner, &EAGER).await.expect("rotate"), 1);
            // Somebody still writes the old child, more than is read at once.
            writer.append(0, &vec![b'2'; 5 << 20]).await;
            store.ticked().await;
            let (_, second) = reader.range().await.expect("range").expect("ticks");

            let needed = trim(&owner, Passed::UpTo(first), Duration::ZERO).await.expect("trim");
            assert_eq!(needed, [(0, Trim::Needed)], "the second row was not passed");
            let young = trim(&owner, Passed::All, Duration::from_secs(3600)).await.expect("trim");
            assert_eq!(young, [(0, Trim::Needed)], "it is not old enough");
            assert_eq!(trim(&owner, Passed::UpTo(TickId(0)), Duration::ZERO).await.expect("trim"), [(0, Trim::Needed)]);

            reader.open(second, 0).await.expect("open the tick");
            let busy = trim(&owner, Passed::All, Duration::ZERO).await.expect("trim");
            assert_eq!(busy, [(0, Trim::Busy)], "somebody reads it");
            reader.close().await.expect("close");
            assert_eq!(trim(&owner, Passed::UpTo(second), Duration::ZERO).await.expect("trim"), [(0, Trim::Emptied)]);
            assert_eq!(rows(&owner).await, 0);
            assert!(matches!(reader.open(second, 0).await, Err(ReadError::Trimmed(_))), "gone, not empty");

            writer.append(1, b"three").await;
            store.ticked().await;
            let (_, third) = reader.range().await.expect("range").expect("ticks");
            assert_eq!(tick(&mut reader, third).await.len(), 1);
        });
    }
}

#[test]
fn whoever_wrote_and_has_not_committed_keeps_its_child() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V15, "max_prepared_transactions = 5", ""));
        let (slow, prepared, owner) = (store.writer().await, store.writer().await, store.connect("owner").await);
        let _ticker = store.ticker();
        slow.append(0, b"old").await;
        store.ticked().await;
        slow.batch("begin isolation level repeatable read").await;
        slow.append(0, b"slow").await;
        prepared.batch("begin").await;
        prepared.append(0, b"prepared").await;
        prepared.batch("prepare transaction 'p'").await;
        assert_eq!(rotate(&owner, &EAGER).await.expect("rotate"), 1);
        let passed = async || trim(&owner, Passed::All, Duration::ZERO).await.expect("trim");
        assert_eq!(passed().await, [(0, Trim::Busy)]);
        slow.batch("commit").await;
        assert_ne!(passed().await, [(0, Trim::Emptied)]);
        store.ticked().await;
        assert_eq!(passed().await, [(0, Trim::Busy)], "the prepared transaction's lock is there");
        prepared.batch("commit prepared 'p'").await;
        store.ticked().await;
        assert_eq!(passed().await, [(0, Trim::Emptied)]);
    });
}

#[test]
fn under_load_in_every_child_nothing_is_lost_and_what_was_passed_goes() {
    run(async {
        let store = Arc::new(Store::new(Cluster::start(Pg::V15, "", "")));
        let (owner, stop) = (store.connect("owner").await, Arc::new(AtomicBool::new(false)));
        // The ticker itself moves on and empties, as eagerly as it can, behind what the reader below has passed.
        let (passed, passed_rx) = tokio::sync::watch::channel(Passed::UpTo(TickId(0)));
        let ticker = store.ticker_passing(EAGER, passed_rx);
        let mut writers = Vec::new();
        for n in 0..6_i16 {
            let (store, stop, slot) = (Arc::clone(&store), Arc::clone(&stop), ticker.slot());
            writers.push(tokio::spawn(async move {
                let writer = store.writer().await;
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) || written < 50 {
                    // Some write where the journal was long ago, and some with a snapshot from before.
                    let level = if n % 2 == 0 { "repeatable read" } else { "read committed" };
                    writer.batch(&format!("begin isolation level {level}; select 1")).await;
                    if written % 7 == 0 {
                        tokio::time::sleep(Duration::from_millis(20)).await; // a slow client
                    }
                    let slot = if written % 37 == 0 { (n + written) % 3 } else { *slot.borrow() };
                    writer.append(slot, format!("{n}.{written}").as_bytes()).await;
                    writer.batch(if written % 11 == 10 { "rollback" } else { "commit" }).await;
                    written += 1;
                }
                (n, written)
            }));
        }
        let mut reader = store.reader().await;
        let (mut read, mut next, mut firsts) = (Vec::new(), TickId(1), BTreeSet::new());
        let mut joined = Vec::new();
        loop {
            let done = stop.load(Ordering::Relaxed);
            if done && !writers.is_empty() {
                for writer in std::mem::take(&mut writers) {
                    joined.push(writer.await.expect("a writer"));
                }
                store.ticked().await;
            }
            while let Some((first, last)) = reader.range().await.expect("range").filter(|(_, last)| *last >= next) {
                assert!(first <= next, "tick {next} is gone, though it was not passed");
                for id in next.0..=last.0 {
                    read.extend(tick(&mut reader, TickId(id)).await.iter().flat_map(|t| t.bodies()));
                }
                let _ = passed.send(Passed::UpTo(last));
                next = TickId(last.0 + 1);
                firsts.insert(first);
            }
            if done {
                break;
            }
            stop.store(firsts.len() > 3, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await; // the reader lags a little
        }
        let expected: usize = joined.iter().map(|(_, written)| (0..*written).filter(|w| w % 11 != 10).count()).sum();
        let mut distinct = read.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!((read.len(), distinct.len()), (expected, expected));
        drop(ticker);
        trim(&owner, Passed::All, Duration::ZERO).await.expect("trim");
        let sql = "select count(*) from pgcanon.journal where slot::text <> (select value from pgcanon.meta where key = 'slot')";
        let left: i64 = owner.query_one(sql, &[]).await.expect("count").get(0);
        assert_eq!(left, 0, "rows are left in children that are not written any more");
    });
}

#[test]
fn the_journal_moves_on_by_size_and_by_age_into_an_empty_child_only() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V15, "", ""));
        let (writer, owner) = (store.writer().await, store.connect("owner").await);
        let options = |slot_bytes, age| TrimOptions { slot_bytes, slot_age: Duration::from_secs(age), ..EAGER };
        assert_eq!(rotate(&owner, &EAGER).await.expect("rotate"), 0, "an empty child is good for longer");
        // Long values lie outside of the table proper.
        let random: Vec<u8> = (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        writer.append(0, &random).await;
        assert_eq!(rotate(&owner, &options(4 << 20, 3600)).await.expect("rotate"), 0);
        assert_eq!(rotate(&owner, &options(1 << 20, 3600)).await.expect("rotate"), 1);
        writer.append(1, b"x").await;
        assert_eq!(rotate(&owner, &options(1 << 20, 3600)).await.expect("rotate"), 1, "young and small");
        assert_eq!(rotate(&owner, &options(1 << 20, 0)).await.expect("rotate"), 2, "old enough");
        writer.append(2, b"x").await;
        assert_eq!(rotate(&owner, &EAGER).await.expect("rotate"), 2, "the next one holds rows");
        let ticker = store.ticker_with(EAGER, Passed::All);
        let mut slot = ticker.slot();
        until("the proxy to learn of it", async || (*slot.borrow_and_update() == 0).then_some(())).await;
    });
}
