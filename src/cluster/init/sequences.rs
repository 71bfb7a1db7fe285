//! `pgcanon init --sequences`: numbers that no other node hands out, by a step and a place of this node's own, and the way back.
//!
//! A step takes the sequence's lock first and computes from what it then finds: nobody is handed a number in between.

use std::collections::{BTreeSet, HashSet};
use std::str::FromStr;

use tokio_postgres::Client;

use super::state::State;
use super::{CONTROL_ROLE, InitError, Plan, Step};
use crate::catalog::load::{Named, load};
use crate::cluster::sequences::{Sequence, read, read_positions};
use crate::config::{Config, TableName};
use crate::sql::quote::{self, literal, quoted};

/// The version of the schema that remembers what sequences were.
const SINCE: i32 = 4;

/// More nodes than anybody has, and less than the smallest sequence takes.
const MOST: i64 = 10_000;

/// What is to become of the sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequences {
    /// This node takes each `step`th number, beginning with the `place`th; none: as many as there are nodes, and by the order
    /// of their names.
    Lay { step: Option<i64>, place: Option<i64> },
    /// They are what they were.
    Off,
}

/// The word for [`Sequences::Lay`] without a number.
pub const BY_NODES: &str = "nodes";

impl FromStr for Sequences {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("it takes `off`, STEP (2 to {MOST}), or STEP:OFFSET with an OFFSET from 1 to STEP");
        let number = |text: &str, least: i64, most: i64| {
            text.parse::<i64>().ok().filter(|n| (least..=most).contains(n)).ok_or_else(wrong)
        };
        match (text, text.split_once(':')) {
            ("off", _) => Ok(Self::Off),
            (BY_NODES, _) => Ok(Self::Lay { step: None, place: None }),
            (_, None) => Ok(Self::Lay { step: Some(number(text, 2, MOST)?), place: None }),
            (_, Some((step, place))) => {
                let step = number(step, 2, MOST)?;
                Ok(Self::Lay { step: Some(step), place: Some(number(place, 1, step)?) })
            }
        }
    }
}

/// Which numbers are this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    step: i64,
    place: i64,
}

/// What was done to a sequence, and what it was before.
#[derive(Clone, Debug)]
struct Record {
    name: TableName,
    layout: Layout,
    increment: i64,
    start: i64,
    next: i64,
}

/// Adds what is to be done.
pub(super) async fn plan(
    client: &Client,
    state: &State,
    config: &Config,
    wanted: Sequences,
    plan: &mut Plan,
) -> Result<(), InitError> {
    let records = records(client, state).await?;
    match wanted {
        Sequences::Off => plan.further.extend(take_back(client, &records).await?.into_iter().map(alone)),
        Sequences::Lay { step, place } => {
            let layout = Layout::of(config, step, place)?;
            for sequence in ruled(client, config).await? {
                let record = records.iter().find(|r| r.name == sequence.name);
                match layout.lay(&sequence, record) {
                    Ok(step) => plan.further.extend(step.map(alone)),
                    Err(why) => plan.refused.push(why),
                }
            }
        }
    }
    Ok(())
}

/// What takes everything back, to stand within a transaction.
pub(super) async fn back(client: &Client, state: &State) -> Result<Vec<Step>, InitError> {
    take_back(client, &records(client, state).await?).await
}

/// The sequences of the tables that rules name.
async fn ruled(client: &Client, config: &Config) -> Result<Vec<Sequence>, InitError> {
    let catalog = load(client, &config.tables, &Named::from(config)).await?;
    let tables: HashSet<&TableName> =
        catalog.relations.values().filter(|r| r.rule.is_some()).map(|r| &r.name).collect();
    let mut sequences = read(client).await?;
    sequences.retain(|s| s.columns.iter().any(|c| tables.contains(&c.table)));
    read_positions(client, &mut sequences).await?;
    Ok(sequences)
}

async fn records(client: &Client, state: &State) -> Result<Vec<Record>, InitError> {
    if state.version.is_none_or(|version| version < SINCE) {
        return Ok(Vec::new());
    }
    let sql = "SELECT nsp_name, seq_name, step, place, was_increment, was_start, was_next FROM pgcanon.sequence ORDER BY 1, 2";
    let mut records = Vec::new();
    for row in client.query(sql, &[]).await? {
        records.push(Record {
            name: TableName { schema: row.try_get(0)?, table: row.try_get(1)? },
            layout: Layout { step: row.try_get(2)?, place: row.try_get(3)? },
            increment: row.try_get(4)?,
            start: row.try_get(5)?,
            next: row.try_get(6)?,
        });
    }
    Ok(records)
}

