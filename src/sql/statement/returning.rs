//! Reads `RETURNING`: where it stands, and the names that its items bear, where the text alone tells them.

use super::cursor::Cursor;
use super::expr;
use super::word::Word;
use super::{Expr, Item, Returning, Target};
use crate::sql::name::Name;

/// A statement's last clause, if it is there; None where something else stands at the cursor. `others`: the statement has
/// tables besides its target, whose columns `*` shows too.
pub(super) fn read(c: &mut Cursor<'_>, target: &Target, others: bool) -> Option<Option<Returning>> {
    if c.is_over() {
        return Some(None);
    }
    let span = c.rest();
    if !c.take(Word::Returning) {
        return None;
    }
    let with = c.is(Word::With) && c.is_char_at(1, b'(');
    if with {
        c.at += 1;
        c.group()?;
    }
    let mut items = Some(Vec::with_capacity(4));
    loop {
        let item = c.until(&[], true);
        if item.is_over() {
            return None;
        }
        // With names for OLD and NEW, a `t.*` may be one of theirs.
        let read = if with { None } else { read_item(item, target, others) };
        items = items.zip(read).map(|(mut items, item)| {
            items.push(item);
            items
        });
        if !c.take_char(b',') {
            break;
        }
    }
    c.is_over().then_some(Some(Returning { span, with, items }))
}

fn read_item(mut c: Cursor<'_>, target: &Target, others: bool) -> Option<Item> {
    if c.take_char(b'*') {
        return (c.is_over() && !others).then_some(Item::All);
    }
    if let Some(all) = qualified_star(c, target) {
        return all.then_some(Item::All);
    }
    let mut expression = c.until(&[Word::As], false);
    if c.take(Word::As) {
        let (name, _) = c.label()?;
        return c.is_over().then_some(Item::Named(name));
    }
    let whole = expression;
    let read = expr::leading(&mut expression)?;
    if expression.is_over() {
        return own_name(whole, &read).map(Item::Named);
    }
    // A label without AS.
    if !expression.word().is_bare_label() {
        return None;
    }
    let (name, _) = expression.label()?;
    expression.is_over().then_some(Item::Named(name))
}

/// `t.*`: whether `t` is the target.
fn qualified_star(mut c: Cursor<'_>, target: &Target) -> Option<bool> {
    let (qualifier, _) = c.name()?;
    if !(c.take_char(b'.') && c.take_char(b'*') && c.is_over()) {
        return None;
    }
    Some(qualifier == target.alias.unwrap_or(target.relation.name))
}

/// What the server calls a column without a label.
fn own_name(c: Cursor<'_>, read: &Expr) -> Option<Name> {
    let name = match read {
        Expr::Pure(_) => match c.word() {
            Word::Coalesce => "coalesce",
            Word::Greatest => "greatest",
            Word::Least => "least",
            Word::NullIf => "nullif",
            _ => return None, // CASE is called by its ELSE
        },
        Expr::Bool(_) => "bool",
        Expr::Opaque => return None,
        Expr::Cast { .. } | Expr::Row(_) | Expr::Array(_) | Expr::Column { .. } | Expr::Call { .. } => {
            return cast_name(read);
        }
        _ => "?column?",
    };
    Some(name.into())
}

/// A cast is called by what is cast, if that has a name, and by its type otherwise.
fn cast_name(read: &Expr) -> Option<Name> {
    let mut inner = read;
    while let Expr::Cast { of, .. } = inner {
        inner = of;
    }
    match (inner, read) {
        (Expr::Column { name, .. } | Expr::Call { name, .. }, _) => Some(*name),
        (Expr::Row(_), _) => Some("row".into()),
        (Expr::Array(_), _) => Some("array".into()),
        (Expr::Pure(_), _) => None,
        (_, Expr::Cast { to, .. }) => Some(to.name),
        _ => None,
    }
}
