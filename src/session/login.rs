//! From the startup packet to AuthenticationOk: the server's questions are relayed to the client word for word.

use tokio::io::AsyncWriteExt;

use crate::catalog::Control;
use crate::config::Auth;
use crate::session::guard::{OwnUser, Unproven, Verdict};
use crate::session::settings::Settings;
use crate::session::takeover;
use crate::wire::error::{Report, WireError, describe_error, sqlstate};
use crate::wire::inbox::{Inbox, RawFrame};
use crate::wire::message::{AuthRequest, back, front, put_frame};
use crate::wire::scram::{CbindFlag, cbind_flag, without_plus};
use crate::wire::startup::Params;
use crate::wire::stream::{Source, Stream};
use crate::wire::upstream::{Answered, Shown, UpstreamError};

/// One leg of a login.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) stream: Stream,
    pub(super) inbox: Inbox,
}

impl Leg {
    /// The next frame. Cancellation-safe.
    pub(super) async fn next(&mut self) -> Result<RawFrame, WireError> {
        self.inbox.next(&mut self.stream).await
    }

    /// What has arrived, as it came; empty at the end. With `whole`, a whole frame, unless what comes makes none.
    /// Cancellation-safe.
    async fn answer(&mut self, whole: bool) -> Result<Vec<u8>, WireError> {
        if whole {
            match self.next().await {
                Ok(frame) => return Ok(frame.bytes().to_vec()),
                Err(WireError::Io(e)) => return Err(e.into()),
                Err(_) => {}
            }
        }
        self.inbox.chunk(&mut self.stream).await
    }

    /// No more will be sent.
    async fn finish(&mut self) -> Result<(), WireError> {
        Ok(self.stream.shutdown().await?)
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    pub(super) async fn send_frame(&mut self, tag: u8, body: &[u8]) -> Result<(), WireError> {
        let mut frame = Vec::new();
        put_frame(&mut frame, tag, body);
        self.send(&frame).await
    }
}

/// A session that is about to log in.
pub(super) struct Login<'a> {
    pub(super) settings: &'a Settings,
    pub(super) control: Option<&'a Control>,
    pub(super) source: &'a Source,
    pub(super) params: &'a Params,
    /// An `[[allow]]` rule vouches for the client.
    pub(super) trusted: bool,
    pub(super) own: &'a OwnUser,
    pub(super) client: Leg,
}

/// The two legs of a session that the server has let in. The server's AuthenticationOk is still to be sent on: it
/// stands before whatever else has arrived.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub(super) client: Leg,
    pub(super) server: Leg,
    pub(super) ok: RawFrame,
}

/// Why a login did not succeed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The proxy says no; the client has to be told.
    Own { reason: &'static str, client: Leg, fatal: Report },
    /// The server said no, and the client has its words.
    Server(String),
    /// The client went away.
    ClientGone(WireError),
}

/// Where a login stands when it cannot go on.
#[derive(Debug)]
pub(super) enum Stop {
    Own(&'static str, Report),
    Server(String),
    ClientGone(WireError),
}

impl Login<'_> {
    /// Connects to the server and relays until the server says yes or no.
    pub(super) async fn run(mut self, packet: &[u8]) -> Result<LoggedIn, Refusal> {
        match self.exchange(packet).await {
            Ok((server, ok)) => Ok(LoggedIn { client: self.client, server, ok }),
            Err(Stop::Own(reason, fatal)) => Err(Refusal::Own { reason, client: self.client, fatal }),
            Err(Stop::Server(words)) => Err(Refusal::Server(words)),
            Err(Stop::ClientGone(e)) => Err(Refusal::ClientGone(e)),
        }
    }

