//! Sixteen clients at random over every lane, isolation level and protocol, some of them failing, cancelled or killed: whatever
//! was committed, the journal makes the same tables.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::msg::{bind, describe, execute, parse, sync};
use crate::common::node::{Node, PUBLIC};
use crate::common::rng::{Rng, seed};
use crate::common::session::{Answer, Lost, Session};
use crate::common::{Addr, Pg};

const CLIENTS: u64 = 16;
/// How long the clients work in each round.
const ROUND: Duration = Duration::from_secs(6);

const TABLES: &str = "
    create table acc (id int primary key, balance int not null default 0, note text, at timestamptz default now());
    insert into acc select i, 100, 'start', '2020-01-01' from generate_series(1, 40) i;
    create table auto (id bigint generated always as identity primary key, who int, r double precision default random());
    create table uni (id int primary key, u int unique, v text);
    insert into uni select i, i, 'v' from generate_series(1, 30) i;
    create table par (id int primary key, v text); create table kid (id int primary key, par int references par on delete cascade, v text);
    insert into par select i, 'p' from generate_series(1, 20) i; insert into kid select i, i % 20 + 1, 'k' from generate_series(1, 40) i;
    create table m (id int, at int, v text, primary key (id, at)) partition by list (at);
    create table m0 partition of m for values in (0, 1); create table m1 partition of m default;
    create table log (line text, n int);
    create table bulk (id int primary key, v text);";

/// One client's life.
struct Life<'a> {
    addr: &'a Addr,
    database: &'a str,
    rng: Rng,
    session: Option<Session>,
    /// States of errors that may come when sixteen clients fight, and how often each came.
    done: &'a AtomicU64,
    failed: &'a AtomicU64,
}

/// What may fail when clients fight, and what they do wrong on purpose.
const EXPECTED: &[&str] = &[
    "40001", "40P01", "23505", "23503", "57014", "25P02", "22012", "0A000", "55P03", "21000", "25001", "27000", "3B001",
];

// === impl Life ===

