//! libpq connection strings: what was set is kept apart from what is implied, so that one can be laid over another.
//!
//! Both forms of libpq are read (`keyword=value` and `postgres://`), with libpq's rules of quoting. What libpq knows and
//! pgcanon does not do is an error of its own; what makes no difference here is accepted (see [`keyword`]). Nothing is
//! taken from `PG*` variables, `~/.pgpass` or `~/.postgresql`: what counts is what the configuration says.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::choice::Choice;
use super::passfile::{self, PassfileError};
use super::secret::Secret;

mod endpoint;
mod keyword;
mod text;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has done its work
mod tests;

pub use endpoint::{Endpoint, SOCKET_DIRS};
pub use keyword::ConnInfoError;
pub(super) use text::pairs;
pub use text::quote;

/// The port PostgreSQL listens on unless told otherwise.
const DEFAULT_PORT: u16 = 5432;

/// Where a server is and how to reach it: the keywords that were set, and only those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnInfo {
    /// The host name or the socket directory.
    pub host: Option<Host>,
    /// The address to connect to instead of looking `host` up; `host` is then only the name to verify.
    pub hostaddr: Option<IpAddr>,
    /// The port, which also names the Unix socket.
    pub port: Option<u16>,
    /// The database.
    pub dbname: Option<String>,
    /// The role.
    pub user: Option<String>,
    /// The password; it goes before `passfile`.
    pub password: Option<Secret>,
    /// A file of passwords in the format of `.pgpass`.
    pub passfile: Option<PathBuf>,
    /// How much of TLS is asked for; see [`ConnInfo::sslmode`].
    pub sslmode: Option<SslMode>,
    /// What a server certificate is verified against.
    pub sslrootcert: Option<RootCert>,
    /// The client certificate to show.
    pub sslcert: Option<PathBuf>,
    /// Its private key.
    pub sslkey: Option<PathBuf>,
    /// The revoked server certificates.
    pub sslcrl: Option<PathBuf>,
    /// Whether TLS is asked for first or begun at once.
    pub sslnegotiation: Option<SslNegotiation>,
    /// How long one attempt to connect may take; zero is for ever.
    pub connect_timeout: Option<Duration>,
    /// The `application_name` of the session.
    pub application_name: Option<String>,
    /// Command-line options for the session, such as `-c statement_timeout=1s`.
    pub options: Option<String>,
}

/// Where to look for the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// The directory of its Unix socket.
    Unix(PathBuf),
    /// A host name or an address.
    Tcp(String),
}

/// What a server certificate is verified against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCert {
    /// The certificates of a PEM file.
    File(PathBuf),
    /// Those the operating system trusts (`sslrootcert=system`).
    System,
}

/// libpq's `sslmode`, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only where the server refuses to do without.
    Allow,
    /// TLS where the server has it.
    Prefer,
    /// TLS, whoever the server is.
    Require,
    /// TLS with a server whose certificate the root certificate vouches for.
    VerifyCa,
    /// … and that bears the name that was asked for.
    VerifyFull,
}

impl Choice for SslMode {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

/// libpq's `sslnegotiation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslNegotiation {
    /// Ask with an SSLRequest first.
    #[default]
    Postgres,
    /// Begin with the TLS handshake (PostgreSQL 17 and newer).
    Direct,
}

impl Choice for SslNegotiation {
    const WORDS: &'static [(&'static str, Self)] = &[("postgres", Self::Postgres), ("direct", Self::Direct)];
}

impl ConnInfo {
    /// Reads a connection string of either form; combinations are left to [`ConnInfo::check`].
    pub fn parse(text: &str) -> Result<Self, ConnInfoError> {
        Self::from_pairs(pairs(text)?)
    }

    /// Takes keywords and values one by one, the last of a keyword counting, an empty value standing for "not set".
    pub(super) fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConnInfoError> {
        let mut info = Self::default();
        for (keyword, value) in pairs {
            info.set(&keyword, value)?;
        }
        Ok(info)
    }

