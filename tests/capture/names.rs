//! Names: what a statement's table is, the server decides: search_path, temporary tables, quotes, other databases' habits.

use crate::common::Pg;
use crate::common::node::{Node, PUBLIC};
use crate::{TABLES, on_both};

#[test]
fn quoted_and_folded() {
    let tables = r#"create table "Odd ""Name" ("Key" int primary key, "sel ect" text, "ünï" text default now()::text);
                    create table "acc.dot" (id int primary key, v text); create table UPPER (ID int primary key, V text);
                    create table "select" ("from" int primary key, "where" text)"#;
    on_both(tables, |node| {
        let mut c = node.client();
        c.ok(r#"insert into "Odd ""Name" ("Key", "sel ect") values (1, 'x')"#);
        c.ok(r#"insert into public."Odd ""Name" values (2, 'x', 'y')"#);
        c.ok(r#"update "Odd ""Name" set "sel ect" = "ünï" || 'z' where "Key" = 2"#);
        c.ok(r#"update "Odd ""Name" as "A b" set "sel ect" = random()::text where "A b"."Key" = 1"#);
        c.ok(r#"insert into U&"\0061cc.dot" values (1, 'unicode name')"#);
        c.ok(r#"insert into "acc.dot" values (2, 'x'); update "acc.dot" set v = 'dot' where id = 2"#);
        c.ok("insert into Upper values (1, 'v'); UPDATE uPPer SET v = v || '!' WHERE iD = 1");
        c.ok(r#"insert into "select" values (1, 'a'); update "select" set "where" = 'b' where "from" = 1"#);
        c.ok(&format!("insert into {}.public.upper values (5, 'with the database')", node.database));
        assert_eq!(node.assert_replays().len(), 12);
    });
}

#[test]
fn a_name_asked_for_in_vain_is_asked_for_again() {
    use crate::common::msg::{bind, execute, parse, sync};
    let tables = "create table t (id int primary key, v text); create table u (id int primary key, v text)";
    on_both(tables, |node| {
        let mut c = node.client();
        let one = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
        // The server passes over the question, too.
        let answer = c.send(&[one("select 1 / 0"), one("insert into t values (1, 'a')"), sync()]);
        assert_eq!(answer.failure().expect("a division").state, "22012");
        c.ok("insert into t values (1, 'b')");
        // In a block that has failed it can find out nothing.
        c.ok("begin");
        c.fails("select 1 / 0");
        c.fails("insert into u values (1, 'a')");
        c.ok("rollback");
        c.ok("insert into u values (1, now()::text)");
        assert_eq!(node.assert_replays().len(), 2);
    });
}

#[test]
fn a_schema_that_must_not_be_looked_into() {
    let tables = "do $$ begin create role outsider login; exception when duplicate_object then null; end $$;
                  create table t (id int primary key); create schema secret; create table secret.t (id int primary key)";
    on_both(tables, |node| {
        let mut c = node.client_as("outsider");
        assert_eq!(c.fails("insert into secret.t values (1)").state, "42501");
        assert_eq!(c.try_bound("insert into secret.t values (1)", &[]).failure().expect("a failure").state, "42501");
        c.ok("begin");
        assert_eq!(c.fails("insert into secret.t values (1)").state, "42501");
        c.ok("rollback");
        assert_eq!(c.ok("select 1").value(), "1");
    });
}

#[test]
fn search_path_decides() {
    let tables = "create table t (id int primary key, v text); create schema other; create table other.t (id int primary key, v text);
                  create schema plain; create table plain.t (id int primary key, v text)";
    let rules = format!("{PUBLIC}[[table]]\nname = \"other.*\"\n");
    for pg in [Pg::V15, Pg::V18] {
        let node = Node::start(pg, tables, &rules);
        let mut c = node.client();
        let write = "insert into t values (1, 'a'); update t set v = now()::text where id = 1; update t set v = v || 'x' where id = 1";
        for path in ["public", "other, public", "plain, other", "nowhere, public, other"] {
            c.ok(&format!("set search_path = {path}"));
            let _ = c.run(write); // the last finds the first's row there and fails, which is fine
        }
        c.ok("begin; set local search_path = other; delete from t where id = 1; commit; delete from t where id = 1");
        c.ok("select set_config('search_path', 'plain', false)");
        c.run(write);
        c.ok("reset search_path");
        c.ok("create function path() returns void language sql set search_path = other as 'select 1'");
        c.ok("select path(); insert into t values (9, 'public')");
        c.ok("alter role postgres set search_path = public"); // not for this session
        let mut entries = node.assert_replays();
        entries.retain(|entry| entry.schema == "plain");
        assert_eq!(entries.len(), 0);
    }
}

#[test]
fn a_startup_parameter_sets_the_path() {
    use crate::common::{Client, msg};
    let tables = "create table t (id int primary key, v text); create schema plain; create table plain.t (id int primary key, v text)";
    on_both(tables, |node| {
        let mut client = Client::connect(&node.proxy.tcp());
        let params = [("user", "postgres"), ("database", node.database.as_str()), ("options", "-c search_path=plain")];
        client.send(&msg::startup(msg::version(3, 0), &params));
        client.until_ready();
        client.rows("insert into t values (1, 'plain')");
        client.rows("insert into public.t values (2, 'public')");
        assert_eq!(node.assert_replays().len(), 1);
    });
}

#[test]
fn temporary_tables_shadow() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("create temp table acc (id int primary key, owner text, balance int, note text)");
        c.ok("insert into acc values (1, 'temp', 0, 'x'); update acc set note = now()::text where id = 1");
        c.ok("insert into public.acc (id) values (50)");
        c.ok("delete from acc where id = 1");
        assert_eq!(node.lanes(), ["statement insert"]);
        c.ok("drop table acc; update acc set note = 'public' where id = 50");
        c.ok("begin; create temp table acc on commit drop as select 1 as id; update acc set id = 2; commit");
        c.ok("update acc set note = 'public again' where id = 50");
        c.ok("begin; create temp table acc (id int); rollback; update acc set note = 'and again' where id = 50");
        c.ok(
            "create temp table acc (id int, note text); discard temp; update acc set note = 'once more' where id = 50",
        );
        c.ok("set search_path = public, pg_temp; create temp table acc (id int, note text); update acc set note = 'first' where id = 50");
        assert_eq!(
            node.lanes(),
            vec![
                "statement insert",
                "statement update",
                "statement update",
                "statement update",
                "statement update",
                "statement update"
            ]
        );
        node.assert_replays();
    });
}

#[test]
fn a_table_renamed_and_another_in_its_place() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let mut other = node.client();
        other.ok("update acc set balance = 1 where id = 1");
        c.ok("update acc set balance = 1 where id = 2");
        // through the proxy, by another session
        other.ok(
            "create table plain.acc (id int primary key, balance int, note text); insert into plain.acc values (1)",
        );
        other.ok("set search_path = plain");
        other.ok("update acc set balance = 2 where id = 1");
        other.ok("update public.acc set balance = 3 where id = 1");
        c.ok("update acc set balance = 4 where id = 2");
        assert_eq!(node.assert_replays().len(), 4);
    });
}

#[test]
fn a_table_made_anew_past_the_proxy() {
    on_both(TABLES, |node| {
        let anew = "create table anew (id int primary key, v text)";
        node.client().ok(&format!("{anew}; insert into anew values (1, 'a')"));
        node.sql(&format!("drop table anew; {anew}; create schema away; create table away.anew ()"));
        // Nobody has looked since.
        let mut c = node.client();
        c.ok("insert into anew values (2, 'b')");
        c.ok("insert into away.anew default values");
        c.ok("update anew set v = now()::text");
        let transactions = node.sql("select count(distinct xid) from pgcanon.journal");
        assert_eq!(transactions, "3", "the table with its first row, another row, a change");
    });
}

#[test]
fn another_encoding() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("set client_encoding = 'LATIN1'");
        let answer = c.run(b"update acc set note = 'gr\xfc\xdfe' where id = 1");
        assert_eq!(answer.tags(), ["UPDATE 1"]);
        let answer = c.run(b"update acc set note = 'gr\xfc\xdfe' || now()::text where id = 2");
        assert_eq!(answer.tags(), ["UPDATE 1"]);
        assert_eq!(c.copy("copy log from stdin", &[b"gr\xfc\xdfe\t1\n"]).tags(), ["COPY 1"]);
        c.ok("set client_encoding = 'UTF8'");
        assert_eq!(c.ok("select note from acc where id = 1").value(), "grüße");
        node.assert_replays();
    });
}

