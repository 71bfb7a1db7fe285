//! One table under two names (scenarios A1 to A5): `local.loc_test` on *a*, `remote.rmt_test` on *b*, written on both.

use std::sync::Arc;

use crate::common::entry::Entry;
use crate::common::session::Session;
use crate::common::{Cluster, Pg};
use crate::mesh::{Member, Mesh, server};

pub(crate) const HERE: &str = "local.loc_test";
pub(crate) const THERE: &str = "remote.rmt_test";
pub(crate) const BOTH: [(&str, &str); 2] = [("a", HERE), ("b", THERE)];

/// The table, and one that inherits from it, where that matters: the rows of both have no key in common.
fn tables(schema: &str, table: &str, child: Option<&str>) -> String {
    let child = child.map_or(String::new(), |child| {
        format!("; create table {schema}.{child} (primary key (pk1, pk2)) inherits ({schema}.{table})")
    });
    format!(
        "create schema {schema}; create table {schema}.{table} (pk1 int, pk2 text, info text, crt_time timestamp(0), \
         mod_time timestamp(0), primary key (pk1, pk2)){child}"
    )
}

fn rules(peer: &str, from: [&str; 2], to: [&str; 2]) -> String {
    let rule = |n: usize| format!("[[table]]\nname = \"{}\"\nrename = {{ {peer} = \"{}\" }}\n\n", from[n], to[n]);
    [rule(0), rule(1)].concat()
}

/// The two nodes; `owners` own database, schema and tables, run the proxies' own connections and are the clients.
pub(crate) fn pair(a: Arc<Cluster>, b: Arc<Cluster>, owners: [&str; 2]) -> Mesh {
    family(a, b, owners, false)
}

fn family(a: Arc<Cluster>, b: Arc<Cluster>, owners: [&str; 2], children: bool) -> Mesh {
    let (on_a, on_b) = ([HERE, "local.loc_child"], [THERE, "remote.rmt_child"]);
    let tables = |schema, table, child| tables(schema, table, children.then_some(child));
    let a = Member::new("a", a, &tables("local", "loc_test", "loc_child"), &rules("b", on_a, on_b));
    let b = Member::new("b", b, &tables("remote", "rmt_test", "rmt_child"), &rules("a", on_b, on_a));
    Mesh::start(vec![a.owned_by(owners[0]), b.owned_by(owners[1])])
}

/// One direction: who writes, under which name, and who follows.
struct Way<'a> {
    mesh: &'a Mesh,
    from: &'a str,
    to: &'a str,
    table: &'a str,
    s: Session,
    /// The last tick that a step has looked at.
    seen: u64,
}

impl<'a> Way<'a> {
    fn new(mesh: &'a Mesh, from: &'a str, owner: &str) -> Self {
        let (to, table) = match from {
            "a" => ("b", HERE),
            _ => ("a", THERE),
        };
        Way { mesh, from, to, table, s: mesh.node(from).client_as(owner), seen: 0 }
    }

    /// Does something; then both are equal with so many rows, the writer's journal has grown by so many changed rows, and the
    /// follower's by none.
    fn step(&mut self, changed: usize, left: usize, work: impl FnOnce(&mut Session, &str)) {
        let there = self.mesh.journal_rows(self.to);
        work(&mut self.s, self.table);
        self.mesh.assert_equal(&BOTH);
        assert_eq!(self.mesh.node(self.to).sql(&format!("select count(*) from {}", self.follower())), left.to_string());
        assert_eq!(self.mesh.journal_rows(self.to), there, "what was applied on {} is journalled there", self.to);
        let entries = self.mesh.node(self.from).journal_after(self.seen);
        self.seen = entries.iter().filter_map(|entry| entry.tick).max().unwrap_or(self.seen);
        let rows = |entry: &Entry| match entry.rows.len() {
            0 => entry.count.map_or(0, |n| usize::try_from(n).expect("a count")),
            n => n,
        };
        assert_eq!(entries.iter().map(rows).sum::<usize>(), changed, "rows in the journal of {}", self.from);
    }

