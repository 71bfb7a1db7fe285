//! Columns: how their values travel, what the statement lane may do with them, and how their defaults come about.

use pgcanon::catalog::relation::{Identity, Moments, Relation, Travels, TypeSort, Volatility};
use pgcanon::sql::Name;

use crate::common::Pg;
use crate::{Database, on_15_and_18, relation};

on_15_and_18! {
    every_type_of_the_server_has_its_sort,
    types_of_users_travel_by_what_their_binary_form_holds,
    names_of_types_mean_the_same_in_every_session,
    a_default_is_as_bad_as_its_worst_part,
    generated_and_identity_columns,
}

fn column<'a>(relation: &'a Relation, name: &str) -> &'a pgcanon::catalog::relation::Column {
    &relation.columns[relation.column(&Name::from(name)).unwrap_or_else(|| panic!("no column {name}"))]
}

fn every_type_of_the_server_has_its_sort(pg: Pg) {
    const PLAIN: &str = "bool int2 int4 int8 numeric float4 float8 text varchar bpchar bytea uuid jsonb bit varbit";
    const TIME: &str =
        "date time timetz timestamp timestamptz interval daterange tsrange tstzrange datemultirange _date _interval";
    const CONSTANT: &str =
        "json inet cidr macaddr point box tsvector tsquery pg_lsn oid name int4range nummultirange _int4 _text
        _json jsonpath int2vector";
    const SESSION: &str = "money xml regclass regproc regrole aclitem _money _regclass";
    let db = Database::new(pg, "builtin", "");
    for (sort, list) in
        [(TypeSort::Plain, PLAIN), (TypeSort::Time, TIME), (TypeSort::Constant, CONSTANT), (TypeSort::Session, SESSION)]
    {
        let columns: Vec<String> = list.split_whitespace().map(|t| format!("c_{t} pg_catalog.{t}")).collect();
        db.run(&format!("create table t_{sort:?} ({})", columns.join(", ")));
    }
    let catalog = db.load(&["public.*"]);
    for (sort, list) in
        [(TypeSort::Plain, PLAIN), (TypeSort::Time, TIME), (TypeSort::Constant, CONSTANT), (TypeSort::Session, SESSION)]
    {
        let table = relation(&catalog, &format!("t_{sort:?}").to_lowercase());
        assert_eq!(table.columns.len(), list.split_whitespace().count());
        for column in &table.columns {
            assert_eq!(column.sort, sort, "{column:?}");
            let by_name = ["regclass", "regproc", "regrole", "aclitem", "regclass[]", "int2vector"]
                .contains(&column.type_name.as_str());
            let travels = if by_name { Travels::Text } else { Travels::Binary };
            assert_eq!(column.travels, travels, "{column:?}");
            let moments = match column.name.as_bytes() {
                b"c_date" | b"c_time" | b"c_timetz" | b"c_timestamp" | b"c_timestamptz" => Moments::Plain,
                b"c_daterange" | b"c_tsrange" | b"c_tstzrange" | b"c_datemultirange" | b"c__date" => Moments::Within,
                _ => Moments::No,
            };
            assert_eq!(column.moments, moments, "{column:?}");
        }
    }
}

fn types_of_users_travel_by_what_their_binary_form_holds(pg: Pg) {
    let db = Database::new(
        pg,
        "usertypes",
        "create type mood as enum ('a', 'b'); create domain plain as int; create domain twice as plain;
         create domain checked as int check (value > 0); create domain day as date; create type pair as (a int, b int);
         create type span as range (subtype = int4); create domain days as date[]; create domain due as day check (value > 'epoch');
         create table t (mood mood, moods mood[], plain twice, plains plain[], checked checked, day day, pair pair, span span,
            spans int4range[], row pg_catalog.pg_class, days days, due due, dues due[], times tstzrange[]);",
    );
    let catalog = db.load(&["public.t"]);
    let t = relation(&catalog, "t");
    for (name, travels, sort) in [
        ("mood", Travels::Binary, TypeSort::Plain),
        ("moods", Travels::Text, TypeSort::Constant),
        ("plain", Travels::Binary, TypeSort::Plain),
        ("plains", Travels::Text, TypeSort::Constant),
        ("checked", Travels::Binary, TypeSort::Session),
        ("day", Travels::Binary, TypeSort::Time),
        ("pair", Travels::Text, TypeSort::Session),
        ("span", Travels::Text, TypeSort::Session),
        ("spans", Travels::Binary, TypeSort::Constant),
        ("row", Travels::Text, TypeSort::Session),
    ] {
        let column = column(t, name);
        assert_eq!((column.travels, column.sort), (travels, sort), "{name}");
    }
    for (name, moments) in [
        ("mood", Moments::No),
        ("checked", Moments::No),
        ("day", Moments::Plain),
        ("due", Moments::Plain),
        ("days", Moments::Within),
        ("dues", Moments::Within),
        ("times", Moments::Within),
        ("pair", Moments::Unknown),
        ("span", Moments::Unknown),
        ("row", Moments::Unknown),
    ] {
        assert_eq!(column(t, name).moments, moments, "{name}");
    }
}

