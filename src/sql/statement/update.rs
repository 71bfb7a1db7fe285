//! Reads `UPDATE` and `DELETE`, and what they share with others: targets, `SET` lists, conditions.

use super::cursor::Cursor;
use super::word::Word;
use super::{Assign, Delete, Expr, Span, Target, Update};
use super::{expr, returning};

/// `UPDATE target SET … [FROM …] [WHERE …] [RETURNING …]`
pub(super) fn update(mut c: Cursor<'_>) -> Option<Update> {
    c.take(Word::Update);
    let target = aliased_target(&mut c)?;
    if !c.take(Word::Set) {
        return None;
    }
    let set = assignments(&mut c, &[Word::From, Word::Where, Word::Returning])?;
    let from = c.take(Word::From);
    let (filter, filter_at, current_of) = tail(&mut c, from)?;
    let returning = returning::read(&mut c, &target, from)?;
    Some(Update { target, set, from, filter, filter_at, current_of, returning })
}

/// `DELETE FROM target [USING …] [WHERE …] [RETURNING …]`
pub(super) fn delete(mut c: Cursor<'_>) -> Option<Delete> {
    c.take(Word::Delete);
    if !c.take(Word::From) {
        return None;
    }
    let target = aliased_target(&mut c)?;
    let using = c.take(Word::Using);
    let (filter, _, current_of) = tail(&mut c, using)?;
    let returning = returning::read(&mut c, &target, using)?;
    Some(Delete { target, using, filter, current_of, returning })
}

/// The rest of a list of tables, if there is one, and the condition, where it stands, and whether it is a cursor's row; the
/// cursor stands at `RETURNING` or the end.
fn tail(c: &mut Cursor<'_>, list: bool) -> Option<(Option<Expr>, Span, bool)> {
    if list && c.until(&[Word::Where, Word::Returning], false).is_over() {
        return None;
    }
    if !c.take(Word::Where) {
        return (c.is_over() || c.is(Word::Returning)).then_some((None, Span::default(), false));
    }
    let condition = c.until(&[Word::Returning], false);
    if condition.is(Word::Current) && condition.word_at(1) == Word::Of {
        return Some((None, Span::default(), true));
    }
    Some((Some(expr::whole(condition)), condition.rest(), false))
}

/// `[ONLY] name [*]` or `ONLY (name)`, without an alias.
pub(super) fn target(c: &mut Cursor<'_>) -> Option<Target> {
    let only = c.take(Word::Only);
    let relation = if only && c.is_char(b'(') {
        let mut inside = c.group()?;
        let relation = inside.qualified()?;
        inside.is_over().then_some(relation)?
    } else {
        c.qualified()?
    };
    if !only {
        c.take_char(b'*');
    }
    Some(Target { relation, only, reference: last_part(c, &relation), alias: None })
}

/// Where the last part of a name stands.
pub(super) fn last_part(c: &Cursor<'_>, relation: &super::Written) -> Span {
    let mut span = relation.span;
    // Found by walking back to the dot: a `UESCAPE` may belong to the name.
    let mut at = c.at;
    while let Some(token) = at.checked_sub(1).and_then(|at| c.text.tokens.get(at)) {
        if token.kind == crate::sql::TokenKind::Char(b'.') {
            break;
        }
        if (token.start as usize) < span.end {
            span.start = token.start as usize;
        }
        if token.start as usize <= relation.span.start {
            break;
        }
        at -= 1;
    }
    span
}

/// A target with the alias that `UPDATE`, `DELETE` and `MERGE` allow.
pub(super) fn aliased_target(c: &mut Cursor<'_>) -> Option<Target> {
    let mut target = target(c)?;
    // `SET` is no alias without `AS`.
    if c.take(Word::As) || (!c.is(Word::Set) && c.is_name()) {
        alias(c, &mut target)?;
    }
    Some(target)
}

pub(super) fn alias(c: &mut Cursor<'_>, target: &mut Target) -> Option<()> {
    let (name, span) = c.name()?;
    target.alias = Some(name);
    target.reference = span;
    Some(())
}

/// The items of a `SET`, up to one of these words or the end.
pub(super) fn assignments(c: &mut Cursor<'_>, stops: &[Word]) -> Option<Vec<Assign>> {
    let mut set = Vec::with_capacity(4);
    loop {
        if c.is_char(b'(') {
            several(c, stops, &mut set)?;
        } else {
            let (column, part) = column(c)?;
            if !c.take_char(b'=') {
                return None;
            }
            let value = c.until(stops, true);
            set.push(Assign { column, part, value: default_or(value)? });
        }
        if !c.take_char(b',') {
            return Some(set);
        }
    }
}

/// A column to be assigned, and whether only a part of it is.
pub(super) fn column(c: &mut Cursor<'_>) -> Option<(crate::sql::Name, bool)> {
    let (name, _) = c.name()?;
    let mut part = false;
    loop {
        if c.is_char(b'[') {
            c.group()?;
        } else if c.take_char(b'.') {
            c.label()?;
        } else {
            return Some((name, part));
        }
        part = true;
    }
}

/// `DEFAULT`, or an expression.
pub(super) fn default_or(value: Cursor<'_>) -> Option<Option<Expr>> {
    if value.is_over() {
        return None;
    }
    if value.is(Word::Default) && value.at + 1 == value.end {
        return Some(None);
    }
    Some(Some(expr::whole(value)))
}

/// `(a, b) = (…)`, `= ROW (…)`, `= (SELECT …)`
fn several(c: &mut Cursor<'_>, stops: &[Word], set: &mut Vec<Assign>) -> Option<()> {
    let first = set.len();
    let mut names = c.group()?;
    loop {
        let (column, part) = column(&mut names)?;
        set.push(Assign { column, part, value: Some(Expr::Opaque) });
        if !names.take_char(b',') {
            break;
        }
    }
    if !names.is_over() || !c.take_char(b'=') {
        return None;
    }
    let mut value = c.until(stops, true);
    if value.is_over() {
        return None;
    }
    value.take(Word::Row);
    let Some(mut row) = value.group() else { return Some(()) };
    if !value.is_over() || row.word().begins_query() || row.is_char(b'(') {
        return Some(()); // or a query in more parentheses
    }
    let mut values = Vec::new();
    loop {
        values.push(default_or(row.until(&[], true))?);
        if !row.take_char(b',') {
            break;
        }
    }
    if values.len() + first == set.len() {
        for (assign, value) in set.iter_mut().skip(first).zip(values) {
            assign.value = value;
        }
    }
    Some(())
}
