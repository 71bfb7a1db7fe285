//! Writes to replicated tables: what the client sees is what the server alone would have shown, byte for byte.
//!
//! Not compared, since capture makes them different on purpose: the text that `current_query()` and `pg_stat_activity` show of
//! a captured statement, and how far the transaction and WAL counters go.

use crate::common::msg::{
    bind, bind_formats, close, copy_data, copy_done, describe, execute, flush, parse, query, sync,
};
use crate::common::oracle::{Conversation, same_captured, states, tags};

const TABLES: &str = "create table t (id int primary key, a int default 0, b text); \
    insert into t select i, i, 'b' || i from generate_series(1, 9) i; \
    create table s (id serial primary key, r int, at timestamptz default now()); create table k (v text, n int check (n < 100))";

fn ready(c: &mut Conversation) {
    c.login();
    c.query(TABLES);
}

#[test]
fn tags_and_rows() {
    same_captured(|c| {
        ready(c);
        for sql in [
            "update t set a = a + 1 where id = 1",
            "update t set a = a + 1 where id = 99",
            "update t set a = a + 1 where id in (1, 2, 99)",
            "update t set b = md5(b) || (select 'x') where id < 5 returning id, b, a as \"A\"",
            "update t set a = (select max(a) from t) returning *",
            "delete from t where id = 3 returning t.*",
            "delete from t where a = -1",
            "insert into t values (20, 1, 'x')",
            "insert into t (id) values (21), (22) returning id, a",
            "insert into t select 30 + i from generate_series(1, 3) i returning 1, 'x'::text, null",
            "insert into t values (1, 5, 'up') on conflict (id) do update set a = excluded.a returning a, xmax <> 0",
            "insert into t values (1, 5, 'up') on conflict do nothing returning a",
            "with z as (delete from t where id = 20 returning *) select * from z",
            "with z as (delete from t where id = 21 returning id) insert into k select 'moved', id from z",
            "with z as (select 1) update t set a = 1 where id = 2 returning a",
            "update t set a = 7 where id = 4; select a from t where id = 4; update t set a = 8 where id = 4 returning a; ; select 1",
            "truncate k",
            "select sum(a), count(*), sum(length(b)) from t",
        ] {
            c.query(sql);
        }
    });
}

#[test]
fn sequences_are_the_clients_own() {
    same_captured(|c| {
        ready(c);
        c.query("select lastval()");
        c.query("insert into s (r) values (1)");
        c.query("select lastval(), currval('s_id_seq')");
        c.query("insert into s (r) values (2), (3) returning id");
        c.query("begin; insert into s (r) values (4); select lastval(); rollback; insert into s (r) values (5); select lastval()");
        c.query("insert into t (id) values (100); select lastval()");
        c.query("select id, r from s order by id");
    });
}

#[test]
fn errors_and_their_positions() {
    same_captured(|c| {
        ready(c);
        for sql in [
            "update t set nope = 1 where id = 1",
            "update t set a = 'x' where id = 1",
            "update t set a = 1 where nope = 1",
            "update t set b = now() || nope where id = 1",
            "update nope set a = 1",
            "update t set a = 1 where id = 1 returning nope",
            "update t set a = (select 1, 2)",
            "insert into t values (1, 1, 'dup')",
            "insert into t values (100, 1, 'x', 4)",
            "insert into t (id, id) values (1, 1)",
            "insert into t select 1, 2, random(), 4",
            "insert into k values ('x', 100)",
            "insert into t (id) values (null)",
            "delete from t where id = 1 / 0",
            "delete from t where random() > 'x'",
            "with z as (delete from t where nope returning *) select 1",
            "update t set a = 1 wher id = 1",
            "update t set",
            "insert into t values (50) returning",
            "update t set b = 'unterminated where id = 1",
            "insert into t values (51); update t set a = nope; select 1",
            "update t set b = random()::text, a = 1/(id-1) where id = 1",
            "update t as x set t.a = 1",
            "update t set a = sum(a)",
            "update t set b = 'größe' || nope where id = 1 returning 'ß'",
            "/* ünï */ update t set b = random()::text || 'é' where nöpe = 1",
            "insert into t values (200, 1, 'é'), (201, nope, 'ß')",
            "insert into t values (50) returning /* é */ a, nope, b",
            "insert into t values (50), (1) returning id, a",
            "update t set b = (select md5(b)) where id = 1 and",
            "update t set a = 1 where id = 1 and",
            "update t set a = 1 where id = 1 returning",
            "update t set a = 1 where id = 1 returning a,",
            "delete from t where id = (1",
            "delete from t where id = 1)",
            "insert into t select 70, 1, 'é' from",
            "update t set a = 1 where id = 1; select 'é' + 1; update t set b = random()::text where nope",
            "select 'é'; update t set b = random()::text where nope",
            "update t set a = 2 where id = 1; update t set",
            "/* é */ set local work_mem = '1MB'; update t set b = (select nope) where id = 1",
        ] {
            c.query(sql);
            c.pipeline(&[parse("", sql, &[]), bind("", "", &[]), describe(b'P', ""), execute("", 0), sync()]);
            c.ready();
            c.query("begin");
            c.query(sql);
            c.query("rollback");
            c.query(format!("begin; /* é */ {sql}"));
            c.query("rollback");
        }
        c.query("select count(*) from t");
    });
}

