//! COPY into a replicated table (§4.5): the stream itself travels where every node makes the same rows of it, and by way
//! of a temporary table the rows where not.

use std::sync::Arc;

use crate::capture::moment::{Layout, Watch};
use crate::capture::write::{BlockForm, Decision, TEMP_TABLE, ThroughTemp, Watched, Write};
use crate::catalog::relation::{Column, Moments, RelationKind, Travels, TypeSort, Volatility};
use crate::config::{OnError, Unreplicable};
use crate::journal::entry::{ColumnRole, Head, ImageColumn, Lane, Op};
use crate::sql::statement::{Copy, CopyDirection, CopyFormat, Kind, Span, Written};
use crate::sql::{ClientEncoding, Lexer, Name, TokenKind, ident};

use super::refuse::{self, Why};
use super::rewrite::Weave;
use super::target::Ours;
use super::{Case, Refused, image, quote};

/// Why the stream itself cannot travel.
struct Unsteady {
    reason: &'static str,
    detail: String,
}

fn unsteady<T>(reason: &'static str, detail: impl Into<String>) -> Result<T, Unsteady> {
    Err(Unsteady { reason, detail: detail.into() })
}

impl Case<'_> {
    pub(super) fn copy(&self, kind: &Kind, copy: &Copy) -> Result<Decision, Refused> {
        if copy.writes {
            return self.hidden();
        }
        let (Some(target), true) = (&copy.target, copy.direction != CopyDirection::To) else { return Ok(self.pass()) };
        self.not_the_journal(&target.relation)?;
        let Some(known) = self.names.look(&target.relation) else {
            return self.temporary("COPY", &target.relation).map(|()| self.pass());
        };
        self.indirect("COPY", &known)?;
        let Some(ours) = Ours::new(target, &known) else { return Ok(self.pass()) };
        if copy.direction == CopyDirection::FromServer {
            return Err(refuse::copy_from_server(&ours));
        }
        let columns = listed(copy, &ours);
        let steady = || self.steady_stream(copy, &ours, &columns).and_then(|()| self.watched(copy, &ours, &columns));
        let watched = match steady() {
            Ok(watched) => watched,
            Err(_) if self.is_in_vain(copy, &columns) => None,
            Err(why) => return self.through_temp(kind, copy, &ours, &columns, why),
        };
        let mut text = self.text(None, &[(target.relation, &ours)]);
        // Frozen rows need a table made in the same transaction, which the peer's is not.
        if let Some(freeze) = self.freeze(copy.rest)
            && freeze.end <= text.sql.len()
        {
            text.sql.drain(freeze.start..freeze.end);
        }
        text.settings = (self.s.settings)();
        let key = ours.key().unwrap_or_default();
        let head = Head {
            columns: columns.iter().flatten().map(|c| image_column(c, &key)).collect(),
            text: Some(text),
            ..image::head(self.s, Lane::Copy, Op::Copy, &ours)
        };
        let block = watched.map_or(BlockForm::AsIs, |layout| {
            BlockForm::Watched(Arc::new(Watched { layout: Arc::new(layout), refusal: refuse::moment(&ours) }))
        });
        let reason = "the data itself";
        Ok(Decision::Write(Arc::new(Write { reason, ..self.plain(kind, &ours, head, block, None) })))
    }

    /// Whether every node makes the same rows of the stream.
    fn steady_stream(&self, copy: &Copy, ours: &Ours<'_>, columns: &[Option<&Column>]) -> Result<(), Unsteady> {
        let given = |c: &&Column| columns.iter().flatten().any(|given| given.name == c.name);
        let changes = |c: &&Column| c.default != Volatility::Immutable || c.identity.is_some();
        let left_out = ours.relation.columns.iter().filter(|c| !c.generated && !given(c));
        if let Some(column) = left_out.into_iter().find(changes) {
            let name = quote::text(&column.name);
            return unsteady(
                "a column is left out and gets another default on every node",
                format!("Column \"{name}\" is left out and gets another default on every node."),
            );
        }
        if let Some(column) = columns.iter().flatten().copied().find(|c| copy.defaults && changes(c)) {
            let name = quote::text(&column.name);
            return unsteady(
                "the data may ask for defaults",
                format!("Column \"{name}\" may be given its default, which is another one on every node."),
            );
        }
        if ours.rule.on_error != OnError::Stall {
            let detail = "Its replication rule says what becomes of single rows that a peer rejects.";
            return unsteady("what a peer rejects is told by its rows", detail);
        }
        if ours.rule.settles().is_some() {
            return unsteady(
                "conflicts are settled by whole rows",
                "Its replication rule settles conflicts row by row.",
            );
        }
        if ours.rule.filter.is_some() {
            return unsteady("the rule filters rows", "Its replication rule filters rows.");
        }
        if let Some(column) = columns.iter().flatten().find(|c| !ours.travels(&c.name)) {
            let name = quote::text(&column.name);
            let detail = format!("Its replication rule leaves column \"{name}\" out.");
            return unsteady("the rule leaves columns out", detail);
        }
        if ours.relation.before_row_trigger {
            return unsteady("a trigger may change its rows", "A trigger may change its rows.");
        }
        if !ours.is_root() && ours.root.kind != RelationKind::Partitioned {
            let detail = "It inherits from the table that the replication rule names.";
            return unsteady("it inherits from the ruled table", detail);
        }
        if copy.condition.is_some() && !self.steady_filter() {
            let detail = "Its WHERE may choose other rows on another node.";
            return unsteady("its WHERE may choose other rows on another node", detail);
        }
        let binary = copy.format == CopyFormat::Binary;
        match columns.iter().flatten().find(|c| hangs_on_session(c) || binary && by_oid(c)) {
            Some(column) => unsteady(
                "a value may mean something else on another node",
                format!(
                    "What its column \"{}\" of type {} is given may mean something else on another node.",
                    quote::text(&column.name),
                    column.type_name
                ),
            ),
            None => Ok(()),
        }
    }

    /// How to look for words for a moment in the data, where there can be any.
    fn watched(&self, copy: &Copy, ours: &Ours<'_>, columns: &[Option<&Column>]) -> Result<Option<Layout>, Unsteady> {
        let moments = |c: &Option<&Column>| c.map_or(Moments::Unknown, |c| c.moments);
        if copy.format == CopyFormat::Binary || columns.iter().all(|c| moments(c) == Moments::No) {
            return Ok(None);
        }
        let detail = "Its data may have words such as now or today, and its layout is not understood.";
        let layout = layout(copy, self.s.encoding, columns);
        let known = !columns.iter().any(|c| moments(c) == Moments::Unknown);
        match layout {
            // Where the operator does not want refusals, the rows travel.
            Some(layout) if known && ours.rule.unreplicable == Unreplicable::Refuse => Ok(Some(layout)),
            _ => unsteady("its dates may be words such as now or today", detail),
        }
    }

    /// By way of a temporary table (§4.5).
    fn through_temp(
        &self,
        kind: &Kind,
        copy: &Copy,
        ours: &Ours<'_>,
        columns: &[Option<&Column>],
        why: Unsteady,
    ) -> Result<Decision, Refused> {
        const ALIAS: &str = "pgcanon_t";
        if ours.relation.rewrite_rule {
            // COPY passes rules by, INSERT does not.
            return Err(self.refuse(kind, ours, Why::RewriteRule, None));
        }
        if copy.defaults || columns.is_empty() {
            return Err(refuse::copy(ours, &why.detail));
        }
        if let Some(span) = copy.condition
            && let Some(name) = self.names_left_out(span, ours, columns)
        {
            let detail = format!("{} Its WHERE looks at column \"{name}\", which its data does not have.", why.detail);
            return Err(refuse::copy(ours, &detail));
        }
        let rows = image::copied(ALIAS, ours, self.s).map_err(|why| self.refuse(kind, ours, why, None))?;
        let names: Vec<Vec<u8>> = match &copy.columns {
            Some(names) => names.iter().map(quote::as_written).collect(),
            None => {
                columns.iter().flatten().map(|c| quote::ident(&quote::text(&c.name), self.s.encoding).into()).collect()
            }
        };
        let (names, table) = (names.join(&b", "[..]), quote::table(&ours.relation.name, self.s.encoding));
        let name = ours.target.relation.name;
        let condition = copy.condition.map(|span| self.condition(span)).unwrap_or_default();
        let temp = ThroughTemp {
            create: [
                format!("CREATE TEMP TABLE pg_temp.{TEMP_TABLE} USING heap ON COMMIT DROP AS SELECT ").as_bytes(),
                &names,
                format!(" FROM ONLY {table} WITH NO DATA").as_bytes(),
            ]
            .concat(),
            copy: self.redirected(copy, ours),
            insert: [
                format!("INSERT INTO {table} AS {ALIAS} (").as_bytes(),
                &names,
                b") OVERRIDING SYSTEM VALUE SELECT ",
                &names,
                format!(" FROM pg_temp.{TEMP_TABLE} AS ").as_bytes(),
                &quote::as_written(&name),
                &condition,
                format!(" RETURNING {}", rows.image).as_bytes(),
            ]
            .concat(),
            drop: "DROP TABLE pg_temp.pgcanon_copy",
            name: name.as_bytes().to_vec(),
        };
        let block = BlockForm::ThroughTemp(Arc::new(temp));
        Ok(Decision::Write(Arc::new(Write { reason: why.reason, ..self.plain(kind, ours, rows.head, block, None) })))
    }

    /// The client's statement, into the temporary table: what that needs no more is left out.
    fn redirected(&self, copy: &Copy, ours: &Ours<'_>) -> crate::capture::write::Rewritten {
        let target = ours.target.relation.span;
        let mut weave = Weave::new(self.sql);
        weave.copy(target.start);
        weave.skip(target.end);
        weave.put(format!("pg_temp.{TEMP_TABLE}"));
        let mut cut: Vec<Span> = self.freeze(copy.rest).into_iter().chain(copy.condition).collect();
        cut.sort_unstable_by_key(|span| span.start);
        for span in cut {
            weave.copy(span.start);
            weave.skip(span.end);
        }
        weave.copy(self.statement.end);
        weave.skip(self.sql.len());
        weave.finish()
    }

    /// Whether the server refuses it as it is, and an INSERT might not be refused, or in other words: it names generated
    /// columns or such as do not exist, or its WHERE has a query.
    fn is_in_vain(&self, copy: &Copy, columns: &[Option<&Column>]) -> bool {
        let text = copy.condition.and_then(|span| self.sql.get(span.start..span.end)).unwrap_or_default();
        let mut values = false;
        let query = Lexer::new(text, self.lex()).filter(|token| !token.kind.is_blank()).any(|token| {
            let word = token.text(text);
            let is = |known: &str| token.kind == TokenKind::Ident && word.eq_ignore_ascii_case(known.as_bytes());
            let list = std::mem::replace(&mut values, is("values")) && token.kind == TokenKind::Char(b'(');
            list || is("select") || is("table")
        });
        // A name that is not ASCII may be written in another encoding than the catalog's.
        let ascii = |name: &Name| name.as_bytes().is_ascii();
        let named = copy.columns.iter().flatten().zip(columns);
        let unknown = named.into_iter().any(|(name, column)| column.is_none() && ascii(name));
        query || unknown || columns.iter().flatten().any(|c| c.generated)
    }

    /// A COPY's `WHERE` as that of a query: within its parentheses nothing but a condition can stand.
    fn condition(&self, span: Span) -> Vec<u8> {
        let text = self.sql.get(span.start..span.end).unwrap_or_default();
        let (word, rest) = text.split_at_checked("WHERE".len()).unwrap_or_default();
        [b" ", word, b" (", rest, b"\n)"].concat()
    }

    /// A column that a `WHERE` names and the data does not hold.
    fn names_left_out(&self, span: Span, ours: &Ours<'_>, columns: &[Option<&Column>]) -> Option<String> {
        let text = self.sql.get(span.start..span.end).unwrap_or_default();
        let lex = self.lex();
        let words = Lexer::new(text, lex).filter_map(|t| ident::fold(t.kind, t.text(text), b'\\', lex.encoding));
        let held = |name: &Name| columns.iter().flatten().any(|c| c.name == *name);
        let system =
            |name: &Name| matches!(name.as_bytes(), b"tableoid" | b"ctid" | b"xmin" | b"xmax" | b"cmin" | b"cmax");
        words
            .into_iter()
            .find(|word| !held(word) && (system(word) || ours.relation.column(word).is_some()))
            .map(|word| quote::text(&word))
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

    /// Where `FREEZE` stands among the options, with what has to go with it.
    fn freeze(&self, rest: Span) -> Option<Span> {
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
            if is(*at, b'(') {
                depth += 1;
            } else if is(*at, b')') {
                depth = depth.saturating_sub(1);
            }
            let option = at.checked_sub(1).is_some_and(|before| depth == 0 || is(before, b'(') || is(before, b','));
            option && depth < 2 && word(*at) == Some(Name::from("freeze"))
        });
        let found = found?;
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
                    if first > 0 && word(first - 1) == Some(Name::from("with")) {
                        first -= 1;
                    }
                }
            }
        }
        Some(Span { start: rest.start + tokens.get(first)?.start, end: rest.start + tokens.get(last)?.end })
    }
}

