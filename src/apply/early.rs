//! Transactions that the peer gets before their turn (`delivery = "atomic"`, §7): prepared while the node has not decided yet,
//! ended when it has, and passed over when their turn comes.

use std::fmt;
use std::str::FromStr;

use super::applier::{Applier, EARLY, IN_TURN};
use super::error::ApplyError;
use super::line::{Expect, Param, Row};
use super::route::Route;
use super::session::{number, odd};
use crate::config::NodeName;
use crate::journal::Xid;
use crate::wire::stream::Stream;

const TYPES: [u32; 2] = [25, 20];

/// How a prepared transaction is called on the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gid {
    pub origin: String,
    pub xid: Xid,
    /// A digest of its last journal row: after a failover another one may have the number.
    pub tag: String,
}

/// A transaction that the peer has, or will have, before its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub xid: Xid,
    /// None once it is committed.
    pub gid: Option<Gid>,
}

// === impl Gid ===

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pgcanon:{}:{}:{}", self.origin, self.xid, self.tag)
    }
}

impl FromStr for Gid {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.strip_prefix("pgcanon:").ok_or(())?.rsplitn(3, ':');
        let (tag, xid, origin) = (parts.next(), parts.next(), parts.next());
        let xid = xid.and_then(|xid| xid.parse().ok()).ok_or(())?;
        Ok(Self { origin: origin.ok_or(())?.to_owned(), xid, tag: tag.ok_or(())?.to_owned() })
    }
}

// === impl Applier ===

impl Applier {
    /// [`open`](Self::open) beside the forwarder, whose progress this never touches: to
    /// [prepare](Self::prepare_transaction) one transaction.
    pub async fn open_beside(stream: Stream, origin: &NodeName, route: Route) -> Result<Self, ApplyError> {
        Self::begin_session(stream, origin, route, false).await
    }

    /// Prepares the open transaction in the place of [`commit`](Self::commit); what becomes of it is the node's to say.
    pub async fn prepare_transaction(&mut self, gid: &Gid) -> Result<(), ApplyError> {
        self.line.check()?;
        self.end_of_source()?;
        self.note_early(EARLY, gid.xid);
        self.line.sync();
        self.line.answered().await?;
        self.open = None;
        let sql = format!("PREPARE TRANSACTION {}", crate::sql::quote::literal(&gid.to_string()));
        self.plain(sql.as_bytes());
        self.line.sync();
        self.line.answered().await
    }

    /// The open transaction has come to the turn of one that the peer has already.
    pub fn in_turn(&mut self, xid: Xid) {
        self.note_early(IN_TURN, xid);
    }

    fn note_early(&mut self, statement: (u32, &str), xid: Xid) {
        let (origin, xid) = (self.origin().to_string(), xid.to_string());
        self.own(statement, &TYPES, &[Param::text(&origin), Param::text(&xid)], Expect::Count(1));
    }

    /// What the peer has before its turn; to be asked between transactions.
    pub async fn early(&mut self) -> Result<Vec<Prepared>, ApplyError> {
        let sql = "SELECT xid::pg_catalog.text, NULL FROM pgcanon.early WHERE origin OPERATOR(pg_catalog.=) $1 UNION ALL \
            SELECT NULL, gid FROM pg_catalog.pg_prepared_xacts WHERE database OPERATOR(pg_catalog.=) pg_catalog.current_database() \
            AND pg_catalog.starts_with(gid, 'pgcanon:' OPERATOR(pg_catalog.||) $1 OPERATOR(pg_catalog.||) ':')";
        let origin = self.origin().to_string();
        let rows = self.line.query(sql, &[25], &[Param::text(&origin)]).await?;
        self.count_commits();
        rows.iter().filter_map(prepared).collect()
    }

    /// Ends what was prepared; that somebody else has done so already is no error.
    pub async fn finish(&mut self, gid: &Gid, commit: bool) -> Result<(), ApplyError> {
        const GONE: &str = "42704";
        let how = if commit { "COMMIT" } else { "ROLLBACK" };
        let sql = format!("{how} PREPARED {}", crate::sql::quote::literal(&gid.to_string()));
        let ended = self.line.query(&sql, &[], &[]).await;
        self.count_commits();
        match ended {
            Err(ApplyError::Rejected(why)) if why.sqlstate == GONE => self.rollback().await.map(drop),
            other => other.map(drop),
        }
    }
}

/// None for one that somebody else has called by our name.
fn prepared(row: &Row) -> Option<Result<Prepared, ApplyError>> {
    match row.as_slice() {
        [_, Some(gid)] => {
            let gid: Gid = gid.parse().ok()?;
            Some(Ok(Prepared { xid: gid.xid, gid: Some(gid) }))
        }
        [xid, None] => Some(number(xid).map(|xid| Prepared { xid: Xid(xid), gid: None })),
        _ => Some(Err(odd("transactions before their turn"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_were_written() {
        let gid = Gid { origin: "a:b".into(), xid: Xid(7), tag: "00ff".into() };
        assert_eq!(gid.to_string(), "pgcanon:a:b:7:00ff");
        assert_eq!(gid.to_string().parse(), Ok(gid));
        for odd in ["", "pgcanon:a", "pgcanon:a:x:00", "other:a:7:00"] {
            assert_eq!(odd.parse::<Gid>(), Err(()), "{odd}");
        }
    }
}
