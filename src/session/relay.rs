//! Moves the bytes of a session that has logged in, both ways, and lets its talk see, and change, them.
//!
//! What is read goes straight from the worker's shared buffer to the other socket; only what that socket does not take
//! is copied, and until it is taken nothing more is read on that side. A session therefore holds no buffer while it
//! is idle, and never more than one read's worth for each direction (I7).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use tracing::Span;

use crate::session::talk::Talk;
use crate::wire::frame::BadFrame;
use crate::wire::stream::Stream;

/// Why a relay ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The server closed, and the client has everything it said.
    Server,
    /// The client is gone.
    Client(io::Error),
    /// The server broke the protocol. `clean` says whether the client stands between two messages.
    Broken { bad: BadFrame, clean: bool },
    /// Asked to end when idle, and idle.
    Drained,
}

/// One direction's bytes on their way.
#[derive(Debug, Default)]
struct Flow {
    /// Read, but not taken by the other side yet, from `sent` on.
    pending: Vec<u8>,
    sent: usize,
    /// Written into a TLS buffer, perhaps not onto the socket.
    unflushed: bool,
    /// The reading side has closed.
    eof: bool,
    /// The writing side is shut or broken.
    over: bool,
}

/// Which socket failed while bytes were moved.
enum Failed {
    Read(io::Error),
    Write(io::Error),
    Frame { bad: BadFrame, clean: bool },
}

/// Bytes that were moved, for the metrics.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) up: u64,
    pub(crate) down: u64,
}

/// A session's two sockets and what lies between them.
pub(crate) struct Relay {
    pub(crate) client: Stream,
    pub(crate) server: Stream,
    pub(crate) talk: Talk,
    up: Flow,
    down: Flow,
    draining: bool,
    moved: Moved,
    /// Entered for what is logged only: entering it for every message would cost more than the message.
    span: Span,
}

impl Relay {
    /// `from_client` and `from_server` are bytes that arrived behind the login's last message.
    pub(crate) fn new(
        (client, server): (Stream, Stream),
        talk: Talk,
        from_client: Vec<u8>,
        from_server: Vec<u8>,
    ) -> Result<Self, BadFrame> {
        let mut relay = Self {
            client,
            server,
            talk,
            up: Flow::default(),
            down: Flow::default(),
            draining: false,
            moved: Moved::default(),
            span: Span::current(),
        };
        if relay.talk.on_server(&from_server, &relay.span)? {
            relay.down.pending = from_server;
        }
        if relay.talk.on_client(&from_client, &relay.span) {
            relay.up.pending = from_client;
        }
        relay.take_changed();
        Ok(relay)
    }

    /// From now on the relay ends as soon as the session is idle.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether a message of ours may be put into the stream to the client.
    pub(crate) fn client_between_messages(&self) -> bool {
        self.down.pending.is_empty() && self.talk.server_at_boundary()
    }

    /// Whether a message of ours may be put into the stream to the server.
    pub(crate) fn server_between_messages(&self) -> bool {
        self.talk.machine().is_some_and(|m| !m.is_lost())
            && self.up.pending.is_empty()
            && self.talk.client_at_boundary()
    }

    /// What was moved since the last call.
    pub(crate) fn take_moved(&mut self) -> Moved {
        std::mem::take(&mut self.moved)
    }

