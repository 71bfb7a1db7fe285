//! A client that writes transactions of every form, through whatever happens to its connection, and keeps what it was told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::common::msg::{bind, execute, parse, sync};
use crate::common::rng::Rng;
use crate::common::session::{Answer, Lost, Session};
use crate::ledger::{COUNTERS, KEYS};
use crate::site::Side;

/// What a client was told about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Done,
    /// It has not happened, for certain: it failed, was rolled back, or nobody was asked to commit it.
    Refused,
    /// The connection ended before the answer.
    Unknown,
}

/// What a writer has done and was told.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) writer: u64,
    pub(crate) told: BTreeMap<u64, Told>,
    /// Increments that are in no ledger: how many were acknowledged, and how many may have happened.
    pub(crate) alone: (u64, u64),
}

/// A statement, for either protocol.
struct Statement {
    sql: String,
    params: Vec<String>,
}

/// A transaction of the ledger.
struct Transaction {
    ledger: Vec<Statement>,
    others: Vec<Statement>,
}

struct Writer {
    rng: Rng,
    record: Record,
    session: Option<Session>,
}

/// Writes until it is to stop; `done` counts what was acknowledged.
pub(crate) fn write(side: &Side, writer: u64, rng: Rng, stop: &AtomicBool, done: &AtomicU64) -> Record {
    let record = Record { writer, ..Record::default() };
    let mut w = Writer { rng, record, session: None };
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(mut session) = w.session.take().or_else(|| side.try_client(w.rng.below(16) as usize)) else {
            std::thread::sleep(Duration::from_millis(5)); // nobody is there: asks again
            continue;
        };
        n += 1;
        let (told, goes_on) = w.transaction(n, &mut session);
        w.record.told.insert(n, told);
        done.fetch_add(u64::from(told == Told::Done), Ordering::Relaxed);
        let goes_on = goes_on && w.alone(&mut session);
        w.session = goes_on.then_some(session);
    }
    w.record
}

impl Writer {
    /// One transaction in some form: what was told, and whether the connection is of use.
    fn transaction(&mut self, n: u64, session: &mut Session) -> (Told, bool) {
        let form = self.rng.below(8);
        let t = self.made_up(n, form == 0);
        let all: Vec<&Statement> = t.ledger.iter().chain(&t.others).collect();
        let joined = || all.iter().map(|s| s.literal()).collect::<Vec<_>>().join("; ");
        let (answer, mut asked) = match form {
            // alone
            0 => (t.ledger[0].run(session, self.rng.one_in(2)), true),
            // an implicit transaction
            1 => (session.try_run(&joined()), true),
            2 => (session.try_run(&format!("begin; {}; commit", joined())), true),
            // one more, in a pipeline
            3 => {
                let mut messages: Vec<_> = all.iter().flat_map(|s| s.messages()).collect();
                messages.push(sync());
                (session.try_send(&messages), true)
            }
            _ => self.block(session, &all),
        };
        let rolled_back = matches!(&answer, Ok(answer) if answer.tags() == ["ROLLBACK"]);
        let mut goes_on = answer.is_ok();
        if answer.as_ref().is_ok_and(|answer| answer.status() != 'I') {
            goes_on = session.try_run("rollback").is_ok();
            asked = true; // the answer says that it failed
        }
        (if asked && !rolled_back { told(&answer) } else { Told::Refused }, goes_on)
    }

    /// Step by step: the last answer, and whether COMMIT was sent.
    fn block(&mut self, session: &mut Session, all: &[&Statement]) -> (Result<Answer, Lost>, bool) {
        let begin = if self.rng.one_in(4) { "begin isolation level repeatable read" } else { "begin" };
        let mut answer = session.try_run(begin);
        let savepoint = self.rng.one_in(3).then(|| self.rng.below(all.len() as u64) as usize);
        for (at, statement) in all.iter().enumerate() {
            if savepoint == Some(at) {
                // What is rolled back must be nowhere.
                let bait = format!("savepoint s; update counters set n = n + 1000000 where id = {}", COUNTERS + 1);
                for sql in [bait.as_str(), "rollback to s"] {
                    match answer {
                        Ok(ok) if ok.failure().is_none() => answer = session.try_run(sql),
                        _ => return (answer, false),
                    }
                }
            }
            match answer {
                Ok(ok) if ok.failure().is_none() => answer = statement.run(session, self.rng.one_in(2)),
                _ => return (answer, false),
            }
        }
        match answer {
            Ok(ok) if ok.failure().is_none() => {}
            _ => return (answer, false),
        }
        if self.rng.one_in(8) {
            return (session.try_run("rollback"), false);
        }
        let commit = Statement { sql: "commit".to_owned(), params: Vec::new() };
        (commit.run(session, self.rng.one_in(2)), true)
    }

