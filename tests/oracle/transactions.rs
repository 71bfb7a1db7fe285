//! Transaction status after every kind of end, and tags that say something else than the statement did.

use crate::common::msg;
use crate::common::oracle::{same, states};

#[test]
fn a_failed_block_commits_as_rollback() {
    same(|c| {
        c.login();
        c.query("begin");
        assert_eq!(c.query("select 1/0").last().map(|z| z.body.clone()), Some(b"E".to_vec()));
        assert_eq!(states(&c.query("select 1")), ["25P02"]);
        c.query("");
        let end = c.query("commit");
        assert_eq!((end[0].command().as_str(), end[1].body.as_slice()), ("ROLLBACK", b"I".as_slice()));
        c.query("commit");
        c.query("rollback");
        c.query("begin");
        c.query("begin");
        c.query("end");
        c.query("start transaction isolation level serializable read only");
        c.query("create table never (a int)");
        c.query("abort");
    });
}

#[test]
fn savepoints() {
    same(|c| {
        c.login();
        c.query("create temp table t (a int)");
        c.query("savepoint outside");
        c.query("begin");
        c.query("insert into t values (1)");
        c.query("savepoint a");
        c.query("insert into t values ('x')");
        c.query("rollback to a");
        c.query("insert into t values (2)");
        c.query("savepoint a");
        c.query("insert into t values (3)");
        c.query("release a");
        c.query("rollback to savepoint a");
        c.query("release b");
        c.query("rollback to nowhere");
        c.query("rollback to a");
        c.query("commit");
        assert_eq!(c.query("select count(*) from t")[1].columns(), [Some("1".to_owned())]);
    });
}

#[test]
fn deferred_constraints_fail_the_commit() {
    same(|c| {
        c.login();
        c.query("create temp table t (a int unique deferrable initially deferred)");
        c.query("begin");
        c.query("insert into t values (1), (1)");
        assert_eq!(states(&c.query("commit")), ["23505"]);
        c.query("insert into t values (1), (1)");
        // the same in a pipeline: it is Sync that commits, and so Sync that fails
        c.pipeline(&[
            msg::parse("", "insert into t values (2), (2)", &[]),
            msg::bind("", "", &[]),
            msg::execute("", 0),
            msg::sync(),
        ]);
        assert_eq!(states(&c.ready()), ["23505"]);
    });
}

#[test]
fn chained_and_prepared_transactions() {
    same(|c| {
        c.login();
        c.query("begin isolation level repeatable read");
        c.query("commit and chain");
        c.query("show transaction_isolation");
        c.query("rollback and no chain");
        c.query("begin");
        c.query("prepare transaction 'p'");
        c.query("commit prepared 'p'");
        c.query("rollback prepared 'p'");
        c.query("do $$ begin commit; end $$");
        c.query("begin; do $$ begin commit; end $$");
        c.query("rollback");
    });
}

#[test]
fn failures_by_concurrency_and_timeouts_reach_the_client() {
    same(|c| {
        c.login();
        c.query("set lock_timeout = '20ms'");
        c.other("create schema if not exists tx; create table if not exists tx.t (a int); truncate tx.t; insert into tx.t values (1)");
        c.query("begin isolation level repeatable read");
        c.query("select * from tx.t");
        c.other("update tx.t set a = 2");
        assert_eq!(states(&c.query("update tx.t set a = 3")), ["40001"]);
        c.query("rollback");
        c.query("set statement_timeout = '20ms'");
        assert_eq!(states(&c.query("select pg_sleep(20)")), ["57014"]);
        c.query("set statement_timeout = 0");
        c.query("set idle_in_transaction_session_timeout = '30ms'");
        c.query("begin");
        c.closed();
    });
}
