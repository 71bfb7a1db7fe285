//! What one statement is to us, and what it does to our knowledge once it runs.

use std::rc::Rc;
use std::sync::Arc;

use crate::capture::decide::decide_execute;
use crate::capture::write::{Decision, Refusal, Write};
use crate::sql::statement::{self, CopyDirection, Kind, Statement};
use crate::sql::{Effect, Name};
use crate::wire::error::Severity;

use super::Engine;
use super::extended::{SqlPrepared, other_way};
use super::refusing::report;

/// What one statement of a query is to us.
#[derive(Debug)]
pub(super) enum Act {
    /// None of ours.
    Pass,
    /// It acts on the transaction.
    Control(Effect),
    Write(Arc<Write>),
    /// `PREPARE` of a statement that would be captured.
    Prepare(Name, Rc<SqlPrepared>),
    Refuse(Refusal),
}

/// What a statement is to us, and what it does to our knowledge once it runs.
pub(super) struct Judged {
    pub(super) act: Act,
    /// Names may mean something else behind it.
    pub(super) unsettles: bool,
    /// The catalog is another behind it.
    pub(super) ddl: bool,
    pub(super) warning: Option<Refusal>,
    /// It can write, or run what can.
    pub(super) active: bool,
    /// Refused because it is not understood: perhaps the server does not understand it either.
    pub(super) unread: bool,
    pub(super) effect: Effect,
    /// It reads data from the client.
    pub(super) copies: bool,
}

impl Judged {
    pub(super) fn new(act: Act) -> Self {
        Self {
            act,
            unsettles: false,
            ddl: false,
            warning: None,
            active: false,
            unread: false,
            effect: Effect::None,
            copies: false,
        }
    }

    /// From a decision about a statement.
    pub(super) fn of(decision: Decision, statement: &Statement) -> Self {
        let kind = &statement.kind;
        let ddl = matches!(kind, Kind::Ddl | Kind::CreateAs { .. } | Kind::Select { into: Some(_) });
        let quiet =
            matches!(kind, Kind::Select { into: None } | Kind::Ddl | Kind::Session | Kind::Other | Kind::Declare);
        let quiet = quiet && statement.ddl.is_none();
        let active = !quiet || statement.with.as_ref().is_some_and(|w| w.ctes.iter().any(|cte| cte.writes.is_some()));
        let copies = matches!(kind, Kind::Copy(copy) if copy.direction == CopyDirection::FromStdin);
        let judged = Self { ddl, active, copies, ..Self::new(Act::Pass) };
        match decision {
            Decision::Pass { unsettles } => Self { unsettles, ..judged },
            Decision::Warn { refusal, unsettles } => Self { unsettles, warning: Some(refusal), ..judged },
            Decision::Refuse(refusal) => {
                let unread = matches!(kind, Kind::Unknown);
                Self { act: Act::Refuse(refusal), ddl: false, unread, ..judged }
            }
            Decision::Write(write) => Self { unsettles: write.unsettles, act: Act::Write(write), ..judged },
        }
    }
}

impl Engine {
    pub(super) fn judge(&mut self, sql: &[u8]) -> Option<Judged> {
        let statement = statement::read(sql, self.lex());
        // A parameter in a simple query: the server says that there is none.
        if statement.max_param > 0 && !matches!(statement.kind, Kind::Prepare { .. }) {
            return Some(Judged::new(Act::Pass));
        }
        let decision = match &statement.kind {
            Kind::Prepare { name, inner, .. } => return self.judge_prepare(sql, *name, inner, &statement),
            kind => match executed(kind) {
                Some(name) => self.decide_executed(&name, sql, &statement)?,
                None => self.decide(sql, &statement, &[])?,
            },
        };
        Some(Judged::of(decision, &statement))
    }

    pub(super) fn judge_prepare(
        &mut self,
        sql: &[u8],
        name: Name,
        inner: &Statement,
        whole: &Statement,
    ) -> Option<Judged> {
        let Kind::Prepare { body, .. } = &whole.kind else { return Some(Judged::new(Act::Pass)) };
        let text = sql.get(body.start..body.end).unwrap_or_default();
        Some(Judged::new(match self.decide(text, inner, &[])? {
            Decision::Write(_) => {
                Act::Prepare(name, Rc::new(SqlPrepared { sql: sql.to_vec(), statement: whole.clone() }))
            }
            Decision::Refuse(refusal) => Act::Refuse(refusal),
            _ => Act::Pass,
        }))
    }

    /// Decides about an EXECUTE in a query.
    pub(super) fn decide_executed(&mut self, name: &Name, sql: &[u8], statement: &Statement) -> Option<Decision> {
        if let Some(prepared) = self.statements.by_sql(name).cloned() {
            return self.decide_twin(&prepared, sql, statement);
        }
        let Some(prepared) = self.statements.get(name).cloned() else { return self.decide(sql, statement, &[]) };
        Some(match self.decide_prepared(&prepared)? {
            Decision::Write(_) => Decision::Refuse(other_way("the extended protocol")),
            other => other,
        })
    }

    /// Decides about an EXECUTE, and sees to it that its twin is there.
    pub(super) fn decide_twin(
        &mut self,
        prepared: &Rc<SqlPrepared>,
        sql: &[u8],
        statement: &Statement,
    ) -> Option<Decision> {
        let twin = self.sql_twin_name(prepared);
        let prepared = prepared.clone();
        let decided = self.with_surroundings(statement, &[], |s| {
            decide_execute(&prepared.sql, &prepared.statement, sql, statement, &twin, s)
        })?;
        if let Some(made) = decided.twin {
            self.make_sql_twin(&prepared, &made.prepare(&twin));
        }
        Some(decided.decision)
    }

    /// A statement is on its way: what it does to our knowledge is done.
    pub(super) fn take_effect(&mut self, judged: &Judged) {
        if let Some(refusal) = &judged.warning {
            self.down.extend_from_slice(&report(refusal, Severity::Warning).frame());
        }
        if judged.ddl {
            self.catalog_changes();
        } else if judged.unsettles {
            self.unsettle();
        }
        if matches!(judged.act, Act::Control(_)) {
            self.settings_revert();
        }
        if matches!(judged.effect, Effect::DeallocateAll | Effect::DiscardAll) {
            self.unmake_sql_twins();
            self.twins.take_all();
        }
    }
}

/// The name that a statement executes, or would with EXPLAIN.
pub(super) fn executed(kind: &Kind) -> Option<Name> {
    match kind {
        Kind::Execute { name, .. } => Some(*name),
        Kind::Explain { inner, .. } => executed(&inner.kind),
        _ => None,
    }
}

/// Whether it acts on the transaction.
pub(super) fn is_control(effect: Effect) -> bool {
    matches!(
        effect,
        Effect::Begin
            | Effect::Commit { .. }
            | Effect::Rollback { .. }
            | Effect::PrepareTransaction
            | Effect::Savepoint(_)
            | Effect::Release(_)
            | Effect::RollbackTo(_)
    )
}
