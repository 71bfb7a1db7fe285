//! Every refusal in one place: what cannot be replicated, why, and what to write instead (I5).

use crate::capture::write::Refusal;
use crate::catalog::relation::Relation;
use crate::config::{TableRule, Unreplicable};

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

pub(super) fn copy(ours: &Ours<'_>, detail: &str) -> Refused {
    let table = ours.name();
    let hint = "Use INSERT, or COPY into a temporary table and INSERT ... SELECT from there.";
    refused(ours, format!("COPY into table \"{table}\" cannot be replicated"), detail, hint)
}

/// A data-modifying CTE whose result has columns that no name reaches.
pub(super) fn cte(ours: &Ours<'_>, name: &str, all: bool) -> Refused {
    let table = ours.name();
    let hint = match all {
        true => "Name the columns one by one in its RETURNING instead of writing \"*\".",
        false => "Give each item of its RETURNING a name of its own with AS, or write no RETURNING.",
    };
    let message = format!("data-modifying WITH query \"{name}\" on table \"{table}\" cannot be replicated");
    refused(ours, message, "The names of the columns that it returns cannot be told from its text.", hint)
}

pub(super) fn execute(ours: &Ours<'_>, verb: &str) -> Refused {
    let message = format!("EXECUTE of a {verb} of table \"{}\" cannot be replicated", ours.name());
    let detail = "Its WITH queries write replicated tables, and EXECUTE leaves no place for the journal.";
    refused(ours, message, detail, "Run the statement itself, or prepare it by the driver's means.")
}

pub(super) fn explain(verb: &str, leave: Unreplicable) -> Refused {
    let refusal = Refusal {
        message: format!("EXPLAIN ANALYZE of {verb} on a replicated table cannot be replicated"),
        detail: Some("It executes the statement, but answers with the plan instead of what was changed.".to_owned()),
        hint: Some(
            "Leave ANALYZE out, or run it directly on the server in a transaction that is rolled back.".to_owned(),
        ),
    };
    Refused { refusal, leave }
}

// === what leads to a replicated table by a way that capture does not see ===

pub(super) fn view(verb: &str, relation: &Relation, leave: Unreplicable) -> Refused {
    let refusal = Refusal {
        message: format!("{verb} of view \"{}\" cannot be replicated", relation.name),
        detail: Some("What is written through a view lands in other tables.".to_owned()),
        hint: Some("Write the table under it.".to_owned()),
    };
    Refused { refusal, leave }
}

pub(super) fn covers(verb: &str, relation: &Relation, reached: &str, leave: Unreplicable) -> Refused {
    let refusal = Refusal {
        message: format!("{verb} of table \"{}\" cannot be replicated", relation.name),
        detail: Some(format!("The table is not replicated, but the statement may write \"{reached}\", which is.")),
        hint: Some(format!("Write \"{reached}\" itself, or replicate \"{}\" as well.", relation.name)),
    };
    Refused { refusal, leave }
}

pub(super) fn cascades(verb: &str, relation: &Relation, reached: &str, leave: Unreplicable) -> Refused {
    let refusal = Refusal {
        message: format!("{verb} of table \"{}\" cannot be replicated", relation.name),
        detail: Some(format!(
            "The table is not replicated, but a foreign key of \"{reached}\", which is, follows its changes."
        )),
        hint: Some(format!("Change the rows of \"{reached}\" first, or replicate \"{}\" as well.", relation.name)),
    };
    Refused { refusal, leave }
}

pub(super) fn trigger(verb: &str, relation: &Relation, found: &str) -> Refused {
    always(
        format!("{verb} of table \"{}\" cannot be replicated", relation.name),
        &format!("The table is not replicated, but a trigger of it writes tables that are: {found}."),
        "Replicate the table as well, or name the trigger's function under harmless in [capture] of pgcanon's configuration.",
    )
}

pub(super) fn partition_truncated(relation: &Relation, rule: &TableRule) -> Refused {
    let refusal = Refusal {
        message: format!("TRUNCATE of partition \"{}\" cannot be replicated", relation.name),
        detail: Some("On other nodes its rows may lie in other partitions.".to_owned()),
        hint: Some("DELETE FROM the partition, or TRUNCATE the table that it belongs to.".to_owned()),
    };
    Refused { refusal, leave: rule.unreplicable }
}

pub(super) fn function(name: &str, why: &str) -> Refused {
    always(
        format!("call of function \"{name}\" cannot be replicated"),
        &format!("The function writes replicated tables: {why}."),
        "Send its statements one by one, or name it under harmless in [capture] of pgcanon's configuration if it writes none.",
    )
}

pub(super) fn block(found: &str) -> Refused {
    always(
        "this DO block cannot be replicated".to_owned(),
        &format!("It writes replicated tables: its body has {found}."),
        "Send its statements one by one.",
    )
}

pub(super) fn block_unread() -> Refused {
    always(
        "this DO block cannot be replicated".to_owned(),
        "Its body cannot be read, and may write replicated tables.",
        "Write the body as one dollar-quoted string.",
    )
}

pub(super) fn made(name: &str, rule: &TableRule) -> Refused {
    let refusal = Refusal {
        message: format!("creating table \"{name}\" from a query cannot be replicated"),
        detail: Some(format!(
            "The rule for \"{}\" replicates the table, but not the rows that it is made with.",
            rule.name
        )),
        hint: Some(
            "Use CREATE TABLE and then INSERT ... SELECT; or write the schema too, if the rule's is not meant."
                .to_owned(),
        ),
    };
    Refused { refusal, leave: rule.unreplicable }
}

pub(super) fn hidden(found: &str) -> Refused {
    always(
        "this statement cannot be replicated".to_owned(),
        &format!("It executes more than it names: {found}."),
        "Write the replicated table by a statement of its own.",
    )
}

pub(super) fn unreadable(name: &str) -> Refused {
    always(
        "this statement cannot be replicated".to_owned(),
        &format!("It names \"{name}\", which is replicated, and is not understood."),
        "Write it in a simpler form, or in several statements.",
    )
}

pub(super) fn journal(table: &str) -> Refused {
    always(
        format!("table \"pgcanon.{table}\" is written by pgcanon alone"),
        "What others write into the journal counts for nothing.",
        "Write the replicated tables; their changes are journalled by themselves.",
    )
}
