//! Statements that travelled as text: the client's own bytes, with resolved names, and constants in the place of parameters.

use tokio_postgres::types::Type;

use super::literal::{Shown, hex, one_line};
use super::values::{Said, type_name};
use super::{RenderError, Rendered, Renderer};
use crate::config::TableName;
use crate::journal::entry::{Extra, Head, Op, Param, Place, Text};
use crate::sql::{ClientEncoding, LexOptions, Lexer, Token, TokenKind};

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Plain(&'a [u8]),
    /// A string constant.
    Constant(&'a [u8]),
    Name(&'a Place),
    Param(Slot),
}

/// A parameter's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    /// From 0 on.
    index: usize,
    /// By itself it is what a column is given or compared with.
    direct: bool,
    /// What stands before it could swallow it.
    apart: bool,
    /// What stands behind it would be taken for a part of its type.
    wrapped: bool,
}

/// What a parameter is shown as.
struct Known {
    shown: Shown,
    /// None where nobody has told it.
    type_name: Option<String>,
}

// === impl Renderer ===

impl Renderer {
    pub(super) async fn text(&mut self, head: &Head, text: &Text, table: &TableName) -> Result<Rendered, RenderError> {
        let mut rendered = Rendered { notes: notes(head, text), sql: String::new(), whole: true };
        let parts = parts(&text.sql, &text.names, &head.encoding);
        let plain = match self.plain(&parts, &head.encoding).await? {
            Ok(plain) => plain,
            Err(why) => {
                let text = hex(&text.sql, self.values.limit);
                rendered.notes.push(one_line(&format!("a statement that cannot be shown: {text}: {why}")));
                rendered.whole = false;
                return Ok(rendered);
            }
        };
        let known = self.params(head, text, &parts, &plain).await?;
        let mut plain = plain.into_iter();
        for part in &parts {
            match part {
                Part::Plain(_) => rendered.sql.push_str(&plain.next().unwrap_or_default()),
                Part::Constant(_) => {
                    let constant = plain.next().unwrap_or_default();
                    let short = self.values.limit.and_then(|limit| shortened(&constant, limit));
                    rendered.whole &= short.is_none();
                    rendered.sql.push_str(short.as_ref().unwrap_or(&constant));
                }
                Part::Name(place) => {
                    let own = place.schema == head.schema && place.table == head.table;
                    let meant = TableName { schema: place.schema.clone(), table: place.table.clone() };
                    let shown = if own { table } else { &meant };
                    let name = match head.names_schema(text, place) {
                        true => self.schema(shown).await?,
                        false => self.table(shown).await?,
                    };
                    rendered.sql.push_str(&name);
                }
                Part::Param(slot) => match known.get(slot.index).and_then(Option::as_ref) {
                    Some(known) => {
                        rendered.whole &= known.shown.is_whole();
                        rendered.sql.push_str(&known.at(*slot));
                    }
                    None => {
                        rendered.whole = false;
                        rendered.sql.push_str(&format!("/* ${} was not bound */", slot.index.saturating_add(1)));
                    }
                },
            }
        }
        rendered.sql = rendered.sql.trim().to_owned();
        rendered.sql.push_str(if ends_in_comment(&text.sql, &head.encoding) { "\n;" } else { ";" });
        Ok(rendered)
    }

    /// All parts that are the client's own bytes, in UTF-8.
    async fn plain(&mut self, parts: &[Part<'_>], encoding: &str) -> Result<Said<Vec<String>>, RenderError> {
        let bytes = parts.iter().filter_map(|part| match part {
            Part::Plain(bytes) | Part::Constant(bytes) => Some(*bytes),
            _ => None,
        });
        self.values.converted(encoding, &bytes.collect::<Vec<_>>()).await
    }

    async fn params(
        &mut self,
        head: &Head,
        text: &Text,
        parts: &[Part<'_>],
        plain: &[String],
    ) -> Result<Vec<Option<Known>>, RenderError> {
        let used = |index: usize| parts.iter().any(|part| matches!(part, Part::Param(slot) if slot.index == index));
        let mut known = Vec::new();
        for (index, param) in text.params.iter().enumerate() {
            known.push(match used(index) {
                true => Some(self.param(head, index, param, parts, plain).await?),
                false => None,
            });
        }
        Ok(known)
    }

    async fn param(
        &mut self,
        head: &Head,
        index: usize,
        param: &Param,
        parts: &[Part<'_>],
        plain: &[String],
    ) -> Result<Known, RenderError> {
        let told = Type::from_oid(param.type_oid).filter(|ty| *ty != Type::UNKNOWN);
        let Some(bytes) = &param.value else {
            return Ok(Known { shown: Shown::Null, type_name: told.as_ref().map(type_name) });
        };
        let limit = self.values.limit;
        if !param.binary {
            let text = self.values.converted(&head.encoding, &[bytes.as_slice()]).await?;
            let shown = match text.map(|mut texts| texts.pop().unwrap_or_default()) {
                Ok(text) => Shown::text(text, limit),
                Err(why) => Shown::raw(bytes, limit, &why),
            };
            return Ok(Known { shown, type_name: told.as_ref().map(type_name) });
        }
        let ty = match (told, param.type_oid) {
            (Some(ty), _) => Ok(ty),
            (None, 0) => self.inferred(index, parts, plain).await?,
            (None, oid) => Err(format!("the type with OID {oid} is unknown here")),
        };
        Ok(match ty {
            Ok(ty) => {
                let shown = match self.values.of_type(&head.encoding, &ty, bytes).await? {
                    Ok(text) => Shown::text(text, limit),
                    Err(why) => Shown::raw(bytes, limit, &why),
                };
                Known { shown, type_name: Some(type_name(&ty)) }
            }
            Err(why) => Known { shown: Shown::raw(bytes, limit, &why), type_name: None },
        })
    }

    /// Of which type a parameter is, as this node takes the statement.
    async fn inferred(
        &mut self,
        index: usize,
        parts: &[Part<'_>],
        plain: &[String],
    ) -> Result<Said<Type>, RenderError> {
        let mut sql = String::new();
        let mut plain = plain.iter();
        for part in parts {
            match part {
                Part::Plain(_) | Part::Constant(_) => sql.push_str(plain.next().map_or("", String::as_str)),
                Part::Name(place) => {
                    let name = TableName { schema: place.schema.clone(), table: place.table.clone() };
                    sql.push_str(&self.table(&name).await?);
                }
                Part::Param(slot) => sql.push_str(&format!("${}", slot.index.saturating_add(1))),
            }
        }
        let types = self.values.parameters(&sql).await?;
        Ok(types.and_then(|types| types.get(index).cloned().ok_or_else(|| "its type is unknown".to_owned())))
    }
}

// === impl Known ===

impl Known {
    fn at(&self, slot: Slot) -> String {
        let constant = match &self.type_name {
            None => self.shown.untyped(),
            Some(type_name) if slot.direct => self.shown.direct(type_name),
            Some(type_name) => self.shown.typed(type_name),
        };
        match (slot.apart, slot.wrapped) {
            (_, true) => format!("({constant})"),
            (true, false) => format!(" {constant}"),
            (false, false) => constant,
        }
    }
}

/// What a reader has to know that the text does not say.
fn notes(head: &Head, text: &Text) -> Vec<String> {
    let mut notes = settings(text);
    if head.op == Op::Truncate && head.extra != Extra::None {
        let note = format!("on a peer only the rows that meet the filter of rule {} are deleted", head.rule);
        notes.push(one_line(&note));
    }
    notes
}

/// The settings that a text's constants hang on, as a note.
fn settings(text: &Text) -> Vec<String> {
    let all: Vec<_> = text.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    if all.is_empty() { Vec::new() } else { vec![one_line(&format!("with {}", all.join("; ")))] }
}

fn lexer<'a>(sql: &'a [u8], encoding: &str) -> Lexer<'a> {
    // What was captured with standard_conforming_strings off has no strings in it that would tell.
    let encoding = ClientEncoding::from_name(encoding);
    Lexer::new(sql, LexOptions { standard_conforming_strings: true, encoding })
}

fn ends_in_comment(sql: &[u8], encoding: &str) -> bool {
    let last = lexer(sql, encoding).last();
    last.is_some_and(|token| token.kind == TokenKind::Comment && token.text(sql).starts_with(b"--"))
}

/// Cuts a text at its names, its parameters and its string constants; nothing within a string or a comment is a parameter.
fn parts<'a>(sql: &'a [u8], names: &'a [Place], encoding: &str) -> Vec<Part<'a>> {
    let mut names: Vec<(usize, usize, &Place)> = names.iter().filter_map(|place| span(place, sql.len())).collect();
    names.sort_by_key(|(start, ..)| *start);
    let mut names = names.into_iter().peekable();
    let tokens: Vec<Token> = lexer(sql, encoding).filter(|token| !token.kind.is_blank()).collect();
    let (mut parts, mut copied) = (Vec::new(), 0);
    let mut around = Around { sql, before: None, parens: Vec::new(), values: false };
    for (at, token) in tokens.iter().enumerate() {
        while let Some((start, end, place)) = names.next_if(|(start, ..)| *start <= token.start) {
            if start >= copied {
                parts.push(Part::Plain(sql.get(copied..start).unwrap_or_default()));
                parts.push(Part::Name(place));
                copied = end;
            }
        }
        let part = match token.kind {
            _ if token.start < copied => None,
            TokenKind::Param => around.slot(token, tokens.get(at.saturating_add(1))).map(Part::Param),
            kind if kind.is_string() || kind == TokenKind::BitString => Some(Part::Constant(token.text(sql))),
            _ => None,
        };
        if let Some(part) = part {
            parts.push(Part::Plain(sql.get(copied..token.start).unwrap_or_default()));
            parts.push(part);
            copied = token.end;
        }
        around.pass(token);
    }
    parts.push(Part::Plain(sql.get(copied..).unwrap_or_default()));
    parts
}

fn span(place: &Place, len: usize) -> Option<(usize, usize, &Place)> {
    let (start, end) = (usize::try_from(place.start).ok()?, usize::try_from(place.end).ok()?);
    (start <= end && end <= len).then_some((start, end, place))
}

/// What stands before the token that is looked at.
struct Around<'a> {
    sql: &'a [u8],
    before: Option<Token>,
    /// For each open parenthesis, whether it holds a row of VALUES or the list of an IN.
    parens: Vec<bool>,
    /// A VALUES came, outside of parentheses.
    values: bool,
}

impl Around<'_> {
    fn is_word(&self, token: Option<&Token>, words: &[&[u8]]) -> bool {
        let is = |token: &Token| {
            token.kind == TokenKind::Ident && words.iter().any(|w| token.text(self.sql).eq_ignore_ascii_case(w))
        };
        token.is_some_and(is)
    }

    fn is_char(token: Option<&Token>, chars: &[u8]) -> bool {
        matches!(token.map(|token| token.kind), Some(TokenKind::Char(c)) if chars.contains(&c))
    }

    fn slot(&self, token: &Token, behind: Option<&Token>) -> Option<Slot> {
        let digits = std::str::from_utf8(token.text(self.sql).get(1..)?).ok()?;
        let index = digits.parse::<usize>().ok()?.checked_sub(1)?;
        let before = self.before.as_ref();
        let listed = Self::is_char(before, b"(,") && self.parens.last() == Some(&true);
        let ends = behind.is_none()
            || Self::is_char(behind, b"),")
            || behind.is_some_and(|token| token.kind == TokenKind::Semicolon)
            || self.is_word(behind, &[b"and", b"or", b"where", b"on", b"returning", b"from"]);
        let last = token.start.checked_sub(1).and_then(|at| self.sql.get(at));
        Some(Slot {
            index,
            direct: ends && (listed || Self::is_char(before, b"=")),
            apart: !last.is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'(' | b',')),
            wrapped: Self::is_char(behind, b"[."),
        })
    }

    fn pass(&mut self, token: &Token) {
        match token.kind {
            TokenKind::Char(b'(') => {
                let next_row = self.values && self.parens.is_empty() && Self::is_char(self.before.as_ref(), b",");
                self.parens.push(next_row || self.is_word(self.before.as_ref(), &[b"values", b"in"]));
            }
            TokenKind::Char(b')') => drop(self.parens.pop()),
            _ if self.parens.is_empty() && self.is_word(Some(token), &[b"values"]) => self.values = true,
            _ => {}
        }
        self.before = Some(*token);
    }
}

