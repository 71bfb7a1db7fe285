//! A statement's text with the peer's names in it: put in at the places that capture has noted, never by replacing words (§6).

use super::route::{Destination, Route};
use crate::journal::entry::{Head, Op, Text};
use crate::sql::{ClientEncoding, LexOptions, Lexer, Name, Token, TokenKind, ident, quote};

/// Why a text cannot go to this peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadText {
    /// A place outside of the text, or across another one.
    Place,
    /// It names a table that does not travel to this peer.
    NotRouted(String),
}

/// The text as it runs on a peer, to be shown; none where it cannot go there.
pub fn renamed_for(route: &mut Route, head: &Head, text: &Text) -> Option<Vec<u8>> {
    renamed(head, text, |schema, table| route.of(schema, table)).ok()
}

/// Something to be put in the place of `start..end`.
struct Splice {
    start: usize,
    end: usize,
    put: String,
}

/// The text as it runs on the peer; `find` says where a table goes.
pub(super) fn renamed(
    head: &Head,
    text: &Text,
    mut find: impl FnMut(&str, &str) -> Option<std::sync::Arc<Destination>>,
) -> Result<Vec<u8>, BadText> {
    let encoding = head.encoding.as_str();
    let mut splices = Vec::new();
    for place in &text.names {
        let to = find(&place.schema, &place.table)
            .ok_or_else(|| BadText::NotRouted(format!("{}.{}", place.schema, place.table)))?;
        let at = |n: u32| usize::try_from(n).map_err(|_| BadText::Place);
        let (start, end) = (at(place.start)?, at(place.end)?);
        let put = match head.names_schema(text, place) {
            true => quote::ident(&to.table.schema, encoding),
            false => quote::table(&to.table, encoding),
        };
        splices.push(Splice { start, end, put });
        let aliased = matches!(head.op, Op::Insert | Op::Upsert | Op::Update | Op::Delete | Op::Merge);
        if aliased && to.table != to.source {
            keep_qualifiers(head, text, &to, (start, end), &mut splices);
        }
    }
    splice(&text.sql, splices)
}

/// Columns that are written with the name their table has here find it as an alias, if there is no other.
fn keep_qualifiers(head: &Head, text: &Text, to: &Destination, place: (usize, usize), splices: &mut Vec<Splice>) {
    let lex = LexOptions { standard_conforming_strings: true, encoding: ClientEncoding::from_name(&head.encoding) };
    let tokens: Vec<Token> = Lexer::new(&text.sql, lex).filter(|t| !t.kind.is_blank()).collect();
    let word = |at: usize| {
        let token = tokens.get(at)?;
        ident::fold(token.kind, token.text(&text.sql), b'\\', lex.encoding)
    };
    let is = |at: usize, kind: u8| tokens.get(at).is_some_and(|t| t.kind == TokenKind::Char(kind));
    let here = |at: usize| tokens.get(at).is_some_and(|t| (place.0..place.1).contains(&t.start));
    let named = |at: usize, name: &str| word(at) == Some(Name::from(name));
    let (table, schema) = (to.source.table.as_str(), to.source.schema.as_str());
    // `table.` or `schema.table.`, outside of what names the relation itself.
    let mut qualifies = false;
    for at in 0..tokens.len() {
        if !named(at, table) || !is(at.saturating_add(1), b'.') || here(at) {
            continue;
        }
        let dot = at.checked_sub(1).filter(|dot| is(*dot, b'.'));
        match dot.and_then(|dot| dot.checked_sub(1)) {
            None => qualifies |= dot.is_none(),
            Some(front) if named(front, schema) && !front.checked_sub(1).is_some_and(|b| is(b, b'.')) => {
                qualifies = true;
                if let (Some(from), Some(behind)) = (tokens.get(front), tokens.get(at)) {
                    splices.push(Splice { start: from.start, end: behind.start, put: String::new() });
                }
            }
            Some(_) => {}
        }
    }
    let Some(mut next) = tokens.iter().position(|t| t.start >= place.1).or(Some(tokens.len())) else { return };
    // `ONLY (name)` and `name *` are part of the relation.
    let mut end = place.1;
    while is(next, b')') && wraps(&tokens, &text.sql, place.0) || is(next, b'*') {
        end = tokens.get(next).map_or(end, |t| t.end);
        next = next.saturating_add(1);
    }
    if qualifies && !has_alias(head.op, word(next)) {
        splices.push(Splice { start: end, end, put: format!(" AS {}", quote::ident(table, &head.encoding)) });
    }
}

/// Whether an `ONLY (` stands right before.
fn wraps(tokens: &[Token], sql: &[u8], start: usize) -> bool {
    let before: Vec<&Token> = tokens.iter().take_while(|t| t.start < start).collect();
    match before.as_slice() {
        [.., only, open] => open.kind == TokenKind::Char(b'(') && only.text(sql).eq_ignore_ascii_case(b"only"),
        _ => false,
    }
}

