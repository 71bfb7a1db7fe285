//! The simple query protocol: one string, any number of statements, one ReadyForQuery.

use crate::common::oracle::{same, tags};

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
        c.query("insert into t values (0, 'null byte \u{1F418}') returning *");
        c.query("update t set b = null where a > 90");
        c.query("delete from t where a = 5 returning a, b");
        c.query("table t");
        c.query("explain (costs off) select * from t");
        c.query("drop table t");
    });
}
