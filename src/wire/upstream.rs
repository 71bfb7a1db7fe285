//! The way to the node's server: which socket, with which encryption, in libpq's order of attempts.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::{ConnInfo, Endpoint, RootCert, SslMode, SslNegotiation};
use crate::wire::inbox::{Inbox, RawFrame};
use crate::wire::message::back;
use crate::wire::stream::{Liveness, Stream};
use crate::wire::tls::{ClientTls, ClientTlsOptions, RootSource, ServerCheck, TlsError};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Everything that is needed to open connections to one server.
#[derive(Clone)]
pub struct Upstream {
    /// Tried in order.
    endpoints: Vec<Endpoint>,
    sslmode: SslMode,
    /// Loaded unless `sslmode` is `disable`.
    tls: Option<ClientTls>,
    /// TLS connections carry a certificate of ours.
    client_cert: bool,
    connect_timeout: Duration,
    liveness: Liveness,
}

/// Why the server could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("cannot connect to {endpoint}: {source}")]
    Connect { endpoint: String, source: io::Error },
    #[error("{endpoint} did not answer within {after:?}")]
    Timeout { endpoint: String, after: Duration },
    #[error("{endpoint}: {source}")]
    Tls { endpoint: String, source: Box<TlsError> },
    #[error("{endpoint} does not support TLS, but sslmode requires it")]
    NoTls { endpoint: String },
    #[error("connection to {endpoint} failed during startup: {source}")]
    Startup { endpoint: String, source: io::Error },
}

impl UpstreamError {
    fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }
}

/// A connection whose startup packet was answered.
#[derive(Debug)]
pub struct Answered {
    pub stream: Stream,
    /// The NegotiateProtocolVersion that came before the answer.
    pub negotiation: Option<RawFrame>,
    /// The server's first message besides; `None` when it closed, or said what is no message: that is in the inbox.
    pub first: Option<RawFrame>,
    /// What came behind it.
    pub inbox: Inbox,
    pub shown: Shown,
}

/// One way of encrypting a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Plain,
    /// TLS if the server has it, plain otherwise.
    TlsOrPlain,
    Tls,
}

/// What a connection shows of the proxy itself, which the server may take for the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// No more than an address.
    Nothing,
    /// Over a Unix socket: the user that the proxy runs as.
    UnixUser,
    /// With TLS: a certificate.
    Certificate,
}

impl Answered {
    /// Whether the answer is an error.
    fn is_refusal(&self) -> bool {
        self.first.as_ref().is_some_and(|frame| frame.tag() == back::ERROR)
    }
}

impl Upstream {
    /// Reads the TLS files that a connection string names.
    pub fn load(conninfo: &ConnInfo, connect_timeout: Duration, liveness: Liveness) -> Result<Self, TlsError> {
        let sslmode = conninfo.sslmode();
        let mode = match sslmode {
            SslMode::Disable => None,
            SslMode::Allow | SslMode::Prefer | SslMode::Require => Some(ServerCheck::Require),
            SslMode::VerifyCa => Some(ServerCheck::VerifyCa),
            SslMode::VerifyFull => Some(ServerCheck::VerifyFull),
        };
        let endpoints = conninfo.candidates();
        let tls = match mode {
            // Files that will not be used need not be there.
            Some(mode) if !endpoints.iter().all(Endpoint::is_unix) => Some(ClientTls::load(&ClientTlsOptions {
                mode,
                roots: match &conninfo.sslrootcert {
                    None => RootSource::None,
                    Some(RootCert::System) => RootSource::System,
                    Some(RootCert::File(path)) => RootSource::File(path.clone()),
                },
                client_cert: conninfo.sslcert.clone().zip(conninfo.sslkey.clone()),
                crl: conninfo.sslcrl.clone(),
                direct: conninfo.sslnegotiation() == SslNegotiation::Direct,
            })?),
            _ => None,
        };
        let connect_timeout = conninfo.connect_timeout.unwrap_or(connect_timeout);
        Ok(Self { endpoints, sslmode, tls, client_cert: conninfo.sslcert.is_some(), connect_timeout, liveness })
    }

    /// Connects, sends the startup packet and waits for the first answer.
    ///
    /// With `allow` and `prefer` a server that answers with an error is asked again the other way, as libpq does;
    /// its last answer is the one that counts, even if the other way then leads nowhere.
    pub async fn start(&self, packet: &[u8]) -> Result<Answered, UpstreamError> {
        let mut last = None;
        for endpoint in &self.endpoints {
            let mut refused = None;
            for attempt in self.attempts(endpoint) {
                match self.bounded(endpoint, self.start_once(endpoint, *attempt, packet)).await {
                    Ok(answered) if answered.is_refusal() => {
                        let was_plain = !answered.stream.is_tls();
                        refused = Some(answered);
                        if *attempt == Attempt::TlsOrPlain && was_plain {
                            break; // the other way was this one
                        }
                    }
                    Ok(answered) => return Ok(answered),
                    Err(e) => {
                        let hangs = e.is_timeout();
                        last = Some(e);
                        // It would hang the other way, too, and the client waits.
                        if hangs {
                            break;
                        }
                    }
                }
            }
            if let Some(answered) = refused {
                return Ok(answered);
            }
        }
        Err(last.unwrap_or_else(nowhere))
    }

