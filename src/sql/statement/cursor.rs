//! A statement's significant tokens, with brackets paired, and a cheap cursor over any range of them.

use super::word::Word;
use super::{Span, Written};
use crate::sql::ident;
use crate::sql::lexer::{LexOptions, Lexer};
use crate::sql::name::Name;
use crate::sql::token::TokenKind;

/// One token that the grammar sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tok {
    pub(super) start: u32,
    pub(super) end: u32,
    /// For an opening bracket the index of the closing one, and the other way round.
    pair: u32,
    pub(super) kind: TokenKind,
    pub(super) word: Word,
}

/// A statement's text and tokens.
pub(super) struct Text<'a> {
    pub(super) sql: &'a [u8],
    pub(super) opts: LexOptions,
    pub(super) tokens: Vec<Tok>,
    /// The server refuses it: a token is broken or brackets do not pair.
    pub(super) broken: bool,
    /// There is a semicolon other than the last tokens.
    pub(super) parted: bool,
}

impl<'a> Text<'a> {
    pub(super) fn new(sql: &'a [u8], opts: LexOptions) -> Self {
        let mut text = Self {
            sql,
            opts,
            tokens: Vec::with_capacity(sql.len() / 5 + 8),
            broken: u32::try_from(sql.len()).is_err(),
            parted: false,
        };
        if !text.broken {
            text.collect();
        }
        text
    }

    fn collect(&mut self) {
        let mut open: Vec<(u32, u8)> = Vec::new();
        let mut lexer = Lexer::new(self.sql, self.opts);
        let mut semicolons = 0_usize;
        let mut behind_dot = false;
        while let Some(token) = lexer.next_significant() {
            let kind = token.kind;
            if kind == TokenKind::Semicolon {
                semicolons += 1;
            } else if semicolons > 0 {
                // Semicolons that something follows are kept as tokens: they are part of a body or of a rule.
                self.parted = true;
                semicolons = 0;
            }
            let index = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
            let mut pair = u32::MAX;
            match kind {
                TokenKind::Char(b'(') => open.push((index, b')')),
                TokenKind::Char(b'[') => open.push((index, b']')),
                TokenKind::Char(close @ (b')' | b']')) => match open.pop() {
                    Some((at, expected)) if expected == close => {
                        pair = at;
                        if let Some(opening) = self.tokens.get_mut(at as usize) {
                            opening.pair = index;
                        }
                    }
                    _ => self.broken = true,
                },
                TokenKind::Other(_) => self.broken = true,
                _ if kind.is_error() => self.broken = true,
                _ => {}
            }
            // Behind a dot every word is a name.
            let word = if behind_dot { Word::None } else { Word::of(kind, token.text(self.sql)) };
            behind_dot = kind == TokenKind::Char(b'.');
            let (start, end) = (offset(token.start), offset(token.end));
            self.tokens.push(Tok { start, end, pair, kind, word });
        }
        self.broken |= !open.is_empty();
        while self.tokens.last().is_some_and(|t| t.kind == TokenKind::Semicolon) {
            self.tokens.pop();
        }
    }

    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor { text: self, at: 0, end: self.tokens.len() }
    }

    pub(super) fn bytes(&self, token: &Tok) -> &'a [u8] {
        self.sql.get(token.start as usize..token.end as usize).unwrap_or_default()
    }
}

/// Texts beyond 4 GiB are not collected at all.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// A place in a range of tokens.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) text: &'a Text<'a>,
    pub(super) at: usize,
    pub(super) end: usize,
}

impl<'a> Cursor<'a> {
    // === looking ===

