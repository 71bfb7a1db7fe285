//! Messages that have no business where they come: the server's own answer is the measure.

use crate::common::Client;
use crate::common::msg::{
    bind, copy_data, copy_done, copy_fail, execute, flush, frame, parse, password, query, sasl_initial, startup, sync,
    terminate, version,
};
use crate::common::oracle::{same, states};

#[test]
fn copy_messages_outside_a_copy_are_ignored() {
    same(|c| {
        c.login();
        c.pipeline(&[copy_data("x"), copy_done(), copy_fail("y")]);
        c.quiet();
        c.query("select 1");
        c.pipeline(&[
            parse("", "select 1", &[]),
            copy_data("x"),
            bind("", "", &[]),
            copy_done(),
            execute("", 0),
            sync(),
        ]);
        c.ready();
    });
}

#[test]
fn messages_of_the_login_come_late() {
    for message in [password("secret"), sasl_initial("SCRAM-SHA-256", b"n,,n=,r=x"), frame(b'p', b"")] {
        same(|c| {
            c.login();
            c.send(&message);
            assert_eq!(states(&c.closed()), ["08P01"]);
        });
    }
    same(|c| {
        c.login();
        c.send(&startup(version(3, 0), &[("user", "postgres")])); // its first byte is no message type
        c.closed();
    });
}

#[test]
fn unknown_types() {
    for tag in [0, b'!', b'Z', b'T', b'R', b'W', 0xff] {
        same(|c| {
            c.login();
            c.send(&frame(tag, b"body"));
            assert_eq!(states(&c.closed()), ["08P01"]);
        });
    }
    same(|c| {
        c.login();
        c.pipeline(&[query("select 1"), frame(b'z', b""), query("select 2")]);
        c.closed();
    });
}

#[test]
fn terminate_ends_it_in_silence() {
    same(|c| {
        c.login();
        c.send(&terminate());
        c.closed();
    });
    same(|c| {
        c.login();
        c.pipeline(&[query("select 1"), terminate(), query("select 2")]);
        c.closed();
    });
    same(|c| {
        c.login();
        c.query("create temp table t (a int)");
        c.send(&query("copy t from stdin"));
        c.until(b'G');
        c.send(&terminate());
        c.closed();
    });
    same(|c| {
        c.login();
        c.query("begin");
        c.pipeline(&[parse("", "select 1", &[]), bind("", "", &[]), execute("", 0), terminate()]);
        c.closed();
    });
}

#[test]
fn the_client_stops_writing_and_goes_on_reading() {
    same(|c| {
        c.login();
        c.client.finish_writing();
        c.closed();
    });
    // what was asked before is answered before the connection ends
    same(|c| {
        c.login();
        c.send(&query("select pg_sleep(0.1), 'still wanted'"));
        c.client.finish_writing();
        assert_eq!(c.closed().len(), 4);
    });
    same(|c| {
        c.login();
        c.pipeline(&[parse("", "select 1", &[]), bind("", "", &[]), execute("", 0), flush()]);
        c.client.finish_writing();
        c.closed();
    });
}

#[test]
fn a_backend_that_is_terminated_says_so() {
    same(|c| {
        c.login();
        let (pid, _) = c.key();
        // not through the trace: the pid differs from run to run
        Client::login(&c.cluster.unix()).rows(&format!("select pg_terminate_backend({pid})"));
        assert_eq!(states(&c.closed()), ["57P01"]);
    });
    same(|c| {
        c.login();
        c.query("create temp table t (a int)");
        c.send(&query("copy t from stdin"));
        c.until(b'G');
        c.wait_until("state = 'active' and wait_event = 'ClientRead'"); // the copy has begun: errors name it
        let (pid, _) = c.key();
        Client::login(&c.cluster.unix()).rows(&format!("select pg_terminate_backend({pid})"));
        assert_eq!(states(&c.closed()), ["57P01"]);
    });
    same(|c| {
        c.login();
        c.send(&query("select pg_terminate_backend(pg_backend_pid())"));
        c.closed();
    });
}
