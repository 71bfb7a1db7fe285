//! Reads a `WITH` list: where each CTE stands and whether it writes.

use super::cursor::Cursor;
use super::head;
use super::word::Word;
use super::{Cte, Kind, Span, With};
use crate::sql::name::Name;

/// A CTE as it stands in the text.
pub(super) struct Entry<'a> {
    pub(super) name: Name,
    pub(super) name_span: Span,
    pub(super) aliases: Option<Span>,
    pub(super) body: Cursor<'a>,
}

pub(super) struct List<'a> {
    pub(super) recursive: bool,
    pub(super) entries: Vec<Entry<'a>>,
}

/// At `WITH`: the list, if there is one (there is none in `WITH TIES`, `WITH HOLD`, …); the cursor goes behind it.
pub(super) fn list<'a>(c: &mut Cursor<'a>) -> Option<List<'a>> {
    let mut ahead = *c;
    if !ahead.take(Word::With) {
        return None;
    }
    // A CTE may be called `recursive`.
    let recursive = ahead.is(Word::Recursive) && !ahead.is_char_at(1, b'(') && ahead.word_at(1) != Word::As;
    ahead.step_if(recursive);
    let mut entries = Vec::new();
    loop {
        entries.push(entry(&mut ahead)?);
        search_and_cycle(&mut ahead)?;
        if !ahead.take_char(b',') {
            break;
        }
    }
    *c = ahead;
    Some(List { recursive, entries })
}

/// `name [(columns)] AS [[NOT] MATERIALIZED] (body)`
fn entry<'a>(c: &mut Cursor<'a>) -> Option<Entry<'a>> {
    let (name, name_span) = c.name()?;
    let mut aliases = None;
    if c.is_char(b'(') {
        let start = c.start();
        c.group()?;
        aliases = Some(Span { start, end: c.behind() });
    }
    if !c.take(Word::As) {
        return None;
    }
    let negated = c.take(Word::Not);
    if !c.take(Word::Materialized) && negated {
        return None;
    }
    let body = if c.is_char(b'(') { c.group()? } else { return None };
    Some(Entry { name, name_span, aliases, body })
}

/// `SEARCH {BREADTH | DEPTH} FIRST BY a, … SET b` and `CYCLE a, … SET b [TO x DEFAULT y] USING c`
fn search_and_cycle(c: &mut Cursor<'_>) -> Option<()> {
    if c.is(Word::Search) {
        while !c.take(Word::Set) {
            c.next()?;
        }
        c.name()?;
    }
    if c.is(Word::Cycle) {
        while !c.take(Word::Using) {
            c.next()?;
        }
        c.name()?;
    }
    Some(())
}

/// The `WITH` in front of a statement, if there is one; the cursor stands at the statement's own head then.
pub(super) fn leading(c: &mut Cursor<'_>) -> Option<With> {
    let begin = *c;
    let list = list(c)?;
    let first = list.entries.first()?.name_span.start;
    Some(With {
        recursive: list.recursive,
        span: Span { start: begin.start(), end: c.start() },
        list: Span { start: first, end: c.behind() },
        ctes: list.entries.into_iter().map(cte).collect(),
    })
}

fn cte(entry: Entry<'_>) -> Cte {
    let body = entry.body.rest();
    let mut inner = entry.body;
    if inner.is(Word::With) {
        // What is in here cannot write: the server takes that only in the outermost list.
        let _ = list(&mut inner);
    }
    let writes = matches!(inner.word(), Word::Insert | Word::Update | Word::Delete | Word::Merge)
        .then(|| Box::new(head::write(inner).unwrap_or(Kind::Unknown)));
    let close = entry.body.text.tokens.get(entry.body.end).map_or(body.end, |token| token.start as usize);
    Cte { name: entry.name, name_span: entry.name_span, aliases: entry.aliases, body, close, writes }
}
