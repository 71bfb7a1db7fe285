//! Who may come in: the proxy's own rules, since to the server every client has the proxy's address.

use crate::config::{self, Admission};
use crate::session::settings::Settings;
use crate::wire::error::{Report, sqlstate};
use crate::wire::startup::Params;
use crate::wire::stream::Source;
use crate::wire::upstream::Shown;

/// Applies the `[[allow]]` rules to a session; says whether the rule that lets it in vouches for it.
pub(crate) fn admit(settings: &Settings, source: &Source, tls: bool, params: &Params) -> Result<bool, Report> {
    let from = match source {
        Source::Tcp(address) => config::Source::Addr(address.ip()),
        Source::Unix { .. } => config::Source::Local,
    };
    match config::admit(&settings.allow, from, params.database(), &params.user) {
        Admission::Admitted { trust } => Ok(trust),
        Admission::Refused => {
            let message = format!(
                "no [[allow]] rule of the proxy for host \"{}\", user \"{}\", database \"{}\", {}",
                host(source),
                params.user,
                params.database(),
                if tls { "SSL encryption" } else { "no encryption" },
            );
            Err(Report::fatal(sqlstate::INVALID_AUTHORIZATION, message))
        }
    }
}

fn host(source: &Source) -> String {
    match source {
        Source::Tcp(address) => address.ip().to_canonical().to_string(),
        Source::Unix { .. } => "[local]".into(),
    }
}

/// What is known of a session that the server let in without asking for anything.
#[derive(Debug)]
pub(crate) struct Unproven<'a> {
    /// An `[[allow]]` rule vouches for it.
    pub(crate) trusted: bool,
    pub(crate) source: &'a Source,
    pub(crate) params: &'a Params,
    pub(crate) shown: Shown,
    pub(crate) own: &'a OwnUser,
}

/// The user that this process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnUser {
    uid: u32,
    /// `None` for a user whom only a directory service knows.
    name: Option<String>,
}

impl OwnUser {
    pub fn find() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let named = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        };
        Self { uid, name: passwd.lines().find_map(named) }
    }
}

/// What to do with such a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admit,
    /// Admit if the server lets in anybody from where the proxy is (`trust`), rather than the proxy's own user (`peer`).
    AdmitIfOpen,
    Refuse(Report),
}

impl Unproven<'_> {
    /// The server saw the proxy's address and user. It must not let in a client that it would not have let in itself.
    pub(crate) fn judge(&self) -> Verdict {
        if self.trusted || matches!(self.source, Source::Unix { uid: Some(uid) } if *uid == self.own.uid) {
            Verdict::Admit
        } else if !self.source.is_local() {
            Verdict::Refuse(self.refusal(
                "The server trusts the proxy's address, and would let in everyone who reaches the proxy.",
                "Let pg_hba.conf ask for a password (scram-sha-256) where it says trust, or vouch for these clients with trust = true in an [[allow]] rule.",
            ))
        } else {
            match self.shown {
                Shown::Nothing => Verdict::Admit,
                // `peer` lets this process in as the role of its own name, and as no other unless pg_ident.conf says so.
                Shown::UnixUser if self.own.name.as_ref().is_some_and(|own| *own != self.params.user) => Verdict::Admit,
                Shown::UnixUser | Shown::Certificate => Verdict::AdmitIfOpen,
            }
        }
    }

    /// The refusal after a look at the server showed that it took the proxy's identity for the client's.
    pub(crate) fn taken_for_us(&self) -> Report {
        self.refusal(
            "The server took the proxy's own Unix user or certificate for the client's.",
            "Let the proxy reach the server where pg_hba.conf asks for a password (host=127.0.0.1 in node.server), or connect by Unix socket as the proxy's user.",
        )
    }

    fn refusal(&self, detail: &str, hint: &str) -> Report {
        let message = format!(
            "connection of user \"{}\" from {} refused: the server asked for no proof of identity",
            self.params.user,
            host(self.source)
        );
        Report::fatal(sqlstate::INVALID_AUTHORIZATION, message).detail(detail).hint(hint)
    }
}
