//! Every refusal: its SQLSTATE, its message and hint, and a session that goes on as after an error of the server.

use crate::common::node::Node;
use crate::common::session::Failure;
use crate::{TABLES, on_both};

const MORE: &str = "
    create view v as select id, owner from acc;
    create table ruled (id int primary key, v text);
    create rule other as on insert to ruled do instead insert into plain.seen values (new.id, new.v);
    create function writes() returns void language plpgsql as $$ begin update acc set balance = 0 where id = 1; end $$;
    create function writes_sql() returns bigint language sql as $$ delete from acc where id = 2; select 1::bigint $$;
    create procedure writes_too() language plpgsql as $$ begin insert into acc (id) values (900); end $$;
    create table plain.top (id int primary key); insert into plain.top values (1), (2);
    create table below (id int primary key, top int references plain.top on delete cascade); insert into below values (1, 1)";

fn tables() -> String {
    format!("{TABLES};{MORE}")
}

/// What is refused, and words that message and hint hold, in small letters.
const REFUSED: &[(&str, &str, &str)] = &[
    ("explain analyze update acc set balance = 0 where id = 1", "explain", "leave analyze out"),
    ("explain (analyze, costs off) delete from acc where id = 1", "explain", ""),
    ("copy acc from '/etc/passwd'", "copy", "stdin"),
    ("copy acc from program 'true'", "copy", "stdin"),
    ("update v set owner = 'x' where id = 1", "view", "acc"),
    ("insert into v values (700, 'x')", "view", ""),
    ("delete from v where id = 1", "view", ""),
    ("insert into ruled values (1, 'x')", "rule", ""),
    ("update log set line = random()::text", "key", "key"),
    ("delete from log where n < random()", "key", "key"),
    ("do $$ begin update acc set balance = 0 where id = 1; end $$", "do", ""),
    ("call writes_too()", "writes_too", ""),
    ("select writes()", "writes", ""),
    ("select public.writes_sql()", "writes_sql", ""),
    ("delete from plain.top where id = 1", "below", ""),
    ("insert into pgcanon.journal (slot, meta, data) values (0, '', '')", "pgcanon", ""),
    ("update pgcanon.journal set meta = ''", "pgcanon", ""),
    ("delete from pgcanon.journal", "pgcanon", ""),
    ("truncate pgcanon.journal", "pgcanon", ""),
    ("select * into public.made from acc", "", ""),
    ("create table public.made as select * from acc", "", ""),
];

fn assert_refusal(sql: &str, failure: &Failure, message: &str, hint: &str) {
    assert_eq!(failure.state, "0A000", "{sql}: {failure:?}");
    let says = |text: &str, word: &str| text.to_lowercase().contains(word);
    let detail = failure.detail.clone().unwrap_or_default();
    let subject = if sql.contains("pgcanon.") { "pgcanon" } else { "replicated" };
    assert!(says(&failure.message, subject), "{sql}: {failure:?}");
    assert!(says(&format!("{} {detail}", failure.message), message), "{sql}: {failure:?}");
    let told = failure.hint.as_deref().unwrap_or_else(|| panic!("{sql}: no hint: {failure:?}"));
    assert!(says(told, hint), "{sql}: {failure:?}");
}

fn state(node: &Node) -> String {
    node.sql("select (select sum(hashtext(a::text)) from acc a), (select count(*) from log), (select count(*) from plain.top), to_regclass('public.made')")
}

#[test]
fn alone_by_the_simple_protocol() {
    on_both(&tables(), |node| {
        let before = state(node);
        let mut c = node.client();
        for (sql, message, hint) in REFUSED {
            let answer = c.run(sql);
            let failure = answer.failure().unwrap_or_else(|| panic!("{sql}: should be refused, got {answer:?}"));
            assert_refusal(sql, &failure, message, hint);
            assert_eq!((answer.shape().as_str(), answer.status()), ("EZ", 'I'), "{sql}");
        }
        assert_eq!(state(node), before);
        assert_eq!(c.ok("select 1").value(), "1");
        assert_eq!(node.journal().len(), 0);
    });
}

#[test]
fn in_a_block_it_fails_as_an_error_of_the_server() {
    on_both(&tables(), |node| {
        let before = state(node);
        let mut c = node.client();
        for (sql, message, hint) in REFUSED {
            c.ok("begin; update acc set balance = 0 where id = 1; savepoint s");
            let answer = c.run(sql);
            assert_refusal(sql, &answer.failure().unwrap_or_else(|| panic!("{sql}")), message, hint);
            assert_eq!(answer.status(), 'E', "{sql}");
            assert_eq!(c.fails("select 1").state, "25P02", "{sql}");
            assert_eq!(c.ok("rollback to s").status(), 'T', "{sql}");
            assert_refusal(sql, &c.fails(sql), message, hint);
            assert_eq!(c.ok("commit").tags(), ["ROLLBACK"], "{sql}");
        }
        assert_eq!(state(node), before);
        assert_eq!(node.journal().len(), 0);
    });
}

