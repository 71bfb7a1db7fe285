//! The names of types in casts and in front of constants, as the server's grammar understands them.

use super::Type;
use super::cursor::Cursor;
use super::word::Word;
use crate::sql::name::Name;
use crate::sql::token::TokenKind;

/// A type: name, modifiers, array brackets. None for what this reader does not know (`SETOF`, `%TYPE`, interval fields).
pub(super) fn typename(c: &mut Cursor<'_>) -> Option<Type> {
    let mut found = simple(c)?;
    while c.is_char(b'[') {
        c.group()?;
        found.array = true;
    }
    if c.take(Word::Array) {
        found.array = true;
        if c.is_char(b'[') {
            c.group()?;
        }
    }
    Some(found)
}

/// A type without array brackets: what may stand in front of a constant.
pub(super) fn simple(c: &mut Cursor<'_>) -> Option<Type> {
    let word = c.word();
    if let Some(name) = own_words(c, word)? {
        // The grammar's own words mean these types whatever the search path says.
        return Some(Type { schema: Some("pg_catalog".into()), name: name.into(), array: false });
    }
    // `json` is a word of the grammar since PostgreSQL 16.
    if !word.is_function_name() && word != Word::Json {
        return None;
    }
    let (mut name, _) = c.label()?;
    let mut schema: Option<Name> = None;
    while c.take_char(b'.') {
        schema = Some(name);
        name = c.label()?.0;
    }
    if c.is_char(b'%') {
        return None;
    }
    modifiers(c)?;
    Some(Type { schema, name, array: false })
}

/// `(10, 2)`, if there is one.
fn modifiers(c: &mut Cursor<'_>) -> Option<()> {
    if c.is_char(b'(') {
        c.group()?;
    }
    Some(())
}

/// The types that the grammar spells with words of its own; the inner None where the next word is none of them.
fn own_words(c: &mut Cursor<'_>, word: Word) -> Option<Option<&'static str>> {
    let name = match word {
        Word::Int | Word::Integer => "int4",
        Word::SmallInt => "int2",
        Word::BigInt => "int8",
        Word::Real => "float4",
        Word::Boolean => "bool",
        Word::Float => return float(c).map(Some),
        Word::Decimal | Word::Dec | Word::Numeric => "numeric",
        Word::Bit => "bit",
        Word::Varchar => "varchar",
        Word::Char | Word::Character | Word::Nchar => "bpchar",
        Word::National => {
            c.at += 1;
            if !matches!(c.word(), Word::Char | Word::Character) {
                return None;
            }
            "bpchar"
        }
        Word::Time => return zoned(c, "time", "timetz").map(Some),
        Word::Timestamp => return zoned(c, "timestamp", "timestamptz").map(Some),
        Word::Interval => return interval(c).map(Some),
        Word::None if is_double(c) => {
            c.at += 2;
            return Some(Some("float8"));
        }
        _ => return Some(None),
    };
    c.at += 1;
    let varying = matches!(name, "bit" | "bpchar") && c.take(Word::Varying);
    modifiers(c)?;
    Some(Some(match (name, varying) {
        ("bit", true) => "varbit",
        ("bpchar", true) => "varchar",
        (name, _) => name,
    }))
}

fn is_double(c: &Cursor<'_>) -> bool {
    c.word_at(1) == Word::Precision
        && c.peek().is_some_and(|t| t.kind == TokenKind::Ident && c.text.bytes(t).eq_ignore_ascii_case(b"double"))
}

/// `float(24)` and less is single, `float` and the rest is double.
fn float(c: &mut Cursor<'_>) -> Option<&'static str> {
    c.at += 1;
    if !c.is_char(b'(') {
        return Some("float8");
    }
    let inside = c.group()?;
    let digits = inside.peek().map(|t| inside.text.bytes(t))?;
    let digits: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if digits <= 24 { "float4" } else { "float8" })
}

/// `time [(p)] [WITH TIME ZONE | WITHOUT TIME ZONE]`
fn zoned(c: &mut Cursor<'_>, plain: &'static str, with_zone: &'static str) -> Option<&'static str> {
    c.at += 1;
    modifiers(c)?;
    if c.word_at(1) != Word::Time || c.word_at(2) != Word::Zone {
        return Some(plain);
    }
    if c.take(Word::With) {
        c.at += 2;
        return Some(with_zone);
    }
    if c.take(Word::Without) {
        c.at += 2;
    }
    Some(plain)
}

/// `interval [(p)]`; with fields (`interval hour to minute`) it is left alone.
fn interval(c: &mut Cursor<'_>) -> Option<&'static str> {
    c.at += 1;
    modifiers(c)?;
    (!is_interval_field(c.word())).then_some("interval")
}

/// A field that may stand behind `interval` or behind an interval's constant.
pub(super) const fn is_interval_field(word: Word) -> bool {
    matches!(word, Word::Year | Word::Month | Word::Day | Word::Hour | Word::Minute | Word::Second)
}
