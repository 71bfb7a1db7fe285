//! The schema comes about, once, and is what was shown.

use crate::common::Cluster;
use crate::{Site, database, on_15_and_18, sql};

on_15_and_18! {
    a_superuser_makes_all_of_it_and_a_second_run_finds_nothing_to_do,
    what_is_shown_changes_nothing_and_is_what_would_run,
    an_administrator_makes_it_for_the_control_role,
    a_schema_that_is_not_ours_or_newer_is_left_alone,
    two_runs_at_once_make_one_schema,
}

const TABLES: &str =
    "select string_agg(relname::text || ':' || relkind::text, ' ' order by relname::text) from pg_class
    where relnamespace = 'pgcanon'::regnamespace and relkind in ('r', 'p')";

fn a_superuser_makes_all_of_it_and_a_second_run_finds_nothing_to_do(cluster: &Cluster) {
    let site = Site::new(cluster, "user=postgres dbname=postgres", "");
    let out = site.init(&[]).code(0);
    assert!(out.contains("done    schema pgcanon\n") && out.contains("done    migration 1, base\n"), "{out}");
    assert_eq!(out.matches("migration 1").count(), 1, "{out}");
    assert_eq!(
        cluster.psql(TABLES),
        "applied:r conflict:r early:r echo:r error_queue:r journal:p journal_0:r journal_1:r journal_2:r meta:r migration:r peer:r \
         progress:r sequence:r statement_time:r tick:r tombstone:r"
    );
    assert_eq!(
        cluster.psql("select version, name from pgcanon.migration order by 1"),
        "1|base\n2|forward\n3|conflicts\n4|sequences\n5|statement_time"
    );
    assert_eq!(cluster.psql("select length(value) from pgcanon.meta where key = 'cluster_key'"), "64");
    assert_eq!(cluster.psql("select value from pgcanon.meta where key = 'slot'"), "0");
    assert_eq!(
        cluster.psql("select rolname, rolcanlogin from pg_roles where rolname ~ '^pgcanon' order by 1"),
        "pgcanon_apply|f\npgcanon_control|f"
    );
    let key = cluster.psql("select value from pgcanon.meta where key = 'cluster_key'");
    assert_eq!(site.init(&[]).code(0), "ok      nothing to do\n");
    assert_eq!(cluster.psql("select value from pgcanon.meta where key = 'cluster_key'"), key);
}

fn what_is_shown_changes_nothing_and_is_what_would_run(cluster: &Cluster) {
    let site = Site::new(cluster, "user=postgres dbname=postgres", "");
    let shown = site.init(&["--dry-run"]).code(0);
    assert_eq!(cluster.psql("select count(*) from pg_namespace where nspname = 'pgcanon'"), "0");
    assert_eq!(cluster.psql("select count(*) from pg_roles where rolname ~ '^pgcanon'"), "0");
    // psql takes it as it is, and then there is nothing left to do.
    cluster.psql_script(&shown);
    assert_eq!(site.init(&[]).code(0), "ok      nothing to do\n");
    assert_eq!(site.init(&["--dry-run"]).code(0), "-- nothing to do\n");
}

fn an_administrator_makes_it_for_the_control_role(cluster: &Cluster) {
    cluster.psql("create role \"Con \"\"trol\" login");
    cluster.psql("create database app");
    let site = Site::new(cluster, "user='Con \\\"trol' dbname=app", "");
    let refused = site.init(&[]).code(1);
    assert!(refused.contains("permission denied for database app (42501)"), "{refused}");
    assert!(refused.contains("CREATE SCHEMA pgcanon AUTHORIZATION \"Con \"\"trol\""), "{refused}");
    assert!(refused.contains("who may run it: \"postgres\", who owns database app, or a superuser"), "{refused}");
    site.init(&["--connect", "user=postgres"]).code(0);
    let owners = "select string_agg(distinct pg_get_userbyid(relowner), ' ') from pg_class
        where relnamespace = 'pgcanon'::regnamespace";
    assert_eq!(sql(cluster, "app", "postgres", owners).as_deref(), Ok("Con \"trol"));
    assert_eq!(site.init(&[]).code(0), "ok      nothing to do\n");
}

fn a_schema_that_is_not_ours_or_newer_is_left_alone(cluster: &Cluster) {
    let site = Site::new(cluster, "user=postgres dbname=postgres", "");
    cluster.psql("create schema pgcanon");
    for args in [&[][..], &["--drop"], &["--dry-run"]] {
        let said = site.init(args).code(1);
        assert!(said.contains("has a schema pgcanon that `pgcanon init` did not make"), "{said}");
    }
    cluster.psql("drop schema pgcanon");
    site.init(&[]).code(0);
    cluster.psql("insert into pgcanon.migration values (99, 'later')");
    let said = site.init(&[]).code(1);
    assert!(said.contains("version 99, made by a newer pgcanon"), "{said}");
}

fn two_runs_at_once_make_one_schema(cluster: &Cluster) {
    database(cluster, "app");
    let site = Site::new(cluster, "user=app dbname=app", "");
    std::thread::scope(|scope| {
        let runs = [(); 4].map(|()| scope.spawn(|| site.init(&[]).code(0)));
        let said = runs.map(|run| run.join().expect("it ends well"));
        assert_eq!(said.iter().filter(|s| s.contains("done    schema pgcanon")).count(), 1, "{said:?}");
    });
}

#[test]
fn without_control_it_says_what_to_write() {
    let said = Site::with("[node]\nname = \"a\"\n").init(&[]).code(2);
    assert!(said.contains("`control` is missing in [node]"), "{said}");
}

#[test]
fn a_bad_connection_string_is_a_matter_of_usage() {
    let site = Site::with("[node]\nname = \"a\"\ncontrol = \"user=x dbname=x\"\n");
    let said = site.init(&["--connect", "usr=x"]).code(2);
    assert!(said.contains("--connect"), "{said}");
}
