//! Constants of a text as parameters, so that texts which differ in nothing else share a prepared statement.
//!
//! Only where a parameter means what the constant meant: behind an operator, a parenthesis or a comma. An integer keeps the
//! type it has as a constant; a string takes its type from where it stands, as it did.

use crate::sql::{LexOptions, Lexer, Token, TokenKind};

/// More constants than that are not worth it.
const MOST: usize = 100;

/// A text with `$n` in place of constants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lifted {
    pub(super) sql: Vec<u8>,
    /// Type, and value as text.
    pub(super) params: Vec<(u32, Vec<u8>)>,
}

/// None where the text is better left alone: it has parameters, or something in it may need a constant.
pub(super) fn lift(sql: &[u8], lex: LexOptions) -> Option<Lifted> {
    let mut lifted = Lifted { sql: Vec::with_capacity(sql.len()), params: Vec::new() };
    let (mut copied, mut before, mut inserts) = (0, None, false);
    for token in Lexer::new(sql, lex).filter(|t| !t.kind.is_blank()) {
        let text = token.text(sql);
        match token.kind {
            TokenKind::Param | TokenKind::TypeCast => return None,
            TokenKind::Ident => {
                inserts |= text.eq_ignore_ascii_case(b"insert");
                // The condition of an index must be known; types may have numbers behind them.
                if text.eq_ignore_ascii_case(b"cast") || (inserts && text.eq_ignore_ascii_case(b"where")) {
                    return None;
                }
            }
            _ => {}
        }
        if let Some(param) = before.filter(follows).and_then(|_| constant(&token, text)) {
            lifted.sql.extend_from_slice(sql.get(copied..token.start)?);
            lifted.params.push(param);
            lifted.sql.extend_from_slice(format!("${}", lifted.params.len()).as_bytes());
            copied = token.end;
        }
        before = Some(token.kind);
    }
    lifted.sql.extend_from_slice(sql.get(copied..)?);
    (1..=MOST).contains(&lifted.params.len()).then_some(lifted)
}

/// Whether a constant behind this token can be a parameter.
fn follows(before: &TokenKind) -> bool {
    matches!(before, TokenKind::Char(b'=' | b'(' | b',' | b'+' | b'-' | b'*' | b'/' | b'<' | b'>'))
}

fn constant(token: &Token, text: &[u8]) -> Option<(u32, Vec<u8>)> {
    match token.kind {
        TokenKind::Number => {
            let number: i64 =
                text.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(text).ok()?.parse().ok())??;
            let oid = if i32::try_from(number).is_ok() { 23 } else { 20 };
            Some((oid, text.to_vec()))
        }
        TokenKind::String => {
            let inner = text.strip_prefix(b"'")?.strip_suffix(b"'")?;
            let mut value = Vec::with_capacity(inner.len());
            let mut rest = inner;
            while let Some(at) = memchr::memchr(b'\'', rest) {
                let (front, behind) = rest.split_at_checked(at)?;
                value.extend_from_slice(front);
                // A single one ends the first of several parts.
                rest = behind.strip_prefix(b"''")?;
                value.push(b'\'');
            }
            value.extend_from_slice(rest);
            Some((0, value))
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;

    fn run(sql: &str) -> Option<String> {
        let Lifted { sql, params } = lift(sql.as_bytes(), LexOptions::default())?;
        let params = params.iter().map(|(oid, v)| format!(" {oid}:{}", String::from_utf8_lossy(v)));
        Some(String::from_utf8(sql).unwrap() + &params.collect::<String>())
    }

    #[test]
    fn constants_become_parameters_where_they_mean_the_same() {
        for (sql, expected) in [
            (
                "update t set n = n + 5, v='it''s' where id=7",
                "update t set n = n + $1, v=$2 where id=$3 23:5 0:it's 23:7",
            ),
            (
                "insert into t values (-1, 3000000000, '', 1.5, null)",
                "insert into t values (-$1, $2, $3, 1.5, null) 23:1 20:3000000000 0:",
            ),
            ("delete from t where id in (1,2) /* 3 */", "delete from t where id in ($1,$2) /* 3 */ 23:1 23:2"),
            (
                "update t set d = date '2024-01-01', a[1] = 2, x = E'\\n' where id = 1",
                "update t set d = date '2024-01-01', a[1] = $1, x = E'\\n' where id = $2 23:2 23:1",
            ),
            ("update t set v = 'a'\n'b' where id = 1", "update t set v = 'a'\n'b' where id = $1 23:1"),
            ("update t set v = x->>'k' where id = 1", "update t set v = x->>'k' where id = $1 23:1"),
            (
                "update t set n = 99999999999999999999 where id = 1",
                "update t set n = 99999999999999999999 where id = $1 23:1",
            ),
        ] {
            assert_eq!(run(sql).as_deref(), Some(expected), "{sql}");
        }
        for alone in [
            "update t set n = $1 where id = 1",
            "update t set n = 1::int2 where id = 1",
            "update t set n = cast(1 as numeric(3,1)) where id = 1",
            "insert into t values (1) on conflict (id) where n > 1 do nothing",
            "delete from t",
        ] {
            assert_eq!(run(alone), None, "{alone}");
        }
        assert_eq!(run(&format!("delete from t where id in (1{})", ",1".repeat(MOST))), None);
    }
}
