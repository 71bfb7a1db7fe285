//! Numbers, and what may not touch them.

use super::{byte, ident_end, skip};
use crate::sql::encoding::ClientEncoding;
use crate::sql::token::{Fault, TokenKind};

/// The number at `at`, where a digit stands, or a point with a digit behind it.
pub(super) fn number(sql: &[u8], at: usize, encoding: ClientEncoding) -> (TokenKind, usize) {
    let end = match (byte(sql, at), byte(sql, at + 1)) {
        (Some(b'0'), Some(b'x' | b'X')) => digits(sql, at + 2, |b| b.is_ascii_hexdigit()),
        (Some(b'0'), Some(b'o' | b'O')) => digits(sql, at + 2, |b| matches!(b, b'0'..=b'7')),
        (Some(b'0'), Some(b'b' | b'B')) => digits(sql, at + 2, |b| matches!(b, b'0' | b'1')),
        _ => return decimal_number(sql, at, encoding),
    };
    // Read as `0` and an identifier it may reach further, and is junk then.
    let junk = ident_end(sql, at + 1, true, encoding);
    if end > at + 2 && end == junk { (TokenKind::Number, end) } else { (TokenKind::Invalid(Fault::NumberJunk), junk) }
}

fn decimal_number(sql: &[u8], at: usize, encoding: ClientEncoding) -> (TokenKind, usize) {
    let end = decimal(sql, at);
    // No identifier may touch a number: `123abc`, `1_`, `1e`. It does not begin with `$`, but it may have begun within the
    // number and reach further: `1e5$` is 1 and `e5$`, `1_0$` is 1 and `_0$`.
    let digits = sql.get(at..end).unwrap_or_default();
    let ident_within = digits.rsplit(|b| matches!(b, b'.' | b'+' | b'-')).next().unwrap_or_default();
    let apart = byte(sql, end) == Some(b'$') && ident_within.iter().all(u8::is_ascii_digit);
    let junk = if apart { end } else { ident_end(sql, end, true, encoding) };
    if junk == end {
        return (TokenKind::Number, end);
    }
    // `1e+` is refused as one piece.
    let open_exponent = junk == end + 1 && matches!(byte(sql, end), Some(b'e' | b'E'));
    let sign = open_exponent && matches!(byte(sql, junk), Some(b'+' | b'-'));
    (TokenKind::Invalid(Fault::NumberJunk), if sign { junk + 1 } else { junk })
}

/// Where `(_?digit)*` ends: since PostgreSQL 16 underscores may part digits.
fn digits(sql: &[u8], at: usize, digit: impl Fn(u8) -> bool + Copy) -> usize {
    let mut end = skip(sql, at, digit);
    while byte(sql, end) == Some(b'_') && byte(sql, end + 1).is_some_and(digit) {
        end = skip(sql, end + 1, digit);
    }
    end
}

fn decimal(sql: &[u8], at: usize) -> usize {
    let mut end = decimal_digits(sql, at);
    // `1..10` is 1, `..` and 10.
    if byte(sql, end) == Some(b'.') && byte(sql, end + 1) != Some(b'.') {
        end = decimal_digits(sql, end + 1);
    }
    if matches!(byte(sql, end), Some(b'e' | b'E')) {
        let begin = if matches!(byte(sql, end + 1), Some(b'+' | b'-')) { end + 2 } else { end + 1 };
        let exponent = decimal_digits(sql, begin);
        if exponent > begin {
            end = exponent;
        }
    }
    end
}

/// `digit(_?digit)*`, or nothing: `_` may not come first.
fn decimal_digits(sql: &[u8], at: usize) -> usize {
    if byte(sql, at).is_some_and(|b| b.is_ascii_digit()) { digits(sql, at, |b| b.is_ascii_digit()) } else { at }
}