/// Whether the word behind a relation is its alias, or begins it.
fn has_alias(op: Op, next: Option<Name>) -> bool {
    /// What can stand there and is no alias.
    const CLAUSES: &[&str] = &[
        "set",
        "using",
        "where",
        "returning",
        "from",
        "on",
        "join",
        "inner",
        "left",
        "right",
        "full",
        "cross",
        "natural",
        "group",
        "order",
        "having",
        "limit",
        "offset",
        "fetch",
        "for",
        "union",
        "intersect",
        "except",
        "window",
        "when",
        "tablesample",
    ];
    match (op, next) {
        (_, None) => false,
        // Only behind AS.
        (Op::Insert | Op::Upsert, Some(word)) => word == Name::from("as"),
        (_, Some(word)) => !CLAUSES.iter().any(|clause| word == Name::from(*clause)),
    }
}

fn splice(sql: &[u8], mut splices: Vec<Splice>) -> Result<Vec<u8>, BadText> {
    splices.sort_by_key(|s| (s.start, s.end));
    // Two places of one table note the same.
    splices.dedup_by(|a, b| (a.start, a.end, &a.put) == (b.start, b.end, &b.put));
    let mut out = Vec::with_capacity(sql.len().saturating_add(64));
    let mut at = 0;
    for Splice { start, end, put } in &splices {
        out.extend_from_slice(sql.get(at..*start).filter(|_| start <= end).ok_or(BadText::Place)?);
        out.extend_from_slice(put.as_bytes());
        at = *end;
    }
    out.extend_from_slice(sql.get(at..).ok_or(BadText::Place)?);
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has done its work
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{OnError, TableName, Triggers};
    use crate::journal::entry::{Place, sample};

    fn to(table: &str) -> Arc<Destination> {
        Arc::new(Destination {
            source: TableName { schema: "s".into(), table: "t".into() },
            table: TableName { schema: "far".into(), table: table.into() },
            columns: None,
            filter: None,
            on_error: OnError::default(),
            triggers: Triggers::default(),
            conflict: None,
        })
    }

    /// The relation stands in `<…>`.
    fn run(op: Op, sql: &str, encoding: &str, table: &str) -> String {
        let (start, end) = (sql.find('<').unwrap(), sql.find('>').unwrap() - 1);
        let sql = format!("{}{}{}", &sql[..start], &sql[start + 1..=end], &sql[end + 2..]);
        let names = vec![Place {
            start: u32::try_from(start).unwrap(),
            end: u32::try_from(end).unwrap(),
            schema: "s".into(),
            table: "t".into(),
        }];
        let head = Head { op, encoding: encoding.into(), ..sample() };
        let text = Text { sql: sql.into_bytes(), params: vec![], names, settings: vec![] };
        let out = renamed(&head, &text, |schema, name| ((schema, name) == ("s", "t")).then(|| to(table)));
        String::from_utf8(out.unwrap()).unwrap()
    }

    #[test]
    fn only_the_relation_is_renamed() {
        for (op, sql, expected) in [
            (
                Op::Update,
                "update <t> set t = 't', x = $$t$$ /* t */ where t = 1",
                r#"update "far"."U" set t = 't', x = $$t$$ /* t */ where t = 1"#,
            ),
            (
                Op::Delete,
                "delete from only <s.t>/**/where t.k = 1",
                r#"delete from only "far"."U" AS "t"/**/where t.k = 1"#,
            ),
            (Op::Delete, "delete from <t> where s.t.k=1", r#"delete from "far"."U" AS "t" where t.k=1"#),
            (Op::Update, "update <t> as t set x = t.x", r#"update "far"."U" as t set x = t.x"#),
            (Op::Update, "update <t> x set x = x.t.y", r#"update "far"."U" x set x = x.t.y"#),
            (Op::Update, "update <t> * set x = t.x", r#"update "far"."U" * AS "t" set x = t.x"#),
            (Op::Update, "update only (<t>) set x = T.x", r#"update only ("far"."U") AS "t" set x = T.x"#),
            (
                Op::Upsert,
                "insert into <\"t\"> (k) values (1) on conflict (k) do update set n = t.n + 1",
                r#"insert into "far"."U" AS "t" (k) values (1) on conflict (k) do update set n = t.n + 1"#,
            ),
            (
                Op::Insert,
                "insert into <t> (k, v) values (1, 't.k')",
                r#"insert into "far"."U" (k, v) values (1, 't.k')"#,
            ),
            (Op::Copy, "copy <t> from stdin", r#"copy "far"."U" from stdin"#),
        ] {
            assert_eq!(run(op, sql, "UTF8", "U"), expected, "{sql}");
        }
        assert_eq!(run(Op::Delete, "delete from <t>", "LATIN1", "ä"), r#"delete from "far".U&"\+0000E4""#);
    }

    #[test]
    fn places_that_do_not_fit_are_refused() {
        let place = |start, end| Place { start, end, schema: "s".into(), table: "t".into() };
        let text = |names| Text { sql: b"delete from t".to_vec(), params: vec![], names, settings: vec![] };
        let run = |names| renamed(&sample(), &text(names), |_, _| Some(to("t")));
        for bad in [vec![place(12, 14)], vec![place(13, 12)], vec![place(0, 5), place(3, 6)], vec![place(99, 99)]] {
            assert_eq!(run(bad), Err(BadText::Place));
        }
        assert_eq!(renamed(&sample(), &text(vec![place(12, 13)]), |_, _| None), Err(BadText::NotRouted("s.t".into())));
    }
}
