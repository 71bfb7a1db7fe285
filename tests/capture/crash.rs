//! The proxy killed and the server stopped under load: what clients were told, what the table holds and what the journal holds
//! agree; and the answer to a COMMIT that was lost is the truth.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::cluster::Stop;
use crate::common::msg::query;
use crate::common::node::{Node, PUBLIC};
use crate::common::rng::{Rng, seed};
use crate::common::session::{Answer, Lost, Session};
use crate::common::{Addr, Pg, eventually};

const TABLES: &str = "create table t (client int, n int, v text, primary key (client, n));
                      create table sums (client int primary key, n bigint default 0); insert into sums select generate_series(0, 15);
                      create schema plain; create table plain.gate (id int)";

/// What a client was told about each of its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Done,
    Failed,
    Lost,
}

/// A client writes one row after another, each in a transaction of some form, until its connection ends.
fn life(client: u64, addr: &Addr, database: &str, mut rng: Rng, from: u64) -> BTreeMap<u64, Told> {
    let mut told = BTreeMap::new();
    let Ok(mut session) = Session::try_open(addr, "postgres", database) else { return told };
    for n in from.. {
        let insert = match rng.below(3) {
            0 => format!("insert into t values ({client}, {n}, 'text')"),
            1 => format!("insert into t values ({client}, {n}, random()::text)"),
            _ => format!("insert into t select {client}, {n}, now()::text"),
        };
        let sum = format!("update sums set n = n + 1 where client = {client}");
        let answer = match rng.below(3) {
            // alone: the sum is a statement of its own, in the same implicit transaction
            0 => session.try_run(&format!("{insert}; {sum}")),
            1 => session.try_run(&format!("begin; {insert}; {sum}; commit")),
            _ => block(&mut session, &insert, &sum),
        };
        let (what, over) = match answer {
            Ok(answer) if answer.failure().is_none() => (Told::Done, false),
            Ok(_) => (Told::Failed, false),
            // An answer of the whole transaction may have come before the connection ended.
            Err(lost) if lost.frames.iter().any(|f| f.tag == b'C' && f.command() == "COMMIT") => (Told::Done, true),
            Err(lost) if lost.failure().is_some_and(|f| f.state == "40003" || f.state.starts_with("08")) => {
                (Told::Lost, true)
            }
            Err(_) => (Told::Lost, true),
        };
        told.insert(n, what);
        if over {
            break;
        }
    }
    told
}

fn block(session: &mut Session, insert: &str, sum: &str) -> Result<Answer, Lost> {
    for sql in ["begin", insert, "savepoint s", sum] {
        let answer = session.try_run(sql)?;
        if answer.failure().is_some() {
            return Ok(answer);
        }
    }
    session.try_run("commit")
}

/// Eight clients work until `crash` has happened; then what they were told is held against what is there.
fn under_load(node: &Node, rng: &Rng, from: u64, addr: &Addr, crash: impl FnOnce()) {
    let told: Vec<BTreeMap<u64, Told>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|client| {
                let (own, database) = (rng.fork(client + from), &node.database);
                scope.spawn(move || life(client, addr, database, own, from))
            })
            .collect();
        let begun = format!("select count(*) > 8 from t where n >= {from}");
        eventually("the clients to be at work", || (node.sql(&begun) == "t").then_some(()));
        crash();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    // What the server still runs for clients of a dead proxy must end before it is looked at.
    let busy = "select count(*) from pg_stat_activity where backend_type = 'client backend' and state <> 'idle' and pid <> pg_backend_pid() \
                and xact_start is not null and query not like '%pgcanon.tick%'";
    eventually("the server to be done", || (node.sql(busy) == "0").then_some(()));
    let mut direct = node.direct();
    for (client, told) in told.iter().enumerate() {
        let rows = direct.ok(&format!("select n from t where client = {client} and n >= {from}")).rows();
        let there: Vec<u64> = rows.iter().map(|row| row[0].as_deref().expect("n").parse().expect("a number")).collect();
        for (n, what) in told {
            match what {
                Told::Done => assert!(there.contains(n), "client {client} was told that {n} is done: {told:?}"),
                Told::Failed => assert!(!there.contains(n), "client {client} was told that {n} failed: {told:?}"),
                Told::Lost => {}
            }
        }
        assert!(there.iter().all(|n| told.contains_key(n)), "client {client}: {there:?} against {told:?}");
    }
    let sums = "select count(*) from sums s where n <> (select count(*) from t where t.client = s.client)";
    assert_eq!(direct.ok(sums).value(), "0", "transactions are whole");
    assert!(told.iter().map(BTreeMap::len).sum::<usize>() > 8, "there was load: {told:?}");
}

/// Some transactions' time, so that the crash meets them anywhere.
fn a_while(rng: &mut Rng) {
    std::thread::sleep(Duration::from_millis(100 + rng.below(200)));
}

