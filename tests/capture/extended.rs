//! The extended protocol: parameters, Describe, formats, row limits, pipelines.

use crate::common::msg::{bind, bind_formats, close, describe, execute, flush, parse, sync};
use crate::{TABLES, on_both};

#[test]
fn parameters_travel_as_they_were_bound() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.bound(
            "update acc set balance = balance + $1, note = $2 where id = $3",
            &[Some("7"), Some("bound"), Some("1")],
        );
        c.bound("update acc set note = $1 where id = $2", &[None, Some("2")]);
        c.bound("insert into acc (id, owner) values ($1, $2)", &[Some("20"), Some("it's")]);
        c.bound("insert into ev (at, what) values ($1, $2)", &[Some("now"), Some("text time")]);
        c.bound("delete from acc where id = $1", &[Some("3")]);
        // binary, with told types
        let (id, by) = (4i32.to_be_bytes(), 40i32.to_be_bytes());
        let answer = c.send(&[
            parse("", "update acc set balance = balance + $2 where id = $1", &[23, 23]),
            bind_formats("", "", &[1], &[Some(&id), Some(&by)], &[]),
            execute("", 0),
            sync(),
        ]);
        assert_eq!((answer.failure(), answer.tags()), (None, vec!["UPDATE 1".to_owned()]));
        let at = 700_000_000_000_000i64.to_be_bytes();
        let answer = c.send(&[
            parse("", "insert into ev (at, what) values ($1, 'binary time')", &[1184]),
            bind_formats("", "", &[1], &[Some(&at)], &[]),
            execute("", 0),
            sync(),
        ]);
        assert_eq!(answer.failure(), None);
        node.assert_replays();
    });
}

#[test]
fn describe_shows_the_clients_own_statement() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let update = "update acc set note = now()::text where id = $1";
        let answer = c.send(&[parse("w", update, &[]), describe(b'S', "w"), sync()]);
        assert_eq!(answer.shape(), "1tnZ");
        assert_eq!(answer.frames[1].body, [&1u16.to_be_bytes()[..], &23u32.to_be_bytes()].concat());
        let answer = c.send(&[bind("p", "w", &[Some(b"1")]), describe(b'P', "p"), execute("p", 0), sync()]);
        assert_eq!(answer.shape(), "2nCZ");
        let shown = format!("{update} returning id, note");
        let answer = c.send(&[parse("r", &shown, &[]), describe(b'S', "r"), sync()]);
        assert_eq!(answer.shape(), "1tTZ");
        assert_eq!(answer.frames[2].body[..2], [0, 2]);
        let answer = c.send(&[bind("q", "r", &[Some(b"2")]), describe(b'P', "q"), execute("q", 0), sync()]);
        assert_eq!(answer.shape(), "2TDCZ");
        assert_eq!(answer.rows()[0].len(), 2);
        assert_eq!(node.lanes(), ["row update", "row update"]);
        node.assert_replays();
    });
}

#[test]
fn result_formats_of_every_count() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let sql = "insert into ev (what) values ($1) returning id, what";
        for (formats, width) in [(&[][..], 1), (&[1], 8), (&[1, 0], 8), (&[0, 1], 1)] {
            let answer = c.send(&[
                parse("", sql, &[]),
                bind_formats("", "", &[], &[Some(b"x")], formats),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ]);
            assert_eq!(answer.shape(), "12TDCZ");
            let row = &answer.frames[3].body;
            assert_eq!(row[..6], [0, 2, 0, 0, 0, width], "{formats:?}");
        }
        // three formats for two columns: the server's own error
        let answer = c.send(&[
            parse("", sql, &[]),
            bind_formats("", "", &[], &[Some(b"x")], &[0, 0, 0]),
            execute("", 0),
            sync(),
        ]);
        let failure = answer.failure().expect("a protocol violation");
        assert_eq!(failure.state, "08P01");
        assert!(failure.message.contains("has 3 result formats but query has 2 columns"), "{failure:?}");
        assert_eq!(node.assert_replays().len(), 4);
    });
}

#[test]
fn row_limits() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        // pgjdbc sends a limit of 1 for every executeUpdate
        let many = "update acc set note = random()::text where id <= $1";
        let answer =
            c.send(&[parse("", many, &[]), bind("", "", &[Some(b"5")]), describe(b'P', ""), execute("", 1), sync()]);
        assert_eq!((answer.shape().as_str(), answer.tags()), ("12nCZ", vec!["UPDATE 5".to_owned()]));
        let one = "update acc set balance = 9 where id = 1";
        let answer = c.send(&[parse("", one, &[]), bind("", "", &[]), execute("", 1), sync()]);
        assert_eq!(answer.tags(), ["UPDATE 1"]);
        let rows = "update acc set note = random()::text where id <= 5 returning id";
        c.ok("begin");
        let answer = c.send(&[
            parse("", rows, &[]),
            bind("p", "", &[]),
            execute("p", 2),
            execute("p", 2),
            execute("p", 0),
            sync(),
        ]);
        assert_eq!(answer.shape(), "12DDsDDsDCZ");
        assert_eq!(answer.tags(), ["UPDATE 1"]); // what the last Execute brought, as the server counts
        c.ok("commit");
        // suspended and left: the statement was complete all the same
        c.ok("begin");
        let answer = c.send(&[parse("", rows, &[]), bind("p", "", &[]), execute("p", 2), sync()]);
        assert_eq!(answer.shape(), "12DDsZ");
        c.ok("commit");
        node.assert_replays();
    });
}

