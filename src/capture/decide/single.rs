//! One table written by one statement: as text where that is proved (S), otherwise as rows (R).

use std::sync::{Arc, OnceLock};

use crate::capture::write::{BlockForm, Decision, Write};
use crate::journal::entry::{Head, Lane, Op, Place, Text};
use crate::sql::statement::{Kind, Returning, Source, Span, Written};
use crate::sql::{ClientEncoding, LexOptions, Lexer, TokenKind};

use super::image::{self, Rows, parts};
use super::prove::{self, Proof, Unproved};
use super::refuse::{self, Why};
use super::rewrite::{self, Alone, Log};
use super::target::{self, Ours};
use super::{Case, Refused, quote};

/// Up to so many rows of VALUES are journalled as one piece.
const FEW: u64 = 100;

impl Case<'_> {
    /// The best lane for the statement's own write of a ruled table.
    pub(super) fn write(&self, kind: &Kind, ours: &Ours<'_>) -> Result<Decision, Refused> {
        if ours.relation.rewrite_rule {
            return Err(self.refuse(kind, ours, Why::RewriteRule, None));
        }
        let proof = match self.statement.with {
            Some(_) => Err("WITH stands in front of it"),
            None => prove::prove(kind, ours, self.s),
        };
        let rows = match image::rows(kind, self, ours) {
            Ok(None) => return Ok(self.pass()),
            Ok(Some(rows)) => Ok(rows),
            Err(why) => Err(why),
        };
        match proof {
            Ok(proof) if rows.is_ok() || !proof.some => {
                let otherwise = match proof.binary_params.is_empty() {
                    true => None,
                    false => Some(Arc::new(self.without_text(kind, ours, &rows, "a date or time comes as text")?)),
                };
                Ok(self.as_text(kind, ours, &proof, rows.as_ref().ok(), otherwise))
            }
            Ok(_) => self.without_text(kind, ours, &rows, "the rows of a list cannot be shown"),
            Err(unproved) => self.without_text(kind, ours, &rows, unproved),
        }
    }

    /// As rows, or as text under a lock, or refused.
    fn without_text(
        &self,
        kind: &Kind,
        ours: &Ours<'_>,
        rows: &Result<Rows, Why>,
        reason: Unproved,
    ) -> Result<Decision, Refused> {
        match rows {
            Ok(rows) => Ok(self.as_rows(kind, ours, rows, reason)),
            Err(why @ (Why::KeyChange | Why::NoKey | Why::Merge | Why::OldNew)) => {
                let reason = match why {
                    Why::NoKey => "no key finds its rows",
                    Why::Merge => "MERGE shows its rows since PostgreSQL 17",
                    _ => "keys change that this server does not show",
                };
                self.locked(kind, ours, reason).map_err(|locked| self.refuse(kind, ours, *why, Some(locked)))
            }
            Err(why) => Err(self.refuse(kind, ours, *why, None)),
        }
    }

    pub(super) fn refuse(&self, kind: &Kind, ours: &Ours<'_>, why: Why, locked: Option<&str>) -> Refused {
        refuse::write(verb(kind), ours, why, locked, &quote::table(&ours.relation.name, "UTF8"))
    }

    /// The statement lane.
    fn as_text(
        &self,
        kind: &Kind,
        ours: &Ours<'_>,
        proof: &Proof,
        rows: Option<&Rows>,
        otherwise: Option<Arc<Decision>>,
    ) -> Decision {
        let returning = parts(kind).and_then(|(_, returning)| returning);
        let head = Head {
            lane: Lane::Statement,
            columns: rows.filter(|_| proof.some).map(|r| r.head.columns.clone()).unwrap_or_default(),
            text: Some(self.text(returning, &[(ours.target.relation, ours)])),
            rows: Some(proof.expect),
            ..image::head(self.s, Lane::Statement, op_of(kind), ours)
        };
        let image = rows.filter(|_| proof.some).map(|r| r.image.as_str());
        let log = match proof.expect {
            rows if proof.some => Log::TextIf(rows),
            1 => Log::TextOfOne,
            _ => Log::Text,
        };
        let alone = self.alone(returning, image, log, (!proof.some).then_some(proof.expect));
        let block = image.map_or(BlockForm::AsIs, |image| self.imaged(returning, image));
        Decision::Write(Arc::new(Write {
            expect: Some(proof.expect),
            binary_params: proof.binary_params.clone(),
            otherwise,
            reason: if proof.some { "a list of keys, and constants" } else { "constants, and one row by its key" },
            ..self.plain(kind, ours, head, block, alone)
        }))
    }

    /// The row lane.
    fn as_rows(&self, kind: &Kind, ours: &Ours<'_>, rows: &Rows, reason: Unproved) -> Decision {
        let returning = parts(kind).and_then(|(_, returning)| returning);
        let count = self.sure_count(kind, ours).filter(|n| *n <= FEW);
        let log = match count {
            Some(1) => Log::One,
            Some(_) => Log::Few,
            None => Log::Rows,
        };
        let block = self.imaged(returning, &rows.image);
        // Which keys rows had that are gone is noted beside the journal, when we have seen them.
        let noted = ours.rule.settles().is_some() && rows.head.frees_keys();
        let alone = if noted { None } else { self.alone(returning, Some(&rows.image), log, count) };
        Decision::Write(Arc::new(Write { reason, ..self.plain(kind, ours, rows.head.clone(), block, alone) }))
    }

    /// How many rows are changed if any is, where the statement says it.
    fn sure_count(&self, kind: &Kind, ours: &Ours<'_>) -> Option<u64> {
        match kind {
            Kind::Insert(i) if i.on_conflict.is_none() && !ours.relation.before_row_trigger => match &i.source {
                Source::Values(rows) => u64::try_from(rows.len()).ok(),
                Source::DefaultValues => Some(1),
                Source::Query => None,
            },
            _ => prove::at_most_one(kind, ours, self.s).then_some(1),
        }
    }

    pub(super) fn imaged(&self, returning: Option<&Returning>, image: &str) -> BlockForm {
        BlockForm::Imaged(rewrite::imaged(self.sql, self.statement.end, returning.is_some(), image))
    }

    fn alone(
        &self,
        returning: Option<&Returning>,
        image: Option<&str>,
        log: Log,
        count: Option<u64>,
    ) -> Option<crate::capture::write::AloneForm> {
        let statement = self.statement;
        let own = returning.is_some();
        Alone { sql: self.sql, end: statement.end, max_param: statement.max_param, own, image, log, count }.form()
    }

    /// A write with nothing special about it.
    pub(super) fn plain(
        &self,
        kind: &Kind,
        ours: &Ours<'_>,
        head: Head,
        block: BlockForm,
        alone: Option<crate::capture::write::AloneForm>,
    ) -> Write {
        Write {
            lane: head.lane,
            reason: "",
            tag: tag(kind),
            returning: parts(kind).is_some_and(|(_, returning)| returning.is_some()),
            heads: vec![head],
            forms: OnceLock::new(),
            expect: None,
            binary_params: Vec::new(),
            otherwise: None,
            block,
            alone,
            late: ours.relation.late || ours.root.late,
            deferrable: ours.relation.deferrable || ours.root.deferrable,
            before: target::noted([ours.rule]),
            fresh_snapshot: false,
            unsettles: self.unsettles,
            acked: target::acked([ours.rule]),
        }
    }

    /// The statement as it travels, without its own `RETURNING`.
    pub(super) fn text(&self, returning: Option<&Returning>, names: &[(Written, &Ours<'_>)]) -> Text {
        let cut = returning.filter(|r| !self.has_param(r.span)).map_or(self.statement.end, |r| r.span.start);
        let place = |(written, ours): &(Written, &Ours<'_>)| Place {
            start: u32::try_from(written.span.start).unwrap_or(u32::MAX),
            end: u32::try_from(written.span.end).unwrap_or(u32::MAX),
            schema: ours.root.name.schema.clone(),
            table: ours.root.name.table.clone(),
        };
        Text {
            sql: self.sql.get(..cut).unwrap_or_default().to_vec(),
            params: Vec::new(),
            names: names.iter().filter(|(written, _)| written.span.start < cut).map(place).collect(),
            settings: Vec::new(),
        }
    }

    /// Whether a clause has parameters: those numbers must not go missing from the text.
    fn has_param(&self, span: Span) -> bool {
        let text = self.sql.get(span.start..span.end).unwrap_or_default();
        Lexer::new(text, self.lex()).any(|token| token.kind == TokenKind::Param)
    }

    pub(super) fn lex(&self) -> LexOptions {
        LexOptions {
            standard_conforming_strings: self.s.standard_conforming_strings,
            encoding: ClientEncoding::from_name(self.s.encoding),
        }
    }
}

/// What the statement is called in messages.
pub(super) fn verb(kind: &Kind) -> &'static str {
    match kind {
        Kind::Insert(_) => "INSERT",
        Kind::Update(_) => "UPDATE",
        Kind::Delete(_) => "DELETE",
        Kind::Merge(_) => "MERGE",
        Kind::Truncate(_) => "TRUNCATE",
        Kind::Copy(_) => "COPY",
        _ => "this statement",
    }
}

/// The first words of its command tag.
fn tag(kind: &Kind) -> &'static str {
    match kind {
        Kind::Insert(_) => "INSERT 0",
        Kind::Truncate(_) => "TRUNCATE TABLE",
        other => verb(other),
    }
}

/// What a statement does, as its text travels.
pub(super) fn op_of(kind: &Kind) -> Op {
    use crate::sql::statement::ConflictAction;
    match kind {
        Kind::Insert(i) => match i.on_conflict.as_ref().map(|c| &c.action) {
            Some(ConflictAction::Update { .. }) => Op::Upsert,
            _ => Op::Insert,
        },
        Kind::Update(_) => Op::Update,
        Kind::Delete(_) => Op::Delete,
        Kind::Merge(_) => Op::Merge,
        Kind::Truncate(_) => Op::Truncate,
        _ => Op::Copy,
    }
}
