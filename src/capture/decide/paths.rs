//! The ways to a replicated table that capture does not see: functions, views, cascades, triggers, DO blocks, made tables.

use crate::capture::write::Decision;
use crate::catalog::relation::{Oid, Relation, RelationKind};
use crate::config::{TableRule, Unreplicable};
use crate::sql::statement::{Ddl, Kind, Verb, Written};
use crate::sql::{Lexer, Name, TokenKind, ident};

use super::image::parts;
use super::target::{Known, Ours};
use super::{Case, Refused, quote, refuse, single};

/// With these a statement may begin that writes.
const WRITING_HEADS: &[&[u8]] = &[
    b"insert",
    b"update",
    b"delete",
    b"merge",
    b"truncate",
    b"copy",
    b"with",
    b"explain",
    b"execute",
    b"do",
    b"create",
];

impl<'a> Case<'a> {
    /// The ruled table that a write names; refused where it leads to one without naming it.
    pub(super) fn target(&self, kind: &'a Kind) -> Result<Option<Ours<'a>>, Refused> {
        let Some((target, _)) = parts(kind) else { return Ok(None) };
        self.not_the_journal(&target.relation)?;
        let verb = single::verb(kind);
        let Some(known) = self.names.look(&target.relation) else {
            return self.temporary(verb, &target.relation).map(|()| None);
        };
        self.indirect(verb, &known)?;
        self.cascade(kind, verb, &known)?;
        Ok(Ours::new(target, &known))
    }

    /// What the rule of the written table says about statements that cannot travel.
    pub(super) fn leave(&self) -> Unreplicable {
        let own = self.target(&self.statement.kind).ok().flatten();
        own.map_or(Unreplicable::Refuse, |ours| ours.rule.unreplicable)
    }

    /// Functions that write replicated tables.
    pub(super) fn calls(&self) -> Result<(), Refused> {
        let alters = |ddl: &Ddl| ddl.verb == Verb::AlterTable;
        let called = match &self.statement.kind {
            Kind::Call(procedure) => Some(procedure),
            // It names functions, and calls none but for the rows of a table that gets a column.
            Kind::Ddl if !self.statement.ddl.as_deref().is_some_and(alters) => return Ok(()),
            _ => None,
        };
        for call in self.statement.calls.iter().chain(called) {
            let found = self.s.catalog.functions.writing.get(&call.name).into_iter().flatten();
            if let Some(function) = found.into_iter().find(|f| call.schema.is_none_or(|schema| schema == f.schema)) {
                let name = format!("{}.{}", quote::text(&function.schema), quote::text(&call.name));
                return Err(refuse::function(&name, &function.why));
            }
        }
        Ok(())
    }

    /// What is written by hand there would only be an alarm later.
    pub(super) fn not_the_journal(&self, written: &Written) -> Result<(), Refused> {
        let ours = written.schema == Some(Name::from("pgcanon")) && written.name.as_bytes().starts_with(b"journal");
        if ours { Err(refuse::journal(&quote::text(&written.name))) } else { Ok(()) }
    }

    /// Temporary views, and temporary tables with rules or triggers.
    pub(super) fn temporary(&self, verb: &str, written: &Written) -> Result<(), Refused> {
        if self.names.reaches(written) { Err(refuse::temporary(verb, &quote::text(&written.name))) } else { Ok(()) }
    }

    /// Views, tables without a rule that hold tables with one, triggers that write them.
    pub(super) fn indirect(&self, verb: &str, known: &Known<'_>) -> Result<(), Refused> {
        let relation = known.relation.as_ref();
        if let (RelationKind::View, Some(under)) = (relation.kind, relation.covers.first()) {
            return Err(refuse::view(verb, relation, &self.name_of(*under), self.leave_of(*under)));
        }
        if let (Some(reached), None) = (relation.covers.first(), &known.ruled) {
            return Err(refuse::covers(verb, relation, &self.name_of(*reached), self.leave_of(*reached)));
        }
        self.triggers(verb, relation, known.ruled.as_ref().map(|(rule, _)| *rule))
    }

    /// Triggers that write replicated tables themselves, and those that nobody has said what to do with on the peers.
    pub(super) fn triggers(&self, verb: &str, relation: &Relation, rule: Option<&TableRule>) -> Result<(), Refused> {
        match (rule, &relation.trigger_writes) {
            (None, Some(found)) => Err(refuse::trigger(verb, relation, found)),
            (Some(rule), _) if relation.user_trigger && rule.triggers.is_none() => {
                Err(refuse::undecided_triggers(verb, relation, rule))
            }
            _ => Ok(()),
        }
    }

    /// Foreign keys of ruled tables that follow the changes of one without a rule.
    fn cascade(&self, kind: &Kind, verb: &str, known: &Known<'_>) -> Result<(), Refused> {
        let relation = known.relation.as_ref();
        let (Some(reached), None) = (relation.cascades_into.first(), &known.ruled) else { return Ok(()) };
        let referenced = |name: &Name| {
            // Foreign keys refer to unique columns; a column that is not known may be one.
            let at = relation.column(name);
            at.is_none_or(|at| relation.uniques.iter().any(|u| u.columns.contains(&at)))
        };
        let follows = match kind {
            Kind::Delete(_) => true,
            Kind::Update(update) => update.set.iter().any(|a| referenced(&a.column)),
            Kind::Merge(merge) => merge.deletes || merge.assigns.iter().any(referenced),
            Kind::Insert(insert) => insert.on_conflict.as_ref().is_some_and(|c| match &c.action {
                crate::sql::statement::ConflictAction::Nothing => false,
                crate::sql::statement::ConflictAction::Update { set, .. } => set.iter().any(|a| referenced(&a.column)),
            }),
            _ => false,
        };
        match follows {
            true => Err(refuse::cascades(verb, relation, &self.name_of(*reached), self.leave_of(*reached))),
            false => Ok(()),
        }
    }

    fn rule_of(&self, oid: Oid) -> Option<&'a TableRule> {
        self.s.catalog.rules.get(self.s.catalog.relations.get(&oid)?.rule?)
    }

