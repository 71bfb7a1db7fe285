//! What capturing takes besides the sessions: the journal's key, the catalog kept fresh, the ticker.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::capture::lanes::Lanes;
use crate::catalog::load::{self, Named};
use crate::catalog::{Catalogs, ControlError, ControlSettings, server_words};
use crate::config::{Config, TableRule};
use crate::journal::key::KeyError;
use crate::journal::ticker::{Ticker, TickerOptions};
use crate::journal::trim::{Passed, TrimOptions};
use crate::journal::{Author, Key, NoRandom, migrate};
use crate::session::{Capturing, Links};

/// How often a server is asked again that was not there, or not ready.
const RETRY: Duration = Duration::from_millis(500);

/// Why nothing can be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("[[table]] rules need node.control, the proxy's own connection: the journal is read over it")]
    NoControl,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Random(#[from] NoRandom),
    #[error(transparent)]
    Connect(#[from] ControlError),
    #[error("the journal is not there: run `pgcanon init` with this configuration first")]
    NotInitialised,
    #[error("the journal is of version {found}, this pgcanon needs {needed}: run `pgcanon init` again")]
    Version { found: i32, needed: i32 },
    #[error("control connection: {}", server_words(.0))]
    Server(#[from] tokio_postgres::Error),
}

/// Keeps what capture needs alive.
pub(super) struct Capture {
    pub(super) links: watch::Receiver<Capturing>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known before the server is asked.
struct Plan {
    rules: Arc<[TableRule]>,
    named: Arc<Named>,
    database: Arc<str>,
    file_key: Option<Key>,
    author: Arc<Author>,
    retain: Duration,
    lanes: Arc<Lanes>,
    control: watch::Receiver<Arc<ControlSettings>>,
}

/// Starts what capture needs; sessions are let in when it is there. Without rules there is nothing to start.
pub(super) fn start(
    config: &Config,
    control: Option<watch::Receiver<Arc<ControlSettings>>>,
    lanes: Arc<Lanes>,
) -> Result<Option<Capture>, CaptureError> {
    if config.tables.is_empty() {
        return Ok(None);
    }
    let control = control.ok_or(CaptureError::NoControl)?;
    let database = config.node.control.as_ref().and_then(|c| c.dbname().or(c.user.as_deref())).unwrap_or("postgres");
    let plan = Plan {
        rules: config.tables.clone().into(),
        named: Arc::new(Named { writing: config.capture.writing.clone(), harmless: config.capture.harmless.clone() }),
        database: database.into(),
        file_key: config.node.cluster_key_file.as_deref().map(Key::load).transpose()?,
        author: Arc::new(Author::new()?),
        retain: config.node.retain,
        lanes,
        control,
    };
    let (sender, links) = watch::channel(Capturing::Waiting);
    let task = tokio::spawn(plan.run(sender));
    Ok(Some(Capture { links, task }))
}

impl Plan {
    /// Asks until the server is there and ready, and then serves for as long as the process runs.
    async fn run(self, links: watch::Sender<Capturing>) {
        let mut told = String::new();
        let key = loop {
            match self.key().await {
                Ok(key) => break key,
                Err(e) => {
                    let words = e.to_string();
                    if words != told {
                        match e {
                            CaptureError::NotInitialised | CaptureError::Version { .. } => error!("{words}"),
                            _ => warn!(error = words, "sessions wait until changes can be captured"),
                        }
                        told = words;
                    }
                }
            }
            sleep(RETRY).await;
        };
        let catalogs = Catalogs::start(self.control.clone(), self.rules.clone(), self.named.clone());
        let mut catalog = catalogs.watch();
        // The first picture.
        if catalog.wait_for(|catalog| catalog.version > 0).await.is_err() {
            return;
        }
        self.warn_of_triggers(&catalog.borrow().clone());
        // No peer is served yet: everybody has everything.
        let (_passed, passed) = watch::channel(Passed::All);
        let ticker = Ticker::start(self.control.clone(), TickerOptions { trim: TrimOptions::new(self.retain), passed });
        let ready = Links {
            catalog_sql: load::query(&self.rules).into(),
            rules: self.rules,
            named: self.named,
            database: self.database,
            catalog,
            catalogs,
            key,
            author: self.author,
            slot: ticker.slot(),
            lanes: self.lanes,
            ticker: ticker.waker(),
        };
        info!(rules = ready.rules.len(), "changes are captured");
        if links.send(Capturing::Ready(ready)).is_ok() {
            std::future::pending::<()>().await;
        }
    }

    /// The journal's key, once it is known that there is a journal.
    async fn key(&self) -> Result<Key, CaptureError> {
        let settings = self.control.borrow().clone();
        let client = settings.connect().await?;
        let there: bool =
            client.query_one("SELECT pg_catalog.to_regclass('pgcanon.migration') IS NOT NULL", &[]).await?.get(0);
        if !there {
            return Err(CaptureError::NotInitialised);
        }
        let found: i32 = client.query_one("SELECT coalesce(max(version), 0) FROM pgcanon.migration", &[]).await?.get(0);
        let needed = migrate::latest();
        if found != needed {
            return Err(CaptureError::Version { found, needed });
        }
        if let Some(key) = &self.file_key {
            return Ok(key.clone());
        }
        let secret: String =
            client.query_one("SELECT value FROM pgcanon.meta WHERE key = 'cluster_key'", &[]).await?.get(0);
        Ok(Key::from_secret(secret.as_bytes()))
    }

    /// Neither firing nor skipping is right for every trigger on the peer (§6).
    fn warn_of_triggers(&self, catalog: &crate::catalog::relation::Catalog) {
        for relation in catalog.relations.values().filter(|r| r.user_trigger) {
            if relation.rule.and_then(|rule| self.rules.get(rule)).is_some_and(|rule| rule.triggers.is_none()) {
                warn!(table = %relation.name, "the table has triggers: its rule must say triggers = \"fire\" or \"skip\"");
            }
        }
    }
}
