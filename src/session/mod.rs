//! One client's life: from the accepted socket to the last byte.

mod engine;
mod guard;
mod links;
mod login;
mod lost;
pub mod machine;
mod metrics;
mod relay;
mod settings;
mod takeover;
mod talk;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::catalog::Control;
use crate::wire::error::{Report, sqlstate};
use crate::wire::inbox::Inbox;
use crate::wire::message::{front, put_frame};
use crate::wire::negotiate::{Accepted, OpenError, Opened, Request, open};
use crate::wire::startup::{self, Params};
use crate::wire::stream::{Source, Stream};

use engine::Engine;
use login::{Leg, LoggedIn, Login, Refusal};
use machine::Machine;
use relay::{End, Relay};
use talk::Talk;

pub use guard::OwnUser;
pub use links::{Capturing, Links};
pub use metrics::SessionMetrics;
pub use settings::{Settings, listens_beyond_this_machine, liveness};

/// Size of the buffer that a worker's sessions share for reading.
pub const SCRATCH: usize = 64 << 10;

/// How long client and server get to take our last words.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the process wants of its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Running,
    /// End when idle.
    Draining,
    /// End now.
    Ending,
}

/// What all sessions of a worker share.
pub struct Shared {
    pub settings: watch::Receiver<Arc<Settings>>,
    pub phase: watch::Receiver<Phase>,
    pub control: Option<Control>,
    pub metrics: SessionMetrics,
    pub scratch: RefCell<Box<[u8]>>,
    pub own: OwnUser,
    /// What capturing sessions need; none where no table has a rule.
    pub links: Option<watch::Receiver<Capturing>>,
}

/// Serves one connection to its end.
pub async fn serve(socket: Accepted, source: Source, id: u64, shared: &Shared) {
    let settings = shared.settings.borrow().clone();
    let span = info_span!("session", id, client = %source);
    let begun = async {
        let begin = begin(socket, &source, &settings, shared);
        let begun = tokio::select! {
            begun = timeout(settings.login_timeout, begin) => begun,
            () = reached(Phase::Ending, shared) => return None,
        };
        begun.unwrap_or_else(|_| {
            shared.metrics.refuse("timeout");
            debug!("login took too long");
            None
        })
    };
    // Boxed, for it is large, and over when the session's long life begins.
    let Some(mut session) = Box::pin(begun.instrument(span.clone())).await else { return };
    drop(settings);
    let end = session.relay_on(shared).await;
    session.end(end, shared).instrument(span).await;
}

/// Waits until the process is as far as this.
async fn reached(phase: Phase, shared: &Shared) {
    // A process that no longer holds the other end is ending.
    let _ = shared.phase.clone().wait_for(|now| *now >= phase).await;
}

/// A session that the server has let in.
struct Session {
    relay: Relay,
    /// Counts as open as long as it lives.
    _open: Open,
}

/// One place among the open sessions.
struct Open(SessionMetrics);

