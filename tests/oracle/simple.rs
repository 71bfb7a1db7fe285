//! The simple query protocol: one string, any number of statements, one ReadyForQuery.

use crate::common::msg::query;
use crate::common::oracle::{same, same_uncaptured, states, tags};

#[test]
fn rows_tags_and_nothing() {
    same(|c| {
        c.login();
        assert_eq!(tags(&c.query("select 1, null, 'x'::text, ''")), "TDCZ");
        assert_eq!(tags(&c.query("")), "IZ");
        c.query("  ; ;; ");
        c.query("-- only a comment");
        c.query("select");
        c.query("select from generate_series(1, 3)");
        c.query("select * from pg_type order by oid limit 50");
        c.query("create temp table t (a int primary key, b text)");
        c.query("insert into t select g, repeat('x', g) from generate_series(1, 100) g");
        c.query("insert into t values (0, 'elephant \u{1F418}') returning *");
        c.query("update t set b = null where a > 90");
        c.query("delete from t where a = 5 returning a, b");
        c.query("table t");
        c.query("explain (costs off) select * from t");
        c.query("drop table t");
    });
}

#[test]
fn several_statements_in_one_string() {
    same(|c| {
        c.login();
        assert_eq!(tags(&c.query("select 1; select 2; select 3")), "TDCTDCTDCZ");
        assert_eq!(tags(&c.query("select 1;; ;select 2;")), "TDCTDCZ");
        assert_eq!(tags(&c.query("select 1; select 1/(select 0); select 3")), "TDCTEZ");
        // the whole string is one implicit transaction: the insert is undone
        c.query("create temp table t (a int)");
        c.query("insert into t values (1); select 1/0");
        assert_eq!(c.query("select count(*) from t")[1].columns(), [Some("0".to_owned())]);
        c.query("begin; insert into t values (3); commit; select * from t");
        c.query("begin; insert into t values (4)");
        c.query("rollback; select * from t; begin; select 1/0; commit");
        c.query("rollback and chain");
        c.query("rollback");
        c.query("select 1; vacuum");
    });
    // With a replicated table refused: the server makes one transaction of what stands before the COMMIT.
    same_uncaptured(|c| {
        c.login();
        c.query("create temp table t (a int)");
        c.query("insert into t values (1); commit; insert into t values (2); select 1/0");
        c.query("select * from t");
    });
}

#[test]
fn errors_keep_their_position_and_every_field() {
    same(|c| {
        c.login();
        for sql in [
            "selec 1",
            "select 1 +",
            "select * from nowhere",
            "/* x */ select a, b from (values (1)) v(a)",
            "select 'unterminated",
            "select \"\u{00fc}\u{1F418}\", nope from pg_class",
            "select $1",
            "select 1; select 2; selec 3",
            "select 'abc'::int",
            "do $$ begin raise exception using errcode = 'P0042', message = 'm', detail = 'd', hint = 'h', \
             column = 'c', constraint = 'k', datatype = 't', table = 'r', schema = 's'; end $$",
            "do $$ begin perform nowhere.f(1); end $$",
        ] {
            assert_eq!(states(&c.query(sql)).len(), 1, "{sql}");
        }
        c.query("create temp table u (a int primary key, b int check (b > 0), c int references u)");
        c.query("insert into u values (1, 1), (1, 1)");
        c.query("insert into u values (1, -1)");
        c.query("insert into u values (1, 1, 7)");
        c.query("insert into u values (null, 1)");
    });
}

#[test]
fn statements_prepared_by_sql() {
    same(|c| {
        c.login();
        c.query("prepare p (int) as select $1 + 1");
        c.query("execute p (41)");
        c.query("execute p ('x')");
        c.query("prepare p as select 2");
        c.query("deallocate p");
        c.query("execute p (1)");
        c.query("prepare q as select 1; execute q; deallocate all; execute q");
        c.query("prepare r as select 1");
        c.query("discard all");
        c.query("execute r");
        c.query("discard temp; discard plans; discard sequences");
    });
}

#[test]
fn wide_and_odd_rows() {
    same(|c| {
        c.login();
        let columns: Vec<String> = (0..1664).map(|n| n.to_string()).collect();
        c.query(format!("select {}", columns.join(", ")));
        c.query(format!("select {}, 1664", columns.join(", ")));
        c.query("select '\\x00ff'::bytea, array[1, null, 3], row(1, 'a', null), '{\"a\": 1}'::jsonb, 1.0::numeric");
        c.query("select repeat('y', 300000) from generate_series(1, 10)");
        c.query(format!("select length('{}')", "z".repeat(3_000_000)));
        c.query("select n, repeat('n', n % 97) from generate_series(1, 20000) n");
        c.query("select from generate_series(1, 100000)");
    });
}

#[test]
fn a_large_query_behind_another_is_a_transaction_of_its_own() {
    same(|c| {
        c.login();
        c.query("create temp table t (a int)");
        let large = format!("select 1/(select 0) /* {} */", "x".repeat(300 << 10));
        c.pipeline(&[query("insert into t select 1 from pg_sleep(0.2); insert into t values (2)"), query(&large)]);
        assert_eq!(tags(&c.ready()), "CCZ");
        assert_eq!(states(&c.ready()), ["22012"]);
        c.query("select count(*) from t");
    });
}
