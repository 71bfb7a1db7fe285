//! Cuts a simple query into its statements where the server's grammar does.

use crate::sql::lexer::{LexOptions, Lexer, is_space};
use crate::sql::token::TokenKind;
use memchr::memchr;

/// What lies between two semicolons that part statements: the bytes `start..end` of the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub start: usize,
    pub end: usize,
    /// Nothing but blanks and comments: no statement, and the server does not answer it.
    pub empty: bool,
}

impl Piece {
    /// The piece's bytes in the query it was cut from.
    #[must_use]
    pub fn text<'a>(&self, sql: &'a [u8]) -> &'a [u8] {
        sql.get(self.start..self.end).unwrap_or_default()
    }
}

/// An iterator over all pieces of a query, empty ones too: with a `;` between each two they make up the query.
///
/// For a query that the server's grammar refuses, the pieces are a guess, and of no matter: it runs none of them.
#[derive(Clone, Debug)]
pub struct Split<'a> {
    sql: &'a [u8],
    opts: LexOptions,
    /// Where the next piece begins; nowhere behind the last one.
    at: Option<usize>,
}

impl<'a> Split<'a> {
    #[must_use]
    pub const fn new(sql: &'a [u8], opts: LexOptions) -> Self {
        Self { sql, opts, at: Some(0) }
    }

    /// The pieces that are statements.
    pub fn statements(self) -> impl Iterator<Item = Piece> {
        self.filter(|piece| !piece.empty)
    }
}

impl Iterator for Split<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let start = self.at?;
        let rest = self.sql.get(start..)?;
        let (len, empty) = match whole(rest, self.opts) {
            Some(found) => found,
            None => cut(rest, self.opts),
        };
        let end = start + len;
        self.at = (end < self.sql.len()).then_some(end + 1);
        Some(Piece { start, end, empty })
    }
}

/// One statement without reading its body, where no semicolon but a last one is in sight: the common query.
fn whole(sql: &[u8], opts: LexOptions) -> Option<(usize, bool)> {
    let len = match memchr(b';', sql) {
        None => sql.len(),
        // A last semicolon inside a string leaves that string open, and inside a comment it parts nothing.
        Some(at) if sql.get(at + 1..)?.iter().all(|&b| is_space(b)) => at,
        Some(_) => return None,
    };
    let empty = Lexer::new(sql.get(..len)?, opts).next_significant().is_none();
    Some((len, empty))
}

/// The first piece, by its tokens.
fn cut(sql: &[u8], opts: LexOptions) -> (usize, bool) {
    let mut lexer = Lexer::new(sql, opts);
    let mut nesting = Nesting::default();
    let mut empty = true;
    while let Some(token) = lexer.next_significant() {
        if token.kind == TokenKind::Semicolon && nesting.is_outermost() {
            return (token.start, empty);
        }
        empty = false;
        nesting.see(token.kind, token.text(sql));
    }
    (sql.len(), empty)
}

/// Where a semicolon is part of a statement: within parentheses (`CREATE RULE … DO (…; …)`) and within the body of
/// `CREATE FUNCTION … BEGIN ATOMIC …; …; END`.
#[derive(Debug, Default)]
struct Nesting {
    parentheses: u32,
    /// Bodies that are open, one in the other.
    bodies: u32,
    head: Head,
}

/// How far the statement (in a body: the one at hand) has shown what it is.
#[derive(Debug, Default, PartialEq)]
enum Head {
    /// At its very beginning; in a body, `END` here is the body's.
    #[default]
    Start,
    /// Behind `CREATE`.
    Create,
    /// Behind `CREATE OR`.
    CreateOr,
    /// In `CREATE FUNCTION` or `CREATE PROCEDURE`, where `BEGIN ATOMIC` can only open a body.
    Routine,
    /// Behind a `BEGIN` there.
    RoutineBegin,
    /// Anything else.
    Other,
}

