//! What a statement does to transactions, prepared statements and cursors, from its first tokens alone.
//!
//! A head that the server's grammar refuses may be taken for one it accepts: the reply then says that it did nothing.

use crate::sql::ident;
use crate::sql::lexer::{LexOptions, Lexer, is_space};
use crate::sql::name::Name;
use crate::sql::split::Split;
use crate::sql::token::{Token, TokenKind};
use memchr::memchr;

/// What the session must know of a statement, if it succeeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// Nothing of the below; also what acts on no session, as `COMMIT PREPARED` and `DISCARD PLANS`.
    #[default]
    None,
    /// `BEGIN`, `START TRANSACTION`
    Begin,
    /// `COMMIT`, `END`; it answers `ROLLBACK` where the transaction had failed.
    Commit {
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`
    Rollback {
        chain: bool,
    },
    PrepareTransaction,
    Savepoint(Name),
    Release(Name),
    RollbackTo(Name),
    Prepare(Name),
    /// `EXECUTE`: does what the statement of this name does.
    Execute(Name),
    Deallocate(Name),
    DeallocateAll,
    DiscardAll,
    /// `DECLARE … CURSOR`; with `hold` the portal outlives its transaction.
    Declare {
        name: Name,
        hold: bool,
    },
    CloseCursor(Name),
    CloseAll,
    /// `SET TRANSACTION READ ONLY`, or a value for `transaction_read_only`: the transaction may not write from here on, perhaps.
    ReadOnly,
}

/// The effects of a simple query, one for each of its statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effects {
    /// No statement at all: the server answers `EmptyQueryResponse`, once.
    Empty,
    One(Effect),
    /// So many statements; those that are not listed, by their index from 0, have no effect.
    Many {
        count: u32,
        effects: Box<[(u32, Effect)]>,
    },
}

impl Effects {
    /// How many statements there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        match self {
            Self::Empty => 0,
            Self::One(_) => 1,
            Self::Many { count, .. } => *count,
        }
    }

    /// The effect of the statement with this index.
    #[must_use]
    pub fn get(&self, index: u32) -> Effect {
        match self {
            Self::One(effect) if index == 0 => *effect,
            Self::Many { effects, .. } => {
                let found = effects.binary_search_by_key(&index, |(at, _)| *at).ok();
                found.and_then(|at| effects.get(at)).map_or(Effect::None, |(_, effect)| *effect)
            }
            _ => Effect::None,
        }
    }
}

/// The effects of a simple query. A single statement is not read behind its head, and nothing is allocated for it (§11).
#[must_use]
pub fn effects(query: &[u8], opts: LexOptions) -> Effects {
    let single = match memchr(b';', query) {
        None => Some(query),
        Some(at) => {
            let (statement, behind) = query.split_at(at);
            behind.iter().skip(1).all(|&b| is_space(b)).then_some(statement)
        }
    };
    if let Some(statement) = single {
        return Head::new(statement, opts).map_or(Effects::Empty, |head| Effects::One(head.effect()));
    }
    let mut effects = Vec::new();
    let mut count = 0_u32;
    for piece in Split::new(query, opts).statements() {
        match effect(piece.text(query), opts) {
            Effect::None => {}
            found => effects.push((count, found)),
        }
        count = count.saturating_add(1);
    }
    match (count, effects.first()) {
        (0, _) => Effects::Empty,
        (1, first) => Effects::One(first.map_or(Effect::None, |(_, effect)| *effect)),
        _ => Effects::Many { count, effects: effects.into_boxed_slice() },
    }
}

/// The effect of one statement.
#[must_use]
pub fn effect(statement: &[u8], opts: LexOptions) -> Effect {
    Head::new(statement, opts).map_or(Effect::None, Head::effect)
}

/// A statement's first token and the reader of those behind it.
struct Head<'a> {
    first: &'a [u8],
    rest: Reader<'a>,
}

impl<'a> Head<'a> {
    /// None where there is no token.
    #[inline]
    fn new(sql: &'a [u8], opts: LexOptions) -> Option<Self> {
        let mut lexer = Lexer::new(sql, opts);
        let token = lexer.next_significant()?;
        let first = if token.kind == TokenKind::Ident { token.text(sql) } else { b"" };
        Some(Self { first, rest: Reader { sql, opts, lexer, peeked: None } })
    }

    #[inline]
    fn effect(mut self) -> Effect {
        let is = |keyword: &str| self.first.eq_ignore_ascii_case(keyword.as_bytes());
        let read: fn(&mut Reader<'a>) -> Option<Effect> = match self.first.first().map(u8::to_ascii_lowercase) {
            Some(b'b') if is("begin") => |_| Some(Effect::Begin),
            Some(b's') if is("start") => |r| r.take("transaction").then_some(Effect::Begin),
            Some(b's') if is("set") => Reader::set,
            Some(b's') if is("savepoint") => |r| r.name().map(Effect::Savepoint),
            Some(b'c') if is("commit") => Reader::commit,
            Some(b'c') if is("close") => |r| r.name_or_all().map(|n| n.map_or(Effect::CloseAll, Effect::CloseCursor)),
            Some(b'e') if is("end") => |r| Some(Effect::Commit { chain: r.chain() }),
            Some(b'e') if is("execute") => |r| r.name().map(Effect::Execute),
            Some(b'a') if is("abort") => |r| Some(Effect::Rollback { chain: r.chain() }),
            Some(b'r') if is("rollback") => Reader::rollback,
            Some(b'r') if is("release") => |r| r.name_behind("savepoint").map(Effect::Release),
            Some(b'p') if is("prepare") => Reader::prepare,
            Some(b'd') if is("declare") => Reader::declare,
            Some(b'd') if is("deallocate") => Reader::deallocate,
            Some(b'd') if is("discard") => |r| r.take("all").then_some(Effect::DiscardAll),
            _ => return Effect::None,
        };
        read(&mut self.rest).unwrap_or_default()
    }
}

/// Reads the words of a head, one token ahead.
struct Reader<'a> {
    sql: &'a [u8],
    opts: LexOptions,
    lexer: Lexer<'a>,
    peeked: Option<Option<Token>>,
}

impl Reader<'_> {
    // === words ===

    fn peek(&mut self) -> Option<Token> {
        let lexer = &mut self.lexer;
        *self.peeked.get_or_insert_with(|| lexer.next_significant())
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek();
        self.peeked = None;
        token
    }

    fn sees(&mut self, keyword: &str) -> bool {
        let sql = self.sql;
        self.peek().is_some_and(|t| t.kind == TokenKind::Ident && t.text(sql).eq_ignore_ascii_case(keyword.as_bytes()))
    }

    fn take(&mut self, keyword: &str) -> bool {
        let seen = self.sees(keyword);
        if seen {
            self.peeked = None;
        }
        seen
    }

    fn name(&mut self) -> Option<Name> {
        let token = self.next()?;
        let escape = match token.kind {
            TokenKind::UnicodeIdent if self.take("uescape") => self.escape()?,
            _ => b'\\',
        };
        ident::fold(token.kind, token.text(self.sql), escape, self.opts.encoding)
    }

    /// The character of `UESCAPE '…'`.
    fn escape(&mut self) -> Option<u8> {
        let token = self.next()?;
        ident::uescape(token.kind, token.text(self.sql))
    }

    /// A name, or None for `ALL`, which is a name only in quotes.
    fn name_or_all(&mut self) -> Option<Option<Name>> {
        if self.take("all") { Some(None) } else { self.name().map(Some) }
    }

    /// A name with a noise word before it that may be the name itself.
    fn name_behind(&mut self, noise: &str) -> Option<Name> {
        if self.take(noise) && self.peek().is_none() { Some(noise.into()) } else { self.name() }
    }

    // === heads ===

    fn work(&mut self) -> bool {
        self.take("work") || self.take("transaction")
    }

    /// `[WORK | TRANSACTION] [AND [NO] CHAIN]`
    fn chain(&mut self) -> bool {
        self.work();
        self.take("and") && self.take("chain")
    }

    fn commit(&mut self) -> Option<Effect> {
        (!self.sees("prepared")).then(|| Effect::Commit { chain: self.chain() })
    }

    fn rollback(&mut self) -> Option<Effect> {
        if self.sees("prepared") {
            return None;
        }
        self.work();
        if self.take("to") {
            return self.name_behind("savepoint").map(Effect::RollbackTo);
        }
        Some(Effect::Rollback { chain: self.chain() })
    }

    /// `PREPARE TRANSACTION 'id'`, or a statement, which may be called `transaction`.
    fn prepare(&mut self) -> Option<Effect> {
        if self.take("transaction") {
            let two_phase = self.peek()?.kind.is_string();
            return Some(if two_phase { Effect::PrepareTransaction } else { Effect::Prepare("transaction".into()) });
        }
        self.name().map(Effect::Prepare)
    }

    /// `[PREPARE] name | ALL`, and `prepare` may be the name.
    fn deallocate(&mut self) -> Option<Effect> {
        if self.take("prepare") && self.peek().is_none() {
            return Some(Effect::Deallocate("prepare".into()));
        }
        self.name_or_all().map(|name| name.map_or(Effect::DeallocateAll, Effect::Deallocate))
    }

    /// `[LOCAL | SESSION] TRANSACTION … READ ONLY`, `[LOCAL | SESSION] transaction_read_only …`
    fn set(&mut self) -> Option<Effect> {
        if !self.take("local") {
            self.take("session");
        }
        if !self.take("transaction") {
            return self.take("transaction_read_only").then_some(Effect::ReadOnly);
        }
        while self.peek().is_some() {
            if self.take("read") && self.take("only") {
                return Some(Effect::ReadOnly);
            }
            self.next();
        }
        None
    }

    /// `name [options] CURSOR [WITH HOLD | WITHOUT HOLD] FOR …`
    fn declare(&mut self) -> Option<Effect> {
        let name = self.name()?;
        while ["binary", "asensitive", "insensitive", "no", "scroll"].iter().any(|word| self.take(word)) {}
        if !self.take("cursor") {
            return None;
        }
        let hold = self.take("with") && self.take("hold");
        Some(Effect::Declare { name, hold })
    }
}

#[cfg(test)]
mod tests;
