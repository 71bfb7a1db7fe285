//! Which statements and portals exist, and the transaction's status: as `pg_prepared_statements`, `pg_cursors` and the
//! server's answers have it, after scripts that nobody wrote.

use std::collections::BTreeSet;

use pgcanon::session::machine::Status;
use pgcanon::sql::Name;

use crate::common::msg::{
    bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, parse, query, sync, together,
};
use crate::common::{Cluster, Pg};
use crate::follower::{Follower, Random};

const SEEDS: u64 = 150;
const BATCHES: usize = 25;

/// What the machine and the server both show: the unnamed ones are not SQL's.
fn named<'a>(names: impl Iterator<Item = &'a Name>) -> BTreeSet<String> {
    names.filter(|n| !n.is_empty()).map(|n| String::from_utf8_lossy(n.as_bytes()).into_owned()).collect()
}

fn name(random: &mut Random, kind: char) -> String {
    let long = "x".repeat(70);
    match random.below(12) {
        0 => format!("{kind}{long}"),
        1 => format!("{kind}É"),
        n => format!("{kind}{}", n % 4),
    }
}

fn statement(random: &mut Random) -> String {
    let (p, c, s) = (name(random, 'p'), name(random, 'c'), name(random, 's'));
    let texts = [
        "begin".into(),
        "start transaction read write".into(),
        "commit".into(),
        "end and chain".into(),
        "rollback".into(),
        "abort work and no chain".into(),
        format!("savepoint {s}"),
        format!("savepoint {s}"),
        format!("release savepoint {s}"),
        format!("rollback to {s}"),
        format!("rollback work to savepoint {s}"),
        format!("prepare {p} as select 1"),
        format!("prepare \"{p}\" (int) as select $1"),
        format!("deallocate prepare {p}"),
        format!("deallocate /* all */ {p}"),
        "deallocate all".into(),
        "discard all".into(),
        "discard plans".into(),
        format!("declare {c} cursor for select 1"),
        format!("declare {c} scroll cursor for select generate_series(1, 9)"),
        format!("declare {c} no scroll cursor with hold for select ';commit;'"),
        format!("fetch 2 from {c}"),
        format!("close {c}"),
        "close all".into(),
        format!("execute {p}"),
        "select 1".into(),
        "select $$;rollback;$$ /* ; commit */".into(),
        "select 1/0".into(),
        "selec".into(),
        "do $$ begin raise notice 'n'; end $$".into(),
        "set local work_mem = 1000".into(),
        "copy (select 1) to stdout".into(),
        "insert into deferred values (1), (1)".into(),
        "--\n".into(),
    ];
    random.pick(&texts).clone()
}

/// Frames that leave the server with an answer to everything.
fn batch(random: &mut Random) -> Vec<u8> {
    let mut frames = Vec::new();
    // Extended messages are behind the last Sync: should one have failed, the server reads on only from a Sync.
    let mut unsynced = false;
    for _ in 0..1 + random.below(7) {
        let (p, c) = (name(random, 'p'), name(random, 'c'));
        let p = if random.one_in(2) { p } else { format!("wire{p}") };
        let (p, c) = if random.one_in(3) { (String::new(), String::new()) } else { (p, c) };
        match random.below(14) {
            0 | 1 => {
                frames.push(query(statement(random)));
            }
            2 => {
                let texts: Vec<_> = (0..1 + random.below(4)).map(|_| statement(random)).collect();
                frames.push(query(texts.join(";")));
            }
            3..=6 => {
                frames.push(match random.below(4) {
                    0 => close(b'S', &p),
                    1 => close(b'P', &c),
                    2 => execute(&c, random.below(3) as i32),
                    _ => describe(*random.pick(b"SP"), &p),
                });
                unsynced = true;
            }
            7 => {
                let ends = [copy_done(), copy_fail("enough")];
                let texts = ["copy heap from stdin", "copy heap from stdin", "copy missing from stdin"];
                frames.push(query(*random.pick(&texts)));
                frames.extend([copy_data(random.pick(&["1\n", "x\n"])), random.pick(&ends).clone()]);
            }
            8 => {
                // Not reused under these names: executed again, it would wait for data that nobody sends.
                frames.extend([parse("", "copy heap from stdin", &[]), bind("copy", "", &[]), execute("copy", 0)]);
                if random.one_in(2) {
                    frames.push(random.pick(&[sync(), flush()]).clone());
                }
                frames.extend([copy_data(random.pick(&["1\n", "x\n"])), copy_done(), close(b'P', "copy"), sync()]);
                frames.extend([parse("", "select 1", &[]), sync()]);
                unsynced = false;
            }
            9 => {
                frames.push(sync());
                unsynced = false;
            }
            10 => frames.push(flush()),
            _ => {
                unsynced = true;
                // What EXECUTE is not meant to run gets a name that no EXECUTE has: the server itself crashes on some of it.
                let text = statement(random);
                let p = if text.starts_with("select") || p.is_empty() || p.starts_with("wire") {
                    p
                } else {
                    format!("wire{p}")
                };
                frames.push(parse(&p, text, &[]));
                frames.push(bind(&c, &p, &[]));
                if random.one_in(2) {
                    frames.push(execute(&c, 0));
                }
            }
        }
    }
    if unsynced {
        frames.push(sync());
    }
    together(&frames)
}