/// The beginning of a string constant, if it has more characters than are to be shown.
fn shortened(constant: &str, limit: usize) -> Option<String> {
    let (end, _) = constant.char_indices().nth(limit.saturating_add(2))?;
    // Half a doubled quote or escape would take the closing one in.
    let kept = constant.get(..end)?.trim_end_matches(['\'', '\\']);
    let close = match constant.strip_prefix('$').and_then(|rest| rest.find('$')) {
        Some(tag) => constant.get(..tag.saturating_add(2))?,
        None => "'",
    };
    Some(format!("{kept}…{close}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has done its work
mod tests {
    use super::*;

    /// The text with `<n…>` for parameters, `[…]` for names and `{…}` for constants.
    fn marked(sql: &str, names: &[(u32, u32)], encoding: &str) -> String {
        let place =
            |(start, end): &(u32, u32)| Place { start: *start, end: *end, schema: "s".into(), table: "t".into() };
        let names: Vec<_> = names.iter().map(place).collect();
        let shown = |part: &Part<'_>| match part {
            Part::Plain(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Part::Constant(bytes) => format!("{{{}}}", String::from_utf8_lossy(bytes)),
            Part::Name(_) => "[]".to_owned(),
            Part::Param(slot) => {
                let flag = |on, flag: &'static str| if on { flag } else { "" };
                let (d, a, w) = (flag(slot.direct, "d"), flag(slot.apart, "a"), flag(slot.wrapped, "w"));
                format!("<{}{d}{a}{w}>", slot.index)
            }
        };
        parts(sql.as_bytes(), &names, encoding).iter().map(shown).collect()
    }

    #[test]
    fn parameters_are_found_where_they_are_and_nowhere_else() {
        for (sql, expected) in [
            (
                "update t set a='$1', b=$1 /* $2 */ where i = $2 -- $1",
                "update t set a={'$1'}, b=<0da> /* $2 */ where i = <1d> -- $1",
            ),
            ("x$1 \"$1\" $$ $1 $$ $12", "x$1 \"$1\" {$$ $1 $$} <11>"),
            ("values ($1, f($2), -$3), ($4, $5 + 1)", "values (<0d>, f(<1>), -<2a>), (<3d>, <4> + 1)"),
            ("where a in ($1,$2) and b = $3[1] or c = $4 * 2", "where a in (<0d>,<1d>) and b = <2w>[1] or c = <3> * 2"),
            ("(a, b) = ($1, $2)", "(a, b) = (<0>, <1>)"),
        ] {
            assert_eq!(marked(sql, &[], "UTF8"), expected);
        }
    }

    #[test]
    fn names_are_cut_out_by_their_places() {
        assert_eq!(marked("update t set a = $1", &[(7, 8)], "UTF8"), "update [] set a = <0d>");
        assert_eq!(marked("t,\"a b\".t", &[(2, 9), (0, 1)], "UTF8"), "[],[]");
        // Places that lie are passed over.
        assert_eq!(marked("ab", &[(1, 9), (2, 1)], "UTF8"), "ab");
    }

    #[test]
    fn long_constants_are_cut_and_stay_constants() {
        assert_eq!(shortened("'abcdef'", 3).unwrap(), "'abcd…'");
        assert_eq!(shortened("'abc'''", 3).unwrap(), "'abc…'");
        assert_eq!(shortened("$q$abcdef$q$", 3).unwrap(), "$q$ab…$q$");
        assert_eq!(shortened("'abc'", 3), None);
    }

    #[test]
    fn a_comment_at_the_end_takes_nothing_in() {
        assert!(ends_in_comment(b"select 1 -- x", "UTF8"));
        assert!(!ends_in_comment(b"select '-- x'", "UTF8"));
        assert!(!ends_in_comment(b"select 1 /* x */", "UTF8"));
    }
}
