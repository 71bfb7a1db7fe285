//! Who may do what in schema `pgcanon`, and what `init` says where it may not.

use crate::common::Cluster;
use crate::{Site, database, on_15_and_18, sql};

on_15_and_18! {
    the_owner_of_a_database_needs_nothing_more,
    applications_append_to_the_journal_and_nothing_else,
    the_apply_role_has_the_least_it_needs,
    rights_on_ruled_tables_are_shown_and_with_grant_given,
    a_table_of_somebody_else_is_named_with_who_could_grant,
    a_control_role_that_is_not_there_is_named,
}

fn the_owner_of_a_database_needs_nothing_more(cluster: &Cluster) {
    database(cluster, "app");
    let site = Site::new(cluster, "user=app dbname=app", "");
    let said = site.init(&[]).code(0);
    for role in ["pgcanon_control", "pgcanon_apply"] {
        assert!(said.contains(&format!("note    role {role} ")), "{said}");
        assert!(said.contains(&format!("CREATE ROLE {role} NOLOGIN")), "{said}");
    }
    assert!(said.contains("\"app\" has no CREATEROLE"), "{said}");
    // Somebody makes the roles: the owner then gives them their rights.
    cluster.psql("create role pgcanon_control");
    cluster.psql("create role pgcanon_apply");
    let said = site.init(&[]).code(0);
    assert!(said.contains("done    rights of pgcanon_apply in schema pgcanon"), "{said}");
    assert_eq!(site.init(&[]).code(0), "ok      nothing to do\n");
}

fn applications_append_to_the_journal_and_nothing_else(cluster: &Cluster) {
    cluster.psql("create role nobody login");
    Site::new(cluster, "user=postgres dbname=postgres", "").init(&[]).code(0);
    let nobody = |text: &str| sql(cluster, "postgres", "nobody", text);
    assert_eq!(nobody("insert into pgcanon.journal (slot, meta, data) values (1, 'm', 'd')").as_deref(), Ok(""));
    let row = "select j.tableoid::regclass, xid > '3', lsn > '0/0', pid > 0, meta, data from pgcanon.journal j";
    assert_eq!(cluster.psql(row), "pgcanon.journal_1|t|t|t|\\x6d|\\x64");
    assert_eq!(nobody("insert into pgcanon.statement_time default values").as_deref(), Ok(""));
    assert_eq!(cluster.psql("select at < clock_timestamp(), committed is null from pgcanon.statement_time"), "t|t");
    for forbidden in [
        "select 1 from pgcanon.journal",
        "insert into pgcanon.journal (slot, meta, data) values (1, 'm', 'd') returning xid",
        "insert into pgcanon.journal (slot, meta, data, xid) values (1, 'm', 'd', '5')",
        "insert into pgcanon.journal (slot, meta, data, lsn) values (1, 'm', 'd', '0/1')",
        "insert into pgcanon.journal (slot, meta, data, pid) values (1, 'm', 'd', 5)",
        "insert into pgcanon.journal_1 (slot, meta, data, xid) values (1, 'm', 'd', '5')",
        "update pgcanon.journal set meta = ''",
        "delete from pgcanon.journal",
        "truncate pgcanon.journal",
        "copy pgcanon.journal to stdout",
        "select 1 from pgcanon.meta",
        "select 1 from pgcanon.tick",
        "select 1 from pgcanon.error_queue",
        "select 1 from pgcanon.tombstone",
        "select 1 from pgcanon.statement_time",
        "insert into pgcanon.statement_time (xid) values ('5')",
        "insert into pgcanon.statement_time (at) values (now())",
        "insert into pgcanon.statement_time (committed) values (now())",
        "select 1 from pgcanon.conflict",
        "select 1 from pgcanon.migration",
        "insert into pgcanon.progress values ('a', 1, 1, 1, 1)",
        "create table pgcanon.x ()",
    ] {
        let said = nobody(forbidden).expect_err(forbidden);
        assert!(said.contains("42501"), "{forbidden}: {said}");
    }
}

