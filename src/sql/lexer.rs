//! Cuts bytes into tokens exactly where PostgreSQL's scanner (15 to 18) does; the tokens tile the text without a gap.

mod number;
mod operator;
mod quoted;

use crate::sql::encoding::ClientEncoding;
use crate::sql::token::{Fault, Open, Token, TokenKind};
use memchr::{memchr2, memchr2_iter, memmem};

/// The session's settings that change where tokens end; both are parameters that the server reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LexOptions {
    pub standard_conforming_strings: bool,
    pub encoding: ClientEncoding,
}

impl Default for LexOptions {
    fn default() -> Self {
        Self { standard_conforming_strings: true, encoding: ClientEncoding::AsciiSafe }
    }
}

/// An iterator over the tokens of a text, blanks and comments included.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
    /// Up to here every byte is a sign and a token.
    signs_end: usize,
    opts: LexOptions,
}

impl<'a> Lexer<'a> {
    #[must_use]
    pub const fn new(sql: &'a [u8], opts: LexOptions) -> Self {
        Self { sql, at: 0, signs_end: 0, opts }
    }

    /// Where the next token begins.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The next token that the grammar would see.
    #[inline]
    pub fn next_significant(&mut self) -> Option<Token> {
        self.find(|token| !token.kind.is_blank())
    }

    fn scan(&mut self, first: u8) -> (TokenKind, usize) {
        let (sql, at) = (self.sql, self.at);
        let second = byte(sql, at + 1);
        match first {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => (TokenKind::Whitespace, skip(sql, at + 1, is_space)),
            b'-' if second == Some(b'-') => (TokenKind::Comment, line_end(sql, at)),
            b'/' if second == Some(b'*') => block_comment(sql, at),
            b'\'' => quoted::plain(sql, at, self.opts, TokenKind::String),
            b'e' | b'E' if second == Some(b'\'') => quoted::escape(sql, at + 1, self.opts),
            b'b' | b'B' | b'x' | b'X' if second == Some(b'\'') => quoted::bits(sql, at + 1),
            b'n' | b'N' if second == Some(b'\'') => quoted::plain(sql, at + 1, self.opts, TokenKind::NationalString),
            b'u' | b'U' if second == Some(b'&') => match byte(sql, at + 2) {
                Some(b'\'') => quoted::unicode(sql, at + 2, self.opts),
                Some(b'"') => quoted::ident(sql, at + 2, TokenKind::UnicodeIdent),
                _ => (TokenKind::Ident, at + 1),
            },
            b'"' => quoted::ident(sql, at, TokenKind::QuotedIdent),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => (TokenKind::Ident, self.ident_end(at, true)),
            0x80.. => self.high(first),
            b'0'..=b'9' => number::number(sql, at, self.opts.encoding),
            b'.' => match second {
                Some(b'.') => (TokenKind::DotDot, at + 2),
                Some(b'0'..=b'9') => number::number(sql, at, self.opts.encoding),
                _ => (TokenKind::Char(b'.'), at + 1),
            },
            b'$' => self.dollar(),
            b':' => match second {
                Some(b':') => (TokenKind::TypeCast, at + 2),
                Some(b'=') => (TokenKind::ColonEquals, at + 2),
                _ => (TokenKind::Char(b':'), at + 1),
            },
            b';' => (TokenKind::Semicolon, at + 1),
            b',' | b'(' | b')' | b'[' | b']' => (TokenKind::Char(first), at + 1),
            _ if at < self.signs_end => (TokenKind::Char(first), at + 1),
            _ if operator::is_op_char(first) => {
                let found = operator::operator(sql, at);
                self.signs_end = found.signs_end;
                (found.kind, found.end)
            }
            _ => (TokenKind::Other(first), at + 1),
        }
    }

    fn ident_end(&self, at: usize, dollars: bool) -> usize {
        ident_end(self.sql, at, dollars, self.opts.encoding)
    }

