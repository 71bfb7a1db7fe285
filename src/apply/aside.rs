//! Pieces that the peer gets behind their place (§6.1): how far it is says nothing of them, so each leaves a note of its own in
//! the transaction that applies it.

use super::applier::{ASIDE, Applier};
use super::error::ApplyError;
use super::line::{Expect, Param, Row};
use crate::journal::{Progress, TickId};

/// A piece of a source transaction: its number in it.
type Piece = (Progress, i32);

/// TEXT, INT8 and INT4, as a piece is told.
const TYPES: [u32; 4] = [25, 20, 23, 23];

/// Before anything that a journal holds.
const NOTHING: (TickId, i32) = (TickId(0), 0);

impl Applier {
    /// Begins a piece whose transaction the peer has passed; how far the peer is stays what it is.
    pub fn aside(&mut self, (at, seq): Piece) -> Result<(), ApplyError> {
        self.source(at)?;
        let note = self.piece((at, seq));
        let params: Vec<Param<'_>> = note.iter().map(|v| Param::text(v)).collect();
        self.own(ASIDE, &TYPES, &params, Expect::Count(1));
        let progress = self.progress().unwrap_or(Progress { tick: NOTHING.0, ord: NOTHING.1, part: 0, ..at });
        self.opened()?.stays = Some(progress);
        Ok(())
    }

    /// Whether the peer has a piece already; to be asked between transactions.
    pub async fn has_aside(&mut self, piece: Piece) -> Result<bool, ApplyError> {
        let sql =
            "SELECT 1 FROM pgcanon.applied WHERE (origin, tick, ord, seq) OPERATOR(pg_catalog.=) ($1, $2, $3, $4)";
        Ok(!self.ask_aside(sql, piece).await?.is_empty())
    }

    /// Nobody will ask for this piece again.
    pub async fn forget_aside(&mut self, piece: Piece) -> Result<(), ApplyError> {
        let sql = "DELETE FROM pgcanon.applied WHERE (origin, tick, ord, seq) OPERATOR(pg_catalog.=) ($1, $2, $3, $4)";
        self.ask_aside(sql, piece).await.map(drop)
    }

    async fn ask_aside(&mut self, sql: &str, piece: Piece) -> Result<Vec<Row>, ApplyError> {
        let note = self.piece(piece);
        let params: Vec<Param<'_>> = note.iter().map(|v| Param::text(v)).collect();
        let rows = self.line.query(sql, &TYPES, &params).await?;
        self.count_commits();
        Ok(rows)
    }

    fn piece(&self, (at, seq): Piece) -> [String; 4] {
        [self.origin().to_string(), at.tick.0.to_string(), at.ord.to_string(), seq.to_string()]
    }
}
