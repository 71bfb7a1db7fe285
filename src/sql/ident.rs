//! Identifiers as the server keeps them: folded, unquoted, unescaped and cut to 63 bytes.
//!
//! The server does this in its own encoding, after converting; here it is done in the client's. They differ only for
//! names beyond ASCII in other encodings: where such a name is cut, a `U&"…"` (UTF-8 here), and capitals beyond ASCII,
//! which a server in a single-byte encoding folds by its locale and this leaves alone.

use crate::sql::encoding::ClientEncoding;
use crate::sql::lexer::is_space;
use crate::sql::name::{NAME_MAX, Name};
use crate::sql::token::TokenKind;

/// The name that an identifier token stands for, if the server accepts it.
///
/// `escape` is the character of a `UESCAPE` behind a `U&"…"`, a backslash without one.
#[must_use]
pub fn fold(kind: TokenKind, text: &[u8], escape: u8, encoding: ClientEncoding) -> Option<Name> {
    let mut folded = Folded::default();
    match kind {
        TokenKind::Ident => {
            let mut rest = text;
            while let [first, ..] = rest {
                let (character, behind) = rest.split_at(encoding.char_len(rest));
                match character {
                    [_] => folded.push(first.to_ascii_lowercase()),
                    more => more.iter().for_each(|&b| folded.push(b)),
                }
                rest = behind;
            }
        }
        TokenKind::QuotedIdent => {
            let mut inner = Unquoted(text.get(1..text.len().checked_sub(1)?)?.iter());
            inner.by_ref().for_each(|b| folded.push(b));
        }
        TokenKind::UnicodeIdent => {
            let inner = Unquoted(text.get(3..text.len().checked_sub(1)?)?.iter());
            unescape(inner, escape, &mut folded)?;
        }
        _ => return None,
    }
    folded.cut(encoding)
}

/// Whether `UESCAPE` may name this character.
#[must_use]
pub const fn is_escape(b: u8) -> bool {
    !(b.is_ascii_hexdigit() || matches!(b, b'+' | b'\'' | b'"') || is_space(b))
}

/// The character of `UESCAPE '…'`, from its string.
#[must_use]
pub fn uescape(kind: TokenKind, text: &[u8]) -> Option<u8> {
    let character = match (kind, text) {
        (TokenKind::String | TokenKind::EscapeString, [b'\'', one, b'\'']) => *one,
        (TokenKind::EscapeString, [b'e' | b'E', b'\'', one, b'\'']) => *one,
        (TokenKind::EscapeString, [b'\'', b'\\', b'\\', b'\''] | [b'e' | b'E', b'\'', b'\\', b'\\', b'\'']) => b'\\',
        (TokenKind::DollarString, [b'$', b'$', one, b'$', b'$']) => *one,
        _ => return None,
    };
    is_escape(character).then_some(character)
}

/// The bytes between double quotes, doubled ones single.
struct Unquoted<'a>(std::slice::Iter<'a, u8>);

impl Iterator for Unquoted<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let b = *self.0.next()?;
        if b == b'"' {
            self.0.next(); // inside the token quotes come in pairs
        }
        Some(b)
    }
}

/// Decodes `\XXXX` and `\+XXXXXX`, in pairs for surrogates, and the doubled escape character.
fn unescape(mut text: Unquoted<'_>, escape: u8, to: &mut Folded) -> Option<()> {
    while let Some(b) = text.next() {
        if b != escape {
            to.push(b);
            continue;
        }
        let Some(first) = code(&mut text, escape)? else {
            to.push(escape);
            continue;
        };
        let value = match first {
            0xd800..=0xdbff => {
                if text.next()? != escape {
                    return None;
                }
                let second = code(&mut text, escape)??;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return None;
                }
                0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff)
            }
            0 => return None,
            value => value,
        };
        let mut utf8 = [0; 4];
        char::from_u32(value)?.encode_utf8(&mut utf8).bytes().for_each(|b| to.push(b));
    }
    Some(())
}

/// Behind an escape character: the number, or nothing where the escape character itself follows.
fn code(text: &mut Unquoted<'_>, escape: u8) -> Option<Option<u32>> {
    let first = text.next()?;
    if first == escape {
        return Some(None);
    }
    let (mut value, left) = match first {
        b'+' => (0, 6),
        digit => (char::from(digit).to_digit(16)?, 3),
    };
    for _ in 0..left {
        value = value * 16 + char::from(text.next()?).to_digit(16)?;
    }
    Some(Some(value))
}

