//! `pgcanon init --sequences` gives a node numbers of its own, and takes that back.

use crate::common::session::Session;
use crate::common::{Cluster, Pg, eventually};
use crate::{Site, database, on_15_and_18, sql};

on_15_and_18! {
    each_node_has_the_place_of_its_name_and_a_second_run_finds_nothing_to_do,
    another_step_lays_them_anew,
    off_and_drop_make_them_what_they_were,
    what_is_shown_is_what_would_run,
    what_cannot_be_laid_is_named_and_left_alone,
    a_sequence_of_somebody_else_is_named_with_who_could_lay_it,
}

/// A node "a" between the peers "0" and "b": the second of three.
const RULES: &str = "\
[[peer]]
name = \"b\"
connect = \"host=127.0.0.1 dbname=x user=x\"

[[peer]]
name = \"0\"
connect = \"host=127.0.0.1 dbname=x user=x\"

[[table]]
name = \"shop.*\"
";

const TABLES: &str = "\
create schema shop;
create table shop.orders (id serial primary key, part bigint generated always as identity, ref uuid);
create sequence shop.\"Its \"\"own\" start 100 increment 5;
create table shop.bills (nr int8 primary key default nextval('shop.\"Its \"\"own\"'), name text);
create table shop.parted (id serial, day int, primary key (id, day)) partition by list (day);
create table shop.parted_1 partition of shop.parted for values in (1);
create table other (id serial);
insert into shop.orders select from generate_series(1, 5);
insert into shop.bills select from generate_series(1, 2);";

fn site(cluster: &Cluster) -> Site {
    cluster.psql(TABLES);
    Site::new(cluster, "user=postgres dbname=postgres", RULES)
}

/// Step and start of every sequence outside of schema pgcanon.
fn laid(cluster: &Cluster) -> String {
    cluster.psql(
        "select sequencename, increment_by, start_value from pg_sequences where schemaname <> 'pgcanon' order by 1",
    )
}

fn next(cluster: &Cluster, sequence: &str) -> String {
    cluster.psql(&format!("select nextval('{sequence}')"))
}

const BEFORE: &str = "Its \"own|5|100\norders_id_seq|1|1\norders_part_seq|1|1\nother_id_seq|1|1\nparted_id_seq|1|1";

fn each_node_has_the_place_of_its_name_and_a_second_run_finds_nothing_to_do(cluster: &Cluster) {
    let site = site(cluster);
    // What came from other nodes, and what only a partition says.
    cluster.psql("insert into shop.orders (id) values (50)");
    cluster.psql("insert into shop.parted values (7, 1)");
    assert!(!site.init(&["--grant"]).code(0).contains("sequence "));
    assert_eq!(laid(cluster), BEFORE);
    let said = site.init(&["--sequences"]).code(0);
    assert!(said.contains("done    sequence shop.orders_id_seq of shop.orders.id: place 2 of 3\n"), "{said}");
    assert_eq!(
        laid(cluster),
        "Its \"own|3|101\norders_id_seq|3|2\norders_part_seq|3|2\nother_id_seq|1|1\nparted_id_seq|3|2"
    );
    assert_eq!(site.init(&["--sequences"]).code(0), "ok      nothing to do\n");
    for (sequence, numbers) in [
        ("shop.orders_id_seq", ["53", "56"]),
        ("shop.orders_part_seq", ["8", "11"]),
        ("shop.\"Its \"\"own\"", ["107", "110"]),
        ("shop.parted_id_seq", ["8", "11"]),
    ] {
        assert_eq!([next(cluster, sequence), next(cluster, sequence)], numbers, "{sequence}");
    }
    assert_eq!(site.init(&["--sequences"]).code(0), "ok      nothing to do\n");
    // However it begins again, it is in its place.
    cluster.psql("truncate shop.orders restart identity");
    assert_eq!(next(cluster, "shop.orders_id_seq"), "2");
    assert_eq!(site.init(&["--sequences"]).code(0), "ok      nothing to do\n");
    cluster.psql("alter sequence shop.orders_id_seq restart with 9");
    let said = site.init(&["--sequences"]).code(0);
    assert_eq!(said, "done    sequence shop.orders_id_seq of shop.orders.id: place 2 of 3\n");
    assert_eq!(next(cluster, "shop.orders_id_seq"), "11");
}

fn another_step_lays_them_anew(cluster: &Cluster) {
    let site = site(cluster);
    site.init(&["--sequences", "--grant"]).code(0);
    assert_eq!(next(cluster, "shop.orders_id_seq"), "8");
    site.init(&["--sequences=10"]).code(0);
    assert_eq!(next(cluster, "shop.orders_id_seq"), "12");
    assert_eq!(next(cluster, "shop.\"Its \"\"own\""), "112");
    assert_eq!(site.init(&["--sequences=10"]).code(0), "ok      nothing to do\n");
    site.init(&["--sequences=10:10"]).code(0);
    assert_eq!([next(cluster, "shop.orders_id_seq"), next(cluster, "shop.orders_id_seq")], ["20", "30"]);
    // What they were at the very beginning is not forgotten.
    site.init(&["--sequences=off"]).code(0);
    assert_eq!(laid(cluster), BEFORE);
}

