//! The current picture of the catalog, followed over one connection: newer than whatever a session asked for, and never
//! replaced by an equal one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::Client;

use crate::catalog::control::{ControlError, ControlSettings};
use crate::catalog::load::{self, CatalogError, Named};
use crate::catalog::relation::{Catalog, Oid};
use crate::config::TableRule;

/// Tells other proxies of this node that the catalog changed.
pub(crate) const CHANNEL: &str = "pgcanon_catalog";

/// How long one question may take; past that the connection counts as dead.
const ANSWER: Duration = Duration::from_secs(60);

/// Between attempts to reach the server: the first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What the picture is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub rules: Arc<[TableRule]>,
    pub named: Named,
}

/// How often the catalog is looked at for changes that came past all proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub shortest: Duration,
    pub longest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { shortest: Duration::from_secs(1), longest: Duration::from_secs(10) }
    }
}

/// A handle to the current picture, for any thread.
#[derive(Clone, Debug)]
pub struct Catalogs {
    seen: watch::Receiver<Seen>,
    asked: Arc<Asked>,
}

/// The picture, and how many invalidations it is newer than.
#[derive(Clone, Debug, Default)]
struct Seen {
    catalog: Option<Arc<Catalog>>,
    newer_than: u64,
    /// Counts the looks: an equal picture may follow a change of what names mean.
    looks: u64,
}

/// Invalidations so far.
#[derive(Debug, Default)]
struct Asked {
    count: AtomicU64,
    wake: Notify,
}

/// A picture that is yet to come.
#[derive(Debug)]
pub struct Awaited {
    seen: watch::Receiver<Seen>,
    ticket: u64,
}

impl Catalogs {
    /// Starts the task that follows the catalog, on the current runtime; it ends with the last handle.
    pub fn start(
        settings: watch::Receiver<Arc<ControlSettings>>,
        wanted: watch::Receiver<Arc<Wanted>>,
        pace: Pace,
    ) -> Self {
        let (published, seen) = watch::channel(Seen::default());
        let asked = Arc::new(Asked::default());
        let follower = Follower { settings, wanted, pace, published, asked: asked.clone(), told: 0, shown: false };
        tokio::spawn(follower.follow());
        Self { seen, asked }
    }

    /// The picture; none until the server was reached for the first time.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Catalog>> {
        self.seen.borrow().catalog.clone()
    }

    /// The picture, as soon as there is one; none when the proxy ends first.
    pub async fn get(&self) -> Option<Arc<Catalog>> {
        Awaited { seen: self.seen.clone(), ticket: 0 }.picture().await
    }

    /// How often the server was asked: what was learned of it elsewhere before a look may be outdated after it.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.seen.borrow().looks
    }

    /// Invalidations so far.
    #[must_use]
    pub fn invalidations(&self) -> u64 {
        self.asked.count.load(Ordering::Acquire)
    }

    /// Whether the picture is older than the last invalidation.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.seen.borrow().newer_than < self.invalidations()
    }

    /// Says that the catalog may differ from the picture: after DDL has committed, or where a `tableoid` is unknown.
    ///
    /// It takes effect at once; awaiting gives a picture that was taken after this call. Other proxies are told.
    #[must_use = "a session whose next statement must see the change waits for it"]
    pub fn invalidate(&self) -> Awaited {
        let ticket = self.asked.count.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        self.asked.wake.notify_one();
        Awaited { seen: self.seen.clone(), ticket }
    }
}

impl Awaited {
    /// Waits until it is there; none when the proxy ends first.
    ///
    /// # Cancellation safety
    /// Nothing is lost: the picture is taken whether somebody waits or not.
    pub async fn picture(mut self) -> Option<Arc<Catalog>> {
        let ticket = self.ticket;
        let seen = self.seen.wait_for(|seen| seen.catalog.is_some() && seen.newer_than >= ticket).await.ok()?;
        seen.catalog.clone()
    }
}

/// Why the connection is given up.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("the server did not answer within {ANSWER:?}")]
    Timeout,
    #[error("the connection was lost")]
    Closed,
}

impl From<tokio_postgres::Error> for Lost {
    fn from(e: tokio_postgres::Error) -> Self {
        Self::Control(e.into())
    }
}

/// What made the follower stop waiting.
enum Woken {
    /// Look again.
    Changed,
    /// Connect again: the settings are others.
    Settings,
}

struct Follower {
    settings: watch::Receiver<Arc<ControlSettings>>,
    wanted: watch::Receiver<Arc<Wanted>>,
    pace: Pace,
    published: watch::Sender<Seen>,
    asked: Arc<Asked>,
    /// The last invalidation that other proxies were told of.
    told: u64,
    /// The last picture was published over this connection.
    shown: bool,
}

/// One connection.
struct Link {
    client: Client,
    /// The PIDs of sessions that told of a change.
    notified: mpsc::Receiver<i32>,
    own_pid: i32,
}

