//! DDL through one proxy (scenarios D1, D4): tables are made and changed on every node, in order with what is written to them.

use std::process::Command;
use std::time::Duration;

use crate::common::cluster::PG15_BIN;
use crate::common::{Pg, proc};
use crate::mesh::{Member, Mesh, server};

const PUBLIC: &str = "[[table]]\nname = \"public.*\"\n";

/// What a database must allow for its peers to make tables there, and to write those that are made here.
const GRANT: &str = "grant create on schema public to applier; \
    alter default privileges in schema public grant all on tables to applier";

/// Two nodes with these rules, and nothing in them.
fn pair(rules: &str) -> Mesh {
    let member = |name, which| Member::new(name, server(Pg::V15, which), "", rules);
    Mesh::start_with(vec![member("a", 'a').peers("spill_after = \"200ms\""), member("b", 'b')], |cluster, database| {
        crate::common::session::Session::open(&cluster.unix(), "postgres", database).ok(GRANT);
    })
}

fn pgbench(mesh: &Mesh, node: &str, args: &[&str]) -> Command {
    let node = mesh.node(node);
    let mut pgbench = Command::new(format!("{PG15_BIN}/pgbench"));
    pgbench.args(["-h", "127.0.0.1", "-p", &node.proxy.port().to_string(), "-U", "postgres"]);
    pgbench.args(args).arg(&node.database);
    pgbench
}

const TABLES: [&str; 4] = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"];

/// What a schema consists of, as far as names and shapes go.
const SHAPE: &str = "select c.relname, c.relkind, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
    pg_get_expr(d.adbin, d.adrelid), pg_get_indexdef(c.oid), pg_get_expr(c.relpartbound, c.oid), \
    obj_description(c.oid), col_description(c.oid, a.attnum), \
    (select string_agg(conname || pg_get_constraintdef(oid), ',' order by conname) from pg_constraint where conrelid = c.oid) \
    from pg_class c left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum \
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'i', 'I')";

impl Mesh {
    fn assert_same_shape(&self) {
        self.assert_same(&[("a", SHAPE.to_owned()), ("b", SHAPE.to_owned())]);
    }
}

#[test]
fn d1_pgbench_builds_all_nodes_through_one_proxy() {
    let mesh = pair("[[table]]\nname = \"public.pgbench_*\"\n");
    for how in [&["-I", "dtgvp"][..], &["-I", "dtgvpf"], &["-I", "dtgvpf", "--partitions=3"], &["-I", "dtGvp"]] {
        proc::run(pgbench(&mesh, "a", &["-i", "-q", "-s", "1"]).args(how), Duration::from_secs(120));
        for table in TABLES {
            mesh.assert_all_equal(table);
        }
        mesh.assert_same_shape();
        assert_eq!(mesh.node("b").sql("select count(*) from pgbench_accounts"), "100000", "{how:?}");
    }
    // Both can be written at once then.
    std::thread::scope(|scope| {
        for node in ["a", "b"] {
            let mesh = &mesh;
            scope.spawn(move || {
                proc::run(&mut pgbench(mesh, node, &["-n", "-c", "4", "-t", "50"]), Duration::from_secs(120))
            });
        }
    });
    for table in TABLES {
        mesh.assert_all_equal(table);
    }
    assert_eq!(mesh.node("b").sql("select count(*) from pgbench_history"), "400");
}
