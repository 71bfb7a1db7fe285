//! The checker that the other tests trust in: it rebuilds what images and texts say, and it notices what is missing.

use crate::common::entry::{self, Entry};
use crate::common::replay::Replica;
use crate::common::session::Session;
use crate::common::{Cluster, Pg};

const TABLES: &str = "create type mood as enum ('sad', 'glad'); create table t (id int primary key, a text, m mood, \
     n numeric(10,2)[], at timestamptz, v varchar(3), g int generated always as (id * 2) stored)";

/// A table that was written, and the lines of a dump that say how.
struct Site {
    cluster: std::sync::Arc<Cluster>,
    node: Session,
    lines: Vec<String>,
}

impl Site {
    fn new(name: &str) -> Site {
        let cluster = Cluster::shared(Pg::V15);
        for database in [name.to_owned(), format!("{name}_copy")] {
            cluster.psql(&format!("create database {database}"));
            Session::open(&cluster.unix(), "postgres", &database).ok(TABLES);
        }
        let node = Session::open(&cluster.unix(), "postgres", name);
        Site { cluster, node, lines: Vec::new() }
    }

    /// Runs a write and notes its images.
    fn row(&mut self, op: &str, sql: &str, columns: &[(&str, &str, &str, bool)]) {
        let shown: Vec<String> = columns
            .iter()
            .map(|(name, _, _, text)| if *text { format!("t.{name}::text") } else { format!("t.{name}") })
            .collect();
        let image = format!("{sql} returning encode(record_send(row(t.tableoid, {})), 'hex')", shown.join(", "));
        let images: Vec<String> =
            self.node.ok(&image).rows().into_iter().map(|row| values(row[0].as_deref().expect("an image"))).collect();
        let columns: Vec<String> = columns
            .iter()
            .map(|(name, kind, role, text)| {
                format!(r#"{{"name":"{name}","type":"{kind}","role":"{role}","text":{text}}}"#)
            })
            .collect();
        self.line(op, "row", &format!(r#""columns":[{}],"rows":[{}]"#, columns.join(","), images.join(",")));
    }

    fn line(&mut self, op: &str, lane: &str, rest: &str) {
        let n = self.lines.len();
        self.lines.push(format!(
            r#"{{"tick":1,"xid":"{n}","lsn":"0/{n:X}","ord":{n},"schema":"public","table":"t","op":"{op}","lane":"{lane}","rule":"public.*",{rest}}}"#
        ));
    }

    fn check(mut self, entries: &[Entry]) {
        let copy = self.node.ok("select current_database() || '_copy'").value();
        let mut replica = Replica::on(&self.cluster.unix(), &copy);
        replica.apply(entries);
        replica.assert_equals(&mut self.node, &[]);
    }

    fn entries(&self) -> Vec<Entry> {
        entry::dump(&self.lines.join("\n")).entries
    }
}

/// The image's values as the dump shows them.
fn values(hex: &str) -> String {
    let mut rest = &hex[8..];
    let mut out = Vec::new();
    while !rest.is_empty() {
        let oid = u32::from_str_radix(&rest[..8], 16).expect("an oid");
        let len = u32::from_str_radix(&rest[8..16], 16).expect("a length") as i32;
        let end = 16 + usize::try_from(len).unwrap_or(0) * 2;
        out.push(if len < 0 { format!("[{oid},null]") } else { format!(r#"[{oid},"{}"]"#, &rest[16..end]) });
        rest = &rest[end..];
    }
    format!("[{}]", out.join(","))
}

const WHOLE: [(&str, &str, &str, bool); 6] = [
    ("id", "integer", "key_value", false),
    ("a", "text", "value", false),
    ("m", "mood", "value", true),
    ("n", "numeric(10,2)[]", "value", false),
    ("at", "timestamp with time zone", "value", false),
    ("v", "character varying(3)", "value", false),
];

fn changed(name: &str) -> Site {
    let mut site = Site::new(name);
    let rows = "insert into t select i, 'row ' || i, case when i % 2 = 0 then 'glad'::mood end, array[i, 1.5], now(), 'abc' \
                from generate_series(1, 5) i";
    site.row("insert", rows, &WHOLE);
    let text = "update t set a = a || $1 where id = 2";
    site.node.bound(text, &[Some("!")]);
    let param = r#""params":[{"type":0,"binary":false,"value":"21"}],"encoding":"UTF8","count":1"#;
    let name = r#""names":[{"start":7,"end":8,"schema":"public","table":"t"}]"#;
    site.line("update", "statement", &format!(r#""text":"{text}",{param},{name}"#));
    let moved = [("id", "integer", "key", false), ("a", "text", "value", false)];
    site.row("update", "update t set a = random()::text where id > 3", &moved);
    site.row("delete", "delete from t where id = 1", &moved[..1]);
    let upsert =
        "insert into t values (5, 'new', 'sad', null, '2020-02-02', null) on conflict (id) do update set a = 'old'";
    site.row("upsert", upsert, &WHOLE);
    site
}

#[test]
fn rebuilds_what_the_entries_say() {
    let site = changed("checker_rebuilds");
    let entries = site.entries();
    site.check(&entries);
}

#[test]
#[should_panic(expected = "only on the node")]
fn notices_a_lost_insert() {
    let mut site = changed("checker_insert");
    site.node.ok("insert into t values (77)");
    let entries = site.entries();
    site.check(&entries);
}

#[test]
#[should_panic(expected = "the journal makes")]
fn notices_a_lost_update() {
    let site = changed("checker_update");
    let mut entries = site.entries();
    entries.remove(1);
    site.check(&entries);
}

#[test]
#[should_panic(expected = "a delete")]
fn notices_what_finds_no_row() {
    let site = changed("checker_finds");
    let mut entries = site.entries();
    let delete = entries.remove(3);
    entries.insert(0, Entry { lsn: 0, xid: 0, ..delete });
    site.check(&entries);
}

#[test]
#[should_panic(expected = "not in order")]
fn notices_a_dump_that_is_not_in_order() {
    let site = changed("checker_order");
    let mut entries = site.entries();
    entries.swap(1, 2);
    site.check(&entries);
}
