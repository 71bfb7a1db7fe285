//! A server with TLS and a role for every way of logging in, and clients that tell whether they were let in.

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::common::certs::{Certs, Pair};
use crate::common::cluster::PG15_BIN;
use crate::common::{Addr, Client, Cluster, PATIENCE, Pg, Proxy, msg, proc, scram};

/// The password of every role that has one.
pub(crate) const PASSWORD: &str = "sEcret-pa55";

/// One line or more for each role; whoever is not named finds no entry.
const HBA: &str = "
local    all  all                                 trust
host     all  postgres,trusty                all  trust
host     all  passy                          all  password
host     all  md5y                           all  md5
host     all  scramy,control,powerless       all  scram-sha-256
host     all  expired,nologin,weak,nobody    all  scram-sha-256
host     all  changing                       all  scram-sha-256
hostssl  all  ssly                           all  scram-sha-256
hostnossl all plainy                         all  scram-sha-256
hostssl  all  certy                          all  cert
host     replication scramy                  all  scram-sha-256
";

const ROLES: &str = "
create role trusty login;
create role passy login password 'sEcret-pa55';
create role scramy login replication password 'sEcret-pa55';
create role expired login password 'sEcret-pa55' valid until '2001-01-01';
create role nologin password 'sEcret-pa55';
create role changing login password 'sEcret-pa55';
create role ssly login password 'sEcret-pa55';
create role plainy login password 'sEcret-pa55';
create role certy login;
create role powerless login password 'sEcret-pa55';
create role control login password 'sEcret-pa55';
grant select on pg_catalog.pg_authid to control;
set password_encryption = 'md5';
create role md5y login password 'sEcret-pa55';
create role weak login password 'sEcret-pa55';
";

/// A server, the authority that signed its certificate, and that certificate.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) certs: Certs,
    /// The server's own certificate and key, readable to the proxy.
    pub(crate) server: Pair,
    /// What was signed already: tests share files, and none may see another's half written.
    signed: Mutex<HashMap<String, Pair>>,
}

impl Site {
    /// With TLS, and `certy` known by a certificate of the same authority.
    pub(crate) fn start() -> Site {
        Site::start_with(Pg::V15, HBA)
    }

    pub(crate) fn start_with(pg: Pg, hba: &str) -> Site {
        let cluster = Cluster::start(pg, "", hba);
        let certs = Certs::new();
        let server = certs.server("server");
        server.copy_for(&cluster);
        let ca = cluster.data_dir().join("ca.crt");
        std::fs::copy(certs.ca(), &ca).expect("copy the authority");
        cluster.psql(&format!("alter system set ssl_ca_file = '{}'", ca.display()));
        cluster.psql("alter system set ssl = on");
        cluster.psql(ROLES);
        let site = Site { cluster, certs, server, signed: Mutex::default() };
        site.reload("ssl", "on");
        site
    }

