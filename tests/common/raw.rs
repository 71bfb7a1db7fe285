//! A blocking wire client that sends any bytes and reads frames with a time limit; it checks nothing it was not asked to check.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{PATIENCE, msg};

/// Where a server or proxy listens.
#[derive(Clone, Debug)]
pub(crate) enum Addr {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// One message from the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

/// What reading one frame can end with.
#[derive(Debug)]
pub(crate) enum Got {
    Frame(Frame),
    /// End of file or reset at a frame's border: which of both is the kernel's choice, not the peer's.
    Closed,
    /// End of file inside a frame, or what cannot be one: these bytes of it had come.
    Torn(Vec<u8>),
    /// Nothing came in time.
    Nothing,
}

/// A connection and how it was reached.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Stream,
    /// A large write that goes on while we read: a server that answers a pipeline while it is sent would otherwise wait for us,
    /// and we for it.
    writing: Option<JoinHandle<()>>,
    pub(crate) addr: Addr,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, Stream>>),
}

// === impl Addr ===

impl Addr {
    pub(crate) fn tcp(port: u16) -> Addr {
        Addr::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    pub(crate) fn unix(dir: &Path, port: u16) -> Addr {
        Addr::Unix(dir.join(format!(".s.PGSQL.{port}")))
    }

    /// What libpq and its kin take as host: an address or a socket directory.
    pub(crate) fn host(&self) -> String {
        match self {
            Addr::Tcp(addr) => addr.ip().to_string(),
            Addr::Unix(path) => path.parent().expect("a socket lies in a directory").display().to_string(),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Addr::Tcp(addr) => addr.port(),
            Addr::Unix(path) => {
                let name = path.extension().and_then(|port| port.to_str()).expect("a socket's name ends in its port");
                name.parse().expect("a port")
            }
        }
    }
}

// === impl Client ===

impl Client {
    /// Connects and sends nothing.
    pub(crate) fn connect(addr: &Addr) -> Client {
        Client::try_connect(addr).unwrap_or_else(|error| panic!("cannot connect to {addr:?}: {error}"))
    }

    pub(crate) fn try_connect(addr: &Addr) -> io::Result<Client> {
        let stream = match addr {
            Addr::Tcp(to) => {
                let tcp = TcpStream::connect_timeout(to, PATIENCE)?;
                tcp.set_nodelay(true)?;
                Stream::Tcp(tcp)
            }
            Addr::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
        };
        let client = Client { stream, writing: None, addr: addr.clone() };
        client.stream.limit(PATIENCE)?;
        Ok(client)
    }

    /// Logs in as `postgres` (trusted) and reads up to the first ReadyForQuery.
    pub(crate) fn login(addr: &Addr) -> Client {
        let mut client = Client::connect(addr);
        client.send(&msg::startup(msg::version(3, 0), &[("user", "postgres"), ("database", "postgres")]));
        client.until_ready();
        client
    }

    /// Goes on inside TLS, with the given configuration and the name the certificate must bear.
    pub(crate) fn tls(self, config: Arc<rustls::ClientConfig>, name: &str) -> io::Result<Client> {
        let name = name.to_owned().try_into().map_err(io::Error::other)?;
        let connection = rustls::ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut tls = Box::new(rustls::StreamOwned::new(connection, self.stream));
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(Client { stream: Stream::Tls(tls), writing: None, addr: self.addr })
    }

    /// What was agreed on by [`tls`](Self::tls), if this is TLS.
    pub(crate) fn tls_connection(&self) -> Option<&rustls::ClientConnection> {
        match &self.stream {
            Stream::Tls(tls) => Some(&tls.conn),
            Stream::Tcp(_) | Stream::Unix(_) => None,
        }
    }

    /// Writes everything; a peer that hangs up while we write is no failure, what it said is still to be read.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.sent();
        if (64 * 1024..64 * 1024 * 1024).contains(&bytes.len()) && !matches!(self.stream, Stream::Tls(_)) {
            let (mut writer, bytes) = (self.clone_handle(), bytes.to_vec());
            self.writing = Some(std::thread::spawn(move || writer.write(&bytes)));
        } else {
            self.write(bytes);
        }
    }