impl Nesting {
    const fn is_outermost(&self) -> bool {
        self.parentheses == 0 && self.bodies == 0
    }

    fn see(&mut self, kind: TokenKind, text: &[u8]) {
        match kind {
            TokenKind::Char(b'(') => self.parentheses = self.parentheses.saturating_add(1),
            TokenKind::Char(b')') => self.parentheses = self.parentheses.saturating_sub(1),
            TokenKind::Semicolon if self.parentheses == 0 => {
                self.head = Head::Start;
                return;
            }
            _ => {}
        }
        let is = |keyword: &str| kind == TokenKind::Ident && text.eq_ignore_ascii_case(keyword.as_bytes());
        self.head = match self.head {
            Head::Start if self.bodies > 0 && is("end") => {
                self.bodies -= 1;
                Head::Other
            }
            Head::Start if is("create") => Head::Create,
            Head::Create if is("or") => Head::CreateOr,
            Head::CreateOr if is("replace") => Head::Create,
            Head::Create if is("function") || is("procedure") => Head::Routine,
            Head::Routine | Head::RoutineBegin if self.parentheses > 0 => Head::Routine,
            Head::Routine | Head::RoutineBegin if is("begin") => Head::RoutineBegin,
            Head::RoutineBegin if is("atomic") => {
                self.bodies = self.bodies.saturating_add(1);
                Head::Start
            }
            Head::Routine | Head::RoutineBegin => Head::Routine,
            _ => Head::Other,
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn statements(sql: &str) -> Vec<&str> {
        Split::new(sql.as_bytes(), LexOptions::default())
            .statements()
            .map(|piece| std::str::from_utf8(piece.text(sql.as_bytes())).unwrap())
            .collect()
    }

    #[test]
    fn semicolons_part_statements() {
        assert_eq!(statements("select 1"), ["select 1"]);
        assert_eq!(statements("select 1; "), ["select 1"]);
        assert_eq!(statements("select 1;select 2"), ["select 1", "select 2"]);
        assert_eq!(statements("a;;--;\n;/*;*/;b;"), ["a", "b"]);
        assert_eq!(statements("select ';', \";\", $$;$$, e'\\';'; b"), ["select ';', \";\", $$;$$, e'\\';'", " b"]);
        assert_eq!(statements("select 1 -- ;"), ["select 1 -- "]);
    }

    #[test]
    fn blanks_and_comments_are_no_statement() {
        for sql in ["", " ", ";", " ; ; ", "-- a;", "/* a; */", "--;\n;", "/*a*/;/*b*/"] {
            assert_eq!(statements(sql), [""; 0], "{sql:?}");
        }
    }

    #[test]
    fn a_body_keeps_its_semicolons() {
        for whole in [
            "create function f() returns int begin atomic select 1; select case when true then 1 else 2 end; end",
            "Create Or Replace Procedure p() Begin /**/ Atomic ; insert into t values (1);; END",
            "create function f() returns int language sql begin atomic end",
            "create function f(a int default 1) returns int set search_path to begin begin atomic select 1 end; end",
            "create function f() returns int begin atomic select begin atomic; select 1 case; select 2 end; end",
            "create function f() begin atomic create function g() returns int begin atomic select 1; end; select 2; end",
            "create rule r as on insert to t do also (delete from u; delete from v;)",
        ] {
            let two = format!("{whole}; select 2");
            assert_eq!(statements(&two), [whole, " select 2"]);
        }
    }

    #[test]
    fn only_a_routine_has_a_body() {
        assert_eq!(statements("select begin atomic; select 2; end"), ["select begin atomic", " select 2", " end"]);
        assert_eq!(
            statements("create view v as select begin atomic; end; a"),
            ["create view v as select begin atomic", " end", " a"]
        );
        assert_eq!(statements("create function f() returns int begin; atomic; b").len(), 3);
        assert_eq!(statements("a); b"), ["a)", " b"]);
    }
}