#[test]
fn temporary_relations_that_lead_to_replicated_tables() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("create temp view own as select * from acc; create temp view over as select * from own");
        c.ok("create temp table tmp (a int); create rule also as on insert to tmp do also insert into log (n) values (new.a)");
        c.ok("create function note() returns trigger language plpgsql as \
              $$ begin insert into public.log (n) values (1); return null; end $$");
        c.ok("create temp table fires (a int); \
              create trigger note after insert on fires for each row execute function note()");
        for sql in [
            "insert into own (id) values (900)",
            "update over set note = 'x' where id = 1",
            "delete from own where id = 1",
            "insert into tmp values (5)",
            "insert into fires values (5)",
            "copy fires from stdin",
        ] {
            let failure = c.fails(sql);
            assert_eq!((failure.state.as_str(), failure.hint.is_some()), ("0A000", true), "{sql}: {failure:?}");
            let failure = c.try_bound(sql, &[]).failure().expect("refused");
            assert_eq!(failure.state, "0A000", "{sql}: {failure:?}");
        }
        // What is temporary alone is nobody's concern.
        c.ok("create temp table plain (a int primary key, b int references plain); create temp view seen as select * from acc");
        c.ok("insert into plain values (1, 1); delete from plain where a = (select min(id) from seen)");
        assert_eq!(c.ok("select count(*) from over").value(), "10");
        assert_eq!(node.journal().len(), 0);
    });
}