async fn take_back(client: &Client, records: &[Record]) -> Result<Vec<Step>, InitError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let sequences = read(client).await?;
    let step = |record: &Record| {
        // What somebody has set otherwise since is theirs.
        let ours = |s: &&Sequence| s.name == record.name && s.increment == record.layout.step;
        record.forget(sequences.iter().find(ours))
    };
    Ok(records.iter().map(step).collect())
}

/// A step that is a transaction of its own, in psql, too.
fn alone(step: Step) -> Step {
    Step { sql: format!("BEGIN;\n{};\nCOMMIT", step.sql), ..step }
}

fn who(sequence: &Sequence) -> String {
    let owner = &sequence.owner;
    format!(
        "\"{owner}\", who owns the sequence, if a member of {CONTROL_ROLE} (GRANT {CONTROL_ROLE} TO {}), or a superuser; \
         `pgcanon init --connect` takes such a connection",
        quoted(owner)
    )
}

/// As a subquery: the least number that nobody was given here, and none of the columns has.
fn floor(sequence: &Sequence) -> String {
    let mut columns: Vec<_> = sequence.columns.iter().filter(|c| c.integer && !c.partition).collect();
    if columns.is_empty() {
        columns = sequence.columns.iter().filter(|c| c.integer).collect();
    }
    let above = |c: &&_| -> String {
        let crate::cluster::sequences::FedColumn { table, column, .. } = c;
        format!(", (SELECT pg_catalog.max({})::int8 + 1 FROM {})", quoted(column), quote::table(table, "UTF8"))
    };
    let columns: String = columns.iter().map(above).collect();
    format!("(SELECT GREATEST(last_value + is_called::int4{columns}) AS n FROM {}) AS floor", sequence.sql_name())
}

/// Of `floor.n` and what comes behind it: the first that is `like`, modulo `step`.
fn first_like(like: i64, step: i64) -> String {
    format!("floor.n + (({like} - floor.n) % {step} + {step}) % {step}")
}

// === impl Layout ===

impl Layout {
    fn of(config: &Config, step: Option<i64>, place: Option<i64>) -> Result<Self, InitError> {
        let own = &config.node.name;
        let names: BTreeSet<_> = config.peers.iter().map(|p| &p.name).chain([own]).collect();
        let nodes = i64::try_from(names.len()).unwrap_or(i64::MAX);
        let step = match (step, place) {
            (_, None) if nodes < 2 => return Err(InitError::NodesUnknown),
            (step, _) => step.unwrap_or(nodes),
        };
        if step < nodes {
            return Err(InitError::TooFewNumbers { step, nodes });
        }
        let by_name = || names.iter().position(|name| *name == own).map_or(0, |n| n.saturating_add(1));
        Ok(Self { step, place: place.unwrap_or_else(|| i64::try_from(by_name()).unwrap_or(i64::MAX)) })
    }

    fn has(self, number: i64) -> bool {
        i128::from(number).rem_euclid(i128::from(self.step)) == i128::from(self.place).rem_euclid(i128::from(self.step))
    }

    /// This node's first number from `least` on.
    fn first(self, least: i64) -> i128 {
        let (least, step) = (i128::from(least), i128::from(self.step));
        least.saturating_add((i128::from(self.place).saturating_sub(least)).rem_euclid(step))
    }

