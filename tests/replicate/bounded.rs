//! What settled conflicts leave behind grows with how much happens in a while, not with how long that goes on (§8).

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::rng::{Rng, seed};
use crate::common::{Pg, eventually, within};
use crate::mesh::{Member, Mesh, server};
use crate::settle::{LIMIT, equal, letter, mesh};

const NODES: [&str; 3] = ["a", "b", "c"];

const TABLE: &str =
    "create table mm (id int primary key, info text, n int); create table other (id int primary key, v text)";

const LAST: &str = "{ resolve = \"last\" }";

/// Nodes that remember for so long what they must.
fn mesh_that_retains(nodes: &[&'static str], seconds: u64, conflict: &str) -> Mesh {
    let rules = format!("[[table]]\nname = \"public.mm\"\nconflict = {conflict}\n[[table]]\nname = \"public.other\"\n");
    let own = format!("retain = \"{seconds}s\"");
    let member = |name: &&'static str| Member::new(name, server(Pg::V15, letter(name)), TABLE, &rules).own(&own);
    Mesh::start(nodes.iter().map(member).collect())
}

fn graves(mesh: &Mesh, node: &str) -> u64 {
    mesh.node(node).sql("select count(*) from pgcanon.tombstone").parse().expect("a number")
}

/// Waits until a node has looked for what it may forget once more, from the beginning.
fn looked_again(mesh: &Mesh, node: &str) {
    for _ in 0..2 {
        mesh.node(node).sql(
            "insert into pgcanon.conflict (decided, origin, tick, ord, nsp_name, table_name, kind, decision) \
             values (now() - interval '8 days', 'b', 1, 1, 'public', 'mm', 'update_differs', 'kept')",
        );
        let old = "select count(*) from pgcanon.conflict where decided < now() - interval '7 days'";
        eventually("what is old to be forgotten", || (mesh.node(node).sql(old) == "0").then_some(()));
    }
}

#[test]
fn deletions_of_one_row_do_not_pile_up() {
    let mesh = mesh(&["a", "b"], TABLE, LAST);
    let mut a = mesh.client("a");
    for _ in 0..50 {
        a.ok("insert into mm values (1, 'again')");
        a.ok("delete from mm where id = 1");
    }
    assert_eq!(equal(&mesh), "");
    let graves = |node| mesh.node(node).sql("select count(*) from pgcanon.tombstone");
    assert_eq!(graves("b"), "1");
    eventually("only the last to be known", || (graves("a") == "1").then_some(()));
}

#[test]
fn decisions_do_not_pile_up() {
    let mesh = mesh(&["a", "b"], TABLE, LAST);
    let a = mesh.node("a");
    let columns = "(id, decided, origin, tick, ord, nsp_name, table_name, kind, decision) overriding system value";
    let row = |id, decided| format!("({id}, {decided}, 'b', 1, 1, 'public', 'mm', 'update_differs', 'kept')");
    let old = row(1_000_002, "now() - interval '8 days'");
    let rows = [row(1, "now()"), row(2, "now()"), old, row(1_000_001, "now()")].join(", ");
    a.sql(&format!("insert into pgcanon.conflict {columns} values {rows}"));
    let left = "select string_agg(id::text, ' ' order by id) from pgcanon.conflict";
    eventually("only what is new to be kept", || (a.sql(left) == "2 1000001").then_some(()));
}

#[test]
fn deletions_are_forgotten_in_time_but_while_a_peer_is_away() {
    let mut mesh = mesh_that_retains(&NODES[..2], 1, LAST);
    let mut a = mesh.client("a");
    a.ok("insert into mm select i, 'old' from generate_series(1, 9) i");
    mesh.client("b").ok("insert into other values (1, 'both are there')");
    equal(&mesh);
    a.ok("delete from mm where id < 5");
    eventually("all to be forgotten", || (graves(&mesh, "a") + graves(&mesh, "b") == 0).then_some(()));
    mesh.node("b").proxy.signal(Signal::KILL);
    mesh.node("b").proxy.wait_exit();
    a.ok("delete from mm where id > 4");
    looked_again(&mesh, "a");
    assert_eq!(graves(&mesh, "a"), 5, "b may have changed one of them before");
    mesh.restart("b");
    eventually("all to be forgotten", || (graves(&mesh, "a") + graves(&mesh, "b") == 0).then_some(()));
    assert_eq!(equal(&mesh), "");
}

#[test]
fn times_of_statements_are_forgotten_when_their_changes_and_all_that_is_older_have_come() {
    let mut mesh = mesh_that_retains(&NODES[..2], 1, "{ resolve = \"last\", by = \"statement_time\" }");
    let mut a = mesh.client("a");
    let times = |mesh: &Mesh| mesh.node("a").sql("select count(*) from pgcanon.statement_time");
    a.ok("insert into mm select i, 'old' from generate_series(1, 9) i");
    mesh.client("b").ok("insert into other values (1, 'both are there')");
    equal(&mesh);
    looked_again(&mesh, "a");
    assert_eq!(times(&mesh), "1", "it is in the journal yet");
    // As when it is trimmed.
    mesh.node("a").sql("delete from pgcanon.journal");
    eventually("it to be forgotten", || (times(&mesh) == "0").then_some(()));
    mesh.node("b").proxy.signal(Signal::KILL);
    mesh.node("b").proxy.wait_exit();
    a.ok("update mm set info = 'new' where id = 1");
    a.ok("update mm set info = 'new' where id = 2");
    looked_again(&mesh, "a");
    assert_eq!(times(&mesh), "2", "b may have changed one of them before");
    mesh.restart("b");
    equal(&mesh);
    mesh.node("a").sql("delete from pgcanon.journal");
    eventually("both to be forgotten", || (times(&mesh) == "0").then_some(()));
}

/// Writes for so long, about 30 times a second on each node. How many keys it has freed.
fn write(mesh: &Mesh, rng: &Rng, until: Instant) -> u64 {
    let writer = |(number, node): (u64, &'static str)| {
        let (mut rng, mut client) = (rng.fork(number), mesh.client(node));
        let (mut next, mut freed) = (Instant::now(), 0);
        while next < until {
            let id = rng.below(500);
            let (frees, sql) = match rng.below(4) {
                0 => (true, format!("delete from mm where id = {id}")),
                1 => (true, format!("update mm set id = {} where id = {id}", 1_000_000 + rng.below(1_000_000_000))),
                2 => (false, format!("update mm set info = '{node}', n = n + 1 where id = {id}")),
                _ => (
                    false,
                    format!(
                        "insert into mm values ({id}, '{node}', 0) on conflict (id) do update set info = excluded.info"
                    ),
                ),
            };
            freed += u64::from(client.ok(&sql).tags()[0].ends_with(" 1") && frees);
            next += Duration::from_millis(33);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        freed
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..).zip(NODES).map(|one| scope.spawn(move || writer(one))).collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).sum()
    })
}

