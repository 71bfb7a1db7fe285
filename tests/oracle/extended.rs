//! The extended query protocol, one request at a time: Parse, Bind, Describe, Execute, Close, Sync.

use crate::common::msg::{self, bind, bind_formats, close, describe, execute, flush, parse, sync};
use crate::common::oracle::{same, states, tags};

#[test]
fn each_step_answered_after_flush() {
    same(|c| {
        c.login();
        for (message, reply) in [
            (parse("s", "select $1::int, $2::text", &[]), b'1'),
            (describe(b'S', "s"), b'T'),
            (bind("p", "s", &[Some(b"1"), None]), b'2'),
            (describe(b'P', "p"), b'T'),
            (execute("p", 0), b'C'),
            (close(b'P', "p"), b'3'),
            (close(b'S', "s"), b'3'),
            (close(b'S', "never there"), b'3'),
        ] {
            c.pipeline(&[message, flush()]);
            c.until(reply);
            c.quiet();
        }
        c.send(&sync());
        c.ready();
    });
}

#[test]
fn nothing_comes_before_sync() {
    same(|c| {
        c.login();
        c.pipeline(&[parse("", "select 1", &[]), bind("", "", &[]), execute("", 0)]);
        c.quiet();
        c.send(&sync());
        assert_eq!(tags(&c.ready()), "12DCZ");
    });
}

#[test]
fn formats_types_and_nothing_to_describe() {
    same(|c| {
        c.login();
        c.query("create temp table t (a int, b bytea, c numeric, d timestamptz)");
        let insert = "insert into t values ($1, $2, $3, $4)";
        c.pipeline(&[parse("i", insert, &[23, 17]), describe(b'S', "i"), sync()]);
        assert_eq!(tags(&c.ready()), "1tnZ");
        let values: &[Option<&[u8]>] = &[Some(&[0, 0, 0, 7]), Some(b"\0\xff"), None, None];
        c.pipeline(&[bind_formats("", "i", &[1], values, &[]), describe(b'P', ""), execute("", 0), sync()]);
        assert_eq!(tags(&c.ready()), "2nCZ");
        let mixed: &[Option<&[u8]>] = &[Some(&[0, 0, 0, 8]), Some(b"\\x01"), Some(b"1.50"), Some(b"2024-02-29 UTC")];
        c.pipeline(&[bind_formats("", "i", &[1, 0, 0, 0], mixed, &[]), execute("", 0), sync()]);
        c.ready();
        for results in [&[][..], &[0], &[1], &[1, 0, 1, 0]] {
            c.pipeline(&[
                parse("", "select * from t order by a", &[]),
                bind_formats("", "", &[], &[], results),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ]);
            assert_eq!(tags(&c.ready()), "12TDDCZ");
        }
        // two formats for four columns, a format that does not exist, a binary value of the wrong size
        c.pipeline(&[parse("", "table t", &[]), bind_formats("", "", &[], &[], &[1, 1]), sync()]);
        assert_eq!(states(&c.ready()), ["08P01"]);
        c.pipeline(&[parse("", "table t", &[]), bind_formats("", "", &[], &[], &[2]), execute("", 0), sync()]);
        c.ready();
        c.pipeline(&[bind_formats("", "i", &[1], &[Some(b"x"), None, None, None], &[]), sync()]);
        c.ready();
    });
}

#[test]
fn empty_queries_and_utility_statements() {
    same(|c| {
        c.login();
        for sql in ["", " ; ", "-- nothing", "begin", "set application_name = 'x'", "show application_name", "commit"] {
            c.pipeline(&[
                parse("", sql, &[]),
                describe(b'S', ""),
                bind("", "", &[]),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ]);
            assert!(states(&c.ready()).is_empty(), "{sql}");
        }
        c.pipeline(&[parse("", "select 1; select 2", &[]), sync()]);
        assert_eq!(states(&c.ready()), ["42601"]);
    });
}

