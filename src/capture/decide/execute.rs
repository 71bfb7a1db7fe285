//! SQL's own EXECUTE: the prepared statement has a twin that shows its rows, and the twin is executed in its place.

use std::sync::Arc;

use crate::capture::write::{Ask, BlockForm, Decision, Write};
use crate::sql::statement::{Kind, Span, Statement};

use super::rewrite::Weave;
use super::target::Names;
use super::{Case, Refused, Surroundings, image, refuse, settle, single};

/// What becomes of an EXECUTE.
#[derive(Clone, Debug)]
pub struct Executed {
    /// Where it is a write, [`BlockForm::Imaged`] holds the EXECUTE of the twin.
    pub decision: Decision,
    /// There where the decision is a write.
    pub twin: Option<Twin>,
}

/// The statement to be prepared beside the client's: what stands behind its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin(Vec<u8>);

impl Twin {
    /// `PREPARE … AS …`
    #[must_use]
    pub fn prepare(&self, name: &str) -> Vec<u8> {
        let mut sql = format!("PREPARE \"{name}\"").into_bytes();
        sql.extend_from_slice(&self.0);
        sql
    }
}

/// Decides about an `EXECUTE`, or an `EXPLAIN` of one, of what `prepare` prepared; the twin will be called `twin`.
pub fn decide_execute(
    prepare_sql: &[u8],
    prepare: &Statement,
    execute_sql: &[u8],
    execute: &Statement,
    twin: &str,
    s: &Surroundings<'_>,
) -> Result<Executed, Ask> {
    let passed = |unsettles| Executed { decision: Decision::Pass { unsettles }, twin: None };
    let Kind::Prepare { types, body, inner, .. } = &prepare.kind else { return Ok(passed(true)) };
    let unsettles = settle::unsettles(inner, s) || execute.calls.iter().any(|c| settle::may_set(c, s));
    let inner_sql = prepare_sql.get(body.start..body.end).unwrap_or_default();
    let names = Names::new(s);
    let case = Case { sql: inner_sql, statement: inner, s, names: &names, unsettles };
    let outer = Case { sql: execute_sql, statement: execute, ..case };
    let decided = match &execute.kind {
        Kind::Execute { name_span, .. } => case.executed(&outer, *name_span, prepare_sql, *types, twin),
        Kind::Explain { analyze: true, .. } => case.explained().map(|()| passed(unsettles)),
        _ => Ok(passed(unsettles)),
    };
    names.asked()?;
    Ok(match decided {
        Ok(executed) => executed,
        Err(refused) => Executed { decision: refused.decision(unsettles), twin: None },
    })
}

impl Case<'_> {
    fn executed(
        &self,
        execute: &Case<'_>,
        name: Span,
        prepare_sql: &[u8],
        types: Span,
        twin: &str,
    ) -> Result<Executed, Refused> {
        execute.calls()?;
        self.calls()?;
        let passed = Executed { decision: self.pass(), twin: None };
        let kind = &self.statement.kind;
        let main = self.target(kind)?;
        if let Some(with) = &self.statement.with {
            for cte in with.ctes.iter().filter_map(|c| c.writes.as_deref()) {
                if let Some(ours) = self.target(cte)? {
                    return Err(refuse::execute(&ours, single::verb(cte)));
                }
            }
        }
        let Some(ours) = main else { return Ok(passed) };
        if ours.relation.rewrite_rule {
            return Err(self.refuse(kind, &ours, refuse::Why::RewriteRule, None));
        }
        let rows = image::rows(kind, self, &ours).map_err(|why| self.refuse(kind, &ours, why, None))?;
        let Some(rows) = rows else { return Ok(passed) };
        let returning = image::parts(kind).and_then(|(_, returning)| returning);
        let BlockForm::Imaged(inner) = self.imaged(returning, &rows.image) else { return Ok(passed) };
        let mut prepared = prepare_sql.get(types.start..types.end).unwrap_or_default().trim_ascii().to_vec();
        if !prepared.is_empty() {
            prepared.insert(0, b' ');
        }
        prepared.extend_from_slice(b" AS ");
        prepared.extend_from_slice(&inner.sql);
        let mut weave = Weave::new(execute.sql);
        weave.copy(name.start);
        weave.skip(name.end);
        weave.put(format!("\"{twin}\""));
        weave.copy(execute.sql.len());
        let block = BlockForm::Imaged(weave.finish());
        let write = Write {
            reason: "what EXECUTE is given cannot be told from its text",
            ..self.plain(kind, &ours, rows.head, block, None)
        };
        Ok(Executed { decision: Decision::Write(Arc::new(write)), twin: Some(Twin(prepared)) })
    }

    /// `EXPLAIN ANALYZE` executes what it explains.
    pub(super) fn explained(&self) -> Result<(), Refused> {
        match self.decide() {
            Ok(Decision::Pass { .. }) => Ok(()),
            Ok(_) => Err(refuse::explain(single::verb(&self.statement.kind), self.leave())),
            Err(refused) => Err(refuse::explain(single::verb(&self.statement.kind), refused.leave)),
        }
    }
}
