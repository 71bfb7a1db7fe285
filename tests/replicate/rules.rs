//! What each peer gets (scenarios A8 and A9): one table to two peers, some columns, some rows, and all that a pattern names.

use crate::common::{Pg, eventually};
use crate::mesh::{Member, Mesh, server};

const FILTER: &str = "amount > 100 and state is distinct from 'secret'";

fn three(tables: [&str; 3], rules: [&str; 3]) -> Mesh {
    Mesh::start(vec![
        Member::new("a", server(Pg::V15, 'a'), tables[0], rules[0]),
        Member::new("b", server(Pg::V15, 'b'), tables[1], rules[1]),
        Member::new("c", server(Pg::V18, 'c'), tables[2], rules[2]),
    ])
}

#[test]
fn a8_one_table_to_two_peers_under_a_name_for_each() {
    let table =
        |name: &str| format!("create schema s; create table s.{name} (id int primary key, v text, n int default 0)");
    let rule = |name: &str, rename: &str| format!("[[table]]\nname = \"s.{name}\"\nrename = {{ {rename} }}\n");
    let mesh = three(
        [&table("one"), &table("two"), &table("three")],
        [
            &rule("one", "b = \"s.two\", c = \"s.three\""),
            &rule("two", "a = \"s.one\", c = \"s.three\""),
            &rule("three", "a = \"s.one\", b = \"s.two\""),
        ],
    );
    let all = [("a", "s.one"), ("b", "s.two"), ("c", "s.three")];
    for (k, (node, t)) in all.into_iter().enumerate() {
        let (mut s, k) = (mesh.client(node), k * 10_000);
        s.ok(&format!("insert into {t} select {k} + i, md5(random()::text) from generate_series(1, 1000) i"));
        s.ok(&format!("update {t} set v = v || now(), n = n + 1 where id % 7 = 0"));
        s.bound(&format!("update {t} set n = n + $1 where id = $2"), &[Some("5"), Some(&(k + 1).to_string())]);
        s.ok(&format!("delete from {t} where id between {k} + 500 and {k} + 599"));
        s.ok(&format!("update {t} set id = id + 5000 where id = {k} + 1000"));
        mesh.assert_equal(&all);
    }
    assert_eq!(mesh.node("c").sql("select count(*) from s.three"), "2700");
    // Each change is in one journal, and so came to every node once.
    for (node, _) in all {
        assert_eq!(mesh.node(node).journal().len(), 5, "the journal of {node}");
    }
    // Writers of rows of their own on all nodes at once.
    std::thread::scope(|scope| {
        for (k, (node, t)) in all.into_iter().enumerate() {
            let mesh = &mesh;
            scope.spawn(move || {
                let mut s = mesh.client(node);
                for i in 0..200 {
                    let id = 100_000 * (k + 1) + i;
                    s.ok(&format!("insert into {t} values ({id}, 'at once', 1)"));
                    s.ok(&format!("update {t} set n = n + 1 where id = {id}"));
                    // A row of everybody's.
                    s.ok(&format!("update {t} set n = n + 1 where id = 1"));
                }
            });
        }
    });
    mesh.assert_equal(&all);
    for (node, t) in all {
        assert_eq!(mesh.node(node).sql(&format!("select n from {t} where id = 1")), "605", "{node}");
    }
}

#[test]
fn a8_some_columns_to_one_peer_and_some_rows_to_the_other() {
    let tables = "create table cols (id int primary key, shown text, hidden text, n int default 7);
        create table rows (id int primary key, amount int, state text)";
    let a = format!(
        "[[table]]\nname = \"public.cols\"\npeers = [\"b\"]\ncolumns = [\"shown\", \"n\"]\n\n\
         [[table]]\nname = \"public.rows\"\npeers = [\"c\"]\nwhere = \"{FILTER}\"\n"
    );
    let none = "[[table]]\nname = \"public.*\"\n";
    let mesh = three([tables; 3], [&a, none, none]);
    let mut s = mesh.client("a");
    let same = || {
        mesh.assert_same(&[
            ("a", "select id, shown, n from cols".into()),
            ("b", "select id, shown, n from cols".into()),
        ]);
        mesh.assert_same(&[("a", format!("select * from rows where {FILTER}")), ("c", "table rows".into())]);
        assert_eq!(mesh.node("b").sql("select count(*) from cols where hidden is not null"), "0");
        assert_eq!(mesh.node("b").sql("select count(*) from rows"), "0");
        assert_eq!(mesh.node("c").sql("select count(*) from cols"), "0");
    };
    for sql in [
        // columns
        "insert into cols (id, shown, hidden) values (1, 'one', 'x')",
        "insert into cols select i, 's' || i, 'h' || random(), random() * 1000 from generate_series(2, 500) i",
        "update cols set hidden = 'secret' where id = 1",
        "update cols set hidden = 'secret' || id",
        "update cols set shown = shown || '!', hidden = null where id = 2",
        "update cols set shown = hidden where id between 10 and 20",
        "update cols set n = n + 1 where id = 3",
        "delete from cols where id in (4, 5)",
        "delete from cols where hidden = 'secret6'",
        "insert into cols (id, shown, hidden) values (1, 'again', 'y') \
         on conflict (id) do update set shown = excluded.shown, hidden = excluded.hidden",
        "insert into cols (id, hidden) values (1, 'z') on conflict (id) do update set hidden = excluded.hidden",
        "update cols set id = id + 1000 where id = 7",
        // rows
        "insert into rows values (1, 50, 'new'), (2, 150, 'new'), (3, 150, 'secret'), (4, 150, null), (5, null, 'new')",
        "insert into rows select i, random() * 200, (array['new', 'old', 'secret', null])[1 + i % 4] \
         from generate_series(10, 1000) i",
    ] {
        s.ok(sql);
    }
    same();
    for sql in [
        // in, out, in again, out and in within one transaction, and out for ever
        "update rows set amount = 500 where id = 1",
        "update rows set state = 'secret' where id = 2",
        "update rows set state = 'open' where id = 2",
        "update rows set state = 'open' where id = 3",
        "begin; update rows set amount = 1 where id = 4; update rows set amount = 1000 where id = 4; \
         update rows set state = 'x' where id = 4; commit",
        "update rows set amount = amount + 60 where id % 3 = 0",
        "update rows set amount = amount - 60 where id % 5 = 0",
        "update rows set state = case state when 'secret' then 'old' else 'secret' end where id % 7 = 0 and random() >= 0",
        "update rows set amount = null where id = 11",
        "insert into rows values (1, 5, 'down') on conflict (id) do update set amount = excluded.amount",
        "insert into rows values (1, 555, 'up') \
         on conflict (id) do update set amount = excluded.amount, state = excluded.state",
        "begin; savepoint x; delete from rows where id = 1; rollback to x; \
         update rows set state = 'kept' where id = 1; commit",
        "delete from rows where id in (2, 3, 5)",
        "delete from rows where state = 'secret' or id % 11 = 0",
    ] {
        s.ok(sql);
        same();
    }
    s.bound("update rows set amount = $1 where id = $2", &[Some("101"), Some("1")]);
    s.bound("update rows set amount = $1 where id = $2", &[Some("100"), Some("13")]);
    same();
    let moved = mesh.node("c").sql("select amount, state from rows where id = 1");
    assert_eq!(moved, "101|kept");
    // A peer's rows beyond the filter are its own.
    mesh.node("c").sql("insert into rows values (-1, 0, 'of c itself')");
    s.ok("truncate rows, cols");
    mesh.settle();
    assert_eq!(mesh.node("c").sql("select id from rows"), "-1");
    assert_eq!(mesh.node("b").sql("select count(*) from cols"), "0");
}

