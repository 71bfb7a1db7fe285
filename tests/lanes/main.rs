//! The lanes are right: statements that a grammar makes run through the proxy on one node, their journal entries on another
//! copy, and the tables stay the same; what must be text is text, and what must not never is.

#[path = "../common/mod.rs"]
mod common;

mod grammar;
mod pieces;
mod writes;

use std::collections::{BTreeMap, HashSet};

use common::Pg;
use common::entry::Entry;
use common::msg::{bind, bind_formats, describe, execute, parse, sync};
use common::node::Node;
use common::replay::Replica;
use common::rng::{Rng, seed};
use common::session::{Answer, Session};
use grammar::{Binds, Maker, Must, Shape};

const RULES: &str = "[[table]]\nname = \"public.*\"\ntriggers = \"fire\"\n";

/// How many shapes one run covers, on each version.
const SHAPES: usize = 2200;
/// How many statements run between two comparisons.
const BATCH: usize = 100;

/// How a statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Simple,
    Extended,
    /// With told types and binary values, and a limit of rows, as pgjdbc does it.
    Binary,
    Block,
    ExtendedBlock,
    Serializable,
    /// Between other statements of one simple query.
    Several,
    /// Between other statements of one pipeline.
    Pipeline,
    Prepared,
}

const WAYS: [Way; 11] = [
    Way::Simple,
    Way::Simple,
    Way::Extended,
    Way::Extended,
    Way::Binary,
    Way::Block,
    Way::ExtendedBlock,
    Way::Serializable,
    Way::Several,
    Way::Pipeline,
    Way::Prepared,
];

/// Another write, to stand beside a statement in one transaction.
const BESIDE: &str = "update beside set n = n + 1 where id = 1";

/// What a batch's session has set: no text may hang on it.
const SETTINGS: [&str; 5] = [
    "",
    "set timezone = 'America/St_Johns'; set datestyle = 'German, DMY'; set intervalstyle = 'sql_standard'",
    "set extra_float_digits = -5; set bytea_output = 'escape'; set xmloption = 'document'; set lc_monetary = 'C'",
    "set search_path = pg_catalog, plain, public; set timezone = 'Asia/Tokyo'; set datestyle = 'SQL, MDY'",
    "set default_transaction_isolation = 'repeatable read'; set plan_cache_mode = force_generic_plan",
];

/// A statement that ran, and the part of the WAL in which its entries lie.
struct Ran {
    /// What the session had set.
    settings: &'static str,
    shape: Shape,
    way: Way,
    answer: Answer,
    from: u64,
    to: u64,
}

/// One run over a node and its copy.
struct Run<'a> {
    node: &'a Node,
    client: Session,
    direct: Session,
    replica: Replica,
    /// The copy's name.
    copy: String,
    /// The last tick that was applied.
    applied: u64,
    lanes: BTreeMap<String, usize>,
    /// What was wrong, as far as it was found.
    wrong: Vec<String>,
}

#[test]
fn statements_of_a_grammar_on_15() {
    run(Pg::V15);
}

#[test]
fn statements_of_a_grammar_on_18() {
    run(Pg::V18);
}

