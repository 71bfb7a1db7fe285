//! Names of every sort, and what stands in a statement and only looks like one.

use crate::common::Pg;
use crate::common::session::Session;
use crate::mesh::{Member, Mesh, server};

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn in_toml(name: &str) -> String {
    toml::Value::from(name).to_string()
}

/// A table here and what it is called there.
struct Renamed {
    a: (String, String),
    b: (String, String),
}

/// Two nodes with these tables, of the given columns, renamed both ways.
fn mesh(tables: &[Renamed], columns: &str) -> Mesh {
    let member = |name: &'static str,
                  pg,
                  which,
                  own: fn(&Renamed) -> &(String, String),
                  other: fn(&Renamed) -> &(String, String),
                  peer: &str| {
        let (mut sql, mut rules) = (String::new(), String::new());
        for table in tables {
            let ((schema, table), to) = (own(table), other(table));
            sql.push_str(&format!(
                "create schema if not exists {0}; create table {0}.{1} ({columns});",
                quoted(schema),
                quoted(table)
            ));
            let name = |(schema, table): &(String, String)| in_toml(&format!("{schema}.{table}"));
            rules.push_str(&format!(
                "[[table]]\nname = {}\nrename = {{ {peer} = {} }}\n\n",
                name(&(schema.clone(), table.clone())),
                name(to)
            ));
        }
        Member::new(name, server(pg, which), &sql, &rules)
    };
    Mesh::start(vec![
        member("a", Pg::V15, 'a', |t| &t.a, |t| &t.b, "b"),
        member("b", Pg::V15, 'b', |t| &t.b, |t| &t.a, "a"),
    ])
}

fn renamed(a: (&str, &str), b: (&str, &str)) -> Renamed {
    let own = |(schema, table): (&str, &str)| (schema.to_owned(), table.to_owned());
    Renamed { a: own(a), b: own(b) }
}

fn full((schema, table): &(String, String)) -> String {
    format!("{}.{}", quoted(schema), quoted(table))
}

/// Every lane, with the table's name written in every way; `k` keeps the keys of two writers apart.
fn write(s: &mut Session, (schema, table): &(String, String), k: i32) {
    let (t, bare) = (full(&(schema.clone(), table.clone())), quoted(table));
    let text = table.replace('\'', "''");
    s.ok(&format!("set search_path = {}, public", quoted(schema)));
    s.ok(&format!("insert into {t} (id, v) values ({k} + 1, '{text}') -- {}", table.replace('\n', " ")));
    s.ok(&format!("insert into {bare} (id, v) values ({k} + 2, 'bare')"));
    s.ok(&format!("update {bare} set v = {bare}.v || '{text}' where {bare}.id = {k} + 1"));
    s.ok(&format!("update {t} set v = {t}.v || '.' where {t}.id = {k} + 1"));
    s.ok(&format!("update only {t} as {bare} set v = {bare}.v || '!' where {bare}.id = {k} + 1"));
    s.bound(&format!("update {bare} as x set n = x.n + $1 where x.id = $2"), &[Some("3"), Some(&(k + 2).to_string())]);
    s.ok(&format!(
        "insert into {bare} as o (id, v) values ({k} + 1, 'up') \
         on conflict (id) do update set n = o.n + 1, v = excluded.v"
    ));
    s.ok(&format!("insert into {bare} (id, v) values ({k} + 1, 'up') on conflict (id) do update set n = {bare}.n + 1"));
    s.ok(&format!("insert into {t} select {k} + i, 'many' || random() from generate_series(3, 20) i"));
    s.ok(&format!("update {bare} set v = v || now() from generate_series(1, 5) i where {bare}.id = {k} + i"));
    s.ok(&format!("delete from {t} using generate_series(1, 5) i where {t}.id = {k} + i + 5"));
    s.ok(&format!("delete from only {bare} where {bare}.id = {k} + 20"));
    s.ok(&format!("update {bare} set id = id + 500 where id between {k} + 12 and {k} + 14"));
    assert_eq!(
        s.copy(format!("copy {bare} (id, v) from stdin"), &[format!("{}\tcopied\n", k + 100).as_bytes()]).failure(),
        None
    );
    s.ok(&format!("prepare p(int) as update {bare} set n = n + 1 where id = $1; execute p({k} + 1); deallocate p"));
    s.ok("reset search_path");
}