#[test]
fn a9_all_tables_that_a_pattern_names() {
    // Keys of one sort and another, and none.
    let shapes = [
        "id int primary key, v text",
        "v text, n bigint generated always as identity, id int primary key",
        "a text default 'a', id int, v text, primary key (a, id)",
        "id int, v text",
    ];
    let named: Vec<String> = (0..60).map(|i| format!("app_{i}")).collect();
    let tables: String =
        named.iter().enumerate().map(|(i, t)| format!("create table {t} ({});", shapes[i % 4])).collect();
    let own = "create table other (id int primary key, v text); create table left_out (id int primary key, v text)";
    let tables = format!("{tables} {own}");
    let rules = "[[table]]\nname = \"public.left_out\"\npeers = []\n\n[[table]]\nname = \"pub*.app_*\"\n";
    let mesh = Mesh::start(vec![
        Member::new("a", server(Pg::V15, 'a'), &tables, rules),
        Member::new("b", server(Pg::V15, 'b'), &tables, rules),
    ]);
    for (node, k) in [("a", 0), ("b", 100)] {
        let mut s = mesh.client(node);
        s.ok("begin");
        for (i, t) in named.iter().enumerate() {
            s.ok(&format!("insert into {t} (id, v) select {k} + i, md5(random()::text) from generate_series(1, 10) i"));
            if i % 4 != 3 {
                s.ok(&format!("update {t} set v = v || now() where id % 2 = 0"));
            }
            // Half of them in a transaction that is as wide as the schema.
            if i == 30 {
                s.ok("commit");
            }
        }
        s.ok("insert into other values (1, 'here only'); insert into left_out values (1, 'here only')");
        for t in &named {
            mesh.assert_all_equal(t);
        }
    }
    for t in &named {
        assert_eq!(mesh.node("b").sql(&format!("select count(*) from {t}")), "20", "{t}");
    }
    for t in ["other", "left_out"] {
        for node in ["a", "b"] {
            assert_eq!(mesh.node(node).sql(&format!("select count(*) from {t}")), "1");
        }
    }
}

#[test]
fn a9_a_table_that_comes_later() {
    let rules = "[[table]]\nname = \"public.late_*\"\nddl = \"local\"\n";
    let mesh = Mesh::start(vec![
        Member::new("a", server(Pg::V15, 'a'), "", rules),
        Member::new("b", server(Pg::V15, 'b'), "", rules),
    ]);
    let mut before = mesh.client("a");
    before.ok("select 1");
    for (round, t) in ["late_one", "late_two"].into_iter().enumerate() {
        let create = format!("create table {t} (id int primary key, v text default 'x', n int default 0)");
        mesh.node("b").sql(&create);
        mesh.node("b").init(&["--grant"]);
        let mut s = mesh.client("a");
        // By the client that goes on with it at once, or beside the proxy.
        match round {
            0 => {
                s.ok(&create);
            }
            _ => {
                let before_it = mesh.journal_rows("a");
                mesh.node("a").sql(&create);
                mesh.node("a").init(&["--grant"]);
                // As long as it does not, what is written is here alone.
                eventually("the proxy to know the table", || {
                    s.ok(&format!("truncate {t}"));
                    (mesh.journal_rows("a") > before_it).then_some(())
                });
            }
        }
        s.ok(&format!("insert into {t} select i, 'first' || random() from generate_series(1, 100) i"));
        before.ok(&format!("update {t} set n = n + 1 where id = 5"));
        mesh.assert_all_equal(t);
        assert_eq!(mesh.node("b").sql(&format!("select count(*), sum(n) from {t}")), "100|1");
    }
}
