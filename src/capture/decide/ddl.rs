//! DDL about tables with a rule (§9): it travels as a text of its own that names every relation in full, or it is refused.

use std::sync::{Arc, OnceLock};

use crate::capture::write::{BlockForm, Decision, Write};
use crate::catalog::scene::{Found, Looked, Member, Scene};
use crate::config::{Ddl as Wish, TableName, TableRule};
use crate::journal::entry::{Extra, Head, Lane, Op, Place, Text};
use crate::sql::statement::{Ddl, Span, Verb, Written};
use crate::sql::{Lexer, Name};

use super::target;
use super::{Case, Refused, quote, refuse};

/// A table that the statement acts on (or the table of an index), and the rule that it travels by.
struct Actor<'a> {
    written: Written,
    rule: &'a TableRule,
    /// As it is called here, or will be; of an index its own name.
    name: TableName,
    is_index: bool,
    /// What the rule names: itself, or what it is a partition of.
    head: TableName,
    /// Whether its own name is one that the rule names.
    named: bool,
    owner: Option<&'a str>,
}

/// A name as it stands in the text that travels.
struct Spelled {
    sql: String,
    /// How much of its beginning is put in anew on each peer, and for which table: all of it, or the schema alone.
    place: Option<(usize, TableName)>,
}

/// The text that travels, as far as it is made.
#[derive(Default)]
struct Made {
    sql: Vec<u8>,
    names: Vec<Place>,
}

