//! What the server says unasked: notices, parameter changes, notifications. They may come anywhere and answer nothing.

use crate::common::msg::{bind, describe, execute, flush, parse, query, sync};
use crate::common::oracle::{same, tags};

#[test]
fn notices_of_every_level() {
    same(|c| {
        c.login();
        c.query("set client_min_messages = debug1");
        for level in ["debug", "log", "info", "notice", "warning"] {
            let sql = format!("do $$ begin raise {level} 'a {level} \u{1F418}' using hint = 'h', detail = 'd'; end $$");
            assert_eq!(tags(&c.query(&sql)), "NCZ", "{level}");
            c.pipeline(&[parse("", &sql, &[]), bind("", "", &[]), execute("", 0), sync()]);
            assert_eq!(tags(&c.ready()), "12NCZ");
        }
        c.query("set client_min_messages = error");
        c.query("do $$ begin raise warning 'unheard'; raise info 'always heard'; end $$");
        c.query("reset client_min_messages");
        c.query("drop table if exists nowhere");
        c.query("create temp table t (a int); create temp table if not exists t (a int)");
        c.query("do $$ begin raise notice 'before'; perform 1/0; end $$");
        c.query(
            "create function pg_temp.f() returns int language plpgsql as 'begin raise notice ''row''; return 1; end'",
        );
        c.query("select pg_temp.f() from generate_series(1, 5)");
        c.pipeline(&[
            parse("", "select pg_temp.f() from generate_series(1, 4)", &[]),
            bind("", "", &[]),
            execute("", 2),
            execute("", 0),
            sync(),
        ]);
        c.ready();
        c.query("copy (select pg_temp.f() from generate_series(1, 3)) to stdout");
        c.query(format!("do $$ begin raise notice '{}'; end $$", "long ".repeat(50_000)));
    });
}

#[test]
fn changes_of_reported_parameters() {
    same(|c| {
        c.login();
        assert_eq!(tags(&c.query("set timezone = 'Asia/Tokyo'")), "CSZ");
        c.query("set timezone = 'Asia/Tokyo'");
        c.query("set datestyle = 'sql, dmy'; set application_name = 'x'; set work_mem = '1MB'");
        c.query("begin; set local timezone = 'UTC'; set standard_conforming_strings = off");
        c.query("rollback");
        c.query("set session authorization postgres");
        c.query("select set_config('intervalstyle', 'iso_8601', false), interval '1 day'");
        c.pipeline(&[
            parse("", "set timezone = 'UTC'", &[]),
            bind("", "", &[]),
            describe(b'P', ""),
            execute("", 0),
            flush(),
        ]);
        c.until(b'C');
        c.quiet(); // reported with the next ReadyForQuery
        c.send(&sync());
        c.ready();
        c.query("set timezone = 'nowhere'");
        c.query("reset all");
        c.query("discard all");
    });
}

#[test]
fn a_reload_of_the_server_reaches_its_sessions() {
    use crate::common::{Cluster, Pg, oracle::same_on};
    use std::sync::Arc;
    let cluster = Arc::new(Cluster::start(Pg::V15, "", ""));
    same_on(Arc::clone(&cluster), |c| {
        c.login();
        c.other("alter system set datestyle = 'german'");
        c.other("select pg_reload_conf()");
        c.query_until("show datestyle", b'S'); // a backend looks at its settings when it has something to do
        c.other("alter system reset datestyle");
        c.other("select pg_reload_conf()");
        c.query_until("show datestyle", b'S');
    });
}

#[test]
fn notifications_while_idle_and_not() {
    same(|c| {
        c.login();
        c.query("listen oracle_idle");
        c.other("notify oracle_idle, 'while idle'");
        c.until(b'A');
        c.quiet();
        c.other(&format!("select pg_notify('oracle_idle', '{}')", "p".repeat(7999)));
        c.until(b'A');
        // inside a block it waits for the end
        c.query("begin");
        c.other("notify oracle_idle, 'inside a block'");
        c.quiet();
        c.query("select 1");
        assert_eq!(tags(&c.query("commit")), "CAZ");
        // while a query runs it waits for its end
        c.send(&query("select pg_sleep(0.5)"));
        c.wait_until("wait_event = 'PgSleep'");
        c.other("notify oracle_idle, 'while busy'");
        assert_eq!(tags(&c.ready()), "TDCAZ");
        c.query("notify oracle_idle, 'to myself'");
        c.query("unlisten oracle_idle");
        c.other("notify oracle_idle, 'unheard'");
        c.quiet();
        c.query("select 1");
    });
}

#[test]
fn notifications_between_the_replies_of_a_pipeline() {
    same(|c| {
        c.login();
        let run = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
        c.pipeline(&[
            run("listen oracle_pipe"),
            sync(),
            run("notify oracle_pipe, '1'"),
            run("notify oracle_pipe, '2'"),
            sync(),
            run("select 1"),
            sync(),
        ]);
        c.ready();
        c.ready();
        c.ready();
        c.pipeline(&[run("notify oracle_pipe, '3'"), flush()]);
        c.until(b'C');
        c.quiet();
        c.send(&sync());
        c.ready();
        c.query("begin; notify oracle_pipe, 'undone'; rollback");
        c.query("unlisten *");
    });
}
