//! DDL (§9): what travels of it, under which names, and what is refused.

use super::*;
use crate::journal::entry::{Head, Op};

/// A node where these rules stand.
fn ruled(rules_text: &str) -> Node {
    node().with(|n| n.catalog.rules = rules(rules_text).into())
}

/// The heads of what travels.
fn heads(node: &Node, sql: &str) -> Vec<Head> {
    let write = node.write(sql);
    assert!(write.heads.iter().all(|h| (h.op, h.lane) == (Op::Ddl, Lane::Locked)), "{sql}");
    write.heads.clone()
}

/// The text that travels, with what each peer puts in its own way in `<…>`, and the table that it is of.
fn text(node: &Node, sql: &str) -> String {
    let all = heads(node, sql).into_iter().map(|head| {
        let text = head.text.unwrap();
        let (mut out, mut at) = (String::new(), 0);
        for place in &text.names {
            let (start, end) = (place.start as usize, place.end as usize);
            out.push_str(&String::from_utf8_lossy(&text.sql[at..start]));
            out.push_str(&format!("<{}>", String::from_utf8_lossy(&text.sql[start..end])));
            at = end;
        }
        out + &String::from_utf8_lossy(&text.sql[at..])
    });
    all.collect::<Vec<_>>().join("; ")
}

