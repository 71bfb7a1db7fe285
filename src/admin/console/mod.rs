//! The SQL console: `psql` and scripts ask the proxy itself, in PostgreSQL's protocol, and tell it what to do.
//!
//! It answers from what it is handed and keeps nothing. Who is let in, and what for, is [`access`]'s to say.

mod access;
mod args;
mod attendant;
mod command;
mod moment;
mod node;
mod peer;
mod queue;
mod select;
mod view;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pgwire::api::portal::Format;
use pgwire::api::results::FieldFormat;
use pgwire::error::ErrorInfo;
use pgwire::tokio::{process_socket, process_socket_unix};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::admin::peers::Peers;
use crate::capture::lanes::Lanes;
use crate::catalog::{Control, ControlSettings};
use crate::config::{Changes, Config};
use crate::session::SessionMetrics;

use access::Door;
use attendant::Handlers;

/// Consoles open at a time; more wait to be accepted.
const CONNECTIONS: usize = 32;

/// How long accepting pauses that fails, for want of file descriptors say.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks for a reload; the answer is what changed, or why everything stays as it was.
pub type Reload = oneshot::Sender<Result<Changes, String>>;

/// What the console tells about, and whom it tells to act.
pub struct Console {
    pub lanes: Arc<Lanes>,
    /// The configuration, and that of the start, which is in force where a key needs a restart.
    pub config: watch::Receiver<Arc<Config>>,
    pub started: Arc<Config>,
    pub sessions: SessionMetrics,
    pub peers: Peers,
    /// The node's own database, for what stands there.
    pub control: Option<Control>,
    pub node: Option<watch::Receiver<Arc<ControlSettings>>>,
    pub reload: mpsc::Sender<Reload>,
    /// The user that this process runs as.
    pub own_uid: u32,
    /// Makes unknown users look like known ones.
    pub secret: [u8; 32],
}

/// Where the console listens.
pub enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

// === impl Listening ===

impl Listening {
    async fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(listener) => Socket::Tcp(listener.accept().await?.0),
            Self::Unix(listener) => Socket::Unix(listener.accept().await?.0),
        })
    }
}

/// Serves until the future is dropped, which ends the open consoles, too.
pub async fn serve(listener: Listening, console: Arc<Console>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTIONS => match accepted {
                Ok(socket) => drop(open.spawn(attend(socket, console.clone()))),
                Err(e) => {
                    warn!(error = %e, "cannot accept a connection for the console");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(ended) = open.join_next() => {
                // Bytes that are no messages can be the end of one console, and of nothing else.
                if let Err(e) = ended {
                    warn!(error = %e, "a console ended unexpectedly");
                }
            }
        }
    }
}

async fn attend(socket: Socket, console: Arc<Console>) {
    let door = match &socket {
        Socket::Tcp(_) => Door::Tcp,
        Socket::Unix(socket) => Door::Unix(socket.peer_cred().ok().map(|cred| cred.uid())),
    };
    let handlers = Handlers::new(door, console);
    let ended = match socket {
        Socket::Tcp(socket) => process_socket(socket, None, handlers).await,
        Socket::Unix(socket) => process_socket_unix(socket, handlers).await,
    };
    if let Err(e) = ended {
        debug!(?door, error = %e, "console lost");
    }
}

/// An error as the client reads it.
fn refusal(code: &str, message: &str, hint: Option<String>) -> Box<ErrorInfo> {
    let mut error = ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message.to_owned());
    error.hint = hint;
    Box::new(error)
}

/// A point in time, as the console writes it.
#[must_use]
pub fn moment(time: std::time::SystemTime) -> String {
    moment::Moment(time).to_string()
}

/// How a column is to look.
fn field_format(formats: &Format, index: usize) -> FieldFormat {
    match formats {
        Format::UnifiedText => FieldFormat::Text,
        Format::UnifiedBinary => FieldFormat::Binary,
        // Not `format_for`, which panics where the client named too few.
        Format::Individual(codes) => codes.get(index).map_or(FieldFormat::Text, |code| FieldFormat::from(*code)),
    }
}
