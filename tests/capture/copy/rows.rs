//! COPY that its stream alone does not tell the rows of: by way of a temporary table, and the client sees none of it.

use super::tables;
use crate::common::Pg;
use crate::common::msg::{bind, copy_data, copy_done, copy_fail, describe, execute, parse, query, sync};
use crate::common::node::{Node, PUBLIC};
use crate::common::session::Session;
use crate::on_both;

/// Nothing of ours may be there for the client to find.
fn assert_no_trace(c: &mut Session) {
    assert_eq!(c.ok("select count(*) from pg_class where relname like '%pgcanon_copy%'").value(), "0");
    assert_eq!(c.ok("select count(*) from pg_prepared_statements").value(), "0");
}

#[test]
fn defaults_of_the_moment_in_every_format() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        assert_eq!(c.copy("copy d (id) from stdin", &[b"1\n2\n"]).shape(), "CZ");
        assert_eq!(c.copy("copy ev (what) from stdin", &[b"a\n", b"b\\tc\n\\N\n"]).tags(), ["COPY 3"]);
        let csv = b"what;at\n\"x;\n\";2020-02-02\n;\"\"\n";
        let sql = "copy public.ev (what, at) from stdin with (format csv, header, delimiter ';', force_null (at), freeze off)";
        assert_eq!(c.copy(sql, &[csv]).failure().expect("at is not null").state, "23502");
        assert_eq!(c.copy("copy ev (what) from stdin csv quote '''';", &[b"'q,r'\n"]).tags(), ["COPY 1"]);
        assert_eq!(c.copy("copy tok (r) from stdin -- at the end", &[b"0.5\n1.5\n\\.\n"]).tags(), ["COPY 2"]);
        // an identity that is always one can be copied into all the same
        assert_eq!(c.copy("copy ev (id, what) from stdin", &[b"1000\tgiven\n"]).tags(), ["COPY 1"]);
        let mut binary = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        binary.extend([0, 1, 0, 0, 0, 3, b'b', b'i', b'n', 0xff, 0xff]);
        assert_eq!(c.copy("copy binary ev (what) from stdin", &[&binary]).tags(), ["COPY 1"]);
        assert_eq!(c.copy("copy ev (what) from stdin", &[]).tags(), ["COPY 0"]);
        assert_no_trace(&mut c);
        let entries = node.assert_replays();
        assert!(entries.iter().all(|e| e.lane == "row" && e.op == "insert"), "{entries:#?}");
        assert_eq!(entries.len(), 6);
    });
}

#[test]
fn rows_keep_the_order_of_the_data() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        // Rows of all sizes: those that a page had room for must not overtake.
        let data: String = (0..20_000).map(|n| format!("{n:05}{}\n", "x".repeat((n * 7919) % 3000))).collect();
        let pieces: Vec<&[u8]> = data.as_bytes().chunks(60_000).collect();
        assert_eq!(c.copy("copy ev (what) from stdin", &pieces).tags(), ["COPY 20000"]);
        let wrong = "select count(*) from ev where left(what, 5)::int + 1 <> id";
        assert_eq!(c.ok(wrong).value(), "0");
        let entries = node.assert_replays();
        assert!(entries.len() > 20, "parts, not one: {}", entries.len());
    });
}

#[test]
fn in_blocks_and_after_savepoints() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        c.ok("begin isolation level repeatable read; update acc set balance = 1 where id = 1");
        assert_eq!(c.copy("copy ev (what) from stdin", &[b"a\nb\n"]).status(), 'T');
        assert_no_trace(&mut c);
        assert_eq!(c.copy("copy d (id) from stdin", &[b"1\n"]).tags(), ["COPY 1"]);
        c.ok("savepoint s");
        assert_eq!(c.copy("copy ev (what) from stdin", &[b"gone\n"]).tags(), ["COPY 1"]);
        c.ok("rollback to s");
        assert_eq!(c.copy("copy d (id) from stdin", &[b"1\n"]).failure().expect("a duplicate").state, "23505");
        c.ok("rollback to s");
        assert_eq!(c.copy("copy ev (what) from stdin", &[b"c\n"]).tags(), ["COPY 1"]);
        c.ok("update ev set what = 'd' where what = 'c'; commit");
        c.ok("begin");
        c.copy("copy ev (what) from stdin", &[b"not\n"]);
        c.ok("rollback");
        assert_no_trace(&mut c);
        node.assert_replays();
    });
}

