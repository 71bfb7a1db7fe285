//! A tick as it stands in `pgcanon.tick`: its number, whose it is, and the snapshot that cuts the journal (§5).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

/// A tick's number; a node's ticks are numbered without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TickId(pub i64);

/// A transaction's number, with its epoch (`xid8`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u64);

/// When a transaction was committed, or its last statement began where a rule goes by that: microseconds since 2000, as the
/// server counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitTime(pub i64);

impl CommitTime {
    /// SQL for that of a transaction, an `xid`, as INT8; null where the server does not keep it.
    pub fn of(xid: &str) -> String {
        let committed = format!("pg_catalog.pg_xact_commit_timestamp({xid})");
        // Hardly anybody goes by statements, and everybody would pay for the function.
        format!(
            "CASE WHEN pg_catalog.current_setting('track_commit_timestamp')::bool THEN ((extract(epoch FROM \
             CASE WHEN EXISTS (SELECT FROM pgcanon.statement_time) THEN pgcanon.time_of({xid}, {committed}) \
             ELSE {committed} END) - 946684800) * 1000000)::int8 END"
        )
    }
}

/// What a transaction that began at some moment could see (`pg_snapshot`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    xmin: Xid,
    xmax: Xid,
    /// Those in progress between the two, in order.
    running: Vec<Xid>,
}

/// A persisted cut through the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    pub id: TickId,
    /// `system_identifier` of the cluster that made it.
    pub system: i64,
    /// And its timeline: after a failover the same number may mean something else.
    pub timeline: i32,
    pub snapshot: Snapshot,
    /// How far the node had applied every other origin's changes.
    pub deps: BTreeMap<String, Progress>,
    /// As the server prints it.
    pub created: String,
}

/// How far changes of one origin were applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub system: i64,
    pub timeline: i32,
    pub tick: TickId,
    pub ord: i32,
    /// So many pieces of that transaction, where not all of it was applied (§6.1); 0 for all.
    #[serde(default)]
    pub part: i32,
}

/// A value of the server's that is not what it has to be.
#[derive(Debug, thiserror::Error)]
pub enum BadTick {
    #[error("`{0}` is no snapshot")]
    Snapshot(String),
    #[error("`{0}` is no transaction number")]
    Xid(String),
    #[error("cannot read a tick's dependencies")]
    Deps(#[from] serde_json::Error),
    #[error("cannot read a row of pgcanon's own tables")]
    Row(#[from] tokio_postgres::Error),
}

// === impl Tick ===

impl Tick {
    /// What [`Tick::read`] expects, in order.
    pub(super) const COLUMNS: &str = "id, system, timeline, snapshot::text, deps::text, created::text";

    pub(super) fn read(row: &Row) -> Result<Self, BadTick> {
        Ok(Self {
            id: TickId(row.try_get(0)?),
            system: row.try_get(1)?,
            timeline: row.try_get(2)?,
            snapshot: row.try_get::<_, &str>(3)?.parse()?,
            deps: serde_json::from_str(row.try_get(4)?)?,
            created: row.try_get(5)?,
        })
    }
}

impl fmt::Display for TickId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Xid ===

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Xid {
    type Err = BadTick;

    fn from_str(text: &str) -> Result<Self, BadTick> {
        text.parse().map(Xid).map_err(|_| BadTick::Xid(text.to_owned()))
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The first transaction that had not begun.
    pub fn xmax(&self) -> Xid {
        self.xmax
    }

    /// Those that were in progress.
    pub fn running(&self) -> &[Xid] {
        &self.running
    }

    /// Whether what `xid` did, if it committed, can be seen.
    pub fn shows(&self, xid: Xid) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }
}

impl FromStr for Snapshot {
    type Err = BadTick;

    /// Reads `xmin:xmax:xip,xip,…`.
    fn from_str(text: &str) -> Result<Self, BadTick> {
        let bad = || BadTick::Snapshot(text.to_owned());
        let mut parts = text.splitn(3, ':');
        let (Some(xmin), Some(xmax), Some(running)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad());
        };
        let running = running.split_terminator(',').map(Xid::from_str).collect::<Result<Vec<_>, _>>()?;
        let snapshot = Self { xmin: xmin.parse()?, xmax: xmax.parse()?, running };
        (snapshot.running.is_sorted() && snapshot.xmin <= snapshot.xmax).then_some(snapshot).ok_or_else(bad)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (n, xid) in self.running.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{xid}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_what_had_ended() {
        let snapshot: Snapshot = "10:20:10,15".parse().unwrap();
        let shown: Vec<u64> = (8..22).filter(|xid| snapshot.shows(Xid(*xid))).collect();
        assert_eq!(shown, [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]);
        assert_eq!(snapshot.to_string(), "10:20:10,15");
        let idle: Snapshot = "730:730:".parse().unwrap();
        assert!(idle.shows(Xid(729)) && !idle.shows(Xid(730)) && idle.running().is_empty());
    }

    #[test]
    fn what_is_no_snapshot_is_named() {
        for bad in ["", "1:2", "2:1:", "1:9:5,3", "1:9:x", "1:9:5,,6", "-1:2:"] {
            assert!(bad.parse::<Snapshot>().is_err(), "{bad}");
        }
    }
}