    #[inline]
    pub(super) fn peek(&self) -> Option<&'a Tok> {
        if self.at < self.end { self.text.tokens.get(self.at) } else { None }
    }

    #[inline]
    pub(super) fn peek_at(&self, ahead: usize) -> Option<&'a Tok> {
        if self.at + ahead < self.end { self.text.tokens.get(self.at + ahead) } else { None }
    }

    /// The token before, wherever the range begins.
    pub(super) fn before(&self) -> Option<&'a Tok> {
        self.text.tokens.get(self.at.checked_sub(1)?)
    }

    #[inline]
    pub(super) fn kind(&self) -> Option<TokenKind> {
        self.peek().map(|t| t.kind)
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        self.peek().map_or(Word::None, |t| t.word)
    }

    #[inline]
    pub(super) fn word_at(&self, ahead: usize) -> Word {
        self.peek_at(ahead).map_or(Word::None, |t| t.word)
    }

    #[inline]
    pub(super) fn is(&self, word: Word) -> bool {
        self.word() == word
    }

    #[inline]
    pub(super) fn is_char(&self, char: u8) -> bool {
        self.kind() == Some(TokenKind::Char(char))
    }

    pub(super) fn is_char_at(&self, ahead: usize, char: u8) -> bool {
        self.peek_at(ahead).is_some_and(|t| t.kind == TokenKind::Char(char))
    }

    pub(super) const fn is_over(&self) -> bool {
        self.at >= self.end
    }

    // === places in the text ===

    /// Where the next token begins; behind the last one, where that ends.
    pub(super) fn start(&self) -> usize {
        self.peek().map_or_else(|| self.behind(), |t| t.start as usize)
    }

    /// Where the token before ends.
    pub(super) fn behind(&self) -> usize {
        self.before().map_or(0, |t| t.end as usize)
    }

    /// From the next token to the range's last.
    pub(super) fn rest(&self) -> Span {
        let last = Cursor { at: self.end, ..*self };
        Span { start: self.start(), end: last.behind() }
    }

    // === taking ===

    #[inline]
    pub(super) fn next(&mut self) -> Option<&'a Tok> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    /// Goes on by one token if so, and says whether.
    ///
    /// No `usize::from`: optimized, rustc (1.95 at least) takes a condition that it has made a number of for zero where it
    /// branches on it (rust-lang/rust#158206).
    #[inline]
    pub(super) fn step_if(&mut self, seen: bool) -> bool {
        if seen {
            self.at += 1;
        }
        seen
    }

    #[inline]
    pub(super) fn take(&mut self, word: Word) -> bool {
        self.step_if(self.is(word))
    }

    pub(super) fn take_any(&mut self, words: &[Word]) -> bool {
        self.step_if(words.contains(&self.word()) && self.word() != Word::None)
    }

    #[inline]
    pub(super) fn take_char(&mut self, char: u8) -> bool {
        self.step_if(self.is_char(char))
    }

    /// At an opening bracket: what stands between it and its pair; the cursor goes behind that.
    pub(super) fn group(&mut self) -> Option<Self> {
        let token = self.peek()?;
        let close = token.pair as usize;
        if !matches!(token.kind, TokenKind::Char(b'(' | b'[')) || close <= self.at || close >= self.end {
            return None;
        }
        let inside = Self { text: self.text, at: self.at + 1, end: close };
        self.at = close + 1;
        Some(inside)
    }

    /// One token, or one bracket with all that is in it.
    pub(super) fn step(&mut self) {
        if self.group().is_none() {
            self.at += 1;
        }
    }

    /// Up to the first of these words, or a comma if asked for, outside brackets and `CASE`; the cursor stands at it.
    pub(super) fn until(&mut self, words: &[Word], comma: bool) -> Self {
        let begin = self.at;
        let mut cases = 0_usize;
        while let Some(token) = self.peek() {
            match token.kind {
                TokenKind::Char(b'(' | b'[') => {
                    self.step();
                    continue;
                }
                TokenKind::Char(b',') if comma && cases == 0 => break,
                _ => {}
            }
            if token.word != Word::None && !self.behind_as(begin) {
                match token.word {
                    Word::Case => cases += 1,
                    Word::End => cases = cases.saturating_sub(1),
                    Word::From if self.is_distinct_from() => {}
                    word if cases == 0 && words.contains(&word) => break,
                    _ => {}
                }
            }
            self.at += 1;
        }
        Self { text: self.text, at: begin, end: self.at }
    }

    /// Behind `AS` any word is a label.
    fn behind_as(&self, begin: usize) -> bool {
        self.at > begin && self.before().is_some_and(|t| t.word == Word::As)
    }

    /// Whether the `FROM` here is that of `IS [NOT] DISTINCT FROM`.
    pub(super) fn is_distinct_from(&self) -> bool {
        let word = |back: usize| {
            self.at.checked_sub(back).and_then(|at| self.text.tokens.get(at)).map_or(Word::None, |t| t.word)
        };
        word(1) == Word::Distinct && (word(2) == Word::Is || (word(2) == Word::Not && word(3) == Word::Is))
    }

    // === names ===

    /// Any identifier, whatever word it is.
    pub(super) fn label(&mut self) -> Option<(Name, Span)> {
        let token = *self.peek()?;
        let mut end = token.end;
        let mut ahead = 1;
        let mut escape = b'\\';
        if token.kind == TokenKind::UnicodeIdent && self.word_at(1) == Word::Uescape {
            let string = self.peek_at(2)?;
            escape = ident::uescape(string.kind, self.text.bytes(string))?;
            end = string.end;
            ahead = 3;
        }
        let name = ident::fold(token.kind, self.text.bytes(&token), escape, self.text.opts.encoding)?;
        self.at += ahead;
        Some((name, Span { start: token.start as usize, end: end as usize }))
    }

    /// Whether a column's, table's, alias's … name stands here.
    pub(super) fn is_name(&self) -> bool {
        let ident = |kind| matches!(kind, TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent);
        self.peek().is_some_and(|t| ident(t.kind) && t.word.is_column_name())
    }

    /// The name of a column, table, alias, cursor …
    #[inline]
    pub(super) fn name(&mut self) -> Option<(Name, Span)> {
        if self.word().is_column_name() { self.label() } else { None }
    }

    /// `[[database.]schema.]name`
    pub(super) fn qualified(&mut self) -> Option<Written> {
        let mut ahead = *self;
        let (name, span) = ahead.name()?;
        let mut written = Written { span, schema: None, name };
        let mut parts = 1_usize;
        while ahead.take_char(b'.') {
            let (name, part) = ahead.label()?;
            parts += 1;
            if parts > 3 {
                return None;
            }
            written.schema = Some(written.name);
            written.name = name;
            written.span.end = part.end;
        }
        self.at = ahead.at;
        Some(written)
    }
}