#[test]
fn several_in_one_query() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        // Of the five, the first is of no rule, and two travel as they are.
        let sql = "copy plain.seen from stdin; copy ev (what) from stdin; copy c (id) from stdin; \
                   insert into log values ('between', 1); copy d (id) from stdin; copy c (id) from stdin";
        let all = ["100\tnone of ours\n", "a\nb\n", "1\n", "7\n8\n", "2\n3\n"];
        let tags = ["COPY 1", "COPY 2", "COPY 1", "INSERT 0 1", "COPY 2", "COPY 2"];
        c.client.send(&query(sql));
        for data in &all[..4] {
            c.client.until(b'G');
            c.client.send(&[copy_data(data), copy_done()].concat());
        }
        c.client.until(b'G');
        let last = c.send(&[copy_data(all[4]), copy_done()]);
        assert_eq!(last.tags(), ["COPY 2"]);
        node.assert_replays();
        // And with all the data sent before any of it is asked for.
        c.ok("truncate c, d; delete from plain.seen where id = 100");
        let mut messages = vec![query(sql)];
        messages.extend(all.iter().flat_map(|data| [copy_data(data), copy_done()]));
        assert_eq!(c.send(&messages).tags(), tags);
        assert_eq!(c.ok("select count(*) from c").value(), "3");
        node.assert_replays();
        // A later one fails: none of it was.
        c.ok("truncate c, d");
        let messages = [query("copy ev (what) from stdin; copy c (id) from stdin"), copy_data("x\n"), copy_done()];
        let answer = c.send(&[&messages[..], &[copy_data("1\n1\n"), copy_done()]].concat());
        assert_eq!(answer.failure().expect("a duplicate").state, "23505");
        assert_eq!(c.ok("select count(*) from ev where what = 'x'").value(), "0");
        node.assert_replays();
    });
}

#[test]
fn by_the_extended_protocol() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        let mut direct = node.direct();
        // Message by message what the server itself would answer.
        let mut answers = Vec::new();
        for c in [&mut c, &mut direct] {
            let begun = [parse("p", "copy ev (what, at) from stdin", &[]), describe(b'S', "p"), bind("", "p", &[])];
            c.client.send(&[begun.concat(), describe(b'P', ""), execute("", 0), sync()].concat());
            let mut frames = c.client.until(b'G');
            frames.extend(c.send(&[copy_data("a\t2020-02-02\n"), copy_fail("no"), sync()]).frames);
            answers.push(frames);
        }
        assert_eq!(answers[0], answers[1]);
        // The statement again, in a block, twice in one pipeline.
        c.ok("begin");
        let run = |data: &str| [bind("", "p", &[]), execute("", 0), copy_data(data), copy_done()].concat();
        let answer = c.send(&[run("a\t2020-02-02\n"), run("b\t2020-02-03\nc\t2020-02-03\n"), sync()]);
        assert_eq!(answer.tags(), ["COPY 1", "COPY 2"]);
        assert_eq!(answer.shape(), "2GC2GCZ");
        assert_eq!(answer.status(), 'T');
        c.ok("commit");
        // Alone, and with other statements in one implicit transaction.
        let other = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
        let answer = c.send(&[
            other("insert into log values ('before', 1)"),
            parse("", "copy d (id) from stdin", &[]),
            [bind("", "", &[]), execute("", 0), copy_data("1\n2\n"), copy_done()].concat(),
            other("update d set at = now() where id = 2"),
            sync(),
        ]);
        assert_eq!(answer.tags(), ["INSERT 0 1", "COPY 2", "UPDATE 1"]);
        // The INSERT fails behind the data: the pipeline ends there.
        let answer = c.send(&[
            parse("", "copy d (id) from stdin", &[]),
            [bind("", "", &[]), execute("", 0), copy_data("3\n1\n"), copy_done()].concat(),
            other("insert into log values ('behind', 2)"),
            sync(),
        ]);
        assert_eq!(answer.failure().expect("a duplicate").state, "23505");
        assert_eq!((answer.tags(), answer.status()), (vec![], 'I'));
        assert_eq!(c.copy("copy d (id) from stdin", &[b"3\n"]).tags(), ["COPY 1"]);
        c.ok("deallocate all");
        assert_no_trace(&mut c);
        node.assert_replays();
    });
}

