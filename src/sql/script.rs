//! The statements of a file as psql and pgbench would send them: without their commands, COPY data and variables.

use crate::sql::lexer::{LexOptions, Lexer};
use crate::sql::split::Split;
use crate::sql::token::{Token, TokenKind};
use memchr::{memchr, memchr_iter};

/// One statement of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptStatement {
    /// Where it begins, counted from 1.
    pub line: usize,
    /// From its first token to its last; a variable (`:name`, `:'name'`) is a parameter.
    pub sql: Vec<u8>,
}

/// All statements of a script. What psql would include or expand is not looked at.
#[must_use]
pub fn statements(text: &[u8], opts: LexOptions) -> Vec<ScriptStatement> {
    let text = cleaned(text, opts);
    let (mut line, mut counted) = (1, 0);
    let mut found = Vec::new();
    for piece in Split::new(&text, opts).statements() {
        let sql = piece.text(&text);
        let mut tokens = Lexer::new(sql, opts).filter(|token| !token.kind.is_blank());
        let Some(first) = tokens.next() else { continue };
        let end = tokens.last().unwrap_or(first).end;
        let start = piece.start + first.start;
        line += memchr_iter(b'\n', text.get(counted..start).unwrap_or_default()).count();
        counted = start;
        let sql = sql.get(first.start..end).unwrap_or_default();
        found.push(ScriptStatement { line, sql: with_parameters(sql, opts) });
    }
    found
}

/// The text with blanks in the place of all that never reaches the server as SQL.
fn cleaned(text: &[u8], opts: LexOptions) -> Vec<u8> {
    let mut clean = text.to_vec();
    let mut at = 0;
    let mut copy = CopyWatch::default();
    'text: while at < clean.len() {
        let from = at;
        for token in Lexer::new(text.get(from..).unwrap_or_default(), opts) {
            let start = from + token.start;
            match token.kind {
                TokenKind::Other(b'\\') => {
                    at = psql_command(&mut clean, start, &mut copy);
                    continue 'text;
                }
                TokenKind::Semicolon if copy.ends() => {
                    at = copy_data(&mut clean, start + 1);
                    continue 'text;
                }
                _ => copy.see(token, text.get(from..).unwrap_or_default()),
            }
        }
        break;
    }
    clean
}

/// Blanks a backslash command, which ends with its line; one that sends what stands before it leaves a semicolon. Where
/// the text goes on.
fn psql_command(text: &mut [u8], start: usize, copy: &mut CopyWatch) -> usize {
    let end = line_end(text, start);
    let command = text.get(start + 1..end).unwrap_or_default();
    let word_len = command.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(command.len());
    let word = command.get(..word_len).unwrap_or_default();
    let separates = command.first() == Some(&b';');
    let sends = matches!(word, b"g" | b"gx" | b"gset" | b"gexec" | b"gdesc" | b"crosstabview" | b"watch");
    let end = if separates { start + 2 } else { end };
    blank(text, start, end);
    if sends || separates {
        *copy = CopyWatch::default();
        if let Some(b) = text.get_mut(start) {
            *b = b';';
        }
    }
    end
}

/// Blanks the lines of data behind a `COPY … FROM STDIN;`, up to `\.`. Where the text goes on.
fn copy_data(text: &mut [u8], behind: usize) -> usize {
    let start = line_end(text, behind);
    let mut at = start;
    while at < text.len() {
        let end = line_end(text, at + 1);
        let line = text.get(at + 1..end).unwrap_or_default();
        let last = line.strip_suffix(b"\r").unwrap_or(line) == b"\\.";
        at = end;
        if last {
            break;
        }
    }
    blank(text, start, at);
    at
}

/// Whether the statement at hand is a `COPY … FROM STDIN`.
#[derive(Default)]
struct CopyWatch {
    begun: bool,
    copy: bool,
    from: bool,
    stdin: bool,
}

impl CopyWatch {
    fn see(&mut self, token: Token, text: &[u8]) {
        if token.kind.is_blank() {
            return;
        }
        let is = |word: &[u8]| token.kind == TokenKind::Ident && token.text(text).eq_ignore_ascii_case(word);
        if token.kind == TokenKind::Semicolon {
            *self = Self::default();
        } else if !self.begun {
            *self = Self { begun: true, copy: is(b"copy"), ..Self::default() };
        } else {
            self.stdin |= self.copy && self.from && is(b"stdin");
            self.from = is(b"from");
        }
    }

    /// At a semicolon: whether data follows. The next statement begins.
    fn ends(&mut self) -> bool {
        std::mem::take(self).stdin
    }
}

fn line_end(text: &[u8], at: usize) -> usize {
    memchr(b'\n', text.get(at..).unwrap_or_default()).map_or(text.len(), |n| at + n)
}

fn blank(text: &mut [u8], start: usize, end: usize) {
    text.get_mut(start..end).unwrap_or_default().iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
}

