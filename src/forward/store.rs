//! What a forwarder keeps on its own node: how the peer stands, and what waits for it, in order (§6.1).

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio_postgres::Client;

use crate::apply::Gid;
use crate::apply::{Rejection, lock};
use crate::config::NodeName;
use crate::journal::{CommitTime, Entries, Entry, Progress, TickId, Xid};

use super::ForwardError;

/// Rows of the queue that are fetched at a time, and bytes of their entries.
const CHUNK: (i64, i64) = (1000, 4 << 20);

/// As `ord`: all of the tick.
pub(super) const WHOLE: i32 = i32::MAX;

/// The queue of one peer.
///
/// Nobody else changes it while this is there, but for the operator, who takes rows away or gives them another text.
pub(super) struct Store {
    client: Client,
    node: String,
    peer: String,
    /// A transaction was begun, and not ended.
    open: AtomicBool,
}

/// A place in the journal: everything up to and with this transaction.
pub(super) type Place = (TickId, i32);

/// How the peer stood when it was last looked at.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// Its changes go to the queue, or have gone there.
    pub(super) spilling: bool,
    pub(super) evicted: bool,
    pub(super) paused: bool,
    /// Up to here it has everything for good, or the queue has.
    pub(super) at: Place,
    /// What it had for good when that was noted last, and how many pieces of the last transaction.
    had: (Place, i32),
}

impl Kept {
    /// Nothing up to this tick is needed of the journal.
    pub(super) fn passed(&self) -> TickId {
        let (tick, ord) = self.at;
        if ord == WHOLE { tick } else { TickId(tick.0.saturating_sub(1)) }
    }

    /// Whether a peer that says this has less than it had: it was restored, or a standby of it that was behind was promoted.
    pub(super) fn was_set_back(&self, says: Option<Progress>) -> bool {
        says.map_or(((TickId(0), 0), 0), extent) < self.had
    }
}

/// What is in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    pub rows: i64,
    pub bytes: i64,
}

/// A part of an entry that the operator can deal with: one row, or one text.
pub(super) struct Piece {
    pub(super) place: Place,
    pub(super) xid: Xid,
    /// Its number within the transaction, from 0 on, and that of its entry.
    pub(super) seq: i32,
    pub(super) nr: i32,
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) query: String,
    pub(super) entry: Vec<u8>,
}

/// A piece that waits.
pub(super) struct Waiting {
    pub(super) id: i64,
    pub(super) place: Place,
    pub(super) xid: Xid,
    pub(super) seq: i32,
    pub(super) nr: i32,
    pub(super) entry: Vec<u8>,
    /// When its transaction was committed.
    pub(super) time: Option<CommitTime>,
    /// How far this node had the peer's own changes then, as long as that is known.
    pub(super) seen: Option<TickId>,
}

impl Waiting {
    /// What it is; to be asked once.
    pub(super) fn take_entry(&mut self) -> Result<Entry, ForwardError> {
        read(self.id, std::mem::take(&mut self.entry))
    }
}

/// What tells a transaction of the journal from others of its number: a digest of the meta of its last row.
pub(super) fn tag(meta: &[u8]) -> String {
    let hash = blake3::hash(meta).to_hex();
    hash.as_str().get(..32).unwrap_or_default().to_owned()
}

fn read(id: i64, entry: Vec<u8>) -> Result<Entry, ForwardError> {
    Entries::new(None, Bytes::from(entry)).next().transpose()?.ok_or(ForwardError::Queue(id))
}

/// How far a peer is, to be compared: of a transaction that is not cut, more than of any that is.
fn extent(progress: Progress) -> (Place, i32) {
    ((progress.tick, progress.ord), if progress.part == 0 { WHOLE } else { progress.part })
}