#[test]
fn what_fails_fails_as_on_the_server() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        let mut direct = node.direct();
        for (sql, data) in [
            ("copy ev (what, at) from stdin", "a\t2020-01-01\nb\tno date\n"),
            ("copy ev (what) from stdin", "a\tb\n"),
            ("copy ev (what, at) from stdin (format csv, header match)", "what,when\n"),
            ("copy public.tok (r, n) from stdin", "1\t1\n1\t\n"),
            ("copy ev (what) from stdin where (select true)", ""),
            ("copy ev (what) from stdin where true union select 1", ""),
            ("copy ev (what) from stdin where what > random()", "a\n"),
            ("copy ev (what, what) from stdin", ""),
            ("copy ev (what, nope) from stdin", ""),
            ("copy ev (what) from stdin (delimiter 'xx')", ""),
        ] {
            let fails = |c: &mut Session| c.copy(sql, &[data.as_bytes()]).frames;
            let [ours, theirs] = [fails(&mut c), fails(&mut direct)];
            let fields = |code: u8| [ours[0].field(code), theirs[0].field(code)];
            assert_eq!(fields(b'C')[0], fields(b'C')[1], "{sql}: {ours:?}");
            if data.contains('\n') && !sql.contains("random") {
                for code in [b'M', b'W'] {
                    assert_eq!(fields(code)[0], fields(code)[1], "{sql}: {ours:?}");
                }
            }
            assert_eq!(ours.last(), theirs.last(), "{sql}");
        }
        c.client.send(&query("copy ev (what) from stdin"));
        c.client.until(b'G');
        let answer = c.send(&[copy_data("a\n"), copy_fail("changed my mind")]);
        assert_eq!(answer.failure().expect("failed by the client").state, "57014");
        // In a block it is the block that has failed.
        c.ok("begin; insert into log values ('x', 1)");
        assert_eq!(c.copy("copy ev (what, at) from stdin", &[b"x\tx\n"]).status(), 'E');
        assert_eq!(c.ok("commit").tags(), ["ROLLBACK"]);
        assert_no_trace(&mut c);
        assert_eq!(node.assert_replays().len(), 0);
    });
}

#[test]
fn a_client_that_goes_away_leaves_nothing() {
    on_both(&tables(), |node| {
        for reset in [true, false] {
            let mut gone = node.client();
            gone.client.send(&query("copy d (id) from stdin"));
            gone.client.until(b'G');
            gone.client.send(&copy_data("1\n"));
            match reset {
                true => gone.client.reset(),
                false => gone.client.finish_writing(),
            }
        }
        // It would wait for them, if they were still there.
        let mut c = node.client();
        c.ok("set lock_timeout = '20s'; truncate d");
        assert_eq!(c.copy("copy d (id) from stdin", &[b"1\n"]).tags(), ["COPY 1"]);
        node.assert_replays();
    });
}

#[test]
fn triggers_rules_and_types_that_hang_on_the_node() {
    let more = "create type pair2 as (a int, b text);
        create table tr (id int primary key, v text, n serial);
        create function shout() returns trigger language plpgsql as $$ begin
            if new.v = 'no' then return null; end if; new.v := upper(new.v); return new; end $$;
        create trigger shout before insert on tr for each row execute function shout();
        create table odd (id int primary key, price money, kind regclass, p pair2, g int generated always as (id * 2) stored);
        create table up (id int primary key, v text);
        create table part (id int primary key, at timestamptz default clock_timestamp()) partition by range (id);
        create table part1 partition of part for values from (0) to (10);
        create table part2 partition of part for values from (10) to (20);
        create table ruled (id int primary key, at timestamptz default now());
        create rule away as on insert to ruled do instead nothing";
    on_both(&format!("{};{more}", tables()), |node| {
        let mut c = node.client();
        assert_eq!(c.copy("copy tr (id, v) from stdin", &[b"1\ta\n2\tno\n3\tb\n"]).tags(), ["COPY 2"]);
        let text = b"1\t$1.50\tacc\t(1,x)\n2\t\\N\tpg_class\t(,now)\n";
        assert_eq!(c.copy("copy odd from stdin", &[text]).tags(), ["COPY 2"]);
        assert_eq!(
            c.copy("copy up from stdin where up.id > 1 and random() >= 0", &[b"1\ta\n2\tb\n3\tc\n"]).tags(),
            ["COPY 2"]
        );
        assert_eq!(c.copy("copy part (id) from stdin", &[b"1\n11\n"]).tags(), ["COPY 2"]);
        assert_eq!(c.copy("copy part2 (id) from stdin", &[b"12\n"]).tags(), ["COPY 1"]);
        assert_eq!(c.copy("copy part1 (id) from stdin", &[b"13\n"]).failure().expect("no room").state, "23514");
        let mut binary = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        binary.extend([0, 2, 0, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0, 4, 0, 0, 4, 0xeb, 0xff, 0xff]); // regclass 1259
        assert_eq!(c.copy("copy odd (id, kind) from stdin (format binary)", &[&binary]).tags(), ["COPY 1"]);
        let refused = [
            ("copy ruled (id) from stdin", "CREATE RULE"),
            ("copy d (id) from stdin where at > '2020-01-01' and random() > 0", "\"at\""),
            ("copy d from '/tmp/x'", "a file or a program"),
            ("copy d from program 'true'", "a file or a program"),
        ];
        for (sql, word) in refused {
            let failure = c.fails(sql);
            assert_eq!(failure.state, "0A000", "{sql}");
            assert!(failure.detail.expect("a detail").contains(word), "{sql}");
        }
        let entries = node.assert_replays();
        assert!(entries.iter().all(|e| e.lane == "row"), "{entries:#?}");
    });
}

