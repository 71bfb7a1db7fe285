//! Keys that change (scenario A6): one column of them or both, many at once, two that change places.

use crate::common::Pg;
use crate::common::session::Session;
use crate::mesh::{Member, Mesh, server};
use crate::one_table::{BOTH, HERE, THERE, pair};

const OWNERS: [&str; 2] = ["postgres"; 2];

/// Runs a test on a node of each version, with the other as its peer: `(writer, the table's name there, its version)`.
fn both_ways(test: impl Fn(&Mesh, &str, &str, Pg)) {
    let mesh = pair(server(Pg::V15, 'a'), server(Pg::V18, 'b'), OWNERS);
    test(&mesh, "a", HERE, Pg::V15);
    mesh.client("a").ok(&format!("truncate {HERE}"));
    mesh.settle();
    test(&mesh, "b", THERE, Pg::V18);
}

fn fill(s: &mut Session, table: &str) {
    s.ok(&format!("insert into {table} select i, 'k' || i, 'row ' || i, now() from generate_series(1, 100) i"));
}

fn has(mesh: &Mesh, row: &str, key: (i32, &str)) {
    mesh.settle();
    for (node, table) in BOTH {
        let sql = format!("select info from {table} where pk1 = {} and pk2 = '{}'", key.0, key.1);
        assert_eq!(mesh.node(node).sql(&sql), row, "{key:?} on {node}");
    }
}

#[test]
fn a6_one_and_both_columns_of_a_key() {
    both_ways(|mesh, from, t, pg| {
        let mut s = mesh.client(from);
        fill(&mut s, t);
        // Pinned by the whole key.
        s.ok(&format!("update {t} set pk1 = 1001 where pk1 = 1 and pk2 = 'k1'"));
        s.ok(&format!("update {t} set pk2 = pk2 || 'x' where pk1 = 2 and pk2 = 'k2'"));
        s.ok(&format!(
            "update {t} set pk1 = pk1 + 1000, pk2 = 'both', info = info || '!' where pk2 = 'k3' and pk1 = 3"
        ));
        let sql = format!("update {t} set (pk1, pk2) = ($1, $2) where pk1 = $3 and pk2 = $4");
        s.bound(&sql, &[Some("1004"), Some("bound"), Some("4"), Some("k4")]);
        s.ok(&format!("update {t} set pk1 = 1005 where (pk1, pk2) in ((5, 'k5'))"));
        // By half a key, and by none.
        s.ok(&format!("update {t} set pk1 = pk1 + 5000 where pk1 between 50 and 59"));
        s.bound(&format!("update {t} set pk2 = pk2 || $1 where pk1 between 60 and 69"), &[Some("-more")]);
        s.ok(&format!("update {t} set pk1 = pk1 + 10000, pk2 = 'p' || pk2"));
        mesh.assert_equal(&BOTH);
        has(mesh, "row 1", (11_001, "pk1"));
        has(mesh, "row 2", (10_002, "pk2x"));
        has(mesh, "row 3!", (11_003, "pboth"));
        has(mesh, "row 4", (11_004, "pbound"));
        has(mesh, "row 5", (11_005, "pk5"));
        has(mesh, "row 55", (15_055, "pk55"));
        has(mesh, "row 66", (10_066, "pk66-more"));
        // What nobody can foretell needs the old key beside the new one: of one row that is named by it,
        s.ok(&format!("update {t} set pk2 = 'r' || random(), info = 'by chance' where pk1 = 10006 and pk2 = 'pk6'"));
        s.bound(
            &format!("update {t} as k set pk1 = pk1 + (random() * 0)::int + $1, info = info || pk1 where $2 = k.pk1 and pk2 = $3"),
            &[Some("5"), Some("10007"), Some("pk7")],
        );
        has(mesh, "row 710007", (10_012, "pk7"));
        // and of many, which only 18 shows.
        let random = format!("update {t} set pk2 = 'r' || random() where pk1 < 10100");
        match pg {
            Pg::V18 => {
                s.ok(&random);
            }
            _ => assert_eq!(s.fails(&random).state, "0A000"),
        }
        // What fails on the node goes nowhere.
        assert_eq!(s.fails(&format!("update {t} set pk1 = 1, pk2 = 'one'")).state, "23505");
        mesh.assert_equal(&BOTH);
    });
}

#[test]
fn a6_two_keys_change_places_in_one_transaction() {
    both_ways(|mesh, from, t, _| {
        let mut s = mesh.client(from);
        fill(&mut s, t);
        let steps = [((1, "k1"), (-1, "free")), ((2, "k2"), (1, "k1")), ((-1, "free"), (2, "k2"))];
        let sql = |(old, new): ((i32, &str), (i32, &str))| {
            let (set, at) =
                (format!("pk1 = {}, pk2 = '{}'", new.0, new.1), format!("pk1 = {} and pk2 = '{}'", old.0, old.1));
            format!("update {t} set {set} where {at}")
        };
        s.ok("begin");
        for step in steps {
            assert_eq!(s.ok(&sql(step)).tags(), ["UPDATE 1"]);
        }
        s.ok("commit");
        has(mesh, "row 2", (1, "k1"));
        has(mesh, "row 1", (2, "k2"));
        // Back again in one message, and by the extended protocol.
        s.ok(&steps.map(sql).join(";"));
        has(mesh, "row 1", (1, "k1"));
        s.ok("begin");
        for (old, new) in steps {
            let sql = format!("update {t} set pk1 = $1, pk2 = $2 where pk1 = $3 and pk2 = $4");
            let numbers = [new.0.to_string(), old.0.to_string()];
            s.bound(&sql, &[Some(&numbers[0]), Some(new.1), Some(&numbers[1]), Some(old.1)]);
        }
        s.ok("savepoint s");
        s.ok(&format!("update {t} set pk1 = 777"));
        s.ok("rollback to s");
        s.ok("commit");
        has(mesh, "row 2", (1, "k1"));
        // Rows that follow each other: every new key was another row's.
        s.ok("begin");
        s.ok(&format!("delete from {t} where pk1 = 100 and pk2 = 'k100'"));
        for i in (3..100).rev() {
            s.ok(&format!("update {t} set pk1 = {} , pk2 = 'k{}' where pk1 = {i} and pk2 = 'k{i}'", i + 1, i + 1));
        }
        s.ok("commit");
        has(mesh, "row 3", (4, "k4"));
        mesh.assert_equal(&BOTH);
    });
}

#[test]
fn a6_two_keys_change_places_in_one_statement() {
    let tables =
        "create table swap (id int primary key deferrable, u int unique deferrable initially deferred, v text)";
    let rules = "[[table]]\nname = \"public.*\"\n";
    let mesh = Mesh::start(vec![
        Member::new("a", server(Pg::V15, 'a'), tables, rules),
        Member::new("b", server(Pg::V18, 'b'), tables, rules),
    ]);
    for from in ["a", "b"] {
        let mut s = mesh.client(from);
        s.ok("insert into swap select i, -i, 'row ' || i from generate_series(1, 50) i");
        s.ok("update swap set id = 3 - id where id in (1, 2)");
        s.bound("update swap set id = $1::int - id, u = -u where id between 10 and 20", &[Some("30")]);
        s.ok("update swap set id = 51 - id, u = u + 1");
        s.ok("begin; update swap set u = -777 where id = 30; update swap set u = u + 1000; commit");
        mesh.assert_all_equal("swap");
        assert_eq!(mesh.node("a").sql("select v from swap where id = 50"), "row 2", "written through {from}");
        s.ok("truncate swap");
        mesh.settle();
    }
}