#[test]
fn by_the_extended_protocol_and_in_pipelines() {
    use crate::common::msg::{bind, execute, parse, sync};
    on_both(&tables(), |node| {
        let before = state(node);
        let mut c = node.client();
        for (sql, message, hint) in REFUSED {
            let answer = c.try_bound(sql, &[]);
            let failure = answer.failure().unwrap_or_else(|| panic!("{sql}: should be refused, got {answer:?}"));
            assert_refusal(sql, &failure, message, hint);
            assert_eq!(answer.status(), 'I', "{sql}");
            assert_eq!(answer.shape().matches('E').count(), 1, "{sql}: {answer:?}");
            // what came before it in the pipeline is undone, what comes after is skipped
            let write = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
            let answer = c.send(&[
                write("update acc set balance = 0 where id = 1"),
                write(sql),
                write("update acc set balance = 0 where id = 2"),
                sync(),
            ]);
            assert_refusal(sql, &answer.failure().unwrap_or_else(|| panic!("{sql}")), message, hint);
            assert_eq!(answer.tags().len(), 1, "{sql}: {answer:?}");
        }
        assert_eq!(state(node), before);
        assert_eq!(node.journal().len(), 0);
    });
}

#[test]
fn in_the_middle_of_a_query() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        let sql = "update acc set balance = 0 where id = 1; explain analyze delete from acc; update acc set balance = 0 where id = 2";
        let answer = c.run(sql);
        assert_eq!(answer.failure().expect("refused").state, "0A000");
        assert_eq!(answer.tags(), ["UPDATE 1"]);
        assert_eq!(c.ok("select sum(balance) from acc where id < 3").value(), "300");
        assert_eq!(node.journal().len(), 0);
    });
}

#[test]
fn what_names_functions_or_views_without_running_them_is_not_refused() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        for sql in [
            "create or replace function writes() returns void language plpgsql as $$ begin delete from acc; end $$",
            "alter function writes() volatile",
            "grant execute on function writes() to public",
            "comment on function public.writes_sql() is 'it writes'",
            "create view plain.later as select public.writes_sql()",
            "drop view plain.later",
            "drop function writes()",
            "drop procedure writes_too()",
            "create materialized view public.mv as select id from acc",
            "create materialized view if not exists public.mv2 as select id from acc with no data",
            "refresh materialized view public.mv",
        ] {
            c.ok(sql);
        }
        assert_eq!(c.fails("select public.writes_sql()").state, "0A000");
        assert_eq!(node.journal().len(), 0);
    });
}

#[test]
fn what_is_not_ours_is_never_refused() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        for sql in [
            "explain update acc set balance = 0 where id = 1",
            "explain analyze select * from acc",
            "explain analyze update plain.seen set v = random()::text",
            "do $$ begin perform 1; end $$",
            "select count(*) from v",
            "create temp table made as select * from acc",
            "select * into temp made_too from acc",
            "insert into plain.seen values (900, random()::text)",
            "create function plain.reads() returns bigint language sql as $$ select count(*) from acc $$",
            "select plain.reads()",
            "insert into plain.top values (9)",
            "lock table acc in share mode",
            "vacuum acc",
            "analyze acc",
            "select * from acc for update",
            "notify acc",
        ] {
            let answer = c.run(sql);
            let failure = answer.failure().filter(|f| f.state != "25P01"); // LOCK outside a block: the server's own
            assert_eq!(failure, None, "{sql}");
        }
        assert_eq!(node.journal().len(), 0);
    });
}

#[test]
fn the_operator_may_choose_otherwise() {
    use crate::common::Pg;
    for (word, notices) in [("warn", 1), ("ignore", 0)] {
        let rules = format!("[[table]]\nname = \"public.*\"\nunreplicable = \"{word}\"\n");
        let node = Node::start(Pg::V15, &tables(), &rules);
        let mut c = node.client();
        let answer = c.ok("update log set line = random()::text");
        assert_eq!(answer.shape().matches('N').count(), notices, "{answer:?}");
        assert_eq!(answer.tags(), ["UPDATE 0"]);
        assert_eq!(node.journal().len(), 0);
    }
}

#[test]
fn a_locked_statement_needs_a_fresh_snapshot() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("insert into log values ('a', 1)");
        c.ok("begin isolation level repeatable read; select count(*) from log");
        let answer = c.run("update log set n = n + 1");
        let failure = answer.failure().expect("an old snapshot");
        assert_eq!((failure.state.as_str(), answer.status()), ("0A000", 'E'), "{failure:?}");
        assert!(failure.hint.is_some(), "{failure:?}");
        c.ok("rollback");
        // The proxy has looked at names in the block, and by that taken its snapshot: it does not take the risk.
        assert_eq!(c.fails("begin isolation level repeatable read; update log set n = n + 1; commit").state, "0A000");
        c.ok("rollback");
        c.ok("set default_transaction_isolation = 'serializable'");
        c.ok("update log set n = n + 1"); // in a transaction of its own
        c.ok("reset default_transaction_isolation");
        c.ok("begin; select count(*) from log; update log set n = n + 1; commit");
        assert_eq!(node.lanes(), ["statement insert", "locked update", "locked update"]);
        node.assert_replays();
    });
}
