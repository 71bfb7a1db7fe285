//! What a worker's capturing sessions share: the rules, the catalog, the journal's key, and whom to wake.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::capture::lanes::Lanes;
use crate::catalog::Catalogs;
use crate::catalog::load::{CatalogError, Named};
use crate::catalog::relation::Catalog;
use crate::config::TableRule;
use crate::journal::ticker::Waker;
use crate::journal::{Author, Key};

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
    pub rules: Arc<[TableRule]>,
    pub named: Arc<Named>,
    /// The database that the rules are about.
    pub database: Arc<str>,
    /// Has a picture by now.
    pub catalogs: Catalogs,
    /// Reads the catalog within a session.
    pub catalog_sql: Arc<str>,
    pub key: Key,
    pub author: Arc<Author>,
    /// The child of the journal that is written now.
    pub slot: watch::Receiver<i16>,
    pub lanes: Arc<Lanes>,
    pub ticker: Waker,
}

impl Links {
    /// The catalog as a session's own server has told it.
    pub(crate) fn read_catalog(&self, answer: &[u8]) -> Result<Catalog, CatalogError> {
        Catalog::from_json(answer, &self.rules, &self.named)
    }

    /// Something was committed to the journal.
    pub(crate) fn wake(&self) {
        self.ticker.wake();
    }
}