    /// Waits until everything that was to be sent is handed to the kernel.
    pub(crate) fn sent(&mut self) {
        if let Some(writing) = self.writing.take() {
            writing.join().expect("a large write");
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        match self.try_send(bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            result => result.expect("send"),
        }
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// A second handle on the same socket, to write and read at the same time. Not for TLS.
    pub(crate) fn clone_handle(&self) -> Client {
        let stream = match &self.stream {
            Stream::Tcp(tcp) => Stream::Tcp(tcp.try_clone().expect("clone a socket")),
            Stream::Unix(unix) => Stream::Unix(unix.try_clone().expect("clone a socket")),
            Stream::Tls(_) => panic!("a TLS stream has one owner"),
        };
        Client { stream, writing: None, addr: self.addr.clone() }
    }

    /// Ends the writing direction only.
    pub(crate) fn finish_writing(&mut self) {
        self.sent();
        let done = match &self.stream {
            Stream::Tcp(tcp) => tcp.shutdown(Shutdown::Write),
            Stream::Unix(unix) => unix.shutdown(Shutdown::Write),
            Stream::Tls(_) => panic!("shut down the socket below TLS instead"),
        };
        let _ = done; // already closed by the peer is fine
    }

    /// Ends as a process does that is killed with unread data: by a reset, where there is such a thing.
    pub(crate) fn reset(self) {
        if let Stream::Tcp(tcp) = &self.stream {
            socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)).expect("set SO_LINGER");
        }
    }

    /// One raw byte, as the answer to SSLRequest; `None` on end of file.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => None,
            Ok(_) => Some(byte[0]),
            Err(error) if hung_up(&error) => None,
            Err(error) => panic!("no byte came: {error}"),
        }
    }

    /// The next frame, or why there is none within `limit`.
    pub(crate) fn frame_within(&mut self, limit: Duration) -> Got {
        self.stream.limit(limit).expect("set a time limit");
        let mut header = [0; 5];
        match self.stream.read(&mut header[..1]) {
            Ok(0) => return Got::Closed,
            Ok(_) => {}
            Err(error) if hung_up(&error) => return Got::Closed,
            Err(error) if timed_out(&error) => return Got::Nothing,
            Err(error) => panic!("read: {error}"),
        }
        self.stream.limit(PATIENCE).expect("set a time limit");
        if let Err(had) = self.fill(&mut header[1..]) {
            return Got::Torn(header[..1 + had].to_vec());
        }
        let Some(len) = body_len(&header) else { return Got::Torn(header.to_vec()) };
        let mut body = vec![0; len];
        if let Err(had) = self.fill(&mut body) {
            body.truncate(had);
            return Got::Torn([&header[..], &body].concat());
        }
        Got::Frame(Frame { tag: header[0], body })
    }

    /// The next frame; panics when none comes.
    pub(crate) fn frame(&mut self) -> Frame {
        match self.frame_within(PATIENCE) {
            Got::Frame(frame) => frame,
            other => panic!("expected a frame, got {other:?}"),
        }
    }

    /// The next frame with its body handed on in pieces, for bodies that should not be held; returns tag and body length.
    pub(crate) fn stream_frame(&mut self, mut piece: impl FnMut(&[u8])) -> (u8, usize) {
        self.stream.limit(PATIENCE).expect("set a time limit");
        let mut header = [0; 5];
        self.stream.read_exact(&mut header).expect("a frame's header");
        let len = body_len(&header).expect("a length that a frame can have");
        let mut buffer = vec![0; 256 * 1024];
        let mut left = len;
        while left > 0 {
            let take = left.min(buffer.len());
            let read = self.stream.read(&mut buffer[..take]).expect("a frame's body");
            assert!(read > 0, "end of file with {left} bytes of a frame missing");
            piece(&buffer[..read]);
            left -= read;
        }
        (header[0], len)
    }

    /// All frames up to and with the first of this tag.
    pub(crate) fn until(&mut self, tag: u8) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.frame_within(PATIENCE) {
                Got::Frame(frame) => {
                    let last = frame.tag == tag;
                    frames.push(frame);
                    if last {
                        return frames;
                    }
                }
                other => panic!("waited for {:?}, got {other:?} after {frames:#?}", char::from(tag)),
            }
        }
    }

    pub(crate) fn until_ready(&mut self) -> Vec<Frame> {
        self.until(b'Z')
    }

    /// Runs a simple query and returns its frames.
    pub(crate) fn query(&mut self, sql: &str) -> Vec<Frame> {
        self.send(&msg::query(sql));
        self.until_ready()
    }

    /// Runs a simple query and returns the text values of its rows.
    pub(crate) fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        let frames = self.query(sql);
        if let Some(error) = frames.iter().find(|frame| frame.tag == b'E') {
            panic!("{sql}: {error:?}");
        }
        frames.iter().filter(|frame| frame.tag == b'D').map(Frame::columns).collect()
    }

    /// Fills the buffer; on end of file says how much had come.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), usize> {
        let mut had = 0;
        while had < buffer.len() {
            match self.stream.read(&mut buffer[had..]) {
                Ok(0) => return Err(had),
                Ok(read) => had += read,
                Err(error) if hung_up(&error) => return Err(had),
                Err(error) => panic!("{had} of {} bytes came, then: {error}", buffer.len()),
            }
        }
        Ok(())
    }
}

