//! Simple queries that differ from earlier ones in their constants only: run as one prepared statement, which nobody sees.

use crate::common::msg::{bind, execute, parse, sync};
use crate::{TABLES, on_both};

#[test]
fn the_server_plans_them_once() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let pid = c.ok("select pg_backend_pid()").value();
        let running = format!("select query from pg_stat_activity where pid = {pid}");
        for n in 1..=4 {
            assert_eq!(c.ok(&format!("update acc set balance = {n} where id = {n}")).tags(), ["UPDATE 1"]);
            let query = node.sql(&running);
            assert!(n == 1 || query.contains("where id = $2"), "{query}");
            assert_eq!(c.ok("begin").tags(), ["BEGIN"]);
            assert_eq!(
                c.ok(&format!("insert into acc values (10{n}, 'it''s {n}', -{n}, null)")).tags(),
                ["INSERT 0 1"]
            );
            let query = node.sql(&running);
            assert!(n == 1 || query.contains("-$3"), "{query}");
            assert_eq!(c.ok(&format!("update acc set note = now()::text where id = {n}")).tags(), ["UPDATE 1"]);
            assert_eq!(c.ok("end").tags(), ["COMMIT"]);
            assert_eq!(c.ok(&format!("insert into ev (what) values ('{n}')")).tags(), ["INSERT 0 1"]);
            assert_eq!(c.ok(&format!("delete from acc where id = 10{n} and owner = 'it''s {n}'")).tags(), ["DELETE 1"]);
            assert_eq!(c.ok("select count(*) from pg_prepared_statements").value(), "0");
        }
        let lanes = node.lanes();
        let one = ["statement update", "statement insert", "row update", "row insert", "statement delete"];
        assert_eq!(lanes, one.repeat(4));
        node.assert_replays();
    });
}

#[test]
fn they_come_and_go_with_the_session() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let mut n = 0;
        let mut again = |c: &mut crate::common::session::Session| {
            for _ in 0..3 {
                n += 1;
                let answer = c.ok(&format!("update acc set balance = balance + {n} where id = 1"));
                assert_eq!(answer.tags(), ["UPDATE 1"]);
            }
        };
        for between in
            ["discard all", "deallocate all", "set search_path = public", "create index on acc (balance)", "reset all"]
        {
            again(&mut c);
            c.ok(between);
        }
        // the same name may be another table
        c.ok("create temp table acc (id int, balance int); insert into acc values (1, 0)");
        again(&mut c);
        assert_eq!(c.ok("select balance > 0 from acc").value(), "t");
        c.ok("drop table acc");
        again(&mut c);
        // in a block that is rolled back, and in one that has failed
        c.ok("begin; create temp table acc (id int, balance int)");
        c.ok("update acc set balance = balance + 1 where id = 1");
        c.ok("rollback");
        again(&mut c);
        c.ok("begin");
        assert_eq!(c.fails("update acc set balance = balance + 3000000000 where id = 1").state, "22003");
        assert_eq!(c.fails("update acc set balance = balance + 1 where id = 1").state, "25P02");
        c.ok("rollback");
        again(&mut c);
        // a simple query ends the unnamed statement, whatever becomes of it
        c.send(&[parse("", "select 1", &[]), sync()]);
        again(&mut c);
        assert_eq!(c.send(&[bind("", "", &[]), execute("", 0), sync()]).failure().expect("none").state, "26000");
        node.assert_replays();
    });
}

#[test]
fn triggers_see_the_clients_own_text() {
    let tables = format!(
        "{TABLES}; create table plain.said (what text); \
         create function tell() returns trigger language plpgsql as \
         'begin insert into plain.said values (current_query()); return null; end'; \
         create trigger tell after update on acc for each row execute function tell()"
    );
    on_both(&tables, |node| {
        let mut c = node.client();
        for n in 1..=3 {
            c.ok("begin");
            c.ok(&format!("update acc set balance = {n} where id = {n}"));
            c.ok("commit");
        }
        assert_eq!(
            node.sql("select count(*) from plain.said where what ~ '^update acc set balance = [123] where'"),
            "3"
        );
        node.assert_replays();
    });
}
