//! Reads `COPY`, with the options of today and those of long ago.

use super::cursor::Cursor;
use super::word::Word;
use super::{Copy, CopyDirection, CopyFormat, Target, copy_options, update, with};
use crate::sql::token::TokenKind;

/// `COPY [BINARY] table [(columns)] {FROM | TO} …`, `COPY (query) TO …`
pub(super) fn copy(mut c: Cursor<'_>) -> Option<Copy> {
    c.take(Word::Copy);
    let binary = c.take(Word::Binary);
    if c.is_char(b'(') {
        return of_query(c);
    }
    let relation = c.qualified()?;
    let reference = update::last_part(&c, &relation);
    let target = Target { relation, only: false, reference, alias: None };
    let columns = columns(&mut c)?;
    let rest = c.rest();
    let from = c.take(Word::From);
    if !from && !c.take(Word::To) {
        return None;
    }
    let direction = match (from, place(&mut c)?) {
        (false, _) => CopyDirection::To,
        (true, Place::Client) => CopyDirection::FromStdin,
        (true, Place::Server) => CopyDirection::FromServer,
    };
    let format = if binary { CopyFormat::Binary } else { CopyFormat::Text };
    let mut behind = c;
    let clause = behind.until(&[Word::Where], false);
    let format = options(clause, format)?;
    let condition = behind.is(Word::Where).then(|| behind.rest());
    let options = copy_options::read(clause);
    let defaults = match &options {
        Some(options) => options.default.is_some(),
        None => names_default(clause),
    };
    Some(Copy { target: Some(target), direction, columns, format, options, defaults, condition, rest, writes: false })
}

/// `(query) TO …`; the query may be an `INSERT … RETURNING`.
fn of_query(mut c: Cursor<'_>) -> Option<Copy> {
    let inside = c.group()?;
    let mut head = inside;
    let ctes = with::leading(&mut head);
    let writes = matches!(head.word(), Word::Insert | Word::Update | Word::Delete | Word::Merge)
        || writes_within(inside)
        || ctes.is_some_and(|with| with.ctes.iter().any(|cte| cte.writes.is_some()));
    let rest = c.rest();
    if !c.take(Word::To) {
        return None;
    }
    place(&mut c)?;
    let format = options(c, CopyFormat::Text)?;
    Some(Copy {
        target: None,
        direction: CopyDirection::To,
        columns: None,
        format,
        options: None,
        defaults: false,
        condition: None,
        rest,
        writes,
    })
}

/// Whether a query in parentheses of its own has a `WITH` that writes.
fn writes_within(mut inside: Cursor<'_>) -> bool {
    while inside.is_char(b'(') {
        let Some(within) = inside.group() else { return false };
        inside = within;
    }
    with::leading(&mut inside).is_some_and(|with| with.ctes.iter().any(|cte| cte.writes.is_some()))
}

fn columns(c: &mut Cursor<'_>) -> Option<Option<Vec<crate::sql::Name>>> {
    if !c.is_char(b'(') {
        return Some(None);
    }
    let mut inside = c.group()?;
    let mut names = Vec::with_capacity(8);
    loop {
        names.push(inside.name()?.0);
        if !inside.take_char(b',') {
            break;
        }
    }
    inside.is_over().then_some(Some(names))
}

enum Place {
    Client,
    Server,
}

/// A file, a program or the client; `STDIN` and `STDOUT` are the same to the server.
fn place(c: &mut Cursor<'_>) -> Option<Place> {
    if c.take_any(&[Word::Stdin, Word::Stdout]) {
        return Some(Place::Client);
    }
    c.take(Word::Program);
    c.next()?.kind.is_string().then_some(Place::Server)
}

/// The format.
fn options(mut clause: Cursor<'_>, mut format: CopyFormat) -> Option<CopyFormat> {
    while !clause.is_over() {
        if clause.is_char(b'(') {
            if let Some(found) = listed_format(clause.group()?) {
                format = found;
            }
            continue;
        }
        match clause.next()?.word {
            Word::Csv => format = CopyFormat::Csv,
            Word::Binary => format = CopyFormat::Binary,
            _ => {}
        }
    }
    Some(format)
}

/// Whether any word of a clause is `default`.
fn names_default(mut clause: Cursor<'_>) -> bool {
    while !clause.is_over() {
        match clause.label() {
            Some((name, _)) if name == "default".into() => return true,
            Some(_) => {}
            None => clause.at += 1,
        }
    }
    false
}

/// The `FORMAT` of a list in parentheses.
fn listed_format(mut list: Cursor<'_>) -> Option<CopyFormat> {
    while !list.is_over() {
        let mut option = list.until(&[], true);
        list.take_char(b',');
        if option.label()?.0 == "format".into() {
            return Some(format(option));
        }
    }
    None
}

fn format(mut value: Cursor<'_>) -> CopyFormat {
    let name = match value.peek() {
        Some(token) if token.kind == TokenKind::String => {
            let text = value.text.bytes(token);
            text.get(1..text.len() - 1).unwrap_or_default().into()
        }
        _ => value.label().map_or(crate::sql::Name::EMPTY, |(name, _)| name),
    };
    match name.as_bytes() {
        b"text" => CopyFormat::Text,
        b"csv" => CopyFormat::Csv,
        b"binary" => CopyFormat::Binary,
        _ => CopyFormat::Other,
    }
}
