//! Operators: the longest run of their characters, less what begins a comment and less a trailing sign.

use super::byte;
use crate::sql::name::NAME_MAX;
use crate::sql::token::{Fault, TokenKind};

/// An operator token.
pub(super) struct Operator {
    pub(super) kind: TokenKind,
    pub(super) end: usize,
    /// From `end` to here only single signs follow; without it a long run of them would be read again for each.
    pub(super) signs_end: usize,
}

#[inline]
pub(super) const fn is_op_char(b: u8) -> bool {
    is_sql(b) || is_beyond_sql(b)
}

/// The characters of standard SQL's own operators.
#[inline]
const fn is_sql(b: u8) -> bool {
    matches!(b, b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=')
}

/// The others, of which one lets an operator end in a sign.
#[inline]
const fn is_beyond_sql(b: u8) -> bool {
    matches!(b, b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%')
}

/// The operator at `at`, where no comment begins.
pub(super) fn operator(sql: &[u8], at: usize) -> Operator {
    let mut run = at;
    let mut beyond_sql = false;
    let mut unsigned_end = at; // behind the last character that is no sign
    while let Some(b) = byte(sql, run).filter(|&b| is_op_char(b)) {
        let comment = matches!((b, byte(sql, run + 1)), (b'-', Some(b'-')) | (b'/', Some(b'*')));
        if comment && run > at {
            break;
        }
        run += 1;
        beyond_sql |= is_beyond_sql(b);
        if !matches!(b, b'+' | b'-') {
            unsigned_end = run;
        }
    }
    // `=-` is `=` and `-`; `?-` and `%-` are operators.
    let end = if beyond_sql { run } else { unsigned_end.max(at + 1) };
    let kind = match sql.get(at..end).unwrap_or_default() {
        b"=>" => TokenKind::EqualsGreater,
        b"<=" => TokenKind::LessEquals,
        b">=" => TokenKind::GreaterEquals,
        b"<>" | b"!=" => TokenKind::NotEquals,
        [one @ (b'^' | b'%')] => TokenKind::Char(*one),
        [one] if is_sql(*one) => TokenKind::Char(*one),
        text if text.len() > NAME_MAX => TokenKind::Invalid(Fault::LongOperator),
        _ => TokenKind::Operator,
    };
    Operator { kind, end, signs_end: run }
}
