//! Prints the journal as readers get it: every entry of every tick, in the one order (§5), in bounded memory (I7).

mod json;
mod sql;

use std::future::Future;
use std::io;

use tokio_postgres::types::PgLsn;

use super::codec::Entry;
use super::entry::{ColumnRole, Extra, Head, Lane, Op};
use super::image::BadImage;
use super::meta::Forgery;
use super::reader::{Item, ReadError, Reader};
use super::render::RenderError;
use super::tick::{Tick, TickId, Xid};

pub use json::Json;
pub use sql::Sql;

/// What is printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range {
    /// None for the first tick that can still be read.
    pub from: Option<TickId>,
    /// None for the last one there is.
    pub to: Option<TickId>,
    /// Then what is committed and in no tick yet.
    pub pending: bool,
}

/// Why nothing more is printed.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("transaction {xid} in the journal, at {lsn}: {source}")]
    Image { xid: Xid, lsn: PgLsn, source: BadImage },
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error("cannot print the journal: {0}")]
    Write(#[from] io::Error),
}

/// Where an entry stands in the journal.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// None while no tick covers it.
    pub tick: Option<TickId>,
    pub timeline: Option<i32>,
    /// The transaction's number within the tick.
    pub ord: i32,
    pub xid: Xid,
    /// The transaction's place in the order; of a forged row, its own.
    pub lsn: PgLsn,
}

/// How it is printed.
pub trait Form {
    /// A tick begins; none for what is in no tick yet.
    fn tick(&mut self, _tick: Option<&Tick>) -> io::Result<()> {
        Ok(())
    }

    /// A transaction begins.
    fn begin(&mut self, _at: &At) -> io::Result<()> {
        Ok(())
    }

    /// Every image of it can be read.
    fn entry(&mut self, at: &At, entry: &Entry) -> impl Future<Output = Result<(), DumpError>>;

    fn forged(&mut self, at: &At, why: Forgery) -> io::Result<()>;

    /// The transaction ends.
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The tick ends; of what is in no tick, there is no more.
    fn ticked(&mut self, _tick: Option<&Tick>) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a range of ticks, and what is in none yet where that is asked for.
pub async fn dump(reader: &mut Reader, range: Range, form: &mut impl Form) -> Result<(), DumpError> {
    let (first, newest) = reader.range().await?.unwrap_or((TickId(1), TickId(0)));
    let mut id = range.from.unwrap_or(first);
    if range.from.is_some() && newest < id {
        return Err(ReadError::NoSuchTick(id).into());
    }
    let mut last = range.to.map_or(newest, |to| to.min(newest));
    loop {
        while id <= last {
            let tick = reader.open(id, 0).await?;
            print(reader, Some(&tick), form).await?;
            id = TickId(id.0.saturating_add(1));
        }
        if !range.pending {
            return Ok(());
        }
        reader.open_pending().await?;
        // As of the snapshot that the rest is read by: what a tick has taken meanwhile is printed as part of that.
        match reader.range().await? {
            Some((_, newest)) if newest >= id => last = newest,
            _ => return print(reader, None, form).await,
        }
    }
}

/// Prints what the reader has opened.
async fn print(reader: &mut Reader, tick: Option<&Tick>, form: &mut impl Form) -> Result<(), DumpError> {
    form.tick(tick)?;
    let (id, timeline) = (tick.map(|t| t.id), tick.map(|t| t.timeline));
    let mut at = At { tick: id, timeline, ord: 0, xid: Xid(0), lsn: PgLsn::from(0) };
    while let Some(item) = reader.next().await? {
        match item {
            Item::TxBegin { ord, xid, lsn, .. } => {
                at = At { ord, xid, lsn, ..at };
                form.begin(&at)?;
            }
            Item::Entry(entry) => {
                let (xid, lsn) = (at.xid, at.lsn);
                // Before any of it is printed: half an entry helps nobody.
                if entry.travels().0 == Lane::Row
                    && let Some(source) = entry.images().find_map(Result::err)
                {
                    return Err(DumpError::Image { xid, lsn, source });
                }
                form.entry(&at, &entry).await?;
            }
            Item::Forged { xid, lsn, why } => form.forged(&At { xid, lsn, ..at }, why)?,
            Item::TxEnd => form.end()?,
        }
    }
    form.ticked(tick)?;
    Ok(())
}

/// Rows that a text changes on every node, where known. Images are counted by counting them.
fn count(head: &Head, lane: Lane) -> Option<u64> {
    head.rows.filter(|_| lane != Lane::Row)
}

fn lane_word(lane: Lane) -> &'static str {
    match lane {
        Lane::Statement => "statement",
        Lane::Row => "row",
        Lane::Locked => "locked",
        Lane::Copy => "copy",
    }
}

fn op_word(op: Op) -> &'static str {
    match op {
        Op::Insert => "insert",
        Op::Upsert => "upsert",
        Op::Update => "update",
        Op::Delete => "delete",
        Op::Merge => "merge",
        Op::Truncate => "truncate",
        Op::Copy => "copy",
        Op::Ddl => "ddl",
    }
}

fn extra_word(extra: Extra) -> &'static str {
    match extra {
        Extra::None => "none",
        Extra::Filter => "filter",
        Extra::Action => "action",
        Extra::ActionAndFilter => "action_and_filter",
        Extra::Version => "version",
        Extra::Told => "told",
    }
}

fn role_word(role: ColumnRole) -> &'static str {
    match role {
        ColumnRole::Key => "key",
        ColumnRole::Value => "value",
        ColumnRole::KeyValue => "key_value",
    }
}
