//! `[node]`: who this node is, where it listens, and where its PostgreSQL is.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::choice::{Choice, list, nearest};
use super::conninfo::ConnInfo;
use super::files::Kind;
use super::listen::{self, BindHost, Entry, Listen};
use super::problem::Complaint;
use super::section::{Item, Section};
use super::units;

/// The keys of `[node]`, to tell where one belongs that stands elsewhere.
pub(super) const KEYS: [&str; 20] = [
    "name",
    "listen",
    "server",
    "control",
    "admin",
    "metrics",
    "cluster_key_file",
    "auth",
    "max_connections",
    "threads",
    "drain_timeout",
    "login_timeout",
    "connect_timeout",
    "keepalive_idle",
    "keepalive_interval",
    "keepalive_count",
    "user_timeout",
    "retain",
    "log",
    "log_level",
];

/// This node and its proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// Where clients are waited for; never empty.
    pub listen: Vec<Listen>,
    /// Where its PostgreSQL is, for client sessions.
    pub server: ConnInfo,
    /// How the proxy itself connects to it: `control` laid over `server`.
    pub control: Option<ConnInfo>,
    /// Where the SQL console listens.
    pub admin: Option<SocketAddr>,
    /// Where metrics and health are served.
    pub metrics: Option<SocketAddr>,
    /// The key that all nodes of the cluster share.
    pub cluster_key_file: Option<PathBuf>,
    /// How clients are authenticated.
    pub auth: Auth,
    /// How many client sessions there may be; none for no limit.
    pub max_connections: Option<NonZeroUsize>,
    /// How many threads carry sessions; none leaves it to the program.
    pub threads: Option<NonZeroUsize>,
    /// How long sessions may go on after the first SIGTERM.
    pub drain_timeout: Duration,
    /// How long a client may take until it is logged in.
    pub login_timeout: Duration,
    /// How long connecting to the server may take.
    pub connect_timeout: Duration,
    /// How a dead connection is noticed while nothing is sent.
    pub keepalive: Keepalive,
    /// How long sent bytes may stay unacknowledged; zero is off, none leaves it to the program.
    pub user_timeout: Option<Duration>,
    /// How long the journal is kept although every peer has it.
    pub retain: Duration,
    /// How logs look.
    pub log: LogFormat,
    /// What is logged: a level, or directives per module.
    pub log_level: String,
}

/// TCP keepalive, on the connections of clients and of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long a connection may be silent before it is probed; zero turns probing off.
    pub idle: Duration,
    /// The time between probes.
    pub interval: Duration,
    /// How many probes may go unanswered.
    pub count: u32,
}

/// A node's name, which is safe to be part of an `application_name`, a role's setting or a subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

impl NodeName {
    const MAX: usize = 48;

    /// A name of letters, digits, `_` and `-`.
    pub fn new(name: &str) -> Option<Self> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        let fits = !name.is_empty() && name.len() <= Self::MAX;
        (plain && fits).then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How clients are authenticated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// By the server, whose messages are relayed as they are.
    #[default]
    Relay,
    /// By the proxy, with the server's own SCRAM verifier.
    Scram,
}

impl Choice for Auth {
    const WORDS: &'static [(&'static str, Self)] = &[("relay", Self::Relay), ("scram", Self::Scram)];
}

/// How logs look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

pub(super) fn name(text: &str) -> Result<NodeName, Complaint> {
    NodeName::new(text).ok_or_else(|| {
        let max = NodeName::MAX;
        Complaint::new(format!("`{text}` is no node name: up to {max} letters, digits, `_` and `-`"))
    })
}

impl Node {
    pub(super) fn read(mut s: Section<'_>) -> Option<Self> {
        let item = s.require("name", "a name for this node, unique in the cluster");
        let name = item.and_then(|item| s.reading().parse(&item, name));
        let listen = read_listen(&mut s);
        let admin = own_address(&mut s, "admin", &listen, None);
        let (server, control) = read_servers(&mut s);
        let node = Self {
            // Every key is read even without a name, so that all problems are found.
            name: name.clone().unwrap_or(NodeName(String::new())),
            admin,
            metrics: own_address(&mut s, "metrics", &listen, admin),
            listen,
            server,
            cluster_key_file: s.path("cluster_key_file").map(|(item, path)| {
                s.reading().check_file(&item, &path, Kind::Private);
                path
            }),
            auth: read_auth(&mut s, control.is_some()),
            control,
            max_connections: s.number("max_connections", 0).and_then(count),
            threads: s.number("threads", 1).and_then(count),
            drain_timeout: s.parse("drain_timeout", units::duration).unwrap_or(Duration::from_secs(60)),
            login_timeout: s.parse("login_timeout", positive).unwrap_or(Duration::from_secs(60)),
            connect_timeout: s.parse("connect_timeout", positive).unwrap_or(Duration::from_secs(10)),
            keepalive: Keepalive {
                idle: s.parse("keepalive_idle", units::whole_seconds).unwrap_or(Duration::from_secs(60)),
                interval: s.parse("keepalive_interval", positive_seconds).unwrap_or(Duration::from_secs(10)),
                count: s.number("keepalive_count", 1).unwrap_or(6),
            },
            user_timeout: s.parse("user_timeout", units::duration),
            retain: s.parse("retain", units::duration).unwrap_or(Duration::from_secs(3600)),
            log: s.choice("log").unwrap_or_default(),
            log_level: s.parse("log_level", log_level).unwrap_or_else(|| "info".to_owned()),
        };
        s.finish(|_| None);
        name.map(|_| node)
    }
}

