//! Reads the options of a COPY that say how its data is laid out; what is not understood is never guessed.

use super::cursor::Cursor;
use super::word::Word;
use super::{CopyOptions, literal};

/// What stands behind an option's name.
enum Value {
    None,
    Text(Vec<u8>),
    Number(Vec<u8>),
    /// A list or `*`.
    Other,
}

/// From behind the file or `STDIN` up to `WHERE`.
pub(super) fn read(mut c: Cursor<'_>) -> Option<CopyOptions> {
    let mut options = CopyOptions::default();
    if c.take(Word::Using) || peek(&c, b"delimiters") {
        word(&mut c, b"delimiters")?;
        options.delimiter = Some(string(&mut c)?);
    }
    c.take(Word::With);
    if c.is_char(b'(') {
        let list = c.group()?;
        return if c.is_over() { listed(list, options) } else { None };
    }
    while !c.is_over() {
        old(&mut c, &mut options)?;
    }
    Some(options)
}

/// `(name value, …)`
fn listed(mut list: Cursor<'_>, mut options: CopyOptions) -> Option<CopyOptions> {
    while !list.is_over() {
        let mut option = list.until(&[], true);
        list.take_char(b',');
        let (name, _) = option.label()?;
        let value = value(&mut option);
        if !option.is_over() {
            return None;
        }
        match name.as_bytes() {
            b"format" | b"freeze" | b"force_quote" | b"force_not_null" | b"force_null" | b"on_error"
            | b"log_verbosity" | b"reject_limit" => {}
            b"header" => options.header = header(&value)?,
            b"delimiter" => options.delimiter = Some(text(value)?),
            b"null" => options.null = Some(text(value)?),
            b"quote" => options.quote = Some(text(value)?),
            b"escape" => options.escape = Some(text(value)?),
            b"encoding" => options.encoding = Some(text(value)?),
            b"default" => options.default = Some(text(value)?),
            _ => return None,
        }
    }
    Some(options)
}

fn value(option: &mut Cursor<'_>) -> Value {
    let Some(token) = option.peek() else { return Value::None };
    let bytes = option.text.bytes(token);
    if token.kind.is_string() {
        let text = literal::decode(token.kind, bytes, option.text.opts.encoding);
        option.next();
        return text.map_or(Value::Other, |text| Value::Text(text.into_owned()));
    }
    if let Some((name, _)) = option.label() {
        return Value::Text(name.as_bytes().to_vec());
    }
    option.step();
    if bytes.iter().all(u8::is_ascii_digit) { Value::Number(bytes.to_vec()) } else { Value::Other }
}

fn text(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// Whether the first line holds names.
fn header(value: &Value) -> Option<bool> {
    let any = |text: &[u8], words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()));
    match value {
        Value::None => Some(true),
        Value::Text(text) if any(text, &["true", "on", "match"]) => Some(true),
        Value::Text(text) if any(text, &["false", "off"]) => Some(false),
        Value::Number(number) if number == b"1" => Some(true),
        Value::Number(number) if number == b"0" => Some(false),
        _ => None,
    }
}

/// One option as they were written before there was a list.
fn old(c: &mut Cursor<'_>, options: &mut CopyOptions) -> Option<()> {
    let (name, _) = c.label()?;
    match name.as_bytes() {
        b"binary" | b"csv" | b"freeze" => {}
        b"header" => options.header = true,
        b"delimiter" => options.delimiter = Some(string(c)?),
        b"null" => options.null = Some(string(c)?),
        b"quote" => options.quote = Some(string(c)?),
        b"escape" => options.escape = Some(string(c)?),
        b"encoding" => options.encoding = Some(string(c)?),
        b"force" => {
            if !peek(c, b"quote") {
                c.take(Word::Not);
                return word(c, b"null").and_then(|()| columns(c));
            }
            word(c, b"quote")?;
            columns(c)?;
        }
        _ => return None,
    }
    Some(())
}

/// `[AS] 'string'`
fn string(c: &mut Cursor<'_>) -> Option<Vec<u8>> {
    c.take(Word::As);
    let token = c.next().filter(|token| token.kind.is_string())?;
    literal::decode(token.kind, c.text.bytes(token), c.text.opts.encoding).map(std::borrow::Cow::into_owned)
}

fn columns(c: &mut Cursor<'_>) -> Option<()> {
    if c.take_char(b'*') {
        return Some(());
    }
    loop {
        c.label()?;
        if !c.take_char(b',') {
            return Some(());
        }
    }
}

fn peek(c: &Cursor<'_>, word: &[u8]) -> bool {
    let mut ahead = *c;
    ahead.label().is_some_and(|(name, _)| name.as_bytes() == word)
}

fn word(c: &mut Cursor<'_>, word: &[u8]) -> Option<()> {
    let (name, _) = c.label()?;
    (name.as_bytes() == word).then_some(())
}
