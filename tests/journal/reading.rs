//! Reading ticks: whole transactions, nothing forged, by the index, in bounded memory.

use pgcanon::journal::{Forgery, Item, ReadError, TickId};

use crate::common::{Cluster, Pg};
use crate::store::{Store, head, rest, run, tick, until};

#[test]
fn rows_of_both_kinds_are_entries_in_the_order_of_their_writing() {
    for pg in [Pg::V15, Pg::V18] {
        run(async {
            let store = Store::new(Cluster::start(pg, "", ""));
            let (a, b) = (store.writer().await, store.writer().await);
            a.batch("create table t (id int primary key)").await;
            a.batch("begin").await;
            a.append(2, b"a1").await;
            b.append(0, b"b1").await;
            // The server makes the images, and the row with them.
            let sql = "WITH dml AS (INSERT INTO t VALUES (1), (2), (3) RETURNING record_send(ROW(tableoid, id)) AS image) \
                INSERT INTO pgcanon.journal (slot, meta, data) SELECT $1, $2, string_agg(image, '') FROM dml";
            let meta = a.appender.selfmade(&pgcanon::journal::codec::encode_head(&head()).expect("a head"));
            b.append(0, b"b2").await;
            a.client.execute(sql, &[&1_i16, &meta]).await.expect("a statement that journals itself");
            a.batch("commit").await;
            let _ticker = store.ticker();
            store.ticked().await;

            let all = store.all().await;
            let first: Vec<Vec<String>> = all.iter().take(2).map(|t| t.bodies()).collect();
            assert_eq!(first, [["b1"], ["b2"]], "the other began first and wrote last");
            assert_eq!(all.iter().map(|t| t.ord).collect::<Vec<_>>(), [1, 2, 3]);
            let [own, made] = &all[2].entries[..] else { panic!("{:?}", all[2]) };
            assert_eq!(own.body, &b"a1"[..]);
            assert_eq!(made.head, head());
            let ids: Vec<_> = made.images().map(|i| i.expect("an image").values[0].bytes.map(<[u8]>::to_vec)).collect();
            assert_eq!(ids, [Some(vec![0, 0, 0, 1]), Some(vec![0, 0, 0, 2]), Some(vec![0, 0, 0, 3])]);

            // From behind a transaction on, as after a crash of whoever read.
            let mut reader = store.reader().await;
            reader.open(TickId(1), 2).await.expect("open the tick");
            assert_eq!(rest(&mut reader, TickId(1)).await, all[2..]);
        });
    }
}

#[test]
fn what_an_application_writes_by_hand_counts_for_nothing() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V15, "", ""));
        let (writer, other) = (store.writer().await, store.writer().await);
        let meta = writer.appender.own(b"");
        let mut data = Vec::new();
        pgcanon::journal::encode_entry(&mut data, &head(), b"good").expect("encode");
        let good = writer.appender.own(&data);
        writer.insert(0, b"nonsense", b"data").await.expect("insert");
        writer.insert(0, &meta, b"other data").await.expect("insert");
        other.insert(0, &good, &data).await.expect("insert");
        writer.insert(0, &good, &data).await.expect("insert");
        writer.insert(0, &good, &data).await.expect("insert");
        for sql in [
            "select from pgcanon.journal",
            "insert into pgcanon.journal (slot, xid, meta, data) values (0, '5', '', '')",
            "insert into pgcanon.journal (slot, lsn, meta, data) values (0, '0/1', '', '')",
            "insert into pgcanon.journal (slot, pid, meta, data) values (0, 1, '', '')",
            "insert into pgcanon.journal (slot, meta, data) values (0, '', '') returning lsn",
        ] {
            let denied = writer.client.batch_execute(sql).await.expect_err(sql);
            assert_eq!(denied.code().map(|c| c.code()), Some("42501"), "{sql}");
        }
        let _ticker = store.ticker();
        store.ticked().await;
        let mut reader = store.reader().await;
        for _ in 0..2 {
            // Read again, it is the same: what was seen before is no repetition then.
            let (mut forged, mut entries, mut transactions) = (Vec::new(), Vec::new(), 0);
            reader.open(TickId(1), 0).await.expect("open the tick");
            while let Some(item) = reader.next().await.expect("read the tick") {
                match item {
                    Item::Forged { why, .. } => forged.push(why),
                    Item::Entry(entry) => entries.push(entry.body.to_vec()),
                    Item::TxBegin { .. } => transactions += 1,
                    Item::TxEnd => {}
                }
            }
            let expected = [Forgery::Malformed, Forgery::Signature, Forgery::Backend, Forgery::Repeated];
            assert_eq!((forged, entries, transactions), (expected.to_vec(), vec![b"good".to_vec()], 5));
        }
        assert_eq!(reader.forged(), 8);
    });
}