#[test]
fn texts_that_differ_in_their_constants() {
    same_captured(|c| {
        ready(c);
        c.query(
            "create table n (id int primary key, s smallint, b bigint, d numeric(6,2), f float8, v varchar(5), c char(3), \
             x text, j jsonb, check (id < 1000))",
        );
        let texts: [fn(u32) -> String; 28] = [
            |n| format!("insert into n values ({n}, -{n}, 3000000000, 1.505, 2.5, 'it''s', 'ab', '', '{{}}')"),
            |n| format!("insert into n (id, s, x, c) values ({n}0, {n}, 'b{n}', 'x')"),
            |n| format!("insert into n (id) values ({})", 2 - n % 2),
            |n| format!("insert into n (id) values (100{n})"),
            |n| format!("insert into n (id, v) values (50{n}, 'too long {n}')"),
            |n| format!("insert into n (id, s) values (60{n}, 4000{n})"),
            |n| format!("insert into n (id, x, d) values (70{n}, {n}, {n}.5)"),
            |n| {
                format!(
                    "insert into n (id, x) values ({n}, 'up') on conflict (id) do update set x = excluded.x || {n}, s = 5"
                )
            },
            |n| format!("update n set d = 9999.99 + {n} where id = {n}"),
            |n| format!("update n set s = s / 0 where id = {n}"),
            |n| format!("update n set x = x || '{n}' where id = {n}"),
            |n| format!("update n set v = 'a', x = 'b{n}' where v = 'it''s' and c = 'ab'"),
            |n| format!("update n set s = s * 30000 + 30000 where id = {n}"),
            |n| format!("update n set b = -9223372036854775807 - {n} where id = {n}"),
            |n| format!("update n set s = -3276{} where id = {n}", 7 + n % 2),
            |n| format!("update n set f = 'x{n}' where id = {n}"),
            |n| format!("update n set nope = {n}"),
            |n| format!("update n set s = ({n} * 1.5)::int, x = (now() is null)::text where id = {n}"),
            |n| format!("update n set b = length(repeat('a', {n})) where id = {n}"),
            |n| format!("update n set b = mod({n}, 3) + pg_typeof({n})::oid::int where id = {n}"),
            |n| format!("update n set s = 99999::smallint where id = {n}"),
            |n| format!("update n set b = -2147483648 - {n} where id = {n}"),
            |n| format!("delete from n where id between {n} and {n} + 2 and s = any (array[{n}, 3])"),
            |n| format!("update n set x = to_char({n}, 9) where no_function({n}) is null"),
            |n| format!("/* é */ delete from n where id = {n}00 and nope = 1"),
            |n| format!("/* é */ delete from n where id = {n}0000 and x = {n}"),
            |n| format!("delete from n where id in ({n}, {n}00) or id = {n}0;"),
            |n| format!("delete from n where s = {n} and not (x = 'b' or id > {n})"),
        ];
        for n in 1..5 {
            for text in texts {
                c.query(text(n));
                c.query("begin");
                c.query(text(n + 4));
                c.query(text(n));
                c.query(if n == 3 { "rollback" } else { "commit" });
            }
        }
        c.query("select * from n order by id");
    });
}