/// The columns that the stream holds, in its order; none for names that the catalog does not know.
fn listed<'c>(copy: &Copy, ours: &Ours<'c>) -> Vec<Option<&'c Column>> {
    let all = &ours.relation.columns;
    match &copy.columns {
        None => all.iter().filter(|c| !c.generated).map(Some).collect(),
        Some(names) => names.iter().map(|n| all.iter().find(|c| c.name == *n)).collect(),
    }
}

/// How the data is laid out; none where that is not understood.
fn layout(copy: &Copy, encoding: &str, columns: &[Option<&Column>]) -> Option<Layout> {
    let options = copy.options.as_ref()?;
    let one = |option: &Option<Vec<u8>>, default: u8| match option.as_deref() {
        None => Some(default),
        Some([byte]) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Some(*byte),
        Some(_) => None,
    };
    let encoding = options.encoding.as_deref().map_or(encoding.into(), String::from_utf8_lossy);
    if ClientEncoding::from_name(&encoding) != ClientEncoding::AsciiSafe {
        return None;
    }
    let (delimiter, csv, null): (_, _, &[u8]) = match copy.format {
        CopyFormat::Text => (one(&options.delimiter, b'\t')?, None, b"\\N"),
        CopyFormat::Csv => {
            let quote = one(&options.quote, b'"')?;
            (one(&options.delimiter, b',')?, Some((quote, one(&options.escape, quote)?)), b"")
        }
        CopyFormat::Binary | CopyFormat::Other => return None,
    };
    let watch = |c: &Option<&Column>| match c.map(|c| c.moments) {
        Some(Moments::No) => Watch::No,
        Some(Moments::Plain) => Watch::Plain,
        _ => Watch::Quoted,
    };
    let layout = Layout { delimiter, csv, header: options.header, columns: columns.iter().map(watch).collect() };
    // What stands for NULL or for a default is no word.
    let words = [Some(options.null.as_deref().unwrap_or(null)), options.default.as_deref()];
    (!words.into_iter().flatten().any(|word| layout.finds(word))).then_some(layout)
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