    fn leave_of(&self, oid: Oid) -> Unreplicable {
        self.rule_of(oid).map_or(Unreplicable::Refuse, |rule| rule.unreplicable)
    }

    fn name_of(&self, oid: Oid) -> String {
        self.s.catalog.relations.get(&oid).map_or_else(|| oid.0.to_string(), |relation| relation.name.to_string())
    }

    /// A table made out of a query: a rule may be for it, but the rows that it begins with would be nowhere else.
    pub(super) fn made(&self, relation: &Written) -> Result<(), Refused> {
        if self.is_no_table_of_all(relation) {
            return Ok(());
        }
        let table = quote::text(&relation.name);
        // Without a schema it is made in the first one of search_path; mostly that is `public`.
        let schema = relation.schema.map_or_else(|| "public".to_owned(), |schema| quote::text(&schema));
        let rule = self.s.catalog.rules.iter().find(|rule| rule.name.matches(&schema, &table));
        match rule.filter(|_| !["pg_temp", "pgcanon"].contains(&schema.as_str())) {
            Some(rule) => Err(refuse::made(&table, rule)),
            None => Ok(()),
        }
    }

    /// Whether the words before its name make it a temporary table, or a view.
    fn is_no_table_of_all(&self, relation: &Written) -> bool {
        let before = self.sql.get(..relation.span.start).unwrap_or_default();
        let words: Vec<_> = Lexer::new(before, self.lex()).filter(|token| !token.kind.is_blank()).collect();
        let other =
            |text: &[u8]| [&b"temp"[..], b"temporary", b"view"].iter().any(|word| text.eq_ignore_ascii_case(word));
        words.iter().rev().take(5).take_while(|t| t.kind == TokenKind::Ident).any(|t| other(t.text(before)))
    }

    /// What executes more than its head says: writes in the WITH of a made table.
    pub(super) fn hidden(&self) -> Result<Decision, Refused> {
        match self.s.catalog.write_in(self.sql) {
            Some(found) => Err(refuse::hidden(&found)),
            None => Ok(self.pass()),
        }
    }

    pub(super) fn block(&self, body: Option<&[u8]>) -> Result<Decision, Refused> {
        let Some(body) = body else { return Err(refuse::block_unread()) };
        match self.s.catalog.write_in(body) {
            Some(found) => Err(refuse::block(&found)),
            None => Ok(self.pass()),
        }
    }

    /// What the reader does not understand is let through if it cannot write, or the server cannot even scan it.
    pub(super) fn unreadable(&self) -> Result<Decision, Refused> {
        let lex = self.lex();
        let (mut first, mut named) = (None, None);
        for token in Lexer::new(self.sql, lex).filter(|token| !token.kind.is_blank()) {
            if token.kind.is_error() {
                return Ok(self.pass());
            }
            let Some(word) = ident::fold(token.kind, token.text(self.sql), b'\\', lex.encoding) else { continue };
            let matters = self.s.catalog.by_name.contains_key(&word);
            first = first.or(Some(word));
            named = named.or(matters.then_some(word));
        }
        match (first, named) {
            (Some(first), Some(named)) if WRITING_HEADS.contains(&first.as_bytes()) => {
                Err(refuse::unreadable(&quote::text(&named)))
            }
            _ => Ok(self.pass()),
        }
    }
}