fn off_and_drop_make_them_what_they_were(cluster: &Cluster) {
    let site = site(cluster);
    site.init(&[]).code(0);
    for (undo, more) in [("--sequences=off", "nothing to do"), ("--drop", "")] {
        site.init(&["--sequences"]).code(0);
        let next_of = |sequence: &str| next(cluster, sequence).parse::<i64>().expect("a number");
        let (order, bill) = (next_of("shop.orders_id_seq"), next_of("shop.\"Its \"\"own\""));
        cluster.psql("insert into shop.bills (nr) select max(nr) + 1000 from shop.bills");
        let highest: i64 = cluster.psql("select max(nr) from shop.bills").parse().expect("a number");
        let said = site.init(&[undo]).code(0);
        assert!(said.contains("done    sequence shop.orders_id_seq: steps by 1 again\n"), "{said}");
        assert_eq!(laid(cluster), BEFORE);
        assert_eq!(next_of("shop.orders_id_seq"), order + 1);
        let after = next_of("shop.\"Its \"\"own\"");
        assert!(after > highest && after > bill && after <= highest + 5 && after % 5 == 0, "{highest} {bill} {after}");
        assert!(more.is_empty() || site.init(&[undo]).code(0).contains(more));
    }
    assert_eq!(cluster.psql("select to_regnamespace('pgcanon') is null"), "t");

    // Of what is gone, or was changed by somebody since, only the memory goes.
    site.init(&["--sequences"]).code(0);
    cluster.psql("drop table shop.bills; drop sequence shop.\"Its \"\"own\"");
    cluster.psql("alter sequence shop.orders_id_seq increment 7");
    let said = site.init(&["--sequences=off"]).code(0);
    for name in ["orders_id_seq", "Its \"own"] {
        let told = format!("done    sequence shop.{name} is not as it was laid, and is left as it is\n");
        assert!(said.contains(&told), "{said}");
    }
    assert_eq!(laid(cluster), "orders_id_seq|7|2\norders_part_seq|1|1\nother_id_seq|1|1\nparted_id_seq|1|1");
    assert_eq!(cluster.psql("select count(*) from pgcanon.sequence"), "0");
}

fn what_is_shown_is_what_would_run(cluster: &Cluster) {
    let site = site(cluster);
    let shown = site.init(&["--sequences", "--grant", "--dry-run"]).code(0);
    assert_eq!(laid(cluster), BEFORE);
    cluster.psql_script(&shown);
    assert_eq!(site.init(&["--sequences"]).code(0), "ok      nothing to do\n");
    assert_eq!(next(cluster, "shop.orders_id_seq"), "8");
    for undo in [["--sequences=off", "--dry-run"], ["--drop", "--dry-run"]] {
        site.init(&["--sequences"]).code(0);
        cluster.psql_script(&site.init(&undo).code(0));
        assert_eq!(laid(cluster), BEFORE);
    }
    assert_eq!(cluster.psql("select to_regnamespace('pgcanon') is null"), "t");
}

fn what_cannot_be_laid_is_named_and_left_alone(cluster: &Cluster) {
    let site = site(cluster);
    cluster.psql(
        "create table shop.down (id int primary key generated always as identity (increment -1));
        create table shop.round (id int primary key generated always as identity (maxvalue 9 cycle));
        create table shop.full (id int primary key generated always as identity (maxvalue 9));
        create table shop.narrow (id int primary key generated always as identity (minvalue 3 maxvalue 4));
        create table shop.small (id smallint primary key generated always as identity);
        insert into shop.full select from generate_series(1, 8);
        insert into shop.small overriding system value values (32767);",
    );
    for args in [&["--sequences"][..], &["--sequences", "--dry-run"]] {
        let ran = site.init(args);
        let (code, said) = (ran.code, ran.out + &ran.err);
        for told in [
            "sequence shop.down_id_seq of shop.down.id counts down",
            "sequence shop.round_id_seq of shop.round.id begins again at its end",
            "sequence shop.full_id_seq of shop.full.id has no number left for place 2 of 3 up to its MAXVALUE 9",
            "sequence shop.narrow_id_seq of shop.narrow.id has no number left for place 2 of 3 up to its MAXVALUE 4",
        ] {
            let word = if code == Some(0) { "-- cannot be done: " } else { "FAILED  " };
            assert!(said.contains(&format!("{word}{told}")), "{said}");
        }
        if args.len() == 1 {
            assert_eq!(code, Some(1));
            // What the column holds is found out under the sequence's lock.
            let full = "FAILED  sequence shop.small_id_seq of shop.small.id: place 2 of 3: setval: value 32768 is out of bounds";
            assert!(said.contains(full), "{said}");
            assert!(said.contains("done    sequence shop.orders_id_seq of shop.orders.id: place 2 of 3\n"), "{said}");
        }
    }
    let steps = "select string_agg(increment_by::text, ' ' order by sequencename) from pg_sequences
        where sequencename ~ '^(down|full|narrow|round|small)'";
    assert_eq!(cluster.psql(steps), "-1 1 1 1 1");
}