/// The statement with a parameter in the place of each variable, as `pgbench -M prepared` sends it; `:"name"`, which can
/// be anything that has a name, stands as the name it is.
fn with_parameters(sql: &[u8], opts: LexOptions) -> Vec<u8> {
    let tokens: Vec<Token> = Lexer::new(sql, opts).collect();
    let number = |token: &Token| std::str::from_utf8(token.text(sql)).ok()?.strip_prefix('$')?.parse::<u32>().ok();
    let params = tokens.iter().filter(|token| token.kind == TokenKind::Param);
    let first = params.filter_map(number).max().unwrap_or(0).saturating_add(1);
    let mut names: Vec<&[u8]> = Vec::new();
    let mut out = Vec::with_capacity(sql.len());
    // In `a[1:n]` the colon is the server's.
    let mut subscripts = 0_u32;
    let mut rest = tokens.iter().peekable();
    while let Some(token) = rest.next() {
        match token.kind {
            TokenKind::Char(b'[') => subscripts = subscripts.saturating_add(1),
            TokenKind::Char(b']') => subscripts = subscripts.saturating_sub(1),
            TokenKind::Char(b':') if subscripts == 0 => {
                let is_variable =
                    |next: &&Token| matches!(next.kind, TokenKind::Ident | TokenKind::String | TokenKind::QuotedIdent);
                if let Some(variable) = rest.next_if(|next| is_variable(next)) {
                    let text = variable.text(sql);
                    if variable.kind == TokenKind::QuotedIdent {
                        out.extend_from_slice(text);
                        continue;
                    }
                    let name = text.strip_prefix(b"'").and_then(|t| t.strip_suffix(b"'")).unwrap_or(text);
                    let index = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                        names.push(name);
                        names.len() - 1
                    });
                    let number = first.saturating_add(u32::try_from(index).unwrap_or(u32::MAX));
                    out.extend_from_slice(format!("${number}").as_bytes());
                    continue;
                }
            }
            _ => {}
        }
        out.extend_from_slice(token.text(sql));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let line = |s: ScriptStatement| format!("{}: {}", s.line, String::from_utf8_lossy(&s.sql));
        statements(text.as_bytes(), LexOptions::default()).into_iter().map(line).collect()
    }

    #[test]
    fn statements_know_their_lines_and_nothing_around_them() {
        assert_eq!(
            lines("-- a script\n\nselect 1; select\n 2 -- two\n;;\n/* x */ select ';';\nselect 3"),
            ["3: select 1", "3: select\n 2", "6: select ';'", "7: select 3"]
        );
        assert!(lines(" -- nothing\n").is_empty());
    }

    #[test]
    fn backslash_commands_are_skipped_and_those_that_send_end_a_statement() {
        assert_eq!(
            lines(
                "\\set ON_ERROR_STOP 'it''s; on\nselect 1\n\\gset p_\nselect 2 \\g\nselect 3 \\; select 4;\n  \\d t; u\nselect '\\d';"
            ),
            ["2: select 1", "4: select 2", "5: select 3", "5: select 4", "7: select '\\d'"]
        );
        assert_eq!(lines("select\n\\echo half way\n 1;"), ["1: select\n              \n 1"]);
    }

    #[test]
    fn data_of_a_copy_is_no_sql() {
        let dump = "COPY public.t (a, b) FROM stdin;\n1\tit's; x\n\\.\n2;\n";
        assert_eq!(lines(dump), ["1: COPY public.t (a, b) FROM stdin", "4: 2"]);
        let dump = "copy t from STDIN with (format csv); \n';\n\\.\r\nselect 1;\ncopy t from 'stdin';\nselect 2;";
        assert_eq!(
            lines(dump),
            ["1: copy t from STDIN with (format csv)", "4: select 1", "5: copy t from 'stdin'", "6: select 2"]
        );
        assert_eq!(lines("copy t from stdin;\n1\n2"), ["1: copy t from stdin"], "data may go on to the end");
        assert_eq!(lines("copy t to stdout;\nselect 1"), ["1: copy t to stdout", "2: select 1"]);
        assert_eq!(lines("select \"copy\" from stdin;\nselect 1").len(), 2);
    }

    #[test]
    fn variables_are_parameters() {
        assert_eq!(
            lines("\\set aid random(1, 100000 * :scale)\nupdate a set b = b + :delta where c = :aid and d = :'delta';"),
            ["2: update a set b = b + $1 where c = $2 and d = $1"]
        );
        assert_eq!(
            lines("select $2, :x, :\"Tab\".a, b[1:n], 'a'::text, f(a := 1)"),
            ["1: select $2, $3, \"Tab\".a, b[1:n], 'a'::text, f(a := 1)"]
        );
        assert_eq!(lines("select ':x', : x"), ["1: select ':x', : x"]);
    }
}
