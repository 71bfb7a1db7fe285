//! COPY both ways in both protocols: text, CSV and binary, ended well, by the client, by the server and too early.

use crate::common::msg::{bind, copy_data, copy_done, copy_fail, execute, flush, parse, query, sync};
use crate::common::oracle::{Conversation, same, states, tags};

fn table(c: &mut Conversation) {
    c.login();
    c.query("create temp table t (a int, b text)");
}

#[test]
fn out_in_every_format() {
    same(|c| {
        table(c);
        c.query("insert into t select g, repeat('\u{00e4}\\\t', g % 7) from generate_series(1, 1000) g");
        c.query("insert into t values (null, null), (0, '')");
        for how in ["", "(format csv, header)", "(format binary)", "(format text, delimiter '|', null 'nil')"] {
            assert_eq!(tags(&c.query(format!("copy t to stdout {how}"))).chars().next(), Some('H'));
            c.pipeline(&[parse("", format!("copy t to stdout {how}"), &[]), bind("", "", &[]), execute("", 0), sync()]);
            c.ready();
        }
        c.query("copy (select 1 where false) to stdout");
        c.query("copy (select 1/(5 - g) from generate_series(1, 10) g) to stdout"); // fails after some rows
        c.query("select 1; copy t to stdout; select 2");
    });
}

#[test]
fn in_by_simple_query() {
    same(|c| {
        table(c);
        c.send(&query("copy t from stdin"));
        c.until(b'G');
        c.quiet();
        // borders of messages need not be borders of rows
        c.pipeline(&[copy_data("1\tone\n2\tt"), copy_data("wo\n"), copy_data(""), copy_data("3\t\\N\n"), copy_done()]);
        assert_eq!(c.ready()[0].command(), "COPY 3");
        c.pipeline(&[query("copy t from stdin csv"), copy_data("4,\"a,b\"\n5,"), copy_done()]);
        c.ready();
        c.pipeline(&[query("copy t from stdin"), copy_data("6\tx\n\\.\n"), copy_done()]);
        c.ready();
        c.pipeline(&[query("copy t from stdin"), copy_data("7\tno newline at the end"), copy_done()]);
        c.ready();
        c.pipeline(&[query("copy t from stdin; select count(*) from t"), copy_data("8\tx\n"), copy_done()]);
        c.ready();
        // two copies in one string, with what the second brings already under way
        let two = query("copy t from stdin; copy t from stdin csv");
        c.pipeline(&[two, copy_data("9\tx\n"), copy_done(), copy_data("10,x\n"), copy_done()]);
        c.ready();
        c.query("table t");
    });
}

#[test]
fn in_binary() {
    same(|c| {
        table(c);
        let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        data.extend(b"\0\x02\0\0\0\x04\0\0\0\x2a\0\0\0\x02hi");
        let end = b"\xff\xff".to_vec();
        let copy = "copy t from stdin (format binary)";
        c.pipeline(&[query(copy), copy_data(&data), copy_data(&end), copy_done()]);
        assert_eq!(c.ready()[1].command(), "COPY 1");
        c.pipeline(&[query(copy), copy_data(&data), copy_done()]); // no trailer
        c.ready();
        c.pipeline(&[query(copy), copy_data(&data[1..]), copy_done()]); // no signature
        assert_eq!(states(&c.ready()).len(), 1);
        c.query("copy t to stdout (format binary)");
    });
}

#[test]
fn in_by_extended_protocol() {
    same(|c| {
        table(c);
        c.pipeline(&[parse("c", "copy t from stdin", &[]), bind("", "c", &[]), execute("", 0), flush()]);
        c.until(b'G');
        c.pipeline(&[copy_data("1\ta\n"), copy_done(), sync()]);
        assert_eq!(tags(&c.ready()), "CZ");
        // libpq's way: Sync goes with Execute and is ignored by the server while it copies
        c.pipeline(&[bind("", "c", &[]), execute("", 0), sync()]);
        c.until(b'G');
        c.quiet();
        c.pipeline(&[copy_data("2\tb\n"), sync(), flush(), copy_data("3\tc\n"), copy_done(), sync()]);
        assert_eq!(tags(&c.ready()), "CZ");
        c.pipeline(&[bind("", "c", &[]), execute("", 0), copy_fail("changed my mind"), sync()]);
        assert_eq!(states(&c.ready()), ["57014"]);
        // a failing copy skips to Sync: the early one counts for nothing, the last one is answered
        c.pipeline(&[bind("", "c", &[]), execute("", 0), sync(), copy_data("x\n"), copy_done(), sync()]);
        c.ready();
        c.pipeline(&[parse("", "select 1", &[]), sync()]);
        c.ready();
        c.query("table t");
    });
}

#[test]
fn fails_by_the_client() {
    same(|c| {
        table(c);
        c.pipeline(&[query("copy t from stdin"), copy_data("1\ta\n"), copy_fail("no more \u{1F418}")]);
        assert_eq!(states(&c.ready()), ["57014"]);
        c.pipeline(&[query("copy t from stdin; select 'not reached'"), copy_fail("")]);
        c.ready();
        c.query("begin");
        c.pipeline(&[query("copy t from stdin"), copy_fail("in a block")]);
        c.ready();
        c.query("rollback");
        c.query("table t");
    });
    // messages that are no part of a COPY end the session
    for message in [query("select 1"), parse("", "select 1", &[])] {
        same(|c| {
            table(c);
            c.pipeline(&[query("copy t from stdin"), message.clone()]);
            assert_eq!(states(&c.closed()), ["08P01", "08P01"]);
        });
    }
}

#[test]
fn fails_by_the_server_while_data_flows() {
    same(|c| {
        table(c);
        c.send(&query("copy t from stdin"));
        c.until(b'G');
        c.send(&copy_data("1\ta\nnot a number\tb\n"));
        c.until(b'E');
        // what was under way is thrown away
        for _ in 0..100 {
            c.send(&copy_data("2\tmore\n".repeat(1000)));
        }
        c.send(&copy_done());
        assert_eq!(tags(&c.ready()), "Z");
        c.quiet();
        c.send(&copy_done());
        c.send(&copy_fail("late"));
        c.send(&copy_data("late\n"));
        c.query("select count(*) from t");
        c.pipeline(&[query("copy t from stdin"), copy_data("3\n"), copy_done(), query("select 'next'")]);
        c.ready();
        c.ready();
    });
}

#[test]
fn fails_while_a_message_is_on_its_way() {
    same(|c| {
        table(c);
        c.send(&query("copy t from stdin"));
        c.until(b'G');
        let more = copy_data("2\tmore\n");
        let (half, rest) = more.split_at(7);
        c.send(&[&copy_data("not a number\tb\n"), half].concat());
        c.until(b'E');
        c.send(&[rest, &copy_done()].concat());
        assert_eq!(tags(&c.ready()), "Z");
        c.query("select count(*) from t");
    });
}

#[test]
fn many_small_and_one_large_message() {
    same(|c| {
        table(c);
        c.send(&query("copy t from stdin"));
        c.until(b'G');
        let small: Vec<u8> = (0..20_000).flat_map(|n| copy_data(format!("{n}\tx\n"))).collect();
        c.send(&small);
        let large: String = (0..200_000).map(|n| format!("{n}\tlarge\n")).collect();
        c.send(&copy_data(large));
        c.send(&copy_done());
        assert_eq!(c.ready()[0].command(), "COPY 220000");
        c.query("copy (select b, count(*), sum(a) from t group by b order by b) to stdout");
        c.query("copy t to stdout");
    });
}
