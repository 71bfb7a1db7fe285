//! Reads ticks: the same transactions, whole and in the same order, for every reader (I3), without what nobody with the key
//! wrote (I2).

use std::sync::Arc;

use tokio_postgres::Client;
use tokio_postgres::types::{PgLsn, Type};

use super::codec::{DecodeError, Entries, Entry};
use super::key::Key;
use super::meta::{Forgery, Meta, MetaError};
use super::nonces::Nonces;
use super::rows::{Prepared, Rows, Stored};
use super::tick::{BadTick, CommitTime, Tick, TickId, Xid};
use crate::catalog::server_words;

/// Why a tick cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("reading the journal: {}", server_words(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("reading the journal: {0}")]
    Tick(#[from] BadTick),
    #[error("tick {0} does not exist")]
    NoSuchTick(TickId),
    #[error("tick {0} is no longer in the journal; a longer `retain` keeps ticks longer")]
    Trimmed(TickId),
    #[error("transaction {xid} in the journal, at {lsn}: {source}")]
    Row { xid: Xid, lsn: PgLsn, source: MetaError },
    #[error("transaction {xid} in the journal, at {lsn}: {source}")]
    Entry { xid: Xid, lsn: PgLsn, source: DecodeError },
    #[error("a journal row of transaction {0} went away while it was read")]
    Vanished(Xid),
}

/// What stands in a tick, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A transaction begins: the `ord`th of its tick, from 1 on; `lsn` is its place in the order.
    TxBegin {
        ord: i32,
        xid: Xid,
        lsn: PgLsn,
        time: Option<CommitTime>,
    },
    Entry(Box<Entry>),
    TxEnd,
    /// A row that nobody with the key wrote: it counts for nothing.
    Forged {
        xid: Xid,
        lsn: PgLsn,
        why: Forgery,
    },
}

/// Reads the journal over a connection of its own.
pub struct Reader {
    client: Client,
    key: Key,
    prepared: Option<Arc<Prepared>>,
    /// Nonces of what was read since the last jump.
    seen: Nonces,
    forged: u64,
    /// The tick that was read to its end last: from here the next one follows without a jump.
    ended: Option<TickId>,
    /// A transaction may be open on the connection.
    dirty: bool,
    reading: Option<Reading>,
}

/// A tick that is being read.
struct Reading {
    /// None for what is in no tick yet.
    tick: Option<TickId>,
    /// Transactions up to this one are passed over.
    after: i32,
    /// The transaction that is being read.
    ord: i32,
    xid: Option<Xid>,
    begun: bool,
    /// Nonces of this transaction.
    seen: Nonces,
    prepared: Arc<Prepared>,
    rows: Rows,
    /// What is left of the row that is being read.
    entries: Option<(Xid, PgLsn, Entries)>,
}

// === impl Reader ===

impl Reader {
    /// Takes over a connection of a role that may read the journal.
    pub fn new(client: Client, key: Key) -> Self {
        let seen = Nonces::default();
        Self { client, key, prepared: None, seen, forged: 0, ended: None, dirty: false, reading: None }
    }

    /// Rows that did not verify, since this reader was made.
    pub fn forged(&self) -> u64 {
        self.forged
    }

    /// The first tick that can still be read and the last there is; while a tick is open, as of then.
    pub async fn range(&self) -> Result<Option<(TickId, TickId)>, ReadError> {
        // The oldest tick is there for its snapshot alone, unless nothing was before it.
        let sql = "SELECT CASE WHEN min(id) > 1 THEN min(id) + 1 ELSE min(id) END, max(id) FROM pgcanon.tick";
        let row = self.client.query_one(sql, &[]).await?;
        let (first, last): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        Ok(first.map(TickId).zip(last.map(TickId)))
    }