impl Open {
    /// Takes a place, if there is one within the limit.
    fn take(metrics: &SessionMetrics, limit: Option<usize>) -> Option<Self> {
        let before = metrics.open.inc();
        let open = Self(metrics.clone());
        let full = limit.is_some_and(|limit| usize::try_from(before).is_ok_and(|before| before >= limit));
        (!full).then_some(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

/// Takes a connection as far as AuthenticationOk; `None` when it has ended before.
async fn begin(socket: Accepted, source: &Source, settings: &Settings, shared: &Shared) -> Option<Session> {
    if let Accepted::Tcp(socket) = &socket
        && let Err(e) = settings.liveness.apply(socket)
    {
        debug!(error = %e, "cannot set socket options");
    }
    let opened = tokio::select! {
        opened = open(socket, settings.tls.as_ref()) => opened,
        // It has asked for nothing yet: draining would wait for it in vain.
        () = reached(Phase::Draining, shared) => return None,
    };
    match opened {
        Ok(Opened { stream, request: Request::Session { packet, params }, rest }) => {
            let client = Leg { stream, inbox: Inbox::new(rest) };
            log_in(client, &packet, &params, source, settings, shared).await
        }
        Ok(Opened { mut stream, request: Request::Cancel { packet }, .. }) => {
            cancel(&packet, settings, shared).await;
            // The client waits for this: the server has the request now.
            let _ = stream.shutdown().await;
            None
        }
        Err(OpenError::Refused { mut stream, fatal }) => {
            shared.metrics.refuse("protocol");
            info!(fatal = fatal.to_string(), "refused");
            farewell(&mut stream, &fatal).await;
            None
        }
        Err(e) => {
            // A client that only knocks (a health check) is no refusal.
            if matches!(&e, OpenError::Wire(_)) {
                debug!(error = %e, "no session");
            } else {
                shared.metrics.refuse("protocol");
                info!(error = %e, "no session");
            }
            None
        }
    }
}

async fn log_in(
    mut client: Leg,
    packet: &[u8],
    params: &Params,
    source: &Source,
    settings: &Settings,
    shared: &Shared,
) -> Option<Session> {
    debug!(user = params.user, database = params.database(), application = params.application_name, "startup");
    let refuse = async |client: &mut Leg, reason, fatal: Report| {
        shared.metrics.refuse(reason);
        // As a string it is quoted: names that clients made up cannot forge a line of the log.
        let told = fatal.to_string();
        warn!(user = params.user, database = params.database(), reason, fatal = told, "refused");
        farewell(&mut client.stream, &fatal).await;
    };
    let Some(open) = Open::take(&shared.metrics, settings.max_connections.map(usize::from)) else {
        let fatal = Report::fatal(sqlstate::TOO_MANY_CONNECTIONS, "sorry, too many clients already");
        refuse(&mut client, "too_many", fatal).await;
        return None;
    };
    let mut links = None;
    if let Some(capturing) = &shared.links {
        links = Capturing::ready(capturing.clone()).await;
        if links.is_none() {
            let fatal = Report::fatal(sqlstate::CANNOT_CONNECT_NOW, "the proxy cannot capture changes yet")
                .detail("It has not been able to read the journal's key and the catalog; its log says why.");
            refuse(&mut client, "capture", fatal).await;
            return None;
        }
    }
    let tls = client.stream.is_tls();
    if settings.require_tls && !tls && matches!(source, Source::Tcp(_)) {
        let fatal = Report::fatal(sqlstate::INVALID_AUTHORIZATION, "the proxy accepts only TLS connections")
            .hint("Connect with sslmode=require or stricter.");
        refuse(&mut client, "tls", fatal).await;
        return None;
    }
    let trusted = match guard::admit(settings, source, tls, params) {
        Ok(trusted) => trusted,
        Err(fatal) => {
            refuse(&mut client, "allow", fatal).await;
            return None;
        }
    };
    let control = shared.control.as_ref();
    let login = Login { settings, control, source, params, trusted, own: &shared.own, client };
    match login.run(packet).await {
        Ok(LoggedIn { client, server, ok }) => {
            shared.metrics.logged_in.inc();
            let talk = match links {
                _ if params.replication => Talk::Pipe,
                Some(links) if params.database() == &*links.database => {
                    Talk::Captured(Box::new(Engine::new(Rc::new(links))))
                }
                _ => Talk::watched(),
            };
            let mut from_server = ok.bytes().to_vec();
            from_server.extend(server.inbox.into_rest());
            let legs = (client.stream, server.stream);
            match Relay::new(legs, talk, client.inbox.into_rest(), from_server) {
                Ok(relay) => Some(Session { relay, _open: open }),
                Err(bad) => {
                    shared.metrics.unfollowed.inc();
                    warn!(%bad, "the server broke the protocol during login");
                    None
                }
            }
        }
        Err(Refusal::Own { reason, mut client, fatal }) => {
            refuse(&mut client, reason, fatal).await;
            None
        }
        Err(Refusal::Server(words)) => {
            shared.metrics.refuse("server");
            info!(user = params.user, database = params.database(), error = words, "refused by the server");
            None
        }
        Err(Refusal::ClientGone(e)) => {
            debug!(error = %e, "client left during login");
            None
        }
    }
}

async fn cancel(packet: &[u8], settings: &Settings, shared: &Shared) {
    match settings.upstream.cancel(packet).await {
        Ok(()) => shared.metrics.cancels.inc(),
        Err(e) => {
            warn!(error = %e, "cannot forward a cancel request");
            0
        }
    };
}

/// Says why and closes; a client that does not read it in time goes without.
async fn farewell(client: &mut Stream, fatal: &Report) {
    let _ = timeout(FAREWELL, async {
        client.write_all(&fatal.frame()).await?;
        client.shutdown().await
    })
    .await;
}

impl Session {
    /// Moves the session's bytes until it ends; `None` when the process ends it.
    async fn relay_on(&mut self, shared: &Shared) -> Option<End> {
        let mut phase = shared.phase.clone();
        loop {
            let now = *phase.borrow_and_update();
            match now {
                Phase::Running => {}
                Phase::Draining => self.relay.drain(),
                Phase::Ending => return None,
            }
            let mut changed = pin!(phase.changed());
            let relay = &mut self.relay;
            let step = poll_fn(|cx| {
                let end = relay.poll(cx, &mut shared.scratch.borrow_mut());
                shared.metrics.count(relay.take_moved());
                match end {
                    Poll::Ready(end) => Poll::Ready(Some(end)),
                    // A process that no longer holds the other end is ending.
                    Poll::Pending => changed.as_mut().poll(cx).map(|alive| alive.err().map(|_| End::Drained)),
                }
            });
            if let Some(end) = step.await {
                return Some(end);
            }
        }
    }

    async fn end(&mut self, end: Option<End>, shared: &Shared) {
        let broken = matches!(end, Some(End::Broken { .. }));
        if broken || self.relay.talk.machine().is_some_and(Machine::is_lost) {
            shared.metrics.unfollowed.inc();
        }
        let fatal = match end {
            Some(End::Server) => {
                debug!("server closed");
                if let (Talk::Captured(engine), Some(control)) = (&self.relay.talk, &shared.control)
                    && self.relay.client_between_messages()
                    && let Some(words) = lost::truth(engine, control).await
                {
                    let _ = timeout(FAREWELL, self.relay.client.write_all(&words)).await;
                }
                let _ = timeout(FAREWELL, self.relay.client.shutdown()).await;
                return;
            }
            Some(End::Client(e)) => {
                debug!(error = %e, "client gone");
                return;
            }
            Some(End::Broken { bad, clean }) => {
                warn!(%bad, "the server broke the protocol");
                if !clean {
                    return;
                }
                Report::fatal(sqlstate::PROTOCOL_VIOLATION, format!("the server broke the protocol: {bad}"))
            }
            Some(End::Drained) | None => {
                // Else the server would go on with what nobody waits for, and hold its locks until it is done.
                if let Some(machine) = self.relay.talk.machine().filter(|m| m.awaits_reply() && !m.key().is_empty()) {
                    let settings = shared.settings.borrow().clone();
                    let request = startup::cancel_request(machine.key());
                    let _ = timeout(FAREWELL, cancel(&request, &settings, shared)).await;
                }
                if !self.relay.client_between_messages() {
                    return;
                }
                Report::fatal(sqlstate::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
            }
        };
        farewell(&mut self.relay.client, &fatal).await;
        if self.relay.server_between_messages() {
            let _ = timeout(FAREWELL, terminate(&mut self.relay.server)).await;
        }
    }
}

async fn terminate(server: &mut Stream) -> io::Result<()> {
    let mut frame = Vec::new();
    put_frame(&mut frame, front::TERMINATE, &[]);
    server.write_all(&frame).await?;
    server.shutdown().await
}