impl Case<'_> {
    pub(super) fn ddl(&self) -> Result<Decision, Refused> {
        let Some(ddl) = self.statement.ddl.as_deref() else { return Ok(self.pass()) };
        if ddl.temporary || self.s.catalog.rules.is_empty() {
            return Ok(self.pass());
        }
        if matches!(ddl.verb, Verb::DropSchema | Verb::AlterSchema) {
            return self.whole_schemas(ddl);
        }
        let Some(scene) = self.names.scene(&ddl.names()) else { return Ok(self.pass()) };
        let mut actors = Vec::new();
        for (written, looked) in ddl.targets.iter().zip(&scene.names) {
            let actor = match ddl.verb {
                Verb::CreateTable => self.made_table(ddl, *written, looked, &scene),
                _ => looked.found.as_ref().and_then(|found| self.actor(*written, found)),
            };
            match actor {
                Some(actor) => actors.push(actor),
                None => self.stays_unruled(ddl, looked, &scene)?,
            }
        }
        if let Some(actor) = actors.iter().find(|actor| actor.rule.ddl == Wish::Refuse) {
            return Err(refuse::ddl_unwanted(words(ddl), &actor.head.to_string()));
        }
        actors.retain(|actor| actor.rule.ddl == Wish::Replicate);
        for actor in &actors {
            self.faithful(ddl, actor, &scene)?;
        }
        let Some(first) = actors.first() else { return Ok(self.pass()) };
        let heads = match ddl.verb {
            Verb::DropTable | Verb::DropIndex => self.drops(ddl, &actors, &scene),
            _ => vec![self.head(first, self.named_in_full(ddl, first, &scene)?, role(ddl, &[first], &scene), &scene)],
        };
        Ok(Decision::Write(Arc::new(Write {
            lane: Lane::Locked,
            reason: "DDL, which locks out everyone else",
            tag: "",
            returning: false,
            heads,
            forms: OnceLock::new(),
            expect: None,
            binary_params: Vec::new(),
            otherwise: None,
            block: BlockForm::AsIs,
            alone: None,
            late: false,
            deferrable: false,
            before: Vec::new(),
            fresh_snapshot: false,
            unsettles: self.unsettles,
            acked: target::acked(actors.iter().map(|actor| actor.rule)),
        })))
    }

    // === who it acts on ===

    /// The first rule for this name; none for what belongs to the server or to pgcanon.
    fn position(&self, schema: &str, table: &str) -> Option<usize> {
        if schema.starts_with("pg_") || ["information_schema", "pgcanon"].contains(&schema) {
            return None;
        }
        self.s.catalog.rules.iter().position(|rule| rule.name.matches(schema, table))
    }

    /// The rule of a table in such a line: the first one that names any of them.
    fn rule_of_line(&self, line: &[Member]) -> Option<usize> {
        line.iter().filter_map(|Member(schema, table, _)| self.position(schema, table)).min()
    }

    fn actor<'s>(&'s self, written: Written, found: &'s Found) -> Option<Actor<'s>> {
        if found.temporary || !(found.is_table() || found.is_index()) {
            return None;
        }
        let name = TableName { schema: found.schema.clone(), table: found.name.clone() };
        let actor = self.of_line(written, name, &found.line)?;
        Some(Actor { is_index: found.is_index(), owner: Some(&found.owner), ..actor })
    }

    /// A table that is to be made.
    fn made_table(&self, ddl: &Ddl, written: Written, looked: &Looked, scene: &Scene) -> Option<Actor<'_>> {
        let schema = match &written.schema {
            Some(schema) => quote::text(schema),
            None => scene.schema.clone()?,
        };
        if schema.starts_with("pg_temp") {
            return None;
        }
        let name = TableName { schema, table: looked.asked.clone() };
        let mut line = vec![Member(name.schema.clone(), name.table.clone(), 'r')];
        for parent in parents(ddl, scene).iter().filter_map(|parent| parent.found.as_ref()) {
            line.extend(parent.line.iter().cloned());
        }
        self.of_line(written, name, &line)
    }

    fn of_line(&self, written: Written, name: TableName, line: &[Member]) -> Option<Actor<'_>> {
        let at = self.rule_of_line(line)?;
        let rule = self.s.catalog.rules.get(at)?;
        let mut ruled = line.iter().filter(|Member(schema, table, _)| self.position(schema, table) == Some(at));
        let first = ruled.next()?;
        // Partitions travel as the outermost table that the rule names.
        let Member(schema, table, _) = ruled.rfind(|Member(.., kind)| *kind == 'p').unwrap_or(first);
        let head = TableName { schema: schema.clone(), table: table.clone() };
        let named = self.position(&name.schema, &name.table) == Some(at);
        Some(Actor { written, rule, name, is_index: false, head, named, owner: None })
    }

    /// What no rule is for must not come under one with the rows that it has.
    fn stays_unruled(&self, ddl: &Ddl, looked: &Looked, scene: &Scene) -> Result<(), Refused> {
        let Some(found) = looked.found.as_ref().filter(|found| found.is_table() && !found.temporary) else {
            return Ok(());
        };
        let renamed = self.renamed(ddl, found).and_then(|(schema, table)| self.position(&schema, &table));
        let inherits =
            || parents(ddl, scene).iter().filter_map(|p| p.found.as_ref()).find_map(|f| self.rule_of_line(&f.line));
        let rule = renamed.or_else(inherits).and_then(|at| self.s.catalog.rules.get(at));
        match rule.filter(|rule| rule.ddl != Wish::Local) {
            Some(rule) => Err(refuse::ddl_joins(words(ddl), &format!("{}.{}", found.schema, found.name), rule)),
            None => Ok(()),
        }
    }

    /// What a table will be called.
    fn renamed(&self, ddl: &Ddl, found: &Found) -> Option<(String, String)> {
        match (&ddl.rename, &ddl.schema) {
            (None, None) => None,
            (Some(to), _) => Some((found.schema.clone(), quote::text(to))),
            (None, Some(to)) => Some((quote::text(to), found.name.clone())),
        }
    }

    /// Schemas that go, or get another name, with ruled tables in them.
    fn whole_schemas(&self, ddl: &Ddl) -> Result<Decision, Refused> {
        let schemas: Vec<Name> = ddl.schema.into_iter().chain(ddl.targets.iter().map(|written| written.name)).collect();
        let catalog = self.s.catalog;
        let mut ruled: Vec<_> = catalog.relations.values().collect();
        ruled.sort_by_key(|relation| &relation.name);
        for relation in ruled {
            let Some(rule) = relation.rule.and_then(|at| catalog.rules.get(at)) else { continue };
            let inside = schemas.iter().any(|schema| schema.as_bytes() == relation.name.schema.as_bytes());
            if inside && rule.ddl != Wish::Local && (ddl.verb == Verb::AlterSchema || ddl.cascade) {
                return Err(refuse::ddl_schema(words(ddl), &relation.name.to_string(), rule));
            }
        }
        Ok(self.pass())
    }

    // === whether it can travel ===

    fn faithful(&self, ddl: &Ddl, actor: &Actor<'_>, scene: &Scene) -> Result<(), Refused> {
        let refused =
            |detail: &str, hint: &str| Err(refuse::ddl(words(ddl), &actor.head.to_string(), actor.rule, detail, hint));
        if ddl.concurrently {
            return refused(
                "It cannot run in a transaction, and so not be journalled with what it does.",
                "Leave CONCURRENTLY out, or run it on each node by itself with ddl = \"local\" in the rule.",
            );
        }
        if ddl.opaque {
            return refused(
                "It makes a table within another statement.",
                "Write CREATE SCHEMA and CREATE TABLE apart.",
            );
        }
        if actor.rule.columns.is_some() {
            return refused(
                "Only some of the table's columns are on the other nodes.",
                "Run it on each node by itself with ddl = \"local\" in the rule.",
            );
        }
        if actor.rule.filter.is_some() && ddl.verb == Verb::DropTable {
            return refused(
                "Other nodes may hold rows in it that do not meet the rule's condition.",
                "Run it on each node by itself with ddl = \"local\" in the rule.",
            );
        }
        if ddl.rename.is_some() || ddl.schema.is_some() {
            let found = scene.names.first().and_then(|looked| looked.found.as_ref());
            if let Some((found, (schema, table))) = found.and_then(|found| Some((found, self.renamed(ddl, found)?))) {
                let mut line = found.line.clone();
                if let Some(first) = line.first_mut() {
                    *first = Member(schema, table, found.kind);
                }
                let same = self.rule_of_line(&line) == self.rule_of_line(&found.line);
                // A partition that no rule names has its own name on every node.
                let own = actor.rule.rename.is_empty() || ddl.rename.is_some() && !actor.named;
                if !(found.is_index() || same && own) {
                    return refused(
                        "By its new name another rule would be for the table, or none, or it is called otherwise on another node.",
                        "Run it on each node by itself with ddl = \"local\" in the rule, and change the rules.",
                    );
                }
            }
        }
        self.steady_values(ddl).or_else(|why| {
            refused(why, "Add the column without that, and UPDATE the rows; then ALTER the column's default.")
        })?;
        let loose = !self.s.standard_conforming_strings && self.has_backslash();
        if loose || self.statement.moment_strings && ddl.verb != Verb::Comment {
            let detail = if loose {
                "standard_conforming_strings is off, and it has backslashes in strings."
            } else {
                "A string such as 'now' in it would be another moment on another node."
            };
            return refused(detail, "Write E'...' strings, and functions such as now() in the place of words.");
        }
        if ddl.verb == Verb::AlterTable
            && let Some(part) = self.unruled_part(ddl, scene)
        {
            return refused(
                &format!("No rule is for \"{part}\", whose rows would come with it."),
                "Make a rule for it first, or make it as an empty partition and INSERT the rows.",
            );
        }
        Ok(())
    }

    /// Whether what it computes for the rows that are there comes out the same on every node.
    fn steady_values(&self, ddl: &Ddl) -> Result<(), &'static str> {
        if ddl.numbers_rows {
            return Err("It numbers the rows that are there, in an order that is each node's own.");
        }
        if ddl.values.iter().all(|span| span.start >= span.end) {
            return Ok(());
        }
        let functions = &self.s.catalog.functions;
        let within = |call: &&Written| ddl.values.iter().any(|s| (s.start..s.end).contains(&call.span.start));
        let unsteady = |call: &Written| match call.schema {
            Some(schema) if schema != Name::from("pg_catalog") => true,
            None if functions.user.contains(&call.name) => true,
            _ => !functions.immutable.contains(&call.name),
        };
        let moods = self.statement.moods;
        if moods.clock
            || moods.who
            || self.statement.calls.iter().filter(within).any(unsteady)
            || self.has_user_operator()
        {
            return Err("It computes values that may be others on another node.");
        }
        Ok(())
    }

    fn has_backslash(&self) -> bool {
        let loose = |text: &[u8]| text.first() == Some(&b'\'') && text.contains(&b'\\');
        Lexer::new(self.sql, self.lex()).any(|token| token.kind.is_string() && loose(token.text(self.sql)))
    }

    /// A table without a rule that becomes a part of this one.
    fn unruled_part(&self, ddl: &Ddl, scene: &Scene) -> Option<String> {
        let bounds = !ddl.values.is_empty();
        let others = others(ddl, scene).iter().filter(|_| bounds && ddl.others.len() == 1);
        let found =
            others.filter_map(|looked| looked.found.as_ref()).find(|found| self.rule_of_line(&found.line).is_none());
        found.filter(|_| self.attaches(ddl)).map(|found| format!("{}.{}", found.schema, found.name))
    }

    /// Whether a partition is attached: then what is evaluated are its bounds, behind its name.
    fn attaches(&self, ddl: &Ddl) -> bool {
        let (Some(part), Some(bounds)) = (ddl.others.first(), ddl.values.first()) else { return false };
        part.span.end <= bounds.start
            && self.sql.get(part.span.end..bounds.start).is_some_and(|between| between.trim_ascii().is_empty())
    }

    // === what travels ===

    /// One text for all that go to the same peers: tables that hang together go together.
    fn drops(&self, ddl: &Ddl, actors: &[Actor<'_>], scene: &Scene) -> Vec<Head> {
        let mut groups: Vec<Vec<&Actor<'_>>> = Vec::new();
        for actor in actors {
            match groups.iter_mut().find(|group| group.iter().any(|other| other.rule.peers == actor.rule.peers)) {
                Some(group) => group.push(actor),
                None => groups.push(vec![actor]),
            }
        }
        let texts = groups.iter().filter_map(|group| {
            let mut made = Made::default();
            made.put(words(ddl));
            made.put(if ddl.if_exists { " IF EXISTS " } else { " " });
            for (at, actor) in group.iter().enumerate() {
                made.put(if at > 0 { ", " } else { "" });
                made.spell(&self.spelled(actor));
            }
            made.put(if ddl.cascade { " CASCADE" } else { "" });
            Some(self.head(group.first()?, made, role(ddl, group, scene), scene))
        });
        texts.collect()
    }

    /// The client's text with every relation named in full.
    fn named_in_full(&self, ddl: &Ddl, actor: &Actor<'_>, scene: &Scene) -> Result<Made, Refused> {
        let mut spelled: Vec<(Span, Spelled)> = vec![(actor.written.span, self.spelled(actor))];
        for (written, looked) in ddl.names().into_iter().zip(&scene.names).skip(ddl.targets.len()) {
            // What is not there the server itself will miss.
            let Some(found) = looked.found.as_ref().filter(|found| !found.temporary) else { continue };
            let name = TableName { schema: found.schema.clone(), table: found.name.clone() };
            let other = self.actor(written, found);
            if let Some(other) = other.as_ref().filter(|other| !reaches(other.rule, actor.rule)) {
                let detail = format!("It names \"{}\", which does not go to the same peers.", other.head);
                let hint = "Run it on each node by itself with ddl = \"local\" in the rule.";
                return Err(refuse::ddl(words(ddl), &actor.head.to_string(), actor.rule, &detail, hint));
            }
            let full = match other {
                Some(other) => self.spelled(&other),
                None => Spelled { sql: quote::table(&name, self.s.encoding), place: None },
            };
            spelled.push((written.span, full));
        }
        spelled.sort_by_key(|(span, _)| span.start);
        let mut made = Made::default();
        let mut at = 0;
        for (span, name) in &spelled {
            made.sql.extend_from_slice(self.sql.get(at..span.start).unwrap_or_default());
            made.spell(name);
            at = span.end;
        }
        made.sql.extend_from_slice(self.sql.get(at..self.statement.end).unwrap_or_default());
        Ok(made)
    }

    /// What is not named by the rule itself stands beside what is, on every node.
    fn spelled(&self, actor: &Actor<'_>) -> Spelled {
        let encoding = self.s.encoding;
        let sql = quote::table(&actor.name, encoding);
        let place = match () {
            () if actor.named && !actor.is_index => Some((sql.len(), actor.name.clone())),
            () if actor.name.schema == actor.head.schema => {
                Some((quote::ident(&actor.name.schema, encoding).len(), actor.head.clone()))
            }
            () => None,
        };
        Spelled { sql, place }
    }

    fn head(&self, actor: &Actor<'_>, made: Made, role: Option<&str>, scene: &Scene) -> Head {
        let path: Vec<String> =
            scene.path.iter().filter(|s| !s.starts_with("pg_temp")).map(|s| quote::ident(s, "UTF8")).collect();
        let mut settings = (self.s.settings)();
        settings.push(("search_path".to_owned(), path.join(", ")));
        settings.extend(role.map(|role| ("role".to_owned(), role.to_owned())));
        Head {
            lane: Lane::Locked,
            op: Op::Ddl,
            schema: actor.head.schema.clone(),
            table: actor.head.table.clone(),
            rule: actor.rule.name.to_string(),
            encoding: self.s.encoding.to_owned(),
            shape: [0; 8],
            columns: Vec::new(),
            extra: Extra::None,
            text: Some(Text { sql: made.sql, params: Vec::new(), names: made.names, settings }),
            rows: None,
        }
    }
}