    /// Begins to read a tick behind its transaction `after` (0 for all of it).
    ///
    /// Until [`next`](Self::next) has given `None`, or [`close`](Self::close) was called, the node keeps old rows for this
    /// reader: a tick should not be left open for long.
    pub async fn open(&mut self, id: TickId, after: i32) -> Result<Tick, ReadError> {
        if self.ended.is_none_or(|ended| ended.0.checked_add(1) != Some(id.0)) {
            // What is read again is no repetition.
            self.seen = Nonces::default();
        }
        let opened = self.open_tick(id, after).await;
        self.settle(opened).await
    }

    async fn open_tick(&mut self, id: TickId, after: i32) -> Result<Tick, ReadError> {
        let prepared = self.ready().await?;
        // A tick that is there when its rows have been read was not trimmed before.
        let (few, tick) = tokio::join!(Rows::few(&self.client, &prepared, id), self.tick(id));
        if let Some(rows) = few? {
            let (tick, _) = tick?;
            self.reading = Some(Reading::new(Some(id), after, prepared, rows));
            return Ok(tick);
        }
        self.begin().await?;
        let (tick, previous) = self.tick(id).await?;
        let previous = previous.as_ref().map(|t| &t.snapshot);
        let rows = Rows::declare(&self.client, previous, Some(&tick.snapshot)).await?;
        self.reading = Some(Reading::new(Some(id), after, prepared, rows));
        Ok(tick)
    }

    /// A tick, and the one before it.
    async fn tick(&self, id: TickId) -> Result<(Tick, Option<Tick>), ReadError> {
        let before = id.0.saturating_sub(1);
        let sql = format!("SELECT {} FROM pgcanon.tick WHERE id IN ($1, $2)", Tick::COLUMNS);
        let (mut previous, mut tick) = (None, None);
        for found in self.client.query_typed(&sql, &[(&before, Type::INT8), (&id.0, Type::INT8)]).await? {
            let found = Tick::read(&found)?;
            let place = if found.id == id { &mut tick } else { &mut previous };
            *place = Some(found);
        }
        let Some(tick) = tick else {
            let later = self.client.query_opt("SELECT FROM pgcanon.tick WHERE id > $1 LIMIT 1", &[&id.0]).await?;
            return Err(if later.is_some() { ReadError::Trimmed(id) } else { ReadError::NoSuchTick(id) });
        };
        if previous.is_none() && id.0 > 1 {
            return Err(ReadError::Trimmed(id));
        }
        Ok((tick, previous))
    }

    /// Begins to read what is committed and in no tick yet.
    pub async fn open_pending(&mut self) -> Result<(), ReadError> {
        self.seen = Nonces::default();
        let opened = self.open_rest().await;
        self.settle(opened).await
    }

    async fn open_rest(&mut self) -> Result<(), ReadError> {
        let prepared = self.ready().await?;
        self.begin().await?;
        let sql = format!("SELECT {} FROM pgcanon.tick ORDER BY id DESC LIMIT 1", Tick::COLUMNS);
        let last = self.client.query_opt(&sql, &[]).await?.as_ref().map(Tick::read).transpose()?;
        let rows = Rows::declare(&self.client, last.as_ref().map(|t| &t.snapshot), None).await?;
        self.reading = Some(Reading::new(None, 0, prepared, rows));
        Ok(())
    }

    /// What comes next in the open tick; `None` at its end.
    ///
    /// # Cancel safety
    /// Not cancel-safe: after a dropped call the tick must be opened again.
    pub async fn next(&mut self) -> Result<Option<Item>, ReadError> {
        let Some(mut reading) = self.reading.take() else { return Ok(None) };
        let stepped = self.step(&mut reading).await;
        let item = self.settle(stepped).await?;
        if item.is_some() {
            self.reading = Some(reading);
            return Ok(item);
        }
        self.close().await?;
        self.ended = reading.tick;
        Ok(None)
    }

    /// Leaves the open tick, if there is one.
    pub async fn close(&mut self) -> Result<(), ReadError> {
        self.reading = None;
        if self.dirty {
            self.client.batch_execute("ROLLBACK").await?;
            self.dirty = false;
        }
        Ok(())
    }

