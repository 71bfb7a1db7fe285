//! Everything between quotes: strings with their continuations over lines, and quoted identifiers.

use super::{LexOptions, byte, line_end, skip};
use crate::sql::encoding::ClientEncoding;
use crate::sql::token::{Fault, Open, TokenKind};
use memchr::{memchr, memchr2};

/// `'…'` by itself or behind `N`: its backslashes are escapes where `standard_conforming_strings` is off.
pub(super) fn plain(sql: &[u8], quote: usize, opts: LexOptions, kind: TokenKind) -> (TokenKind, usize) {
    if opts.standard_conforming_strings {
        standard(sql, quote, kind)
    } else if kind == TokenKind::String {
        escape(sql, quote, opts)
    } else {
        match escape(sql, quote, opts) {
            (TokenKind::EscapeString, end) => (kind, end),
            broken => broken,
        }
    }
}

/// `U&'…'`
pub(super) fn unicode(sql: &[u8], quote: usize, opts: LexOptions) -> (TokenKind, usize) {
    let (kind, end) = standard(sql, quote, TokenKind::UnicodeString);
    if opts.standard_conforming_strings { (kind, end) } else { (TokenKind::Invalid(Fault::UnsafeUnicodeString), end) }
}

/// A string whose only special sequence is the doubled quote.
fn standard(sql: &[u8], quote: usize, kind: TokenKind) -> (TokenKind, usize) {
    let mut at = quote + 1;
    while let Some(close) = find(sql, at, b'\'') {
        at = match (byte(sql, close + 1), continuation(sql, close + 1)) {
            (Some(b'\''), _) => close + 2,
            (_, Some(inside)) => inside,
            _ => return (kind, close + 1),
        };
    }
    (TokenKind::Unterminated(Open::String), sql.len())
}

/// `B'…'` and `X'…'`, which know no doubled quote.
pub(super) fn bits(sql: &[u8], quote: usize) -> (TokenKind, usize) {
    let mut at = quote + 1;
    while let Some(close) = find(sql, at, b'\'') {
        match continuation(sql, close + 1) {
            Some(inside) => at = inside,
            None => return (TokenKind::BitString, close + 1),
        }
    }
    (TokenKind::Unterminated(Open::BitString), sql.len())
}

/// A string with backslash escapes.
pub(super) fn escape(sql: &[u8], quote: usize, opts: LexOptions) -> (TokenKind, usize) {
    let mut fault = None;
    let mut at = quote + 1;
    while let Some((special, len)) = next_special(sql, at, opts.encoding) {
        at = special + len;
        if byte(sql, special) != Some(b'\'') {
            // An octal or hexadecimal escape goes on in bytes that are nothing special.
            match byte(sql, at) {
                Some(b'u' | b'U') => match unicode_escape(sql, at) {
                    Ok(end) => at = end,
                    Err(end) => (at, fault) = (end, Some(Fault::UnicodeEscape)),
                },
                Some(_) => at += opts.encoding.char_len(sql.get(at..).unwrap_or_default()),
                None => {}
            }
            continue;
        }
        match (byte(sql, at), continuation(sql, at)) {
            (Some(b'\''), _) => at += 1,
            (_, Some(inside)) => at = inside,
            _ => {
                return (fault.map_or(TokenKind::EscapeString, TokenKind::Invalid), at);
            }
        }
    }
    (TokenKind::Unterminated(Open::String), sql.len())
}

/// `"…"`, by itself or behind `U&`.
pub(super) fn ident(sql: &[u8], quote: usize, kind: TokenKind) -> (TokenKind, usize) {
    let mut at = quote + 1;
    while let Some(close) = find(sql, at, b'"') {
        if byte(sql, close + 1) == Some(b'"') {
            at = close + 2;
        } else if close == quote + 1 {
            return (TokenKind::Invalid(Fault::EmptyIdent), close + 1);
        } else {
            return (kind, close + 1);
        }
    }
    (TokenKind::Unterminated(Open::QuotedIdent), sql.len())
}

fn find(sql: &[u8], at: usize, needle: u8) -> Option<usize> {
    memchr(needle, sql.get(at..).unwrap_or_default()).map(|n| at + n)
}

/// The next quote or backslash and its length; the second byte of a character is neither.
fn next_special(sql: &[u8], at: usize, encoding: ClientEncoding) -> Option<(usize, usize)> {
    if encoding == ClientEncoding::AsciiSafe {
        return memchr2(b'\'', b'\\', sql.get(at..)?).map(|n| (at + n, 1));
    }
    let mut at = at;
    while let Some(rest @ [_, ..]) = sql.get(at..) {
        let len = encoding.char_len(rest);
        if matches!(encoding.seen_as(rest), Some(b'\'' | b'\\')) {
            return Some((at, len));
        }
        at += len;
    }
    None
}

/// Behind a closing quote at `at`: where the string goes on, if blanks and line comments with at least one line's end
/// among them, and then a quote, follow.
fn continuation(sql: &[u8], at: usize) -> Option<usize> {
    // Most strings end in `,`, `)` or `;`.
    let first = byte(sql, at)?;
    if !super::is_space(first) && first != b'-' {
        return None;
    }
    let mut lines = 0_usize;
    let mut at = at;
    loop {
        let spaces = skip(sql, at, super::is_space);
        lines += sql.get(at..spaces).unwrap_or_default().iter().filter(|b| matches!(b, b'\n' | b'\r')).count();
        at = spaces;
        match byte(sql, at)? {
            b'\'' if lines > 0 => return Some(at + 1),
            b'-' if byte(sql, at + 1) == Some(b'-') => at = line_end(sql, at),
            _ => return None,
        }
    }
}

/// `\uXXXX` or `\UXXXXXXXX` (two of them for a surrogate pair), from its `u`: where it ends, well or badly.
fn unicode_escape(sql: &[u8], at: usize) -> Result<usize, usize> {
    let (first, end) = code(sql, at).ok_or(at + 1)?;
    match first {
        0xd800..=0xdbff => {
            let second = if byte(sql, end) == Some(b'\\') { code(sql, end + 1) } else { None };
            match second {
                Some((0xdc00..=0xdfff, end)) => Ok(end),
                _ => Err(end),
            }
        }
        0xdc00..=0xdfff | 0 | 0x11_0000.. => Err(end),
        _ => Ok(end),
    }
}

/// The number behind a `u` (four digits) or `U` (eight).
fn code(sql: &[u8], at: usize) -> Option<(u32, usize)> {
    let len = match byte(sql, at)? {
        b'u' => 4,
        b'U' => 8,
        _ => return None,
    };
    let end = at + 1 + len;
    let digits = std::str::from_utf8(sql.get(at + 1..end)?).ok()?;
    let all_hex = digits.bytes().all(|b| b.is_ascii_hexdigit()); // from_str_radix would take a sign
    let value = u32::from_str_radix(digits, 16).ok()?;
    all_hex.then_some((value, end))
}
