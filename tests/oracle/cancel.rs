//! Cancelling: in time, too late, twice, with the wrong secret, and over a connection that says nonsense.

use crate::common::msg::{self, bind, copy_data, execute, flush, parse, query, sync};
use crate::common::oracle::{same, states, tags};

#[test]
fn in_time() {
    same(|c| {
        c.login();
        c.send(&query("select 'before'; select pg_sleep(60); select 'after'"));
        c.wait_until("state = 'active' and wait_event = 'PgSleep'");
        c.cancel();
        assert_eq!(states(&c.ready()), ["57014"]);
        c.query("select 'goes on'");
        c.query("begin");
        c.send(&query("select pg_sleep(60)"));
        c.wait_until("wait_event = 'PgSleep'");
        c.cancel();
        c.ready();
        c.query("select 1");
        c.query("rollback");
    });
}

#[test]
fn a_pipeline() {
    same(|c| {
        c.login();
        let sleep = [parse("", "select pg_sleep(60)", &[]), bind("", "", &[]), execute("", 0)].concat();
        let one = [parse("", "select 1", &[]), bind("", "", &[]), execute("", 0)].concat();
        c.pipeline(&[one.clone(), sleep, one.clone(), sync(), one, sync()]);
        c.wait_until("wait_event = 'PgSleep'");
        c.cancel();
        c.ready();
        assert_eq!(tags(&c.ready()), "12DCZ");
    });
}

#[test]
fn a_copy_in_both_directions() {
    same(|c| {
        c.login();
        c.query("create temp table t (a int)");
        c.send(&query("copy t from stdin"));
        c.until(b'G');
        c.send(&copy_data("1\n"));
        c.wait_until("state = 'active' and wait_event = 'ClientRead'");
        c.cancel();
        c.send(&copy_data("2\n")); // a COPY that waits for data looks at its signals when data comes
        assert_eq!(states(&c.until(b'E')), ["57014"]);
        c.send(&msg::copy_done());
        c.ready();
        c.send(&query("copy (select 1, pg_sleep(60)) to stdout"));
        c.wait_until("wait_event = 'PgSleep'");
        c.cancel();
        c.ready();
    });
}

#[test]
fn too_late() {
    same(|c| {
        c.login();
        c.query("select 1");
        c.cancel();
        c.cancel();
        c.quiet();
        c.query("select 2");
        c.pipeline(&[parse("", "select 3", &[]), bind("", "", &[]), execute("", 0), flush()]);
        c.until(b'C');
        c.send(&sync());
        c.ready();
    });
}

#[test]
fn with_the_wrong_secret_or_no_such_backend() {
    same(|c| {
        c.login();
        let (pid, key) = c.key();
        let wrong: Vec<u8> = key.iter().map(|byte| !byte).collect();
        c.send(&query("select pg_sleep(0.3)"));
        c.wait_until("wait_event = 'PgSleep'");
        c.cancel_with(&msg::cancel(pid, &wrong));
        c.cancel_with(&msg::cancel(1, &key));
        c.cancel_with(&msg::cancel(-1, &key));
        c.cancel_with(&msg::cancel(pid, b""));
        c.cancel_with(&msg::cancel(pid, &key[..3]));
        c.cancel_with(&msg::cancel(pid, &[7; 256]));
        assert!(states(&c.ready()).is_empty());
    });
}

#[test]
fn long_keys_of_protocol_3_2() {
    same(|c| {
        c.send(&msg::startup(msg::version(3, 2), &[("user", "postgres"), ("database", "postgres")]));
        c.ready();
        c.send(&query("select pg_sleep(60)"));
        c.wait_until("wait_event = 'PgSleep'");
        c.cancel();
        assert_eq!(states(&c.ready()), ["57014"]);
    });
}