    async fn exchange(&mut self, packet: &[u8]) -> Result<(Leg, RawFrame), Stop> {
        let Answered { stream, negotiation, first, inbox, shown } =
            self.settings.upstream.start(packet).await.map_err(unreachable)?;
        if let Some(frame) = negotiation {
            self.tell(frame.bytes()).await?;
        }
        let mut server = Leg { stream, inbox };
        let Some(first) = first else { return Err(self.hear_out(server, "closed".into()).await) };
        let mut from_server = Some(first);
        let mut proven = false;
        // The client's next message is its SASLInitialResponse to an offer from which -PLUS was taken.
        let mut plus_withheld = false;
        let mut client_done = false;
        loop {
            let frame = match from_server.take() {
                Some(frame) => frame,
                None => tokio::select! {
                    frame = server.next() => match frame {
                        Ok(frame) => frame,
                        Err(e) => {
                            let stop = self.hear_out(server, e.to_string()).await;
                            return Err(if client_done { Stop::ClientGone(WireError::Closed) } else { stop });
                        }
                    },
                    answer = self.client.answer(plus_withheld), if !client_done => {
                        let answer = answer.map_err(Stop::ClientGone)?;
                        if std::mem::take(&mut plus_withheld) {
                            may_go_without_binding(&server.stream, &answer)?;
                        }
                        client_done = answer.is_empty();
                        // A server that no longer listens may still have said why.
                        let _ = if client_done { server.finish().await } else { server.send(&answer).await };
                        continue;
                    }
                },
            };
            match frame.tag() {
                back::ERROR => {
                    self.tell(frame.bytes()).await?;
                    return Err(self.hear_out(server, describe_error(frame.body())).await);
                }
                back::AUTHENTICATION => match AuthRequest::parse(frame.body()) {
                    Err(e) => {
                        self.tell(frame.bytes()).await?;
                        return Err(self.hear_out(server, e.to_string()).await);
                    }
                    Ok(AuthRequest::Ok) => {
                        if !proven {
                            self.check_unproven(shown).await?;
                        }
                        return Ok((server, frame));
                    }
                    Ok(AuthRequest::Sasl) if self.settings.auth == Auth::Scram => {
                        takeover::authenticate(self, &mut server, frame.body()).await?;
                        proven = true;
                    }
                    Ok(AuthRequest::Sasl) => {
                        proven = true;
                        plus_withheld = self.relay_offer(&server.stream, &frame).await?;
                    }
                    Ok(AuthRequest::Other(_)) => {
                        proven = true;
                        self.tell(frame.bytes()).await?;
                    }
                },
                _ => self.tell(frame.bytes()).await?,
            }
        }
    }

    pub(super) async fn tell(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.client.send(bytes).await.map_err(Stop::ClientGone)
    }

    /// Passes on what the server still says before it closes.
    async fn hear_out(&mut self, mut server: Leg, words: String) -> Stop {
        while let Ok(rest) = server.answer(false).await
            && !rest.is_empty()
        {
            if let Err(stop) = self.tell(&rest).await {
                return stop;
            }
        }
        // A client that closed first has all it wanted.
        let _ = self.client.finish().await;
        Stop::Server(words)
    }

    /// Channel binding ties a login to one certificate: it can pass only where both legs show the same one.
    async fn relay_offer(&mut self, server: &Stream, offer: &RawFrame) -> Result<bool, Stop> {
        let ours = self.settings.tls.as_ref().filter(|_| self.client.stream.is_tls()).map(|tls| tls.certificate());
        if ours.is_some() && ours == server.peer_certificate() {
            self.tell(offer.bytes()).await?;
            return Ok(false);
        }
        let body = without_plus(offer.body()).map_err(|_| server_gone(WireError::Malformed("AuthenticationSASL")))?;
        self.client.send_frame(back::AUTHENTICATION, &body).await.map_err(Stop::ClientGone)?;
        Ok(true)
    }

    async fn check_unproven(&self, shown: Shown) -> Result<(), Stop> {
        let unproven =
            Unproven { trusted: self.trusted, source: self.source, params: self.params, shown, own: self.own };
        let refuse = |fatal| Err(Stop::Own("unproven", fatal));
        match unproven.judge() {
            Verdict::Admit => Ok(()),
            Verdict::Refuse(fatal) => refuse(fatal),
            Verdict::AdmitIfOpen => {
                match self.settings.server_is_open(self.params.database()).await.map_err(unreachable)? {
                    true => Ok(()),
                    false => refuse(unproven.taken_for_us()),
                }
            }
        }
    }
}

/// A server with TLS takes "I can bind, but you did not offer it" for an attack, which here it would not be.
fn may_go_without_binding(server: &Stream, answer: &[u8]) -> Result<(), Stop> {
    let Some(([front::PASSWORD, ..], initial_response)) = answer.split_first_chunk::<5>() else { return Ok(()) };
    match cbind_flag(initial_response) {
        Ok(Some(CbindFlag::NotOffered | CbindFlag::Bound)) if server.is_tls() => {
            let fatal = Report::fatal(
                sqlstate::INVALID_AUTHORIZATION,
                "SCRAM channel binding cannot pass through a proxy whose certificate is not the server's",
            )
            .hint("Set node.auth = \"scram\" in the proxy's configuration, give it the server's own certificate and key, or connect with channel_binding=disable.");
            Err(Stop::Own("channel_binding", fatal))
        }
        _ => Ok(()),
    }
}

/// What a client is told when its server cannot be reached: a state that may pass, so that it tries again.
fn unreachable(error: UpstreamError) -> Stop {
    let fatal = Report::fatal(sqlstate::CANNOT_CONNECT_NOW, "the proxy cannot reach the database server")
        .detail(format!("{error}."));
    Stop::Own("unreachable", fatal)
}

pub(super) fn server_gone(error: WireError) -> Stop {
    let fatal = Report::fatal(sqlstate::CANNOT_CONNECT_NOW, "the database server ended the connection during login")
        .detail(format!("{error}."));
    Stop::Own("unreachable", fatal)
}
