//! The locked statement lane (§4.4): text that gives the same everywhere as long as nobody else writes what it reads.

use std::sync::Arc;

use crate::capture::write::{BlockForm, Decision, Write};
use crate::catalog::relation::{RelationKind, Volatility};
use crate::config::TableName;
use crate::journal::entry::{Head, Lane};
use crate::sql::Name;
use crate::sql::TokenKind;
use crate::sql::statement::{Kind, Moods, Written};
use crate::sql::{Lexer, Token, ident};

use super::image::{self, parts};
use super::single::op_of;
use super::target::{Known, Ours};
use super::{Case, quote};

/// Why a text may not travel under a lock, as a clause of a sentence.
type Unlocked = &'static str;

/// What looks into the session, into rows' places or into types whose text hangs on `search_path`.
const WORDS: &[&[u8]] = &[
    b"cmax",
    b"cmin",
    b"ctid",
    b"money",
    b"regclass",
    b"regcollation",
    b"regconfig",
    b"regdictionary",
    b"regnamespace",
    b"regoper",
    b"regoperator",
    b"regproc",
    b"regprocedure",
    b"regrole",
    b"regtype",
    b"tableoid",
    b"xmax",
    b"xmin",
];

impl Case<'_> {
    /// The text under a lock, or what stands against it.
    pub(super) fn locked(&self, kind: &Kind, ours: &Ours<'_>, reason: &'static str) -> Result<Decision, Unlocked> {
        self.steady(kind, ours)?;
        let read = self.read_tables(ours)?;
        let returning = parts(kind).and_then(|(_, returning)| returning);
        let names: Vec<(Written, &Ours<'_>)> = read.iter().map(|(written, ours)| (*written, ours)).collect();
        let mut text = self.text(returning, &names);
        text.settings = (self.s.settings)();
        let head =
            Head { lane: Lane::Locked, text: Some(text), ..image::head(self.s, Lane::Locked, op_of(kind), ours) };
        let mut locks: Vec<_> =
            read.iter().map(|(_, r)| (&r.relation.name, r.relation.oid == ours.relation.oid)).collect();
        // One order for all statements; the stronger lock of a table stands first and makes the other one nothing.
        locks.sort_by(|a, b| a.0.cmp(b.0).then(b.1.cmp(&a.1)));
        locks.dedup_by_key(|lock| lock.0);
        let lock = |(name, written): &(&TableName, bool)| {
            let mode = if *written { "SHARE ROW EXCLUSIVE" } else { "SHARE" };
            format!("LOCK TABLE {} IN {mode} MODE", quote::table(name, self.s.encoding))
        };
        let before = locks.iter().map(lock).collect();
        Ok(Decision::Write(Arc::new(Write {
            before,
            fresh_snapshot: true,
            reason,
            ..self.plain(kind, ours, head, BlockForm::AsIs, None)
        })))
    }

    /// Whether the text gives the same wherever the tables are the same.
    fn steady(&self, kind: &Kind, ours: &Ours<'_>) -> Result<(), Unlocked> {
        let Moods { clock, who, limit, sample, locking: _ } = self.statement.moods;
        if clock || self.statement.moment_strings {
            return Err("it looks at the clock");
        }
        if who {
            return Err("it asks who runs it");
        }
        if limit || sample {
            return Err("it takes some rows of many");
        }
        let functions = &self.s.catalog.functions;
        let built_in = |call: &Written| match call.schema {
            Some(schema) => schema == Name::from("pg_catalog"),
            None => !functions.user.contains(&call.name),
        };
        if !self.statement.calls.iter().all(|c| built_in(c) && functions.immutable.contains(&c.name)) {
            return Err("it calls a function that may give something else on another node");
        }
        if ours.relation.before_row_trigger {
            return Err("a trigger may change its rows");
        }
        let defaults = |c: &crate::catalog::relation::Column| {
            c.generated || (c.default == Volatility::Immutable && c.identity.is_none())
        };
        let makes_rows = match kind {
            Kind::Insert(_) => true,
            Kind::Merge(merge) => merge.inserts,
            // Which of several matching rows counts is not said.
            Kind::Update(update) if update.from => return Err("another table's rows decide, maybe several for one"),
            _ => false,
        };
        if (makes_rows || self.says_default()) && !ours.relation.columns.iter().all(defaults) {
            return Err("a default may give something else on another node");
        }
        if self.statement.with.as_ref().is_some_and(|w| w.ctes.iter().any(|c| c.writes.is_some())) {
            return Err("it writes several tables");
        }
        self.steady_words()
    }

    fn says_default(&self) -> bool {
        let word =
            |token: &Token| token.kind == TokenKind::Ident && token.text(self.sql).eq_ignore_ascii_case(b"default");
        Lexer::new(self.sql, self.lex()).any(|token| word(&token))
    }

    /// Whether an operator of the user's, by its characters, stands in the text.
    pub(super) fn has_user_operator(&self) -> bool {
        let known = &self.s.catalog.user_operators;
        let mut tokens = Lexer::new(self.sql, self.lex()).filter(|token| match token.kind {
            TokenKind::Char(b'(' | b')' | b',' | b'.' | b'[' | b']' | b':') => false,
            TokenKind::Char(_) | TokenKind::Operator => true,
            TokenKind::LessEquals | TokenKind::GreaterEquals | TokenKind::NotEquals => true,
            _ => false,
        });
        !known.is_empty() && tokens.any(|token| known.contains(&Name::from(token.text(self.sql))))
    }

    fn steady_words(&self) -> Result<(), Unlocked> {
        if self.has_user_operator() {
            return Err("it may use an operator of the user's");
        }
        let lex = self.lex();
        let mut distinct = false;
        for token in Lexer::new(self.sql, lex).filter(|token| !token.kind.is_blank()) {
            let text = token.text(self.sql);
            if token.kind.is_string() && !self.s.standard_conforming_strings {
                return Err("standard_conforming_strings is off");
            }
            let Some(word) = ident::fold(token.kind, text, b'\\', lex.encoding) else {
                distinct = false;
                continue;
            };
            if WORDS.contains(&word.as_bytes()) {
                return Err("it looks at what is only this node's");
            }
            if distinct && word.as_bytes() == b"on" {
                return Err("it takes some rows of many");
            }
            distinct = word.as_bytes() == b"distinct";
        }
        Ok(())
    }

    /// All relations that the text names, each of which has to be the same on every peer that the text goes to.
    fn read_tables<'t>(&'t self, ours: &Ours<'t>) -> Result<Vec<(Written, Ours<'t>)>, Unlocked> {
        let mut read = Vec::new();
        for written in &self.statement.relations {
            let known = self.names.look(written).ok_or("it reads a table that is not replicated")?;
            let Known { relation, meaning, ruled: Some((rule, root)) } = known else {
                return Err("it reads a table that is not replicated");
            };
            let plain = matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned);
            if !plain || root.oid != relation.oid {
                return Err("it names a view or a partition");
            }
            if rule.filter.is_some() || rule.columns.is_some() {
                return Err("only a part of a table's rows or columns is on the other nodes");
            }
            if rule.settles().is_some() {
                return Err("conflicts are settled by whole rows");
            }
            if meaning.row_security || relation.rewrite_rule {
                return Err("row-level security or a rule may change what it does");
            }
            if rule.peers != ours.rule.peers {
                return Err("it reads a table that goes to other peers");
            }
            read.push((*written, Ours { target: ours.target, relation, root, rule, meaning }));
        }
        Ok(read)
    }
}