    /// The step that gives the sequence this layout, if it has not; or why it cannot have it.
    fn lay(self, sequence: &Sequence, record: Option<&Record>) -> Result<Option<Step>, String> {
        let Self { step, place } = self;
        let Some(fed) = sequence.columns.first() else { return Ok(None) };
        let what = format!("sequence {} of {}.{}", sequence.name, fed.table, fed.column);
        let name = sequence.sql_name();
        if sequence.increment < 0 {
            return Err(format!(
                "{what} counts down, and only those that count up can be laid; give it a range on each node instead: \
                 ALTER SEQUENCE {name} MINVALUE … MAXVALUE …"
            ));
        }
        if sequence.cycle {
            return Err(format!(
                "{what} begins again at its end, where numbers of all nodes are; to do without: ALTER SEQUENCE {name} NO CYCLE"
            ));
        }
        let (was_increment, was_start) =
            record.map_or((sequence.increment, sequence.start), |r| (r.increment, r.start));
        let fits = |n: i128| i64::try_from(n).ok().filter(|n| *n <= sequence.max);
        let start = fits(self.first(was_start)).or_else(|| fits(self.first(sequence.min)));
        let taken = sequence.position.map(|p| if p.called { p.last.checked_add(1) } else { Some(p.last) });
        let left = taken.is_none_or(|least| least.is_some_and(|least| fits(self.first(least)).is_some()));
        let Some(start) = start.filter(|_| left) else {
            return Err(format!(
                "{what} has no number left for place {place} of {step} up to its MAXVALUE {}; a wider type of the column, \
                 or ALTER SEQUENCE {name} MAXVALUE …, makes room",
                sequence.max
            ));
        };
        let done = sequence.increment == step
            && self.has(sequence.start)
            && sequence.position.is_none_or(|p| self.has(p.last))
            && record.is_some_and(|r| r.layout == self);
        if done {
            return Ok(None);
        }
        let sql = [
            format!("ALTER SEQUENCE {name} INCREMENT BY {step} START WITH {start}"),
            format!(
                "INSERT INTO pgcanon.sequence (nsp_name, seq_name, step, place, was_increment, was_start, was_next) \
                 SELECT {}, {}, {step}, {place}, {was_increment}, {was_start}, last_value + is_called::int4 * {was_increment} \
                 FROM {name} ON CONFLICT (nsp_name, seq_name) DO UPDATE SET step = excluded.step, place = excluded.place",
                literal(&sequence.name.schema),
                literal(&sequence.name.table)
            ),
            format!(
                "SELECT pg_catalog.setval({}, {}, false) FROM {}",
                literal(&name),
                first_like(place, step),
                floor(sequence)
            ),
        ];
        let what = format!("{what}: place {place} of {step}");
        Ok(Some(Step { what, sql: sql.join(";\n"), who: who(sequence) }))
    }
}

// === impl Record ===

impl Record {
    /// The step that makes a sequence what it was, and forgets it; without one, that forgets it.
    fn forget(&self, sequence: Option<&Sequence>) -> Step {
        let forget = format!(
            "DELETE FROM pgcanon.sequence WHERE nsp_name = {} AND seq_name = {}",
            literal(&self.name.schema),
            literal(&self.name.table)
        );
        let Some(sequence) = sequence else {
            let who = format!("a member of {CONTROL_ROLE}, or a superuser");
            let what = format!("sequence {} is not as it was laid, and is left as it is", self.name);
            return Step { what, sql: forget, who };
        };
        let (name, increment) = (sequence.sql_name(), self.increment);
        let sql = [
            format!("ALTER SEQUENCE {name} INCREMENT BY {increment} START WITH {}", self.start),
            // One that is used up stays so.
            format!(
                "SELECT pg_catalog.setval({}, LEAST(next.n, {max}), next.n > {max}) FROM (SELECT {} AS n FROM {}) AS next",
                literal(&name),
                first_like(self.next, increment),
                floor(sequence),
                max = sequence.max
            ),
            forget,
        ];
        let what = format!("sequence {}: steps by {increment} again", self.name);
        Step { what, sql: sql.join(";\n"), who: who(sequence) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_a_step_and_a_place_or_the_way_back() {
        let lay = |step, place| Ok(Sequences::Lay { step, place });
        for (text, read) in [
            ("nodes", lay(None, None)),
            ("10", lay(Some(10), None)),
            ("10:3", lay(Some(10), Some(3))),
            ("2:2", lay(Some(2), Some(2))),
            ("off", Ok(Sequences::Off)),
        ] {
            assert_eq!(text.parse::<Sequences>(), read, "{text}");
        }
        for text in
            ["", "1", "0", "-2", "x", "10:0", "10:11", "10:", ":1", "on", "10:3:1", "10001", "99999999999999999999"]
        {
            assert!(text.parse::<Sequences>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_number_of_a_place_is_the_next_one_that_leaves_its_rest() {
        let layout = Layout { step: 3, place: 3 };
        for (least, first) in [(1, 3), (3, 3), (4, 6), (-4, -3), (0, 0)] {
            assert_eq!(layout.first(least), first, "{least}");
            assert!(layout.has(i64::try_from(first).unwrap_or_default()));
        }
        assert!(layout.first(i64::MAX) > i128::from(i64::MAX));
    }
}
