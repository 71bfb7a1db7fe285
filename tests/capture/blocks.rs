//! Transaction blocks: entries commit and fail with them, through savepoints of any depth and two-phase commit.

use std::process::Command;

use crate::common::cluster::PG15_BIN;
use crate::common::msg::{bind, execute, parse, sync};
use crate::common::{PATIENCE, proc};
use crate::{TABLES, on_both};

#[test]
fn commit_and_rollback() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        for end in ["commit", "rollback", "end", "abort", "commit work", "commit and no chain"] {
            c.ok("begin");
            c.ok("update acc set balance = balance + 1 where id = 1");
            c.ok("insert into ev (what) values ('x')");
            c.ok("update acc set note = random()::text where id < 3");
            c.ok(end);
        }
        assert_eq!(node.assert_replays().len(), 12);
        c.ok("begin isolation level serializable");
        c.ok("update acc set balance = 1 where id = 1");
        c.ok("commit and chain");
        c.ok("update acc set balance = 2 where id = 2");
        assert_eq!(c.ok("show transaction_isolation").value(), "serializable");
        c.ok("rollback and chain");
        c.ok("update acc set balance = 3 where id = 3");
        assert_eq!(c.ok("commit").status(), 'I');
        assert_eq!(node.assert_replays().len(), 14);
    });
}

#[test]
fn a_failed_block_journals_nothing() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("begin");
        c.ok("update acc set balance = 0 where id = 1");
        assert_eq!(c.fails("insert into acc (id) values (1)").state, "23505");
        assert_eq!(c.fails("update acc set balance = 0 where id = 2").state, "25P02");
        assert_eq!(c.ok("commit").tags(), ["ROLLBACK"]);
        // the commit itself fails
        c.ok("create table plain.late (id int primary key, a int, unique (a) deferrable initially deferred)");
        c.ok("begin; insert into plain.late values (1, 1), (2, 1); update acc set balance = 0 where id = 1");
        assert_eq!(c.fails("commit").state, "23505");
        assert_eq!(c.ok("select balance from acc where id = 1").value(), "100");
        assert_eq!(node.assert_replays().len(), 0);
    });
}

#[test]
fn savepoints() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("begin");
        c.ok("update acc set balance = 1 where id = 1");
        c.ok("savepoint a");
        c.ok("update acc set balance = 2 where id = 2");
        c.ok("insert into ev (what) values ('undone')");
        c.ok("savepoint b");
        c.ok("update acc set note = random()::text where id = 3");
        c.ok("rollback to a");
        c.ok("update acc set balance = 4 where id = 4");
        assert_eq!(c.fails("select 1/0").state, "22012");
        assert_eq!(c.ok("rollback to savepoint a").status(), 'T');
        c.ok("update acc set note = random()::text where id = 5");
        c.ok("release a");
        c.ok("savepoint a; savepoint a; update acc set balance = 6 where id = 6; rollback to a; release a; release a");
        c.ok("commit");
        assert_eq!(
            c.ok("select string_agg(id || '', ' ' order by id) from acc where balance < 10 or note is not null")
                .value(),
            "1 5"
        );
        node.assert_replays();
    });
}

#[test]
fn savepoints_fifty_deep() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("begin");
        for depth in 0..50 {
            c.ok(&format!("savepoint s{depth}; insert into acc (id, balance) values ({}, {depth})", 100 + depth));
            c.ok(&format!("update acc set note = random()::text where id = {}", 100 + depth));
        }
        c.ok("rollback to s30");
        c.ok("insert into acc (id) values (200)");
        c.ok("release s10");
        c.ok("insert into acc (id) values (201)");
        c.ok("rollback to s5");
        c.ok("insert into acc (id) values (202)");
        c.ok("commit");
        assert_eq!(c.ok("select count(*) from acc where id >= 100").value(), "6");
        node.assert_replays();
    });
}

#[test]
fn on_error_rollback_of_psql() {
    const SCRIPT: &str = "\\set ON_ERROR_ROLLBACK on\nbegin;\nupdate acc set balance = 1 where id = 1;\ninsert into acc (id) values (1);\n\
                          insert into ev (what) values ('after the error');\nselect 1/0;\nupdate acc set note = now()::text where id = 2;\ncommit;\n";
    on_both(TABLES, |node| {
        let mut psql = Command::new(format!("{PG15_BIN}/psql"));
        let port = node.proxy.port().to_string();
        psql.args(["-XqAt", "-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", &node.database, "-f"]);
        let dir = crate::common::temp_dir("psql");
        let script = dir.path().join("script.sql");
        std::fs::write(&script, SCRIPT).expect("write the script");
        let output = proc::output(psql.arg(&script), PATIENCE);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(errors.matches("ERROR").count(), 2, "{errors}");
        assert_eq!(node.assert_replays().len(), 3);
    });
}

