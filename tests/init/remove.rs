//! `pgcanon init --drop` leaves what it found, and nothing of its own.

use crate::common::Cluster;
use crate::{Site, database, on_15_and_18, sql};

on_15_and_18! {
    nothing_is_left,
    what_others_built_on_it_keeps_all_of_it,
    roles_that_another_database_uses_stay_until_it_is_the_last,
    roles_that_init_did_not_make_stay,
}

fn nothing_is_left(cluster: &Cluster) {
    cluster.psql("create schema shop create table orders (id int)");
    let catalog = "select (select count(*) from pg_class), (select count(*) from pg_roles),
        (select count(*) from pg_shdepend), (select count(*) from pg_shdescription),
        (select string_agg(relacl::text, ' ') from pg_class where relname = 'orders')";
    let before = cluster.psql(catalog);
    let site = Site::new(cluster, "user=postgres dbname=postgres", "[[table]]\nname = \"shop.*\"\n");
    site.init(&["--grant"]).code(0);
    cluster.psql("insert into pgcanon.journal (slot, meta, data) values (0, '', '')");
    let shown = site.init(&["--drop", "--dry-run"]).code(0);
    assert!(shown.contains("DROP SCHEMA pgcanon;") && shown.contains("DROP ROLE pgcanon_apply;"), "{shown}");
    site.init(&["--drop"]).code(0);
    // An access list that says what it said before, spelled out, is no trace.
    let traces =
        cluster.psql(catalog).replace("postgres=arwdDxt/postgres", "").replace("postgres=arwdDxtm/postgres", "");
    assert_eq!(traces.replace("{}", ""), before);
    assert_eq!(site.init(&["--drop"]).code(0), "ok      nothing to do\n");
    site.init(&["--grant"]).code(0);
}

fn what_others_built_on_it_keeps_all_of_it(cluster: &Cluster) {
    let site = Site::new(cluster, "user=postgres dbname=postgres", "");
    site.init(&[]).code(0);
    cluster.psql("create view queued as select * from pgcanon.error_queue");
    let said = site.init(&["--drop"]).code(1);
    assert!(said.contains("view public.queued depends on table pgcanon.error_queue"), "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(cluster.psql("select count(*) from pgcanon.migration"), "5");
    cluster.psql("drop view queued; create table pgcanon.mine ()");
    let said = site.init(&["--drop"]).code(1);
    assert!(said.contains("table pgcanon.mine depends on schema pgcanon"), "{said}");
    assert_eq!(cluster.psql("select count(*) from pgcanon.migration"), "5");
}

fn roles_that_another_database_uses_stay_until_it_is_the_last(cluster: &Cluster) {
    cluster.psql("create database one");
    cluster.psql("create database two");
    let [one, two] = ["one", "two"].map(|db| Site::new(cluster, &format!("user=postgres dbname={db}"), ""));
    one.init(&[]).code(0);
    two.init(&[]).code(0);
    let roles = || cluster.psql("select count(*) from pg_roles where rolname in ('pgcanon_control', 'pgcanon_apply')");
    let said = one.init(&["--drop"]).code(0);
    assert!(said.contains("note    role pgcanon_apply: kept"), "{said}");
    assert!(said.contains("in database two"), "{said}");
    assert_eq!(roles(), "2");
    assert_eq!(sql(cluster, "two", "postgres", "select count(*) from pgcanon.migration").as_deref(), Ok("5"));
    two.init(&["--drop"]).code(0);
    assert_eq!(roles(), "0");
}

fn roles_that_init_did_not_make_stay(cluster: &Cluster) {
    database(cluster, "app");
    cluster.psql("create role pgcanon_control");
    let site = Site::new(cluster, "user=app dbname=app", "");
    site.init(&[]).code(0);
    let said = site.init(&["--drop"]).code(0);
    assert!(said.contains("note    role pgcanon_control stays: `pgcanon init` did not make it"), "{said}");
    assert_eq!(cluster.psql("select count(*) from pg_roles where rolname = 'pgcanon_control'"), "1");
    assert_eq!(sql(cluster, "app", "app", "select to_regnamespace('pgcanon') is null").as_deref(), Ok("t"));
}