#[test]
fn the_proxy_is_killed() {
    let mut rng = Rng::new(seed("proxy killed"));
    let mut node = Node::alone(Pg::V15, "", TABLES, PUBLIC);
    for round in 0..4 {
        let next = node.second_proxy();
        let addr = node.proxy.tcp();
        let mut pause = rng.fork(99);
        under_load(&node, &rng, round * 100_000, &addr, || {
            a_while(&mut pause);
            node.proxy.signal(Signal::KILL);
        });
        node.proxy = next;
        node.assert_replays();
        rng.next();
    }
}

#[test]
fn the_server_is_stopped_immediately() {
    let mut rng = Rng::new(seed("server stopped"));
    let node = Node::alone(Pg::V15, "", TABLES, PUBLIC);
    for round in 0..4 {
        let addr = node.proxy.tcp();
        let mut pause = rng.fork(99);
        under_load(&node, &rng, round * 100_000, &addr, || {
            a_while(&mut pause);
            node.cluster.stop(Stop::Immediate);
            node.cluster.restart();
        });
        node.assert_replays();
        rng.next();
    }
}

#[test]
fn the_server_is_killed() {
    let rng = Rng::new(seed("server killed"));
    let node = Node::alone(Pg::V18, "", TABLES, PUBLIC);
    let addr = node.proxy.tcp();
    let mut pause = rng.fork(99);
    under_load(&node, &rng, 0, &addr, || {
        a_while(&mut pause);
        node.cluster.kill9();
        node.cluster.restart();
    });
    node.assert_replays();
}

/// Sends SQL and, when the session's backend meets `condition`, stops the server immediately and starts it again.
fn crash_during(node: &Node, session: &mut Session, sql: &str, condition: &str) -> Result<Answer, Lost> {
    session.client.send(&query(sql));
    let there = format!("select count(*) from pg_stat_activity where pid = {} and {condition}", session.pid());
    eventually("the COMMIT to wait", || (node.sql(&there) == "1").then_some(()));
    node.cluster.stop(Stop::Immediate);
    node.cluster.restart();
    session.try_send(&[])
}

/// `COMMIT` waits for a standby that there is none of, its record already written.
const WRITTEN: &str = "wait_event = 'SyncRep'";
/// `COMMIT` waits for a lock in a deferred trigger, nothing written yet.
const UNWRITTEN: &str = "wait_event_type = 'Lock'";

fn halting() -> Node {
    let conf = "synchronous_standby_names = 'nobody'\nsynchronous_commit = local\n";
    let gate = "create function plain.wait() returns trigger language plpgsql as $$ begin perform pg_advisory_lock(4711); return null; end $$;
        create constraint trigger wait after insert on plain.gate deferrable initially deferred for each row execute function plain.wait()";
    Node::alone(Pg::V15, conf, &format!("{TABLES};{gate}"), PUBLIC)
}

#[test]
fn a_lost_commit_that_was_written_is_answered_with_commit() {
    let node = halting();
    for (n, level) in (1..).zip(["read committed", "serializable"]) {
        let mut c = node.client();
        c.ok(&format!(
            "set synchronous_commit = on; begin isolation level {level}; insert into t values (1, {n}, now()::text)"
        ));
        let answer = crash_during(&node, &mut c, "commit", WRITTEN);
        let frames = answer.map_or_else(|lost| lost.frames, |answer| answer.frames);
        assert!(frames.iter().any(|f| f.tag == b'C' && f.command() == "COMMIT"), "{frames:?}");
        assert_eq!(node.sql(&format!("select count(*) from t where n = {n}")), "1");
        assert_eq!(node.assert_replays().len(), n);
    }
}

#[test]
fn a_lost_commit_that_was_not_written_is_answered_with_an_error() {
    let node = halting();
    let mut holder = node.direct();
    holder.ok("select pg_advisory_lock(4711)");
    let mut c = node.client();
    c.ok("begin; insert into t values (1, 1, now()::text); insert into plain.gate values (1)");
    let answer = crash_during(&node, &mut c, "commit", UNWRITTEN);
    let frames = answer.map_or_else(|lost| lost.frames, |answer| answer.frames);
    assert!(frames.iter().all(|f| f.tag != b'C'), "{frames:?}");
    assert!(frames.iter().any(|f| f.tag == b'E'), "told that it did not happen: {frames:?}");
    assert_eq!(node.sql("select count(*) from t"), "0");
    assert_eq!(node.assert_replays().len(), 0);
}

#[test]
fn a_lost_statement_alone_is_never_told_to_have_failed() {
    let node = halting();
    let mut c = node.client();
    c.ok("set synchronous_commit = on");
    match crash_during(&node, &mut c, "update sums set n = 7 where client = 1", WRITTEN) {
        Ok(answer) => assert_eq!((answer.failure(), answer.tags()), (None, vec!["UPDATE 1".to_owned()])),
        Err(lost) => {
            let told = lost.failure().map(|f| f.state).unwrap_or_default();
            assert!(told.is_empty() || told.starts_with("57P0") || told.starts_with("08"), "{lost:?}");
        }
    }
    assert_eq!(node.sql("select n from sums where client = 1"), "7");
    assert_eq!(node.assert_replays().len(), 1);
}