fn assert_equal(mesh: &Mesh, tables: &[Renamed]) {
    for table in tables {
        mesh.assert_equal(&[("a", &full(&table.a)), ("b", &full(&table.b))]);
    }
}

#[test]
fn of_every_sort() {
    let long = ["n".repeat(63), "ä".repeat(31), "\"".repeat(63)];
    let tables = [
        renamed(("MiXed", "CamelCase"), ("lower", "camelcase")),
        renamed(("MiXed", "with space"), ("lower", "tab\tand\nnewline")),
        renamed(("MiXed", "a\"quote\"d"), ("it's", "it's '' here")),
        renamed(("select", "table"), ("from", "where")),
        renamed(("select", "only"), ("from", "user")),
        renamed(("select", "set"), ("set", "values")),
        renamed(("Größe", "naïve_日本語"), ("ß", "😀")),
        renamed(("Größe", "1st"), ("ß", "$1")),
        renamed(("Größe", "dot.ted"), ("ß", "a.b.c")),
        renamed(("Größe", "--comment"), ("ß", "/-x-/")),
        renamed(("Größe", "back\\slash"), ("ß", "U&\"x\"")),
        renamed((&long[0], &long[0]), ("s", &long[1])),
        renamed(("s", &long[1]), (&long[0], &long[2])),
        renamed(("s", "p1"), ("s", "pgcanon")),
    ];
    let mesh = mesh(&tables, "id int primary key, v text, n int default 0");
    for (node, k) in [("a", 1000), ("b", 3000)] {
        let mut s = mesh.client(node);
        for table in &tables {
            write(&mut s, if node == "a" { &table.a } else { &table.b }, k);
        }
        assert_equal(&mesh, &tables);
    }
    for table in &tables {
        assert_eq!(mesh.node("a").sql(&format!("select count(*) from {}", full(&table.a))), "30", "{:?}", table.a);
        mesh.client("b").ok(&format!("truncate table only {}", full(&table.b)));
    }
    assert_equal(&mesh, &tables);
    assert_eq!(mesh.node("a").sql(&format!("select count(*) from {}", full(&tables[6].a))), "0");
}

#[test]
fn the_same_name_in_two_schemas_that_change_places() {
    let tables = [
        renamed(("one", "t"), ("two", "t")),
        renamed(("two", "t"), ("one", "t")),
        renamed(("three", "t"), ("three", "t")),
    ];
    let mesh = mesh(&tables, "id int primary key, v text, n int default 0");
    for (node, k) in [("a", 1000), ("b", 3000)] {
        let mut s = mesh.client(node);
        for (i, table) in (0..).zip(&tables) {
            write(&mut s, if node == "a" { &table.a } else { &table.b }, k + 10_000 * i);
        }
        // More than one of them in a statement, and in a transaction.
        s.ok("begin; set local search_path = one; update t set v = 'in one'; \
             set local search_path = two, one; update t set v = 'in two'; commit");
        s.ok("insert into one.t (id, v) select id + 100000, v || two.t.v from two.t");
        s.ok("update one.t set v = (select max(v) from two.t) where id % 2 = 0");
        s.ok("delete from three.t using one.t where three.t.id = one.t.id");
        s.ok(&format!(
            "set search_path = three; insert into t \
             values (-{k}, 'three'); set search_path = one; insert into t values (-{k}, 'one')"
        ));
        s.ok(&format!(
            "update t set v = v || '!' where id = -{k}; set search_path = two; insert into t values (-{k}, 'two')"
        ));
        assert_equal(&mesh, &tables);
        mesh.assert_same(&[
            ("a", "select 'x' from one.t where v = 'in two'".into()),
            ("b", "select 'x' from two.t where v = 'in two'".into()),
        ]);
    }
    mesh.client("a").ok("truncate one.t");
    assert_equal(&mesh, &tables);
    let count = |t: &str| mesh.node("b").sql(&format!("select count(*) > 0 from {t}"));
    assert_eq!([count("one.t"), count("two.t"), count("three.t")], ["t", "f", "t"]);
}

