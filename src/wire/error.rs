//! What can go wrong on the wire, and how a client is told.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use crate::wire::message::{back, put_frame};

/// A failure of the protocol or of the socket under it.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("malformed {0} message")]
    Malformed(&'static str),
    #[error("{what} of {len} bytes exceeds the limit of {limit}")]
    TooLong { what: &'static str, len: usize, limit: usize },
    #[error("connection closed")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The SQLSTATEs that the proxy itself can raise.
pub mod sqlstate {
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    pub const SYSTEM_ERROR: &str = "58000";
    pub const CONNECTION_FAILURE: &str = "08006";
    pub const SERIALIZATION_FAILURE: &str = "40001";
    pub const TRANSACTION_ROLLBACK: &str = "40000";
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    pub const INVALID_AUTHORIZATION: &str = "28000";
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
}

/// How grave a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Warning,
    Error,
    Fatal,
}

/// An ErrorResponse or NoticeResponse, in PostgreSQL's manner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub severity: Severity,
    pub sqlstate: Cow<'static, str>,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl Report {
    pub fn fatal(sqlstate: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let sqlstate = sqlstate.into();
        Self { severity: Severity::Fatal, sqlstate, message: message.into(), detail: None, hint: None }
    }

    pub fn error(sqlstate: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, ..Self::fatal(sqlstate, message) }
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The frame: a NoticeResponse for a warning, an ErrorResponse for the rest.
    pub fn frame(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(128);
        let mut field = |tag: u8, text: &str| {
            body.push(tag);
            // A NUL would end the field early and shift all that follow.
            body.extend(text.bytes().filter(|&b| b != 0));
            body.push(0);
        };
        let (tag, severity) = match self.severity {
            Severity::Warning => (back::NOTICE, "WARNING"),
            Severity::Error => (back::ERROR, "ERROR"),
            Severity::Fatal => (back::ERROR, "FATAL"),
        };
        field(b'S', severity);
        field(b'V', severity);
        field(b'C', &self.sqlstate);
        field(b'M', &self.message);
        if let Some(detail) = &self.detail {
            field(b'D', detail);
        }
        if let Some(hint) = &self.hint {
            field(b'H', hint);
        }
        body.push(0);
        let mut out = Vec::with_capacity(body.len().saturating_add(5));
        put_frame(&mut out, tag, &body);
        out
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.sqlstate)?;
        self.detail.iter().chain(&self.hint).try_for_each(|more| {
            f.write_str(": ")?;
            f.write_str(more)
        })
    }
}

/// The fields of an ErrorResponse body, for logs: `SQLSTATE message`; in the format of protocol 2 it is all text.
pub fn describe_error(body: &[u8]) -> String {
    let mut text = String::new();
    for field in body.split(|&b| b == 0) {
        if let Some((b'C' | b'M', value)) = field.split_first() {
            let _ = write!(text, "{}{}", if text.is_empty() { "" } else { " " }, String::from_utf8_lossy(value));
        }
    }
    match body {
        [old @ .., b'\n', 0] => String::from_utf8_lossy(old).into_owned(),
        _ => text,
    }
}