impl Follower {
    async fn follow(mut self) {
        let mut pause = PAUSES.0;
        let published = self.published.clone();
        let ended = published.closed();
        tokio::pin!(ended);
        loop {
            let start = Instant::now();
            let result = tokio::select! {
                () = &mut ended => return,
                result = self.over_one_connection() => result,
            };
            if let Err(lost) = result {
                // Whatever is reached behind this may be another server, or the same with other tables.
                if std::mem::take(&mut self.shown) {
                    self.asked.count.fetch_add(1, Ordering::AcqRel);
                }
                if start.elapsed() > PAUSES.1 {
                    pause = PAUSES.0;
                }
                tracing::warn!(error = %lost, "cannot follow the catalog; trying again in {pause:?}");
                tokio::select! {
                    () = &mut ended => return,
                    () = sleep(pause) => {}
                }
                pause = pause.saturating_mul(2).min(PAUSES.1);
            }
        }
    }

    /// Follows the catalog until the connection fails, or another one is wanted.
    async fn over_one_connection(&mut self) -> Result<(), Lost> {
        let settings = self.settings.borrow_and_update().clone();
        let mut link = within(Link::open(&settings)).await?;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let ticket = self.asked.count.load(Ordering::Acquire);
            let oids = self.oids();
            // Before the picture: a change between the two is then seen as one.
            let before = within(link.fingerprint(&oids)).await?;
            let query = load::query(&wanted.rules);
            let answer = within(async { Ok(load::answer(&link.client, &query).await?) }).await?;
            self.publish(Catalog::from_json(answer.as_bytes(), &wanted.rules, &wanted.named)?, ticket);
            self.shown = true;
            if ticket > self.told {
                self.told = ticket;
                within(async { Ok(link.client.batch_execute(&format!("NOTIFY {CHANNEL}")).await?) }).await?;
            }
            if self.oids() != oids {
                continue; // the sums were those of other relations
            }
            match self.wait(&mut link, &oids, &before).await? {
                Woken::Changed => {}
                Woken::Settings => return Ok(()),
            }
        }
    }

    fn oids(&self) -> Vec<u32> {
        let seen = self.published.borrow();
        let relations = seen.catalog.iter().flat_map(|catalog| catalog.relations.keys());
        let mut oids: Vec<u32> = relations.map(|Oid(oid)| *oid).collect();
        oids.sort_unstable();
        oids
    }

    /// Replaces the picture if this one differs.
    fn publish(&self, mut catalog: Catalog, ticket: u64) {
        self.published.send_modify(|seen| {
            seen.newer_than = ticket;
            seen.looks = seen.looks.saturating_add(1);
            let version = seen.catalog.as_ref().map_or(0, |old| old.version);
            catalog.version = version;
            if seen.catalog.as_deref() != Some(&catalog) {
                catalog.version = version.saturating_add(1);
                tracing::info!(version = catalog.version, relations = catalog.relations.len(), "catalog");
                seen.catalog = Some(Arc::new(catalog));
            }
        });
    }

    /// Waits for a reason to look again.
    async fn wait(&mut self, link: &mut Link, oids: &[u32], baseline: &str) -> Result<Woken, Lost> {
        let mut look = Instant::now() + self.pace.shortest;
        loop {
            tokio::select! {
                () = self.asked.wake.notified() => return Ok(Woken::Changed),
                () = changed(&mut self.wanted) => return Ok(Woken::Changed),
                () = changed(&mut self.settings) => return Ok(Woken::Settings),
                pid = link.notified.recv() => match pid {
                    None => return Err(Lost::Closed),
                    Some(pid) if pid == link.own_pid => {}
                    // Anybody may say so; only what it costs to look is spent on it.
                    Some(_) => look = Instant::now(),
                },
                () = sleep_until(look) => {
                    let start = Instant::now();
                    if within(link.fingerprint(oids)).await? != baseline {
                        return Ok(Woken::Changed);
                    }
                    // A twentieth of one core at most, as long as that is often enough.
                    let pause = start.elapsed().saturating_mul(20).max(self.pace.shortest).min(self.pace.longest);
                    look = Instant::now() + pause.max(self.pace.shortest);
                }
            }
        }
    }
}

impl Link {
    async fn open(settings: &ControlSettings) -> Result<Self, Lost> {
        let (client, notified) = settings.connect_listening().await?;
        // Compiling the query would cost more than running it.
        client.batch_execute(&format!("SET search_path = pg_catalog; SET jit = off; LISTEN {CHANNEL}")).await?;
        let own_pid = client.query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await?.try_get(0)?;
        Ok(Self { client, notified, own_pid })
    }

    async fn fingerprint(&self, oids: &[u32]) -> Result<String, Lost> {
        Ok(self.client.query_one(include_str!("fingerprint.sql"), &[&oids]).await?.try_get(0)?)
    }
}

/// Waits for another value; for ever where none can come.
async fn changed<T>(value: &mut watch::Receiver<T>) {
    if value.changed().await.is_err() {
        std::future::pending().await
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
    timeout(ANSWER, work).await.map_err(|_| Lost::Timeout)?
}
