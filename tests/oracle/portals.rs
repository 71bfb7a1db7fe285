//! Portals that are suspended, and cursors made by SQL.

use crate::common::msg::{bind, close, describe, execute, flush, parse, sync};
use crate::common::oracle::{same, states, tags};

#[test]
fn execute_with_a_row_limit_suspends() {
    same(|c| {
        c.login();
        c.pipeline(&[
            parse("s", "select * from generate_series(1, 10)", &[]),
            bind("p", "s", &[]),
            describe(b'P', "p"),
            execute("p", 3),
            execute("p", 3),
            execute("p", 4),
            execute("p", 1),
            execute("p", 1),
            sync(),
        ]);
        assert_eq!(tags(&c.ready()), "12TDDDsDDDsDDDDsCCZ");
        // over several Syncs inside a block, with another portal in between
        c.query("begin");
        c.pipeline(&[bind("p", "s", &[]), bind("q", "s", &[]), execute("p", 2), sync()]);
        c.ready();
        c.pipeline(&[execute("q", 5), execute("p", 2), flush()]);
        c.until(b's');
        c.until(b's');
        c.send(&sync());
        c.ready();
        c.pipeline(&[close(b'P', "p"), execute("q", 0), sync()]);
        c.ready();
        c.pipeline(&[execute("p", 1), sync()]);
        assert_eq!(states(&c.ready()), ["34000"]);
        c.query("rollback");
    });
}

#[test]
fn limits_on_statements_that_write() {
    same(|c| {
        c.login();
        c.query("create temp table t (a int)");
        // pgjdbc sends a limit of 1 for every executeUpdate
        c.pipeline(&[
            parse("", "insert into t select generate_series(1, 5)", &[]),
            bind("", "", &[]),
            describe(b'P', ""),
            execute("", 1),
            sync(),
        ]);
        assert_eq!(tags(&c.ready()), "12nCZ");
        c.pipeline(&[
            parse("", "update t set a = a + 10 returning a", &[]),
            bind("u", "", &[]),
            execute("u", 2),
            execute("u", 2),
            execute("u", 0),
            sync(),
        ]);
        assert_eq!(tags(&c.ready()), "12DDsDDsDCZ");
        c.pipeline(&[parse("", "begin", &[]), bind("", "", &[]), execute("", 1), sync()]);
        c.ready();
        c.pipeline(&[parse("", "select * from t where false", &[]), bind("", "", &[]), execute("", 1), sync()]);
        c.ready();
        c.query("commit");
    });
}

#[test]
fn an_error_after_some_rows() {
    same(|c| {
        c.login();
        c.query("begin");
        c.pipeline(&[
            parse("", "select 1/(3 - g) from generate_series(1, 5) g", &[]),
            bind("p", "", &[]),
            execute("p", 2),
            sync(),
        ]);
        c.ready();
        c.pipeline(&[execute("p", 2), execute("p", 2), sync()]);
        assert_eq!(states(&c.ready()), ["22012"]);
        c.query("rollback");
    });
}

#[test]
fn sql_cursors() {
    same(|c| {
        c.login();
        c.query("declare x cursor for select 1");
        c.query("begin");
        c.query("declare x scroll cursor for select * from generate_series(1, 10)");
        c.query("fetch 3 from x; fetch backward 2 from x; move last in x; fetch prior from x");
        c.query("fetch 0 from x");
        c.pipeline(&[describe(b'P', "x"), execute("x", 2), sync()]); // a cursor is a portal
        c.ready();
        c.query("close x");
        c.query("fetch x");
        c.query("rollback");
        c.query("declare h cursor with hold for select * from generate_series(1, 3)");
        c.query("fetch all in h");
        c.query("close all");
        // CREATE TABLE AS is refused where a rule would replicate the table but not the rows it is made with.
        c.query("create temp table t (a int, id int primary key)");
        c.query("insert into t select i, i from generate_series(1, 3) i");
        c.query("begin; declare w cursor for select a from t for update; fetch w");
        c.query("update t set a = 10 where current of w");
        c.query("delete from t where current of w");
        c.query("commit; table t");
    });
}