fn names_of_types_mean_the_same_in_every_session(pg: Pg) {
    let db = Database::new(
        pg,
        "typenames",
        "create schema \"S 1\"; create type \"S 1\".\"Mo\"\"od\" as enum ('a'); create domain public.d as varchar(5);
         create type public.uuid as enum ('shadow');
         create table t (a timestamp(3) with time zone, b varchar(5)[], c \"S 1\".\"Mo\"\"od\", d \"S 1\".\"Mo\"\"od\"[], e d,
            f \"char\", g pg_catalog.uuid, h numeric(5, 2), i public.uuid);",
    );
    let expected = [
        "timestamp(3) with time zone",
        "character varying(5)[]",
        "\"S 1\".\"Mo\"\"od\"",
        "\"S 1\".\"Mo\"\"od\"[]",
        "\"public\".\"d\"",
        "\"char\"",
        "uuid",
        "numeric(5,2)",
        "\"public\".\"uuid\"",
    ];
    for path in ["public, pg_catalog", "pg_catalog", "\"S 1\", public", ""] {
        db.run(&format!("alter database typenames set search_path = {}", if path.is_empty() { "''" } else { path }));
        db.run("alter database typenames set quote_all_identifiers = on");
        let catalog = db.load(&["public.t"]);
        let names: Vec<_> = relation(&catalog, "t").columns.iter().map(|c| c.type_name.as_str()).collect();
        assert_eq!(names, expected, "search_path = {path}");
    }
}

fn a_default_is_as_bad_as_its_worst_part(pg: Pg) {
    let db = Database::new(
        pg,
        "defaults",
        "create function f() returns int language sql immutable as 'select 1';
         create domain dom as int default 5; create domain dom_now as timestamptz default now(); create domain dom_dom as dom_now;
         create type comp as (a int);
         create table i (a int, b int default 1, c text default 'x' || 'y', d text default lower('X'), e int[] default array[1, 2],
            f jsonb default '{}', g bool default (1 = 2), h text default coalesce(null, 'a'), i varchar(3) default 'abc'::varchar,
            j text default ('a' collate \"C\"), k text default case when 1 = 1 then 'a' else upper('b') end, l dom,
            m date default 'now', n text default '{FUNCEXPR :funcid 1598 ' || 'x', p text[] default '{a}'::varchar[]);
         create table s (a timestamptz default now(), b date default current_date, c text default current_user,
            d text default 5::text, e timestamptz default now() + '1 day', f dom_dom, g text default to_char(1, '9'));
         create table v (a serial, b bigserial, c int default random() * 5, d uuid default gen_random_uuid(),
            e timestamptz default clock_timestamp(), f int default f(), g int generated by default as identity,
            h comp default row(1), i text default nextval('v_a_seq') || 'x');",
    );
    let catalog = db.load(&["public.?"]);
    for (table, volatility) in [("i", Volatility::Immutable), ("s", Volatility::Stable), ("v", Volatility::Volatile)] {
        for column in &relation(&catalog, table).columns {
            assert_eq!(column.default, volatility, "{table}: {column:?}");
        }
    }
}

fn generated_and_identity_columns(pg: Pg) {
    let virtual_column = if pg == Pg::V18 { ", v int generated always as (a + 1) virtual" } else { "" };
    let db = Database::new(
        pg,
        "generated",
        &format!(
            "create table t (a int, s int generated always as (a + 1) stored, i int generated always as identity,
                j int generated by default as identity, dropped int{virtual_column}); alter table t drop column dropped;"
        ),
    );
    let catalog = db.load(&["public.t"]);
    let t = relation(&catalog, "t");
    assert!(column(t, "s").generated && !column(t, "a").generated);
    assert!(pg == Pg::V15 || column(t, "v").generated);
    assert_eq!(column(t, "i").identity, Some(Identity::Always));
    assert_eq!(column(t, "j").identity, Some(Identity::ByDefault));
    assert!(column(t, "i").not_null && !column(t, "a").not_null);
    assert_eq!(t.columns.len(), if pg == Pg::V15 { 4 } else { 5 });
}