#[test]
fn the_machine_knows_what_the_server_knows() {
    // Held, so that one server serves all seeds.
    let _cluster = Cluster::shared(Pg::V15);
    let (mut compared, mut held) = (0, 0);
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut follower = Follower::login(seed);
        follower.exchange(&query("create temp table heap (i int)"));
        follower.exchange(&query("create temp table deferred (i int unique deferrable initially deferred)"));
        for number in 0..BATCHES {
            let frames = batch(&mut random);
            let (_, replies) = follower.exchange(&frames);
            if follower.machine.status() == Status::Failed {
                continue;
            }
            let statements: BTreeSet<_> =
                follower.column("select name from pg_prepared_statements").into_iter().collect();
            let portals: BTreeSet<_> = follower.column("select name from pg_cursors").into_iter().collect();
            let place = format!("seed {seed}, batch {number}: {} answered {replies:?}", frames.escape_ascii());
            assert_eq!(named(follower.machine.statements()), statements, "statements, {place}");
            assert_eq!(named(follower.machine.portals()), portals, "portals, {place}");
            compared += 1;
            held += usize::from(!statements.is_empty()) + usize::from(!portals.is_empty());
        }
    }
    // A comparison of nothing with nothing would prove nothing.
    assert!(compared > 1000 && held > 500, "{compared} comparisons, {held} of something");
}

#[test]
fn savepoints_are_counted_as_the_server_does() {
    let mut follower = Follower::login(7);
    let mut after = |sql: &str| {
        follower.exchange(&query(sql));
        follower
            .machine
            .savepoints()
            .iter()
            .map(|n| String::from_utf8_lossy(n.as_bytes()).into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(after("begin; savepoint a; savepoint B; savepoint a"), ["a", "b", "a"]);
    assert_eq!(after("rollback to b"), ["a", "b"]);
    assert_eq!(
        after("savepoint missing; release nobody"),
        ["a", "b", "missing"],
        "the failed RELEASE has released nothing"
    );
    assert_eq!(after("rollback to a"), ["a"]);
    assert_eq!(after("savepoint c; release a"), Vec::<String>::new());
    assert_eq!(after("savepoint d; commit and chain"), Vec::<String>::new());
    assert_eq!(follower.machine.status(), Status::Block);
}

#[test]
fn execute_does_what_its_statement_does() {
    let mut follower = Follower::login(7);
    let declare = "declare c cursor with hold for select 1";
    follower.exchange(&together(&[parse("p", declare, &[]), sync(), query("execute p")]));
    assert_eq!(follower.column("select name from pg_cursors"), ["c"]);
    assert_eq!(named(follower.machine.portals()), BTreeSet::from(["c".to_owned()]));
}
