//! Where clients are waited for: TCP addresses and Unix socket directories.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::problem::Complaint;

/// The port in every example, and that of a Unix socket when no TCP address gives one.
pub(super) const DEFAULT_PORT: u16 = 6432;
/// What `sun_path` holds besides its closing NUL.
const SOCKET_PATH_MAX: usize = 107;
const ALLOWED: &str = "an address with its port, such as \"127.0.0.1:6432\", \"[::1]:6432\", \"*:6432\" or \"localhost:6432\", \
                       or the absolute directory of a Unix socket";

/// One place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP port; port 0 lets the system choose one.
    Tcp {
        /// The addresses.
        host: BindHost,
        /// The port.
        port: u16,
    },
    /// A Unix socket, `.s.PGSQL.<port>` in `dir`.
    Unix {
        /// The directory, which must be there.
        dir: PathBuf,
        /// The port, which is part of the socket's name.
        port: u16,
    },
}

/// The host part of an address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindHost {
    /// `*`: every address of the machine.
    Any,
    /// One address.
    Addr(IpAddr),
    /// A name that may stand for several addresses, such as `localhost`.
    Name(String),
}

impl Listen {
    /// The full path of the socket; none for TCP.
    pub fn socket_path(&self) -> Option<PathBuf> {
        match self {
            Self::Unix { dir, port } => Some(dir.join(format!(".s.PGSQL.{port}"))),
            Self::Tcp { .. } => None,
        }
    }

    /// Whether only this machine can connect. A name may stand for anything except `localhost`.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            Self::Tcp { host: BindHost::Addr(addr), .. } => addr.to_canonical().is_loopback(),
            Self::Tcp { host: BindHost::Name(name), .. } => name == "localhost",
            Self::Tcp { host: BindHost::Any, .. } => false,
        }
    }
}

impl fmt::Display for BindHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Addr(IpAddr::V6(addr)) => write!(f, "[{addr}]"),
            Self::Addr(IpAddr::V4(addr)) => addr.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { dir, port } => write!(f, "{}/.s.PGSQL.{port}", dir.display()),
        }
    }
}

/// An entry as written; the port of a Unix socket may depend on the other entries.
#[derive(Debug)]
pub(super) enum Entry {
    Tcp(BindHost, u16),
    Unix(PathBuf, Option<u16>),
}

impl Entry {
    /// The entry once the port of the first TCP entry is known.
    pub(super) fn settle(self, tcp_port: u16) -> Result<Listen, Complaint> {
        let listen = match self {
            Self::Tcp(host, port) => Listen::Tcp { host, port },
            Self::Unix(dir, port) => Listen::Unix { dir, port: port.unwrap_or(tcp_port) },
        };
        match listen.socket_path() {
            Some(path) if path.as_os_str().len() > SOCKET_PATH_MAX => Err(Complaint::new(format!(
                "the socket's path {} is longer than the {SOCKET_PATH_MAX} bytes the system allows; use a shorter directory",
                path.display()
            ))),
            _ => Ok(listen),
        }
    }
}

/// One entry of `listen`.
pub(super) fn entry(text: &str) -> Result<Entry, Complaint> {
    if !text.starts_with('/') {
        return tcp(text).map(|(host, port)| Entry::Tcp(host, port));
    }
    let path = Path::new(text);
    match path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(".s.PGSQL.")) {
        None => Ok(Entry::Unix(path.components().collect(), None)),
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => Ok(Entry::Unix(path.parent().unwrap_or(Path::new("/")).to_owned(), Some(port))),
            _ => Err(Complaint::new(format!("`{text}`: a socket's name ends in a port, as in .s.PGSQL.6432"))),
        },
    }
}

/// An address for the console or the metrics, which listen in one place.
pub(super) fn socket_addr(text: &str) -> Result<SocketAddr, Complaint> {
    let wrong = || Complaint::new(format!("`{text}` is not an address with its port, such as \"127.0.0.1:6433\""));
    match tcp(text).map_err(|e| wrong().suggest(e.suggestion))? {
        (BindHost::Addr(addr), port) => Ok(SocketAddr::new(addr, port)),
        (BindHost::Any, port) => Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)),
        (BindHost::Name(name), port) if name == "localhost" => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        (BindHost::Name(_), _) => Err(wrong()),
    }
}