/// Runs all shapes on one version.
fn run(pg: Pg) {
    let mut rng = Rng::new(seed("lanes"));
    let node = Node::start(pg, grammar::TABLES, RULES);
    let copy = node.copy();
    let mut run = Run {
        node: &node,
        client: node.client(),
        direct: node.direct(),
        replica: Replica::on(&node.cluster.unix(), &copy),
        copy: copy.clone(),
        applied: 0,
        lanes: BTreeMap::new(),
        wrong: Vec::new(),
    };
    let mut copied = Session::open(&node.cluster.unix(), "postgres", &copy);
    let mut seen = HashSet::new();
    while seen.len() < SHAPES {
        let mut batch = Vec::new();
        for session in [&mut run.direct, &mut copied] {
            session.ok(grammar::RESET);
        }
        run.client.ok("reset all");
        let settings: &'static str = rng.pick::<&str>(&SETTINGS);
        run.client.ok(settings);
        while batch.len() < BATCH {
            let way = *rng.pick(&WAYS);
            let binds = match way {
                Way::Extended | Way::ExtendedBlock | Way::Pipeline => Binds::Text,
                Way::Binary => Binds::Binary,
                _ => Binds::No,
            };
            let shape = Maker::new(&mut rng, binds).shape();
            let way = if way == Way::Prepared && !shape.preparable { Way::Simple } else { way };
            let way = match shape.cursor {
                Some(_) if binds == Binds::No => Way::Block,
                Some(_) => Way::ExtendedBlock,
                None => way,
            };
            if seen.insert(form(&shape.sql)) {
                batch.push(run.one(shape, way, settings));
            }
        }
        run.compare(&batch);
    }
    eprintln!("{pg:?}: {} shapes; {:?}", seen.len(), run.lanes);
    let told = run.wrong.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(run.wrong.is_empty(), "{} are wrong:\n{told}", run.wrong.len());
}

impl Run<'_> {
    fn one(&mut self, shape: Shape, way: Way, settings: &'static str) -> Ran {
        let from = self.position();
        let sql = &shape.sql;
        let texts: Vec<String> = shape.params.iter().map(|given| given.text()).collect();
        let params: Vec<Option<&[u8]>> = texts.iter().map(|text| Some(text.as_bytes())).collect();
        let one = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
        let inner = [parse("", sql, &[]), bind("", "", &params), describe(b'P', ""), execute("", 0)].concat();
        let extended = [inner.clone(), sync()].concat();
        let answer = match way {
            Way::Simple => self.client.run(sql),
            Way::Extended => self.client.send(&[extended]),
            Way::Binary => {
                let types: Vec<u32> = shape.params.iter().map(|given| given.oid()).collect();
                let values: Vec<Vec<u8>> = shape.params.iter().map(|given| given.binary()).collect();
                let values: Vec<Option<&[u8]>> = values.iter().map(|value| Some(value.as_slice())).collect();
                let bind = bind_formats("", "binary", &[1], &values, &[1]);
                let bind = if values.is_empty() { bind_formats("", "binary", &[], &[], &[1]) } else { bind };
                let close = common::msg::close(b'S', "binary"); // an error may have left it
                let parse = parse("binary", sql, &types);
                let sent = [close, parse, describe(b'S', "binary"), bind, execute("", 1), sync()];
                self.client.send(&[sent.concat()])
            }
            Way::Several => self.client.run(format!("select 1; {sql}\n; {BESIDE}; select 2")),
            Way::Pipeline => self.client.send(&[one("select 1"), inner, one(BESIDE), sync()]),
            Way::Block | Way::ExtendedBlock => {
                self.client.ok("begin");
                if let Some(cursor) = &shape.cursor {
                    self.client.ok(cursor);
                }
                self.client.ok("savepoint s");
                let answer =
                    if way == Way::ExtendedBlock { self.client.send(&[extended]) } else { self.client.run(sql) };
                self.client.ok(if answer.failure().is_some() { "rollback to s" } else { "release s" });
                self.client.ok("commit");
                answer
            }
            Way::Serializable => {
                self.client.ok("begin isolation level serializable");
                let answer = self.client.run(sql);
                self.client.ok("commit");
                answer
            }
            Way::Prepared => {
                let prepared = self.client.run(format!("prepare shape as {sql}"));
                if prepared.failure().is_some() {
                    prepared
                } else {
                    let answer = self.client.run("execute shape");
                    self.client.ok("deallocate shape");
                    answer
                }
            }
        };
        Ran { settings, shape, way, answer, from, to: self.position() }
    }

    /// Where the WAL ends now: what a statement journalled lies between two such positions.
    fn position(&mut self) -> u64 {
        let lsn = self.direct.ok("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").value();
        lsn.parse().expect("a position")
    }

    fn compare(&mut self, batch: &[Ran]) {
        let new = self.node.journal_after(self.applied);
        self.applied = new.last().and_then(|entry| entry.tick).unwrap_or(self.applied);
        for ran in batch {
            let own = |entry: &&Entry| ran.from <= entry.lsn && entry.lsn < ran.to && entry.table != "beside";
            let own: Vec<&Entry> = new.iter().filter(own).collect();
            own.iter().for_each(|entry| *self.lanes.entry(entry.lane.clone()).or_default() += 1);
            if let Some(failure) = ran.answer.failure() {
                let what = if failure.state == "0A000" { "refused" } else { "failed" };
                *self.lanes.entry(what.to_owned()).or_default() += 1;
            }
            if let Err(wrong) = judge(ran, &own) {
                let Ran { shape, way, answer, .. } = ran;
                let own: Vec<String> = own.iter().map(|entry| told(entry)).collect();
                self.wrong.push(format!(
                    "{wrong}: {way:?} {shape:#?}\nafter {:?}\nanswered {:?} {:?}\njournalled {own:#?}",
                    ran.settings,
                    answer.failure(),
                    answer.tags()
                ));
            }
        }
        // What follows is compared, too: the next batch begins with the same rows on both sides.
        let compared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.replica.apply(&new);
            self.replica.assert_equals(&mut self.direct, &[]);
        }));
        if let Err(panic) = compared {
            let why = panic.downcast_ref::<String>().map_or("it panicked", String::as_str);
            let ran: Vec<String> = batch.iter().map(|ran| format!("{:?}: {}", ran.way, ran.shape.sql)).collect();
            self.wrong.push(format!("{why}\nafter one of these:\n  {}", ran.join("\n  ")));
            self.replica = Replica::on(&self.node.cluster.unix(), &self.copy);
        }
    }
}

