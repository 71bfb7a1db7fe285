//! A statement's shape: what stays the same whatever its constants are and however it is laid out, and never a constant.

use crate::sql::lexer::{LexOptions, Lexer};
use crate::sql::token::{Open, TokenKind};

/// A shape that gets longer is cut.
pub const SHAPE_MAX: usize = 1000;

/// Tokens read at most: the tail of a statement with thousands of rows tells nothing more.
const TOKENS_MAX: usize = 8192;

/// In the place of items that look as the one before.
const MORE: &[u8] = b", ...";

/// The statement with one `?` for each constant or parameter, keywords and names in lower case, even blanks and no comments.
///
/// Lists of `IN (…)`, `ARRAY[…]` and the rows of `VALUES` are shortened to their first item and `...` where the items look
/// alike, so that their length makes no other shape.
#[must_use]
pub fn shape(sql: &[u8], opts: LexOptions) -> String {
    let mut writer = Writer { out: Vec::with_capacity(sql.len().min(SHAPE_MAX)), ..Writer::default() };
    let mut lexer = Lexer::new(sql, opts);
    let mut cut = false;
    for read in 0.. {
        let Some(token) = lexer.next_significant() else { break };
        if read == TOKENS_MAX || writer.out.len() > SHAPE_MAX {
            cut = true;
            break;
        }
        writer.token(token.kind, token.text(sql));
    }
    writer.finish(cut)
}

/// What the token before was, as far as the next one's place hangs on it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Before {
    #[default]
    Start,
    /// A name, a constant, a parameter, a closing bracket.
    Operand,
    /// A word that a bracket or a sign belongs to what follows it, not to the word: `in (`, `select -1`.
    Keyword,
    /// An operator.
    Sign,
    Comma,
    /// `(`, `[`, `.`, `::`: what follows stands close to it.
    Close,
}

/// One depth of brackets.
#[derive(Default)]
struct Level {
    /// Where its bracket stands in the shape.
    bracket: usize,
    /// Its items are a list of values, which may be shortened.
    list: bool,
    /// Where the item at hand begins, once something of it is written.
    item: Option<usize>,
    /// The item before, if it may be one of a row of equals.
    last: Option<(usize, usize)>,
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    before: Before,
    /// The word before opens a list of values.
    lists: bool,
    /// A sign that may belong to the number behind it.
    sign: Option<u8>,
    outer: Level,
    levels: Vec<Level>,
}

impl Writer {
    fn token(&mut self, kind: TokenKind, text: &[u8]) {
        if let Some(sign) = self.sign.take()
            && !matches!(kind, TokenKind::Number | TokenKind::Param)
        {
            self.put(&[sign], Before::Sign, true);
        }
        let lists = std::mem::take(&mut self.lists);
        match kind {
            TokenKind::Ident => self.word(text),
            TokenKind::QuotedIdent | TokenKind::UnicodeIdent => self.put(text, Before::Operand, true),
            TokenKind::Char(open @ (b'(' | b'[')) => self.open(open, lists),
            TokenKind::Char(close @ (b')' | b']')) => self.close(close),
            TokenKind::Char(b',') => {
                self.end_item();
                self.put(b",", Before::Comma, false);
                self.level().item = None;
            }
            TokenKind::Char(b'.') | TokenKind::TypeCast => self.put(text, Before::Close, false),
            TokenKind::Char(sign @ (b'-' | b'+')) if self.before != Before::Operand => self.sign = Some(sign),
            TokenKind::Semicolon => self.put(b";", Before::Sign, false),
            TokenKind::Char(_) | TokenKind::Other(_) | TokenKind::Operator => self.put(text, Before::Sign, true),
            TokenKind::EqualsGreater
            | TokenKind::LessEquals
            | TokenKind::GreaterEquals
            | TokenKind::NotEquals
            | TokenKind::ColonEquals
            | TokenKind::DotDot => self.put(text, Before::Sign, true),
            TokenKind::Comment | TokenKind::Whitespace | TokenKind::Unterminated(Open::Comment) => {}
            TokenKind::String
            | TokenKind::EscapeString
            | TokenKind::UnicodeString
            | TokenKind::NationalString
            | TokenKind::BitString
            | TokenKind::DollarString
            | TokenKind::Number
            | TokenKind::Param
            | TokenKind::Unterminated(_)
            | TokenKind::Invalid(_) => self.put(b"?", Before::Operand, true),
        }
    }

