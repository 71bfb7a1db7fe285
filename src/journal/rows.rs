//! The journal's rows between two snapshots, in the one order (§5), with a few megabytes of them in memory (I7).
//!
//! A tick of few rows comes whole, by one statement. Of one that is larger the order is made of narrow rows only, in the server;
//! what the rows hold is then fetched by their places.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Row, Statement};

use super::reader::ReadError;
use super::tick::{CommitTime, Snapshot, TickId, Xid};

/// Places held at once.
const PLACES: usize = 2000;
/// Bytes of rows held at once, unless one alone is longer.
const BATCH: usize = 4 << 20;
/// Rows of a tick that comes whole.
const FEW: usize = 500;

/// Whatever the role has set must not change what is read. Without statistics a scan of the whole journal may look cheap; it
/// never is.
const SETUP: &str = "SET search_path = ''; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET bytea_output = 'hex'; \
    SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0; \
    SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan; \
    SET default_transaction_isolation = 'read committed'";

/// What is prepared for reading.
pub(super) struct Prepared {
    /// The rows of a tick, if they are few.
    few: Statement,
    /// For each child of the journal, what fetches rows by their places.
    by_place: [Statement; 3],
}

/// The rows that the connection's cursor stands in.
#[derive(Default)]
pub(super) struct Rows {
    places: VecDeque<Place>,
    /// The cursor has no more places.
    exhausted: bool,
    batch: VecDeque<Stored>,
}

/// Where a row stands in the order, and where it lies.
struct Place {
    slot: i16,
    ctid: String,
    xid: Xid,
    lsn: PgLsn,
    /// The transaction's place in the order: its last row's.
    last: PgLsn,
    size: usize,
    time: Option<CommitTime>,
}

/// A row.
pub(super) struct Stored {
    pub(super) xid: Xid,
    pub(super) lsn: PgLsn,
    /// The transaction's place in the order: its last row's.
    pub(super) last: PgLsn,
    /// When the transaction was committed, where the server keeps that.
    pub(super) time: Option<CommitTime>,
    pub(super) pid: u32,
    pub(super) meta: Vec<u8>,
    pub(super) data: Bytes,
}

// === impl Prepared ===

impl Prepared {
    /// Makes a connection ready to read the journal; not within a transaction.
    pub(super) async fn new(client: &Client) -> Result<Self, ReadError> {
        client.batch_execute(SETUP).await?;
        let statement = |slot: i16| {
            let sql = format!(
                "SELECT ctid::text, pid, meta, data FROM pgcanon.journal_{slot} WHERE ctid = ANY ($1::text[]::tid[])"
            );
            async move { client.prepare(&sql).await }
        };
        let by_place = [statement(0).await?, statement(1).await?, statement(2).await?];
        Ok(Self { few: client.prepare(&few()).await?, by_place })
    }
}

/// The rows of a tick in their order, or one row of nothing where there are none; its first column is false where they are too
/// many. Long values stay where they are until it is clear that they are wanted.
fn few() -> String {
    let rows = "SELECT slot, ctid, pid, xid, lsn, meta, data FROM pgcanon.journal WHERE";
    let cut = "(SELECT snapshot FROM cut)";
    format!(
        "WITH past AS MATERIALIZED (SELECT snapshot FROM pgcanon.tick WHERE id = $1::int8 - 1), \
         cut AS MATERIALIZED (SELECT snapshot FROM pgcanon.tick WHERE id = $1::int8), \
         new AS MATERIALIZED ( \
            ({rows} xid >= COALESCE((SELECT pg_snapshot_xmax(snapshot) FROM past), '0') \
                AND xid < (SELECT pg_snapshot_xmax(snapshot) FROM cut) AND pg_visible_in_snapshot(xid, {cut})) \
            UNION ALL ({rows} xid = ANY (ARRAY(SELECT running FROM past, pg_snapshot_xip(past.snapshot) AS running \
                WHERE pg_visible_in_snapshot(running, {cut})))) LIMIT {FEW} + 1), \
         fits AS MATERIALIZED (SELECT count(*) <= {FEW} \
            AND COALESCE(sum(octet_length(meta) + octet_length(data)), 0) <= {BATCH} AS ok FROM new) \
         SELECT fits.ok, ordered.* FROM fits LEFT JOIN ( \
            SELECT xid::text, lsn, max(lsn) OVER (PARTITION BY xid) AS last, {}, pid, meta, data, xid AS number, slot, ctid \
            FROM new) AS ordered ON fits.ok ORDER BY ordered.last, ordered.number, ordered.lsn, ordered.slot, ordered.ctid",
        CommitTime::of("new.xid::xid")
    )
}

// === impl Rows ===