#[test]
fn relations_are_named_in_full_wherever_they_stand() {
    let node = node();
    for (sql, expected) in [
        (
            "create table made (id int references acc, o int references other.far(id)) ;",
            r#"create table <"public"."made"> (id int references <"public"."acc">, o int references "other"."far"(id))"#,
        ),
        (
            "create table if not exists public.made (like seen)",
            r#"create table if not exists <"public"."made"> (like "public"."seen")"#,
        ),
        (
            "/* acc */ alter table only acc add column acc text default 'acc'",
            r#"/* acc */ alter table only <"public"."acc"> add column acc text default 'acc'"#,
        ),
        ("create index acc on acc using btree (bal)", r#"create index acc on <"public"."acc"> using btree (bal)"#),
        ("alter index i_acc rename to better", r#"alter index <"public">."i_acc" rename to better"#),
        ("drop index if exists i_acc, nothing", r#"DROP INDEX IF EXISTS <"public">."i_acc""#),
        (
            "drop table if exists acc, nothing, other.far, two cascade",
            r#"DROP TABLE IF EXISTS <"public"."acc">, <"public"."two"> CASCADE"#,
        ),
        ("comment on column acc.bal is 'now'", r#"comment on column <"public"."acc">.bal is 'now'"#),
        (
            "create table more partition of part for values in (1)",
            r#"create table <"public"."more"> partition of <"public"."part"> for values in (1)"#,
        ),
        ("alter table part_1 add check (v > 0)", r#"alter table <"public"."part_1"> add check (v > 0)"#),
        ("alter table acc rename to acd", r#"alter table <"public"."acc"> rename to acd"#),
        ("alter table if exists nothing add x int", ""),
    ] {
        match expected {
            "" => assert_eq!(node.lane(sql), '~', "{sql}"),
            _ => assert_eq!(text(&node, sql), expected, "{sql}"),
        }
    }
}

#[test]
fn what_the_rule_does_not_name_itself_stands_beside_what_it_does() {
    let node = ruled(
        "[[peer]]\nname = \"b\"\nconnect = \"host=/tmp user=x dbname=y\"\n[[table]]\nname = \"public.part\"\nrename = { b = \"far.p\" }\n",
    );
    assert_eq!(
        text(&node, "create table leaf partition of part default"),
        r#"create table <"public">."leaf" partition of <"public"."part"> default"#
    );
    assert_eq!(text(&node, "drop table part_1"), r#"DROP TABLE <"public">."part_1""#);
    let [head] = &heads(&node, "drop table part_1")[..] else { panic!() };
    assert_eq!((head.schema.as_str(), head.table.as_str()), ("public", "part"));
    let place = &head.text.as_ref().unwrap().names[0];
    assert!(place.table == "part" && head.names_schema(head.text.as_ref().unwrap(), place));
    assert_eq!(node.lane("create table leaf (a int)"), '~');
    assert_eq!(node.lane("alter table acc add x int"), '~');
}

#[test]
fn it_takes_its_search_path_and_its_role_along() {
    let settings = |sql: &str| {
        let head = heads(&node(), sql).remove(0);
        let settings = head.text.unwrap().settings;
        settings.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(settings("create table made (a int)"), "TimeZone=UTC search_path=\"public\" role=app");
    assert_eq!(settings("alter table acc add x int"), "TimeZone=UTC search_path=\"public\" role=boss");
    assert_eq!(settings("alter table acc owner to x"), "TimeZone=UTC search_path=\"public\"");
}

#[test]
fn tables_that_go_to_other_peers_are_dropped_by_texts_of_their_own() {
    let peer = |name: &str| format!("[[peer]]\nname = \"{name}\"\nconnect = \"host=/tmp user=x dbname=y\"\n");
    let node = ruled(&format!(
        "{}{}[[table]]\nname = \"public.two\"\npeers = [\"b\"]\n[[table]]\nname = \"public.*\"\n",
        peer("b"),
        peer("c")
    ));
    assert_eq!(
        text(&node, "drop table acc, two, log"),
        r#"DROP TABLE <"public"."acc">, <"public"."log">; DROP TABLE <"public"."two">"#
    );
    let refusal = node.refuse("alter table acc add x int references two");
    assert_eq!(refusal.detail.unwrap(), "It names \"public.two\", which does not go to the same peers.");
    // The other way round it is wherever it has to be.
    assert_eq!(node.lane("alter table two add x int references acc"), 'L');
}

#[test]
fn what_is_no_ruled_table_passes() {
    node().lanes(&[
        ('~', "create temp table acc (a int)"),
        ('~', "create table pg_temp.acc (a int)"),
        ('~', "create table other.made (a int)"),
        ('~', "create table pgcanon.made (a int)"),
        ('~', "drop table if exists nothing"),
        ('~', "alter table other.far add x int default random()"),
        ('~', "create view acc2 as select * from acc"),
        ('~', "drop schema public"),
        ('~', "create function f() returns int language sql as 'select 1'"),
        ('~', "alter table seen rename to seen_too"),
    ]);
    let refused = |key: &str| ruled(&format!("[[table]]\nname = \"public.*\"\n{key}\n"));
    refused("ddl = \"local\"")
        .lanes(&[('~', "alter table acc add x int default random()"), ('~', "drop table acc, two")]);
    refused("ddl = \"refuse\"").lanes(&[
        ('X', "alter table acc add x int"),
        ('X', "create table made (a int)"),
        ('~', "create table other.made (a int)"),
    ]);
    refused("ddl = \"refuse\"\nunreplicable = \"warn\"").lanes(&[('X', "alter table acc add x int")]);
    refused("unreplicable = \"warn\"").lanes(&[('!', "create index concurrently on acc (id)")]);
    refused("unreplicable = \"ignore\"").lanes(&[('~', "create index concurrently on acc (id)")]);
}

#[test]
fn what_would_not_be_the_same_everywhere_is_refused() {
    for sql in [
        "create index concurrently on acc (bal)",
        "drop index concurrently i_acc",
        "alter table part detach partition part_1 concurrently",
        "alter table acc add column x timestamptz default now()",
        "alter table acc add column x uuid default gen_random_uuid()",
        "alter table acc add column x timestamptz default current_timestamp",
        "alter table acc add column x int default mine(1)",
        "alter table acc add column x serial",
        "alter table acc add column x int generated always as identity",
        "alter table acc alter name type int using mine(name)",
        "alter table acc alter at set default 'now'",
        "create table made (at timestamptz default 'today')",
        "create table p2 partition of part for values from (now()) to (maxvalue)",
        "create schema public create table made (a int)",
        "alter table other.far set schema public",
        "alter table other.far inherit acc",
        "alter table part attach partition other.far default",
        "alter table acc set schema other",
        "drop schema public cascade",
        "alter schema public rename to private",
    ] {
        let refusal = node().refuse(sql);
        assert!(refusal.detail.is_some() && refusal.hint.is_some(), "{sql}");
    }
    node().lanes(&[
        ('L', "alter table acc add column x int default 1 + abs(-1) not null"),
        ('L', "alter table acc add column x text default upper('a')"),
        ('L', "alter table acc alter at set default now()"),
        ('L', "create table made (id serial primary key, at timestamptz default now())"),
        ('L', "alter table acc alter bal type numeric(10, 2) using round(bal)"),
        ('L', "alter table part attach partition log default"),
    ]);
    let filtered = ruled("[[table]]\nname = \"public.*\"\nwhere = \"id > 0\"\n");
    filtered.lanes(&[('X', "drop table acc"), ('L', "alter table acc add x int"), ('L', "create table made (id int)")]);
    let columns = ruled("[[table]]\nname = \"public.*\"\ncolumns = [\"id\"]\n");
    columns.lanes(&[('X', "alter table acc add x int"), ('X', "create table made (id int)")]);
    let loose = node().with(|n| n.conforming = false);
    loose
        .lanes(&[('X', r"alter table acc add x text default 'a\\b'"), ('L', "alter table acc add x text default 'a'")]);
}

#[test]
fn the_session_is_asked_once_and_only_about_tables() {
    let node = node().with(|n| n.asked = false);
    let asked = |sql: &str| match node.ask(sql) {
        Err(Ask::Scene(names)) => names.len(),
        Ok(Decision::Pass { .. }) => 0,
        other => panic!("{other:?}"),
    };
    assert_eq!(asked("create table made (id int references acc) inherits (two)"), 3);
    assert_eq!(asked("create temp table made (id int)"), 0);
    assert_eq!(asked("grant select on acc to joe"), 0);
}
