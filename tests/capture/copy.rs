//! COPY FROM STDIN: the stream itself in the journal, in every format; a failed one leaves nothing.

use crate::common::msg::{bind, copy_data, copy_done, copy_fail, execute, parse, query, sync};
use crate::{TABLES, on_both};

const MORE: &str = "create table c (id int primary key, a text, b numeric, at timestamptz);
                    create table d (id int primary key, at timestamptz not null default now())";

fn tables() -> String {
    format!("{TABLES};{MORE}")
}

#[test]
fn in_every_format() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        let text = b"1\tone\t1.5\t2020-02-02 10:00\n2\t\\N\t\\N\t\\N\n3\ttab\\there\t3\t2020-02-03\n";
        assert_eq!(c.copy("copy c from stdin", &[text]).tags(), ["COPY 3"]);
        assert_eq!(
            c.copy(
                "COPY public.c (id, a) FROM STDIN WITH (FORMAT text, DELIMITER '|', NULL 'nil')",
                &[b"4|nil\n5|x\n\\.\n"]
            )
            .tags(),
            ["COPY 2"]
        );
        let csv = b"id;a\n6;\"quoted;\n line\"\"s\"\n7;plain\n";
        assert_eq!(
            c.copy("copy c (id, a) from stdin with (format csv, header, delimiter ';')", &[csv]).tags(),
            ["COPY 2"]
        );
        assert_eq!(c.copy("copy c from stdin csv", &[b"8,a,1,\n9,b,2,\n"]).tags(), ["COPY 2"]);
        let mut binary = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        for n in 10..13i32 {
            binary.extend([0, 2, 0, 0, 0, 4]);
            binary.extend(n.to_be_bytes());
            binary.extend([0, 0, 0, 3, b'b', b'i', b'n']);
        }
        binary.extend([0xff, 0xff]);
        assert_eq!(c.copy("copy c (id, a) from stdin with binary", &[&binary]).tags(), ["COPY 3"]);
        assert_eq!(c.copy("copy c from stdin", &[]).tags(), ["COPY 0"]);
        assert_eq!(c.ok("select count(*) from c").value(), "12");
        node.assert_replays();
    });
}

#[test]
fn in_pieces_of_any_size() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        let data: String =
            (0..3000).map(|n| format!("{n}\trow {n} \u{e4}\\n{}\t{n}.25\t\\N\n", "x".repeat(n % 40))).collect();
        let pieces: Vec<&[u8]> = data.as_bytes().chunks(777).collect();
        assert_eq!(c.copy("copy c from stdin", &pieces).tags(), ["COPY 3000"]);
        let pieces: Vec<Vec<u8>> =
            (5000..5050).flat_map(|n| format!("{n}\n").into_bytes()).map(|byte| vec![byte]).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        assert_eq!(c.copy("copy c (id) from stdin", &pieces).tags(), ["COPY 50"]);
        node.assert_replays();
    });
}

#[test]
fn in_blocks_and_with_other_statements() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        c.ok("begin; update acc set balance = 1 where id = 1");
        assert_eq!(c.copy("copy c (id) from stdin", &[b"1\n2\n"]).status(), 'T');
        c.ok("update c set a = now()::text where id = 2; savepoint s");
        c.copy("copy c (id) from stdin", &[b"3\n"]);
        c.ok("rollback to s");
        c.copy("copy c (id) from stdin", &[b"4\n"]);
        c.ok("commit");
        // one query with a COPY in its middle
        c.client.send(&query(
            "update acc set balance = 2 where id = 2; copy c (id) from stdin; insert into ev (what) values ('behind')",
        ));
        c.client.until(b'G');
        let answer = c.send(&[copy_data("20\n"), copy_done()]);
        assert_eq!(answer.tags(), ["COPY 1", "INSERT 0 1"]);
        // by the extended protocol
        c.client.send(&[parse("", "copy c (id) from stdin", &[]), bind("", "", &[]), execute("", 0)].concat());
        c.client.send(&sync()); // ignored by a server that waits for data
        c.client.until(b'G');
        let answer = c.send(&[copy_data("30\n31\n"), copy_done(), sync()]);
        assert_eq!(answer.tags(), ["COPY 2"]);
        c.ok("delete from c where id = 30");
        node.assert_replays();
    });
}