#[test]
fn describe_and_formats() {
    same_captured(|c| {
        ready(c);
        for sql in [
            "update t set a = $1 where id = $2",
            "update t set b = $1 || now()::text || (select '') where id = 1",
            "insert into s (r) values ($1) returning id, r",
            "insert into t (id, a, b) values ($1, $2, $3)",
            "delete from t where id = $1 and a = (select $2::int) returning *",
            "with z as (update t set a = $1 where id = 2 returning id, a) select a, id from z",
        ] {
            c.pipeline(&[parse("d", sql, &[]), describe(b'S', "d"), sync()]);
            c.ready();
            c.pipeline(&[close(b'S', "d"), sync()]);
            c.ready();
        }
        let returning = "insert into s (r) values ($1) returning id, r";
        for formats in [&[][..], &[0], &[1], &[0, 1], &[1, 0], &[1, 1, 1]] {
            c.pipeline(&[
                parse("", returning, &[]),
                bind_formats("p", "", &[], &[Some(b"5")], formats),
                describe(b'P', "p"),
                execute("p", 0),
                sync(),
            ]);
            c.ready();
        }
        c.pipeline(&[
            parse("", "update t set a = $1 where id = $2", &[23, 23]),
            bind_formats("", "", &[1, 0], &[Some(&[0, 0, 0, 9]), Some(b"1")], &[1]),
            execute("", 0),
            sync(),
        ]);
        c.ready();
        c.pipeline(&[
            parse("", "update t set a = $1, b = random()::text where id = $2", &[]),
            bind("", "", &[Some(b"1")]),
            execute("", 0),
            sync(),
        ]);
        assert_eq!(states(&c.ready()), ["08P01"]);
    });
}

#[test]
fn row_limits_and_portals() {
    same_captured(|c| {
        ready(c);
        let rows = "update t set b = left(b, 1) || (select 'x') where id <= 5 returning id";
        for block in [false, true] {
            for limits in [&[1][..], &[2, 2, 2], &[5, 5], &[0, 1], &[7], &[2]] {
                if block {
                    c.query("begin");
                }
                let mut messages = vec![parse("", rows, &[]), bind("p", "", &[]), describe(b'P', "p")];
                messages.extend(limits.iter().map(|limit| execute("p", *limit)));
                messages.push(sync());
                c.pipeline(&messages);
                c.ready();
                if block {
                    c.query("commit");
                }
            }
        }
        for sql in [
            "update t set a = 1 where id = 1",
            "insert into s (r) select 1 from generate_series(1, 4)",
            "delete from t where id = 99",
        ] {
            for limit in [0, 1] {
                c.pipeline(&[
                    parse("", sql, &[]),
                    bind("", "", &[]),
                    describe(b'P', ""),
                    execute("", limit),
                    describe(b'P', ""),
                    execute("", limit),
                    sync(),
                ]);
                c.ready();
                c.query("begin");
                c.pipeline(&[parse("", sql, &[]), bind("q", "", &[]), execute("q", limit), sync()]);
                c.ready();
                c.pipeline(&[execute("q", limit), sync()]);
                c.ready();
                c.query("rollback");
            }
        }
        c.query("begin");
        c.pipeline(&[parse("", rows, &[]), bind("p", "", &[]), execute("p", 2), flush()]);
        c.until(b's');
        c.query("select name, statement <> '' from pg_cursors");
        c.query("commit");
    });
}

#[test]
fn prepared_statements_in_every_way() {
    same_captured(|c| {
        ready(c);
        c.query("prepare up (int, int) as update t set a = a + $1 where id = $2");
        c.query("prepare ins as insert into s (r) values ($1) returning id");
        c.query("execute up (1, 1); execute ins (5); execute up (1, 99)");
        c.query("execute up (1); execute nope; select 1");
        c.query("/* é */ execute up (nope, 1)");
        c.query("select 'é'; execute up (1, nope)");
        c.query("prepare \"U\"\"p\" (int) as update t set a = $1 where id = 1 returning a; execute \"U\"\"p\" (1, 2)");
        c.query("execute \"U\"\"p\" (3)");
        c.query("execute up ('x', 1)");
        c.pipeline(&[parse("w", "update t set b = $1 || (select '') where id = $2", &[]), describe(b'S', "w"), sync()]);
        c.ready();
        // `execute w (…)` is refused: what was prepared on the wire is executed there.
        c.query("select name, from_sql, parameter_types from pg_prepared_statements order by 1");
        c.pipeline(&[parse("w", "select 1", &[]), sync()]);
        assert_eq!(states(&c.ready()), ["42P05"]);
        c.query("deallocate w; execute w ('x', 1)");
        c.query("deallocate all");
        c.query("select count(*) from pg_prepared_statements");
        c.query("prepare bad as update t set nope = 1");
        c.query("prepare up as update t set a = 1 where id = 1; execute up; discard all");
        c.query("execute up");
    });
}

