//! Conflicts that end the same everywhere (§8): nodes change the same rows while they cannot hear each other, and are equal
//! afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::cluster::{Cluster, PG15_BIN};
use crate::common::{Pg, eventually, proc, proxy, within};
use crate::mesh::{Member, Mesh, server, server_ahead};

pub(crate) const LIMIT: Duration = Duration::from_secs(120);

const TABLE: &str = "create table mm (id int primary key, info text, mod_time timestamptz); create table other (id int primary key, v text)";

const NODES: [&str; 3] = ["a", "b", "c"];

pub(crate) fn mesh(nodes: &[&'static str], tables: &str, conflict: &str) -> Mesh {
    mesh_of(nodes, tables, conflict, |which| server(Pg::V15, which))
}

/// Nodes whose clocks are ten seconds apart: that of a is ahead, and that of c behind.
pub(crate) fn mesh_of_other_clocks(nodes: &[&'static str], tables: &str, conflict: &str) -> Mesh {
    let ahead = |which| match which {
        'a' => 10,
        'c' => -10,
        _ => 0,
    };
    let mesh = mesh_of(nodes, tables, conflict, |which| server_ahead(Pg::V15, which, ahead(which)));
    let machine = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        now.as_secs_f64()
    };
    for name in nodes {
        let before = machine();
        let node: f64 = mesh.node(name).sql("select extract(epoch from clock_timestamp())").parse().expect("a time");
        let differs = f64::from(ahead(letter(name)));
        let as_told = before + differs - 0.1..machine() + differs + 0.1;
        assert!(as_told.contains(&node), "the clock of {name} says {node}, not {as_told:?}");
    }
    mesh
}

fn mesh_of(nodes: &[&'static str], tables: &str, conflict: &str, server: impl Fn(char) -> Arc<Cluster>) -> Mesh {
    let rules = format!("[[table]]\nname = \"public.mm\"\nconflict = {conflict}\n[[table]]\nname = \"public.other\"\n");
    Mesh::start(nodes.iter().map(|name| Member::new(name, server(letter(name)), tables, &rules)).collect())
}

pub(crate) fn letter(node: &str) -> char {
    node.chars().next().expect("a name")
}

/// Once the node's proxy is there to do it.
pub(crate) fn console(mesh: &Mesh, node: &str, sql: &str) {
    let mut said = None;
    let done = within(LIMIT, || {
        let mut psql = proxy::psql("127.0.0.1", mesh.node(node).proxy.console_port());
        let output = said.insert(proc::output(psql.args(["-Atc", sql]), LIMIT));
        output.status.success().then_some(())
    });
    assert!(done.is_some(), "{said:?}");
}

/// Nobody hears anybody.
pub(crate) fn part(mesh: &Mesh) {
    everybody(mesh, "pause");
}

pub(crate) fn join(mesh: &Mesh) {
    everybody(mesh, "resume");
}

fn everybody(mesh: &Mesh, what: &str) {
    for node in mesh.names() {
        for peer in mesh.names().filter(|peer| *peer != node) {
            console(mesh, node, &format!("{what} {peer}"));
        }
    }
}

fn rows(mesh: &Mesh, node: &str) -> String {
    mesh.node(node).sql("select string_agg(id || ':' || coalesce(info, '-'), ' ' order by id) from mm")
}

/// All are equal, and nobody has anything to say any more.
pub(crate) fn equal(mesh: &Mesh) -> String {
    let quiet = || {
        mesh.settle();
        let echoes =
            mesh.names().all(|node| mesh.node(node).sql("select count(*) from pgcanon.echo where sent is null") == "0");
        let all: Vec<String> = mesh
            .names()
            .map(|node| {
                mesh.node(node).sql("select count(*) || ' ' || coalesce(sum(hashtext(t.*::text)), 0) from mm t")
            })
            .collect();
        (echoes && all.windows(2).all(|two| two[0] == two[1])).then_some(())
    };
    assert!(within(LIMIT, quiet).is_some(), "the nodes are not equal:\n{}", differences(mesh));
    for node in mesh.names() {
        assert_eq!(mesh.node(node).sql("select count(*) from pgcanon.error_queue"), "0", "{node}");
    }
    rows(mesh, "a")
}

/// Some rows that are not the same everywhere, with their versions, deletions, and what was decided about them.
fn differences(mesh: &Mesh) -> String {
    let table = |node: &str| -> BTreeMap<String, String> {
        let rows = mesh.node(node).direct().ok("select id, t::text from mm as t").rows();
        rows.into_iter().map(|row| (row[0].clone().unwrap_or_default(), row[1].clone().unwrap_or_default())).collect()
    };
    let tables: Vec<_> = mesh.names().map(table).collect();
    let ids: BTreeSet<&String> = tables.iter().flat_map(BTreeMap::keys).collect();
    let differ = ids.into_iter().filter(|id| tables.windows(2).any(|two| two[0].get(*id) != two[1].get(*id)));
    let mut said = String::new();
    for id in differ.take(5) {
        for node in mesh.names() {
            let about = mesh.node(node).sql(&format!(
                "(select concat_ws(' ', t, 'of', v.at, v.origin) from mm as t, pgcanon.version(t.xmin, '{node}') as v where id = {id}) \
                 union all (select concat_ws(' ', 'deleted', v.at, v.origin, d.number) from pgcanon.tombstone as d, \
                 pgcanon.version(d.xmin, '{node}') as v where key in ('\\x0000001700000004'::bytea || int4send({id}), '')) union all \
                 (select concat_ws(' ', kind, decision, stored, stored_time, stored_origin, 'from', origin, incoming, incoming_time) \
                 from pgcanon.conflict where incoming->>'id' = '{id}' order by id)"
            ));
            said.push_str(&format!("{id} on {node}:\n{about}\n"));
        }
    }
    said
}

const LAST: &str = "{ resolve = \"last\", by = \"commit_time\", prefer = \"b\" }";

#[test]
fn the_later_version_wins_on_every_node() {
    let mesh = mesh(&NODES[..2], TABLE, LAST);
    let (mut a, mut b) = (mesh.client("a"), mesh.client("b"));
    a.ok("insert into mm select i, 'old' from generate_series(1, 9) i");
    assert_eq!(equal(&mesh), "1:old 2:old 3:old 4:old 5:old 6:old 7:old 8:old 9:old");
    // What one has seen of the other is no conflict.
    b.ok("update mm set info = 'seen' where id = 9");
    a.ok("insert into other values (1, 'x')");
    equal(&mesh);
    a.ok("update mm set info = 'seen, too' where id = 9");
    equal(&mesh);
    part(&mesh);
    a.ok("update mm set info = 'a' where id = 1");
    b.ok("update mm set info = 'b' where id = 1");
    b.ok("update mm set info = 'b' where id = 2");
    a.ok("update mm set info = 'a' where id = 2");
    a.ok("insert into mm values (20, 'a')");
    b.ok("insert into mm values (20, 'b')");
    a.ok("delete from mm where id = 3");
    b.ok("update mm set info = 'newer than its end' where id = 3");
    b.ok("update mm set info = 'older than its end' where id = 4");
    a.ok("delete from mm where id = 4");
    a.ok("delete from mm where id = 5");
    b.ok("delete from mm where id = 5");
    a.ok("delete from mm where id = 6; insert into mm values (6, 'again')");
    b.ok("begin; update mm set info = 'x' where id = 7; update mm set info = 'b7' where id = 7; delete from mm where id = 8; \
          insert into mm values (8, 'b8'); commit");
    join(&mesh);
    assert_eq!(equal(&mesh), "1:b 2:a 3:newer than its end 6:again 7:b7 8:b8 9:seen, too 20:b");
    let decided = "select string_agg(kind || ' ' || decision, ', ' order by kind, decision) from (select distinct kind, decision \
        from pgcanon.conflict) as decided";
    assert_eq!(
        mesh.node("a").sql(decided),
        "deleted kept, insert_exists applied, update_differs kept, update_missing applied"
    );
    assert_eq!(mesh.node("b").sql(decided), "delete_differs kept, insert_exists kept, update_differs kept");
    let record = mesh.node("b").sql(
        "select origin, nsp_name, table_name, stored->>'info', incoming->>'info', stored_origin, stored_time > incoming_time \
         from pgcanon.conflict where incoming->>'id' = '1'",
    );
    assert_eq!(record, "a|public|mm|b|a|b|t");
    // Each is counted once, also those that come when some have been counted.
    let counted = || {
        let n = mesh.node("b").sql("select count(*) from pgcanon.conflict where kind = 'update_differs'");
        let metric = "pgcanon_conflicts_total{origin=\"a\",kind=\"update_differs\",decision=\"kept\"}";
        let line = format!("{metric} {n}\n");
        eventually(&line, || mesh.node("b").proxy.metrics().contains(&line).then_some(n.clone()))
    };
    let before = counted();
    part(&mesh);
    a.ok("update mm set info = 'a' where id in (1, 2)");
    b.ok("update mm set info = 'b' where id in (1, 2)");
    join(&mesh);
    equal(&mesh);
    assert_ne!(counted(), before);
}

#[test]
fn another_key_is_a_deletion_of_the_one_and_a_row_of_the_other() {
    let mesh = mesh(&NODES[..2], TABLE, LAST);
    let (mut a, mut b) = (mesh.client("a"), mesh.client("b"));
    a.ok("insert into mm select i, 'old' from generate_series(1, 9) i");
    equal(&mesh);
    // Nobody else writes: the row has moved, whichever way it is said.
    a.ok("update mm set id = 11 where id = 1");
    a.bound("update mm set info = $1, id = $2 where id = $3", &[Some("bound"), Some("12"), Some("2")]);
    a.ok("prepare away as update mm set id = $1 where id = $2; execute away (13, 3)");
    let mut answer = a.bound("update mm as m set id = $1 where m.id = $2 returning id, info", &[Some("14"), Some("4")]);
    assert_eq!(answer.rows(), [[Some("14".to_owned()), Some("old".to_owned())]]);
    answer = a.run("update mm set id = id where id = 5; update mm set id = 5, info = 'same key' where id = 5");
    assert_eq!(answer.tags(), ["UPDATE 1", "UPDATE 1"]);
    assert_eq!(a.ok("update mm set id = 1 where id = 777").tags(), ["UPDATE 0"]);
    assert_eq!(a.fails("update mm set id = 7 where id = 6").state, "23505");
    assert_eq!(a.fails("update mm set id = id + 100").state, "0A000");
    // Two change places.
    a.ok("begin; update mm set id = -1 where id = 8; update mm set id = 8 where id = 9; update mm set id = 9 where id = -1; \
          update mm set info = 'was 9' where id = 8; commit");
    assert_eq!(equal(&mesh), "5:same key 6:old 7:old 8:was 9 9:old 11:old 12:bound 13:old 14:old");
    let conflicts = |node: &str| mesh.node(node).sql("select count(*) from pgcanon.conflict");
    assert_eq!((conflicts("a").as_str(), conflicts("b").as_str()), ("0", "0"));
    part(&mesh);
    // What is newer than the deletion of the old key stays beside the new one, what is older goes with it.
    a.ok("update mm set id = 21 where id = 11");
    b.ok("update mm set info = 'newer' where id = 11");
    b.ok("update mm set info = 'older' where id = 12");
    a.ok("update mm set id = 22 where id = 12");
    // The later one of two keeps its own new key, and the earlier one, too: there are two rows.
    a.ok("update mm set id = 23 where id = 13");
    b.ok("update mm set id = 33 where id = 13");
    // The new key was given elsewhere.
    a.ok("update mm set id = 24, info = 'moved here' where id = 14");
    b.ok("insert into mm values (24, 'made here')");
    b.ok("insert into mm values (25, 'made here')");
    a.ok("update mm set id = 25, info = 'moved here' where id = 5");
    // It was left while it was deleted.
    a.ok("update mm set id = 26 where id = 6");
    b.ok("delete from mm where id = 6");
    join(&mesh);
    assert_eq!(
        equal(&mesh),
        "7:old 8:was 9 9:old 11:newer 21:old 22:bound 23:old 24:made here 25:moved here 26:old 33:old"
    );
}

#[test]
fn keys_of_many_rows_change_at_once_where_the_server_shows_them() {
    let tables =
        "create table mm (id int primary key, info text unique, n int); create table other (id int primary key)";
    let version = |which| if which == 'b' { Pg::V18 } else { Pg::V15 };
    let mesh = mesh_of(&NODES[..2], tables, LAST, |which| server(version(which), which));
    let (mut a, mut b) = (mesh.client("a"), mesh.client("b"));
    b.ok("insert into mm select i, 'k' || i, i from generate_series(1, 6) i");
    b.ok("update mm set id = id + 100");
    b.ok("insert into mm values (300, 'k1') on conflict (info) do update set id = excluded.id, n = mm.n + 1");
    b.ok("insert into mm values (301, 'new') on conflict (info) do update set id = excluded.id");
    b.ok("merge into mm using (values ('k6')) as v (info) on v.info = mm.info when matched then delete");
    let merged = b.fails(
        "merge into mm using (values ('k2')) as v (info) on v.info = mm.info when matched then update set id = 5",
    );
    assert_eq!(merged.state, "0A000", "{merged:?}");
    assert_eq!(equal(&mesh), "102:k2 103:k3 104:k4 105:k5 300:k1 301:new");
    part(&mesh);
    b.ok("update mm set id = id + 1000 where id < 105");
    a.ok("update mm set info = 'newer' where id = 102; delete from mm where id = 103");
    join(&mesh);
    assert_eq!(equal(&mesh), "102:newer 105:k5 300:k1 301:new 1102:k2 1103:k3 1104:k4");
}

#[test]
fn an_empty_table_stays_empty_but_for_what_is_newer() {
    let mesh = mesh(&NODES[..2], TABLE, LAST);
    let (mut a, mut b) = (mesh.client("a"), mesh.client("b"));
    a.ok("insert into mm select i, 'old' from generate_series(1, 9) i");
    equal(&mesh);
    part(&mesh);
    b.ok("update mm set info = 'before' where id = 1");
    a.ok("truncate mm");
    b.ok("update mm set info = 'after' where id = 2; insert into mm values (10, 'after')");
    join(&mesh);
    assert_eq!(equal(&mesh), "2:after 10:after");
}

#[test]
fn the_first_version_stays() {
    let mesh = mesh(&NODES[..2], TABLE, "{ resolve = \"first\" }");
    let (mut a, mut b) = (mesh.client("a"), mesh.client("b"));
    part(&mesh);
    b.ok("insert into mm values (1, 'b')");
    a.ok("insert into mm values (1, 'a'), (2, 'a')");
    b.ok("insert into mm values (2, 'b')");
    join(&mesh);
    assert_eq!(equal(&mesh), "1:b 2:a");
    a.ok("delete from mm where id = 1");
    assert_eq!(equal(&mesh), "2:a");
    b.ok("insert into mm values (1, 'b again')");
    assert_eq!(equal(&mesh), "1:b again 2:a");
}

#[test]
fn the_preferred_node_wins() {
    let mesh = mesh(&NODES[..2], TABLE, "{ resolve = \"node\", prefer = \"a\" }");
    let (mut a, mut b) = (mesh.client("a"), mesh.client("b"));
    part(&mesh);
    a.ok("insert into mm values (1, 'a')");
    b.ok("insert into mm values (1, 'b'), (2, 'b')");
    join(&mesh);
    assert_eq!(equal(&mesh), "1:a 2:b");
}

#[test]
fn a_column_says_which_version_is_the_later_one() {
    let mesh = mesh(&NODES[..2], TABLE, "{ resolve = \"last\", by = \"column:mod_time\" }");
    let (mut a, mut b) = (mesh.client("a"), mesh.client("b"));
    a.ok("insert into mm select i, 'old', '2020-01-01' from generate_series(1, 6) i");
    equal(&mesh);
    part(&mesh);
    a.ok("update mm set info = 'a', mod_time = '2024-02-01' where id in (1, 2)");
    b.ok("update mm set info = 'b', mod_time = '2024-01-01' where id = 1; update mm set info = 'b', mod_time = '2024-03-01' where id = 2");
    a.ok("delete from mm where id in (3, 4)");
    b.ok("update mm set info = 'newer', mod_time = '2020-01-02' where id = 3; update mm set info = 'as old' where id = 4");
    a.ok("update mm set info = 'same a' where id = 5");
    b.ok("update mm set info = 'same b' where id = 5");
    join(&mesh);
    assert_eq!(equal(&mesh), "1:a 2:b 3:newer 5:same b 6:old");
}

#[test]
fn a_version_that_nobody_has_any_more_when_it_is_told_is_known_to_all_or_to_none() {
    let tables =
        "create table mm (id int primary key, info text, n int); create table other (id int primary key, v text)";
    let mesh = mesh(&NODES[..2], tables, "{ resolve = \"last\", by = \"column:n\" }");
    for node in mesh.names() {
        mesh.client(node).ok(&format!("insert into other values ({}, '')", node.as_bytes()[0]));
    }
    equal(&mesh);
    part(&mesh);
    // Who tells it is slow.
    let teller = "select pid from pg_locks where locktype = 'advisory' and (classid, objid) = (1885823841, 3) and granted \
        and database = (select oid from pg_database where datname = current_database())";
    let teller = mesh.node("a").sql(teller).parse().expect("a process");
    proc::kill(teller, Signal::STOP);
    let mut b = mesh.client("b");
    b.ok("insert into mm values (1, 'strong', 0)");
    b.ok("update mm set info = 'weaker', n = -1 where id = 1");
    console(&mesh, "b", "resume a");
    let untold = |many: &str| {
        let sql = "select count(*) from pgcanon.echo where sent is null";
        eventually("what has won to be told", || (mesh.node("a").sql(sql) == many).then_some(()));
    };
    untold("1");
    console(&mesh, "b", "pause a");
    mesh.client("a").ok("update mm set info = 'weakest', n = -2 where id = 1");
    b.ok("delete from mm where id = 1");
    proc::kill(teller, Signal::CONT);
    untold("0");
    join(&mesh);
    assert_eq!(equal(&mesh), "1:strong");
}

#[test]
fn every_unique_key_is_settled() {
    let tables = "create table mm (id int primary key, info text unique, n int)";
    let mesh = mesh(&NODES, tables, LAST);
    part(&mesh);
    mesh.client("a").ok("insert into mm values (1, 'x', 1), (2, 'y', 1)");
    mesh.client("b").ok("insert into mm values (3, 'x', 2), (4, 'z', 2)");
    mesh.client("c").ok("insert into mm values (4, 'y', 3), (5, 'w', 3)");
    join(&mesh);
    assert_eq!(equal(&mesh), "3:x 4:y 5:w");
}

/// Scenario C: every node writes every row, all at once.
fn three_masters(conflict: &str, meanwhile: impl FnOnce(&Mesh)) {
    let seconds = std::env::var("SETTLE_SECONDS").unwrap_or_else(|_| "5".to_owned());
    let mesh = mesh(&NODES, TABLE, conflict);
    let dir = tempfile::tempdir().expect("a directory");
    let script = |k: usize| {
        let upsert = format!(
            "insert into mm select 3*(random()*10000)::int + {k}, md5(random()::text), now() on conflict (id) do update set \
             info = excluded.info, mod_time = clock_timestamp();\n"
        );
        let update = "\\set id random(1, 30000)\nupdate mm set info = md5(random()::text), mod_time = clock_timestamp() where id = :id;\n";
        let delete = "\\set id random(1, 30000)\ndelete from mm where id = :id;\n";
        let text = [upsert.repeat(5), update.repeat(5), delete.repeat(2)].concat();
        let path = dir.path().join(format!("{k}.sql"));
        std::fs::write(&path, text).expect("a script");
        path
    };
    let scripts: Vec<_> = (0..3).map(script).collect();
    std::thread::scope(|scope| {
        for (name, script) in NODES.iter().zip(&scripts) {
            let node = mesh.node(name);
            let mut pgbench = Command::new(format!("{PG15_BIN}/pgbench"));
            pgbench.args([
                "-h",
                "127.0.0.1",
                "-p",
                &node.proxy.port().to_string(),
                "-U",
                "postgres",
                "-n",
                "-M",
                "prepared",
            ]);
            pgbench
                .args(["-c", "10", "-j", "2", "--max-tries=100", "-T", &seconds, "-f"])
                .arg(script)
                .arg(&node.database);
            scope.spawn(move || {
                let printed = proc::run(&mut pgbench, LIMIT * 4);
                assert!(printed.contains("number of failed transactions: 0"), "{printed}");
                let tps = printed.lines().find(|line| line.starts_with("tps")).unwrap_or_default();
                eprintln!("{name}: {tps}");
            });
        }
        meanwhile(&mesh);
    });
    let start = Instant::now();
    equal(&mesh);
    let conflicts: Vec<String> =
        NODES.iter().map(|n| mesh.node(n).sql("select count(*) from pgcanon.conflict")).collect();
    eprintln!("{conflict}: equal {:?} after the load; conflicts {conflicts:?}", start.elapsed());
}

#[test]
fn c1_three_masters_and_the_last_commit_wins() {
    three_masters(LAST, |_| {});
}

#[test]
fn c2_three_masters_and_the_first_commit_wins() {
    three_masters("{ resolve = \"first\", by = \"commit_time\", prefer = \"b\" }", |_| {});
}

#[test]
fn c3_three_masters_and_a_column_decides() {
    three_masters("{ resolve = \"last\", by = \"column:mod_time\" }", |_| {});
}

#[test]
fn c4_three_masters_one_of_which_is_cut_off_for_a_while() {
    three_masters(LAST, |mesh| {
        for (node, peer) in [("a", "c"), ("b", "c"), ("c", "a"), ("c", "b")] {
            console(mesh, node, &format!("pause {peer}"));
        }
        let writes = "select count(*) > 50 from mm";
        eventually("much to be written", || (mesh.node("c").sql(writes) == "t").then_some(()));
        for (node, peer) in [("a", "c"), ("b", "c"), ("c", "a"), ("c", "b")] {
            console(mesh, node, &format!("resume {peer}"));
        }
    });
}
