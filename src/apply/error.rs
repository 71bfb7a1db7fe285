//! Why a change was not applied, and by which change that was.

use std::fmt;
use std::io;

use crate::config::NodeName;
use crate::journal::TickId;
use crate::wire::message::split_cstr;

/// The peer has other rows than the node had: the change would not change there what it changed here (§8).
pub const CONFLICT: &str = "PGC01";
/// The journal holds what this pgcanon cannot read.
pub const MALFORMED: &str = "PGC02";
/// What the change needs does not travel to this peer.
pub const NOT_ROUTED: &str = "PGC03";

/// A place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    pub tick: TickId,
    /// The transaction within the tick.
    pub ord: i32,
    /// The entry within the transaction, from 0 on.
    pub entry: u32,
    /// The first row of it that the failed statement was about, from 0 on.
    pub row: u32,
}

/// What the peer, or this pgcanon in its place, has to say against a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// None where it is about no entry: COMMIT, or what pgcanon does for itself.
    pub at: Option<At>,
}

/// Why nothing of the open transaction is applied; [`rollback`](super::Applier::rollback) comes next, unless the connection
/// is lost.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("a forwarder of node `{0}` is at work on this peer already")]
    Taken(NodeName),
    #[error("the peer is in recovery; changes are applied when it is promoted")]
    InRecovery,
    /// It will not go away by itself.
    #[error("{0}")]
    Rejected(Box<Rejection>),
    /// The same may succeed a moment later: a lock, a deadlock, a cancelled statement.
    #[error("{0}")]
    Retry(Box<Rejection>),
    /// The peer lacks what it takes, whatever the change: room on its disk, memory, a file. Like a peer that is away it is
    /// waited for (§6.1).
    #[error("{0}")]
    Unable(Box<Rejection>),
    /// Of what was sent, some may have been committed: the peer's progress tells.
    #[error("the connection to the peer is lost: {source}")]
    Lost { source: io::Error, last_words: Option<Box<Rejection>> },
    /// A call that does not fit to those before it.
    #[error("apply: {0}")]
    Misuse(&'static str),
}

// === impl Rejection ===

impl Rejection {
    pub(super) fn own(sqlstate: &str, message: impl Into<String>, at: Option<At>) -> Self {
        Self { sqlstate: sqlstate.to_owned(), message: message.into(), detail: None, hint: None, at }
    }

    pub(super) fn count(expected: u64, found: u64, at: Option<At>) -> Self {
        let message = match at {
            Some(_) => format!("changed {found} rows on the peer, {expected} on the node"),
            None => "the peer's progress is not where this forwarder left it".to_owned(),
        };
        Self::own(CONFLICT, message, at)
    }

    pub(super) fn malformed(message: impl Into<String>, at: Option<At>) -> Self {
        Self::own(MALFORMED, message, at)
    }

    /// Reads an ErrorResponse.
    pub(super) fn read(body: &[u8], at: Option<At>) -> Self {
        let mut read = Self::own("XX000", "", at);
        let mut rest = body;
        while let Some((field, behind)) = split_cstr(rest)
            && let Some((kind, value)) = field.split_first()
        {
            let value = String::from_utf8_lossy(value).into_owned();
            match kind {
                b'C' => read.sqlstate = value,
                b'M' => read.message = value,
                b'D' => read.detail = Some(value),
                b'H' => read.hint = Some(value),
                _ => {}
            }
            rest = behind;
        }
        read
    }
}

impl From<Rejection> for ApplyError {
    fn from(rejection: Rejection) -> Self {
        let state = rejection.sqlstate.as_str();
        match state.get(..2) {
            // The server goes down, takes no writes, or has waited for us for too long.
            _ if state.starts_with("57P") || matches!(state, "25006" | "25P03") => {
                let source = io::Error::new(io::ErrorKind::ConnectionAborted, rejection.message.clone());
                Self::Lost { source, last_words: Some(Box::new(rejection)) }
            }
            Some("40") => Self::Retry(Box::new(rejection)),
            _ if matches!(state, "55P03" | "57014") => Self::Retry(Box::new(rejection)),
            // The session that had it ends just now: of what we say for ourselves, this can be about nothing but an origin.
            _ if state == "55006" && rejection.at.is_none() => Self::Retry(Box::new(rejection)),
            // Of a connection, this says that a value is not of the form that the peer knows.
            Some("08") if state == "08P01" => Self::Rejected(Box::new(rejection)),
            Some("08" | "53" | "57" | "58") => Self::Unable(Box::new(rejection)),
            _ => Self::Rejected(Box::new(rejection)),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(At { tick, ord, entry, row }) = self.at {
            write!(f, "transaction {tick}.{ord}, entry {entry}, row {row}: ")?;
        }
        write!(f, "{} ({})", self.message, self.sqlstate)?;
        self.detail.iter().chain(&self.hint).try_for_each(|more| write!(f, ": {more}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_by_itself_is_told_from_what_stays() {
        let class = |state: &str| ApplyError::from(Rejection::own(state, "", None));
        for state in ["40001", "40P01", "55P03", "57014", "55006"] {
            assert!(matches!(class(state), ApplyError::Retry(_)), "{state}");
        }
        for state in ["53100", "53200", "58030", "57000", "08006"] {
            assert!(matches!(class(state), ApplyError::Unable(_)), "{state}");
        }
        for state in ["23505", "42P01", "22P02", "54000", "08P01", CONFLICT] {
            assert!(matches!(class(state), ApplyError::Rejected(_)), "{state}");
        }
        for state in ["57P01", "25006", "25P03"] {
            assert!(matches!(class(state), ApplyError::Lost { .. }), "{state}");
        }
    }

    #[test]
    fn a_report_is_read() {
        let read = Rejection::read(b"SERROR\0VERROR\0C23505\0Mno\0Dbecause\0\0", None);
        assert_eq!((read.sqlstate.as_str(), read.message.as_str()), ("23505", "no"));
        assert_eq!(read.to_string(), "no (23505): because");
    }
}
