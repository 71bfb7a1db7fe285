//! What capturing takes besides the sessions: the journal's key, the catalog kept fresh, the ticker.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::admin::peers::Forwarding;
use crate::capture::lanes::Lanes;
use crate::catalog::load::Named;
use crate::catalog::relation::Catalog;
use crate::catalog::{Catalogs, ControlError, ControlSettings, Pace, Wanted};
use crate::config::{Config, NodeName, Peer};
use crate::forward::{self, Forwarder, Handle, Preparer};
use crate::journal::aftermath::{Aftermath, AftermathOptions};
use crate::journal::key::KeyError;
use crate::journal::ticker::{Ticker, TickerOptions};
use crate::journal::trim::{Passed, TrimOptions};
use crate::journal::{AccessError, Author, Key, NoRandom, TickId, access};
use crate::session::{Capturing, Links, liveness};
use crate::wire::stream::Liveness;

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
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Keeps what capture needs alive.
pub(super) struct Capture {
    pub(super) links: watch::Receiver<Capturing>,
    /// Other rules than at the start.
    pub(super) wanted: watch::Sender<Arc<Wanted>>,
    /// Who forwards; nobody until everything is ready.
    pub(super) forwarding: watch::Receiver<Forwarding>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known before the server is asked.
struct Plan {
    wanted: watch::Receiver<Arc<Wanted>>,
    database: Arc<str>,
    file_key: Option<Key>,
    author: Arc<Author>,
    retain: Duration,
    node: NodeName,
    peers: Vec<Peer>,
    connect_timeout: Duration,
    liveness: Liveness,
    lanes: Arc<Lanes>,
    control: watch::Receiver<Arc<ControlSettings>>,
    forwarding: watch::Sender<Forwarding>,
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
    let (wanted, wish) = watch::channel(wanted(config));
    let (forwarding, forwarders) = watch::channel(Forwarding::default());
    let plan = Plan {
        wanted: wish,
        database: database.into(),
        file_key: config.node.cluster_key_file.as_deref().map(Key::load).transpose()?,
        author: Arc::new(Author::new()?),
        retain: config.node.retain,
        node: config.node.name.clone(),
        peers: config.peers.clone(),
        connect_timeout: config.node.connect_timeout,
        liveness: liveness(&config.node),
        lanes,
        control,
        forwarding,
    };
    let (sender, links) = watch::channel(Capturing::Waiting);
    let task = tokio::spawn(plan.run(sender));
    Ok(Some(Capture { links, wanted, forwarding: forwarders, task }))
}

/// What of the catalog the configuration asks for.
pub(super) fn wanted(config: &Config) -> Arc<Wanted> {
    Arc::new(Wanted { rules: config.tables.clone().into(), named: Named::from(config) })
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
                            CaptureError::Access(e) if e.needs_init() => error!("{words}"),
                            _ => warn!(error = words, "sessions wait until changes can be captured"),
                        }
                        told = words;
                    }
                }
            }
            sleep(RETRY).await;
        };
        let catalogs = Catalogs::start(self.control.clone(), self.wanted.clone(), Pace::default());
        let Some(catalog) = catalogs.get().await else { return };
        Self::warn_of_triggers(&catalog);
        // Until a peer has said how far it is, it may need everything.
        let first = if self.peers.is_empty() { Passed::All } else { Passed::UpTo(TickId(0)) };
        let (all_passed, passed) = watch::channel(first);
        let ticker = Ticker::start(self.control.clone(), TickerOptions { trim: TrimOptions::new(self.retain), passed });
        let _aftermath = Aftermath::start(AftermathOptions {
            settings: self.control.clone(),
            wanted: self.wanted.clone(),
            key: key.clone(),
            author: self.author.clone(),
            slot: ticker.slot(),
            ticker: ticker.waker(),
            retain: self.retain,
            peers: self.peers.iter().map(|peer| peer.name.to_string()).collect(),
        });
        let forwarders: Vec<Forwarder> =
            self.peers.iter().map(|peer| Forwarder::start(self.options(peer, &key, &ticker))).collect();
        let handles: Arc<[Handle]> = forwarders.iter().map(Forwarder::handle).collect();
        self.forwarding.send_replace(Forwarding { peers: handles.clone(), ticks: Some(ticker.state()) });
        let preparer = Preparer {
            node: self.node.clone(),
            peers: self.peers.clone(),
            handles: handles.clone(),
            key: key.clone(),
            rules: self.wanted.clone(),
            ticks: ticker.state(),
            ticker: ticker.waker(),
            connect_timeout: self.connect_timeout,
            liveness: self.liveness,
        };
        let ready = Links {
            wanted: self.wanted.clone(),
            database: self.database.clone(),
            catalogs,
            key,
            author: self.author.clone(),
            slot: ticker.slot(),
            lanes: self.lanes.clone(),
            ticker: ticker.waker(),
            ticks: ticker.state(),
            forwarders: handles.clone(),
            preparer: Arc::new(preparer),
        };
        info!(rules = catalog.rules.len(), "changes are captured");
        if links.send(Capturing::Ready(ready)).is_ok() {
            forward::tell_passed(handles, all_passed).await;
        }
    }

    fn options(&self, peer: &Peer, key: &Key, ticker: &Ticker) -> forward::Options {
        forward::Options {
            node: self.node.clone(),
            peer: peer.clone(),
            key: key.clone(),
            control: self.control.clone(),
            rules: self.wanted.clone(),
            ticks: ticker.state(),
            connect_timeout: self.connect_timeout,
            liveness: self.liveness,
        }
    }

    async fn key(&self) -> Result<Key, CaptureError> {
        let settings = self.control.borrow().clone();
        let client = settings.connect().await?;
        Ok(access::key(&client, self.file_key.as_ref()).await?)
    }

    /// Those that a server has which came after the proxy.
    fn warn_of_triggers(catalog: &Catalog) {
        if let Err(undecided) = catalog.triggers_are_decided() {
            warn!("writes are refused: {undecided}");
        }
    }
}
