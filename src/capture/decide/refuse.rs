//! Every refusal in one place: what cannot be replicated, why, and what to write instead (I5).

use crate::capture::write::Refusal;
use crate::config::Unreplicable;

use super::Refused;
use super::target::Ours;

/// Why a write cannot travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its key changes, and this server's RETURNING does not show the old one.
    KeyChange,
    NoKey,
    /// MERGE has no RETURNING before PostgreSQL 17.
    Merge,
    /// The role may not SELECT what RETURNING shows.
    Privilege,
    RowSecurity,
    RewriteRule,
    /// The rule's filter cannot be spelled in the client's encoding.
    Encoding,
    /// Names in the statement stand where capture needs `old` and `new`.
    OldNew,
    /// As many parameters as a statement may have.
    Parameters,
}

// === what a table or its rule stands against ===

/// A write that no lane can take; `locked` says why its text cannot travel under a lock either.
pub(super) fn write(verb: &str, ours: &Ours<'_>, why: Why, locked: Option<&str>, role_grant: &str) -> Refused {
    let table = ours.name();
    let and_text = locked.map(|l| format!(" Its text cannot travel either: {l}.")).unwrap_or_default();
    let (detail, hint) = match why {
        Why::KeyChange => (
            format!("It may change the key of rows, and this server shows only the new one.{and_text}"),
            "Name the row by its whole key in WHERE, give constants, and change one row at a time; or DELETE the rows and INSERT them anew."
                .to_owned(),
        ),
        Why::NoKey => (
            format!("The table has no key by which a row is found on other nodes.{and_text}"),
            format!("Give \"{table}\" a primary key, or write a statement that gives the same on every node."),
        ),
        Why::Merge => (
            format!("MERGE shows what it did only since PostgreSQL 17.{and_text}"),
            "Write INSERT ... ON CONFLICT, or separate UPDATE, DELETE and INSERT statements.".to_owned(),
        ),
        Why::Privilege => (
            "The role may not read the rows that it writes, and the statement cannot travel as text.".to_owned(),
            format!("GRANT SELECT ON {role_grant} to the role, or name the row by its key and give constants."),
        ),
        Why::RowSecurity => (
            "Row-level security would treat the statement differently if it returned the rows that it writes.".to_owned(),
            "Name the row by its key and give constants, or let a role write that row-level security does not concern."
                .to_owned(),
        ),
        Why::RewriteRule => (
            "The table has a rule (CREATE RULE) that may turn the write into something else.".to_owned(),
            "Drop the rule, or use a trigger in its place.".to_owned(),
        ),
        Why::Encoding => (
            "A name in it, or the condition of its replication rule, cannot be carried over into the client's encoding."
                .to_owned(),
            "SET client_encoding TO 'UTF8'.".to_owned(),
        ),
        Why::OldNew => (
            "Its key may change, and the statement uses the names \"old\" and \"new\" itself.".to_owned(),
            "Use other names for tables and aliases than \"old\" and \"new\".".to_owned(),
        ),
        Why::Parameters => (
            "It has as many parameters as a statement may have, and none is left for the journal.".to_owned(),
            "Write fewer rows at a time.".to_owned(),
        ),
    };
    refused(ours, format!("{verb} of table \"{table}\" cannot be replicated"), &detail, &hint)
}

pub(super) fn refused(ours: &Ours<'_>, message: String, detail: &str, hint: &str) -> Refused {
    let refusal = Refusal { message, detail: Some(detail.to_owned()), hint: Some(hint.to_owned()) };
    Refused { refusal, leave: ours.rule.unreplicable }
}

/// Of no rule in particular.
pub(super) fn always(message: String, detail: &str, hint: &str) -> Refused {
    let refusal = Refusal { message, detail: Some(detail.to_owned()), hint: Some(hint.to_owned()) };
    Refused { refusal, leave: Unreplicable::Refuse }
}