#[test]
fn a_name_that_cannot_be_asked_for_fails_what_names_it_and_nothing_else() {
    use crate::common::msg::{bind, execute, parse, sync};
    on_both("create table t (id int primary key, v text)", |node| {
        let mut holder = node.direct();
        let one = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
        for way in ["simple", "several", "parts", "block", "extended", "pipelined", "prepared", "prepared in a block"] {
            let mut c = node.client(); // that has asked for no name yet
            c.ok("set lock_timeout = '50ms'");
            c.send(&[parse("s", "insert into t values (1, random()::text)", &[]), sync()]);
            if way.contains("block") {
                c.ok("begin");
            }
            holder.ok("begin; lock table pg_catalog.pg_class in access exclusive mode");
            let insert = "insert into t values (1, random()::text)";
            let answer = match way {
                "several" => c.run(format!("select 1; {insert}; select 2")),
                "parts" => c.run(format!("begin; {insert}; commit")),
                "extended" => c.send(&[one(insert), sync()]),
                "pipelined" => c.send(&[one(insert), one("select 2"), sync()]),
                "prepared" | "prepared in a block" => c.send(&[bind("", "s", &[]), execute("", 0), sync()]),
                _ => c.run(insert),
            };
            holder.ok("rollback");
            assert_eq!(answer.failure().map(|f| f.state).as_deref(), Some("55P03"), "{way}: {answer:?}");
            assert_eq!(answer.shape().matches(['E', 'C']).count(), answer.tags().len() + 1, "{way}: {answer:?}");
            assert_eq!(answer.status(), if way.contains("block") { 'E' } else { 'I' }, "{way}");
            c.run("rollback");
            assert_eq!(c.ok("select count(*) from t").value(), "0", "{way}");
            c.ok(insert);
            assert_eq!(c.ok("delete from t").tags(), ["DELETE 1"], "{way}");
        }
        node.assert_replays();
    });
}
