//! What the proxy makes of a session's bytes: nothing, a record of what they mean, or captured changes.

use std::task::{Context, Poll};

use tracing::{Span, debug, warn};

use crate::session::engine::Engine;
use crate::session::machine::{Machine, Reply};
use crate::wire::frame::{BadFrame, Scanner};

/// One session's conversation.
pub(crate) enum Talk {
    /// A replication connection: an opaque pipe.
    Pipe,
    /// Followed, never changed.
    Watched(Box<Watched>),
    /// Its writes to replicated tables are captured.
    Captured(Box<Engine>),
}

pub(crate) struct Watched {
    machine: Machine,
    client: Scanner,
    server: Scanner,
}

impl Talk {
    pub(crate) fn watched() -> Self {
        let (client, server) = (Scanner::default(), Scanner::default());
        Self::Watched(Box::new(Watched { machine: Machine::after_login(), client, server }))
    }

    pub(crate) fn machine(&self) -> Option<&Machine> {
        match self {
            Self::Pipe => None,
            Self::Watched(watched) => Some(&watched.machine),
            Self::Captured(engine) => Some(engine.machine()),
        }
    }

    /// Takes what the client sent; `true` if it all goes to the server as it is.
    ///
    /// A client's broken frame is forwarded like any other byte: the server says what is wrong with it, and ends the session.
    pub(crate) fn on_client(&mut self, chunk: &[u8], span: &Span) -> bool {
        match self {
            Self::Pipe => true,
            Self::Watched(watched) => {
                watched.on_client(chunk, span);
                true
            }
            Self::Captured(engine) => engine.on_client(chunk),
        }
    }

    /// Takes what the server sent; `true` if it all goes to the client as it is.
    pub(crate) fn on_server(&mut self, chunk: &[u8], span: &Span) -> Result<bool, BadFrame> {
        match self {
            Self::Pipe => Ok(true),
            Self::Watched(watched) => watched.on_server(chunk, span).map(|()| true),
            Self::Captured(engine) => span.in_scope(|| engine.on_server(chunk)),
        }
    }

    /// Whether the client has to wait for others than the server: nothing is to be moved meanwhile.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self, Self::Captured(engine) if engine.is_held())
    }

    /// Ready when it has not.
    pub(crate) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BadFrame>> {
        match self {
            Self::Captured(engine) => engine.poll_held(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// What is to be written to the server besides.
    pub(crate) fn take_up(&mut self) -> Vec<u8> {
        match self {
            Self::Captured(engine) => engine.take_up(),
            _ => Vec::new(),
        }
    }

    /// What is to be written to the client besides.
    pub(crate) fn take_down(&mut self) -> Vec<u8> {
        match self {
            Self::Captured(engine) => engine.take_down(),
            _ => Vec::new(),
        }
    }

    /// Whether the client must not be read now.
    pub(crate) fn holds_client(&self) -> bool {
        match self {
            Self::Pipe => false,
            Self::Watched(watched) => watched.machine.is_congested(),
            Self::Captured(engine) => engine.is_waiting(),
        }
    }

    /// Whether something is under way that the client's end must not cut short.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Captured(engine) if engine.is_busy())
    }

    /// Outside of a transaction and nothing asked.
    pub(crate) fn is_idle(&self) -> bool {
        match self {
            Self::Pipe => false,
            Self::Watched(watched) => watched.machine.is_idle(),
            Self::Captured(engine) => engine.is_idle(),
        }
    }

    /// Whether the next byte from the client starts a message.
    pub(crate) fn client_at_boundary(&self) -> bool {
        match self {
            Self::Pipe => false,
            Self::Watched(watched) => watched.client.at_boundary(),
            Self::Captured(engine) => engine.client_at_boundary(),
        }
    }

    /// Whether the next byte to the client starts a message.
    pub(crate) fn server_at_boundary(&self) -> bool {
        match self {
            Self::Pipe => false,
            Self::Watched(watched) => watched.server.at_boundary(),
            Self::Captured(engine) => engine.server_at_boundary(),
        }
    }
}

impl Watched {
    fn on_client(&mut self, chunk: &[u8], span: &Span) {
        let Self { machine, client, .. } = self;
        if machine.is_lost() {
            return;
        }
        let seen = client.feed(chunk, Machine::frontend_interest, |frame| {
            machine.on_frontend(frame);
        });
        if let Err(bad) = seen {
            span.in_scope(|| debug!(%bad, "client broke the protocol"));
            machine.lose();
        }
    }

    fn on_server(&mut self, chunk: &[u8], span: &Span) -> Result<(), BadFrame> {
        let Self { machine, server, .. } = self;
        server.feed(chunk, Machine::backend_interest, |frame| {
            let known = !machine.is_lost();
            if machine.on_backend(frame) == Reply::Unexpected && known {
                let tag = frame.tag.escape_ascii();
                span.in_scope(|| warn!(%tag, "a reply that nobody asked for: no longer following this session"));
            }
        })
    }
}
