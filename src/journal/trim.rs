//! Rotation of the journal's children, and emptying those that everybody has passed: no row goes that somebody may still
//! need (I1), and nobody waits for it (I4).

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

use super::tick::{BadTick, Snapshot, TickId};

/// The journal's children.
const SLOTS: [i16; 3] = [0, 1, 2];

/// When the journal moves on, and how long it keeps what everybody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrimOptions {
    /// `node.retain`
    pub retain: Duration,
    /// A child larger than this is left for the next.
    pub slot_bytes: i64,
    /// And one that has been written for longer than this.
    pub slot_age: Duration,
}

/// How far all peers have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// There are no peers.
    All,
    /// Every one of them has confirmed this tick; `TickId(0)` where one has confirmed none.
    UpTo(TickId),
}

/// What became of a child that could be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    Emptied,
    /// It holds what somebody may still need.
    Needed,
    /// Somebody reads or writes it right now.
    Busy,
}

// === impl TrimOptions ===

impl TrimOptions {
    /// Keeps what everybody has for `retain`.
    pub fn new(retain: Duration) -> Self {
        Self { retain, slot_bytes: 64 << 20, slot_age: retain.clamp(Duration::from_secs(60), Duration::from_secs(600)) }
    }
}

/// The child that is to be written: read by every proxy, moved by the leader alone.
pub async fn current_slot(client: &Client) -> Result<i16, BadTick> {
    let sql = "SELECT value::int2 FROM pgcanon.meta WHERE key = 'slot'";
    Ok(client.query_typed(sql, &[]).await?.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
}

/// Moves on to the next child if it is time and the next one is empty; the one that is to be written now.
pub async fn rotate(client: &Client, options: &TrimOptions) -> Result<i16, BadTick> {
    let slot = current_slot(client).await?;
    let next = slot.saturating_add(1).rem_euclid(3);
    // pg_table_size counts long values, which lie elsewhere, too.
    let sql = format!(
        "SELECT pg_catalog.pg_table_size('pgcanon.journal_{slot}'), pg_catalog.pg_relation_size('pgcanon.journal_{slot}') > 0, \
         pg_catalog.pg_relation_size('pgcanon.journal_{next}') = 0, \
         (SELECT pg_catalog.date_part('epoch', pg_catalog.now() - value::timestamptz) FROM pgcanon.meta WHERE key = 'slot_since')"
    );
    let row = client.query_one(&sql, &[]).await?;
    let (size, used, free): (i64, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let age: Option<f64> = row.try_get(3)?;
    let old = age.is_some_and(|age| age >= options.slot_age.as_secs_f64());
    let moves = used && free && (size > options.slot_bytes || old);
    if age.is_none() || moves || (old && !used) {
        let to = if moves { next } else { slot };
        let sql = "INSERT INTO pgcanon.meta (key, value) VALUES ('slot', $1::int2::text), ('slot_since', pg_catalog.now()::text) \
                   ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value";
        client.execute(sql, &[&to]).await?;
        return Ok(to);
    }
    Ok(slot)
}

/// Empties every child but the current one of which all rows are behind the ticks that must stay; and forgets those ticks.
pub async fn trim(client: &Client, passed: Passed, retain: Duration) -> Result<Vec<(i16, Trim)>, BadTick> {
    let current = current_slot(client).await?;
    let sql = "SELECT pg_catalog.pg_relation_size('pgcanon.journal_0'), pg_catalog.pg_relation_size('pgcanon.journal_1'), \
               pg_catalog.pg_relation_size('pgcanon.journal_2')";
    let sizes = client.query_one(sql, &[]).await?;
    let mut candidates = Vec::new();
    for (at, slot) in SLOTS.into_iter().enumerate() {
        if slot != current && sizes.try_get::<_, i64>(at)? > 0 {
            candidates.push(slot);
        }
    }
    let mut done = Vec::new();
    if candidates.is_empty() {
        return Ok(done);
    }
    let Some(base) = base(client, passed, retain).await? else {
        return Ok(candidates.into_iter().map(|slot| (slot, Trim::Needed)).collect());
    };
    for slot in candidates {
        done.push((slot, empty(client, slot, &base).await?));
    }
    Ok(done)
}

/// A tick up to which nothing is needed any more; it stays itself, as what the next one is cut against.
struct Base {
    id: TickId,
    snapshot: Snapshot,
}

/// The newest tick that all peers have passed and that is older than `retain`: found by halving, for ids have no gaps.
async fn base(client: &Client, passed: Passed, retain: Duration) -> Result<Option<Base>, BadTick> {
    let bounds = client.query_one("SELECT min(id), max(id) FROM pgcanon.tick", &[]).await?;
    let (Some(mut low), Some(mut high)) = (bounds.try_get::<_, Option<i64>>(0)?, bounds.try_get::<_, Option<i64>>(1)?)
    else {
        return Ok(None);
    };
    if let Passed::UpTo(passed) = passed {
        high = high.min(passed.0);
    }
    let sql = "SELECT id, snapshot::text FROM pgcanon.tick \
               WHERE id = $1 AND created <= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $2)";
    let old = client.prepare(sql).await?;
    let retain = retain.as_secs_f64();
    let mut found: Option<Row> = None;
    while low <= high {
        let middle = low.midpoint(high);
        match client.query_opt(&old, &[&middle, &retain]).await? {
            Some(row) => {
                found = Some(row);
                low = middle.saturating_add(1);
            }
            None => high = middle.saturating_sub(1),
        }
    }
    let read = |row: Row| Ok(Base { id: TickId(row.try_get(0)?), snapshot: row.try_get::<_, &str>(1)?.parse()? });
    found.map(read).transpose()
}

async fn empty(client: &Client, slot: i16, base: &Base) -> Result<Trim, BadTick> {
    if needed(client, slot, base).await? {
        return Ok(Trim::Needed);
    }
    let done = empty_locked(client, slot, base).await;
    if !matches!(done, Ok(Trim::Emptied)) {
        client.batch_execute("ROLLBACK").await?;
    }
    match done {
        Err(BadTick::Row(e)) if e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(Trim::Busy),
        done => done,
    }
}

async fn empty_locked(client: &Client, slot: i16, base: &Base) -> Result<Trim, BadTick> {
    // Whoever has written here and not committed holds a lock until it has: behind ours there are ended transactions only,
    // and every statement sees them all.
    let lock = format!("LOCK TABLE ONLY pgcanon.journal_{slot} IN ACCESS EXCLUSIVE MODE NOWAIT");
    client.batch_execute(&format!("BEGIN ISOLATION LEVEL READ COMMITTED; {lock}")).await?;
    if needed(client, slot, base).await? {
        return Ok(Trim::Needed);
    }
    // Readers of these ticks must find them gone, not empty: both go together.
    client.batch_execute(&format!("TRUNCATE ONLY pgcanon.journal_{slot}")).await?;
    client.execute("DELETE FROM pgcanon.tick WHERE id < $1", &[&base.id.0]).await?;
    client.batch_execute("COMMIT").await?;
    Ok(Trim::Emptied)
}

/// Whether the child holds a row that the base does not show.
async fn needed(client: &Client, slot: i16, base: &Base) -> Result<bool, BadTick> {
    let running: Vec<String> = base.snapshot.running().iter().map(ToString::to_string).collect();
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pgcanon.journal_{slot} WHERE xid >= $1::text::xid8) \
         OR EXISTS (SELECT FROM pgcanon.journal_{slot} WHERE xid = ANY ($2::text[]::xid8[]))"
    );
    let row = client.query_one(&sql, &[&base.snapshot.xmax().to_string(), &running]).await?;
    Ok(row.try_get(0)?)
}