#[test]
fn a_failed_copy_leaves_nothing() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        let answer = c.copy("copy c from stdin", &[b"1\ta\t1\t\\N\n", b"no number\ta\t1\t\\N\n"]);
        let failure = answer.failure().expect("no number");
        assert_eq!(failure.state, "22P02");
        c.client.send(&query("copy c from stdin"));
        c.client.until(b'G');
        let answer = c.send(&[copy_data("1\ta\t1\t\\N\n"), copy_fail("changed my mind")]);
        assert_eq!(answer.failure().expect("failed by the client").state, "57014");
        assert_eq!(c.fails("copy c (nope) from stdin").state, "42703");
        assert_eq!(c.copy("copy c (id) from stdin", &[b"1\n1\n"]).failure().expect("a duplicate").state, "23505");
        c.ok("begin; insert into c values (50)");
        assert!(c.copy("copy c (id) from stdin", &[b"50\n"]).failure().is_some());
        assert_eq!(c.ok("commit").tags(), ["ROLLBACK"]);
        assert_eq!(c.ok("select count(*) from c").value(), "0");
        assert_eq!(node.assert_replays().len(), 0);
        // and a COPY that the client leaves behind by going away
        let mut gone = node.client();
        gone.client.send(&query("copy c from stdin"));
        gone.client.until(b'G');
        gone.client.send(&copy_data("1\ta\t1\t\\N\n"));
        gone.client.reset();
        assert_eq!(c.copy("copy c (id) from stdin", &[b"1\n"]).tags(), ["COPY 1"]);
        assert_eq!(node.assert_replays().len(), 1);
    });
}

#[test]
fn settings_that_dates_hang_on_travel() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        c.ok("set datestyle = 'german'; set timezone = 'Asia/Tokyo'");
        assert_eq!(c.copy("copy c (id, at) from stdin", &[b"1\t3.2.2020 10:00\n2\t2.3.2020\n"]).tags(), ["COPY 2"]);
        c.ok("set datestyle = 'iso, mdy'");
        c.copy("copy c (id, at) from stdin", &[b"3\t3/2/2020 10:00\n"]);
        node.assert_replays();
    });
}

#[test]
fn what_depends_on_the_moment_is_captured_or_refused() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        let mut refused = 0;
        for (sql, data) in [
            ("copy c (id, at) from stdin", &b"1\tnow\n"[..]),
            ("copy c (id, at) from stdin", b"2\ttoday\n"),
            ("copy d (id) from stdin", b"1\n2\n"),
            ("copy ev (what) from stdin", b"a\nb\n"),
            ("copy tok (r) from stdin", b"0.5\n"),
        ] {
            if let Some(failure) = c.copy(sql, &[data]).failure() {
                assert_eq!(failure.state, "0A000", "{sql}: {failure:?}");
                assert!(failure.hint.is_some(), "{sql}: {failure:?}");
                refused += 1;
            }
        }
        let entries = node.assert_replays();
        assert!(refused + entries.len() >= 5, "each was captured or refused");
    });
}

#[test]
fn freeze_does_not_travel() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        c.ok("begin; truncate c");
        assert_eq!(c.copy("copy c (id) from stdin with (freeze on)", &[b"1\n2\n"]).tags(), ["COPY 2"]);
        c.ok("commit");
        node.assert_replays();
    });
}

#[test]
fn what_goes_out_or_elsewhere_is_none_of_ours() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        c.ok("create temp table c (id int)");
        assert_eq!(c.copy("copy c from stdin", &[b"1\n"]).tags(), ["COPY 1"]);
        assert_eq!(c.copy("copy plain.seen from stdin", &[b"100\tx\n"]).tags(), ["COPY 1"]);
        assert_eq!(c.ok("copy acc to stdout").tags(), ["COPY 10"]);
        // What it writes it would write unseen.
        assert_eq!(c.fails("copy (update acc set note = note where false returning id) to stdout").state, "0A000");
        assert_eq!(node.journal().len(), 0);
    });
}