#[test]
fn blocks_savepoints_and_their_warnings() {
    same_captured(|c| {
        ready(c);
        c.query("begin; update t set a = 1 where id = 1; begin");
        c.query("savepoint x; insert into t values (1); select 1");
        c.query("rollback to x; update t set b = (select 'x') where id = 2; release x; commit; commit");
        c.query("begin; insert into s (r) values (1); insert into t values (1)");
        c.query("update t set a = 2 where id = 1");
        c.query("commit");
        c.query("rollback");
        c.query("begin; update t set a = 3 where id = 1; commit and chain; update t set a = 4 where id = 1; rollback and chain; rollback");
        c.query("savepoint y");
        c.query("begin; rollback to nothing; commit");
        c.query("begin read only; update t set a = 1 where id = 1; commit");
        c.query("set transaction isolation level serializable; update t set a = 1 where id = 1");
        c.query("begin; update t set a = 1 where id = 1; set transaction isolation level serializable; rollback");
        c.query("update t set a = 5 where id = 1; begin; update t set a = 6 where id = 1; rollback; select a from t where id = 1");
        c.query("insert into t values (60); insert into t values (60); select 1");
        c.query("select count(*) from t where id = 60");
        c.query("begin; insert into t values (61); commit; vacuum t");
        c.query("begin; insert into t values (62); commit; rollback; savepoint z");
        c.query("begin; insert into t values (63); commit; select nope, 'é'");
    });
}

#[test]
fn notices_statuses_and_notifications_in_their_place() {
    same_captured(|c| {
        ready(c);
        c.query("create function says(text) returns text language plpgsql as $$ begin raise notice 'said %', $1; return $1; end $$");
        c.query("update t set b = says('x' || id) where id < 4");
        c.query("insert into t values (40, 1, says('ins')) returning says('ret')");
        c.query("begin; update t set b = says('in a block') where id = 1; commit");
        c.query("update t set b = set_config('application_name', 'me', false) where id = 1");
        c.query("update t set b = set_config('datestyle', 'german', false) where id = 1 returning now() > '1.1.2020'");
        c.query("update t set b = says('none') where id = 1 and a / 0 = 1 returning b");
        c.query("insert into t values (40, 1, says('dup')) returning says('ret')");
        let long = "x".repeat(70);
        for sql in [
            format!("update t set b = md5(b) where id = 1 returning b as é{long}"),
            format!("update t set b = b where id = 1 returning b as {long}"),
            format!("insert into s (r) select 1 as {long}"),
        ] {
            c.query(&sql);
            c.query(format!("begin; {sql}; commit"));
            c.query(format!("select 1; {sql}"));
            c.pipeline(&[parse("", &sql, &[]), bind("", "", &[]), describe(b'P', ""), execute("", 0), sync()]);
            c.ready();
        }
        c.query("listen here; update t set a = 1, b = pg_notify('here', 'hello') || '' where id = 1");
        c.query("begin; select pg_notify('here', 'later'); insert into s (r) values (1); commit");
        c.query("show datestyle; show application_name; show search_path");
        c.query(
            "set search_path = nowhere; update public.t set a = 1 where id = 2; show search_path; reset search_path",
        );
    });
}

#[test]
fn copies() {
    same_captured(|c| {
        ready(c);
        for data in ["70\t1\tx\n71\t\\N\t\\N\n", "70\t1\tdup\n", "no\t1\tx\n", "72\n", ""] {
            c.send(&query("copy t from stdin; select count(*) from t"));
            c.until(b'G');
            c.send(&[copy_data(data), copy_done()].concat());
            c.ready();
        }
        c.query("copy t (nope) from stdin");
        c.query("begin");
        c.send(&query("copy t (id) from stdin csv"));
        c.until(b'G');
        c.send(&[copy_data("80\n81\n"), copy_done()].concat());
        c.ready();
        c.query("commit; select count(*) from t");
        c.query("copy (select id from t order by id limit 3) to stdout");
    });
}

#[test]
fn cursors() {
    same_captured(|c| {
        ready(c);
        c.query("begin; declare w cursor for select * from t order by id for update; fetch 2 from w");
        c.query("update t set b = 'now' where current of w returning *");
        c.query("delete from t where current of w");
        c.query("fetch w; update t set a = 1 where current of nope");
        c.query("commit");
        c.query("update t set a = 1 where current of w");
    });
}

