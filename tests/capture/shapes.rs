//! Statements of every shape that a row lane has to show: CTEs, cursors, MERGE, TRUNCATE, moving keys, tables without one.

use crate::common::Pg;
use crate::common::node::{Node, PUBLIC};
use crate::{TABLES, on_both};

#[test]
fn data_modifying_ctes() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let sql =
            "with moved as (delete from acc where id <= 3 returning *) insert into log select owner, id from moved";
        assert_eq!(c.ok(sql).tags(), ["INSERT 0 3"]);
        // the job queue
        let sql = "with job as (select id from acc order by id limit 1 for update skip locked), \
                   done as (delete from acc where id in (select id from job) returning id, owner) select * from done";
        let answer = c.ok(sql);
        assert_eq!((answer.rows().len(), answer.tags()), (1, vec!["SELECT 1".to_owned()]));
        let sql = "with a as (update acc set note = random()::text where id = 5 returning id, note), \
                   b as (insert into ev (what) select note from a returning id) select a.id, b.id from a, b";
        assert_eq!(c.ok(sql).rows().len(), 1);
        let sql = "with a as (\n  update acc set owner = owner\n  where id = 10\n  returning id -- its key\n), b as (insert into log (n) values (5) returning * /* all */ ) select a.id, b.n from a, b";
        assert_eq!(c.ok(sql).rows(), [[Some("10".to_owned()), Some("5".to_owned())]]);
        let sql = "with gone as (delete from acc where id = 6) select 1";
        assert_eq!(c.ok(sql).tags(), ["SELECT 1"]);
        let sql = "with seen as (insert into plain.seen values (77, 'x') returning id) update acc set note = random()::text where id in (select id - 70 from seen)";
        assert_eq!(c.ok(sql).tags(), ["UPDATE 1"]);
        c.ok("begin");
        let sql = "with gone as (delete from acc where id = 8 returning id, owner as who) insert into log (n, line) select id, who from gone returning n";
        assert_eq!(c.ok(sql).value(), "8");
        c.ok("commit");
        c.bound("with gone as (delete from acc where id = $1 returning id) insert into log (n) select id + $2::int from gone", &[Some("9"), Some("5")]);
        node.assert_replays();
    });
}

#[test]
fn plain_ctes_and_sub_selects() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("with s as (select sum(balance) as total from acc) update acc set balance = total from s where id = 1");
        c.ok("insert into log with x as (select owner, id from acc) select * from x where id < 4");
        c.ok("with recursive r(n) as (select 1 union all select n + 1 from r where n < 5) insert into acc (id, balance) select n + 50, n from r");
        c.ok("delete from acc using plain.seen s where acc.id = s.id and s.id > 3");
        c.ok("update acc set balance = (select max(balance) from acc) where id in (select id from acc order by balance limit 2)");
        c.ok("update acc a set balance = b.balance from acc b where a.id = 6 and b.id = 7");
        c.ok(
            "insert into acc (id, note) table plain.seen on conflict (id) do update set note = excluded.note || acc.id",
        );
        c.ok("update acc set (balance, note) = (select 5, 'multi') where id = 8");
        c.ok("update acc set (balance, note) = (6, 'row') where id = 9");
        node.assert_replays();
    });
}

#[test]
fn upserts() {
    let tables = format!(
        "{TABLES}; create table two (id int primary key, u int unique, n int default 0, w timestamptz default now())"
    );
    on_both(&tables, |node| {
        let mut c = node.client();
        for _ in 0..3 {
            c.ok("insert into acc (id, balance) values (1, 5) on conflict (id) do update set balance = acc.balance + excluded.balance");
            c.ok("insert into acc (id, balance) values (77, 5) on conflict (id) do update set balance = acc.balance + 1 where acc.balance < 7");
            c.ok("insert into acc (id, note) values (2, 'x') on conflict on constraint acc_pkey do update set note = now()::text");
            c.ok("insert into acc (id) values (1), (80), (81) on conflict do nothing");
            c.ok("insert into two (id, u) values (1, 1), (2, 2) on conflict (id) do update set n = two.n + 1");
            c.ok("insert into two (id, u) values (10, 2) on conflict (u) do update set n = two.n + 10");
            c.ok("insert into two as t (id, u) values (11, 2), (12, 12) on conflict do nothing");
            c.ok("insert into pair (a, b, v) values (1, 'b3', 9), (1, 'b99', 8) on conflict (b, a) do update set v = excluded.v, doc = null");
        }
        let entries = node.assert_replays();
        assert!(
            entries.iter().filter(|e| e.lane == "statement").all(|e| e.table == "acc"),
            "two unique keys, or several rows: never text"
        );
    });
}