fn a_sequence_of_somebody_else_is_named_with_who_could_lay_it(cluster: &Cluster) {
    database(cluster, "app");
    for role in ["pgcanon_control", "pgcanon_apply", "shopkeeper login"] {
        cluster.psql(&format!("create role {role}"));
    }
    let as_role = |role: &str, text: &str| sql(cluster, "app", role, text).unwrap_or_else(|e| panic!("{e}"));
    as_role("postgres", "create schema shop; grant all on schema shop to app, shopkeeper");
    as_role("shopkeeper", "create table shop.a (id serial primary key); create table shop.b (id serial primary key)");
    as_role("app", "create table shop.c (id serial primary key)");
    let site = Site::new(cluster, "user=app dbname=app", RULES);
    let said = site.init(&["--sequences"]).code(1);
    for table in ["a", "b"] {
        let failed = format!(
            "FAILED  sequence shop.{table}_id_seq of shop.{table}.id: place 2 of 3: must be owner of sequence {table}_id_seq (42501)"
        );
        assert!(said.contains(&failed), "{said}");
        assert!(said.contains(&format!("ALTER SEQUENCE \"shop\".\"{table}_id_seq\" INCREMENT BY 3")), "{said}");
    }
    let may = "who may run it: \"shopkeeper\", who owns the sequence, if a member of pgcanon_control (GRANT pgcanon_control TO \
               \"shopkeeper\"), or a superuser";
    assert!(said.contains(may), "{said}");
    assert!(said.contains("done    sequence shop.c_id_seq of shop.c.id: place 2 of 3\n"), "{said}");
    assert_eq!(as_role("postgres", "select string_agg(seq_name, ' ') from pgcanon.sequence"), "c_id_seq");

    // The owner can, as it is said; and what the schema cannot take back keeps it.
    cluster.psql("grant pgcanon_control to shopkeeper");
    let said = site.init(&["--sequences", "--connect", "user=shopkeeper"]).code(0);
    assert!(said.contains("done    sequence shop.b_id_seq of shop.b.id: place 2 of 3\n"), "{said}");
    let said = site.init(&["--drop"]).code(1);
    assert!(said.contains("must be owner of sequence a_id_seq") && said.contains("nothing was changed"), "{said}");
    assert_eq!(as_role("postgres", "select count(*) from pgcanon.sequence"), "3");
}

#[test]
fn what_is_handed_out_while_it_waits_for_the_sequence_counts() {
    let cluster = Cluster::start(Pg::V15, "", "");
    let site = site(&cluster);
    site.init(&["--grant"]).code(0);
    let mut client = Session::open(&cluster.unix(), "postgres", "postgres");
    client.ok("begin; insert into shop.orders default values");
    std::thread::scope(|scope| {
        let init = scope.spawn(|| site.init(&["--sequences"]).code(0));
        let waits = "select count(*) from pg_locks where not granted and relation = 'shop.orders_id_seq'::regclass";
        eventually("init to wait for the sequence", || (cluster.psql(waits) == "1").then_some(()));
        client.ok("insert into shop.orders select from generate_series(1, 41)");
        // One that leaves no row is taken, too.
        client.ok("rollback");
        init.join().expect("it ends well");
    });
    assert_eq!([next(&cluster, "shop.orders_id_seq"), next(&cluster, "shop.orders_id_seq")], ["50", "53"]);
}

#[test]
fn a_layout_that_would_not_keep_nodes_apart_is_a_matter_of_usage() {
    let cluster = Cluster::shared(Pg::V15);
    let site = Site::new(&cluster, "user=postgres dbname=postgres", RULES);
    let said = site.init(&["--sequences=2", "--dry-run"]).code(2);
    assert!(
        said.contains("--sequences=2: the configuration has 3 nodes, of which two would hand out the same"),
        "{said}"
    );
    for wrong in ["--sequences=1", "--sequences=4:5", "--sequences=on"] {
        let said = site.init(&[wrong]).code(2);
        assert!(said.contains("it takes `off`, STEP (2 to 10000), or STEP:OFFSET"), "{said}");
    }
    let said = site.init(&["--sequences=off", "--drop"]).code(2);
    assert!(said.contains("cannot be used with"), "{said}");
    let lone = Site::new(&cluster, "user=postgres dbname=postgres", "[[table]]\nname = \"shop.*\"\n");
    for args in ["--sequences", "--sequences=4"] {
        let said = lone.init(&[args, "--dry-run"]).code(2);
        assert!(said.contains("has no [[peer]]") && said.contains("--sequences=STEP:OFFSET"), "{said}");
    }
    lone.init(&["--sequences=4:2", "--dry-run"]).code(0);
}