fn tcp(text: &str) -> Result<(BindHost, u16), Complaint> {
    let wrong = |suggestion: Option<String>| Complaint::new(format!("`{text}` is not {ALLOWED}")).suggest(suggestion);
    // An address alone or a port alone only lacks its other half.
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Err(wrong(Some(SocketAddr::new(addr, DEFAULT_PORT).to_string())));
    }
    if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        return Err(wrong(Some(format!("127.0.0.1:{port}"))));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong(None))?;
    let port = port.parse().map_err(|_| wrong(None))?;
    if host == "*" {
        return Ok((BindHost::Any, port));
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return v6.parse().map(|addr| (BindHost::Addr(IpAddr::V6(addr)), port)).map_err(|_| wrong(None));
    }
    if let Ok(addr) = host.parse::<Ipv4Addr>() {
        return Ok((BindHost::Addr(addr.into()), port));
    }
    let is_name = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        && !host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_name { Ok((BindHost::Name(host.to_owned()), port)) } else { Err(wrong(None)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;

    fn listen(text: &str) -> Result<Listen, Complaint> {
        entry(text)?.settle(7000)
    }

    #[test]
    fn addresses_and_sockets_are_told_apart() {
        for (text, shown) in [
            ("127.0.0.1:6432", "127.0.0.1:6432"),
            ("[::1]:6432", "[::1]:6432"),
            ("*:6432", "*:6432"),
            ("localhost:0", "localhost:0"),
            ("db-1.example:6432", "db-1.example:6432"),
            ("/run/pgcanon", "/run/pgcanon/.s.PGSQL.7000"),
            ("/run/pgcanon/", "/run/pgcanon/.s.PGSQL.7000"),
            ("/run/pgcanon/.s.PGSQL.5439", "/run/pgcanon/.s.PGSQL.5439"),
            ("/.s.PGSQL.5439", "//.s.PGSQL.5439"),
        ] {
            assert_eq!(listen(text).unwrap().to_string(), shown, "{text}");
        }
        let socket = Listen::Unix { dir: "/tmp".into(), port: 1 };
        assert_eq!(socket.socket_path(), Some(PathBuf::from("/tmp/.s.PGSQL.1")));
    }

    #[test]
    fn what_is_no_place_to_listen_is_refused_with_what_was_meant() {
        for (text, meant) in [
            ("127.0.0.1", Some("127.0.0.1:6432")),
            ("::1", Some("[::1]:6432")),
            ("6432", Some("127.0.0.1:6432")),
            (":6432", Some("127.0.0.1:6432")),
            ("::1:6432:x", None),
            ("300.0.0.1:6432", None),
            ("localhost:66000", None),
            ("localhost", None),
            ("run/pgcanon", None),
            ("", None),
            ("/run/.s.PGSQL.0", None),
            ("/run/.s.PGSQL.lock", None),
        ] {
            assert_eq!(listen(text).unwrap_err().suggestion.as_deref(), meant, "{text}");
        }
        let deep = format!("/{}", "d".repeat(100));
        assert!(listen(&deep).unwrap_err().message.contains("longer than the 107 bytes"));
    }

    #[test]
    fn only_loopback_and_sockets_are_local() {
        for text in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1", "/tmp"] {
            assert!(listen(text).unwrap().is_local(), "{text}");
        }
        for text in ["*:1", "0.0.0.0:1", "10.0.0.1:1", "[::]:1", "db1:1"] {
            assert!(!listen(text).unwrap().is_local(), "{text}");
        }
    }

    #[test]
    fn the_console_listens_on_one_address() {
        assert_eq!(socket_addr("*:9187").unwrap(), "0.0.0.0:9187".parse().unwrap());
        assert_eq!(socket_addr("localhost:9187").unwrap(), "127.0.0.1:9187".parse().unwrap());
        assert_eq!(socket_addr("[::1]:9187").unwrap(), "[::1]:9187".parse().unwrap());
        assert!(socket_addr("db1:9187").is_err() && socket_addr("/tmp").is_err());
        assert_eq!(socket_addr("9187").unwrap_err().suggestion.as_deref(), Some("127.0.0.1:9187"));
    }
}
