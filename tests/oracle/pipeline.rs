//! Pipelines: several requests in flight, several Syncs, errors at every place of the queue.

use crate::common::msg::{bind, copy_data, copy_done, describe, execute, flush, parse, query, sync};
use crate::common::oracle::{Conversation, same, states, tags};

/// One statement by the unnamed statement and portal.
fn run(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), describe(b'P', ""), execute("", 0)].concat()
}

fn replies(c: &mut Conversation, syncs: usize) -> String {
    (0..syncs).map(|_| tags(&c.ready())).collect()
}

#[test]
fn many_requests_one_sync() {
    same(|c| {
        c.login();
        c.query("create temp table t (a int)");
        let inserts = (0..100).map(|n| run(&format!("insert into t values ({n}) returning a")));
        let mut all: Vec<Vec<u8>> = inserts.collect();
        all.push(sync());
        c.pipeline(&all);
        assert_eq!(replies(c, 1), "12TDC".repeat(100) + "Z");
    });
}

#[test]
fn many_syncs_in_flight() {
    same(|c| {
        c.login();
        c.pipeline(&[
            sync(),
            sync(),
            run("select 1"),
            sync(),
            sync(),
            run("select 1/(select 0)"),
            sync(),
            run("select 2"),
            sync(),
        ]);
        assert_eq!(replies(c, 6), "ZZ12TDCZZ12TEZ12TDCZ");
        // simple queries may stand in the same pipeline
        c.pipeline(&[query("select 1"), run("select 2"), sync(), query("select 1/(select 0)"), query("select 3")]);
        assert_eq!(replies(c, 4), "TDCZ12TDCZTEZTDCZ");
        // a simple query before Sync, too: it closes the implicit transaction itself
        c.pipeline(&[run("select 1"), query("select 2"), run("select 3"), sync()]);
        assert_eq!(replies(c, 2), "12TDCTDCZ12TDCZ");
    });
}

#[test]
fn an_error_anywhere_drops_the_rest_up_to_sync() {
    same(|c| {
        c.login();
        c.query("create temp table t (a int)");
        for bad in [
            parse("", "selec", &[]),
            bind("", "never there", &[]),
            describe(b'S', "never there"),
            execute("never there", 0),
            run("select 1/0"),
        ] {
            c.pipeline(&[
                run("insert into t values (1)"),
                bad,
                run("insert into t values (2)"),
                flush(),
                query("select 'dropped too'"),
                sync(),
                run("select count(*) from t"),
                sync(),
            ]);
            let frames = c.ready();
            assert_eq!(states(&frames).len(), 1);
            let count = c.ready();
            assert_eq!(count.iter().find(|f| f.tag == b'D').map(|f| f.columns()), Some(vec![Some("0".to_owned())]));
        }
    });
}

#[test]
fn flush_shows_what_is_done_so_far() {
    same(|c| {
        c.login();
        c.pipeline(&[run("select 1"), flush()]);
        c.until(b'C');
        c.quiet();
        c.pipeline(&[run("select 1/0"), flush()]);
        c.until(b'E');
        c.pipeline(&[run("select 2"), flush()]);
        c.quiet(); // skipped
        c.send(&sync());
        assert_eq!(tags(&c.ready()), "Z");
        c.pipeline(&[flush(), flush(), run("select 3"), sync()]);
        assert_eq!(tags(&c.ready()), "12TDCZ");
    });
}

#[test]
fn transactions_inside_a_pipeline() {
    same(|c| {
        c.login();
        c.query("create temp table t (a int)");
        c.pipeline(&[
            run("begin"),
            run("insert into t values (1)"),
            sync(),
            run("insert into t values (2)"),
            run("commit"),
            sync(),
        ]);
        replies(c, 2);
        c.pipeline(&[run("begin"), run("select 1/0"), sync(), run("select 1"), sync(), run("commit"), sync()]);
        replies(c, 3);
        c.pipeline(&[
            run("insert into t values (3)"),
            run("begin"),
            run("rollback"),
            run("select count(*) from t"),
            sync(),
        ]);
        replies(c, 1);
        c.pipeline(&[
            run("insert into t values (4)"),
            run("commit"),
            run("insert into t values (5)"),
            run("rollback"),
            sync(),
        ]);
        replies(c, 1);
        c.query("table t");
        c.pipeline(&[run("vacuum"), sync(), run("select 1"), run("vacuum"), sync()]);
        replies(c, 2);
        c.pipeline(&[run("savepoint a"), run("select 1"), sync()]);
        replies(c, 1);
    });
}

#[test]
fn statements_are_parsed_once_and_bound_often() {
    same(|c| {
        c.login();
        let mut all = vec![parse("s", "select $1::int * 2", &[])];
        for n in 0..200 {
            let value = n.to_string();
            all.extend([bind("", "s", &[Some(value.as_bytes())]), execute("", 0)]);
            if n % 50 == 49 {
                all.push(sync());
            }
        }
        c.pipeline(&all);
        assert_eq!(replies(c, 4), "1".to_owned() + &("2DC".repeat(50) + "Z").repeat(4));
    });
}

#[test]
fn copy_inside_a_pipeline() {
    same(|c| {
        c.login();
        c.query("create temp table t (a int)");
        c.pipeline(&[
            run("select 1"),
            run("copy t from stdin"),
            copy_data("1\n2\n"),
            copy_done(),
            run("select count(*) from t"),
            sync(),
        ]);
        replies(c, 1);
        // the server throws away a COPY's data after an error, and everything up to Sync
        c.pipeline(&[
            run("copy t from stdin"),
            copy_data("one\n"),
            copy_data("2\n"),
            copy_done(),
            run("select 'dropped'"),
            sync(),
            run("select 'after'"),
            sync(),
        ]);
        assert_eq!(replies(c, 2), "12nGEZ12TDCZ");
        c.pipeline(&[run("copy nowhere from stdin"), copy_data("1\n"), copy_done(), sync(), run("select 1"), sync()]);
        replies(c, 2);
        c.pipeline(&[run("copy t to stdout"), run("select 1"), sync()]);
        replies(c, 1);
    });
}

#[test]
fn one_byte_at_a_time() {
    same(|c| {
        c.login();
        let bytes = [run("select 1"), sync(), query("select 2")].concat();
        for byte in bytes {
            c.client.send(&[byte]);
        }
        assert_eq!(replies(c, 2), "12TDCZTDCZ");
    });
}

#[test]
fn a_reader_that_is_slower_than_its_pipeline() {
    same(|c| {
        c.login();
        // 32 MB of answers wait in the sockets and the server while the client still writes
        let all: Vec<Vec<u8>> = (0..32).map(|n| run(&format!("select {n}, repeat('x', 1000000)"))).collect();
        let mut writer = c.client.clone_handle();
        let sender = std::thread::spawn(move || {
            all.iter().for_each(|message| writer.send(message));
            writer.send(&sync());
        });
        assert_eq!(replies(c, 1), "12TDC".repeat(32) + "Z");
        sender.join().expect("the sender ends");
    });
}
