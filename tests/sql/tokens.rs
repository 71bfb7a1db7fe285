//! The server names the token at which it refuses a statement.

use pgcanon::sql::{LexOptions, Lexer, Token, TokenKind};

use crate::common::raw::Frame;
use crate::made_up::Dice;
use crate::session::{OFF, ON, SERVERS, Session};

/// A refused statement names the token at which it was refused, and where that stands: so must we read it.
fn tokens(session: &mut Session, opts: LexOptions) {
    const PIECES: &[&str] = &[
        "1", "2.", ".5", "1e5", "1.5e-3", "1e", "1e+", "1a", "0", "0x", "1_", "1..2", "$1", "$1a", "$", "$$", "$a$",
        "a", "é", "_b", "a$", "e", "b", "x", "n", "u", "U&", "'", "'", "'a'", "''", "e'", "E'\\'", "b'", "x'", "N'",
        "u&'", "u&\"", "\"", "\"a\"", "\"\"", "\\", "\\'", "\\u0061", "\\u", "\\ud83d", "\n", "\r", " ", " ", "\t",
        "\x0c", "--", "-- c\n", "/*", "*/", "/**/", "+", "-", "*", "/", "<", ">", "=", "~", "!", "@", "#", "^", "&",
        "|", "`", "?", "%", "(", ")", "[", "]", ",", ".", ":", "::", ":=", "..", "=>", "<=", "{", "}", ";",
    ];
    const FORMS: &[&str] =
        &["select X", "select 1 X 1", "select X X", "select 'a'X'b'", "select 1 X", "values (X)", "X"];
    let operators: Vec<&str> =
        PIECES.iter().copied().filter(|p| p.bytes().all(|b| b"+-*/<>=~!@#^&|`?%".contains(&b))).collect();
    let modern =
        session.must("select current_setting('server_version_num')::int >= 160000").rows[0].as_deref() == Some("t");
    let mut dice = Dice(11);
    let mut compared = 0;
    for round in 0..12_000 {
        let mut sql = String::new();
        for part in dice.pick(FORMS).split_inclusive('X') {
            sql += part.trim_end_matches('X');
            if part.ends_with('X') {
                let pieces = if round % 3 == 0 { &operators[..] } else { PIECES };
                (0..=dice.roll(6)).for_each(|_| sql += dice.pick(pieces));
            }
        }
        let answer = session.query(sql.as_bytes());
        let Some(refusal) = answer.error.as_ref().and_then(|error| Refusal::read(error, &sql)) else { continue };
        // `N'…'` is two tokens for the server.
        let inside = |t: &Token| matches!(sql.as_bytes().get(t.start), Some(b'n' | b'N')) && t.start + 1 == refusal.at;
        // A broken escape is shown where it stands in its string.
        let escape = |t: &Token| t.kind.is_error() && refusal.lexical && (t.start..t.end).contains(&refusal.at);
        let begins = |t: &Token| t.start == refusal.at || (t.kind != TokenKind::Ident && inside(t)) || escape(t);
        let token = Lexer::new(sql.as_bytes(), opts).find(|t| begins(t) && !t.kind.is_blank());
        let Some(token) = token else { panic!("{sql:?}: nothing begins at {}: {refusal:?}", refusal.at) };
        let text = &sql.as_bytes()[refusal.at..token.end];
        // A scanner that stops within a character shows half of it.
        let refused = refusal.token.trim_end_matches('\u{fffd}').as_bytes();
        let shown = || format!("{sql:?}: {token:?} {} {refusal:?}", text.escape_ascii());
        if token.kind != TokenKind::Ident && refused.eq_ignore_ascii_case(b"n") {
            continue; // at the first of the two, whatever the string
        }
        if !modern && token.kind == TokenKind::Number && text.iter().any(|b| b"xobXOB_".contains(b)) {
            continue; // `0x1F` and `1_000` came with PostgreSQL 16
        }
        assert_eq!(token.kind.is_error(), refusal.lexical, "{}", shown());
        match token.kind {
            TokenKind::Unterminated(_) if token.start == refusal.at => assert_eq!(text, refused, "{}", shown()),
            // The server shows how far it had read when it saw the fault.
            TokenKind::Invalid(_) | TokenKind::Unterminated(_) => {
                assert!(text.starts_with(&refused[..refused.len().min(text.len())]), "{}", shown())
            }
            // It calls both spellings `<>`.
            TokenKind::NotEquals => assert_eq!(refused.len(), text.len(), "{}", shown()),
            _ => assert_eq!(text, refused, "{}", shown()),
        }
        compared += 1;
    }
    assert!(compared > 8_000, "only {compared} statements were refused at a token");
}

#[derive(Debug)]
struct Refusal {
    token: String,
    at: usize,
    /// By the scanner, not by the grammar or later.
    lexical: bool,
}

impl Refusal {
    /// From the fields of an error, if it speaks of a token.
    fn read(error: &Frame, sql: &str) -> Option<Self> {
        let message = error.field(b'M')?;
        let position: usize = error.field(b'P')?.parse().ok()?;
        let at = sql.char_indices().nth(position - 1)?.0;
        if let Some((_, operator)) = message.split_once("operator does not exist: ") {
            let token = operator.split(' ').find(|word| word.bytes().all(|b| b"+-*/<>=~!@#^&|`?%".contains(&b)))?;
            return Some(Self { token: token.to_owned(), at, lexical: false });
        }
        let (what, token) = message.split_once(" at or near \"")?;
        Some(Self { token: token.strip_suffix('"')?.to_owned(), at, lexical: what != "syntax error" })
    }
}

#[test]
fn the_server_agrees_on_where_tokens_end() {
    for pg in SERVERS {
        let mut session = Session::start(pg);
        for opts in [ON, OFF] {
            session.settings(opts, "utf8");
            tokens(&mut session, opts);
        }
    }
}
