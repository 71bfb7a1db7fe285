//! Prepared statements, by the protocol and by SQL: made once, run often, remade, closed, dropped under the proxy's feet.

use crate::common::msg::{bind, close, execute, parse, sync};
use crate::{TABLES, on_both};

#[test]
fn by_the_protocol() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.send(&[
            parse("s", "update acc set balance = balance + $1 where id = $2", &[]),
            parse("r", "insert into ev (what) values ($1)", &[]),
            parse("q", "update acc set note = random()::text where id = $1 returning note", &[]),
            sync(),
        ]);
        for n in 1..=5 {
            let id = n.to_string();
            let answer = c.send(&[
                bind("", "s", &[Some(b"3"), Some(id.as_bytes())]),
                execute("", 0),
                bind("", "r", &[Some(id.as_bytes())]),
                execute("", 0),
                bind("", "q", &[Some(id.as_bytes())]),
                execute("", 0),
                sync(),
            ]);
            assert_eq!(answer.tags(), ["UPDATE 1", "INSERT 0 1", "UPDATE 1"]);
        }
        // a name that exists is an error, and the old statement stays
        let answer = c.send(&[parse("s", "select 1", &[]), sync()]);
        assert_eq!(answer.failure().expect("exists").state, "42P05");
        c.send(&[bind("", "s", &[Some(b"3"), Some(b"1")]), execute("", 0), sync()]);
        c.send(&[close(b'S', "s"), parse("s", "delete from acc where id = $1", &[]), sync()]);
        let answer = c.send(&[bind("", "s", &[Some(b"9")]), execute("", 0), sync()]);
        assert_eq!(answer.tags(), ["DELETE 1"]);
        // in a block, the same statements in their other form
        c.ok("begin");
        c.send(&[bind("", "q", &[Some(b"2")]), execute("", 0), bind("", "s", &[Some(b"3")]), execute("", 0), sync()]);
        c.ok("commit");
        assert_eq!(c.send(&[bind("", "q", &[Some(b"4")]), execute("", 0), sync()]).failure(), None);
        for gone in ["deallocate q", "discard all"] {
            c.ok(gone);
            let answer = c.send(&[bind("", "q", &[Some(b"4")]), execute("", 0), sync()]);
            assert_eq!(answer.failure().expect("gone").state, "26000");
        }
        node.assert_replays();
    });
}

#[test]
fn by_sql_over_columns_that_are_renamed_and_go() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("prepare ins as insert into log values ($1, $2)");
        c.ok("prepare up as update acc set note = random()::text where id > $1");
        for (n, ddl) in (1..).zip([
            "alter table acc rename owner to holder",
            "alter table acc add owner text",
            "alter table acc rename balance to money",
            "begin; alter table acc rename money to balance",
            "alter table log rename n to m",
        ]) {
            c.ok(ddl);
            assert_eq!(c.ok(&format!("execute ins ('{n}', {n})")).tags(), ["INSERT 0 1"], "{ddl}");
            assert_eq!(c.ok("execute up (5)").tags(), ["UPDATE 5"], "{ddl}");
            c.ok("commit");
        }
    });
}

#[test]
fn by_sql() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        assert_eq!(
            c.ok("prepare up (int, int) as update acc set balance = balance + $1 where id = $2").tags(),
            ["PREPARE"]
        );
        assert_eq!(c.ok("execute up (5, 1)").tags(), ["UPDATE 1"]);
        c.ok("prepare ins as insert into ev (what) values ($1) returning id");
        assert_eq!(c.ok("execute ins ('by sql')").rows().len(), 1);
        c.ok("begin");
        c.ok("execute up (6, 2)");
        c.ok("execute ins ('in a block')");
        c.ok("commit");
        c.ok("prepare \"Odd name\" as delete from acc where id = $1");
        c.ok("execute \"Odd name\" (7)");
        // names of PREPARE and of Parse are the same names: each is to be executed in the way that it was prepared
        let answer = c.send(&[bind("", "up", &[Some(b"7"), Some(b"3")]), execute("", 0), sync()]);
        assert_eq!(answer.failure().expect("refused").state, "0A000");
        c.send(&[parse("wire", "update acc set balance = balance + $1 where id = 4", &[23]), sync()]);
        assert_eq!(c.fails("execute wire (11)").state, "0A000");
        assert_eq!(c.ok("select sum(balance) from acc where id in (3, 4)").value(), "700");
        assert_eq!(
            c.ok("select count(*) from pg_prepared_statements where name in ('up', 'ins', 'Odd name', 'wire')").value(),
            "4"
        );
        c.ok("deallocate up");
        assert_eq!(c.fails("execute up (1, 1)").state, "26000");
        c.ok("deallocate all");
        assert_eq!(c.fails("execute ins ('x')").state, "26000");
        node.assert_replays();
    });
}

#[test]
fn executes_with_arguments_that_are_not_constants() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("prepare note (text, int) as update acc set note = $1 where id = $2");
        c.ok("execute note (now()::text || random()::text, 1)");
        c.ok("execute note ('a' || 'b', 1 + 1)");
        node.assert_replays();
    });
}

#[test]
fn a_statement_older_than_a_change_of_its_table() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.send(&[parse("s", "update acc set note = random()::text where id = $1", &[]), sync()]);
        c.send(&[bind("", "s", &[Some(b"1")]), execute("", 0), sync()]);
        let before = node.journal().len();
        assert_eq!(before, 1);
        // another session changes what the names mean: the statement goes to a table that no rule names
        c.ok("create temp table acc (id int primary key, note text)");
        c.ok("insert into acc values (1, 'temporary')");
        let answer = c.send(&[bind("", "s", &[Some(b"1")]), execute("", 0), sync()]);
        assert_eq!(answer.failure(), None);
        c.ok("update acc set note = 'temporary still' where id = 1");
        assert_eq!(node.journal().len(), before);
        c.ok("drop table acc");
        c.send(&[bind("", "s", &[Some(b"2")]), execute("", 0), sync()]);
        c.ok("update acc set note = 'permanent' where id = 3");
        assert_eq!(node.assert_replays().len(), before + 2);
    });
}