#[test]
fn two_phase_commit_of_the_client() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let (one, two) = (format!("{}_one", node.database), format!("{}_two", node.database));
        c.ok("begin; update acc set balance = 1 where id = 1; insert into ev (what) values ('prepared')");
        assert_eq!(c.ok(&format!("prepare transaction '{one}'")).tags(), ["PREPARE TRANSACTION"]);
        c.ok("begin; update acc set balance = 2 where id = 2");
        c.ok(&format!("prepare transaction '{two}'"));
        c.ok("update acc set balance = 3 where id = 3");
        assert_eq!(node.journal().len(), 1);
        c.ok(&format!("rollback prepared '{two}'"));
        let mut other = node.client();
        other.ok(&format!("commit prepared '{one}'"));
        assert_eq!(node.assert_replays().len(), 3);
        c.ok("begin");
        assert_eq!(c.fails("select 1/0").state, "22012");
        assert_eq!(c.ok(&format!("prepare transaction '{two}'")).tags(), ["ROLLBACK"]);
        assert_eq!(node.journal().len(), 3);
    });
}

#[test]
fn a_large_block_is_flushed_on_the_way() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("begin");
        for round in 0..40 {
            let sql = format!(
                "insert into acc (id, note) select {round} * 1000 + 1000 + i, repeat(md5(random()::text), 5) from generate_series(1, 1000) i"
            );
            assert_eq!(c.ok(&sql).tags(), ["INSERT 0 1000"]);
        }
        c.ok("savepoint s; delete from acc where note > '8'; rollback to s");
        c.ok("commit");
        c.ok("insert into acc (id, note) select 100000 + i, repeat(md5(random()::text), 5) from generate_series(1, 20000) i");
        let entries = node.assert_replays();
        assert!(
            entries.iter().all(|entry| entry.xid == entries[0].xid || entry.xid == entries.last().expect("some").xid)
        );
        let largest = node.sql("select max(octet_length(data)) < 4 * 1024 * 1024 from pgcanon.journal");
        assert_eq!(largest, "t", "journal rows stay small");
    });
}

#[test]
fn read_only_and_isolation_levels() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("begin read only");
        c.ok("select 1");
        assert_eq!(c.fails("update acc set balance = 1 where id = 1").state, "25006");
        c.ok("rollback");
        c.ok("set default_transaction_read_only = on");
        assert_eq!(c.fails("update acc set balance = 1 where id = 1").state, "25006");
        assert_eq!(c.fails("update acc set note = now()::text where id = 1").state, "25006");
        c.ok("set default_transaction_read_only = off");
        for level in ["read uncommitted", "read committed", "repeatable read", "serializable"] {
            c.ok(&format!("begin isolation level {level}"));
            c.ok("update acc set balance = balance + 1 where id = 1");
            c.ok("update acc set note = random()::text where id = 2");
            c.ok("commit");
            c.ok(&format!("set default_transaction_isolation = '{level}'"));
            c.ok("update acc set balance = balance + 1 where id = 1");
            c.ok("update acc set note = random()::text where id = 2");
        }
        assert_eq!(node.assert_replays().len(), 16);
    });
}

#[test]
fn a_block_that_may_not_write_any_more_commits_what_it_has_written() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        for (n, read_only) in (1..).zip([
            "set transaction read only",
            "set transaction_read_only = on",
            "set local transaction read only",
            "savepoint s; release s; set transaction read only",
        ]) {
            c.ok("begin");
            c.ok(&format!("insert into ev (what) values ('{n}')"));
            c.ok(&format!("update acc set balance = {n} where id = {n}"));
            c.ok(read_only);
            assert_eq!(c.fails("insert into log values ('x')").state, "25006");
            c.ok("rollback");
            c.ok("begin");
            c.ok(&format!("insert into ev (what) values ('{n}')"));
            c.ok(&format!("update acc set balance = {n} where id = {n}"));
            c.ok(read_only);
            assert_eq!(c.ok("commit").tags(), ["COMMIT"], "{read_only}");
        }
        c.ok("begin");
        c.bound("insert into ev (what) values ($1)", &[Some("extended")]);
        c.bound("set transaction read only", &[]);
        assert_eq!(c.bound("commit", &[]).tags(), ["COMMIT"]);
        let one = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
        let write = "insert into ev (what) values ('pipelined')";
        let answer = c.send(&[one("begin"), one(write), one("set transaction read only"), one("commit"), sync()]);
        assert_eq!(answer.tags(), ["BEGIN", "INSERT 0 1", "SET", "COMMIT"]);
        assert_eq!(c.ok("select count(*) from ev").value(), "6");
        node.assert_replays();
    });
}
