//! The threads that carry sessions: each runs its sessions to their end on an event loop of its own.
//!
//! A session never moves between threads and its two directions are one task, so that a message costs no wake-up but
//! the kernel's own.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::net::{TcpStream, UnixStream};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error};

use crate::catalog::Control;
use crate::session::{self, Capturing, OwnUser, Phase, SCRATCH, SessionMetrics, Settings, Shared};
use crate::wire::negotiate::Accepted;
use crate::wire::stream::Source;

use super::listen::Incoming;

/// Accepted sockets that a worker has not taken up yet; past that the listeners wait.
const BACKLOG: usize = 256;

/// What a worker is started with.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) control: Option<Control>,
    pub(super) metrics: SessionMetrics,
    pub(super) own: OwnUser,
    pub(super) links: Option<watch::Receiver<Capturing>>,
}

/// One thread.
#[derive(Debug)]
pub(super) struct Worker {
    sockets: mpsc::Sender<(Incoming, u64)>,
    /// Sessions handed over and not ended.
    load: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

impl Worker {
    pub(super) fn start(number: usize, hands: Hands) -> io::Result<Self> {
        let (sockets, waiting) = mpsc::channel(BACKLOG);
        let load = Arc::new(AtomicUsize::new(0));
        let counted = load.clone();
        let thread = thread::Builder::new().name(format!("sessions-{number}")).spawn(move || {
            match runtime::Builder::new_current_thread().enable_all().build_local(runtime::LocalOptions::default()) {
                Ok(runtime) => runtime.block_on(run(waiting, counted, hands)),
                Err(e) => error!(error = %e, "cannot start a session thread"),
            }
        })?;
        Ok(Self { sockets, load, thread })
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Hands a socket over. Waits when the worker cannot keep up.
    pub(super) async fn give(&self, socket: Incoming, id: u64) {
        self.load.fetch_add(1, Ordering::Relaxed);
        if self.sockets.send((socket, id)).await.is_err() {
            self.load.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// No more sockets will come: the thread ends with its last session.
    pub(super) fn finish(self) -> thread::JoinHandle<()> {
        self.thread
    }
}

async fn run(mut sockets: mpsc::Receiver<(Incoming, u64)>, load: Arc<AtomicUsize>, hands: Hands) {
    let shared = Rc::new(Shared {
        settings: hands.settings,
        phase: hands.phase,
        control: hands.control,
        metrics: hands.metrics,
        scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
        own: hands.own,
        links: hands.links,
    });
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            next = sockets.recv() => match next {
                Some((incoming, id)) => {
                    let (shared, load) = (shared.clone(), load.clone());
                    sessions.spawn_local(async move {
                        match adopt(incoming) {
                            Ok((socket, source)) => session::serve(socket, source, id, &shared).await,
                            Err(e) => debug!(error = %e, "cannot take up a connection"),
                        }
                        load.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                None => break,
            },
            Some(_) = sessions.join_next() => {}
        }
    }
    while sessions.join_next().await.is_some() {}
}

/// Registers a socket with this thread's event loop.
fn adopt(incoming: Incoming) -> io::Result<(Accepted, Source)> {
    Ok(match incoming {
        Incoming::Tcp(socket, from) => (Accepted::Tcp(TcpStream::from_std(socket)?), Source::Tcp(from)),
        Incoming::Unix(socket, uid) => (Accepted::Unix(UnixStream::from_std(socket)?), Source::Unix { uid }),
    })
}