/// `BOUNDED_SECONDS` is how long, and deletions are remembered for a thirtieth of it.
#[test]
fn what_is_remembered_does_not_grow_with_time() {
    let seconds = std::env::var("BOUNDED_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let mesh = mesh_that_retains(&NODES, seconds / 30, LAST);
    let rng = Rng::new(seed("bounded"));
    mesh.client("a").ok("insert into mm select i, 'old', 0 from generate_series(0, 499) i");
    equal(&mesh);
    let sizes = || {
        NODES.map(|node| {
            let sql = "select count(*), pg_total_relation_size('pgcanon.tombstone') / 1024, (select count(*) from pgcanon.conflict), \
                pg_total_relation_size('pgcanon.conflict') / 1024, (select count(*) from pgcanon.echo), \
                (select sum(pg_total_relation_size(inhrelid))::bigint / 1024 from pg_inherits where inhparent = 'pgcanon.journal'::regclass) \
                from pgcanon.tombstone";
            mesh.node(node).sql(sql)
        })
    };
    let (mut freed, mut most) = (0, 0);
    for part in 0..30 {
        freed += write(&mesh, &rng.fork(part), Instant::now() + Duration::from_secs(seconds) / 30);
        most = NODES.map(|node| graves(&mesh, node)).into_iter().max().expect("some nodes").max(most);
        eprintln!("{part}: {freed} keys freed; {:?}", sizes());
    }
    assert!(most > 0 && most < freed / 2, "{most} deletions of {freed} were remembered at once");
    equal(&mesh);
    let none = || NODES.iter().all(|node| graves(&mesh, node) == 0).then_some(());
    assert!(within(Duration::from_secs(seconds / 30) + LIMIT, none).is_some(), "not all are forgotten");
}