#[test]
fn a_tick_that_is_not_there_is_told_from_one_that_is_gone() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V15, "", ""));
        let writer = store.writer().await;
        let _ticker = store.ticker();
        for n in 1..=4 {
            writer.append(0, b"x").await;
            until("the tick", async || {
                let range = store.reader().await.range().await.expect("the range of ticks");
                range.filter(|(_, last)| last.0 == n)
            })
            .await;
        }
        let mut reader = store.reader().await;
        assert!(matches!(reader.open(TickId(5), 0).await, Err(ReadError::NoSuchTick(TickId(5)))));
        let owner = store.connect("owner").await;
        owner.batch_execute("delete from pgcanon.tick where id < 3").await.expect("forget ticks");
        for id in [1, 2, 3] {
            assert!(matches!(reader.open(TickId(id), 0).await, Err(ReadError::Trimmed(_))), "{id}");
        }
        assert_eq!(reader.range().await.expect("the range"), Some((TickId(4), TickId(4))));
        assert_eq!(tick(&mut reader, TickId(4)).await.len(), 1, "and the reader is as good as before");
    });
}

/// The memory that this process has held at most, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("read the status");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_large_transaction_beside_small_ones_is_read_in_little_memory() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V15, "", ""));
        let writer = store.writer().await;
        let big = vec![b'x'; 1 << 20];
        writer.batch("begin").await;
        for _ in 0..200 {
            writer.append(0, &big).await;
        }
        writer.batch("commit").await;
        // As many rows as need more than one fetch.
        let many = store.writer().await;
        many.batch("begin").await;
        for n in 0..4500 {
            many.append(n % 3, n.to_string().as_bytes()).await;
        }
        many.batch("commit").await;
        let _ticker = store.ticker();
        store.ticked().await;
        let mut reader = store.reader().await;
        reader.open(TickId(1), 0).await.expect("open the tick");
        let before = peak();
        let (mut bytes, mut small) = (0, Vec::new());
        while let Some(item) = reader.next().await.expect("read the tick") {
            match item {
                Item::Entry(entry) if entry.body.len() == big.len() => bytes += entry.body.len(),
                Item::Entry(entry) => small.push(entry.body.to_vec()),
                _ => {}
            }
        }
        assert_eq!(bytes, 200 << 20);
        assert_eq!(small, (0..4500).map(|n: i32| n.to_string().into_bytes()).collect::<Vec<_>>());
        let grown = peak() - before;
        assert!(grown < 48 << 10, "reading 200 MiB took {grown} KiB");
    });
}

#[test]
fn a_tick_is_found_by_the_index_however_long_the_journal_is() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V15, "autovacuum = off", ""));
        let owner = store.connect("owner").await;
        let sql = "insert into pgcanon.journal (slot, xid, meta, data) \
            select n % 3, (3 + n % 700)::text::xid8, repeat('m', 60)::bytea, repeat('d', 200)::bytea from generate_series(1, 400000) n";
        owner.batch_execute(sql).await.expect("a long journal");
        let sql = "insert into pgcanon.tick (id, system, timeline, snapshot) \
            select 1, 0, 1, pg_current_snapshot()";
        owner.batch_execute(sql).await.expect("a tick");
        store.writer().await.append(0, b"new").await;
        let _ticker = store.ticker();
        store.ticked().await;
        let mut reader = store.reader().await;
        let reads = async || -> i64 {
            until("statistics", async || owner.batch_execute("select pg_stat_clear_snapshot()").await.ok()).await;
            let sql = "select sum(seq_tup_read)::int8 from pg_stat_user_tables where relname like 'journal%'";
            owner.query_one(sql, &[]).await.expect("statistics").get(0)
        };
        let before = reads().await;
        let mut plans = Vec::new();
        for id in 2..=reader.range().await.expect("the range").expect("ticks").1.0 {
            plans.extend(tick(&mut reader, TickId(id)).await.iter().flat_map(|t| t.bodies()));
        }
        assert_eq!(plans, ["new"]);
        drop(reader);
        // What a session did is counted when it is idle or ends.
        until("the reader's session to end", async || {
            let sql = "select count(*) from pg_stat_activity where usename = 'owner'";
            let sessions: i64 = owner.query_one(sql, &[]).await.expect("count").get(0);
            (sessions == 2).then_some(())
        })
        .await;
        assert_eq!(reads().await, before, "rows were read one by one");
    });
}
