//! Nodes that each hand out keys of their own (scenario C6): all insert at once, and nobody is in anybody's way.

use std::io::Write;

use crate::common::{Pg, proc};
use crate::mesh::{Member, Mesh, server};
use crate::pgbench::{LIMIT, pgbench};

/// A serial, an identity that takes no value from anybody, a sequence of two tables, and a key that needs none.
const TABLES: &str = "\
create table ticket (id serial primary key, node int, note text);
create table bill (nr bigint generated always as identity primary key, ticket int references ticket, total numeric, node int);
create sequence document;
create table letter (id bigint primary key default nextval('document'), node int);
create table memo (id bigint primary key default nextval('document'), node int, tag uuid unique default gen_random_uuid());
insert into ticket (note) select 'before' from generate_series(1, 10);";

const KEYS: [(&str, &str); 4] = [("ticket", "id"), ("bill", "nr"), ("letter", "id"), ("memo", "id")];

const SCRIPT: &str = "\
begin;
insert into ticket (node, note) values (:node, md5(random()::text)) returning id \\gset
insert into bill (ticket, total, node) values (:id, (random() * 100)::numeric(8, 2), :node);
insert into bill (ticket, total, node) select :id, g, :node from generate_series(1, 2) g;
end;
insert into letter (node) values (:node);
insert into memo (node) values (:node), (:node);
";

/// How many transactions of [`SCRIPT`] each node's clients make.
const EACH: u32 = 4 * 40;

/// `pgcanon init --sequences` on all; then pgbench through all proxies at once.
fn insert_everywhere(nodes: &[(&'static str, Pg)]) {
    let rules = "[[table]]\nname = \"public.*\"\n";
    let member = |(name, pg): &(&'static str, Pg)| {
        let which = name.chars().next().expect("a name");
        Member::new(name, server(*pg, which), TABLES, rules)
    };
    let mesh = Mesh::start(nodes.iter().map(member).collect());
    for (name, _) in nodes {
        mesh.node(name).init(&["--sequences"]);
    }
    let mut script = tempfile::NamedTempFile::new().expect("a file for the script");
    script.write_all(SCRIPT.as_bytes()).expect("write the script");
    let script = script.path().to_str().expect("UTF-8");
    std::thread::scope(|scope| {
        for (place, ((name, _), mode)) in (1..).zip(nodes.iter().zip(["prepared", "simple", "extended"])) {
            let node = mesh.node(name);
            scope.spawn(move || {
                let how =
                    ["-n", "-M", mode, "-c", "4", "-j", "2", "-t", "40", "-f", script, "-D", &format!("node={place}")];
                let printed = proc::run(&mut pgbench("127.0.0.1", node.proxy.port(), &node.database, &how), LIMIT);
                let processed = format!("number of transactions actually processed: {EACH}/{EACH}\n");
                assert!(printed.contains(&processed), "{printed}");
                assert!(printed.contains("number of failed transactions: 0"), "{printed}");
            });
        }
    });
    for (table, key) in KEYS {
        mesh.assert_all_equal(table);
        // Every key says who made it.
        let own = format!("select bool_and({key} % {} = node % {0}) from {table} where node is not null", nodes.len());
        assert_eq!(mesh.node(nodes[0].0).sql(&own), "t", "{table}");
    }
    mesh.assert_without_conflict();
    let inserts = EACH * u32::try_from(nodes.len()).expect("few");
    let counts = "select (select count(*) from ticket), (select count(*) from bill), (select count(*) from letter), \
        (select count(*) from memo), (select count(*) from (table letter union all select id, node from memo) d)";
    for (name, _) in nodes {
        let expected = [inserts + 10, inserts * 3, inserts, inserts * 2, inserts * 3].map(|n| n.to_string());
        assert_eq!(mesh.node(name).sql(counts), expected.join("|"), "{name}");
    }
}

#[test]
fn c6_two_nodes_with_even_and_odd_keys() {
    insert_everywhere(&[("a", Pg::V15), ("b", Pg::V15)]);
}

#[test]
fn c6_three_nodes_of_15_and_18() {
    insert_everywhere(&[("a", Pg::V15), ("b", Pg::V15), ("c", Pg::V18)]);
}