    fn made_up(&mut self, n: u64, alone: bool) -> Transaction {
        let (rng, writer) = (&mut self.rng, self.record.writer);
        let parts = 1 + rng.below(4);
        let counter = (!alone && !rng.one_in(4)).then(|| 1 + rng.below(COUNTERS));
        let key = (!alone && !rng.one_in(4)).then(|| rng.below(KEYS));
        let value = key.filter(|_| !rng.one_in(3)).map(|_| format!("v {n} {}", rng.next()));
        let text = |number: Option<u64>| number.map_or("null".to_owned(), |n| n.to_string());
        let columns = "insert into ledger (writer, n, part, parts, counter, k, v)";
        let shown = value.as_ref().map_or("null".to_owned(), |v| format!("'{v}'"));
        let row = |part: &str| {
            format!("$1::int, $2::int, {part}, {parts}, {}::int, {}::int, {shown}::text", text(counter), text(key))
        };
        let name = || vec![writer.to_string(), n.to_string()];
        let ledger = if alone || rng.one_in(2) {
            let sql = format!("{columns} select {} from generate_series(1, {parts}) p", row("p"));
            vec![Statement { sql, params: name() }]
        } else {
            let one =
                |part: u64| Statement { sql: format!("{columns} values ({})", row(&part.to_string())), params: name() };
            (1..=parts).map(one).collect()
        };
        let mut others = Vec::new();
        if let Some(counter) = counter {
            let sql = "update counters set n = n + 1 where id = $1::int".to_owned();
            others.push(Statement { sql, params: vec![counter.to_string()] });
        }
        if let Some(key) = key {
            let own = vec![writer.to_string(), key.to_string()];
            match value {
                Some(v) if rng.one_in(2) => {
                    let sql = "insert into own values ($1::int, $2::int, $3::text) \
                        on conflict (writer, k) do update set v = excluded.v";
                    others.push(Statement { sql: sql.to_owned(), params: [own, vec![v]].concat() });
                }
                value => {
                    let sql = "delete from own where writer = $1::int and k = $2::int".to_owned();
                    others.push(Statement { sql, params: own.clone() });
                    if let Some(v) = value {
                        let sql = "insert into own values ($1::int, $2::int, $3::text)".to_owned();
                        others.push(Statement { sql, params: [own, vec![v]].concat() });
                    }
                }
            }
        }
        Transaction { ledger, others }
    }

    /// Now and then an increment that nothing else tells of; whether the connection is of use.
    fn alone(&mut self, session: &mut Session) -> bool {
        if !self.rng.one_in(3) {
            return true;
        }
        let sql = "update alone set n = n + 1 where writer = $1::int".to_owned();
        let statement = Statement { sql, params: vec![self.record.writer.to_string()] };
        let answer = statement.run(session, self.rng.one_in(2));
        match told(&answer) {
            Told::Done => self.record.alone.0 += 1,
            Told::Unknown => self.record.alone.1 += 1,
            Told::Refused => {}
        }
        answer.is_ok()
    }
}

/// What the answer to what was to commit says.
pub(crate) fn told(answer: &Result<Answer, Lost>) -> Told {
    let lost = match answer {
        Ok(answer) if answer.failure().is_none() => return Told::Done,
        Ok(_) => return Told::Refused,
        Err(lost) => lost,
    };
    let committed = lost.frames.iter().any(|f| f.tag == b'C' && f.command() == "COMMIT");
    let error = lost.frames.iter().find(|f| f.tag == b'E');
    let severity = error.and_then(|f| f.field(b'V')).unwrap_or_default();
    match lost.failure() {
        _ if committed => Told::Done,
        Some(failure) if failure.detail.as_deref().is_some_and(|d| d.contains("transaction has committed")) => {
            Told::Done
        }
        Some(failure) if severity == "ERROR" || failure.state == "40000" => Told::Refused,
        _ => Told::Unknown,
    }
}

// === impl Statement ===

impl Statement {
    fn run(&self, session: &mut Session, extended: bool) -> Result<Answer, Lost> {
        if extended {
            session.try_send(&[self.messages(), vec![sync()]].concat())
        } else {
            session.try_run(&self.literal())
        }
    }

    fn messages(&self) -> Vec<Vec<u8>> {
        let params: Vec<Option<&[u8]>> = self.params.iter().map(|p| Some(p.as_bytes())).collect();
        vec![parse("", &self.sql, &[]), bind("", "", &params), execute("", 0)]
    }

    /// With the parameters in the text.
    fn literal(&self) -> String {
        let mut sql = self.sql.clone();
        for (n, param) in self.params.iter().enumerate() {
            sql = sql.replace(&format!("${}", n + 1), &format!("'{param}'"));
        }
        sql
    }
}