    /// A site that tests share while any of them holds it; none of them changes it.
    pub(crate) fn shared() -> Arc<Site> {
        static SHARED: Mutex<Weak<Site>> = Mutex::new(Weak::new());
        let mut shared: MutexGuard<'_, _> = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let site = Arc::new(Site::start());
            *shared = Arc::downgrade(&site);
            site
        })
    }

    /// Has the server read its configuration again, and waits until new sessions see it.
    pub(crate) fn reload(&self, setting: &str, value: &str) {
        self.cluster.reload();
        crate::common::eventually("the server to have read its configuration", || {
            (self.cluster.psql(&format!("show {setting}")) == value).then_some(())
        });
    }

    /// A certificate for a client whose common name is `user`.
    pub(crate) fn client_pair(&self, user: &str) -> Pair {
        self.sign(user, |certs| certs.client(user))
    }

    /// A certificate that is as good as the server's, but another.
    pub(crate) fn proxy_pair(&self) -> Pair {
        self.sign("proxy", |certs| certs.server("proxy"))
    }

    fn sign(&self, name: &str, sign: impl FnOnce(&Certs) -> Pair) -> Pair {
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        signed.entry(name.to_owned()).or_insert_with(|| sign(&self.certs)).clone()
    }

    /// `[node] server` over TCP, with more keywords.
    pub(crate) fn over_tcp(&self, more: &str) -> String {
        format!("host=127.0.0.1 port={} {more}", self.cluster.port())
    }

    /// A proxy that reaches the server over TCP.
    pub(crate) fn proxy(&self, server: &str, overrides: &str) -> Proxy {
        Proxy::start_for(&self.over_tcp(server), overrides)
    }

    /// Sets `control` in `[node]` for a role that may read verifiers, over a socket that trusts it.
    pub(crate) fn control(&self, role: &str) -> String {
        format!(
            "auth = \"scram\"\ncontrol = \"host={} dbname=postgres user={role}\"\n",
            self.cluster.socket_dir().display()
        )
    }

    /// Logs a raw client in; what it is told if that fails.
    pub(crate) fn login(&self, client: Client, user: &str, password: &str) -> Result<Client, Refused> {
        self.login_to(client, user, "postgres", password)
    }

    pub(crate) fn login_to(
        &self,
        mut client: Client,
        user: &str,
        database: &str,
        password: &str,
    ) -> Result<Client, Refused> {
        client.send(&msg::startup(msg::version(3, 0), &[("user", user), ("database", database)]));
        let md5 = |salt: &[u8]| {
            let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
            self.cluster.psql(&format!(
                "select 'md5' || md5(convert_to(md5('{password}{user}'), 'UTF8') || decode('{salt}', 'hex'))"
            ))
        };
        let mut last = scram::authenticate(&mut client, password, md5).pop().expect("an answer");
        while !matches!(last.tag, b'Z' | b'E') {
            last = client.frame();
        }
        if last.tag == b'Z' { Ok(client) } else { Err(Refused::of(&last)) }
    }
}

/// What an ErrorResponse says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) sqlstate: String,
    pub(crate) message: String,
    pub(crate) detail: String,
    pub(crate) hint: String,
}

impl Refused {
    pub(crate) fn of(frame: &crate::common::raw::Frame) -> Refused {
        assert_eq!(frame.tag, b'E', "no error: {frame:?}");
        let field = |code| frame.field(code).unwrap_or_default();
        assert_eq!(field(b'S'), "FATAL", "{frame:?}");
        Refused { sqlstate: field(b'C'), message: field(b'M'), detail: field(b'D'), hint: field(b'H') }
    }
}

/// A client that has asked for TLS and shaken hands.
pub(crate) fn tls(addr: &Addr, config: Arc<rustls::ClientConfig>) -> Client {
    let mut client = Client::connect(addr);
    client.send(&msg::packet(msg::SSL_REQUEST, b""));
    assert_eq!(client.byte(), Some(b'S'));
    client.tls(config, "localhost").expect("shake hands")
}

/// What psql prints for a query, or what it says when it is not let in, without the address it tried.
///
/// The connection string is all it knows: no environment, no files of a home directory. A password is put into it.
pub(crate) fn psql(conninfo: &str, sql: &str) -> Result<String, String> {
    let mut psql = Command::new(format!("{PG15_BIN}/psql"));
    psql.args(["-X", "-w", "-qAtc", sql, "-d", conninfo]).env("HOME", "/nonexistent").env("LC_ALL", "C");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
        psql.env_remove(name);
    }
    let output = proc::output(&mut psql, PATIENCE);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let lines = text(&output.stderr);
    let lines = lines.lines().map(|line| line.split_once(" failed: ").map_or(line, |(_, why)| why));
    Err(lines.collect::<Vec<_>>().join("\n"))
}

/// A connection string to an address, for a role and the database `postgres`.
pub(crate) fn conninfo(addr: &Addr, user: &str, more: &str) -> String {
    format!("host={} port={} user={user} dbname=postgres password={PASSWORD} {more}", addr.host(), addr.port())
}

/// Whether the session's two legs are encrypted, as far as the server can tell of its own.
pub(crate) const SERVER_LEG_TLS: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
