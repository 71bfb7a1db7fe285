//! The sockets on which clients are waited for.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::{BindHost, Listen};
use crate::node::StartError;

/// A listening socket; a Unix socket's file goes with it.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// A client's socket, not yet bound to a thread's event loop.
#[derive(Debug)]
pub(super) enum Incoming {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream, Option<u32>),
}

/// A socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {place}: {source}{}", advice(.source))]
pub struct ListenError {
    place: String,
    source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; is another pgcanon or a server running there? (node.listen)",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address (node.listen)",
        io::ErrorKind::PermissionDenied => "; this user may not (node.listen)",
        io::ErrorKind::NotFound => "; make the directory first (node.listen)",
        _ => " (node.listen)",
    }
}

/// A Unix socket's file, removed when the listener is.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already, or not ours to remove: nothing depends on it.
        let _ = fs::remove_file(&self.0);
    }
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// Where the console listens: its address, and a Unix socket of that port in the first directory that clients have one in.
pub(super) async fn console(
    address: SocketAddr,
    listen: &[Listen],
) -> Result<(TcpListener, Option<(UnixListener, SocketFile)>), StartError> {
    let failed = |place: String| move |source| StartError::Console { place, source };
    let tcp = TcpListener::bind(address).await.map_err(failed(address.to_string()))?;
    let port = tcp.local_addr().map_err(failed(address.to_string()))?.port();
    let dir = listen.iter().find_map(|listen| match listen {
        Listen::Unix { dir, .. } => Some(dir.clone()),
        Listen::Tcp { .. } => None,
    });
    let Some(path) = dir.and_then(|dir| Listen::Unix { dir, port }.socket_path()) else { return Ok((tcp, None)) };
    let unix = unix_listener(&path).await.map_err(failed(path.display().to_string()))?;
    Ok((tcp, Some(unix)))
}

impl Listener {
    /// Binds one entry of `node.listen`; a host name may stand for several addresses.
    pub(super) async fn bind(listen: &Listen) -> Result<Vec<Self>, ListenError> {
        let failed = |source| ListenError { place: listen.to_string(), source };
        match (listen, listen.socket_path()) {
            (Listen::Tcp { host, port }, _) => tcp(host, *port).await.map_err(failed),
            (Listen::Unix { .. }, Some(path)) => Ok(vec![unix(&path).await.map_err(failed)?]),
            (Listen::Unix { .. }, None) => Ok(Vec::new()),
        }
    }

    /// Where clients reach it.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|_| "?".into(), |a| a.to_string()),
            Self::Unix { _file, .. } => _file.0.display().to_string(),
        }
    }

    /// The next client. Cancellation-safe.
    pub(super) async fn accept(&self) -> io::Result<Incoming> {
        match self {
            Self::Tcp(listener) => {
                let (socket, from) = listener.accept().await?;
                Ok(Incoming::Tcp(TcpStream::into_std(socket)?, from))
            }
            Self::Unix { listener, .. } => {
                let (socket, _) = listener.accept().await?;
                let uid = socket.peer_cred().ok().map(|cred| cred.uid());
                Ok(Incoming::Unix(UnixStream::into_std(socket)?, uid))
            }
        }
    }
}

async fn tcp(host: &BindHost, port: u16) -> io::Result<Vec<Listener>> {
    let addresses: Vec<SocketAddr> = match host {
        BindHost::Addr(addr) => vec![SocketAddr::new(*addr, port)],
        BindHost::Name(name) => tokio::net::lookup_host((name.as_str(), port)).await?.collect(),
        BindHost::Any => vec![SocketAddr::from(([0u16; 8], port)), SocketAddr::from(([0u8; 4], port))],
    };
    let mut listeners = Vec::new();
    let mut failure = None;
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(Listener::Tcp(listener)),
            // One socket for all of IPv6 takes IPv4 clients too, where the system says so.
            Err(e) if *host == BindHost::Any && e.kind() == io::ErrorKind::AddrInUse && !listeners.is_empty() => {}
            Err(e) => failure = Some(e),
        }
    }
    match failure {
        // A machine without IPv6 listens on what it has.
        Some(e) if listeners.is_empty() || *host != BindHost::Any => Err(e),
        _ => Ok(listeners),
    }
}

/// Whether this is a socket that a process left behind which was killed. Only a refusal says so: a listener whose queue
/// is full fails otherwise, and what is no socket refuses, too, but is somebody's file.
async fn is_stale(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && UnixStream::connect(path).await.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

async fn unix(path: &Path) -> io::Result<Listener> {
    let (listener, file) = unix_listener(path).await?;
    Ok(Listener::Unix { listener, _file: file })
}

/// Listens on a Unix socket, in the place of one that nobody listens on any more.
pub(super) async fn unix_listener(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let listener = match UnixListener::bind(path) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse && is_stale(path).await => {
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    let file = SocketFile(path.to_owned());
    // As PostgreSQL does: whoever reaches the directory may connect, and is asked for proof then.
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    Ok((listener, file))
}