    fn word(&mut self, text: &[u8]) {
        self.put(text, Before::Operand, true);
        let start = self.out.len() - text.len();
        let Some(word) = self.out.get_mut(start..) else { return };
        word.make_ascii_lowercase();
        match &*word {
            b"in" | b"array" => self.lists = true,
            // Its rows are items of a list, whatever stands before it.
            b"values" => self.level().item = None,
            _ => {}
        }
        if self.out.get(start..).is_some_and(stands_apart) {
            self.before = Before::Keyword;
        }
    }

    fn open(&mut self, bracket: u8, list: bool) {
        // `f(`, `t(a, b)` and `a[1]`; but `in (`, `= (`, `) (`.
        let called = self.before == Before::Operand && self.out.last() != Some(&b')');
        self.put(&[bracket], Before::Close, bracket == b'(' && !called);
        self.levels.push(Level { bracket: self.out.len() - 1, list, ..Level::default() });
    }

    fn close(&mut self, bracket: u8) {
        self.end_item();
        let Some(closed) = self.levels.pop() else {
            self.put(&[bracket], Before::Operand, false);
            return;
        };
        self.put(&[bracket], Before::Operand, false);
        if self.level().item == Some(closed.bracket) {
            self.shorten();
        }
    }

    /// The end of an item, at a comma or at its list's end.
    fn end_item(&mut self) {
        if self.level().list {
            self.shorten();
        }
    }

    /// Puts `...` in the place of the item at hand, if it looks as the one before it.
    fn shorten(&mut self) {
        let Some(start) = self.level().item else { return };
        let end = self.out.len();
        let last = self.level().last;
        let bytes = |from: usize, to: usize| self.out.get(from..to).unwrap_or_default();
        match last {
            // Seen already, at the bracket that ended it.
            Some((first, _)) if first == start => {}
            Some((first, first_end)) if alike(bytes(first, first_end), bytes(start, end)) => {
                self.out.truncate(first_end);
                self.out.extend_from_slice(MORE);
                self.level().item = None;
            }
            _ => self.level().last = Some((start, end)),
        }
    }

    /// Writes a token, apart from the one before or close to it.
    fn put(&mut self, text: &[u8], now: Before, apart: bool) {
        if apart && !matches!(self.before, Before::Start | Before::Close) {
            self.out.push(b' ');
        }
        let start = self.out.len();
        self.out.extend_from_slice(text);
        self.before = now;
        let level = self.level();
        level.item = level.item.or(Some(start));
    }

    fn level(&mut self) -> &mut Level {
        self.levels.last_mut().unwrap_or(&mut self.outer)
    }

    fn finish(mut self, mut cut: bool) -> String {
        if let Some(sign) = self.sign.take() {
            self.put(&[sign], Before::Sign, true);
        }
        while self.out.last() == Some(&b';') {
            self.out.pop();
        }
        if self.out.len() > SHAPE_MAX {
            self.out.truncate(SHAPE_MAX);
            cut = true;
        }
        let mut text = String::from_utf8_lossy(&self.out).into_owned();
        if cut {
            text.push_str(" ...");
        }
        text
    }
}

/// Whether two items say the same, except for the numbers of their parameters.
fn alike(a: &[u8], b: &[u8]) -> bool {
    let mut a = a.iter().copied().peekable();
    let mut b = b.iter().copied().peekable();
    loop {
        let next = a.next();
        if next != b.next() {
            return false;
        }
        match next {
            None => return true,
            Some(b'$') => {
                while a.next_if(u8::is_ascii_digit).is_some() {}
                while b.next_if(u8::is_ascii_digit).is_some() {}
            }
            Some(_) => {}
        }
    }
}