fn the_apply_role_has_the_least_it_needs(cluster: &Cluster) {
    cluster.psql("create role bringer login");
    Site::new(cluster, "user=postgres dbname=postgres", "").init(&[]).code(0);
    cluster.psql("grant pgcanon_apply to bringer");
    let bringer = |text: &str| sql(cluster, "postgres", "bringer", text);
    for allowed in [
        "insert into pgcanon.progress values ('a', 1, 1, 1, 1) on conflict (origin) do update set tick = 2",
        "insert into pgcanon.tombstone (nsp_name, table_name, key) values ('s', 't', 'k')",
        "insert into pgcanon.echo (head, image, nsp_name, table_name, key) values ('h', 'i', 's', 't', 'k')",
        "delete from pgcanon.echo where key = 'k'",
        "insert into pgcanon.conflict (origin, tick, ord, nsp_name, table_name, kind, decision)
            values ('a', 1, 1, 's', 't', 'k', 'd')",
    ] {
        assert_eq!(bringer(allowed).as_deref(), Ok(""), "{allowed}");
    }
    for forbidden in [
        "select 1 from pgcanon.meta",
        "select 1 from pgcanon.journal",
        "select 1 from pgcanon.error_queue",
        "update pgcanon.echo set image = ''",
    ] {
        assert!(bringer(forbidden).is_err_and(|said| said.contains("42501")), "{forbidden}");
    }
}

const RULES: &str = "[[table]]\nname = \"shop.ord*\"\n";

fn rights_on_ruled_tables_are_shown_and_with_grant_given(cluster: &Cluster) {
    cluster.psql("create schema shop create table orders (id int) create table \"Ord\" (id int) create table ordés ()");
    let site = Site::new(cluster, "user=postgres dbname=postgres", RULES);
    let said = site.init(&[]).code(0);
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON \"shop\".\"orders\" TO pgcanon_apply;";
    assert!(said.contains(grant) && !said.contains("\"Ord\""), "{said}");
    let may = "select has_table_privilege('pgcanon_apply', 'shop.orders', 'truncate'),
        has_table_privilege('pgcanon_apply', 'shop.\"Ord\"', 'select'), has_schema_privilege('pgcanon_apply', 'shop', 'usage')";
    assert_eq!(cluster.psql(may), "f|f|f");
    let said = site.init(&["--grant"]).code(0);
    assert!(said.contains("done    rights of pgcanon_apply on shop.ordés"), "{said}");
    assert_eq!(cluster.psql(may), "t|f|t");
    assert_eq!(site.init(&[]).code(0), "ok      nothing to do\n");
}

fn a_table_of_somebody_else_is_named_with_who_could_grant(cluster: &Cluster) {
    database(cluster, "app");
    cluster.psql("create role pgcanon_apply");
    let made = sql(cluster, "app", "postgres", "create schema shop create table orders (id int)");
    assert_eq!(made.as_deref(), Ok(""));
    let said = Site::new(cluster, "user=app dbname=app", RULES).init(&["--grant"]).code(1);
    assert!(said.contains("done    migration 1, base"), "{said}");
    assert!(
        said.contains("FAILED  rights of pgcanon_apply on shop.orders: permission denied for schema shop"),
        "{said}"
    );
    assert!(said.contains("ON \"shop\".\"orders\" TO pgcanon_apply\n"), "{said}");
    assert!(said.contains("who may run it: \"postgres\", who owns the table, or a superuser"), "{said}");
}

fn a_control_role_that_is_not_there_is_named(cluster: &Cluster) {
    let site = Site::new(cluster, "user=ghost dbname=postgres", "");
    let said = site.init(&["--connect", "user=postgres"]).code(2);
    assert!(said.contains("there is no role \"ghost\"") && said.contains("CREATE ROLE \"ghost\" LOGIN"), "{said}");
}