#[test]
fn a_limit_outside_a_block() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let rows = "update acc set note = random()::text where id <= 5 returning id";
        let answer = c.send(&[parse("", rows, &[]), bind("", "", &[]), execute("", 2), sync()]);
        assert_eq!(answer.shape(), "12DDsZ");
        assert_eq!(c.ok("select count(*) from acc where note is not null").value(), "5");
        node.assert_replays();
    });
}

#[test]
fn pipelines_up_to_sync_are_one_transaction() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let write = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
        let answer = c.send(&[
            write("update acc set balance = 1 where id = 1"),
            write("insert into ev (what) values ('a')"),
            write("select count(*) from ev"),
            write("update acc set note = now()::text where id < 4"),
            sync(),
        ]);
        assert_eq!(answer.tags(), ["UPDATE 1", "INSERT 0 1", "SELECT 1", "UPDATE 3"]);
        let entries = node.assert_replays();
        assert_eq!(entries.len(), 3);
        assert!(entries.iter().all(|entry| entry.xid == entries[0].xid), "one transaction: {entries:#?}");
        // an error undoes all of it, and the rest up to Sync is skipped
        let answer = c.send(&[
            write("update acc set balance = 2 where id = 1"),
            write("select 1/0"),
            write("update acc set balance = 3 where id = 1"),
            sync(),
        ]);
        assert_eq!(answer.failure().expect("division by zero").state, "22012");
        assert_eq!(answer.tags(), ["UPDATE 1"]);
        // several Syncs in one flight are several transactions
        let one = |n: i32| [write(&format!("update acc set balance = {n} where id = {n}")), sync()].concat();
        c.client.send(&(1..=9).flat_map(one).collect::<Vec<u8>>());
        for _ in 1..=9 {
            let frames = c.client.until_ready();
            assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
        }
        assert_eq!(node.assert_replays().len(), 12);
    });
}

#[test]
fn blocks_in_pipelines() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let write = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
        for end in ["commit", "rollback"] {
            let answer = c.send(&[
                write("begin"),
                write("update acc set balance = balance + 1 where id = 1"),
                write("insert into ev (what) values ('in a block')"),
                write(end),
                sync(),
            ]);
            assert_eq!(answer.tags(), ["BEGIN", "UPDATE 1", "INSERT 0 1", &end.to_uppercase()]);
        }
        // the block stays open over Sync, and is committed by a pipeline of its own
        c.send(&[write("begin"), write("update acc set balance = 5 where id = 5"), sync()]);
        let answer = c.send(&[write("update acc set note = now()::text where id = 6"), write("commit"), sync()]);
        assert_eq!((answer.tags(), answer.status()), (vec!["UPDATE 1".to_owned(), "COMMIT".to_owned()], 'I'));
        // COMMIT and what follows it in one flight
        let answer = c.send(&[
            write("begin"),
            write("update acc set balance = 7 where id = 7"),
            write("commit"),
            write("update acc set balance = 8 where id = 8"),
            sync(),
        ]);
        assert_eq!(answer.failure(), None);
        assert_eq!(node.assert_replays().len(), 6);
    });
}

#[test]
fn messages_in_separate_flights() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        for sql in ["update acc set note = now()::text where id = $1", "update acc set balance = 3 where id = $1"] {
            c.client.send(&[parse("s", sql, &[]), flush()].concat());
            c.client.until(b'1');
            c.client.send(&[describe(b'S', "s"), flush()].concat());
            c.client.until(b'n');
            c.client.send(&[bind("p", "s", &[Some(b"3")]), flush()].concat());
            c.client.until(b'2');
            c.client.send(&[describe(b'P', "p"), flush()].concat());
            c.client.until(b'n');
            c.client.send(&[execute("p", 0), flush()].concat());
            let frames = c.client.until(b'C');
            assert_eq!(frames.last().expect("a tag").command(), "UPDATE 1");
            c.client.send(&[close(b'P', "p"), close(b'S', "s"), flush()].concat());
            c.client.until(b'3');
            c.client.until(b'3');
            c.client.send(&sync());
            c.client.until_ready();
        }
        node.assert_replays();
    });
}

#[test]
fn an_empty_query_and_errors_at_every_step() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        assert_eq!(c.send(&[parse("", "", &[]), bind("", "", &[]), execute("", 0), sync()]).shape(), "12IZ");
        let answer = c.send(&[parse("", "update acc set nope = now() where id = 1", &[]), sync()]);
        let failure = answer.failure().expect("no such column");
        assert_eq!((failure.state.as_str(), failure.position.as_deref()), ("42703", Some("16")));
        let bad = c.try_bound("update acc set balance = $1, note = now()::text where id = 1", &[Some("x")]);
        assert_eq!(bad.failure().expect("no number").state, "22P02");
        let bad = c.try_bound("update acc set balance = 1/(id-1), note = now()::text where id = $1", &[Some("1")]);
        assert_eq!(bad.failure().expect("division by zero").state, "22012");
        let missing = c.send(&[bind("", "nothing", &[]), execute("", 0), sync()]);
        assert_eq!(missing.failure().expect("no such statement").state, "26000");
        assert_eq!(node.journal().len(), 0);
    });
}
