//! What was written against what the writers were told: both nodes hold every acknowledged transaction, whole and once, and
//! nothing that was refused or that nobody wrote.

use std::collections::BTreeMap;
use std::fmt;

use crate::site::Site;
use crate::writer::{Record, Told};

/// Shared rows that are counted up, and keys that every writer has of its own.
pub(crate) const COUNTERS: u64 = 6;
pub(crate) const KEYS: u64 = 5;

pub(crate) const MOST_WRITERS: u64 = 32;

/// What happened to whom, in numbers.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) done: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// Of the unknown ones.
    pub(crate) committed: u64,
    pub(crate) alone: u64,
}

/// A row for every part of a transaction, with what else the transaction did.
pub(crate) fn tables() -> String {
    format!(
        "create table ledger (writer int, n int, part int, parts int, counter int, k int, v text, primary key (writer, n, part));
         create table counters (id int primary key, n bigint not null);
         insert into counters select generate_series(1, {}), 0;
         create table own (writer int, k int, v text not null, primary key (writer, k));
         create table alone (writer int primary key, n bigint not null);
         insert into alone select generate_series(0, {MOST_WRITERS}), 0",
        COUNTERS + 1
    )
}

/// Asserts all of it, once nothing waits.
pub(crate) fn check(site: &Site, records: &[Record]) -> Summary {
    site.settle();
    for table in ["ledger", "counters", "own", "alone"] {
        let digest = format!("select count(*), sum(hashtext(t.*::text)) from {table} t");
        let [a, b] = site.sides.each_ref().map(|side| side.direct().ok(&digest).rows());
        if a != b {
            site.assert_same(&format!("select t.*::text from {table} t order by 1"));
        }
    }
    let mut summary = Summary::default();
    for side in &site.sides {
        let mut direct = side.direct();
        let mut none = |what: &str, sql: &str| {
            let rows = direct.ok(sql).rows();
            assert!(rows.is_empty(), "on {}: {what}: {:?}", side.name, &rows[..rows.len().min(10)]);
        };
        none(
            "transactions in parts",
            "select writer, n, count(*), min(parts), max(parts) from ledger group by 1, 2 \
             having count(*) <> min(parts) or min(parts) <> max(parts)",
        );
        none(
            "counters that disagree with the ledger",
            "select id, n, (select count(*) from ledger where counter = id and part = 1) from counters \
             where n <> (select count(*) from ledger where counter = id and part = 1)",
        );
        // Of what a writer did to its keys the last counts.
        let expected = "select writer, k, v from (select distinct on (writer, k) writer, k, v from ledger \
            where part = 1 and k is not null order by writer, k, n desc) last where v is not null";
        none("rows that should not be there", &format!("table own except ({expected})"));
        none("rows that are missing", &format!("({expected}) except table own"));
        let number = |value: &Option<String>| value.as_deref().and_then(|v| v.parse::<u64>().ok()).expect("a number");
        let mut there: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for row in direct.ok("select writer, n from ledger where part = 1 order by 1, 2").rows() {
            there.entry(number(&row[0])).or_default().push(number(&row[1]));
        }
        let alone: BTreeMap<u64, u64> =
            direct.ok("table alone").rows().iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
        summary = Summary::default();
        for record in records {
            let committed = there.remove(&record.writer).unwrap_or_default();
            summary.add(side.name, record, &committed);
            let (sure, perhaps) = record.alone;
            let found = alone[&record.writer];
            assert!(
                (sure..=sure + perhaps).contains(&found),
                "on {}: writer {} was told of {sure} increments, {perhaps} more may have happened, there are {found}",
                side.name,
                record.writer
            );
            summary.alone += sure;
        }
        assert!(there.is_empty(), "on {}: nobody wrote {there:?}", side.name);
    }
    summary
}

impl Summary {
    /// Holds what a writer was told against what is there, in order.
    fn add(&mut self, node: &str, record: &Record, committed: &[u64]) {
        let writer = record.writer;
        for (n, told) in &record.told {
            let there = committed.binary_search(n).is_ok();
            match told {
                Told::Done => {
                    assert!(there, "on {node}: writer {writer} was told that {n} is done, and it is not there");
                    self.done += 1;
                }
                Told::Refused => {
                    assert!(!there, "on {node}: writer {writer} was told that {n} has not happened, and it is there");
                    self.refused += 1;
                }
                Told::Unknown => {
                    self.unknown += 1;
                    self.committed += u64::from(there);
                }
            }
        }
        for n in committed {
            assert!(record.told.contains_key(n), "on {node}: writer {writer} never wrote {n}");
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, refused, unknown, committed, alone } = self;
        write!(
            f,
            "{done} transactions acknowledged, {refused} refused, {unknown} in the dark, {committed} of which have happened; \
             {alone} increments besides"
        )
    }
}