// === impl Frame ===

impl Frame {
    /// A field of an ErrorResponse or NoticeResponse, such as `b'C'` for the SQLSTATE.
    pub(crate) fn field(&self, code: u8) -> Option<String> {
        let fields = self.body.split(|byte| *byte == 0);
        fields.filter(|field| field.first() == Some(&code)).map(|field| lossy(&field[1..])).next()
    }

    /// The text values of a DataRow.
    pub(crate) fn columns(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, b'D', "not a row: {self:?}");
        let mut at = 2;
        let mut columns = Vec::new();
        while at < self.body.len() {
            let len = i32::from_be_bytes(self.body[at..at + 4].try_into().expect("four bytes"));
            at += 4;
            columns.push(usize::try_from(len).ok().map(|len| lossy(&self.body[at..at + len])));
            at += usize::try_from(len).unwrap_or(0);
        }
        columns
    }

    /// The pid and the secret of a BackendKeyData.
    pub(crate) fn key(&self) -> (i32, Vec<u8>) {
        assert_eq!(self.tag, b'K', "no key: {self:?}");
        (i32::from_be_bytes(self.body[..4].try_into().expect("four bytes")), self.body[4..].to_vec())
    }

    /// The tag of a CommandComplete.
    pub(crate) fn command(&self) -> String {
        assert_eq!(self.tag, b'C', "no command tag: {self:?}");
        lossy(self.body.strip_suffix(&[0]).expect("a terminated string"))
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.body[..self.body.len().min(300)];
        write!(f, "{}[{}] {}", self.tag.escape_ascii(), self.body.len(), shown.escape_ascii())?;
        if shown.len() < self.body.len() { f.write_str("…") } else { Ok(()) }
    }
}

// === impl Stream ===

impl Stream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(tcp) => tcp.set_read_timeout(Some(limit)),
            Stream::Unix(unix) => unix.set_read_timeout(Some(limit)),
            Stream::Tls(tls) => tls.sock.limit(limit),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(tcp) => tcp.read(buffer),
            Stream::Unix(unix) => unix.read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(tcp) => tcp.write(bytes),
            Stream::Unix(unix) => unix.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(tcp) => tcp.flush(),
            Stream::Unix(unix) => unix.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stream::Tcp(_) => "tcp",
            Stream::Unix(_) => "unix",
            Stream::Tls(_) => "tls",
        })
    }
}

/// `None` for a length that no frame can have.
fn body_len(header: &[u8; 5]) -> Option<usize> {
    let len = i32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    usize::try_from(len.checked_sub(4)?).ok()
}

fn hung_up(error: &io::Error) -> bool {
    // A TLS peer that closes its socket without close_notify, as PostgreSQL does, is an unexpected end of file.
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
