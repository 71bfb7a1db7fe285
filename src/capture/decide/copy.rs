//! COPY into a replicated table (§4.5): the stream itself travels, where every node makes the same rows of it.

use std::sync::Arc;

use crate::capture::write::{BlockForm, Decision, Write};
use crate::catalog::relation::{Column, RelationKind, Travels, TypeSort, Volatility};
use crate::journal::entry::{ColumnRole, Head, ImageColumn, Lane, Op, Text};
use crate::sql::statement::{Copy, CopyDirection, CopyFormat, Kind, Span, Written};
use crate::sql::{Lexer, Name, TokenKind, ident};

use super::refuse;
use super::target::Ours;
use super::{Case, Refused, image, quote};

impl Case<'_> {
    pub(super) fn copy(&self, kind: &Kind, copy: &Copy) -> Result<Decision, Refused> {
        if copy.writes {
            return self.hidden();
        }
        let (Some(target), true) = (&copy.target, copy.direction != CopyDirection::To) else { return Ok(self.pass()) };
        self.not_the_journal(&target.relation)?;
        let Some(known) = self.names.look(&target.relation) else { return Ok(self.pass()) };
        self.indirect("COPY", &known)?;
        let Some(ours) = Ours::new(target, &known) else { return Ok(self.pass()) };
        if copy.direction == CopyDirection::FromServer {
            return Err(refuse::copy_from_server(&ours));
        }
        let columns = self.copied(copy, &ours).map_err(|detail| refuse::copy(&ours, &detail))?;
        let mut text = self.text(None, &[(target.relation, &ours)]);
        // Frozen rows need a table made in the same transaction, which the peer's is not.
        self.thaw(copy.rest, &mut text);
        text.settings = (self.s.settings)();
        let key = ours.key().unwrap_or_default();
        let head = Head {
            columns: columns.iter().map(|c| image_column(c, &key)).collect(),
            text: Some(text),
            ..image::head(self.s, Lane::Copy, Op::Copy, &ours)
        };
        Ok(Decision::Write(Arc::new(Write {
            reason: "the data itself",
            ..self.plain(kind, &ours, head, BlockForm::AsIs, None)
        })))
    }

    /// The columns that the stream holds, or why every node would not make the same of it.
    fn copied<'c>(&self, copy: &Copy, ours: &Ours<'c>) -> Result<Vec<&'c Column>, String> {
        let all = &ours.relation.columns;
        let columns: Vec<&Column> = match &copy.columns {
            None => all.iter().filter(|c| !c.generated).collect(),
            Some(names) => names.iter().filter_map(|n| all.iter().find(|c| c.name == *n)).collect(),
        };
        let left_out = all.iter().filter(|c| !c.generated && !columns.iter().any(|given| given.name == c.name));
        for column in left_out {
            if column.default != Volatility::Immutable || column.identity.is_some() {
                let name = quote::text(&column.name);
                return Err(format!("Column \"{name}\" is left out and gets another default on every node."));
            }
        }
        if ours.rule.filter.is_some() {
            return Err("Its replication rule filters rows.".to_owned());
        }
        if let Some(column) = columns.iter().find(|c| !ours.travels(&c.name)) {
            let name = quote::text(&column.name);
            return Err(format!("Its replication rule leaves column \"{name}\" out."));
        }
        if ours.relation.before_row_trigger {
            return Err("A trigger may change its rows.".to_owned());
        }
        if !ours.is_root() && ours.root.kind != RelationKind::Partitioned {
            return Err("It inherits from the table that the replication rule names.".to_owned());
        }
        if copy.filtered && !self.steady_filter() {
            return Err("Its WHERE may choose other rows on another node.".to_owned());
        }
        match columns.iter().find(|c| hangs_on_session(c) || (copy.format == CopyFormat::Binary && by_oid(c))) {
            Some(column) => {
                let name = quote::text(&column.name);
                Err(format!(
                    "What its column \"{name}\" of type {} is given may mean something else on another node.",
                    column.type_name
                ))
            }
            None => Ok(columns),
        }
    }

    /// Whether a `WHERE` chooses the same rows everywhere.
    fn steady_filter(&self) -> bool {
        let functions = &self.s.catalog.functions;
        let built_in = |c: &Written| {
            c.schema.map_or(!functions.user.contains(&c.name), |schema| schema == Name::from("pg_catalog"))
        };
        let moods = self.statement.moods;
        self.statement.calls.iter().all(|c| built_in(c) && functions.immutable.contains(&c.name))
            && !(moods.clock || moods.who || self.statement.moment_strings)
            && !self.has_user_operator()
    }

    /// Takes `FREEZE` out of the options.
    fn thaw(&self, rest: Span, text: &mut Text) {
        let behind = self.sql.get(rest.start..).unwrap_or_default();
        let lex = self.lex();
        let tokens: Vec<_> =
            Lexer::new(behind, lex).filter(|t| !t.kind.is_blank() && t.kind != TokenKind::Semicolon).collect();
        let word = |at: usize| {
            let token = tokens.get(at).filter(|t| t.kind == TokenKind::Ident)?;
            ident::fold(token.kind, token.text(behind), b'\\', lex.encoding)
        };
        let is = |at: usize, kind: u8| tokens.get(at).is_some_and(|t| t.kind == TokenKind::Char(kind));
        let mut depth = 0_usize;
        let found = (0..tokens.len()).find(|at| {
            depth += usize::from(is(*at, b'('));
            depth = depth.saturating_sub(usize::from(is(*at, b')')));
            let option = at.checked_sub(1).is_some_and(|before| depth == 0 || is(before, b'(') || is(before, b','));
            option && depth < 2 && word(*at) == Some(Name::from("freeze"))
        });
        let Some(found) = found else { return };
        // In parentheses up to its comma, or with the comma in front of it; an option that stands alone goes with them.
        let mut first = found;
        let mut last = found;
        if depth > 0 {
            while tokens.get(last + 1).is_some() && !is(last + 1, b',') && !is(last + 1, b')') {
                last += 1;
            }
            match (is(last + 1, b','), found.checked_sub(1)) {
                (true, _) => last += 1,
                (false, Some(before)) if is(before, b',') => first = before,
                (false, before) => {
                    first = before.unwrap_or(found);
                    last += 1;
                    first -= usize::from(first > 0 && word(first - 1) == Some(Name::from("with")));
                }
            }
        }
        let (Some(from), Some(to)) = (tokens.get(first), tokens.get(last)) else { return };
        let (from, to) = (rest.start + from.start, rest.start + to.end);
        if to <= text.sql.len() {
            text.sql.drain(from..to);
        }
    }
}

fn image_column(column: &Column, key: &[Name]) -> ImageColumn {
    let role = if key.contains(&column.name) { ColumnRole::KeyValue } else { ColumnRole::Value };
    ImageColumn { name: quote::text(&column.name), type_name: column.type_name.clone(), role, text: false }
}

/// Types whose text means what `search_path` or the locale make of it.
fn hangs_on_session(column: &Column) -> bool {
    column.sort == TypeSort::Session && (column.type_name.starts_with("reg") || column.type_name.contains("money"))
}

/// Whether the binary form holds OIDs, which differ between nodes.
fn by_oid(column: &Column) -> bool {
    column.travels == Travels::Text
}
