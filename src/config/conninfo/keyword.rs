//! What each libpq keyword means here: taken, accepted because it makes no difference, or refused with the reason.
//!
//! Accepted without effect: `fallback_application_name`, `keepalives`, `keepalives_idle`, `keepalives_interval`,
//! `keepalives_count`, `tcp_user_timeout` (`[node]` sets these for every connection) and `client_encoding` (the proxy's
//! own sessions are UTF-8). Others are accepted only with the values that ask for nothing pgcanon lacks, such as
//! `gssencmode=disable`. What would weaken security if it were overlooked, such as `requirepeer`, is refused.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::{ConnInfo, Host, RootCert, Secret, SslMode, SslNegotiation};
use crate::config::choice::{Choice, nearest, words};
use crate::config::problem::Complaint;

/// Why a connection string cannot be used. No password is ever part of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnInfoError {
    /// The `keyword=value` form is broken.
    #[error("connection string, character {at}: {what}")]
    Syntax {
        /// Where, counted from 1 in bytes.
        at: usize,
        /// What is broken.
        what: &'static str,
    },
    /// The URI form is broken.
    #[error("connection URI: {0}")]
    Uri(&'static str),
    /// libpq does not know it either.
    #[error("connection string: unknown keyword `{keyword}`")]
    Unknown {
        /// The keyword.
        keyword: String,
        /// The one that was probably meant.
        suggestion: Option<&'static str>,
    },
    /// libpq knows it, pgcanon does not do it.
    #[error("connection string: {keyword}: {why}")]
    Unsupported {
        /// The keyword.
        keyword: &'static str,
        /// Why, and what to do instead.
        why: &'static str,
    },
    /// The value is none that the keyword takes.
    #[error("connection string: {keyword}={value}: {allowed}")]
    Value {
        /// The keyword.
        keyword: &'static str,
        /// The value that was given.
        value: String,
        /// What it takes.
        allowed: String,
        /// What was probably meant.
        suggestion: Option<&'static str>,
    },
    /// The port is none; what stands there may be half a password, so it is not repeated.
    #[error("connection string: a port is a number from 1 to 65535 (in a URI, `/` in a password is written %2F)")]
    Port,
    /// libpq would try one after another.
    #[error("connection string: several hosts are given; a node is one server, so name the one to use")]
    SeveralHosts,
    /// The keywords contradict each other.
    #[error("connection string: {0}")]
    Combination(String),
}

impl From<ConnInfoError> for Complaint {
    fn from(e: ConnInfoError) -> Self {
        let suggestion = match &e {
            ConnInfoError::Unknown { suggestion, .. } | ConnInfoError::Value { suggestion, .. } => *suggestion,
            _ => None,
        };
        Complaint::new(e.to_string()).suggest(suggestion)
    }
}

