//! SQL that a person can read: what each transaction of each tick did, between comments that say which it was.

use std::io::{self, Write};

use super::{At, DumpError, Form};
use crate::journal::codec::Entry;
use crate::journal::meta::Forgery;
use crate::journal::render::{Rendered, Renderer};
use crate::journal::tick::Tick;

/// Prints SQL.
pub struct Sql<W> {
    out: W,
    renderer: Renderer,
    /// Of this tick.
    transactions: u64,
    /// Something is printed already.
    begun: bool,
}

// === impl Sql ===

impl<W: Write> Sql<W> {
    pub fn new(out: W, renderer: Renderer) -> Self {
        Self { out, renderer, transactions: 0, begun: false }
    }
}

impl<W: Write> Form for Sql<W> {
    fn tick(&mut self, tick: Option<&Tick>) -> io::Result<()> {
        self.transactions = 0;
        let between = if std::mem::replace(&mut self.begun, true) { "\n" } else { "" };
        match tick {
            Some(t) => writeln!(self.out, "{between}-- tick {}, timeline {}, made {}", t.id, t.timeline, t.created),
            None => writeln!(self.out, "{between}-- in no tick yet; the order is not settled"),
        }
    }

    fn begin(&mut self, at: &At) -> io::Result<()> {
        self.transactions = self.transactions.saturating_add(1);
        writeln!(self.out, "\n-- transaction {}: xid {}, lsn {}", at.ord, at.xid, at.lsn)
    }

    async fn entry(&mut self, _: &At, entry: &Entry) -> Result<(), DumpError> {
        let out = &mut self.out;
        self.renderer.render(entry, None, |rendered| Ok(print(out, &rendered)?)).await
    }

    fn forged(&mut self, at: &At, why: Forgery) -> io::Result<()> {
        let (xid, lsn) = (at.xid, at.lsn);
        writeln!(self.out, "-- FORGED, it counts for nothing: a row by transaction {xid}, at {lsn}: {why}")
    }

    fn ticked(&mut self, tick: Option<&Tick>) -> io::Result<()> {
        let which = tick.map_or_else(|| "in no tick yet".to_owned(), |tick| format!("end of tick {}", tick.id));
        match self.transactions {
            0 => writeln!(self.out, "-- {which}: nothing"),
            1 => writeln!(self.out, "\n-- {which}: 1 transaction"),
            many => writeln!(self.out, "\n-- {which}: {many} transactions"),
        }
    }
}

fn print(out: &mut impl Write, rendered: &Rendered) -> io::Result<()> {
    for note in &rendered.notes {
        writeln!(out, "-- {note}")?;
    }
    if !rendered.sql.is_empty() {
        writeln!(out, "{}", rendered.sql)?;
    }
    Ok(())
}
