//! Connections that are cut at every byte of the answer to a COMMIT: a peer applies each change once, and what a client is told
//! agrees with the data (§4.7).

use crate::common::eventually;
use crate::common::msg::{bind, execute, parse, query, sync};
use crate::common::relay::{Cut, Outcome, What};
use crate::common::session::Session;
use crate::site::{Layout, Side, Site};
use crate::writer::{Told, told};

const TABLES: &str = "create table t (id int primary key, n int not null); insert into t values (1, 0); \
    create table log (n int primary key, at timestamptz not null)";

/// Every place where a connection can be cut.
fn places() -> impl Iterator<Item = Cut> {
    std::iter::once(Cut::Before).chain((0..).map(Cut::After))
}

/// Of both lanes.
fn transaction(n: i32) -> String {
    format!("begin; update t set n = n + 1 where id = 1; insert into log values ({n}, clock_timestamp()); commit")
}

/// Nothing rejects this when it comes twice.
const ADD: &str = "update t set n = n + 1 where id = 1";

/// Waits for the cut that is armed in a's forwarder, after which both nodes have come to `n`; whether there was nothing left to
/// cut.
fn answered_whole(site: &Site, n: i32) -> bool {
    let outcome = eventually("the cut", || site.sides[0].to_peer().outcome());
    assert_eq!(site.assert_same("select n from t"), [[Some(n.to_string())]]);
    let Outcome::Answered(bytes) = outcome else { return false };
    eprintln!("cut at each of {bytes} bytes of an answer");
    assert!(bytes >= 18, "CommandComplete and ReadyForQuery");
    true
}

#[test]
fn the_forwarders_connection() {
    let site = Site::start(Layout { spill_after: "60s", ..Layout::wired(TABLES) });
    let a = &site.sides[0];
    let mut c = a.client();
    let mut n = 0;
    for cut in places() {
        a.to_peer().arm("pgcanon:a", What::Commit, cut);
        n += 1;
        c.ok(ADD);
        if answered_whole(&site, n) {
            break;
        }
    }
    assert_eq!(a.queued(), 0);
}

#[test]
fn the_forwarders_connection_while_the_queue_drains() {
    let site = Site::start(Layout { spill_after: "10ms", ..Layout::wired(TABLES) });
    let a = &site.sides[0];
    let mut c = a.client();
    c.ok(ADD);
    site.settle();
    let mut n = 1;
    // The first COMMIT is of nothing but that the peer has what it says, the second one of what was queued.
    for spared in [0, 1] {
        for cut in places() {
            a.to_peer().refuse();
            for _ in 0..3 {
                n += 1;
                c.ok(ADD);
            }
            // What the peer has not on its disk yet waits, too.
            eventually("the changes to wait", || (a.queued() >= 3).then_some(()));
            a.to_peer().arm_behind(spared, "pgcanon:a", What::Commit, cut);
            a.to_peer().heal();
            if answered_whole(&site, n) {
                break;
            }
        }
    }
}

/// How a client has its change committed: what it does before, and what it sends then.
struct Form {
    name: &'static str,
    what: What,
    before: &'static str,
    /// Sent twice where nothing comes before it.
    then: fn(i32) -> Vec<u8>,
}

fn one(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat()
}

fn extended(sql: &str) -> Vec<u8> {
    [one(sql), sync()].concat()
}

const ADD_ROW: &str = "update t set n = n + (random() < 2)::int where id = 1";
const BLOCK: &str = "begin; update t set n = n + 1 where id = 1";

const FORMS: [Form; 9] = [
    Form { name: "COMMIT", what: What::Commit, before: BLOCK, then: |_| query("commit") },
    Form { name: "COMMIT, extended", what: What::Commit, before: BLOCK, then: |_| extended("commit") },
    Form { name: "statement", what: What::Statement, before: "", then: |_| query(ADD) },
    Form { name: "statement, row", what: What::Statement, before: "", then: |_| query(ADD_ROW) },
    Form { name: "statement, extended", what: What::Statement, before: "", then: |_| extended(ADD) },
    Form { name: "statement, extended row", what: What::Statement, before: "", then: |_| extended(ADD_ROW) },
    Form { name: "block in one", what: What::Commit, before: "", then: |n| query(transaction(n)) },
    Form {
        name: "implicit",
        what: What::Commit,
        before: "",
        then: |n| query(format!("{ADD}; insert into log values ({n}, now())")),
    },
    Form {
        name: "pipeline",
        what: What::Statement,
        before: "",
        then: |n| [one(ADD), extended(&format!("insert into log values ({n}, now())"))].concat(),
    },
];

/// Nobody is at work any more for this client.
fn gone(side: &Side, victim: &Session) {
    let there = format!("select count(*) from pg_stat_activity where pid = {}", victim.pid());
    eventually("the backend to end", || (side.sql(&there) == "0").then_some(()));
}

#[test]
fn the_clients_connection() {
    let site = Site::start(Layout::wired(TABLES));
    let a = &site.sides[0];
    let mut n = 0;
    for form in FORMS {
        let mut dark = Vec::new();
        for cut in places() {
            let mut victim = a.client_called("victim");
            match form.before {
                // What the proxy has to ask the first time is none of the answer.
                "" => {
                    let answer = victim.send(&[(form.then)(n + 1)]);
                    assert_eq!(answer.failure(), None, "{}", form.name);
                    n += 1;
                }
                before => drop(victim.ok(before)),
            }
            a.to_server().arm("victim", form.what, cut);
            let answer = victim.try_send(&[(form.then)(n + 1)]);
            let outcome = eventually("the cut", || a.to_server().outcome());
            if outcome == Outcome::Cut {
                gone(a, &victim);
            }
            let found: i32 = a.sql("select n from t").parse().expect("a number");
            let happened = found == n + 1;
            assert!(happened || found == n, "{}, {cut:?}: {found} after {n}", form.name);
            match told(&answer) {
                Told::Done => assert!(happened, "{}, {cut:?}: told that it is done: {answer:?}", form.name),
                Told::Refused => assert!(!happened, "{}, {cut:?}: told that it failed: {answer:?}", form.name),
                Told::Unknown => dark.push(cut),
            }
            n = found;
            if let Outcome::Answered(bytes) = outcome {
                eprintln!("{}: cut at each of {bytes} bytes", form.name);
                assert_eq!(dark, [], "{}: the client was left in the dark", form.name);
                assert!(happened && answer.is_ok());
                break;
            }
        }
    }
    site.assert_same("table t");
    site.assert_same("table log order by n");
}