impl Store {
    /// Takes over a connection to the node; none where another proxy of the node sees to this peer.
    pub(super) async fn open(
        client: Client,
        node: &NodeName,
        peer: &NodeName,
    ) -> Result<Option<Self>, tokio_postgres::Error> {
        // The lock of a proxy that has gone without a word must not keep others away for long.
        client
            .batch_execute(
                "SET search_path = ''; SET default_transaction_isolation = 'read committed'; SET tcp_keepalives_idle = 10; \
                 SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3",
            )
            .await?;
        let number = lock("pgcanon 2026-11 forward lock", peer);
        let row = client.query_one("SELECT pg_catalog.pg_try_advisory_lock($1)", &[&number]).await?;
        let store = Self { client, node: node.to_string(), peer: peer.to_string(), open: AtomicBool::new(false) };
        Ok(row.try_get::<_, bool>(0)?.then_some(store))
    }

    pub(super) async fn kept(&self) -> Result<Kept, tokio_postgres::Error> {
        let sql = "WITH made AS (INSERT INTO pgcanon.peer (name, state) VALUES ($1, 'live') ON CONFLICT DO NOTHING \
            RETURNING state, paused, tick, ord, had_tick, had_ord, had_part) \
            SELECT * FROM made UNION ALL \
            SELECT state, paused, tick, ord, had_tick, had_ord, had_part FROM pgcanon.peer WHERE name = $1";
        let row = self.client.query_one(sql, &[&self.peer]).await?;
        let state: &str = row.try_get(0)?;
        Ok(Kept {
            spilling: state == "spilling",
            evicted: state == "evicted",
            paused: row.try_get(1)?,
            at: (TickId(row.try_get(2)?), row.try_get(3)?),
            had: ((TickId(row.try_get(4)?), row.try_get(5)?), row.try_get(6)?),
        })
    }

    pub(super) async fn queued(&self) -> Result<Queued, tokio_postgres::Error> {
        let sql = "SELECT count(*), COALESCE(sum(octet_length(entry) + COALESCE(octet_length(dst_query), 0)), 0)::int8 \
            FROM pgcanon.error_queue WHERE dst_server = $1";
        let row = self.client.query_one(sql, &[&self.peer]).await?;
        Ok(Queued { rows: row.try_get(0)?, bytes: row.try_get(1)? })
    }

    /// Whether nothing waits, which [`queued`](Self::queued) would tell at some cost; most of what waits is behind `gone`.
    pub(super) async fn is_empty(&self, gone: Option<(Place, i32)>) -> Result<bool, tokio_postgres::Error> {
        if gone.is_some() && self.waits_behind(gone).await? {
            return Ok(false);
        }
        Ok(!self.waits_behind(None).await?)
    }

    async fn waits_behind(&self, after: Option<(Place, i32)>) -> Result<bool, tokio_postgres::Error> {
        let ((tick, ord), seq) = after.unwrap_or_default();
        // By the index of the order: the table may be long, and full of what is deleted.
        let sql = "SELECT FROM pgcanon.error_queue WHERE dst_server = $1 AND (tick, ord, seq) > ($2, $3, $4) \
            ORDER BY tick, ord, seq LIMIT 1";
        Ok(self.client.query_opt(sql, &[&self.peer, &tick.0, &ord, &seq]).await?.is_some())
    }

    /// Which cluster this is now: what is applied from the queue is noted under that.
    pub(super) async fn identity(&self) -> Result<(i64, i32), tokio_postgres::Error> {
        let sql = "SELECT system, timeline FROM pgcanon.tick ORDER BY id DESC LIMIT 1";
        let row = self.client.query_one(sql, &[]).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    // === transactions ===

    pub(super) async fn begin(&self) -> Result<(), tokio_postgres::Error> {
        self.open.store(true, Ordering::Relaxed);
        self.client.batch_execute("BEGIN").await
    }

    pub(super) async fn commit(&self) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute("COMMIT").await?;
        self.open.store(false, Ordering::Relaxed);
        Ok(())
    }

    pub(super) async fn rollback(&self) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute("ROLLBACK").await?;
        self.open.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Rolls back what was begun by work that was given up: all that is noted later would be in it, and lost with it.
    pub(super) async fn abandon(&self) -> Result<(), tokio_postgres::Error> {
        if self.open.load(Ordering::Relaxed) { self.rollback().await } else { Ok(()) }
    }