enum Support {
    Taken,
    Ignored,
    /// Accepted with these values, which change nothing; otherwise refused for the reason.
    Only(&'static [&'static str], &'static str),
    Refused(&'static str),
}
use Support::{Ignored, Only, Refused, Taken};

const NO_GSS: &str = "GSSAPI is not supported for the proxy's own connections; use TLS";
const NO_OAUTH: &str = "OAuth is not supported for the proxy's own connections; use a password, a certificate or peer";
const ONE_HOST: &str = "not supported: a node is one server, so name the one to use";
const NO_SERVICE: &str = "service files are not read; write the keywords here";
const MADE_BY_PROXY: &str = "not supported: the proxy itself decides this";
const NO_KEYS: &str = "not supported; give the password or a passfile";

/// Every keyword of libpq (PostgreSQL 18), and what becomes of it.
const KEYWORDS: &[(&str, Support)] = &[
    ("host", Taken),
    ("hostaddr", Taken),
    ("port", Taken),
    ("dbname", Taken),
    ("user", Taken),
    ("password", Taken),
    ("passfile", Taken),
    ("sslmode", Taken),
    ("sslrootcert", Taken),
    ("sslcert", Taken),
    ("sslkey", Taken),
    ("sslcrl", Taken),
    ("sslnegotiation", Taken),
    ("connect_timeout", Taken),
    ("application_name", Taken),
    ("options", Taken),
    ("fallback_application_name", Ignored),
    ("client_encoding", Ignored),
    ("keepalives", Ignored),
    ("keepalives_idle", Ignored),
    ("keepalives_interval", Ignored),
    ("keepalives_count", Ignored),
    ("tcp_user_timeout", Ignored),
    (
        "channel_binding",
        Only(&["prefer", "disable"], "not supported; sslmode=verify-full guards against the same attack"),
    ),
    ("gssencmode", Only(&["disable", "prefer"], NO_GSS)),
    ("gssdelegation", Only(&["0"], NO_GSS)),
    ("gsslib", Refused(NO_GSS)),
    ("krbsrvname", Refused(NO_GSS)),
    ("load_balance_hosts", Only(&["disable"], ONE_HOST)),
    ("target_session_attrs", Only(&["any"], ONE_HOST)),
    ("sslcompression", Only(&["0"], "TLS compression is unsafe and not supported")),
    ("sslsni", Only(&["1"], "not supported: the server name is always sent")),
    ("sslcertmode", Only(&["allow"], "not supported: a certificate is shown when sslcert is set and the server asks")),
    ("ssl_min_protocol_version", Only(&["TLSv1", "TLSv1.1", "TLSv1.2"], "not supported: TLS 1.2 and 1.3 are offered")),
    ("ssl_max_protocol_version", Only(&["TLSv1.3"], "not supported: TLS 1.2 and 1.3 are offered")),
    ("sslpassword", Refused("encrypted private keys are not supported; decrypt it with `openssl pkey` and chmod 0600")),
    ("sslcrldir", Refused("not supported; put the lists into one file and name it with sslcrl")),
    ("sslkeylogfile", Refused("not supported: TLS secrets are never written out")),
    ("requirepeer", Refused("not supported; keep the socket in a directory only the server's user can write")),
    ("require_auth", Refused("not supported; sslmode=verify-full makes sure who asks for the password")),
    ("service", Refused(NO_SERVICE)),
    ("servicefile", Refused(NO_SERVICE)),
    ("replication", Refused(MADE_BY_PROXY)),
    ("min_protocol_version", Refused(MADE_BY_PROXY)),
    ("max_protocol_version", Refused(MADE_BY_PROXY)),
    ("scram_client_key", Refused(NO_KEYS)),
    ("scram_server_key", Refused(NO_KEYS)),
    ("oauth_issuer", Refused(NO_OAUTH)),
    ("oauth_client_id", Refused(NO_OAUTH)),
    ("oauth_client_secret", Refused(NO_OAUTH)),
    ("oauth_scope", Refused(NO_OAUTH)),
];

fn known() -> impl Iterator<Item = &'static str> {
    KEYWORDS.iter().filter(|(_, s)| !matches!(s, Refused(_))).map(|(k, _)| *k)
}

impl ConnInfo {
    /// Gives one keyword its value.
    pub(super) fn set(&mut self, keyword: &str, value: String) -> Result<(), ConnInfoError> {
        let Some((keyword, support)) = KEYWORDS.iter().find(|(k, _)| *k == keyword) else {
            let suggestion = nearest(keyword, known());
            // After a password with an unquoted blank this may be a piece of it: then it is not repeated.
            let keyword = match (self.password.is_some(), suggestion) {
                (true, None) => "***; if it belongs to the password before it, put the password in single quotes",
                _ => keyword,
            };
            return Err(ConnInfoError::Unknown { keyword: keyword.to_owned(), suggestion });
        };
        match support {
            _ if value.is_empty() => Ok(()),
            Taken => self.take(keyword, value),
            Ignored => Ok(()),
            Only(values, _) if values.iter().any(|v| v.eq_ignore_ascii_case(&value)) => Ok(()),
            Only(_, why) | Refused(why) => Err(ConnInfoError::Unsupported { keyword, why }),
        }
    }