#[test]
fn a_key_that_changes() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("update acc set id = 100 where id = 1");
        c.ok("update pair set a = a + 10, v = 0 where a = 1 and b = 'b3'");
        c.ok("begin; update acc set id = id + 1000 where balance > 500; commit");
        c.ok("update acc set id = id + 2000, note = 'moved' where balance > 800");
        c.ok("update acc set id = id where id = 4");
        node.assert_replays();
    });
}

#[test]
fn cursors() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("begin; declare w cursor for select * from acc order by id for update");
        c.ok("fetch 2 from w");
        assert_eq!(c.ok("update acc set note = 'current' where current of w").tags(), ["UPDATE 1"]);
        c.ok("fetch w; delete from acc where current of w");
        c.ok("fetch w");
        assert_eq!(c.ok("update acc set balance = -1 where current of w returning id").value(), "4");
        c.ok("commit");
        node.assert_replays();
    });
}

#[test]
fn truncate() {
    let tables = "create table a (id int primary key); create table b (id serial primary key, a int references a);
        create table c (id int primary key); create table d (id int primary key, c int references c);
        create table par (id int primary key) ; create table kid () inherits (par);
        create schema plain; create table plain.p (id int);
        insert into a values (1), (2); insert into b (a) values (1), (2); insert into c values (1); insert into d values (1, 1);
        insert into par values (1); insert into kid values (2); insert into plain.p values (1)";
    on_both(tables, |node| {
        let mut c = node.client();
        assert_eq!(c.fails("truncate a").state, "0A000"); // the server's own: b references it
        assert_eq!(c.ok("truncate a, b, plain.p").tags(), ["TRUNCATE TABLE"]);
        c.ok("insert into a values (3); insert into b (a) values (3)");
        c.ok("begin; truncate table only c cascade; insert into c values (7); commit");
        c.ok("truncate b restart identity; insert into b (a) values (3)");
        c.ok("truncate only par");
        c.ok("insert into par values (5); truncate a cascade");
        let entries = node.assert_replays();
        assert!(entries.iter().all(|entry| entry.table != "p"), "{entries:#?}");
        assert!(entries.iter().filter(|e| e.op == "truncate").all(|e| e.lane == "statement"));
    });
}

#[test]
fn merge() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let sql = "merge into acc using plain.seen s on acc.id = s.id + 8 \
                   when matched and s.id = 1 then delete when matched then update set note = s.v, balance = balance + 1 \
                   when not matched then insert (id, note) values (s.id + 8, s.v)";
        let answer = c.run(sql);
        match answer.failure() {
            None => assert_eq!(answer.tags(), ["MERGE 5"]),
            Some(failure) => assert_eq!(failure.state, "0A000", "{failure:?}"),
        }
        c.ok("begin");
        let moving = c.run(
            "merge into acc using (select 3 as id) s on acc.id = s.id when matched then update set note = now()::text",
        );
        match moving.failure() {
            None => drop(c.ok("commit")),
            Some(failure) => {
                assert_eq!((failure.state.as_str(), moving.status()), ("0A000", 'E'), "{failure:?}");
                c.ok("rollback");
            }
        }
        node.assert_replays();
    });
}