    /// What became of a transaction of this node that a peer has prepared: whether it is committed; none while it runs.
    ///
    /// Its row in the journal decides, as after a failover another one may have its number.
    pub(super) async fn decision(&self, gid: &Gid) -> Result<Option<bool>, tokio_postgres::Error> {
        let xid = gid.xid.to_string();
        // Of one that is still to come nothing can be asked.
        let sql = "SELECT $1::text::xid8 < pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())";
        if !self.client.query_one(sql, &[&xid]).await?.try_get::<_, bool>(0)? {
            return Ok(Some(false));
        }
        let sql = "SELECT pg_catalog.pg_xact_status($1::text::xid8)";
        if self.client.query_one(sql, &[&xid]).await?.try_get::<_, Option<&str>>(0)? == Some("in progress") {
            return Ok(None);
        }
        let sql = "SELECT meta FROM pgcanon.journal WHERE xid = $1::text::xid8 ORDER BY lsn DESC, slot DESC, ctid DESC LIMIT 1";
        let row = self.client.query_opt(sql, &[&xid]).await?;
        Ok(Some(row.is_some_and(|row| row.try_get(0).is_ok_and(|meta| tag(meta) == gid.tag))))
    }

    // === the peer ===

    /// Up to here the peer has everything, or the queue has.
    pub(super) async fn reach(&self, at: Place) -> Result<(), tokio_postgres::Error> {
        let sql = "UPDATE pgcanon.peer SET tick = $2, ord = $3 WHERE name = $1";
        self.client.execute(sql, &[&self.peer, &at.0.0, &at.1]).await.map(drop)
    }

    /// The peer has this for good.
    pub(super) async fn has(&self, progress: Progress) -> Result<(), tokio_postgres::Error> {
        let sql = "UPDATE pgcanon.peer SET had_tick = $2, had_ord = $3, had_part = $4 WHERE name = $1";
        let ((tick, ord), part) = extent(progress);
        self.client.execute(sql, &[&self.peer, &tick.0, &ord, &part]).await.map(drop)
    }

    /// The peer has no more than this any more: what is behind it is to be had from the journal again. What waits of that
    /// stays, and what does not takes its place before it, if it is spilled.
    pub(super) async fn set_back(&self, kept: &mut Kept, says: Option<Progress>) -> Result<(), tokio_postgres::Error> {
        let had = says.map_or(((TickId(0), 0), 0), extent);
        let at = match says {
            None => (TickId(0), WHOLE),
            Some(Progress { tick, ord, part: 0, .. }) => (tick, ord),
            Some(Progress { tick, ord, .. }) => (tick, ord.saturating_sub(1)),
        };
        let sql =
            "UPDATE pgcanon.peer SET tick = $2, ord = $3, had_tick = $4, had_ord = $5, had_part = $6 WHERE name = $1";
        self.client.execute(sql, &[&self.peer, &at.0.0, &at.1, &had.0.0.0, &had.0.1, &had.1]).await?;
        (kept.at, kept.had) = (at, had);
        Ok(())
    }

    pub(super) async fn turn(&self, state: &str, reason: Option<&str>) -> Result<(), tokio_postgres::Error> {
        let sql = "UPDATE pgcanon.peer SET state = $2, reason = $3, \
            since = CASE WHEN state = $2 THEN since ELSE now() END \
            WHERE name = $1";
        self.client.execute(sql, &[&self.peer, &state, &reason]).await.map(drop)
    }

    pub(super) async fn pause(&self, paused: bool) -> Result<(), tokio_postgres::Error> {
        let sql = "UPDATE pgcanon.peer SET paused = $2 WHERE name = $1";
        self.client.execute(sql, &[&self.peer, &paused]).await.map(drop)
    }

    // === the queue ===

