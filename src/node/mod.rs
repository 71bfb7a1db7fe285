//! The running process: from the checked configuration to the last session's end.

mod capture;
mod listen;
mod ready;
mod reload;
mod worker;

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use ring::rand::{SecureRandom, SystemRandom};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use crate::admin::conflicts::Conflicts;
use crate::admin::console::{self, Console, Listening, Reload};
use crate::admin::http::{self, Looks};
use crate::admin::peers::Peers;
use crate::capture::lanes::Lanes;
use crate::catalog::load::{Named, load};
use crate::catalog::relation::UndecidedTriggers;
use crate::catalog::times::{NoTimes, keeps_times};
use crate::catalog::{Control, ControlSettings};
use crate::config::{Config, ConfigErrors};
use crate::session::{OwnUser, Phase, SessionMetrics, Settings, listens_beyond_this_machine};
use crate::wire::tls::TlsError;

pub use capture::CaptureError;
pub use listen::ListenError;
use listen::Listener;
use ready::Ready;
use reload::Live;
pub use reload::LogFilter;
use worker::{Hands, Worker};

/// The node does not start. All of these are for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot listen on {address} for metrics: {source} (node.metrics)")]
    Metrics { address: std::net::SocketAddr, source: io::Error },
    #[error("cannot listen on {place} for the console: {source} (node.admin)")]
    Console { place: String, source: io::Error },
    #[error(
        "refusing to listen beyond this machine: the server lets in anybody who comes from where the proxy is, so \
         everybody who reached the proxy would be let in. Let pg_hba.conf ask for a password (scram-sha-256) where it \
         says trust, or listen on 127.0.0.1 and Unix sockets only, or vouch for clients with trust = true in an [[allow]] rule"
    )]
    OpenServer,
    #[error(transparent)]
    Triggers(#[from] UndecidedTriggers),
    #[error(transparent)]
    Times(#[from] NoTimes),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// How long a listener pauses that cannot accept, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that nobody can guess.
fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(bytes)
}

/// Runs the node until it is told to end and its sessions have ended.
///
/// # Errors
/// Only before it is ready.
pub async fn run(path: PathBuf, config: Config, log: LogFilter) -> Result<(), StartError> {
    let mut signals = Signals::new()?;
    let settings = Arc::new(Settings::load(&config)?);
    raise_file_limit();
    refuse_open_server(&config, &settings).await?;
    refuse_unready_tables(&config).await?;

    let mut listeners = Vec::new();
    for listen in &config.node.listen {
        listeners.extend(Listener::bind(listen).await?);
    }
    let metrics_listener = match config.node.metrics {
        Some(address) => {
            Some(TcpListener::bind(address).await.map_err(|source| StartError::Metrics { address, source })?)
        }
        None => None,
    };
    let console_listeners = match config.node.admin {
        Some(address) => Some(listen::console(address, &config.node.listen).await?),
        None => None,
    };

    let (phase, phase_seen) = watch::channel(Phase::Running);
    let (settings, settings_seen) = watch::channel(settings);
    let (control_settings, control) = match control_settings(&config)? {
        Some(new) => {
            let (sender, seen) = watch::channel(Arc::new(new));
            (Some(sender), Some(Control::start(seen)))
        }
        None => (None, None),
    };
    let lanes = Arc::new(Lanes::default());
    let capture = capture::start(&config, control_settings.as_ref().map(watch::Sender::subscribe), lanes.clone())?;

    let mut registry = Registry::with_prefix("pgcanon");
    let metrics = SessionMetrics::register(&mut registry);
    let hands = Hands {
        settings: settings_seen.clone(),
        phase: phase_seen.clone(),
        control: control.clone(),
        metrics: metrics.clone(),
        own: OwnUser::find(),
        links: capture.as_ref().map(|capture| capture.links.clone()),
    };
    let workers = (1..=threads(&config)).map(|n| Worker::start(n, hands.clone())).collect::<io::Result<Vec<_>>>()?;

    let (config_now, config_seen) = watch::channel(Arc::new(config.clone()));
    let (reload, reloads) = mpsc::channel(1);
    let mut helpers = JoinSet::new();
    let mut console_file = None;
    let forwarding = capture.as_ref().map(|capture| capture.forwarding.clone());
    let peers = Peers::new(forwarding, config_seen.clone(), control.clone());
    let conflicts = Conflicts::new(control.clone().filter(|_| peers.is_capturing()));
    registry.register_collector(peers.metrics());
    registry.register_collector(conflicts.metrics());
    if let Some((tcp, unix)) = console_listeners {
        let console = Arc::new(Console {
            lanes,
            config: config_seen,
            started: Arc::new(config.clone()),
            sessions: metrics.clone(),
            peers: peers.clone(),
            control: control.clone(),
            node: control_settings.as_ref().map(watch::Sender::subscribe),
            reload,
            own_uid: rustix::process::geteuid().as_raw(),
            secret: random()?,
        });
        if let Some((listener, file)) = unix {
            info!(address = %file.path().display(), "the console has a Unix socket, too");
            helpers.spawn(console::serve(Listening::Unix(listener), console.clone()));
            console_file = Some(file);
        }
        info!(address = %tcp.local_addr()?, "serving the console");
        helpers.spawn(console::serve(Listening::Tcp(tcp), console));
    }
    let capturing = capture.as_ref().map(|capture| capture.links.clone());
    let ready = Arc::new(Ready::new(settings_seen, phase_seen, control, capturing));
    if let Some(listener) = metrics_listener {
        info!(address = %listener.local_addr()?, "serving /metrics, /healthz and /readyz");
        helpers.spawn(http::serve(listener, Arc::new(registry), ready.clone(), Looks { peers, conflicts }));
    }
    helpers.spawn(ready::announce_server(ready));

    for listener in &listeners {
        info!(address = listener.address(), "listening");
    }
    notify(&[NotifyState::Ready]);
    info!(node = %config.node.name, version = env!("CARGO_PKG_VERSION"), "ready");

    let wanted = capture.as_ref().map(|capture| capture.wanted.clone());
    let mut live = Live { path, started: config, config: config_now, settings, control: control_settings, wanted, log };
    let workers = accept_until_told(listeners, workers, &mut signals, reloads, &mut live).await;
    notify(&[NotifyState::Stopping]);
    let patience = live.config.borrow().node.drain_timeout;
    drain(workers, &mut signals, &phase, &metrics, patience).await;
    helpers.shutdown().await;
    drop((capture, console_file));
    info!("stopped");
    Ok(())
}

fn control_settings(config: &Config) -> Result<Option<ControlSettings>, TlsError> {
    let liveness = crate::session::liveness(&config.node);
    config.node.control.as_ref().map(|c| ControlSettings::load(c, config.node.connect_timeout, liveness)).transpose()
}

/// The node's threads for sessions: one is the fastest as long as it keeps up, since the server needs the others.
fn threads(config: &Config) -> usize {
    let half = std::thread::available_parallelism().map_or(1, |n| n.get() / 2);
    config.node.threads.map_or(half.max(1), NonZeroUsize::get)
}

/// Every session takes two file descriptors; the usual soft limit of 1024 is for programs that use `select`.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        warn!(error = %e, "cannot raise the limit of open files");
    }
}