/// An entry in a line.
fn told(entry: &Entry) -> String {
    let text = entry.text.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let Entry { lane, op, schema, table, count, rows, .. } = entry;
    format!("{lane} {op} of {schema}.{table}, count {count:?}, {} images, {text}", rows.len())
}

/// Holds what became of a statement against what must become of it.
fn judge(ran: &Ran, entries: &[&Entry]) -> Result<(), &'static str> {
    let Ran { shape, way, answer, .. } = ran;
    let check = |holds: bool, wrong: &'static str| if holds { Ok(()) } else { Err(wrong) };
    let text = entries.iter().any(|entry| entry.lane == "statement");
    if let Some(failure) = answer.failure() {
        check(entries.is_empty(), "failed, and journalled")?;
        if failure.state == "0A000" {
            check(shape.refusable, "refused")?;
            return check(failure.hint.is_some() && failure.message.contains("replicated"), "refused without a hint");
        }
        // What any client of the server can run into with made-up values.
        return check(["22", "23", "21"].contains(&&failure.state[..2]), "failed");
    }
    let tags = answer.tags();
    let tag = tags.iter().find(|tag| !tag.starts_with("SELECT 1")).cloned().unwrap_or_default();
    let changed: Option<u64> = tag.rsplit(' ').next().and_then(|n| n.parse().ok());
    match shape.must {
        Must::Text(expected) if *way != Way::Prepared && changed == Some(expected) => {
            check(text, "must travel as text")?;
        }
        Must::Text(_) | Must::Either => {}
        Must::NotText => check(!text, "must never travel as text")?,
    }
    match changed {
        Some(changed) if !shape.elsewhere => {
            check(entries.is_empty() == (changed == 0), "must be journalled if and only if something changed")
        }
        _ => Ok(()),
    }
}

/// A statement's shape: its text without what its constants are.
fn form(sql: &str) -> String {
    let mut out = String::new();
    for c in sql.chars() {
        match c {
            '0'..='9' if out.ends_with('?') => {}
            '0'..='9' => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