    pub(super) async fn append(&self, pieces: &[Piece]) -> Result<(), tokio_postgres::Error> {
        let sql = "INSERT INTO pgcanon.error_queue (dst_server, tick, ord, seq, nr, xid, nsp_name, table_name, dst_query, entry) \
            SELECT $1, q.* FROM unnest($2::int8[], $3::int4[], $4::int4[], $5::int4[], $6::int8[], $7::text[], \
            $8::text[], $9::text[], $10::bytea[]) AS q ON CONFLICT (dst_server, tick, ord, seq) DO NOTHING";
        let (mut ticks, mut ords, mut seqs, mut nrs, mut xids) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut schemas, mut tables, mut queries, mut entries) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for piece in pieces {
            ticks.push(piece.place.0.0);
            ords.push(piece.place.1);
            seqs.push(piece.seq);
            nrs.push(piece.nr);
            xids.push(i64::try_from(piece.xid.0).unwrap_or(0));
            schemas.push(piece.schema.as_str());
            tables.push(piece.table.as_str());
            queries.push(piece.query.as_str());
            entries.push(piece.entry.as_slice());
        }
        let statement = self.client.prepare(sql).await?;
        self.client
            .execute(
                &statement,
                &[&self.peer, &ticks, &ords, &seqs, &nrs, &xids, &schemas, &tables, &queries, &entries],
            )
            .await
            .map(drop)
    }

    /// Forgets what the peer has.
    pub(super) async fn settle(&self, peer: &Progress) -> Result<(), tokio_postgres::Error> {
        let sql = "DELETE FROM pgcanon.error_queue WHERE dst_server = $1 AND NOT parked AND \
            (tick, ord) <= ($2, $3) AND \
            ((tick, ord) < ($2, $3) OR $4 = 0 OR seq < $4)";
        self.client.execute(sql, &[&self.peer, &peer.tick.0, &peer.ord, &peer.part]).await.map(drop)
    }

    /// The next pieces behind one of them and up to a place, in order; they stay the transaction's own until it ends.
    pub(super) async fn next(
        &self,
        after: Option<(Place, i32)>,
        upto: Option<Place>,
        most: i64,
    ) -> Result<Vec<Waiting>, tokio_postgres::Error> {
        self.waiting("NOT parked", after, upto, most).await
    }

    async fn waiting(
        &self,
        which: &str,
        after: Option<(Place, i32)>,
        upto: Option<Place>,
        most: i64,
    ) -> Result<Vec<Waiting>, tokio_postgres::Error> {
        let ((tick, ord), seq) = after.unwrap_or_default();
        let (last_tick, last_ord) = upto.unwrap_or((TickId(i64::MAX), WHOLE));
        // What the pieces of a transaction have in common is looked up for the first of them.
        let sql = format!(
            "SELECT id, tick, ord, seq, nr, xid, entry, \
                CASE WHEN first THEN {} END, \
                CASE WHEN first THEN (SELECT (t.deps->$1->>'tick')::int8 FROM pgcanon.tick AS t WHERE t.id = summed.tick) END \
            FROM (SELECT *, sum(octet_length(entry)) OVER w AS bytes, \
                (lag(tick) OVER w, lag(ord) OVER w) IS DISTINCT FROM (tick, ord) AS first FROM \
                (SELECT id, tick, ord, seq, nr, xid, entry FROM pgcanon.error_queue WHERE dst_server = $1 AND {which} \
                 AND (tick, ord, seq) > ($2, $3, $4) AND (tick, ord) <= ($7, $8) \
                 ORDER BY tick, ord, seq LIMIT $5 FOR UPDATE) AS locked \
                WINDOW w AS (ORDER BY tick, ord, seq)) AS summed WHERE bytes - octet_length(entry) < $6 \
            ORDER BY tick, ord, seq",
            CommitTime::of("xid::text::xid8::xid")
        );
        let statement = self.client.prepare(&sql).await?;
        let most = most.min(CHUNK.0);
        let rows = self
            .client
            .query(&statement, &[&self.peer, &tick.0, &ord, &seq, &most, &CHUNK.1, &last_tick.0, &last_ord])
            .await?;
        let mut pieces: Vec<Waiting> = Vec::with_capacity(rows.len());
        for row in &rows {
            let place = (TickId(row.try_get(1)?), row.try_get(2)?);
            let (time, seen) = match pieces.last().filter(|before| before.place == place) {
                Some(before) => (before.time, before.seen),
                None => {
                    (row.try_get::<_, Option<i64>>(7)?.map(CommitTime), row.try_get::<_, Option<i64>>(8)?.map(TickId))
                }
            };
            pieces.push(Waiting {
                id: row.try_get(0)?,
                place,
                seq: row.try_get(3)?,
                nr: row.try_get(4)?,
                xid: Xid(u64::try_from(row.try_get::<_, i64>(5)?).unwrap_or(0)),
                entry: row.try_get(6)?,
                time,
                seen,
            });
        }
        Ok(pieces)
    }

    /// Pieces that were parked, in order, behind one of them; not more than fit into memory.
    pub(super) async fn parked(&self, after: Option<(Place, i32)>) -> Result<Vec<Waiting>, tokio_postgres::Error> {
        self.waiting("parked", after, None, CHUNK.0).await
    }

    /// A piece as it is now; it stays the transaction's own until it ends. None if it is gone.
    pub(super) async fn lock(&self, id: i64) -> Result<Option<Entry>, ForwardError> {
        let sql = "SELECT entry FROM pgcanon.error_queue WHERE id = $1 FOR UPDATE";
        let row = self.client.query_opt(sql, &[&id]).await?;
        row.map(|row| read(id, row.try_get(0)?)).transpose()
    }

    /// Puts a piece aside that the peer rejects.
    pub(super) async fn park_rejected(&self, id: i64, why: &Rejection) -> Result<Entry, ForwardError> {
        let sql = "UPDATE pgcanon.error_queue SET parked = true, sqlstate = $2, message = $3, attempts = attempts + 1 \
            WHERE id = $1 RETURNING entry";
        let row = self.client.query_one(sql, &[&id, &why.sqlstate, &why.message]).await?;
        read(id, row.try_get(0)?)
    }

    /// Puts pieces aside that touch what those touch.
    pub(super) async fn park(&self, ids: &[i64]) -> Result<(), tokio_postgres::Error> {
        let sql = "UPDATE pgcanon.error_queue SET parked = true WHERE id = ANY ($1)";
        self.client.execute(sql, &[&ids]).await.map(drop)
    }

    pub(super) async fn remove(&self, ids: &[i64]) -> Result<(), tokio_postgres::Error> {
        let sql = "DELETE FROM pgcanon.error_queue WHERE id = ANY ($1)";
        self.client.execute(sql, &[&ids]).await.map(drop)
    }

    /// Notes why a piece cannot be applied.
    pub(super) async fn mark(&self, id: i64, why: &Rejection) -> Result<(), tokio_postgres::Error> {
        let sql = "UPDATE pgcanon.error_queue SET sqlstate = $2, message = $3, attempts = attempts + 1 \
            WHERE id = $1";
        self.client.execute(sql, &[&id, &why.sqlstate, &why.message]).await.map(drop)
    }

    /// Takes a piece out of the queue for good; the record of conflicts says what it was.
    pub(super) async fn discard(&self, id: i64, why: &Rejection) -> Result<(), tokio_postgres::Error> {
        let sql = "WITH gone AS (DELETE FROM pgcanon.error_queue WHERE id = $1 RETURNING *) \
            INSERT INTO pgcanon.conflict (origin, tick, ord, nsp_name, table_name, kind, decision, incoming) \
            SELECT $4, tick, ord, nsp_name, table_name, 'rejected', 'discarded', \
                jsonb_build_object('peer', dst_server, 'query', dst_query, 'sqlstate', $2::text, 'message', $3::text) \
            FROM gone";
        self.client.execute(sql, &[&id, &why.sqlstate, &why.message, &self.node]).await.map(drop)
    }

    /// Gives the peer up: what waits for it is of no use any more.
    pub(super) async fn evict(&self, why: &str) -> Result<(), tokio_postgres::Error> {
        self.begin().await?;
        self.client.execute("DELETE FROM pgcanon.error_queue WHERE dst_server = $1", &[&self.peer]).await?;
        self.turn("evicted", Some(why)).await?;
        self.commit().await
    }
}
