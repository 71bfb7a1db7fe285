//! Long runs by chance (§8): three nodes whose clocks differ write the same few rows, links between them are cut and mended,
//! proxies are killed; in the end all nodes are equal. `SETTLE_SECONDS` is how long, `PGCANON_SEED` what happens.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::rng::{Rng, seed};
use crate::common::session::Session;
use crate::mesh::Mesh;
use crate::settle::{console, equal, join, mesh_of_other_clocks};

const NODES: [&str; 3] = ["a", "b", "c"];

const TABLE: &str =
    "create table mm (id int primary key, info text, n int); create table other (id int primary key, v text)";

/// Writers go on for so long, and then a proxy that was killed meanwhile is there again.
const PHASE: Duration = Duration::from_secs(2);

fn write(client: &mut Session, node: &str, rng: &mut Rng) -> Option<()> {
    let (id, other, n) = (rng.below(30), rng.below(30), rng.below(1_000_000));
    let sql = match rng.below(12) {
        0 | 1 => format!(
            "insert into mm values ({id}, '{node}', {n}) on conflict (id) do update set info = excluded.info, n = excluded.n"
        ),
        2 | 3 => format!("update mm set info = '{node}', n = {n} where id in ({id}, {other})"),
        4 => format!("delete from mm where id = {id}"),
        5 => format!("begin; delete from mm where id = {id}; insert into mm values ({id}, '{node} anew', {n}); commit"),
        6 => format!("begin; update mm set n = {n} where id = {id}; delete from mm where id = {other}; commit"),
        7 => format!("begin; update mm set n = {n} where id = {id}; update mm set n = n + 1 where id = {id}; commit"),
        8 => format!("update mm set n = n + 1 where id = {id}"),
        9 => format!(
            "begin; update mm set id = {other} where id = {id}; update mm set id = {id} where id = {other}; commit"
        ),
        10 => format!("begin; delete from mm where id = {other}; update mm set id = {other} where id = {id}; commit"),
        _ => format!("update mm set id = {other}, n = {n} where id = {id}"),
    };
    // Deadlocks and keys that are there by now are nothing new to clients.
    let answer = client.try_run(&sql).ok()?;
    if answer.status() == 'E' {
        client.try_run("rollback").ok()?;
    }
    Some(())
}

fn by_chance(conflict: &str) {
    let seconds = std::env::var("SETTLE_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let mut rng = Rng::new(seed(conflict));
    let mut mesh = mesh_of_other_clocks(&NODES, TABLE, conflict);
    // Who is not forwarded to yet cannot be cut off.
    for (id, name) in (0..).zip(NODES) {
        mesh.client(name).ok(&format!("insert into other values ({id}, '')"));
    }
    equal(&mesh);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut phases, mut writes) = (0, 0);
    while Instant::now() < end {
        phases += 1;
        let until = Instant::now() + PHASE;
        let victim = rng.one_in(2).then(|| *rng.pick(&NODES));
        writes += phase(&mesh, &mut rng, phases, until, victim);
        if let Some(victim) = victim {
            mesh.restart(victim);
        }
    }
    join(&mesh);
    equal(&mesh);
    eprintln!("{conflict}: {writes} writes in {phases} phases");
}

/// How many writes there were.
fn phase(mesh: &Mesh, rng: &mut Rng, number: u64, until: Instant, victim: Option<&str>) -> u64 {
    std::thread::scope(|scope| {
        let writer = |(at, node): (u64, &'static str)| {
            let mut rng = rng.fork(number * 8 + at);
            scope.spawn(move || {
                let Ok(mut client) =
                    Session::try_open(&mesh.node(node).proxy.tcp(), "postgres", &mesh.node(node).database)
                else {
                    return 0;
                };
                let mut written = 0;
                while Instant::now() < until && write(&mut client, node, &mut rng).is_some() {
                    written += 1;
                }
                written
            })
        };
        let writers: Vec<_> = (0..).zip(NODES).map(writer).collect();
        for _ in 0..3 {
            let (node, peer) = (*rng.pick(&NODES), *rng.pick(&NODES));
            if node != peer {
                console(mesh, node, &format!("{} {peer}", rng.pick(&["pause", "resume", "resume"])));
            }
        }
        if let Some(victim) = victim {
            mesh.node(victim).proxy.signal(Signal::KILL);
        }
        writers.into_iter().map(|writer| writer.join().expect("a writer")).sum()
    })
}

const LAST: &str = "{ resolve = \"last\", prefer = \"b\" }";
const STATEMENT: &str = "{ resolve = \"last\", by = \"statement_time\" }";
const FIRST: &str = "{ resolve = \"first\" }";
const NODE: &str = "{ resolve = \"node\", prefer = \"c\" }";
const COLUMN: &str = "{ resolve = \"last\", by = \"column:n\" }";

#[test]
fn the_last_commit_by_chance() {
    by_chance(LAST);
}

#[test]
fn the_last_statement_by_chance() {
    by_chance(STATEMENT);
}

#[test]
fn the_first_commit_by_chance() {
    by_chance(FIRST);
}

#[test]
fn a_preferred_node_by_chance() {
    by_chance(NODE);
}

#[test]
fn a_column_by_chance() {
    by_chance(COLUMN);
}