impl Life<'_> {
    fn live(&mut self, until: Instant) {
        while Instant::now() < until {
            let (addr, database) = (self.addr, self.database);
            let session = self.session.get_or_insert_with(|| Session::open(addr, "postgres", database));
            let cancel = (self.rng.one_in(40)).then(|| session.canceller());
            let canceller = cancel.map(std::thread::spawn);
            match self.transaction() {
                Ok(()) => {}
                Err(lost) => panic!("a connection was lost: {lost:?}"),
            }
            if let Some(canceller) = canceller {
                canceller.join().expect("cancel");
            }
            if self.rng.one_in(60) {
                self.die();
            }
        }
        self.session = None;
    }

    /// Goes away in the middle of something, without a word.
    fn die(&mut self) {
        use crate::common::msg::query;
        let Some(mut session) = self.session.take() else { return };
        let write = self.statement();
        match self.rng.below(3) {
            0 => session.client.send(&query(&write)),
            1 => session.client.send(&[query("begin"), query(&write), query(&write)].concat()),
            _ => session.client.send(&[query("begin"), query(&write), query("commit")].concat()),
        }
        session.client.reset();
    }

    fn transaction(&mut self) -> Result<(), Lost> {
        match self.rng.below(10) {
            0..=3 => self.write().map(|_| ()),
            4 => {
                let several: Vec<String> = (0..self.rng.below(4) + 2).map(|_| self.statement()).collect();
                self.simple(&several.join("; ")).map(|_| ())
            }
            5 => self.pipeline(),
            _ => self.block(),
        }
    }

    fn block(&mut self) -> Result<(), Lost> {
        let level = *self.rng.pick(&["read committed", "read committed", "repeatable read", "serializable"]);
        self.simple(&format!("begin isolation level {level}"))?;
        let mut depth = 0;
        for _ in 0..self.rng.below(6) + 1 {
            match self.rng.below(8) {
                0 => {
                    self.simple(&format!("savepoint s{depth}"))?;
                    depth += 1;
                }
                1 if depth > 0 => {
                    let to = self.rng.below(depth);
                    self.simple(&format!("rollback to s{to}"))?;
                    depth = to + 1;
                }
                2 if depth > 0 => {
                    depth -= 1;
                    self.simple(&format!("release s{depth}"))?;
                }
                3 => drop(self.simple("select sum(balance) from acc")?),
                4 if self.rng.one_in(4) => drop(self.simple("select 1/0")?),
                _ => drop(self.write()?),
            }
        }
        let end = *self.rng.pick(&["commit", "commit", "commit", "rollback", "prepare"]);
        if end == "prepare" {
            let name = format!("{}_{}", self.database, self.rng.next());
            let answer = self.simple(&format!("prepare transaction '{name}'"))?;
            if answer.failure().is_none() && answer.tags() == ["PREPARE TRANSACTION"] {
                let end = *self.rng.pick(&["commit", "rollback"]);
                // A cancel request may still come; a prepared transaction must not stay.
                while self.simple(&format!("{end} prepared '{name}'"))?.failure().is_some() {}
            }
        } else {
            self.simple(end)?;
        }
        // Whatever became of it, the next transaction begins outside a block.
        while self.simple("rollback")?.failure().is_some() {}
        Ok(())
    }

    fn pipeline(&mut self) -> Result<(), Lost> {
        let mut messages = Vec::new();
        for _ in 0..self.rng.below(4) + 1 {
            for _ in 0..self.rng.below(3) + 1 {
                messages.push([parse("", self.statement(), &[]), bind("", "", &[]), execute("", 0)].concat());
            }
            messages.push(sync());
        }
        let syncs = messages.iter().filter(|message| **message == sync()).count();
        let session = self.session.as_mut().expect("connected");
        let first = session.try_send(&messages)?;
        self.note(&first);
        for _ in 1..syncs {
            let answer = self.session.as_mut().expect("connected").try_send(&[])?;
            self.note(&answer);
        }
        Ok(())
    }

    /// One write in one of the protocols.
    fn write(&mut self) -> Result<Answer, Lost> {
        match self.rng.below(6) {
            0 | 1 => {
                let sql = self.statement();
                self.simple(&sql)
            }
            2 => {
                let sql = self.statement();
                let limit = *self.rng.pick(&[0, 0, 1]);
                self.messages(&[parse("", sql, &[]), bind("", "", &[]), describe(b'P', ""), execute("", limit), sync()])
            }
            3 | 4 => {
                let (sql, params) = self.parameters();
                let params: Vec<Option<&[u8]>> = params.iter().map(|p| Some(p.as_bytes())).collect();
                self.messages(&[parse("", sql, &[]), bind("", "", &params), describe(b'P', ""), execute("", 0), sync()])
            }
            _ => self.copy(),
        }
    }

    fn copy(&mut self) -> Result<Answer, Lost> {
        let from = self.rng.below(1_000_000_000);
        let rows: String = (0..self.rng.below(50) + 1).map(|n| format!("{}\tcopied {n}\n", from + n)).collect();
        let session = self.session.as_mut().expect("connected");
        let answer = session.copy("copy bulk from stdin", &[rows.as_bytes()]);
        self.note(&answer);
        Ok(answer)
    }

    fn simple(&mut self, sql: &str) -> Result<Answer, Lost> {
        let answer = self.session.as_mut().expect("connected").try_run(sql)?;
        self.note(&answer);
        Ok(answer)
    }

    fn messages(&mut self, messages: &[Vec<u8>]) -> Result<Answer, Lost> {
        let answer = self.session.as_mut().expect("connected").try_send(messages)?;
        self.note(&answer);
        Ok(answer)
    }

    fn note(&self, answer: &Answer) {
        match answer.failure() {
            None => drop(self.done.fetch_add(1, Ordering::Relaxed)),
            Some(failure) => {
                assert!(EXPECTED.contains(&failure.state.as_str()), "an error nobody may see: {failure:?}");
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A statement with parameters, and their values.
    fn parameters(&mut self) -> (&'static str, Vec<String>) {
        let (id, n) = (self.rng.below(40) + 1, self.rng.below(100));
        let (id, n) = (id.to_string(), n.to_string());
        match self.rng.below(6) {
            0 => ("update acc set balance = balance + $1 where id = $2", vec![n, id]),
            1 => ("update acc set note = $1 || random()::text where id = $2 returning note", vec![n, id]),
            2 => (
                "insert into acc (id, balance) values ($1, $2) on conflict (id) do update set balance = acc.balance + 1",
                vec![id, n],
            ),
            3 => ("delete from acc where id = $1", vec![id]),
            4 => ("insert into auto (who) values ($1::int), ($1::int + 1) returning id", vec![n]),
            _ => (
                "update acc set at = $1, balance = balance - 1 where id = $2",
                vec!["2021-03-04 05:06:07".to_owned(), id],
            ),
        }
    }

    /// A write of any lane.
    fn statement(&mut self) -> String {
        let (a, b) = (self.rng.below(40) + 1, self.rng.below(40) + 1);
        let (low, high) = (a.min(b), a.min(b) + self.rng.below(4));
        let (p, k) = (self.rng.below(20) + 1, self.rng.below(60) + 1);
        let n = self.rng.below(1_000_000_000);
        match self.rng.below(38) {
            0..=4 => format!("update acc set balance = balance + {b} where id = {a}"),
            5 => format!("update acc set balance = balance + 1, note = 'n{n}' where id in ({a}, {b})"),
            6 => format!("update acc set note = random()::text, at = now() where id between {low} and {high}"),
            7 => format!("update acc set balance = (select sum(balance) from acc) % 1000 where id = {a}"),
            8 => format!("update acc a set balance = b.balance from acc b where a.id = {a} and b.id = {b}"),
            9 | 10 => format!("delete from acc where id = {a}"),
            11 => format!("delete from acc where id between {low} and {high} and balance > 100"),
            12..=14 => format!("insert into acc (id, balance) values ({a}, {b})"),
            15 | 16 => format!("insert into acc (id, balance) values ({a}, 5) on conflict (id) do update set balance = acc.balance + excluded.balance"),
            17 => format!("insert into acc (id, note) values ({a}, random()::text), ({}, 'x') on conflict (id) do update set note = excluded.note", a + 1),
            18 => format!("insert into acc (id) values ({a}), ({b}) on conflict do nothing"),
            19 => format!("insert into auto (who) select {a} from generate_series(1, {}) returning id, r", b % 5 + 1),
            20 => "with job as (select id from auto order by id limit 1 for update skip locked) delete from auto where id in (select id from job) returning *".to_owned(),
            21 => format!("with gone as (delete from acc where id = {a} returning id, note) insert into log select note, id from gone"),
            22 => format!("update uni set u = {b} where id = {a}"),
            23 => format!("insert into uni values ({a}, {b}, 'new') on conflict (u) do update set v = random()::text"),
            24 => format!("insert into uni values ({a}, {b}, 'new') on conflict do nothing"),
            25 => format!("update uni set id = {} where id = {}", a + b % 2 * 100, b + a % 2 * 100),
            26 => format!("delete from uni where id = {a} or u = {b}"),
            27 => format!("insert into par values ({p}, 'v{n}')"),
            28 => format!("delete from par where id = {p}"),
            29 => format!("insert into kid values ({k}, {p}, random()::text) on conflict (id) do update set par = excluded.par"),
            30 => format!("update kid set par = {p} where id = {k}"),
            31 => format!("insert into m values ({a}, {}, now()::text) on conflict (id, at) do update set v = m.v || 'x'", b % 4),
            32 => format!("update m set v = random()::text where id = {a}"),
            33 => format!("delete from m where id = {a} and at = {}", b % 4),
            34 => format!("insert into log values ('line', {n})"),
            35 if self.rng.one_in(3) => format!("update log set n = n + 1 where n % 10 = {}", b % 10),
            36 if self.rng.one_in(20) => "truncate bulk".to_owned(),
            37 => format!("insert into bulk select {n} + i, repeat(md5(random()::text), 3) from generate_series(1, {}) i", b * 4),
            _ => format!("update acc set balance = balance - {b} where id = {a} returning balance"),
        }
    }
}

fn fight(pg: Pg, proxies: usize) {
    let seed = seed("random");
    let node = Node::alone(pg, "", TABLES, PUBLIC);
    let second = (proxies > 1).then(|| node.second_proxy());
    let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let rng = Rng::new(seed);
    let until = Instant::now() + ROUND;
    let ways = [node.proxy.tcp(), second.as_ref().map_or_else(|| node.proxy.unix(), |proxy| proxy.tcp())];
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let mut life = Life {
                addr: &ways[client as usize % 2],
                database: &node.database,
                rng: rng.fork(client),
                session: None,
                done: &done,
                failed: &failed,
            };
            scope.spawn(move || life.live(until));
        }
    });
    // Statements of killed clients may still run: the journal is complete when they have ended.
    let busy = "select count(*) from pg_stat_activity where datname = current_database() and state <> 'idle' \
                and backend_type = 'client backend' and pid <> pg_backend_pid() and application_name not like 'pgcanon%'";
    crate::common::eventually("the statements of killed clients to end", || (node.sql(busy) == "0").then_some(()));
    let entries = node.assert_replays();
    let lanes = |lane: &str| entries.iter().filter(|entry| entry.lane == lane).count();
    let (done, failed) = (done.into_inner(), failed.into_inner());
    let ticks = entries.last().and_then(|entry| entry.tick).unwrap_or_default();
    eprintln!(
        "{pg:?}: {done} done, {failed} failed; {} entries (S {}, R {}, L {}, C {}) in {ticks} ticks",
        entries.len(),
        lanes("statement"),
        lanes("row"),
        lanes("locked"),
        lanes("copy")
    );
    for lane in ["statement", "row", "locked", "copy"] {
        assert!(lanes(lane) > 0, "nothing travelled in lane {lane}");
    }
}

#[test]
fn sixteen_clients() {
    fight(Pg::V15, 1);
}

#[test]
fn sixteen_clients_on_two_proxies() {
    fight(Pg::V18, 2);
}
