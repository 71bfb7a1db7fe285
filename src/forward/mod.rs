//! Forwarding (§6): one task per peer applies this node's ticks there, in order, exactly once, and begins again where the peer
//! says that it is.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod ahead;
mod attend;
mod command;
mod course;
mod drain;
mod early;
mod park;
mod prepare;
mod queue;
mod spill;
mod status;
mod store;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::types::PgLsn;

use crate::apply::ApplyError;
use crate::catalog::{ControlError, ControlSettings, Wanted, server_words};
use crate::config::{NodeName, Peer};
use crate::journal::ticker::State as Ticks;
use crate::journal::trim::Passed;
use crate::journal::{BadImage, DecodeError, EncodeError, Forgery, Key, ReadError, RenderError, TickId, Xid};
use crate::wire::stream::Liveness;
use crate::wire::tls::TlsError;

pub use command::{Remote, Wish};
pub use prepare::{Changes, Preparer, Unprepared};
pub use status::{Phase, Queued, Status};

/// After a lock was not to be had.
const YIELD: Duration = Duration::from_millis(20);

/// How often the ticker is told what nobody needs any more.
const TELL: Duration = Duration::from_millis(500);

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
    /// The node's own server.
    #[error("on this node: {}", server_words(.0))]
    Own(#[from] tokio_postgres::Error),
    #[error("on this node: {0}")]
    OwnConnect(ControlError),
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error("the journal holds what is no row: {0}")]
    Image(#[from] BadImage),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("the error queue holds what is no change: {0}")]
    Decode(#[from] DecodeError),
    #[error("the error queue holds no change under number {0}")]
    Queue(i64),
    #[error("the peer does not answer any more")]
    Frozen,
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

impl ForwardError {
    /// Whether the peer's tables have to be copied first: nothing that could wait for it would be of use.
    fn needs_copy(&self) -> bool {
        matches!(self, Self::Unsynced(_) | Self::TooOld(_) | Self::OtherLife(..))
    }

    /// Whether the trouble is on this node: the peer has nothing to do with it.
    fn is_own(&self) -> bool {
        !matches!(self, Self::Tls(_) | Self::Connect(_) | Self::Apply(_) | Self::Frozen) && !self.needs_copy()
    }
}

/// A row in the journal that nobody with the key wrote (§5).
fn alarm(xid: Xid, lsn: PgLsn, why: &Forgery) {
    tracing::error!(%xid, %lsn, %why, "a row in the journal that no proxy has written: it counts for nothing");
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

/// A running forwarder; it ends with this.
pub struct Forwarder {
    handle: Handle,
    task: JoinHandle<()>,
}

/// What others know of a forwarder.
#[derive(Clone, Debug)]
pub struct Handle {
    pub peer: NodeName,
    pub status: watch::Receiver<Status>,
    pub remote: Remote,
}

impl Forwarder {
    /// Starts it on the current runtime.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let (sender, status) = watch::channel(Status::default());
        let (commands, wishes) = mpsc::channel(8);
        let peer = options.peer.name.clone();
        let task = tokio::spawn(attend::run(options, sender, wishes));
        Self { handle: Handle { peer, status, remote: Remote(commands) }, task }
    }

    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tells the ticker what no peer needs any more, as long as it runs.
pub async fn tell_passed(peers: Arc<[Handle]>, passed: watch::Sender<Passed>) {
    loop {
        let all = peers.iter().map(|peer| peer.status.borrow().passed).min().map_or(Passed::All, Passed::UpTo);
        passed.send_replace(all);
        sleep(TELL).await;
    }
}
