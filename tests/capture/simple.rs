//! Simple queries: one statement, several in one, and what a failure in the middle leaves.

use crate::{TABLES, on_both};

#[test]
fn one_statement_commits_with_its_entry() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        assert_eq!(c.ok("update acc set balance = balance + 5 where id = 1").tags(), ["UPDATE 1"]);
        assert_eq!(c.ok("insert into acc (id, owner) values (11, 'new')").tags(), ["INSERT 0 1"]);
        assert_eq!(c.ok("delete from acc where id = 2").tags(), ["DELETE 1"]);
        assert_eq!(c.ok("insert into ev (what) values ('a'), ('b')").tags(), ["INSERT 0 2"]);
        assert_eq!(c.ok("update acc set note = random()::text where id > 5").tags(), ["UPDATE 6"]);
        assert_eq!(c.ok("update acc set note = now()::text where id = 3 returning id, owner").rows().len(), 1);
        assert_eq!(c.ok("insert into tok default values").tags(), ["INSERT 0 1"]);
        let lanes = [
            "statement update",
            "statement insert",
            "statement delete",
            "row insert",
            "row update",
            "row update",
            "row insert",
        ];
        assert_eq!(node.lanes(), lanes);
        node.assert_replays();
    });
}

#[test]
fn what_changes_nothing_is_not_journalled() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        assert_eq!(c.ok("update acc set balance = 0 where id = 999").tags(), ["UPDATE 0"]);
        assert_eq!(c.ok("delete from acc where note = random()::text").tags(), ["DELETE 0"]);
        assert_eq!(c.ok("insert into acc (id) values (1) on conflict do nothing").tags(), ["INSERT 0 0"]);
        assert_eq!(c.ok("insert into ev (what) select 'x' where false").tags(), ["INSERT 0 0"]);
        c.ok("begin");
        assert_eq!(c.ok("update acc set balance = 0 where id = 999").tags(), ["UPDATE 0"]);
        assert_eq!(c.ok("insert into acc (id) values (1) on conflict do nothing").tags(), ["INSERT 0 0"]);
        assert_eq!(c.ok("commit").tags(), ["COMMIT"]);
        assert_eq!(node.lanes(), Vec::<String>::new());
        node.assert_replays();
    });
}

#[test]
fn several_statements_are_one_transaction() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let answer = c.ok("update acc set balance = 1 where id = 1; insert into ev (what) values ('x'); select 7; delete from acc where id = 2");
        assert_eq!(answer.tags(), ["UPDATE 1", "INSERT 0 1", "SELECT 1", "DELETE 1"]);
        assert_eq!(answer.status(), 'I');
        let entries = node.assert_replays();
        assert_eq!(entries.len(), 3);
        assert!(entries.iter().all(|entry| entry.xid == entries[0].xid), "one transaction: {entries:#?}");
    });
}

#[test]
fn a_failure_in_the_middle_leaves_nothing() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let failure = c.fails("update acc set balance = 1 where id = 1; select 1/0; delete from acc where id = 2");
        assert_eq!(failure.state, "22012");
        assert_eq!(c.fails("insert into acc (id) values (1)").state, "23505");
        assert_eq!(c.fails("update acc set balance = 'x' where id = 1").position.as_deref(), Some("26"));
        assert_eq!(c.fails("update acc set nothing = now() where id = 1").position.as_deref(), Some("16"));
        assert_eq!(c.ok("select balance from acc where id = 1").value(), "100");
        assert_eq!(node.lanes(), Vec::<String>::new());
        node.assert_replays();
    });
}

#[test]
fn blocks_inside_one_query() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let sql = "begin; update acc set balance = 1 where id = 1; commit; update acc set balance = 2 where id = 2";
        assert_eq!(c.ok(sql).tags(), ["BEGIN", "UPDATE 1", "COMMIT", "UPDATE 1"]);
        let sql = "update acc set balance = 3 where id = 3; begin; update acc set balance = 4 where id = 4";
        // BEGIN would take the implicit transaction over.
        assert_eq!(c.fails(sql).state, "0A000");
        let sql = "begin; update acc set balance = 5 where id = 5; rollback; update acc set balance = 6 where id = 6";
        c.ok(sql);
        let failure = c.fails("begin; update acc set balance = 7 where id = 7; commit; update acc set balance = 8 where id = 8; select 1/0");
        assert_eq!(failure.state, "22012");
        assert_eq!(node.assert_replays().len(), 4); // 1, 2, 6, 7
        assert_eq!(
            c.ok("select string_agg(id || ':' || balance, ' ' order by id) from acc where balance < 10").value(),
            "1:1 2:2 6:6 7:7"
        );
    });
}

#[test]
fn comments_blanks_and_semicolons() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        for sql in [
            "/* a /* nested */ comment */ update acc set balance = 1 where id = 1 -- the end",
            ";; update acc set balance = 2 where id = 2 ; ; ",
            "update acc set note = now()::text where id = 3 -- the end",
            "update acc set note = now()::text where id = 4 /* the end */ ;",
            "insert into ev (what) values ('it''s; -- no comment') ;-- the end\n",
            "update acc set note = $$dollar; 'quoted'$$ where id = 5",
            "update acc set note = E'tab\\t\\'quote\\'' where id = 6",
            "update acc set note = 'two '\n  'parts' where id = 7",
            "update acc set note = U&'d\\0061t\\+000061' where id = 8",
        ] {
            c.ok(sql);
        }
        assert_eq!(node.assert_replays().len(), 9);
    });
}

#[test]
fn the_clients_own_returning_is_its_own() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let answer = c.ok("update acc set note = now()::text where id = 1 returning *");
        assert_eq!((answer.shape().as_str(), answer.rows()[0].len()), ("TDCZ", 4));
        let answer = c.ok("insert into ev (what) values ('a') returning id, what as said");
        assert_eq!(answer.rows(), [[Some("1".to_owned()), Some("a".to_owned())]]);
        let answer = c.ok("delete from acc where id in (select id from acc order by id limit 2) returning id");
        assert_eq!((answer.rows().len(), answer.tags()), (2, vec!["DELETE 2".to_owned()]));
        let answer = c.ok("update acc set balance = balance + 1 where id = 3 returning balance");
        assert_eq!(answer.value(), "301");
        let answer = c.ok("update acc set balance = balance + 1 where id = 77 returning balance");
        assert_eq!((answer.shape().as_str(), answer.tags()), ("TCZ", vec!["UPDATE 0".to_owned()]));
        node.assert_replays();
    });
}

#[test]
fn the_session_shows_no_traces() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        c.ok("insert into tok (r) values (random())");
        c.ok("insert into ev (what) values ('x')"); // takes the identity's next value
        assert_eq!(c.ok("select lastval()").value(), "1");
        c.ok("set search_path = plain");
        c.ok("update public.acc set note = now()::text where id = 1");
        c.ok("insert into public.tok (r) values (random())");
        assert_eq!(c.ok("select currval('public.tok_n_seq')").value(), "2");
        assert_eq!(c.ok("show search_path").value(), "plain");
        let settings =
            c.ok("select count(*) from pg_settings where source = 'session' and name <> 'search_path'").value();
        let plain = node
            .direct()
            .ok("select count(*) from pg_settings where source = 'session' and name <> 'search_path'")
            .value();
        assert_eq!(settings, plain);
        assert_eq!(c.ok("select count(*) from pg_prepared_statements").value(), "0");
        node.assert_replays();
    });
}
