//! Decides for one statement in which lane it travels and what is sent in its place; nothing it cannot prove is let through (I5).

mod image;
mod prove;
mod quote;
mod refuse;
mod rewrite;
mod settle;
mod single;
mod target;
mod types;

use crate::capture::write::{Ask, Decision, Meaning, Refusal};
use crate::catalog::relation::Catalog;
use crate::config::{TableRule, Unreplicable};
use crate::sql::statement::{Kind, Statement, Written};

use self::target::{Names, Ours};

/// What a decision hangs on besides the statement.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub catalog: &'a Catalog,
    /// The rules whose indices the catalog's relations carry.
    pub rules: &'a [TableRule],
    /// What a name means in the session; none where the server has not been asked yet.
    pub meaning: &'a dyn Fn(&Written) -> Option<Meaning>,
    /// The client's encoding, by the server's name for it.
    pub encoding: &'a str,
    pub standard_conforming_strings: bool,
    /// The types of parameters told at Parse, 0 where none was.
    pub params: &'a [u32],
    /// Settings that travel with the texts of lanes L and C.
    pub settings: &'a dyn Fn() -> Vec<(String, String)>,
}

/// Decides about one statement, or says which names the session's server has to be asked about first.
pub fn decide(sql: &[u8], statement: &Statement, s: &Surroundings<'_>) -> Result<Decision, Ask> {
    let names = Names::new(s);
    let case = Case { sql, statement, s, names: &names, unsettles: settle::unsettles(statement, s) };
    let decision = case.decide();
    names.asked()?;
    Ok(match decision {
        Ok(decision) => decision,
        Err(refused) => match refused.leave {
            Unreplicable::Refuse => Decision::Refuse(refused.refusal),
            Unreplicable::Warn => Decision::Warn { refusal: refused.refusal, unsettles: case.unsettles },
            Unreplicable::Ignore => Decision::Pass { unsettles: case.unsettles },
        },
    })
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

// === impl Case ===

impl<'a> Case<'a> {
    fn pass(&self) -> Decision {
        Decision::Pass { unsettles: self.unsettles }
    }

    /// While a name is not known to the session yet, whatever comes out is of no matter.
    fn decide(&self) -> Result<Decision, Refused> {
        match &self.statement.kind {
            kind @ (Kind::Insert(_) | Kind::Update(_) | Kind::Delete(_) | Kind::Merge(_)) => self.dml(kind),
            _ => Ok(self.pass()),
        }
    }

    /// An INSERT, UPDATE, DELETE or MERGE.
    fn dml(&self, kind: &Kind) -> Result<Decision, Refused> {
        let Some((target, _)) = image::parts(kind) else { return Ok(self.pass()) };
        let Some(known) = self.names.look(&target.relation) else { return Ok(self.pass()) };
        match Ours::new(target, &known) {
            Some(ours) => self.write(kind, &ours),
            None => Ok(self.pass()),
        }
    }
}
