//! TRUNCATE (§4.2): every ruled table that it empties, each in an entry of its own.

use std::sync::{Arc, OnceLock};

use crate::capture::write::{BlockForm, Decision, Write};
use crate::catalog::relation::{Oid, Relation};
use crate::config::TableRule;
use crate::journal::entry::{Extra, Head, Lane, Op, Place, Text};
use crate::sql::statement::Truncate;

use super::refuse;
use super::target;
use super::{Case, Refused, quote};

/// A ruled table to be emptied.
struct Emptied<'a> {
    relation: &'a Relation,
    rule: &'a TableRule,
    only: bool,
}

impl Case<'_> {
    pub(super) fn truncate(&self, truncate: &Truncate) -> Result<Decision, Refused> {
        let mut emptied: Vec<Emptied<'_>> = Vec::new();
        let mut partitions = Vec::new();
        for target in &truncate.targets {
            self.not_the_journal(&target.relation)?;
            let Some(known) = self.names.look(&target.relation) else { continue };
            self.triggers("TRUNCATE", known.relation, known.ruled.as_ref().map(|(rule, _)| *rule))?;
            let relation = known.relation.as_ref();
            let reached = relation.truncates.iter().filter(|_| truncate.cascade);
            let others = relation.covers.iter().filter(|_| !target.only);
            for (oid, only) in
                [(&relation.oid, target.only)].into_iter().chain(reached.chain(others).map(|oid| (oid, false)))
            {
                let Some(found) = self.emptied(*oid, only) else { continue };
                self.triggers("TRUNCATE", found.relation, Some(found.rule))?;
                match self.s.catalog.ruled(*oid) {
                    Some(root) if root.oid != *oid => partitions.push((found, root.oid)),
                    _ if emptied.iter().any(|e| e.relation.oid == *oid) => {}
                    _ => emptied.push(found),
                }
            }
        }
        // Emptied with its root, a partition needs no mention.
        if let Some((partition, _)) =
            partitions.iter().find(|(_, root)| !emptied.iter().any(|e| e.relation.oid == *root))
        {
            return Err(refuse::partition_truncated(partition.relation, partition.rule));
        }
        let [first, ..] = emptied.as_slice() else { return Ok(self.pass()) };
        Ok(Decision::Write(Arc::new(Write {
            lane: Lane::Statement,
            reason: "a TRUNCATE locks out everyone else",
            tag: "TRUNCATE TABLE",
            returning: false,
            heads: emptied.iter().map(|e| head(e, truncate)).collect(),
            forms: OnceLock::new(),
            expect: None,
            binary_params: Vec::new(),
            otherwise: None,
            block: BlockForm::AsIs,
            alone: None,
            late: first.relation.late || emptied.iter().any(|e| e.relation.late),
            deferrable: emptied.iter().any(|e| e.relation.deferrable),
            before: target::noted(emptied.iter().map(|e| e.rule)),
            fresh_snapshot: false,
            unsettles: self.unsettles,
            acked: target::acked(emptied.iter().map(|e| e.rule)),
        })))
    }

    fn emptied(&self, oid: Oid, only: bool) -> Option<Emptied<'_>> {
        let relation = self.s.catalog.relations.get(&oid)?;
        let rule = self.s.catalog.rules.get(relation.rule?)?;
        Some(Emptied { relation, rule, only })
    }
}

fn head(emptied: &Emptied<'_>, truncate: &Truncate) -> Head {
    let Emptied { relation, rule, only } = emptied;
    let name = quote::table(&relation.name, "UTF8");
    let front = if *only { "TRUNCATE TABLE ONLY " } else { "TRUNCATE TABLE " };
    let behind = if truncate.restart_identity { " RESTART IDENTITY" } else { "" };
    let at = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let (schema, table) = (relation.name.schema.clone(), relation.name.table.clone());
    Head {
        lane: Lane::Statement,
        op: Op::Truncate,
        schema: schema.clone(),
        table: table.clone(),
        rule: rule.name.to_string(),
        encoding: "UTF8".to_owned(),
        shape: relation.shape,
        columns: Vec::new(),
        // The peer may hold rows of others: there it is a DELETE of those that meet the filter.
        extra: if rule.filter.is_some() { Extra::Filter } else { Extra::None },
        text: Some(Text {
            sql: format!("{front}{name}{behind}").into_bytes(),
            params: Vec::new(),
            names: vec![Place { start: at(front.len()), end: at(front.len() + name.len()), schema, table }],
            settings: Vec::new(),
        }),
        rows: None,
    }
}
