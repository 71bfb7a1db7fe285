//! The query means the same in every session, and costs little.

use std::time::Instant;

use pgcanon::catalog::load::{self, Named};
use pgcanon::catalog::relation::Catalog;

use crate::common::Pg;
use crate::{Database, names, on_15_and_18, relation, rules};

on_15_and_18! {
    every_session_sees_the_same,
    it_runs_by_the_simple_protocol_within_a_block_and_sees_its_ddl,
    a_database_in_another_encoding_has_its_names,
    many_tables_cost_little,
}

fn every_session_sees_the_same(pg: Pg) {
    let db = Database::new(
        pg,
        "sessions",
        "create role plain login; create schema \"évil\"; create table public.\"täble'\" (id int primary key, \"sp älte\" text);
         revoke all on schema public from public; revoke all on all tables in schema public from public;
         create function \"évil\".no(oid, oid) returns bool language sql as 'select false';
         create function \"évil\".no(\"char\", \"char\") returns bool language sql as 'select false';
         create operator \"évil\".= (leftarg = oid, rightarg = oid, function = \"évil\".no);
         create operator \"évil\".= (leftarg = \"char\", rightarg = \"char\", function = \"évil\".no);
         create operator \"évil\".<> (leftarg = \"char\", rightarg = \"char\", function = \"évil\".no);
         create domain \"évil\".text as int; create domain \"évil\".oid as varchar;
         create table \"évil\".pg_class (oid int);
         create function \"évil\".starts_with(text, text) returns bool language sql as 'select true';",
    );
    let names = ["public.t*", "nowhere.\\\\%_?*é"];
    let usual = db.load(&names);
    assert_eq!(relation(&usual, "täble'").key, Some(vec![0]));
    let rules = rules(&names);
    let query = load::query(&rules);
    for (user, settings) in [
        ("plain", ""),
        ("postgres", "set search_path = \"évil\", public, pg_catalog"),
        ("postgres", "set search_path = ''"),
        (
            "postgres",
            "set standard_conforming_strings = off; set client_encoding = latin1; set quote_all_identifiers = on",
        ),
        (
            "postgres",
            "set datestyle = german; set bytea_output = escape; set default_transaction_isolation = serializable",
        ),
        ("plain", "set default_transaction_read_only = on; set row_security = off"),
    ] {
        let answer = db.connect(user, async |client| {
            client.batch_execute(settings).await.unwrap_or_else(|e| panic!("{settings}: {e:?}"));
            simple(client, &query).await
        });
        let seen = Catalog::from_json(answer.as_bytes(), &rules, &Named::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(seen, usual, "{user}: {settings}");
    }
}

/// The one value that a query answers, by the simple protocol.
async fn simple(client: &tokio_postgres::Client, query: &str) -> String {
    let messages = client.simple_query(query).await.unwrap_or_else(|e| panic!("{e:?}"));
    let mut rows = messages.into_iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    rows.next().expect("one row")
}

fn it_runs_by_the_simple_protocol_within_a_block_and_sees_its_ddl(pg: Pg) {
    let db = Database::new(pg, "inblock", "create table t (id int primary key)");
    let rules = rules(&["public.*"]);
    let seen = db.connect("postgres", async |client| {
        client.batch_execute("begin; create table u (id int); alter table t add column x int").await.expect("DDL");
        let answer = simple(client, &load::query(&rules)).await;
        client.batch_execute("rollback").await.expect("the block is whole");
        Catalog::from_json(answer.as_bytes(), &rules, &Named::default()).unwrap_or_else(|e| panic!("{e}"))
    });
    assert_eq!(names(&seen), ["t", "u"]);
    assert_eq!(relation(&seen, "t").columns.len(), 2);
    assert_eq!(names(&db.load(&["public.*"])), ["t"]);
}

fn a_database_in_another_encoding_has_its_names(pg: Pg) {
    let db = Database::new(
        pg,
        "outside",
        "create database latin template template0 encoding latin1 lc_collate 'C' lc_ctype 'C'",
    );
    let latin = Database { cluster: db.cluster, name: "latin" };
    latin.run("create table \"täble\" (id int)");
    assert_eq!(names(&latin.load(&["public.tä*"])), ["täble"]);
}

fn many_tables_cost_little(pg: Pg) {
    let db = Database::new(
        pg,
        "many",
        "create table t_0 (id serial primary key, b text default 'x', c timestamptz default now())",
    );
    let timed = |what: &str, names: &[&str]| {
        let start = Instant::now();
        let catalog = db.load(names);
        println!("{pg:?}, {what}: {} relations in {:?}", catalog.relations.len(), start.elapsed());
        catalog.relations.len()
    };
    assert_eq!(timed("one table", &["public.*"]), 1);
    for (from, to) in [(1, 499), (500, 999)] {
        db.run(&format!(
            "do $$ begin for i in {from}..{to} loop execute format('create table t_%s (id serial primary key, a int, b text default
                ''x'', c timestamptz default now(), d numeric, e jsonb, f uuid, g bool, h int references t_0, i text)', i);
                if i % 200 = 0 then commit; end if; end loop; end $$"
        ));
    }
    assert_eq!(timed("one of 1000", &["public.t_1"]), 2);
    assert_eq!(timed("1000 tables", &["public.*"]), 1000);
}