#[test]
fn pipelines() {
    same_captured(|c| {
        ready(c);
        let write = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), describe(b'P', ""), execute("", 0)].concat();
        c.pipeline(&[
            write("update t set a = 1 where id = 1"),
            write("insert into s (r) values (1) returning id"),
            write("select count(*) from s"),
            sync(),
            write("update t set a = 2 where id = 1"),
            write("insert into t values (1)"),
            write("select 1"),
            sync(),
            write("begin"),
            write("update t set b = (select 'x') where id = 2"),
            sync(),
            write("commit"),
            write("delete from t where id = 2 returning b"),
            sync(),
        ]);
        let shapes: Vec<String> = (0..4).map(|_| tags(&c.ready())).collect();
        assert_eq!(shapes.len(), 4);
        c.query("select a from t where id = 1");
        // answers come when Flush asks for them, not at the end
        c.pipeline(&[write("update t set a = 3 where id = 1"), flush()]);
        c.until(b'C');
        c.quiet();
        c.pipeline(&[write("insert into s (r) values (2) returning id"), flush()]);
        c.until(b'C');
        c.send(&sync());
        c.ready();
    });
}

#[test]
fn commits_that_fail() {
    same_captured(|c| {
        ready(c);
        c.query("create table d (a int primary key, b int unique deferrable initially deferred); insert into d values (1, 1)");
        c.query("create table f (id int primary key, d int references d deferrable initially deferred)");
        for sql in [
            "insert into d values (2, 1)",
            "insert into d values (3, 1) returning a, b",
            "insert into d select 4, 1",
            "insert into f values (1, 99) returning *",
            "select 1; insert into f values (2, 99)",
            "insert into f values (3, 99); select 1; select 2",
            "set local work_mem = '1MB'; insert into f values (4, 99)",
        ] {
            c.query(sql);
            c.query(format!("begin; {sql}; commit"));
            c.query("begin");
            c.query(sql);
            c.query("commit");
            let one = sql.rsplit("; ").next().expect("a statement");
            c.pipeline(&[parse("", one, &[]), bind("", "", &[]), describe(b'P', ""), execute("", 0), sync()]);
            c.ready();
        }
        c.query("select * from d; select * from f");
        c.query("create function told() returns trigger language plpgsql as $$ begin raise notice 'told %', new.a; return null; end $$");
        c.query("create constraint trigger told after insert on d deferrable initially deferred for each row execute function told()");
        c.query("insert into d values (10, 10) returning a");
        c.query("insert into d values (11, 11); select 1");
        c.query("begin; insert into d values (12, 12); select 2; commit");
    });
}

/// Tables without a key: their statements are locked, in a block of ours.
#[test]
fn locked_statements() {
    same_captured(|c| {
        ready(c);
        c.query("insert into k values ('a', 1), ('b', 2), ('c', 3)");
        let write = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), describe(b'P', ""), execute("", 0)].concat();
        for sql in [
            "update k set n = n + 1",
            "update k set n = 200",
            "update k set n = n + 1 where nope",
            "delete from k where n = 99",
            "truncate k",
        ] {
            c.query(sql);
            c.query(format!("select 'é'; {sql}; select 1"));
            c.pipeline(&[write(sql), sync()]);
            c.ready();
            c.pipeline(&[
                write("select 1"),
                write(sql),
                write("select 2"),
                sync(),
                write(sql),
                write("select 3"),
                sync(),
            ]);
            c.ready();
            c.ready();
            c.pipeline(&[write(sql), write("select 1/0"), write(sql), sync(), write("select 4"), sync()]);
            c.ready();
            c.ready();
            c.pipeline(&[
                write(sql),
                sync(),
                query("select 5"),
                write(sql),
                sync(),
                query(sql),
                query("begin; select 6"),
            ]);
            for _ in 0..5 {
                c.ready();
            }
            c.query("rollback");
            c.pipeline(&[query(format!("{sql}; {sql}")), query("select 7"), write("select 8"), sync()]);
            for _ in 0..3 {
                c.ready();
            }
        }
        c.pipeline(&[write("update k set n = 1"), flush()]);
        c.until(b'C');
        c.quiet();
        c.send(&sync());
        c.ready();
    });
}

#[test]
fn a_cancelled_write() {
    same_captured(|c| {
        ready(c);
        c.send(&query("update t set b = (select pg_sleep(60)::text) where id = 1"));
        c.wait_until("wait_event = 'PgSleep'");
        c.cancel();
        assert_eq!(states(&c.ready()), ["57014"]);
        c.query("begin; update t set a = 1 where id = 1");
        c.send(&query("update t set a = a + (select 1 from pg_sleep(60)) where id = 2"));
        c.wait_until("wait_event = 'PgSleep'");
        c.cancel();
        assert_eq!(states(&c.ready()), ["57014"]);
        c.query("commit; select a from t where id = 1");
    });
}