    /// After an error no snapshot stays open; what closing meets then is of no further interest.
    async fn settle<T>(&mut self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        if result.is_err() {
            let _ = self.close().await;
        }
        result
    }

    /// Leaves what is open, for something else; what is prepared for that.
    async fn ready(&mut self) -> Result<Arc<Prepared>, ReadError> {
        self.close().await?;
        self.ended = None;
        let prepared = match &self.prepared {
            Some(prepared) => prepared,
            None => self.prepared.insert(Arc::new(Prepared::new(&self.client).await?)),
        };
        Ok(prepared.clone())
    }

    async fn begin(&mut self) -> Result<(), ReadError> {
        self.dirty = true;
        // The lock comes before the snapshot: a TRUNCATE between the two would take rows that the snapshot promises.
        let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE pgcanon.journal IN ACCESS SHARE MODE";
        self.client.batch_execute(sql).await?;
        Ok(())
    }

    async fn step(&mut self, reading: &mut Reading) -> Result<Option<Item>, ReadError> {
        loop {
            if let Some((xid, lsn, entries)) = &mut reading.entries {
                match entries.next() {
                    Some(Ok(entry)) => return Ok(Some(Item::Entry(Box::new(entry)))),
                    Some(Err(source)) => return Err(ReadError::Entry { xid: *xid, lsn: *lsn, source }),
                    None => reading.entries = None,
                }
            }
            let Some(row) = reading.rows.peek(&self.client, &reading.prepared).await? else {
                return Ok(reading.end());
            };
            if reading.xid != Some(row.xid) {
                let (xid, lsn, time) = (row.xid, row.last, row.time);
                if let Some(end) = reading.end() {
                    return Ok(Some(end));
                }
                if let Some(begin) = reading.begin(xid, lsn, time) {
                    return Ok(Some(begin));
                }
            }
            let Some(row) = reading.rows.take().filter(|_| reading.begun) else { continue };
            let (xid, lsn) = (row.xid, row.lsn);
            match verify(&self.key, &mut self.seen, &mut reading.seen, row) {
                Ok(entries) => reading.entries = Some((xid, lsn, entries)),
                Err(MetaError::Forged(why)) => {
                    self.forged = self.forged.saturating_add(1);
                    return Ok(Some(Item::Forged { xid, lsn, why }));
                }
                Err(source) => return Err(ReadError::Row { xid, lsn, source }),
            }
        }
    }
}

fn verify(key: &Key, seen: &mut Nonces, of_transaction: &mut Nonces, row: Stored) -> Result<Entries, MetaError> {
    let meta = Meta::open(key, row.pid, &row.meta, &row.data)?;
    // A statement that journals itself signs its chunks once.
    let chunk = !of_transaction.insert(meta.nonce) && meta.head.is_some();
    if !seen.insert(meta.nonce) && !chunk {
        return Err(Forgery::Repeated.into());
    }
    Ok(Entries::new(meta.head, row.data))
}

// === impl Reading ===

impl Reading {
    fn new(tick: Option<TickId>, after: i32, prepared: Arc<Prepared>, rows: Rows) -> Self {
        let seen = Nonces::default();
        Self { tick, after, ord: 0, xid: None, begun: false, seen, prepared, rows, entries: None }
    }

    /// Counts a transaction, whether its rows are genuine or not: its number must be the same for every reader.
    fn begin(&mut self, xid: Xid, lsn: PgLsn, time: Option<CommitTime>) -> Option<Item> {
        self.xid = Some(xid);
        self.seen = Nonces::default();
        self.ord = self.ord.saturating_add(1);
        self.begun = self.ord > self.after;
        self.begun.then_some(Item::TxBegin { ord: self.ord, xid, lsn, time })
    }

    /// The end of the transaction that was begun, if one was.
    fn end(&mut self) -> Option<Item> {
        std::mem::take(&mut self.begun).then_some(Item::TxEnd)
    }
}
