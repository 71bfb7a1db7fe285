//! The start of a client's connection up to its first real packet: SSLRequest, GSSENCRequest, direct TLS.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wire::error::{Report, WireError, sqlstate};
use crate::wire::startup::{self, BadStartup, Params, Startup};
use crate::wire::stream::Stream;
use crate::wire::tls::{ServerTls, alpn_is_postgresql};

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// A client that has said what it wants.
#[derive(Debug)]
pub struct Opened {
    pub stream: Stream,
    pub request: Request,
    /// What came behind the packet.
    pub rest: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// The startup packet as it came, and what was read of it.
    Session { packet: Vec<u8>, params: Params },
    /// The whole CancelRequest as it came.
    Cancel { packet: Vec<u8> },
}

/// Why a connection did not get as far as a startup packet.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Closed in silence, as the server does.
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Startup(#[from] BadStartup),
    #[error("TLS handshake with the client failed: {0}")]
    Tls(#[source] io::Error),
    #[error("direct TLS without ALPN `postgresql`")]
    NoAlpn,
    /// The client can still read why.
    #[error("{fatal}")]
    Refused { stream: Box<Stream>, fatal: Report },
}

/// A socket that a listener accepted.
#[derive(Debug)]
pub enum Accepted {
    Tcp(TcpStream),
    Unix(tokio::net::UnixStream),
}

/// Answers the requests for encryption and returns the first real packet.
///
/// As on the server, each request may come once, in any order, and TLS is for TCP only. Not bounded in time: the
/// caller's login timeout is around it. Not cancellation-safe: a dropped future drops the connection.
pub async fn open(socket: Accepted, tls: Option<&ServerTls>) -> Result<Opened, OpenError> {
    let (mut stream, mut tls) = match socket {
        Accepted::Unix(socket) => (Stream::Unix(socket), None),
        Accepted::Tcp(socket) => {
            let mut first = [0];
            if socket.peek(&mut first).await.map_err(WireError::from)? == 1 && first == [TLS_HANDSHAKE] {
                // PostgreSQL, too, closes without a word when it has no TLS.
                let stream = handshake(socket, tls.ok_or(WireError::Closed)?, true).await?;
                (stream, None)
            } else {
                (Stream::Tcp(socket), tls)
            }
        }
    };
    let mut buf = Vec::new();
    let (mut ssl_asked, mut gss_asked) = (stream.is_tls(), stream.is_tls());
    loop {
        match next_packet(&mut stream, &mut buf).await? {
            Startup::Ssl { len } if !ssl_asked => {
                ssl_asked = true;
                buf.drain(..len);
                // Bytes behind the request were not encrypted, but would be taken for what came encrypted.
                if !buf.is_empty() {
                    return Err(unencrypted(stream, "SSL"));
                }
                if let (Some(tls), Stream::Tcp(_)) = (tls.take(), &stream) {
                    stream.write_all(b"S").await.map_err(WireError::from)?;
                    let Stream::Tcp(socket) = stream else { return Err(WireError::Closed.into()) };
                    stream = handshake(socket, tls, false).await?;
                    gss_asked = true;
                } else {
                    stream.write_all(b"N").await.map_err(WireError::from)?;
                }
            }
            Startup::Gss { len } if !gss_asked => {
                gss_asked = true;
                buf.drain(..len);
                if !buf.is_empty() {
                    return Err(unencrypted(stream, "GSSAPI encryption"));
                }
                stream.write_all(b"N").await.map_err(WireError::from)?;
            }
            Startup::Ssl { .. } => return Err(unsupported(stream, 5679)),
            Startup::Gss { .. } => return Err(unsupported(stream, 5680)),
            Startup::Cancel { len } => {
                let rest = buf.split_off(len);
                return Ok(Opened { stream, request: Request::Cancel { packet: buf }, rest });
            }
            Startup::Session { len, params } => {
                let rest = buf.split_off(len);
                return Ok(Opened { stream, request: Request::Session { packet: buf, params }, rest });
            }
        }
    }
}

async fn next_packet(stream: &mut Stream, buf: &mut Vec<u8>) -> Result<Startup, OpenError> {
    let mut chunk = [0; 1024];
    loop {
        if let Some(startup) = startup::parse(buf)? {
            return Ok(startup);
        }
        let n = stream.read(&mut chunk).await.map_err(WireError::from)?;
        match chunk.get(..n) {
            Some(bytes) if n > 0 => buf.extend_from_slice(bytes),
            _ => return Err(WireError::Closed.into()),
        }
    }
}

async fn handshake(socket: TcpStream, tls: &ServerTls, direct: bool) -> Result<Stream, OpenError> {
    let stream = tls.acceptor().accept(socket).await.map_err(OpenError::Tls)?;
    if direct && !alpn_is_postgresql(stream.get_ref().1) {
        return Err(OpenError::NoAlpn);
    }
    Ok(Stream::Tls(Box::new(stream.into())))
}

fn unencrypted(stream: Stream, request: &str) -> OpenError {
    let message = format!("received unencrypted data after {request} request");
    let fatal = Report::fatal(sqlstate::PROTOCOL_VIOLATION, message)
        .detail("This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.");
    OpenError::Refused { stream: Box::new(stream), fatal }
}

fn unsupported(stream: Stream, minor: u32) -> OpenError {
    let message = format!("unsupported frontend protocol 1234.{minor}: the request for encryption was answered before");
    OpenError::Refused { stream: Box::new(stream), fatal: Report::fatal(sqlstate::FEATURE_NOT_SUPPORTED, message) }
}
