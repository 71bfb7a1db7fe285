//! Forwarding (§6): one task per peer applies this node's ticks there, in order, exactly once, and begins again where the peer
//! says that it is.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod course;
mod status;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::apply::{Applier, ApplyError, Route};
use crate::catalog::{ControlError, ControlSettings, Wanted};
use crate::config::{NodeName, Peer};
use crate::journal::ticker::State as Ticks;
use crate::journal::trim::Passed;
use crate::journal::{Key, Progress, ReadError, Reader, TickId};
use crate::wire::stream::Liveness;
use crate::wire::tls::TlsError;

use course::Course;
pub use status::{Phase, Status};

/// Between attempts to reach the peer: the first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often it is asked what of the changes is durable, where nothing else is to do.
const FLUSHES: Duration = Duration::from_millis(500);

/// Why nothing is forwarded to a peer at the moment.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Connect(#[from] ControlError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(
        "the peer has nothing of this node, whose journal begins only with tick {0}: the tables must be copied first"
    )]
    Unsynced(TickId),
    #[error(
        "the peer has applied tick {0} of this node, which is not in the journal any more: the tables must be copied again"
    )]
    TooOld(TickId),
    #[error(
        "the peer has applied tick {0} of another life of this node (timeline {1}): what was lost with it has to be looked at"
    )]
    OtherLife(TickId, i32),
}

/// What a forwarder goes by.
#[derive(Clone)]
pub struct Options {
    /// This node.
    pub node: NodeName,
    pub peer: Peer,
    pub key: Key,
    /// The connection to this node's own server.
    pub control: watch::Receiver<Arc<ControlSettings>>,
    pub rules: watch::Receiver<Arc<Wanted>>,
    pub ticks: watch::Receiver<Ticks>,
    pub connect_timeout: Duration,
    pub liveness: Liveness,
}

/// A running forwarder; it ends with this handle.
pub struct Forwarder {
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
}

impl Forwarder {
    /// Starts it on the current runtime.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let (sender, status) = watch::channel(Status::default());
        Self { status, task: tokio::spawn(run(options, sender)) }
    }

    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

/// Tells the ticker what every peer has for good, as long as it runs.
pub async fn tell_passed(statuses: Vec<watch::Receiver<Status>>, passed: watch::Sender<Passed>) {
    loop {
        let durable = |status: &watch::Receiver<Status>| {
            // Of the tick itself there may be more to come.
            status.borrow().durable.map_or(TickId(0), |at| TickId(at.tick.0.saturating_sub(1)))
        };
        let all = statuses.iter().map(durable).min().map_or(Passed::All, Passed::UpTo);
        passed.send_replace(all);
        sleep(FLUSHES).await;
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for a tick; for ever where the proxy is ending.
async fn reached(ticks: &mut watch::Receiver<Ticks>, next: TickId) {
    if ticks.wait_for(|ticks| ticks.latest.is_some_and(|latest| latest >= next)).await.is_err() {
        std::future::pending().await
    }
}

async fn run(mut options: Options, status: watch::Sender<Status>) {
    let mut pause = PAUSES.0;
    loop {
        let began = Instant::now();
        let Err(error) = session(&mut options, &status).await else { continue };
        if began.elapsed() > PAUSES.1 {
            pause = PAUSES.0;
        }
        let words = error.to_string();
        let known = status.borrow().trouble.as_deref() == Some(words.as_str());
        if !known {
            tracing::warn!(peer = %options.peer.name, error = %words, "nothing is forwarded");
        }
        status.send_modify(|status| status.fail(&error, words));
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSES.1);
    }
}

/// One connection's life; `Ok` when the rules have changed.
async fn session(options: &mut Options, status: &watch::Sender<Status>) -> Result<(), ForwardError> {
    let peer = ControlSettings::load(&options.peer.connect, options.connect_timeout, options.liveness)?;
    let rules = options.rules.borrow_and_update().clone();
    let route = Route::new(&rules.rules, &options.peer.name);
    let stream = peer.log_in(&format!("pgcanon:{}", options.node)).await?;
    let applier = Applier::open(stream, &options.node, route).await?;
    let control = options.control.borrow().clone();
    let reader = Reader::new(control.connect().await?, options.key.clone());
    let mut course = Course::begin(applier, reader).await?;
    status.send_modify(|status| status.reach(course.progress()));
    tracing::info!(peer = %options.peer.name, "forwarding");
    loop {
        let next = course.next_tick();
        tokio::select! {
            () = reached(&mut options.ticks, next) => {}
            Ok(()) = options.rules.changed() => return Ok(()),
            () = sleep(FLUSHES) => {
                let durable = course.durable().await?;
                status.send_modify(|status| status.durable = durable);
                continue;
            }
        }
        let latest = options.ticks.borrow().latest.unwrap_or(next);
        course.run_to(latest, |progress: Option<Progress>| status.send_modify(|s| s.reach(progress))).await?;
    }
}