    /// The places that are tried, in order.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Connects and encrypts, for a caller that speaks the protocol itself.
    pub async fn connect(&self) -> Result<Stream, UpstreamError> {
        let mut last = None;
        for endpoint in &self.endpoints {
            for attempt in self.attempts(endpoint) {
                match self.bounded(endpoint, self.connect_once(endpoint, *attempt)).await {
                    Ok(stream) => return Ok(stream),
                    Err(e) => {
                        let hangs = e.is_timeout();
                        last = Some(e);
                        if hangs {
                            break;
                        }
                    }
                }
            }
        }
        Err(last.unwrap_or_else(nowhere))
    }

    /// Delivers a CancelRequest and waits until the server has taken note of it: it closes the connection then.
    pub async fn cancel(&self, packet: &[u8]) -> Result<(), UpstreamError> {
        let mut stream = self.connect().await?;
        let deliver = async {
            stream.write_all(packet).await?;
            stream.flush().await?;
            // The server sends nothing; an abrupt end is as good as an orderly one.
            let _ = stream.read(&mut [0]).await;
            Ok(())
        };
        let startup = |source: io::Error| UpstreamError::Startup {
            endpoint: self.endpoints.first().map_or_else(String::new, Endpoint::to_string),
            source,
        };
        timeout(self.connect_timeout, deliver).await.unwrap_or(Ok(())).map_err(startup)
    }

    fn attempts(&self, endpoint: &Endpoint) -> &'static [Attempt] {
        match (endpoint, self.sslmode) {
            (Endpoint::Unix(_), _) | (_, SslMode::Disable) => &[Attempt::Plain],
            (_, SslMode::Allow) => &[Attempt::Plain, Attempt::Tls],
            (_, SslMode::Prefer) => &[Attempt::TlsOrPlain, Attempt::Plain],
            (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Attempt::Tls],
        }
    }

    async fn bounded<T>(
        &self,
        endpoint: &Endpoint,
        work: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        timeout(self.connect_timeout, work).await.unwrap_or_else(|_| {
            Err(UpstreamError::Timeout { endpoint: endpoint.to_string(), after: self.connect_timeout })
        })
    }

    async fn start_once(
        &self,
        endpoint: &Endpoint,
        attempt: Attempt,
        packet: &[u8],
    ) -> Result<Answered, UpstreamError> {
        let mut stream = self.connect_once(endpoint, attempt).await?;
        let mut inbox = Inbox::default();
        let shown = match &stream {
            Stream::Unix(_) => Shown::UnixUser,
            Stream::Tls(_) if self.client_cert => Shown::Certificate,
            Stream::Tls(_) | Stream::Tcp(_) => Shown::Nothing,
        };
        let sent = async {
            stream.write_all(packet).await?;
            stream.flush().await
        };
        if let Err(source) = sent.await {
            return Err(UpstreamError::Startup { endpoint: endpoint.to_string(), source });
        }
        let mut first = inbox.next(&mut stream).await.ok();
        let negotiation = first.take_if(|frame| frame.tag() == back::NEGOTIATE_VERSION);
        if negotiation.is_some() {
            first = inbox.next(&mut stream).await.ok();
        }
        Ok(Answered { stream, negotiation, first, inbox, shown })
    }

    async fn connect_once(&self, endpoint: &Endpoint, attempt: Attempt) -> Result<Stream, UpstreamError> {
        let failed = |source| UpstreamError::Connect { endpoint: endpoint.to_string(), source };
        match endpoint {
            Endpoint::Unix(path) => unix(path).await.map_err(failed),
            Endpoint::Tcp { host, addr, port } => {
                let socket = match addr {
                    Some(addr) => TcpStream::connect((*addr, *port)).await,
                    None => TcpStream::connect((host.as_str(), *port)).await,
                }
                .map_err(failed)?;
                self.liveness.apply(&socket).map_err(failed)?;
                self.encrypt(socket, endpoint, host, attempt).await
            }
        }
    }

    async fn encrypt(
        &self,
        mut socket: TcpStream,
        endpoint: &Endpoint,
        host: &str,
        attempt: Attempt,
    ) -> Result<Stream, UpstreamError> {
        let Some(tls) = self.tls.as_ref().filter(|_| attempt != Attempt::Plain) else {
            return Ok(Stream::Tcp(socket));
        };
        let endpoint = endpoint.to_string();
        if !tls.is_direct() {
            let mut answer = [0];
            let ask = async {
                socket.write_all(&SSL_REQUEST).await?;
                socket.read_exact(&mut answer).await
            };
            if let Err(source) = ask.await {
                return Err(UpstreamError::Connect { endpoint, source });
            }
            match answer {
                [b'S'] => {}
                [b'N'] if attempt == Attempt::TlsOrPlain => return Ok(Stream::Tcp(socket)),
                _ => return Err(UpstreamError::NoTls { endpoint }),
            }
        }
        match tls.connect(host, socket).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream.into()))),
            Err(source) => Err(UpstreamError::Tls { endpoint, source: Box::new(source) }),
        }
    }
}

async fn unix(path: &PathBuf) -> io::Result<Stream> {
    Ok(Stream::Unix(UnixStream::connect(path).await?))
}

fn nowhere() -> UpstreamError {
    let source = io::Error::new(io::ErrorKind::NotFound, "no address to connect to");
    UpstreamError::Connect { endpoint: "server".into(), source }
}
