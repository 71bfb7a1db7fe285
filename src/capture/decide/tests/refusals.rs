//! What a client reads when a statement is refused.

use super::*;

fn said(refusal: &Refusal) -> [&str; 3] {
    [&refusal.message, refusal.detail.as_deref().unwrap(), refusal.hint.as_deref().unwrap()]
}

#[test]
fn keys_and_rights() {
    let [message, detail, hint] = said(&node().refuse("update acc set id = id + random()")).map(str::to_owned);
    assert_eq!(message, "UPDATE of table \"public.acc\" cannot be replicated");
    assert!(
        detail.ends_with(
            "Its text cannot travel either: it calls a function that may give something else on another node."
        ),
        "{detail}"
    );
    assert!(hint.starts_with("Name the row by its whole key in WHERE"), "{hint}");

    let refusal = node().refuse("delete from bare where b = current_user");
    let [message, detail, hint] = said(&refusal);
    assert_eq!(message, "DELETE of table \"public.bare\" cannot be replicated");
    assert!(detail.starts_with("The table has no key") && detail.ends_with("it asks who runs it."), "{detail}");
    assert!(hint.starts_with("Give \"public.bare\" a primary key"), "{hint}");

    let refusal = node().with(|n| n.blind = Blind::read(b"i")).refuse("insert into log (what) values ('x')");
    assert!(said(&refusal)[2].starts_with("GRANT SELECT ON \"public\".\"log\" TO the role"), "{refusal:?}");
    let refusal = node().with(|n| n.row_security = true).refuse("delete from acc");
    assert!(said(&refusal)[1].starts_with("Row-level security"), "{refusal:?}");
    let refusal = node().with(|n| n.relation(10, |r| r.rewrite_rule = true)).refuse("delete from acc where id = 1");
    assert_eq!(said(&refusal)[2], "Drop the rule, or use a trigger in its place.");
    let refusal = node().refuse("merge into acc using two on id = a when matched then update set bal = random()");
    assert!(said(&refusal)[1].starts_with("MERGE shows what it did only since PostgreSQL 17."), "{refusal:?}");
    let old = node().with(|n| n.catalog.server = 180_000);
    let refusal = old.refuse("update acc as old set id = id + random()");
    assert!(said(&refusal)[2].contains("\"old\" and \"new\""), "{refusal:?}");
}

#[test]
fn encodings_and_parameters() {
    let rules = rules("[[table]]\nname = \"public.*\"\nwhere = \"name = 'é'\"\n");
    let node = node().with(|n| (n.catalog.rules, n.encoding) = (rules.into(), "LATIN1"));
    assert_eq!(said(&node.refuse("delete from acc"))[2], "SET client_encoding TO 'UTF8'.");
    let params: Vec<_> = (1..=65_535).map(|n| format!("${n}")).collect();
    let sql = format!("with d as (delete from acc where id in ({})) select 1", params.join(","));
    assert_eq!(said(&super::node().refuse(&sql))[2], "Write fewer rows at a time.");
}

#[test]
fn with_queries_explain_and_execute() {
    let refusal = node().refuse("with gone as (delete from acc returning id + 1, 5) select * from gone");
    let [message, _, hint] = said(&refusal);
    assert_eq!(message, "data-modifying WITH query \"gone\" on table \"public.acc\" cannot be replicated");
    assert!(hint.starts_with("List the columns one by one"), "{hint}");
    let refusal = node().refuse("with gone as (delete from acc using two returning *) select * from gone");
    assert!(said(&refusal)[2].starts_with("List the columns one by one"), "{refusal:?}");

    for sql in ["explain analyze update acc set bal = 1", "explain (analyze) with d as (delete from acc) select 1"] {
        let refusal = node().refuse(sql);
        assert!(said(&refusal)[0].starts_with("EXPLAIN ANALYZE of "), "{refusal:?}");
        assert!(said(&refusal)[2].starts_with("Leave ANALYZE out"), "{refusal:?}");
    }
    node().lanes(&[('-', "explain analyze select * from acc"), ('-', "explain (analyze off) delete from acc")]);

    let found = node().execute("prepare p as with d as (delete from acc) select 1", "execute p");
    let Decision::Refuse(refusal) = found.decision else { panic!() };
    assert_eq!(said(&refusal)[0], "EXECUTE of a DELETE of table \"public.acc\" cannot be replicated");
    let found = node().execute("prepare p as delete from acc", "explain analyze execute p");
    assert!(matches!(found.decision, Decision::Refuse(_)));
    let found = node().execute("prepare p as delete from acc", "explain execute p");
    assert!(matches!(found.decision, Decision::Pass { .. }));
}

#[test]
fn what_hides_a_write() {
    for sql in [
        "copy (delete from acc returning *) to stdout",
        "create table mine.x as with d as (delete from acc returning *) select * from d",
    ] {
        let refusal = node().refuse(sql);
        assert_eq!(said(&refusal)[1], "It executes more than it names: DELETE FROM acc.");
    }
    node().lanes(&[('-', "copy (select * from acc) to stdout")]);
}

#[test]
fn copies() {
    let refusal = node().refuse("copy log (what) from stdin (default 'x')");
    let [message, detail, hint] = said(&refusal);
    assert_eq!(message, "COPY into table \"public.log\" cannot be replicated");
    assert_eq!(detail, "Column \"id\" is left out and gets another default on every node.");
    assert!(hint.contains("COPY into a temporary table"), "{hint}");
    assert!(said(&node().refuse("copy acc from '/x'"))[1].contains("a file or a program"));
}