fn count(number: u32) -> Option<NonZeroUsize> {
    usize::try_from(number).ok().and_then(NonZeroUsize::new)
}

fn positive(text: &str) -> Result<Duration, Complaint> {
    match units::duration(text)? {
        Duration::ZERO => Err(Complaint::new("this must be longer than nothing")),
        duration => Ok(duration),
    }
}

fn positive_seconds(text: &str) -> Result<Duration, Complaint> {
    units::whole_seconds(text).and(positive(text))
}

fn log_level(text: &str) -> Result<String, Complaint> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let complaint = || {
        Complaint::new(format!(
            "`{text}` is no log level: {}, or directives such as \"info,pgcanon::wire=debug\"",
            list(LEVELS)
        ))
    };
    let directives = text.contains(['=', ',']);
    if !directives && !LEVELS.contains(&text) {
        return Err(complaint().suggest(nearest(text, LEVELS)));
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(complaint()),
    }
}

fn read_listen(s: &mut Section<'_>) -> Vec<Listen> {
    let default = || vec![Listen::Tcp { host: BindHost::Addr([127, 0, 0, 1].into()), port: listen::DEFAULT_PORT }];
    let Some(item) = s.take("listen") else {
        return default();
    };
    let reading = s.reading();
    let items = reading.each(&item);
    if items.is_empty() {
        reading.object(&item, Complaint::new("an empty list: nobody could connect"));
    }
    let entries: Vec<(Item<'_>, Entry)> =
        items.into_iter().filter_map(|i| reading.parse(&i, listen::entry).map(|entry| (i, entry))).collect();
    let tcp_port = entries.iter().find_map(|(_, e)| match e {
        Entry::Tcp(_, port) => Some(*port).filter(|p| *p != 0),
        Entry::Unix(..) => None,
    });
    let mut found: Vec<Listen> = Vec::new();
    for (item, entry) in entries {
        match entry.settle(tcp_port.unwrap_or(listen::DEFAULT_PORT)) {
            Err(complaint) => reading.object(&item, complaint),
            Ok(listen) if clash(&found, &listen) => {
                reading.object(&item, Complaint::new(format!("`{listen}` is listed twice")));
            }
            Ok(listen) => found.push(listen),
        }
    }
    found
}

/// Whether `listen` is there already; port 0 is another port every time.
fn clash(found: &[Listen], listen: &Listen) -> bool {
    !matches!(listen, Listen::Tcp { port: 0, .. }) && found.contains(listen)
}

/// An address for the console or the metrics, which clients are not served at.
fn own_address(
    s: &mut Section<'_>,
    key: &'static str,
    listen: &[Listen],
    admin: Option<SocketAddr>,
) -> Option<SocketAddr> {
    let item = s.take(key)?;
    let addr = s.reading().parse(&item, listen::socket_addr)?;
    if key == "admin" && !addr.ip().to_canonical().is_loopback() {
        let message =
            format!("`{addr}` can be reached from other machines, and what the console says is not encrypted");
        s.reading().object(&item, Complaint::new(message).suggest(Some(format!("127.0.0.1:{}", addr.port()))));
    }
    let whose = if clash(listen, &Listen::Tcp { host: BindHost::Addr(addr.ip()), port: addr.port() }) {
        "in `listen`"
    } else if admin == Some(addr) && addr.port() != 0 {
        "the console's"
    } else {
        return Some(addr);
    };
    s.reading().object(&item, Complaint::new(format!("`{addr}` is {whose} already; give this another port")));
    Some(addr)
}

/// `server`, and `control` on top of it.
fn read_servers(s: &mut Section<'_>) -> (ConnInfo, Option<ConnInfo>) {
    let reading = s.reading();
    let server = match s.take("server") {
        None => Some(ConnInfo::default()),
        Some(item) => reading.conninfo(&item).filter(|server| reading.check_conninfo(&item, server)),
    };
    let control = s.take("control").and_then(|item| {
        let control = reading.conninfo(&item)?;
        let control = server.as_ref()?.overlay(&control);
        (reading.check_conninfo(&item, &control) && reading.check_login(&item, &control)).then_some(control)
    });
    (server.unwrap_or_default(), control)
}

fn read_auth(s: &mut Section<'_>, has_control: bool) -> Auth {
    let Some(item) = s.take("auth") else {
        return Auth::default();
    };
    let auth = s.choice("auth").unwrap_or_default();
    if auth == Auth::Scram && !has_control && !s.has("control") {
        let message = "`scram` reads the server's verifiers over the control connection; set `control`";
        s.reading().object(&item, Complaint::new(message));
    }
    auth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_is_safe_wherever_it_goes() {
        assert!(NodeName::new("a").is_some() && NodeName::new("Node_1-eu").is_some());
        for bad in ["", "a.b", "a b", "é", "a/b", "a'b", &"x".repeat(49)] {
            assert_eq!(NodeName::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_log_level_is_a_level_or_directives() {
        assert_eq!(log_level("debug").as_deref(), Ok("debug"));
        assert_eq!(log_level("info,pgcanon::wire=trace").as_deref(), Ok("info,pgcanon::wire=trace"));
        assert_eq!(log_level("inof").map_err(|e| e.suggestion), Err(Some("info".into())));
        assert!(log_level("pgcanon=loud").is_err() && log_level("").is_err());
    }
}
