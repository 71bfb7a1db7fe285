//! One ticker per node makes the ticks (§5): whatever committed is in a tick soon, and a tick is durable before anybody reads
//! it. Every proxy runs one; an advisory lock says which of them leads, and the others wait to take over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::{Client, Statement};

use super::tick::{BadTick, Snapshot, TickId, Xid};
use super::trim::{Passed, Trim, TrimOptions, current_slot, rotate, trim};
use crate::catalog::{ControlError, ControlSettings, server_words};

/// The advisory lock of the leader ("pgca" and 1), among the database's own.
const LOCK: &str = "1885823841, 1";
/// Where proxies that do not lead say that something was committed.
const CHANNEL: &str = "pgcanon_journal";
/// A new tick is made at most this often: one commit, one flush each.
const PACE: Duration = Duration::from_millis(5);
/// On a node that is busy ticks take a fortieth of the time, but come at least this often.
const BUSY: (u32, Duration) = (40, Duration::from_millis(20));
/// How often the leader looks without being told.
const POLL: Duration = Duration::from_millis(50);
/// How often the others try to lead, and look which child to write.
const FOLLOW: Duration = Duration::from_millis(500);
/// How often the leader looks after the children of the journal.
const CARE: Duration = Duration::from_secs(1);
/// A look in vain that took longer than this had uncommitted rows to wade through; an empty tick puts them behind.
const SLOW: Duration = Duration::from_millis(5);
/// Waiting for a server that does not answer, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Why no ticks are made at the moment.
#[derive(Debug, thiserror::Error)]
pub enum TickerError {
    #[error(transparent)]
    Connect(#[from] ControlError),
    #[error("making ticks: {}", server_words(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("making ticks: {0}")]
    Tick(#[from] BadTick),
    #[error("the node is in recovery; ticks are made when it is promoted")]
    InRecovery,
    #[error(
        "the ticks in pgcanon.tick are of another cluster: transaction {ticked} was ticked there, and here only {next} comes; \
         a database that was restored from a dump needs `pgcanon init --drop`, and then `pgcanon init`"
    )]
    Foreign { ticked: Xid, next: Xid },
}

/// Tells the ticker that something was committed.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Notify>);

/// What is known of the journal at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether this ticker makes the ticks.
    pub leading: bool,
    /// The last tick, as far as this ticker knows.
    pub latest: Option<TickId>,
    /// What it shows.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The child of the journal that is to be written.
    pub slot: i16,
}

/// The running ticker; it ends with this handle.
#[derive(Debug)]
pub struct Ticker {
    waker: Waker,
    state: watch::Receiver<State>,
    slot: watch::Receiver<i16>,
    task: JoinHandle<()>,
}

/// What a ticker goes by.
#[derive(Clone, Debug)]
pub struct TickerOptions {
    pub trim: TrimOptions,
    /// How far all peers have come.
    pub passed: watch::Receiver<Passed>,
}

struct Task {
    settings: watch::Receiver<Arc<ControlSettings>>,
    options: TickerOptions,
    waker: Waker,
    state: watch::Sender<State>,
    slot: watch::Sender<i16>,
}

/// The last tick, and what it is cut against.
struct Last {
    id: TickId,
    snapshot: Option<Arc<Snapshot>>,
}

// === impl Waker ===

impl Waker {
    /// Something was committed: the next tick is made at once. Costs next to nothing.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

// === impl Ticker ===

impl Ticker {
    /// Starts the ticker on the current runtime; it connects, and connects again, until the handle is dropped.
    pub fn start(settings: watch::Receiver<Arc<ControlSettings>>, options: TickerOptions) -> Self {
        let waker = Waker::default();
        let (state, states) = watch::channel(State { leading: false, latest: None, snapshot: None, slot: 0 });
        let (slot, slots) = watch::channel(0);
        let task = Task { settings, options, waker: waker.clone(), state, slot };
        Self { waker, state: states, slot: slots, task: tokio::spawn(task.run()) }
    }

    /// For whoever commits.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The child of the journal that is to be written.
    pub fn slot(&self) -> watch::Receiver<i16> {
        self.slot.clone()
    }

    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Task ===

impl Task {
    async fn run(mut self) {
        let mut backoff = BACKOFF.0;
        let mut complaint = String::new();
        loop {
            let began = Instant::now();
            let Err(error) = self.session().await else { continue };
            self.tell(|state| state.leading = false);
            let words = error.to_string();
            // The same trouble is told once, however often it is met.
            if words != complaint {
                tracing::warn!(error = %words, "no ticks are made");
                complaint = words;
            }
            backoff = if began.elapsed() > BACKOFF.1 { BACKOFF.0 } else { (backoff * 2).min(BACKOFF.1) };
            sleep(backoff).await;
        }
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
        let slot = self.state.borrow().slot;
        self.slot.send_if_modified(|told| std::mem::replace(told, slot) != slot);
    }