#[test]
fn an_error_in_each_step_skips_to_sync() {
    same(|c| {
        c.login();
        c.query("create temp table t (a int primary key)");
        c.query("insert into t values (1)");
        let whole = |sql: &str, param: &[u8]| {
            vec![parse("", sql, &[]), bind("", "", &[Some(param)]), describe(b'P', ""), execute("", 0), sync()]
        };
        for (sql, param) in [
            ("selec $1", b"1".as_slice()),
            ("select $1::nowhere", b"1"),
            ("select $1::int", b"one"),
            ("select 1/$1::int", b"0"),
            ("insert into t values ($1::int)", b"1"),
            ("select $1::text", b"\xff\xfe"),
        ] {
            c.pipeline(&whole(sql, param));
            assert_eq!(states(&c.ready()).len(), 1, "{sql}");
            // and the same with time between the messages
            for message in whole(sql, param) {
                c.send(&message);
            }
            c.ready();
        }
        for message in [
            bind("", "never there", &[]),
            describe(b'S', "never there"),
            describe(b'P', "never there"),
            execute("never there", 0),
            describe(b'X', "what"),
            close(b'X', "what"),
        ] {
            c.pipeline(&[message, parse("", "select 1", &[]), bind("", "", &[]), execute("", 0), sync()]);
            assert_eq!(tags(&c.ready()), "EZ");
        }
        c.pipeline(&[parse("two", "select $1, $2", &[]), bind("", "two", &[None]), sync()]);
        assert_eq!(states(&c.ready()), ["08P01"]);
        c.pipeline(&[parse("two", "select 1", &[]), sync()]); // it was kept: named statements are not replaced
        assert_eq!(states(&c.ready()), ["42P05"]);
    });
}

#[test]
fn names_live_as_long_as_they_should() {
    same(|c| {
        c.login();
        c.pipeline(&[parse("s", "select 1", &[]), bind("p", "s", &[]), sync()]);
        c.ready();
        c.pipeline(&[execute("p", 0), sync()]); // portals end with their transaction
        assert_eq!(states(&c.ready()), ["34000"]);
        c.query("begin");
        c.pipeline(&[bind("p", "s", &[]), sync()]);
        c.ready();
        c.pipeline(&[bind("p", "s", &[]), sync()]);
        assert_eq!(states(&c.ready()), ["42P03"]);
        c.query("rollback");
        c.query("begin");
        c.pipeline(&[bind("p", "s", &[]), sync()]);
        c.ready();
        c.query("deallocate s");
        c.pipeline(&[execute("p", 0), sync()]);
        c.ready();
        c.pipeline(&[execute("p", 0), sync()]);
        c.ready();
        c.query("commit");
        c.query("prepare q as select 2");
        c.pipeline(&[describe(b'S', "q"), bind("", "q", &[]), execute("", 0), sync()]); // made by SQL, used by wire
        assert_eq!(tags(&c.ready()), "tT2DCZ");
        c.pipeline(&[parse("w", "select 3", &[]), sync()]);
        c.ready();
        c.query("execute w"); // and the other way round
        c.query("select 'the unnamed statement ends here'");
        c.pipeline(&[bind("", "", &[]), sync()]);
        assert_eq!(states(&c.ready()), ["26000"]);
        c.query("create temp table g (a int)");
        c.pipeline(&[parse("g", "select * from g", &[]), bind("", "g", &[]), execute("", 0), sync()]);
        c.ready();
        c.query("alter table g add b int");
        c.pipeline(&[bind("", "g", &[]), execute("", 0), sync()]);
        assert_eq!(states(&c.ready()), ["0A000"]); // cached plan must not change result type
        c.query("discard all");
        c.pipeline(&[bind("", "g", &[]), sync()]);
        assert_eq!(states(&c.ready()), ["26000"]);
    });
}

#[test]
fn as_many_parameters_as_the_protocol_can_count() {
    same(|c| {
        c.login();
        let list: Vec<String> = (1..=65535).map(|n| format!("${n}")).collect();
        let values: Vec<String> = (1..=65535).map(|n| n.to_string()).collect();
        let params: Vec<Option<&[u8]>> = values.iter().map(|value| Some(value.as_bytes())).collect();
        let sql = format!("select sum(x) from unnest(array[{}]::int[]) x", list.join(","));
        c.pipeline(&[
            parse("many", sql, &[]),
            describe(b'S', "many"),
            bind_formats("", "many", &[], &params, &[1]),
            execute("", 0),
            sync(),
        ]);
        let frames = c.ready();
        assert_eq!(tags(&frames), "1tT2DCZ");
        assert_eq!(frames[4].body[6..], (65535i64 * 65536 / 2).to_be_bytes());
        c.pipeline(&[parse("", "select $65536::int", &[]), msg::sync()]);
        assert_eq!(states(&c.ready()).len(), 1);
    });
}