    /// Moves what can be moved; ready when the session is over.
    ///
    /// # Cancellation safety
    /// All state is in `self`: the call can be abandoned and repeated.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<End> {
        loop {
            match self.talk.poll_held(cx) {
                Poll::Ready(Ok(())) => self.take_changed(),
                Poll::Ready(Err(bad)) => return Poll::Ready(End::Broken { bad, clean: false }),
                // Up to here the client may have it.
                Poll::Pending => {
                    let _ = self.down.poll_flush(cx, &mut self.client);
                    return Poll::Pending;
                }
            }
            // Replies first: they decide whether the client has to wait for an answer before it is read again.
            if let Poll::Ready(end) = self.poll_down(cx, scratch) {
                return Poll::Ready(end);
            }
            if self.talk.is_held() {
                continue;
            }
            let unsent = self.down.pending.len();
            if let Poll::Ready(end) = self.poll_up(cx, scratch) {
                return Poll::Ready(end);
            }
            // What the client sent may have had an answer of our own.
            if self.down.pending.len() == unsent {
                break;
            }
        }
        if self.draining && self.talk.is_idle() && self.client_between_messages() && self.server_between_messages() {
            return Poll::Ready(End::Drained);
        }
        Poll::Pending
    }

    /// Ready when the server has closed or the client is gone.
    fn poll_down(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<End> {
        loop {
            let Self { client, server, talk, down, moved, span, .. } = self;
            if let Err(e) = ready!(down.poll_flush(cx, client)) {
                return Poll::Ready(End::Client(e));
            }
            if talk.is_held() {
                return Poll::Pending;
            }
            let clean = talk.server_at_boundary();
            let see = |chunk: &[u8]| {
                moved.down += chunk.len() as u64;
                talk.on_server(chunk, span).map_err(|bad| Failed::Frame { bad, clean })
            };
            match ready!(down.poll_move(cx, server, client, scratch, see)) {
                Ok(true) => self.take_changed(),
                // A server that was killed resets the connection; to the client that is the same end.
                Ok(false) | Err(Failed::Read(_)) => return Poll::Ready(End::Server),
                Err(Failed::Write(e)) => return Poll::Ready(End::Client(e)),
                Err(Failed::Frame { bad, clean }) => return Poll::Ready(End::Broken { bad, clean }),
            }
        }
    }

    /// Ready only when the client is gone; what ends on the server's side is for `poll_down` to find out.
    fn poll_up(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<End> {
        while !self.up.over {
            let Self { client, server, talk, up, moved, span, .. } = self;
            if ready!(up.poll_flush(cx, server)).is_err() {
                // The server may have said why before it closed: that still goes to the client.
                up.over = true;
            } else if up.eof && !talk.is_busy() {
                // The client has said its last word: the server ends the session when it has answered.
                let _ = ready!(Pin::new(&mut *server).poll_shutdown(cx));
                up.over = true;
            } else if up.eof || talk.holds_client() {
                // The replies that end this wake the task, and `poll` looks at them before it comes here.
                return Poll::Pending;
            } else {
                let see = |chunk: &[u8]| {
                    moved.up += chunk.len() as u64;
                    Ok(talk.on_client(chunk, span))
                };
                match ready!(up.poll_move(cx, client, server, scratch, see)) {
                    Ok(more) => {
                        up.eof = !more;
                        self.take_changed();
                    }
                    Err(Failed::Read(e)) => return Poll::Ready(End::Client(e)),
                    Err(Failed::Write(_) | Failed::Frame { .. }) => up.over = true,
                }
            }
        }
        Poll::Pending
    }

    /// Takes over what the talk has put in the place of what was read.
    fn take_changed(&mut self) {
        self.up.add(self.talk.take_up());
        self.down.add(self.talk.take_down());
    }
}

impl Flow {
    /// Holds more, to be written next.
    fn add(&mut self, more: Vec<u8>) {
        if self.pending.is_empty() && !more.is_empty() {
            // Mostly so: nothing has to be copied.
            self.pending = more;
        } else {
            self.pending.extend(more);
        }
    }

    /// Writes what is held; ready when nothing is.
    fn poll_flush(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        while let Some(rest) = self.pending.get(self.sent..)
            && !rest.is_empty()
        {
            self.sent += ready!(write(cx, to, rest))?;
        }
        // Gives the memory back: most sessions are idle most of the time.
        self.pending = Vec::new();
        self.sent = 0;
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and, if `see` says so, writes what was read, keeping what is not taken; `false` at the end of the stream.
    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        scratch: &mut [u8],
        see: impl FnOnce(&[u8]) -> Result<bool, Failed>,
    ) -> Poll<Result<bool, Failed>> {
        let mut buf = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(cx, &mut buf)).map_err(Failed::Read)?;
        let chunk = buf.filled();
        if chunk.is_empty() {
            return Poll::Ready(Ok(false));
        }
        if !see(chunk)? {
            return Poll::Ready(Ok(true));
        }
        let taken = match write(cx, to, chunk) {
            Poll::Ready(n) => n.map_err(Failed::Write)?,
            Poll::Pending => 0,
        };
        self.unflushed = to.is_tls();
        if let Some(rest) = chunk.get(taken..) {
            self.pending.extend_from_slice(rest);
        }
        Poll::Ready(Ok(true))
    }
}

fn write(cx: &mut Context<'_>, to: &mut Stream, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(to).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        other => Poll::Ready(other),
    }
}
