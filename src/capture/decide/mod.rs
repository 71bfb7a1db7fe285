//! Decides for one statement in which lane it travels and what is sent in its place; nothing it cannot prove is let through (I5).

mod copy;
mod ctes;
mod ddl;
mod execute;
mod image;
mod locked;
mod paths;
mod prove;
mod quote;
mod refuse;
mod rewrite;
mod settle;
mod single;
mod target;
mod truncate;
mod types;

pub use execute::{Executed, Twin, decide_execute};
pub(in crate::capture) use image::parts;
pub(in crate::capture) use types::is_text;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
// a test that panics has done its work
mod tests;

use std::sync::Arc;

use crate::capture::write::{Ask, Decision, Meaning, Refusal};
use crate::catalog::relation::Catalog;
use crate::catalog::scene::Scene;
use crate::config::Unreplicable;
use crate::sql::statement::{Kind, Statement, Written};

use self::target::Names;

/// What a decision hangs on besides the statement.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub catalog: &'a Catalog,
    /// What a name means in the session; none where the server has not been asked yet.
    pub meaning: &'a dyn Fn(&Written) -> Option<Meaning>,
    /// The client's encoding, by the server's name for it.
    pub encoding: &'a str,
    pub standard_conforming_strings: bool,
    /// The types of parameters told at Parse, 0 where none was.
    pub params: &'a [u32],
    /// Settings that travel with the texts of lanes L and C.
    pub settings: &'a dyn Fn() -> Vec<(String, String)>,
    /// What DDL with these names means in the session; none where the server has not been asked yet.
    pub scene: &'a dyn Fn(&[Written]) -> Option<Arc<Scene>>,
}

/// Decides about one statement, or says which names the session's server has to be asked about first.
pub fn decide(sql: &[u8], statement: &Statement, s: &Surroundings<'_>) -> Result<Decision, Ask> {
    let names = Names::new(s);
    let case = Case { sql, statement, s, names: &names, unsettles: settle::unsettles(statement, s) };
    let decision = case.decide();
    names.asked()?;
    Ok(decision.unwrap_or_else(|refused| refused.decision(case.unsettles)))
}

/// A refusal, and what the rule concerned says about such statements.
#[derive(Debug)]
struct Refused {
    refusal: Refusal,
    leave: Unreplicable,
}

/// One statement to decide about.
#[derive(Clone, Copy)]
struct Case<'a> {
    sql: &'a [u8],
    statement: &'a Statement,
    s: &'a Surroundings<'a>,
    names: &'a Names<'a>,
    unsettles: bool,
}

// === impl Refused ===

impl Refused {
    fn decision(self, unsettles: bool) -> Decision {
        match self.leave {
            Unreplicable::Refuse => Decision::Refuse(self.refusal),
            Unreplicable::Warn => Decision::Warn { refusal: self.refusal, unsettles },
            Unreplicable::Ignore => Decision::Pass { unsettles },
        }
    }
}

// === impl Case ===

impl<'a> Case<'a> {
    fn pass(&self) -> Decision {
        Decision::Pass { unsettles: self.unsettles }
    }

    /// While a name is not known to the session yet, whatever comes out is of no matter.
    fn decide(&self) -> Result<Decision, Refused> {
        let statement = self.statement;
        let kind = &statement.kind;
        match kind {
            Kind::Prepare { .. } | Kind::Explain { analyze: false, .. } => return Ok(self.pass()),
            _ => self.calls()?,
        }
        match kind {
            Kind::Insert(_) | Kind::Update(_) | Kind::Delete(_) | Kind::Merge(_) => self.dml(kind),
            Kind::Select { into } => {
                into.iter().try_for_each(|name| self.made(name))?;
                self.with_only()
            }
            Kind::Truncate(truncate) => self.truncate(truncate),
            Kind::Copy(copy) => self.copy(kind, copy),
            Kind::CreateAs { relation } => {
                self.made(relation)?;
                self.hidden()
            }
            Kind::Explain { inner, .. } => Case { statement: inner, ..*self }.explained().map(|()| self.pass()),
            Kind::Ddl => self.ddl(),
            Kind::Do { body } => self.block(body.as_deref()),
            Kind::Unknown => self.unreadable(),
            _ => Ok(self.pass()),
        }
    }

    /// An INSERT, UPDATE, DELETE or MERGE.
    fn dml(&self, kind: &'a Kind) -> Result<Decision, Refused> {
        let ours = self.target(kind)?;
        let writes = self.statement.with.as_ref().filter(|w| w.ctes.iter().any(|c| c.writes.is_some()));
        if let Some(with) = writes
            && let Some(decision) = self.ctes(with, ours.as_ref())?
        {
            return Ok(decision);
        }
        match ours {
            Some(ours) => self.write(kind, &ours),
            None => Ok(self.pass()),
        }
    }

    /// A query: what it writes, its WITH queries write.
    fn with_only(&self) -> Result<Decision, Refused> {
        match &self.statement.with {
            Some(with) => Ok(self.ctes(with, None)?.unwrap_or_else(|| self.pass())),
            None => Ok(self.pass()),
        }
    }
}