    fn follower(&self) -> &'static str {
        if self.to == "a" { HERE } else { THERE }
    }

    /// A1: ten thousand rows that nobody can foretell.
    fn inserts(&mut self) {
        self.step(10_000, 10_000, |s, table| {
            s.ok(&format!(
                "insert into {table} select i, 'key ' || random(), md5(random()::text), now(), clock_timestamp() \
                 from generate_series(1, 10000) i"
            ));
        });
    }

    /// A2: all of them.
    fn updates(&mut self) {
        self.step(10_000, 10_000, |s, table| {
            assert_eq!(s.ok(&format!("update {table} set info = pk2")).tags(), ["UPDATE 10000"]);
        });
        assert_eq!(
            self.mesh.node(self.to).sql(&format!("select count(*) from {} where info = pk2", self.follower())),
            "10000"
        );
    }

    /// A3: some of them.
    fn deletes(&mut self) {
        self.step(999, 9001, |s, table| {
            assert_eq!(s.ok(&format!("delete from {table} where pk1 < 1000")).tags(), ["DELETE 999"]);
        });
    }

    /// A4: all that is left.
    fn truncates(&mut self) {
        self.step(0, 0, |s, table| {
            s.ok(&format!("truncate {table}"));
        });
    }

    /// A1 to A4 by the extended protocol, with parameters.
    fn bound(&mut self) {
        self.step(10_000, 10_000, |s, table| {
            s.bound(
                &format!(
                    "insert into {table} (pk1, pk2, info, crt_time, mod_time) select i, $1 || random(), md5(random()::text), \
                     now(), clock_timestamp() from generate_series(1, $2::int) i"
                ),
                &[Some("bound "), Some("10000")],
            );
        });
        self.step(10_000, 10_000, |s, table| {
            let tags = s.bound(&format!("update {table} set info = pk2 || $1"), &[Some("!")]).tags();
            assert_eq!(tags, ["UPDATE 10000"]);
        });
        self.step(999, 9001, |s, table| {
            let tags = s.bound(&format!("delete from {table} where pk1 < $1"), &[Some("1000")]).tags();
            assert_eq!(tags, ["DELETE 999"]);
        });
        self.step(0, 0, |s, table| {
            s.bound(&format!("truncate table {table}"), &[]);
        });
    }

    /// A4 where the statement said `ONLY`: the rows of a table that inherits stay.
    fn truncates_only_what_is_named(&mut self) {
        let (child, follower) = match self.from {
            "a" => ("local.loc_child", "remote.rmt_child"),
            _ => ("remote.rmt_child", "local.loc_child"),
        };
        let children = format!("select count(*) from {follower}");
        self.step(20, 20, |s, table| {
            s.ok(&format!("insert into {table} select i, 'mother', null, now() from generate_series(1, 10) i"));
            s.ok(&format!("insert into {child} select i, 'child', null, now() from generate_series(1, 10) i"));
        });
        self.step(0, 10, |s, table| {
            s.ok(&format!("truncate only {table}"));
        });
        assert_eq!(self.mesh.node(self.to).sql(&children), "10");
        self.step(0, 0, |s, table| {
            s.ok(&format!("truncate {table}"));
        });
        assert_eq!(self.mesh.node(self.to).sql(&children), "0");
    }

    fn all(&mut self) {
        self.inserts();
        self.updates();
        self.deletes();
        self.truncates();
        self.bound();
    }
}

/// A1 to A4 one way, and A5: the same the other way, with nothing that comes back.
fn there_and_back(mesh: &Mesh, owners: [&str; 2]) {
    Way::new(mesh, "a", owners[0]).all();
    assert_eq!(mesh.journal_rows("b"), 0, "nothing was written through b");
    Way::new(mesh, "b", owners[1]).all();
}

#[test]
fn a1_to_a5_between_two_servers() {
    let owners = ["postgres"; 2];
    there_and_back(&pair(server(Pg::V15, 'a'), server(Pg::V15, 'b'), owners), owners);
}

#[test]
fn a1_to_a5_between_databases_of_one_server_with_different_owners() {
    let (server, owners) = (server(Pg::V15, 'a'), ["loc_owner", "rmt_owner"]);
    there_and_back(&pair(Arc::clone(&server), server, owners), owners);
}

#[test]
fn a4_only_the_table_that_is_named() {
    let owners = ["postgres"; 2];
    let mesh = family(server(Pg::V15, 'a'), server(Pg::V15, 'b'), owners, true);
    Way::new(&mesh, "a", owners[0]).truncates_only_what_is_named();
    Way::new(&mesh, "b", owners[1]).truncates_only_what_is_named();
}

#[test]
fn a1_to_a5_between_15_and_18() {
    let owners = ["postgres"; 2];
    there_and_back(&pair(server(Pg::V15, 'a'), server(Pg::V18, 'b'), owners), owners);
}