    fn take(&mut self, keyword: &'static str, value: String) -> Result<(), ConnInfoError> {
        match keyword {
            "host" => self.host = Some(host(value)?),
            "hostaddr" => self.hostaddr = Some(hostaddr(value)?),
            "port" => self.port = Some(port(value)?),
            "dbname" => self.dbname = Some(value),
            "user" => self.user = Some(value),
            "password" => self.password = Some(Secret::new(value)),
            "passfile" => self.passfile = Some(PathBuf::from(value)),
            "sslmode" => self.sslmode = Some(choice::<SslMode>(keyword, value)?),
            "sslrootcert" if value == "system" => self.sslrootcert = Some(RootCert::System),
            "sslrootcert" => self.sslrootcert = Some(RootCert::File(PathBuf::from(value))),
            "sslcert" => self.sslcert = Some(PathBuf::from(value)),
            "sslkey" => self.sslkey = Some(PathBuf::from(value)),
            "sslcrl" => self.sslcrl = Some(PathBuf::from(value)),
            "sslnegotiation" => self.sslnegotiation = Some(choice::<SslNegotiation>(keyword, value)?),
            "connect_timeout" => self.connect_timeout = Some(seconds(keyword, value)?),
            "application_name" => self.application_name = Some(value),
            _ => self.options = Some(value),
        }
        Ok(())
    }

    /// What was set, in the order of the keywords, with the password hidden.
    pub(super) fn set_keywords(&self) -> Vec<(&'static str, String)> {
        let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.display().to_string());
        let all = [
            ("host", self.host.as_ref().map(ToString::to_string)),
            ("hostaddr", self.hostaddr.map(|a| a.to_string())),
            ("port", self.port.map(|p| p.to_string())),
            ("dbname", self.dbname.clone()),
            ("user", self.user.clone()),
            ("password", self.password.as_ref().map(|_| "***".to_owned())),
            ("passfile", path(&self.passfile)),
            ("sslmode", self.sslmode.map(|m| m.word().to_owned())),
            ("sslrootcert", self.sslrootcert.as_ref().map(ToString::to_string)),
            ("sslcert", path(&self.sslcert)),
            ("sslkey", path(&self.sslkey)),
            ("sslcrl", path(&self.sslcrl)),
            ("sslnegotiation", self.sslnegotiation.map(|n| n.word().to_owned())),
            ("connect_timeout", self.connect_timeout.map(|t| t.as_secs().to_string())),
            ("application_name", self.application_name.clone()),
            ("options", self.options.clone()),
        ];
        all.into_iter().filter_map(|(keyword, value)| Some((keyword, value?))).collect()
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(dir) => dir.display().fmt(f),
            Self::Tcp(host) => f.write_str(host),
        }
    }
}

impl std::fmt::Display for RootCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::System => f.write_str("system"),
        }
    }
}

fn bad(keyword: &'static str, value: String, allowed: impl Into<String>) -> ConnInfoError {
    ConnInfoError::Value { keyword, value, allowed: allowed.into(), suggestion: None }
}

fn host(value: String) -> Result<Host, ConnInfoError> {
    if value.contains(',') {
        return Err(ConnInfoError::SeveralHosts);
    }
    if value.starts_with('@') {
        return Err(bad("host", value, "abstract sockets are not supported; name the directory of the socket"));
    }
    Ok(if value.starts_with('/') { Host::Unix(PathBuf::from(value)) } else { Host::Tcp(value) })
}

fn hostaddr(value: String) -> Result<IpAddr, ConnInfoError> {
    if value.contains(',') {
        return Err(ConnInfoError::SeveralHosts);
    }
    value.parse().map_err(|_| bad("hostaddr", value, "not an IP address; a host name goes into `host`"))
}

fn port(value: String) -> Result<u16, ConnInfoError> {
    if value.contains(',') {
        return Err(ConnInfoError::SeveralHosts);
    }
    match value.parse() {
        Ok(0) | Err(_) => Err(ConnInfoError::Port),
        Ok(port) => Ok(port),
    }
}

/// libpq's `connect_timeout`: whole seconds, zero and below meaning for ever.
fn seconds(keyword: &'static str, value: String) -> Result<Duration, ConnInfoError> {
    match value.trim().parse::<i32>() {
        Ok(n) => Ok(Duration::from_secs(u64::try_from(n).unwrap_or(0))),
        Err(_) => Err(bad(keyword, value, "give a whole number of seconds (0 waits for ever)")),
    }
}

fn choice<T: Choice>(keyword: &'static str, value: String) -> Result<T, ConnInfoError> {
    T::from_word(&value).ok_or_else(|| ConnInfoError::Value {
        keyword,
        allowed: format!("it takes {}", words::<T>()),
        suggestion: nearest(&value, T::WORDS.iter().map(|(w, _)| *w)),
        value,
    })
}
