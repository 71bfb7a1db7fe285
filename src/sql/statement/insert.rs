//! Reads `INSERT`.

use super::cursor::Cursor;
use super::word::Word;
use super::{ConflictAction, Expr, Insert, OnConflict, Overriding, Source};
use super::{expr, returning, update};
use crate::sql::name::Name;

/// More values than these are not kept one by one (I7): each takes a hundred times the room of its text.
const MOST_VALUES: usize = 1 << 16;

/// `INSERT INTO target [AS alias] [(columns)] [OVERRIDING …] source [ON CONFLICT …] [RETURNING …]`
pub(super) fn insert(mut c: Cursor<'_>) -> Option<Insert> {
    c.take(Word::Insert);
    if !c.take(Word::Into) {
        return None;
    }
    let relation = c.qualified()?;
    let reference = update::last_part(&c, &relation);
    let mut target = super::Target { relation, only: false, reference, alias: None };
    if c.take(Word::As) {
        update::alias(&mut c, &mut target)?;
    }
    let (columns, opaque_columns) = columns(&mut c)?;
    let overriding = overriding(&mut c)?;
    let source = source(&mut c)?;
    let on_conflict = if c.is(Word::On) { Some(on_conflict(&mut c)?) } else { None };
    let returning = returning::read(&mut c, &target, false)?;
    Some(Insert { target, columns, opaque_columns, overriding, source, on_conflict, returning })
}

/// The names in parentheses, if those hold no query, and whether one of them is only a part of a column.
fn columns(c: &mut Cursor<'_>) -> Option<(Option<Vec<Name>>, bool)> {
    let query = match c.word_at(1) {
        Word::Values => c.is_char_at(2, b'('),
        word => word.begins_query() || c.is_char_at(1, b'('),
    };
    if !c.is_char(b'(') || query {
        return Some((None, false));
    }
    let mut inside = c.group()?;
    let mut names = Vec::with_capacity(8);
    let mut opaque = false;
    loop {
        let (name, part) = update::column(&mut inside)?;
        names.push(name);
        opaque |= part;
        if !inside.take_char(b',') {
            break;
        }
    }
    inside.is_over().then_some((Some(names), opaque))
}

/// `OVERRIDING {SYSTEM | USER} VALUE`
pub(super) fn overriding(c: &mut Cursor<'_>) -> Option<Option<Overriding>> {
    if !c.take(Word::Overriding) {
        return Some(None);
    }
    let which = match c.next()?.word {
        Word::System => Overriding::System,
        Word::User => Overriding::User,
        _ => return None,
    };
    c.take(Word::Value).then_some(Some(which))
}

/// What is inserted; the cursor stands behind it.
fn source(c: &mut Cursor<'_>) -> Option<Source> {
    if c.take(Word::Default) {
        return c.take(Word::Values).then_some(Source::DefaultValues);
    }
    let mut whole = query(c)?;
    if whole.take(Word::Values)
        && let Some(rows) = values(&mut whole)
    {
        return Some(Source::Values(rows));
    }
    Some(Source::Query)
}

/// Up to `ON CONFLICT` or `RETURNING`.
fn query<'a>(c: &mut Cursor<'a>) -> Option<Cursor<'a>> {
    let begins = c.word().begins_query() || c.is_char(b'(');
    let begin = c.at;
    let mut found = c.until(&[Word::On, Word::Returning], false);
    // The `ON` of a join is not it, not even where it is followed by a column called `conflict`: only the last one
    // before a `DO` can be.
    let mut ahead = *c;
    while ahead.is(Word::On) {
        if ahead.word_at(1) == Word::Conflict {
            let mut behind = ahead;
            behind.at += 1;
            behind.until(&[Word::On, Word::Do, Word::Returning], false);
            if behind.is(Word::On) && behind.word_at(1) == Word::Constraint {
                behind.at += 1;
                behind.until(&[Word::On, Word::Do, Word::Returning], false);
            }
            if behind.is(Word::Do) {
                break;
            }
        }
        ahead.at += 1;
        ahead.until(&[Word::On, Word::Returning], false);
    }
    c.at = ahead.at;
    found.at = begin;
    found.end = c.at;
    (begins && !found.is_over()).then_some(found)
}

/// `(…), …` to the range's end; None where anything else follows, or there is too much of it.
fn values(c: &mut Cursor<'_>) -> Option<Vec<Vec<Option<Expr>>>> {
    let mut rows: Vec<Vec<Option<Expr>>> = Vec::new();
    let mut count = 0_usize;
    loop {
        if !c.is_char(b'(') {
            return None;
        }
        let mut inside = c.group()?;
        let mut row = Vec::with_capacity(rows.first().map_or(8, Vec::len));
        loop {
            row.push(default_or(&mut inside)?);
            if !inside.take_char(b',') {
                break;
            }
        }
        count += row.len();
        if count > MOST_VALUES {
            return None;
        }
        rows.push(row);
        if c.is_over() {
            return Some(rows);
        }
        if !c.take_char(b',') {
            return None;
        }
    }
}

fn default_or(c: &mut Cursor<'_>) -> Option<Option<Expr>> {
    update::default_or(c.until(&[], true))
}

/// `ON CONFLICT [(…) [WHERE …] | ON CONSTRAINT name] DO {NOTHING | UPDATE SET … [WHERE …]}`
fn on_conflict(c: &mut Cursor<'_>) -> Option<OnConflict> {
    c.take(Word::On);
    if !c.take(Word::Conflict) {
        return None;
    }
    c.until(&[Word::Do], false);
    c.take(Word::Do);
    if c.take(Word::Nothing) {
        return Some(OnConflict { action: ConflictAction::Nothing });
    }
    if !c.take(Word::Update) || !c.take(Word::Set) {
        return None;
    }
    let set = update::assignments(c, &[Word::Where, Word::Returning])?;
    let filter = if c.take(Word::Where) { Some(expr::whole(c.until(&[Word::Returning], false))) } else { None };
    Some(OnConflict { action: ConflictAction::Update { set, filter } })
}