    /// One connection's life; `Ok` when the settings have changed.
    async fn session(&mut self) -> Result<(), TickerError> {
        let settings = self.settings.borrow_and_update().clone();
        let waker = self.waker.clone();
        let client = settings.connect_hearing(move |_| waker.wake()).await?;
        client.batch_execute(SETUP).await?;
        let recovering = client.query_one("SELECT pg_catalog.pg_is_in_recovery()", &[]).await?.try_get(0)?;
        if recovering {
            return Err(TickerError::InRecovery);
        }
        if self.follow(&client).await? {
            self.lead(&client).await?;
        }
        Ok(())
    }

    /// Waits until this ticker leads; false when the settings have changed.
    async fn follow(&mut self, client: &Client) -> Result<bool, TickerError> {
        let sql = format!(
            "SELECT pg_catalog.pg_try_advisory_lock({LOCK}), last.id, last.snapshot::text \
             FROM (SELECT) AS one LEFT JOIN (SELECT id, snapshot FROM pgcanon.tick ORDER BY id DESC LIMIT 1) AS last ON true"
        );
        let statement = client.prepare(&sql).await?;
        loop {
            let row = client.query_one(&statement, &[]).await?;
            if row.try_get(0)? {
                return Ok(true);
            }
            let (slot, latest) = (current_slot(client).await?, row.try_get::<_, Option<i64>>(1)?);
            let snapshot = row.try_get::<_, Option<&str>>(2)?.map(str::parse).transpose()?.map(Arc::new);
            self.tell(|state| *state = State { leading: false, latest: latest.map(TickId), snapshot, slot });
            let next = Instant::now() + FOLLOW;
            loop {
                tokio::select! {
                    () = sleep_until(next) => break,
                    Ok(()) = self.settings.changed() => return Ok(false),
                    () = self.waker.0.notified() => {
                        client.batch_execute(&format!("NOTIFY {CHANNEL}")).await?;
                        sleep(PACE).await;
                    }
                }
            }
        }
    }

    /// Makes ticks until the settings change.
    async fn lead(&mut self, client: &Client) -> Result<(), TickerError> {
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        let mut ticks = Ticks::begin(client).await?;
        self.tell(|state| {
            (state.leading, state.latest, state.snapshot) = (true, ticks.latest(), ticks.last.snapshot.clone())
        });
        tracing::info!(tick = ticks.last.id.0, "this proxy makes the ticks");
        let (mut care, mut trouble) = (Instant::now(), false);
        loop {
            if care <= Instant::now() {
                care = Instant::now() + CARE;
                trouble = self.care(client, trouble).await?;
            }
            let began = Instant::now();
            if let Some(tick) = ticks.tick(client).await? {
                self.tell(|state| (state.latest, state.snapshot) = (Some(tick), ticks.last.snapshot.clone()));
            }
            // However long looking takes, most of the time the server has for others.
            let took = began.elapsed();
            sleep((took * BUSY.0).clamp(PACE, BUSY.1).max(took)).await;
            tokio::select! {
                _ = timeout(POLL.max(took * 10), self.waker.0.notified()) => {}
                Ok(()) = self.settings.changed() => return Ok(()),
            }
        }
    }