#[test]
fn functions_and_blocks() {
    for sql in ["select app.book(1)", "select book(1)", "call book()", "insert into nothing values (book(1))"] {
        let refusal = node().refuse(sql);
        assert_eq!(
            said(&refusal),
            [
                "call of function \"app.book\" cannot be replicated",
                "The function writes replicated tables: its body has INSERT INTO acc.",
                "Send its statements one by one, or name it under harmless in [capture] of pgcanon's configuration if it writes none.",
            ]
        );
    }
    node().lanes(&[('-', "select other.book(1)"), ('-', "prepare p as select book(1)")]);
    let found = node().execute("prepare p as select book(1)", "execute p");
    assert!(matches!(found.decision, Decision::Refuse(_)));
    assert_eq!(said(&node().refuse("do language plpgsql U&'x'"))[2], "Write the body as one dollar-quoted string.");
    let refusal = node().refuse("do $$ begin delete from acc; end $$");
    assert_eq!(said(&refusal)[1], "It writes replicated tables: its body has DELETE FROM acc.");
    node().lanes(&[('~', "do $$ begin perform 1 from acc; end $$")]);
}

#[test]
fn temporary_relations_that_lead_to_others() {
    let node = node().with(|n| n.shadowed = true);
    for sql in ["insert into seen values (1)", "with d as (delete from seen) select 1", "copy seen from stdin"] {
        let refusal = node.refuse(sql);
        assert!(said(&refusal)[0].ends_with("of temporary relation \"seen\" cannot be replicated"), "{refusal:?}");
    }
    node.lanes(&[('-', "insert into acc values (1)"), ('-', "select * from seen")]);
}

#[test]
fn ways_around() {
    let refusal = node().refuse("insert into seen values (1)");
    assert_eq!(said(&refusal)[0], "INSERT of view \"public.seen\" cannot be replicated");
    let refusal = node().refuse("delete from other.far");
    let [message, detail, hint] = said(&refusal);
    assert_eq!(message, "DELETE of table \"other.far\" cannot be replicated");
    assert!(detail.contains("a foreign key of \"public.acc\""), "{detail}");
    assert!(hint.contains("replicate \"other.far\" as well"), "{hint}");
    node().lanes(&[('-', "update other.far set v = 1"), ('X', "update other.far set id = 1")]);
    let refusal = node().refuse("insert into other.over values (1)");
    assert_eq!(said(&refusal)[2], "Write \"public.part\" itself, or replicate \"other.over\" as well.");
    let refusal = node().refuse("truncate other.fires");
    assert!(
        said(&refusal)[1].ends_with("a trigger of it writes tables that are: its body has INSERT INTO acc."),
        "{refusal:?}"
    );
    node().lanes(&[
        ('S', "truncate other.over"),
        ('X', "copy other.fires from stdin"),
        ('X', "delete from other.fires"),
    ]);
    let refusal = node().refuse("truncate part_1");
    assert!(said(&refusal)[2].starts_with("DELETE FROM the partition"), "{refusal:?}");
    let refusal = node().refuse("insert into pgcanon.journal_1 (meta) values ('')");
    assert_eq!(said(&refusal)[0], "table \"pgcanon.journal_1\" is written by pgcanon alone");
    for sql in ["create table public.new as select 1", "select 1 into new", "create table new as select 1"] {
        assert!(said(&node().refuse(sql))[2].starts_with("Use CREATE TABLE and then INSERT"), "{sql}");
    }
    node().lanes(&[('~', "create table mine.new as select 1"), ('~', "create temp table new as select 1")]);
}

#[test]
fn what_is_not_understood() {
    let deep = format!("insert into acc values ({}1{})", "(".repeat(500), ")".repeat(500));
    match node().lane(&deep) {
        'X' => assert!(said(&node().refuse(&deep))[1].contains("names \"acc\"")),
        lane => assert_eq!(lane, 'R'),
    }
    // The server refuses these itself.
    node().lanes(&[('~', "insert into acc values ('x"), ('~', "insert into acc values (1.2.3x)")]);
}

#[test]
fn triggers_that_nobody_has_decided_about() {
    let with_trigger = |rule: &str| {
        let rules = rules(&format!("[[table]]\nname = \"public.*\"\n{rule}\n"));
        node().with(|n| {
            n.catalog.rules = rules.into();
            let acc = n.catalog.relations.values_mut().find(|r| r.name.table == "acc").unwrap();
            std::sync::Arc::make_mut(acc).user_trigger = true;
        })
    };
    let undecided = with_trigger("");
    undecided.lanes(&[
        ('X', "delete from acc where id = 1"),
        ('X', "truncate acc"),
        ('X', "copy acc from stdin"),
        ('R', "insert into log (what) values ('x')"),
    ]);
    assert!(said(&undecided.refuse("truncate acc"))[2].starts_with("Set triggers = \"fire\""));
    assert!(undecided.catalog.triggers_are_decided().is_err());
    for decided in ["triggers = \"fire\"", "triggers = \"skip\""] {
        with_trigger(decided).lanes(&[('S', "delete from acc where id = 1"), ('S', "truncate acc")]);
    }
}

#[test]
fn the_rule_may_let_them_run_alone() {
    for (word, lane) in [("warn", '!'), ("ignore", '-')] {
        let rules = rules(&format!("[[table]]\nname = \"public.*\"\nunreplicable = \"{word}\"\n"));
        let node = node().with(|n| n.catalog.rules = rules.into());
        node.lanes(&[
            (lane, "update acc set id = id + random()"),
            (lane, "explain analyze delete from acc"),
            (lane, "copy acc from '/x'"),
            ('S', "delete from acc where id = 1"),
            ('X', "select book(1)"),
        ]);
    }
}
