//! What a worker's capturing sessions share: the rules, the catalog, the journal's key, and whom to wake.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::capture::lanes::Lanes;
use crate::capture::write::Acked;
use crate::catalog::load::{self, CatalogError};
use crate::catalog::relation::Catalog;
use crate::catalog::{Catalogs, Wanted};
use crate::config::NodeName;
use crate::forward::{Changes, Handle, Preparer, Unprepared};
use crate::journal::ticker::{State as Ticks, Waker};
use crate::journal::{Author, Key, Xid};

/// How long a session waits when the proxy has just started.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether sessions can be captured.
#[derive(Clone)]
pub enum Capturing {
    /// Not yet: the server has not been asked what has to be known.
    Waiting,
    Ready(Links),
}

impl Capturing {
    /// Waits until sessions can be captured, for a while.
    pub(crate) async fn ready(mut capturing: watch::Receiver<Self>) -> Option<Links> {
        let ready = capturing.wait_for(|capturing| matches!(capturing, Self::Ready(_)));
        match timeout(PATIENCE, ready).await.ok()?.ok()?.clone() {
            Self::Ready(links) => Some(links),
            Self::Waiting => None,
        }
    }
}

/// Handles only: cheap to clone, one for each worker.
#[derive(Clone)]
pub struct Links {
    /// What the picture is to be of.
    pub wanted: watch::Receiver<Arc<Wanted>>,
    /// The database that the rules are about.
    pub database: Arc<str>,
    /// Has a picture by now.
    pub catalogs: Catalogs,
    pub key: Key,
    pub author: Arc<Author>,
    /// The child of the journal that is written now.
    pub slot: watch::Receiver<i16>,
    pub lanes: Arc<Lanes>,
    pub ticker: Waker,
    pub ticks: watch::Receiver<Ticks>,
    /// Who forwards to the peers.
    pub forwarders: Arc<[Handle]>,
    pub preparer: Arc<Preparer>,
}

impl Links {
    /// Reads the catalog within a session.
    pub(crate) fn catalog_sql(&self) -> String {
        load::query(&self.wanted.borrow().rules)
    }

    /// The catalog as a session's own server has told it.
    pub(crate) fn read_catalog(&self, answer: &[u8]) -> Result<Catalog, CatalogError> {
        let wanted = self.wanted.borrow().clone();
        Catalog::from_json(answer, &wanted.rules, &wanted.named)
    }

    /// Something was committed to the journal.
    pub(crate) fn wake(&self) {
        self.ticker.wake();
    }

    /// Has the peers prepare what a transaction is about to commit.
    pub(crate) fn prepare(
        &self,
        changes: Changes,
        pid: u32,
        all: &[Arc<Acked>],
    ) -> impl Future<Output = Result<(), Unprepared>> + use<> {
        let atomic: Vec<Arc<Acked>> = all.iter().filter(|acked| acked.atomic).cloned().collect();
        let wait = atomic.iter().map(|acked| acked.wait).max().unwrap_or_default();
        let preparer = self.preparer.clone();
        async move {
            let concerned = |peer: &NodeName| atomic.iter().any(|acked| acked.concerns(peer));
            preparer.prepare(&changes, pid, concerned, wait).await
        }
    }

    /// Waits until a committed transaction is applied where it has to be; else who has not done so in time.
    pub(crate) fn acknowledged(&self, xid: Xid, all: &[Arc<Acked>]) -> impl Future<Output = Vec<NodeName>> + use<> {
        let wanted = |peer: &&Handle| all.iter().any(|acked| acked.concerns(&peer.peer));
        let peers: Vec<Handle> = self.forwarders.iter().filter(wanted).cloned().collect();
        let wait = all.iter().map(|acked| acked.wait).max().unwrap_or_default();
        let mut ticks = self.ticks.clone();
        async move {
            let until = Instant::now() + wait;
            let shown = ticks.wait_for(|ticks| ticks.snapshot.as_ref().is_some_and(|snapshot| snapshot.shows(xid)));
            // Nobody has what is in no tick.
            let tick = timeout_at(until, shown).await.ok().and_then(Result::ok).and_then(|ticks| ticks.latest);
            let mut late = Vec::new();
            for mut peer in peers {
                let has = async {
                    match tick {
                        Some(tick) => peer.status.wait_for(|status| status.has(tick)).await.is_ok(),
                        None => false,
                    }
                };
                if !timeout_at(until, has).await.unwrap_or(false) {
                    late.push(peer.peer);
                }
            }
            late
        }
    }
}