#[test]
fn merge_travels_as_rows_where_it_returns_them() {
    let node = Node::start(Pg::V18, TABLES, PUBLIC);
    let mut c = node.client();
    let sql = "merge into acc using plain.seen s on acc.id = s.id + 8 \
               when matched and s.id = 1 then delete when matched then update set note = now()::text || s.v, balance = balance + 1 \
               when not matched then insert (id, note) values (s.id + 8, random()::text)";
    assert_eq!(c.ok(sql).tags(), ["MERGE 5"]);
    let sql =
        "merge into acc using plain.seen s on acc.id = s.id when matched then delete returning merge_action(), acc.id";
    assert_eq!(c.ok(sql).rows().len(), 5);
    node.assert_replays();
}

#[test]
fn tables_without_a_key() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("insert into log values ('a', 1), ('a', 1), ('b', 2)");
        c.ok("insert into log select md5(random()::text), i from generate_series(3, 9) i");
        c.ok("update log set n = n + 1 where line = 'a'");
        c.ok("begin; delete from log where n > 6; update log set line = 'c' where n = 2; commit");
        let failure = c.fails("update log set line = random()::text");
        assert_eq!(failure.state, "0A000");
        let lanes = node.lanes();
        assert_eq!(lanes[2..], ["locked update", "locked delete", "locked update"]);
        node.assert_replays();
    });
}

#[test]
fn the_clock_and_chance_are_never_text() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        for set in [
            "note = now()::text",
            "note = current_timestamp::text",
            "note = current_date::text",
            "note = random()::text",
            "note = gen_random_uuid()::text",
            "balance = nextval('tok_n_seq')",
            "note = current_user",
            "note = clock_timestamp()::text",
            "note = (select 'x')",
            "balance = (select sum(balance) from acc)",
            "note = 'now'::timestamptz::text",
            "note = to_char(1, '9')",
            "note = txid_current()::text",
            "note = pg_backend_pid()::text",
            "note = inet_client_addr()::text",
            "note = current_setting('work_mem')",
            "note = 'today'::date::text",
            "note = localtimestamp::text",
            "note = session_user::text",
            "note = version()",
            "note = statement_timestamp()",
            "note = timeofday()",
            "note = format('%s', now())",
            "note = concat('a', now())",
            "note = (1.5::money)::text",
        ] {
            c.ok(&format!("update acc set {set} where id = 1"));
        }
        c.ok("insert into ev (at, what) values ('now', 'x')");
        c.ok("insert into ev (at, what) values ('2020-02-02', 'x')"); // means another moment in another time zone
        c.ok("insert into acc (id, note) select 500, 'x'");
        c.ok("update acc set balance = 1 where owner = 'owner 2'");
        c.ok("delete from acc where id > 9");
        let entries = node.assert_replays();
        for entry in &entries {
            assert_eq!(entry.lane, "row", "{entry:#?}");
        }
    });
}

#[test]
fn what_adds_up_stays_text() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        for sql in [
            "update acc set balance = balance + 1 where id = 1",
            "update acc set balance = balance * 2 + 1, note = upper(owner) where id = 2 and balance > 0",
            "update public.acc as a set balance = a.balance - 1 where a.id = 3",
            "update acc set note = owner || ' ' || note where 4 = id",
            "update acc set note = coalesce(note, 'none'), balance = case when balance > 5 then 1 else 2 end where id = 5",
            "update acc set balance = balance + 1 where id in (6, 7)",
            "delete from acc where id = 8",
            "insert into acc (id, owner) values (60, 'x')",
            "insert into acc values (61, 'x', 1, null), (62, 'y', 1 + 1, 'z')",
            "insert into acc (id, balance) values (1, 5) on conflict (id) do update set balance = acc.balance + excluded.balance",
            "update pair set v = v + 0.5 where a = 1 and b = 'b3'",
            "update acc set id = 63 where id = 9",
            "truncate log",
        ] {
            c.ok(sql);
        }
        let entries = node.assert_replays();
        assert_eq!(entries.len(), 13);
        for entry in &entries {
            assert_eq!(entry.lane, "statement", "{entry:#?}");
        }
    });
}