    /// Looks after the journal's children. Ticks go on when that fails; `trouble` is whether it failed before.
    async fn care(&self, client: &Client, trouble: bool) -> Result<bool, TickerError> {
        let passed = *self.options.passed.borrow();
        let work = async {
            let slot = rotate(client, &self.options.trim).await?;
            Ok::<_, BadTick>((slot, trim(client, passed, self.options.trim.retain).await?))
        };
        match work.await {
            Ok((slot, trimmed)) => {
                self.tell(|state| state.slot = slot);
                for (slot, _) in trimmed.iter().filter(|(_, trim)| *trim == Trim::Emptied) {
                    tracing::info!(slot, "emptied a part of the journal that everybody has passed");
                }
                Ok(false)
            }
            Err(BadTick::Row(e)) if client.is_closed() => Err(e.into()),
            Err(e) => {
                if !trouble {
                    tracing::warn!(error = %e, "cannot trim the journal; it grows until this is mended");
                }
                Ok(true)
            }
        }
    }
}

/// Whatever the role or the database has set must neither end the session nor change what its statements mean; and a scan of
/// the whole journal may look cheap to a planner without statistics, but never is; what that makes of the costs must not
/// have each look compiled. A leader that has gone without a word must not lead for long. A tick must be durable (§5).
const SETUP: &str = "SET search_path = ''; SET default_transaction_read_only = off; \
    SET default_transaction_isolation = 'read committed'; SET statement_timeout = 0; SET lock_timeout = 0; \
    SET idle_session_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET plan_cache_mode = force_generic_plan; \
    SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; \
    SELECT pg_catalog.set_config('synchronous_commit', 'local', false) \
    WHERE pg_catalog.current_setting('synchronous_commit') = 'off'";

/// What makes ticks, while it leads.
struct Ticks {
    insert: Statement,
    system: i64,
    timeline: i32,
    last: Last,
    /// The last look was in vain, and slow.
    waded: bool,
}

impl Ticks {
    async fn begin(client: &Client) -> Result<Self, TickerError> {
        // The name of a WAL file begins with the timeline; the last checkpoint may be from before the promotion.
        let sql = "SELECT system_identifier, \
            ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8))::bit(32)::int4, \
            pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text FROM pg_catalog.pg_control_system()";
        let node = client.query_one(sql, &[]).await?;
        let next: Xid = node.try_get::<_, &str>(2)?.parse()?;
        let sql = "SELECT id, snapshot::text FROM pgcanon.tick ORDER BY id DESC LIMIT 1";
        let last = match client.query_opt(sql, &[]).await? {
            Some(row) => {
                Last { id: TickId(row.try_get(0)?), snapshot: Some(Arc::new(row.try_get::<_, &str>(1)?.parse()?)) }
            }
            None => Last { id: TickId(0), snapshot: None },
        };
        match &last.snapshot {
            Some(snapshot) if snapshot.xmax() > next => {
                return Err(TickerError::Foreign { ticked: snapshot.xmax(), next });
            }
            _ => {}
        }
        let insert = client.prepare(INSERT).await?;
        Ok(Self { insert, system: node.try_get(0)?, timeline: node.try_get(1)?, last, waded: false })
    }

    fn latest(&self) -> Option<TickId> {
        self.last.snapshot.is_some().then_some(self.last.id)
    }

    /// Makes a tick if something new can be seen.
    async fn tick(&mut self, client: &Client) -> Result<Option<TickId>, TickerError> {
        let id = self.last.id.0.saturating_add(1);
        let shown = self.last.snapshot.as_deref();
        let xmax = shown.map_or(Xid(0), Snapshot::xmax).to_string();
        let running = shown.map(Snapshot::running).unwrap_or_default();
        let running: Vec<String> = running.iter().map(Xid::to_string).collect();
        let began = Instant::now();
        let made =
            client.query_opt(&self.insert, &[&id, &self.system, &self.timeline, &self.waded, &xmax, &running]).await?;
        self.waded = made.is_none() && began.elapsed() > SLOW;
        let Some(row) = made else { return Ok(None) };
        let snapshot = row.try_get::<_, &str>(0)?.parse()?;
        self.last = Last { id: TickId(id), snapshot: Some(Arc::new(snapshot)) };
        Ok(Some(self.last.id))
    }
}

/// Everything in one statement is of one snapshot: what is new, the cut, and what the node had seen of the others.
const INSERT: &str = "INSERT INTO pgcanon.tick (id, system, timeline, snapshot, deps) \
    SELECT $1, $2, $3, pg_catalog.pg_current_snapshot(), (SELECT coalesce(pg_catalog.jsonb_object_agg(origin, \
        pg_catalog.jsonb_build_object('system', system, 'timeline', timeline, 'tick', tick, 'ord', ord)), '{}') \
        FROM pgcanon.progress) \
    WHERE $4 OR EXISTS (SELECT FROM pgcanon.journal WHERE xid >= $5::text::xid8) \
    OR EXISTS (SELECT FROM pg_catalog.unnest($6::text[]::xid8[]) AS running \
        WHERE pg_catalog.pg_visible_in_snapshot(running, pg_catalog.pg_current_snapshot()) \
        AND EXISTS (SELECT FROM pgcanon.journal WHERE xid = running)) \
    RETURNING snapshot::text";