// === impl Made ===

impl Made {
    fn put(&mut self, words: &str) {
        self.sql.extend_from_slice(words.as_bytes());
    }

    fn spell(&mut self, name: &Spelled) {
        let at = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let start = self.sql.len();
        if let Some((len, TableName { schema, table })) = &name.place {
            let (schema, table) = (schema.clone(), table.clone());
            self.names.push(Place { start: at(start), end: at(start.saturating_add(*len)), schema, table });
        }
        self.put(&name.sql);
    }
}

fn parents<'s>(ddl: &Ddl, scene: &'s Scene) -> &'s [Looked] {
    let from = ddl.targets.len();
    scene.names.get(from..from.saturating_add(ddl.parents.len())).unwrap_or_default()
}

fn others<'s>(ddl: &Ddl, scene: &'s Scene) -> &'s [Looked] {
    let from = ddl.targets.len().saturating_add(ddl.parents.len());
    scene.names.get(from..from.saturating_add(ddl.others.len())).unwrap_or_default()
}

/// Whether a table of the one rule is wherever the other's are.
fn reaches(one: &TableRule, other: &TableRule) -> bool {
    match (&one.peers, &other.peers) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => other.iter().all(|peer| one.contains(peer)),
    }
}

/// As whom a peer runs it: who makes a table owns it, and who owns one may change it.
fn role<'a>(ddl: &Ddl, actors: &[&Actor<'a>], scene: &'a Scene) -> Option<&'a str> {
    match ddl.verb {
        Verb::CreateTable => Some(&scene.role),
        // It takes more than the owner.
        _ if ddl.owner => None,
        _ => {
            let mut owners = actors.iter().map(|actor| actor.owner);
            let first = owners.next()??;
            owners.all(|owner| owner == Some(first)).then_some(first)
        }
    }
}

/// How such a statement begins.
fn words(ddl: &Ddl) -> &'static str {
    match ddl.verb {
        Verb::CreateTable => "CREATE TABLE",
        Verb::CreateIndex if ddl.concurrently => "CREATE INDEX CONCURRENTLY",
        Verb::CreateIndex => "CREATE INDEX",
        Verb::AlterTable => "ALTER TABLE",
        Verb::AlterIndex => "ALTER INDEX",
        Verb::AlterSchema => "ALTER SCHEMA",
        Verb::DropTable => "DROP TABLE",
        Verb::DropIndex if ddl.concurrently => "DROP INDEX CONCURRENTLY",
        Verb::DropIndex => "DROP INDEX",
        Verb::DropSchema => "DROP SCHEMA",
        Verb::Comment => "COMMENT",
    }
}