    /// A character beyond ASCII begins an identifier, unless the server turns it into ASCII first.
    fn high(&self, first: u8) -> (TokenKind, usize) {
        let rest = self.sql.get(self.at..).unwrap_or_default();
        match self.opts.encoding.seen_as(rest) {
            Some(b'~') => (TokenKind::Operator, self.at + 2),
            Some(_) => (TokenKind::Other(first), self.at + 2),
            None => (TokenKind::Ident, self.ident_end(self.at, true)),
        }
    }

    /// `$1`, `$tag$…$tag$`, or a lone `$`.
    fn dollar(&self) -> (TokenKind, usize) {
        let (sql, at) = (self.sql, self.at);
        let tag_end = match byte(sql, at + 1) {
            Some(b'0'..=b'9') => {
                let end = skip(sql, at + 1, |b| b.is_ascii_digit());
                let junk = self.ident_end(end, true);
                let starts_ident = junk > end && byte(sql, end) != Some(b'$');
                return if starts_ident {
                    (TokenKind::Invalid(Fault::ParamJunk), junk)
                } else {
                    (TokenKind::Param, end)
                };
            }
            _ => self.ident_end(at + 1, false),
        };
        if byte(sql, tag_end) != Some(b'$') {
            return (TokenKind::Other(b'$'), at + 1);
        }
        let open = tag_end + 1;
        let delimiter = sql.get(at..open).unwrap_or_default();
        // The first occurrence is the end: the scanner looks afresh at every `$`, and no tag holds one.
        match memmem::find(sql.get(open..).unwrap_or_default(), delimiter) {
            Some(offset) => (TokenKind::DollarString, open + offset + delimiter.len()),
            None => (TokenKind::Unterminated(Open::DollarString), sql.len()),
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        let start = self.at;
        let first = byte(self.sql, start)?;
        let (kind, end) = self.scan(first);
        self.at = end;
        Some(Token { kind, start, end })
    }
}

// === characters ===

#[inline]
fn byte(sql: &[u8], at: usize) -> Option<u8> {
    sql.get(at).copied()
}

/// The first place at or behind `at` where `what` does not hold.
#[inline]
fn skip(sql: &[u8], at: usize, what: impl Fn(u8) -> bool) -> usize {
    let rest = sql.get(at..).unwrap_or_default();
    rest.iter().position(|&b| !what(b)).map_or(sql.len(), |n| at + n)
}

/// What separates tokens; `\v` since PostgreSQL 16 (15 refuses a statement that holds one between tokens).
#[inline]
#[must_use]
pub const fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Where the characters end that may continue an identifier (with `dollars`) or a dollar tag (without); a digit counts.
fn ident_end(sql: &[u8], at: usize, dollars: bool, encoding: ClientEncoding) -> usize {
    let cont = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (dollars && b == b'$');
    if encoding == ClientEncoding::AsciiSafe {
        return skip(sql, at, |b| cont(b) || b >= 0x80);
    }
    let mut at = at;
    while let Some(rest @ [first, ..]) = sql.get(at..) {
        if !cont(*first) && (first.is_ascii() || encoding.seen_as(rest).is_some()) {
            break;
        }
        at += encoding.char_len(rest);
    }
    at
}

// === comments ===

fn line_end(sql: &[u8], at: usize) -> usize {
    memchr2(b'\n', b'\r', sql.get(at..).unwrap_or_default()).map_or(sql.len(), |n| at + n)
}

/// From `/*` to the `*/` that closes it, over all comments nested within.
fn block_comment(sql: &[u8], at: usize) -> (TokenKind, usize) {
    let mut depth = 1_usize;
    let mut from = at + 2;
    for offset in memchr2_iter(b'*', b'/', sql.get(from..).unwrap_or_default()) {
        let here = at + 2 + offset;
        if here < from {
            continue; // the second byte of a pair
        }
        match sql.get(here..here + 2) {
            Some(b"/*") => depth += 1,
            Some(b"*/") => depth -= 1,
            _ => continue,
        }
        from = here + 2;
        if depth == 0 {
            return (TokenKind::Comment, from);
        }
    }
    (TokenKind::Unterminated(Open::Comment), sql.len())
}

#[cfg(test)]
mod tests;