/// The first bytes of a name as they come out of folding, and how many there would be.
struct Folded {
    /// One byte more than a name has shows whether a character begins behind the cut.
    bytes: [u8; NAME_MAX + 1],
    len: usize,
}

impl Default for Folded {
    fn default() -> Self {
        Self { bytes: [0; NAME_MAX + 1], len: 0 }
    }
}

impl Folded {
    fn push(&mut self, b: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = b;
            self.len += 1;
        }
    }

    /// The name, cut where a character ends.
    fn cut(&self, encoding: ClientEncoding) -> Option<Name> {
        let bytes = self.bytes.get(..self.len)?;
        if bytes.is_empty() {
            return None;
        }
        if self.len <= NAME_MAX {
            return Some(Name::from_bytes(bytes));
        }
        let mut end = 0;
        if encoding == ClientEncoding::AsciiSafe {
            end = NAME_MAX;
            while bytes.get(end).is_some_and(|b| b & 0xc0 == 0x80) {
                end = end.checked_sub(1)?;
            }
            // Bytes that are no UTF-8 have one byte each.
            if std::str::from_utf8(bytes.get(..end)?).is_err() {
                end = NAME_MAX;
            }
        } else {
            loop {
                let step = encoding.char_len(bytes.get(end..)?);
                if end + step > NAME_MAX {
                    break;
                }
                end += step;
            }
        }
        Some(Name::from_bytes(bytes.get(..end)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTF8: ClientEncoding = ClientEncoding::AsciiSafe;

    fn folded(kind: TokenKind, text: &str) -> Option<Name> {
        fold(kind, text.as_bytes(), b'\\', UTF8)
    }

    #[test]
    fn only_bare_identifiers_are_folded() {
        assert_eq!(folded(TokenKind::Ident, "FooÉ_1$"), Some("fooÉ_1$".into()));
        assert_eq!(folded(TokenKind::QuotedIdent, r#""Foo""b""#), Some(r#"Foo"b"#.into()));
        assert_eq!(folded(TokenKind::QuotedIdent, r#""""""#), Some(r#"""#.into()));
        assert_eq!(folded(TokenKind::String, "'a'"), None);
    }

    #[test]
    fn unicode_escapes_are_decoded() {
        let unicode = |text: &str, escape| fold(TokenKind::UnicodeIdent, text.as_bytes(), escape, UTF8);
        assert_eq!(unicode(r#"U&"d\0061t\+000061""#, b'\\'), Some("data".into()));
        assert_eq!(unicode(r#"u&"\\a""\D83D\DE00""#, b'\\'), Some("\\a\"😀".into()));
        assert_eq!(unicode(r#"U&"!0061\""#, b'!'), Some("a\\".into()));
        for bad in [
            r#"U&"\""#,
            r#"U&"\006""#,
            r#"U&"\00g1""#,
            r#"U&"\0000""#,
            r#"U&"\+110000""#,
            r#"U&"\D83Dx""#,
            r#"U&"\D83D\0061""#,
            r#"U&"\DE00""#,
            r#"U&"\D83D\\""#,
        ] {
            assert_eq!(unicode(bad, b'\\'), None, "{bad}");
        }
        assert!(is_escape(b'!') && !is_escape(b'a') && !is_escape(b'+') && !is_escape(b' '));
    }

    #[test]
    fn names_are_cut_between_characters() {
        let long = |character: &str, n| character.repeat(n);
        assert_eq!(folded(TokenKind::Ident, &long("A", 70)), Some(long("a", 63).as_str().into()));
        assert_eq!(folded(TokenKind::Ident, &long("é", 40)), Some(long("é", 31).as_str().into()));
        assert_eq!(
            folded(TokenKind::Ident, &format!("a{}", long("é", 40))),
            Some(format!("a{}", long("é", 31)).as_str().into())
        );
        assert_eq!(
            folded(TokenKind::QuotedIdent, &format!("\"{}\"", long("😀", 16))),
            Some(long("😀", 15).as_str().into())
        );
        // Not UTF-8: LATIN1 has one byte to a character.
        let latin1 = fold(TokenKind::Ident, &[0xe9; 70], b'\\', UTF8);
        assert_eq!(latin1, Some(Name::from_bytes(&[0xe9; 63])));
        // 0x41 behind 0x83 is no capital A.
        let sjis = fold(TokenKind::Ident, &b"\x83\x41".repeat(40), b'\\', ClientEncoding::Sjis);
        assert_eq!(sjis, Some(Name::from_bytes(&b"\x83\x41".repeat(31))));
    }
}