#[test]
fn rules_that_filter_rows_or_leave_columns_out() {
    let tables = "create table f (id int primary key, v text, n int);
                  create table g (id int primary key, v text, secret text)";
    let rules =
        "[[table]]\nname = \"public.f\"\nwhere = \"n > 10\"\n\n[[table]]\nname = \"public.g\"\ncolumns = [\"v\"]\n";
    for pg in [Pg::V15, Pg::V18] {
        let node = Node::start(pg, tables, rules);
        let mut c = node.client();
        assert_eq!(c.copy("copy f from stdin", &[b"1\ta\t5\n2\tb\t50\n3\tc\t\\N\n4\td\t11\n"]).tags(), ["COPY 4"]);
        assert_eq!(c.copy("copy g from stdin", &[b"1\ta\thidden\n"]).tags(), ["COPY 1"]);
        let entries = node.journal();
        let (f, g): (Vec<_>, Vec<_>) = entries.iter().cloned().partition(|e| e.table == "f");
        assert!(g.iter().all(|e| e.columns.iter().all(|c| c.name != "secret")), "{g:#?}");
        c.ok("update g set secret = null");
        node.assert_makes(&[f, g].concat(), &[("public.f", "n > 10")]);
    }
}

#[test]
fn roles_need_what_returning_needs() {
    let node = Node::start(Pg::V15, &tables(), PUBLIC);
    let role = format!("copier_{}", node.database);
    node.sql(&format!("create role {role} login; grant insert on d, c to {role}"));
    let failure = node.client_as(&role).copy("copy d (id) from stdin", &[]).failure().expect("no SELECT");
    assert_eq!(failure.state, "0A000");
    assert!(failure.hint.expect("a hint").contains("GRANT SELECT ON"), "the GRANT to make");
    node.sql(&format!("grant select on d to {role}"));
    assert_eq!(node.client_as(&role).copy("copy d (id) from stdin", &[b"1\n"]).tags(), ["COPY 1"]);
    node.sql(&format!("revoke temporary on database {} from public", node.database));
    let mut c = node.client_as(&role);
    let failure = c.copy("copy d (id) from stdin", &[]).failure().expect("no TEMPORARY");
    assert_eq!(failure.state, "42501");
    assert_eq!(c.copy("copy c (id) from stdin", &[b"1\n"]).tags(), ["COPY 1"]);
    assert_eq!(node.assert_replays().len(), 2);
}

#[test]
fn whatever_the_session_is_set_to() {
    on_both(&tables(), |node| {
        let mut c = node.client();
        c.ok("create schema trap; create table trap.pgcanon_copy (what text); create type trap.text as (x int);
              create function trap.record_send(record) returns bytea language plpgsql as 'begin return null; end';
              set search_path = trap, public, pg_catalog; set client_encoding = latin1; set datestyle = german");
        assert_eq!(c.copy("copy ev (what, at) from stdin", &[b"\xe4\t3.2.2020\n"]).tags(), ["COPY 1"]);
        c.ok("create table \"\u{c3}\u{a4} \"\"b\" (id serial primary key, \"S\u{c3}\u{a4}\" text)");
        c.ok("set search_path = public; set client_encoding = utf8");
        assert_eq!(c.ok("select what from ev").value(), "\u{e4}");
        // Several nodes may have no such words: read by the server here, whatever they are.
        c.ok("set client_encoding = sjis");
        assert_eq!(c.copy("copy c (id, a, at) from stdin", &[b"1\t\x83\x5c\\n\ttoday\n"]).tags(), ["COPY 1"]);
        c.ok("set client_encoding = utf8; drop table trap.pgcanon_copy; drop schema trap cascade");
        assert_eq!(c.ok("select a, at = current_date from c").rows()[0][1].as_deref(), Some("t"));
        let entries = node.journal();
        assert!(entries.iter().all(|e| e.lane == "row"), "{entries:#?}");
        node.assert_makes(&entries, &[]);
    });
}