/// Keywords behind which a bracket stands apart, and a sign belongs to what follows.
fn stands_apart(word: &[u8]) -> bool {
    matches!(
        word,
        b"all"
            | b"and"
            | b"as"
            | b"between"
            | b"by"
            | b"case"
            | b"check"
            | b"conflict"
            | b"default"
            | b"do"
            | b"else"
            | b"except"
            | b"explain"
            | b"for"
            | b"from"
            | b"having"
            | b"ilike"
            | b"in"
            | b"intersect"
            | b"into"
            | b"is"
            | b"join"
            | b"lateral"
            | b"like"
            | b"limit"
            | b"not"
            | b"offset"
            | b"on"
            | b"only"
            | b"or"
            | b"over"
            | b"returning"
            | b"select"
            | b"set"
            | b"then"
            | b"union"
            | b"using"
            | b"values"
            | b"when"
            | b"where"
            | b"with"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> String {
        shape(sql.as_bytes(), LexOptions::default())
    }

    #[test]
    fn constants_of_every_kind_are_left_out() {
        assert_eq!(
            of("SELECT 1, -2.5, 'a' \n 'b', E'\\'', U&'d', N'x', B'01', $$x$$, $a$ $$ $a$, $1"),
            "select ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
        );
        assert_eq!(of("alter role joe password 'secret'"), "alter role joe password ?");
        assert_eq!(of("select 'open"), "select ?");
        assert_eq!(of("select 12secret"), "select ?");
        assert_eq!(of("select DATE '2020-01-01', '1'::int"), "select date ?, ?::int");
    }

    #[test]
    fn layout_comments_and_case_make_no_difference() {
        let plain = of("update pgbench_accounts set abalance = abalance + 1 where aid = 2");
        assert_eq!(plain, "update pgbench_accounts set abalance = abalance + ? where aid = ?");
        for other in [
            "UPDATE Pgbench_Accounts SET abalance=abalance+ -1 WHERE aid=2;",
            "/* app */ update pgbench_accounts\n\tset abalance = abalance+1 -- why\n where aid = 2 ; ",
        ] {
            assert_eq!(of(other), plain, "{other}");
        }
        assert_eq!(of("insert into t(a)values(1)"), of("INSERT INTO t (a) VALUES ( 1 )"));
        assert_eq!(of("insert into t (a) values (1)"), "insert into t(a) values (?)");
        assert_eq!(of("select count( * ), s.f (x) [1], \"Q\" . \"R\""), "select count(*), s.f(x)[?], \"Q\".\"R\"");
        assert_ne!(of("select \"A\""), of("select \"a\""));
    }

    #[test]
    fn a_sign_goes_with_its_number_only() {
        assert_eq!(of("select a - 1, a -1, -1, - a, (-1), 1 - -1"), "select a - ?, a - ?, ?, - a, (?), ? - ?");
        assert_eq!(of("select a[1] - 1, (a) - 1"), "select a[?] - ?, (a) - ?");
        assert_eq!(of("select -"), "select -");
    }

    #[test]
    fn the_length_of_a_list_makes_no_difference() {
        assert_eq!(of("delete from t where a in (1)"), "delete from t where a in (?)");
        for list in ["1, 2", "1,2,3", "-1, 'x', 3,4,5,6"] {
            assert_eq!(
                of(&format!("delete from t where a in ({list}) and b")),
                "delete from t where a in (?, ...) and b"
            );
        }
        assert_eq!(of("select * from t where a in ($1, $2, $3)"), "select * from t where a in (?, ...)");
        assert_eq!(of("select a in (1, b, 2, 2)"), "select a in (?, b, ?, ...)");
        assert_eq!(of("select array[1, 2, 3], array[[1, 2], [3, 4]]"), "select array[?, ...], array[[?, ?], ...]");
        assert_eq!(of("select a in ('1'::int, '2'::int)"), "select a in (?::int, ...)");
        assert_eq!(of("select (a, b) in ((1, 2), (3, 4), (5, 6))"), "select (a, b) in ((?, ?), ...)");
    }

    #[test]
    fn the_number_of_rows_makes_no_difference_and_the_columns_do() {
        let rows = "insert into t values (?, now()), ... on conflict do nothing";
        assert_eq!(of("insert into t values (1, now()), (2, now()) on conflict do nothing"), rows);
        assert_eq!(of("insert into t values (1, now()), (2, now()), (3,now()) on conflict do nothing"), rows);
        assert_eq!(of("insert into t values ($1, $2), ($3, $4)"), "insert into t values (?, ?), ...");
        assert_eq!(of("insert into t values (1, 2)"), "insert into t values (?, ?)");
        assert_eq!(of("insert into t values (1), (default), (2)"), "insert into t values (?), (default), (?)");
        assert_eq!(of("select f(1, 1, 1), f(1), f(1)"), "select f(?, ?, ?), f(?), f(?)");
    }

    #[test]
    fn it_is_bounded_and_ends_where_the_statement_is_cut() {
        let many = of(&format!("select {}1", "a, ".repeat(2000)));
        assert!(many.len() <= SHAPE_MAX + 4 && many.ends_with(" ..."), "{} {many}", many.len());
        let wide = of(&format!("select {}", "é".repeat(600)));
        assert!(wide.len() <= SHAPE_MAX + 8 && wide.ends_with(" ..."), "{wide}");
        let rows = of(&format!("insert into t values (1, 2){}", ", (3, 4)".repeat(100_000)));
        assert!(rows.starts_with("insert into t values (?, ?), ...") && rows.len() < 60, "{rows}");
    }

    #[test]
    fn brackets_that_do_not_match_do_no_harm() {
        assert_eq!(of(") ] ("), ")](");
        assert_eq!(of(""), "");
        assert_eq!(of("-- nothing"), "");
        assert_eq!(of(",,("), ",, (");
    }
}