/// To the server all clients come from the proxy: a `trust` line for it would open the database to the world.
async fn refuse_open_server(config: &Config, settings: &Settings) -> Result<(), StartError> {
    if !listens_beyond_this_machine(config) || config.allow.iter().any(|rule| rule.trust) {
        return Ok(());
    }
    match settings.server_is_open("postgres").await {
        Ok(true) => Err(StartError::OpenServer),
        Ok(false) => Ok(()),
        // Each session is looked at again.
        Err(e) => {
            warn!(error = %e, "cannot find out whether the server asks for proof of identity");
            Ok(())
        }
    }
}

/// What rules ask for and the server does not have: all writes to their tables would be refused, or settled otherwise than the
/// rules say.
async fn refuse_unready_tables(config: &Config) -> Result<(), StartError> {
    let Some(control) = control_settings(config)?.filter(|_| !config.tables.is_empty()) else { return Ok(()) };
    let Ok(client) = control.connect().await else {
        // Until the server is there nobody can write.
        return Ok(());
    };
    match keeps_times(&client, &config.tables).await {
        Ok(keeps) => keeps?,
        Err(e) => warn!(error = %e, "cannot find out whether the server keeps the times of commits"),
    }
    match load(&client, &config.tables, &Named::from(config)).await {
        Ok(catalog) => Ok(catalog.triggers_are_decided()?),
        Err(e) => {
            warn!(error = %e, "cannot find out which of the tables have triggers");
            Ok(())
        }
    }
}

/// The signals that a node listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Hands clients to the workers, and reloads, until the first signal to end. The listeners are closed then.
async fn accept_until_told(
    listeners: Vec<Listener>,
    workers: Vec<Worker>,
    signals: &mut Signals,
    mut reloads: mpsc::Receiver<Reload>,
    live: &mut Live,
) -> Vec<Worker> {
    let workers = Arc::new(workers);
    let ids = Arc::new(std::sync::atomic::AtomicU64::new(1));
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        let (workers, ids) = (workers.clone(), ids.clone());
        acceptors.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok(socket) => {
                        let id = ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if let Some(worker) = workers.iter().min_by_key(|w| w.load()) {
                            worker.give(socket, id).await;
                        }
                    }
                    Err(e) => {
                        error!(error = %e, address = listener.address(), "cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
    }
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            // Who sent the signal reads the log.
            _ = signals.hangup.recv() => drop(live.reload()),
            Some(answer) = reloads.recv() => {
                // A console that has gone away needs no answer.
                let _ = answer.send(live.reload().map_err(|e| e.to_string()));
            }
        }
    }
    acceptors.shutdown().await;
    Arc::into_inner(workers).unwrap_or_default()
}

/// Lets sessions finish: the idle ones end at once, the others when they get idle, all of them at the deadline or the
/// second signal.
async fn drain(
    workers: Vec<Worker>,
    signals: &mut Signals,
    phase: &watch::Sender<Phase>,
    metrics: &SessionMetrics,
    patience: Duration,
) {
    info!(sessions = metrics.open_sessions(), ?patience, "draining: send SIGTERM again to end all sessions now");
    phase.send_replace(Phase::Draining);
    let threads: Vec<_> = workers.into_iter().map(Worker::finish).collect();
    let mut over = tokio::task::spawn_blocking(move || {
        threads.into_iter().for_each(|thread| {
            if thread.join().is_err() {
                error!("a session thread panicked");
            }
        });
    });
    let deadline = Instant::now() + patience;
    tokio::select! {
        _ = &mut over => return,
        () = sleep_until(deadline) => info!(sessions = metrics.open_sessions(), "the time for draining is over"),
        () = signals.end() => info!(sessions = metrics.open_sessions(), "told again to end"),
    }
    phase.send_replace(Phase::Ending);
    let _ = over.await;
}

/// Tells the service manager; without one there is nobody to tell.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        warn!(error = %e, "cannot notify the service manager");
    }
}
