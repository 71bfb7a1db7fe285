//! The places where a connection string says a server may be, in the order to try them.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{ConnInfo, Host};

/// Where PostgreSQL and its packages put the Unix socket.
pub const SOCKET_DIRS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

/// One place to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A Unix socket, by its full path.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// The name to verify a certificate against, and to look up unless `addr` is given.
        host: String,
        /// The address, where it is known without looking the name up.
        addr: Option<IpAddr>,
        /// The port.
        port: u16,
    },
}

impl ConnInfo {
    /// The places to try, in order: the one that was named, or the usual Unix sockets and then localhost.
    pub fn candidates(&self) -> Vec<Endpoint> {
        let port = self.port();
        let tcp = |host: String, addr| Endpoint::Tcp { host, addr, port };
        match (&self.host, self.hostaddr) {
            (Some(Host::Tcp(host)), Some(addr)) => vec![tcp(host.clone(), Some(addr))],
            (_, Some(addr)) => vec![tcp(addr.to_string(), Some(addr))],
            (Some(Host::Unix(dir)), None) => vec![socket(dir, port)],
            (Some(Host::Tcp(host)), None) => vec![tcp(host.clone(), host.parse().ok())],
            (None, None) => {
                let sockets = SOCKET_DIRS.iter().map(|dir| socket(Path::new(dir), port));
                sockets.chain([tcp("localhost".to_owned(), None)]).collect()
            }
        }
    }
}

fn socket(dir: &Path, port: u16) -> Endpoint {
    Endpoint::Unix(dir.join(format!(".s.PGSQL.{port}")))
}

impl Endpoint {
    /// Whether it is a Unix socket, where `sslmode` means nothing.
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// The names under which a password file may have it; as in libpq, the usual socket is also `localhost`.
    pub(super) fn passfile_hosts(&self) -> Vec<String> {
        match self {
            Self::Tcp { host, .. } => vec![host.clone()],
            Self::Unix(path) => {
                let dir = path.parent().unwrap_or(path);
                let usual = SOCKET_DIRS.iter().any(|usual| Path::new(usual) == dir);
                let named = dir.display().to_string();
                if usual { vec!["localhost".to_owned(), named] } else { vec![named] }
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp { host, addr, port } => {
                if host.contains(':') {
                    write!(f, "[{host}]:{port}")?;
                } else {
                    write!(f, "{host}:{port}")?;
                }
                match addr {
                    Some(addr) if addr.to_string() != *host => write!(f, " ({addr})"),
                    _ => Ok(()),
                }
            }
        }
    }
}