    /// `self` with every keyword of `on_top` in place of its own (§10: `control` lies on top of `server`).
    pub fn overlay(&self, on_top: &Self) -> Self {
        // Another host is not reached under the address of the first, nor another file's password by the first's.
        let hostaddr = if on_top.host.is_some() { None } else { self.hostaddr };
        let password = if on_top.passfile.is_some() { None } else { self.password.clone() };
        let top = on_top.clone();
        Self {
            host: top.host.or_else(|| self.host.clone()),
            hostaddr: top.hostaddr.or(hostaddr),
            port: top.port.or(self.port),
            dbname: top.dbname.or_else(|| self.dbname.clone()),
            user: top.user.or_else(|| self.user.clone()),
            password: top.password.or(password),
            passfile: top.passfile.or_else(|| self.passfile.clone()),
            sslmode: top.sslmode.or(self.sslmode),
            sslrootcert: top.sslrootcert.or_else(|| self.sslrootcert.clone()),
            sslcert: top.sslcert.or_else(|| self.sslcert.clone()),
            sslkey: top.sslkey.or_else(|| self.sslkey.clone()),
            sslcrl: top.sslcrl.or_else(|| self.sslcrl.clone()),
            sslnegotiation: top.sslnegotiation.or(self.sslnegotiation),
            connect_timeout: top.connect_timeout.or(self.connect_timeout),
            application_name: top.application_name.or_else(|| self.application_name.clone()),
            options: top.options.or_else(|| self.options.clone()),
        }
    }

    /// The port, 5432 unless set.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }

    /// The database: the role's name unless set, as libpq has it.
    pub fn dbname(&self) -> Option<&str> {
        self.dbname.as_deref().or(self.user.as_deref())
    }

    /// The mode that holds, by libpq's rules: `prefer` unless set, `verify-full` with the system's certificates, and
    /// `require` becomes `verify-ca` where a root certificate is given. It means nothing on a Unix socket.
    pub fn sslmode(&self) -> SslMode {
        match (self.sslmode, &self.sslrootcert) {
            (None, Some(RootCert::System)) => SslMode::VerifyFull,
            (None, _) => SslMode::Prefer,
            (Some(SslMode::Require), Some(RootCert::File(_))) => SslMode::VerifyCa,
            (Some(mode), _) => mode,
        }
    }

    /// How TLS begins, by asking unless set.
    pub fn sslnegotiation(&self) -> SslNegotiation {
        self.sslnegotiation.unwrap_or_default()
    }

    /// Whether the keywords can stand together.
    pub fn check(&self) -> Result<(), ConnInfoError> {
        let mode = self.sslmode();
        let bad = |message: String| Err(ConnInfoError::Combination(message));
        if mode >= SslMode::VerifyCa && self.sslrootcert.is_none() {
            return bad(format!(
                "sslmode={} needs sslrootcert: the file of the CA's certificate, or `system`",
                mode.word()
            ));
        }
        if self.sslrootcert == Some(RootCert::System) && mode != SslMode::VerifyFull {
            return bad(format!("sslrootcert=system needs sslmode=verify-full, not {}", mode.word()));
        }
        if self.sslnegotiation() == SslNegotiation::Direct && mode < SslMode::Require {
            return bad(format!(
                "sslnegotiation=direct needs sslmode=require, verify-ca or verify-full, not {}",
                mode.word()
            ));
        }
        match (&self.sslcert, &self.sslkey) {
            (Some(_), None) => bad("sslcert needs sslkey, the private key that belongs to it".into()),
            (None, Some(_)) => bad("sslkey needs sslcert, the certificate that belongs to it".into()),
            _ => Ok(()),
        }
    }

    /// The password to use at `endpoint`: the one that was set, otherwise what `passfile` has for this connection.
    pub fn password_for(&self, endpoint: &Endpoint) -> Result<Option<Secret>, PassfileError> {
        match (&self.password, &self.passfile, self.user.as_deref(), self.dbname()) {
            (None, Some(file), Some(user), Some(dbname)) => {
                let hosts = endpoint.passfile_hosts();
                passfile::lookup(file, &passfile::Wanted { hosts: &hosts, port: self.port(), dbname, user })
            }
            (password, ..) => Ok(password.clone()),
        }
    }
}

/// The keywords that were set, as a connection string, with the password hidden.
impl fmt::Display for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (keyword, value)) in self.set_keywords().into_iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{keyword}={}", quote(&value))?;
        }
        Ok(())
    }
}