impl Rows {
    /// All rows of a tick, if they are few.
    pub(super) async fn few(client: &Client, prepared: &Prepared, tick: TickId) -> Result<Option<Self>, ReadError> {
        let found = client.query(&prepared.few, &[&tick.0]).await?;
        if !found.first().is_some_and(|row| row.try_get(0).unwrap_or_default()) {
            return Ok(None);
        }
        let mut batch = VecDeque::new();
        for row in &found {
            let Some(xid) = row.try_get::<_, Option<&str>>(1)? else { break };
            batch.push_back(Stored {
                xid: xid.parse()?,
                lsn: row.try_get(2)?,
                last: row.try_get(3)?,
                time: row.try_get::<_, Option<i64>>(4)?.map(CommitTime),
                pid: row.try_get::<_, i32>(5)?.cast_unsigned(),
                meta: row.try_get(6)?,
                data: Bytes::copy_from_slice(row.try_get(7)?),
            });
        }
        Ok(Some(Self { batch, exhausted: true, ..Self::default() }))
    }

    /// A cursor over all rows that `previous` does not show and `current` (or, without it, now) does.
    pub(super) async fn declare(
        client: &Client,
        previous: Option<&Snapshot>,
        current: Option<&Snapshot>,
    ) -> Result<Self, ReadError> {
        let from = previous.map_or(Xid(0), Snapshot::xmax);
        // Transactions that were in progress then are named, so that a long one does not make every tick read the past.
        let ended = previous.map(Snapshot::running).unwrap_or_default();
        let ended: Vec<String> =
            ended.iter().filter(|xid| current.is_none_or(|c| c.shows(**xid))).map(Xid::to_string).collect();
        let upto = current.map_or_else(String::new, |current| {
            format!(" AND xid < '{}' AND pg_catalog.pg_visible_in_snapshot(xid, '{current}')", current.xmax())
        });
        let columns = "slot, ctid, xid, lsn, pg_catalog.octet_length(meta) + pg_catalog.octet_length(data) AS size";
        let sql = format!(
            "DECLARE pgcanon_places NO SCROLL CURSOR FOR \
             SELECT slot, ctid::text, xid::text, lsn, pg_catalog.max(lsn) OVER (PARTITION BY xid), size::int8, {} FROM \
             (SELECT {columns} FROM pgcanon.journal WHERE xid >= '{from}'{upto} UNION ALL \
             SELECT {columns} FROM pgcanon.journal WHERE xid = ANY ('{{{}}}')) AS new \
             ORDER BY 5, new.xid, lsn, slot, new.ctid",
            CommitTime::of("new.xid::xid"),
            ended.join(",")
        );
        client.batch_execute(&sql).await?;
        Ok(Self::default())
    }

    /// The row that comes next, and stays.
    pub(super) async fn peek(&mut self, client: &Client, prepared: &Prepared) -> Result<Option<&Stored>, ReadError> {
        if self.batch.is_empty() {
            self.fetch(client, prepared).await?;
        }
        Ok(self.batch.front())
    }

    /// Takes the row that [`peek`](Self::peek) has shown.
    pub(super) fn take(&mut self) -> Option<Stored> {
        self.batch.pop_front()
    }

    async fn fetch(&mut self, client: &Client, prepared: &Prepared) -> Result<(), ReadError> {
        if self.places.is_empty() && !self.exhausted {
            let rows = client.query_typed(&format!("FETCH {PLACES} FROM pgcanon_places"), &[]).await?;
            self.exhausted = rows.len() < PLACES;
            self.places = rows.iter().map(Place::read).collect::<Result<_, _>>()?;
        }
        let batch = self.next_batch();
        let mut found = HashMap::new();
        for (slot, statement) in (0_i16..).zip(&prepared.by_place) {
            let ctids: Vec<&str> = batch.iter().filter(|p| p.slot == slot).map(|p| p.ctid.as_str()).collect();
            if ctids.is_empty() {
                continue;
            }
            for row in client.query(statement, &[&ctids]).await? {
                found.insert((slot, row.try_get::<_, String>(0)?), row);
            }
        }
        for place in batch {
            let xid = place.xid;
            // Each row's own memory goes when it was copied.
            let row = found.remove(&(place.slot, place.ctid)).ok_or(ReadError::Vanished(xid))?;
            self.batch.push_back(Stored {
                xid,
                lsn: place.lsn,
                last: place.last,
                time: place.time,
                pid: row.try_get::<_, i32>(1)?.cast_unsigned(),
                meta: row.try_get(2)?,
                data: Bytes::copy_from_slice(row.try_get(3)?),
            });
        }
        Ok(())
    }

    /// At least one place, and as many more as there is room for.
    fn next_batch(&mut self) -> Vec<Place> {
        let (mut room, mut batch) = (BATCH, Vec::new());
        while self.places.front().is_some_and(|place| batch.is_empty() || place.size <= room) {
            if let Some(place) = self.places.pop_front() {
                room = room.saturating_sub(place.size);
                batch.push(place);
            }
        }
        batch
    }
}

impl Place {
    fn read(row: &Row) -> Result<Self, ReadError> {
        Ok(Self {
            slot: row.try_get(0)?,
            ctid: row.try_get(1)?,
            xid: row.try_get::<_, &str>(2)?.parse()?,
            lsn: row.try_get(3)?,
            last: row.try_get(4)?,
            size: usize::try_from(row.try_get::<_, i64>(5)?).unwrap_or(usize::MAX),
            time: row.try_get::<_, Option<i64>>(6)?.map(CommitTime),
        })
    }
}
