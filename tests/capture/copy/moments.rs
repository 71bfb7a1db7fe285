//! Words for a moment in the data of a COPY: never in the journal as words.

use super::tables;
use crate::common::Pg;
use crate::common::msg::{bind, copy_data, copy_done, execute, parse, query, sync};
use crate::common::node::Node;
use crate::common::session::Failure;
use crate::on_both;

const DATED: &str =
    "create domain day as date check (value > '1999-01-01'); create domain mail as text check (value <> '');
    create table dated (id int primary key, note text, at timestamptz, d date, t timetz, days date[], span tstzrange,
        due day, who mail, took interval)";

fn assert_refused(failure: Option<Failure>, what: &str) {
    let failure = failure.unwrap_or_else(|| panic!("{what}: not refused"));
    assert_eq!(failure.state, "0A000", "{what}: {failure:?}");
    assert!(failure.message.contains("COPY into table") && failure.hint.is_some(), "{what}: {failure:?}");
}

#[test]
fn a_word_fails_the_copy() {
    on_both(&format!("{};{DATED}", tables()), |node| {
        let mut c = node.client();
        for (sql, data) in [
            ("copy dated (id, at) from stdin", "1\t2020-02-02\n2\tnow"),
            ("copy dated (id, at) from stdin", "1\tyesterday 04:05\n2\t2020-02-02\n"),
            ("copy dated (d, id) from stdin", "TOMORROW\t1\n"),
            ("copy dated (id, t) from stdin", "1\t\\156ow\n"),
            ("copy dated (id, days) from stdin", "1\t{2020-02-02,\"today\"}\n"),
            ("copy dated (id, span) from stdin", "1\t[today,tomorrow)\n"),
            ("copy dated (id, due) from stdin", "1\ttoday\n"),
            ("copy dated (id, note, at) from stdin csv", "1,\"a,\n\"\"b\",\"No\"w\n"),
            (
                "copy dated (id, at) from stdin (format csv, header, delimiter '|', quote '''', escape '\\')",
                "a|b\n1|'now'\n",
            ),
            ("copy dated (id, at) from stdin with null 'x' delimiter ','", "1,x\n2,today\n"),
        ] {
            let whole = c.copy(sql, &[data.as_bytes()]);
            assert_refused(whole.failure(), sql);
            assert_eq!((whole.shape().as_str(), whole.status()), ("EZ", 'I'), "{sql}");
            let bytes: Vec<&[u8]> = data.as_bytes().chunks(1).collect();
            assert_refused(c.copy(sql, &bytes).failure(), sql);
        }
        assert_eq!(c.ok("select count(*) from dated").value(), "0");
        assert_eq!(node.assert_replays().len(), 0);
    });
}

#[test]
fn what_is_no_such_word_passes() {
    on_both(&format!("{};{DATED}", tables()), |node| {
        let mut c = node.client();
        for (sql, data) in [
            ("copy dated (id, note, who) from stdin", "1\tnow\ttoday\n2\ttomorrow\tyesterday\n"),
            ("copy dated (id, note, at) from stdin", "3\t\\\tnow\t2020-02-02\n"),
            ("copy dated (now, id) from stdin", ""),
            ("copy dated (id, at) from stdin csv header", "id,now\n4,2020-02-02\n5,infinity\n6,\n"),
            ("copy dated (id, at, days) from stdin", "7\tepoch\t{-infinity}\n"),
        ] {
            let answer = c.copy(sql, &[data.as_bytes()]);
            match answer.failure() {
                Some(failure) => assert_eq!(failure.state, "42703", "{sql}"),
                None => assert_eq!(answer.tags().len(), 1),
            }
        }
        let entries = node.assert_replays();
        assert!(entries.len() == 4 && entries.iter().all(|e| e.lane == "copy"), "{entries:#?}");
    });
}

#[test]
fn a_word_that_cannot_be_told_travels_as_what_it_means() {
    on_both(&format!("{};{DATED}", tables()), |node| {
        let mut c = node.client();
        for (sql, data) in [
            ("copy dated (id, at) from stdin null 'today'", "1\ttoday\n2\tnow\n"),
            ("copy dated (id, at) from stdin delimiter U&'|'", "3|yesterday\n"),
            ("copy dated (id, at) from stdin encoding 'big5'", "4\ttomorrow\n"),
        ] {
            assert!(c.copy(sql, &[data.as_bytes()]).failure().is_none(), "{sql}");
        }
        assert_eq!(c.ok("select count(*) from dated where at >= current_date - 1").value(), "3");
        let entries = node.assert_replays();
        assert!(entries.iter().all(|e| e.lane == "row"), "{entries:#?}");
    });
}

#[test]
fn in_blocks_queries_and_the_extended_protocol() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        c.ok("begin; insert into log values ('x', 1); savepoint s");
        let answer = c.copy("copy c (id, at) from stdin", &[b"1\tnow\n"]);
        assert_refused(answer.failure(), "in a block");
        assert_eq!(answer.status(), 'E');
        c.ok("rollback to s; insert into log values ('y', 1); commit");

        let copies = [
            query("insert into log values ('not', 1); copy c (id) from stdin; copy c (id, at) from stdin; select 1"),
            copy_data("1\n"),
            copy_done(),
            copy_data("2\tnow\n"),
            copy_done(),
        ];
        let answer = c.send(&copies);
        assert_refused(answer.failure(), "in a query");
        assert_eq!(answer.tags(), ["INSERT 0 1", "COPY 1"]);

        let begun = [parse("", "copy c (id, at) from stdin", &[]), bind("", "", &[]), execute("", 0)].concat();
        let answer = c.send(&[begun.clone(), copy_data("1\tno"), copy_data("w"), copy_done(), sync()]);
        assert_refused(answer.failure(), "extended");
        assert_eq!((answer.tags(), answer.status()), (vec![], 'I'));
        // What the server finds first it says first.
        let answer = c.send(&[begun, copy_data("x\tnow\n"), copy_done(), sync()]);
        assert_eq!(answer.failure().expect("no number").state, "22P02");
        assert_eq!(c.ok("select count(*) from c").value(), "0");
        assert_eq!(node.assert_replays().len(), 2);
    });
}

#[test]
fn where_the_operator_wants_no_refusals_the_rows_travel() {
    let rules = "[[table]]\nname = \"public.c\"\nunreplicable = \"warn\"\n";
    let node = Node::start(Pg::V15, &tables(), rules);
    let mut c = node.client();
    assert_eq!(c.copy("copy c (id, at) from stdin", &[b"1\tnow\n2\t2020-02-02\n"]).tags(), ["COPY 2"]);
    assert_eq!(node.lanes(), ["row insert"]);
}