/// The name on the peer stands in the statement as a column, an alias, a string, a comment, a function, a parameter's name, and
/// the name here does, too.
#[test]
fn a_word_that_is_much_else_in_the_statement() {
    let tables = [renamed(("local", "loc"), ("remote", "info")), renamed(("local", "v"), ("remote", "loc"))];
    let mesh =
        mesh(&tables, "id int primary key, info text, loc text, v text, remote text, local text, n int default 0");
    let words: [&[(&str, &str)]; 2] =
        [&[("local.loc", "loc"), ("local.v", "v")], &[("remote.info", "info"), ("remote.loc", "loc")]];
    for (node, words, k) in [("a", words[0], 100), ("b", words[1], 500)] {
        let mut s = mesh.client(node);
        for (full, bare) in words {
            let schema = &full[..full.find('.').expect("a schema")];
            s.ok(&format!("set search_path = {schema}"));
            s.ok(&format!(
                "insert into {full} (id, info, loc, v, remote, local) values ({k}+1, 'info', 'loc', \
                 'remote.info', 'local.loc', '{full}')"
            ));
            s.ok(&format!(
                "insert /* into info */ into -- loc\n {bare} (id, info, loc, v) values ({k}+2, $${bare}$$, \
                  $loc$ info $loc$, U&'loc')"
            ));
            s.ok(&format!(
                "update {bare} set info = 'info', \
                 loc = 'loc' || v, v = v || 'info.info' where id = {k}+1 /* {full} info */"
            ));
            s.ok(&format!("update {bare} info set info = info.info || 'x' where info.id = {k}+1"));
            s.ok(&format!("update {bare} as loc set loc = loc.loc || 'x' where loc.id = {k}+1"));
            s.ok(&format!("update {full} v set v = v.v || v.loc where v.id = {k}+1"));
            s.ok(&format!(
                "update {bare} set info = {bare}.info || {bare}.loc where {bare}.id = {k}+1 and {bare}.info is not null"
            ));
            s.ok(&format!("update {full} set loc = {full}.v || {bare}.remote where {full}.id = {k}+1"));
            s.bound(
                &format!("update {bare} set info = $1, loc = $2 where id = $3"),
                &[Some(full), Some("remote.info"), Some(&(k + 2).to_string())],
            );
            s.ok(&format!(
                "insert into {bare} as info (id, info) values ({k}+1, 'loc') \
                 on conflict (id) do update set info = info.info || excluded.info, loc = 'info'"
            ));
            s.ok(&format!(
                "insert into {bare} (id, loc) values ({k}+1, 'info') \
                 on conflict (id) do update set loc = {bare}.loc || excluded.loc"
            ));
            s.ok(&format!("insert into {bare} (id, info) select {k} + 10 + i, 'info' || random() from generate_series(1, 5) loc(i), \
                 (select 1) info"));
            s.ok(&format!(
                "with info as (select 1 as loc) update {bare} set info = 'loc', \
                 loc = (select max(loc) from info) where id = {k}+11"
            ));
            s.ok(&format!("delete from {bare} info where info.id = {k}+12 and info.info like 'info%'"));
            s.ok(&format!("delete from {full} where {bare}.id = {k}+13 and {bare}.loc is null"));
            s.ok(&format!(
                "update {bare} set id = id + 1000, info = 'info.loc' where info = 'loc' and loc is not null"
            ));
            assert_eq!(
                s.copy(
                    format!("copy {bare} (id, info, loc) from stdin"),
                    &[format!("{}\tinfo\tloc\n", k + 50).as_bytes()]
                )
                .failure(),
                None
            );
        }
        assert_equal(&mesh, &tables);
    }
    let rows = |node: &str, t: &str| mesh.node(node).sql(&format!("select count(*) from {t}"));
    assert_eq!(rows("a", "local.loc"), "12");
    assert_eq!(rows("b", "remote.loc"), "12");
}

/// A name here that is none there is never written to, whatever search path the peer's role has.
#[test]
fn what_has_the_name_on_the_peer_already_is_left_alone() {
    let tables = [renamed(("public", "t"), ("far", "u"))];
    let mesh = mesh(&tables, "id int primary key, v text, n int default 0");
    mesh.node("b").sql(
        "create table public.t (id int primary key, v text, n int default 0); create table public.u (like public.t)",
    );
    write(&mut mesh.client("a"), &tables[0].a, 0);
    assert_equal(&mesh, &tables);
    for t in ["public.t", "public.u"] {
        assert_eq!(mesh.node("b").sql(&format!("select count(*) from {t}")), "0");
    }
}
