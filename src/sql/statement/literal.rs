//! What string constants say: their decoded content, and whether it is a word for a moment.

use crate::sql::encoding::ClientEncoding;
use crate::sql::lexer::is_space;
use crate::sql::token::TokenKind;
use std::borrow::Cow;

/// The content of a plain, national, escape or dollar-quoted string; None for others, and for escapes that are not
/// what they seem.
#[must_use]
pub fn decode(kind: TokenKind, text: &[u8], encoding: ClientEncoding) -> Option<Cow<'_, [u8]>> {
    match kind {
        TokenKind::DollarString => {
            let tag = text.iter().skip(1).position(|&b| b == b'$')? + 2;
            Some(Cow::Borrowed(text.get(tag..text.len().checked_sub(tag)?)?))
        }
        TokenKind::String | TokenKind::NationalString | TokenKind::EscapeString => {
            let open = text.iter().position(|&b| b == b'\'')?;
            let inside = text.get(open + 1..text.len().checked_sub(1)?)?;
            let escapes = kind == TokenKind::EscapeString
                // Whether a national string has escapes hangs on a setting.
                || (kind == TokenKind::NationalString && inside.contains(&b'\\'));
            let plain = |b: &u8| *b != b'\'' && !(escapes && *b == b'\\');
            if inside.iter().all(plain) {
                return Some(Cow::Borrowed(inside));
            }
            quoted(inside, escapes, encoding).map(Cow::Owned)
        }
        _ => None,
    }
}

/// Doubled quotes, continuations over lines, and escapes.
fn quoted(mut rest: &[u8], escapes: bool, encoding: ClientEncoding) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(rest.len());
    loop {
        rest = match rest {
            [] => return Some(decoded),
            [b'\'', b'\'', behind @ ..] => {
                decoded.push(b'\'');
                behind
            }
            [b'\'', behind @ ..] => continuation(behind)?,
            [b'\\', behind @ ..] if escapes => escape(behind, &mut decoded, encoding)?,
            _ => {
                let (character, behind) = rest.split_at(encoding.char_len(rest).min(rest.len()));
                decoded.extend_from_slice(character);
                behind
            }
        };
    }
}

/// Behind a closing quote within the token: over blanks and comments to behind the next opening one.
fn continuation(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match rest {
            [b'\'', behind @ ..] => return Some(behind),
            [b'-', b'-', ..] => rest.get(rest.iter().position(|b| matches!(b, b'\n' | b'\r'))?..)?,
            [b, behind @ ..] if is_space(*b) => behind,
            _ => return None,
        };
    }
}

/// Behind a backslash.
fn escape<'a>(rest: &'a [u8], to: &mut Vec<u8>, encoding: ClientEncoding) -> Option<&'a [u8]> {
    let (&first, behind) = rest.split_first()?;
    match first {
        b'b' => to.push(8),
        b'f' => to.push(12),
        b'n' => to.push(b'\n'),
        b'r' => to.push(b'\r'),
        b't' => to.push(b'\t'),
        b'v' => to.push(11),
        b'0'..=b'7' => {
            let len = rest.iter().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
            let (digits, behind) = rest.split_at(len);
            let value = digits.iter().fold(0_u32, |value, b| value * 8 + u32::from(b - b'0'));
            to.push((value & 0xff) as u8);
            return Some(behind);
        }
        b'x' if behind.first().is_some_and(u8::is_ascii_hexdigit) => {
            let len = behind.iter().take(2).take_while(|b| b.is_ascii_hexdigit()).count();
            let (digits, behind) = behind.split_at(len);
            to.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            return Some(behind);
        }
        b'u' | b'U' => {
            let (digits, behind) = behind.split_at_checked(if first == b'u' { 4 } else { 8 })?;
            let value = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
            // Half of a pair is not worth the trouble: such a body is not known.
            let mut utf8 = [0; 4];
            to.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut utf8).as_bytes());
            return Some(behind);
        }
        _ => {
            let (character, behind) = rest.split_at(encoding.char_len(rest).min(rest.len()));
            to.extend_from_slice(character);
            return Some(behind);
        }
    }
    Some(behind)
}

/// Whether a constant can mean a moment, as `now` and `tomorrow 12:00` do, in an array or a range too. A constant that
/// cannot be decoded can.
pub(super) fn is_moment(kind: TokenKind, text: &[u8], encoding: ClientEncoding) -> bool {
    if text.len() < 5 {
        return false; // 'now' has five bytes
    }
    if kind == TokenKind::UnicodeString {
        return text.contains(&b'\\') || has_moment(text.get(2..).unwrap_or_default());
    }
    decode(kind, text, encoding).is_none_or(|content| has_moment(&content))
}

/// Whether the words of a text are as good as all about moments: prose that names one is not.
fn has_moment(content: &[u8]) -> bool {
    let (mut moments, mut others) = (0_usize, 0_usize);
    for word in content.split(|b| !b.is_ascii_alphabetic()).filter(|word| !word.is_empty()) {
        let is = |moment: &str| word.eq_ignore_ascii_case(moment.as_bytes());
        if is("now") || is("today") || is("tomorrow") || is("yesterday") {
            moments += 1;
        } else {
            others += 1;
        }
        // A date has few other words: a weekday, a time zone, AM or PM.
        if others > 3 + 3 * moments {
            return false;
        }
    }
    moments > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTF8: ClientEncoding = ClientEncoding::AsciiSafe;

    #[test]
    fn strings_are_decoded() {
        for (kind, text, content) in [
            (TokenKind::String, &b"'a''b\\'"[..], Some(&b"a'b\\"[..])),
            (TokenKind::String, b"'a'\n-- it's\n 'b'", Some(b"ab")),
            (TokenKind::String, b"''", Some(b"")),
            (TokenKind::EscapeString, b"e'\\x6e\\157w\\n\\u00e9\\'\\z'", Some("now\né'z".as_bytes())),
            (TokenKind::EscapeString, b"E'\\ud83d\\ude00'", None),
            (TokenKind::DollarString, b"$a$x'$$y$a$", Some(b"x'$$y")),
            (TokenKind::UnicodeString, b"U&'a'", None),
        ] {
            assert_eq!(decode(kind, text, UTF8).as_deref(), content, "{}", text.escape_ascii());
        }
        // The second byte of a character is no backslash.
        let decoded = decode(TokenKind::EscapeString, b"E'\x95\x5cn'", ClientEncoding::Sjis);
        assert_eq!(decoded.as_deref(), Some(&b"\x95\x5cn"[..]));
    }

    #[test]
    fn moments_are_found_in_dates_and_not_in_prose() {
        for text in ["'now'", "' NOW '", "'tomorrow 10:00 PM'", "'{now,today}'", "'[today,tomorrow)'", "'Now+2'"] {
            assert!(is_moment(TokenKind::String, text.as_bytes(), UTF8), "{text}");
        }
        for text in ["'know'", "'nowhere'", "'2020-01-01'", "''", "'It is now time to go and see the world'"] {
            assert!(!is_moment(TokenKind::String, text.as_bytes(), UTF8), "{text}");
        }
        assert!(is_moment(TokenKind::EscapeString, b"E'\\x6eow'", UTF8));
        assert!(is_moment(TokenKind::UnicodeString, b"U&'\\006eow'", UTF8));
        assert!(is_moment(TokenKind::DollarString, b"$$today$$", UTF8));
        assert!(is_moment(TokenKind::String, b"'no'\n'w'", UTF8));
    }
}
