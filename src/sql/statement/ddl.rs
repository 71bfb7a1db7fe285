//! Reads DDL about tables and their indexes: what it acts on, which other relations it names, and what may give something
//! else on another node.

use super::cursor::{Cursor, Tok};
use super::word::Word;
use super::{Ddl, Span, Verb, Written};
use crate::sql::token::TokenKind;

/// Types that bring a default of their own.
const SERIALS: &[&[u8]] = &[b"serial", b"serial2", b"serial4", b"serial8", b"smallserial", b"bigserial"];

/// `CREATE`, `ALTER`, `DROP` or `COMMENT` of what may belong to a table; none for everything else.
pub(super) fn ddl(mut c: Cursor<'_>) -> Option<Ddl> {
    let head = c.word();
    c.at += 1;
    match head {
        Word::Create => create(c),
        Word::Alter => alter(c),
        Word::Drop => drop(c),
        Word::Comment => comment(c),
        _ => None,
    }
}

impl Ddl {
    fn new(verb: Verb) -> Self {
        Self {
            verb,
            targets: Vec::new(),
            parents: Vec::new(),
            others: Vec::new(),
            indexes: Vec::new(),
            if_exists: false,
            cascade: false,
            temporary: false,
            concurrently: false,
            opaque: false,
            rename: None,
            schema: None,
            owner: false,
            values: Vec::new(),
            numbers_rows: false,
        }
    }

    /// Every relation that it names, in the order in which they are asked for.
    #[must_use]
    pub fn names(&self) -> Vec<Written> {
        [&self.targets, &self.parents, &self.others, &self.indexes].into_iter().flatten().copied().collect()
    }
}

// === CREATE ===

fn create(mut c: Cursor<'_>) -> Option<Ddl> {
    if c.says(b"schema") {
        return create_schema(c);
    }
    let index = c;
    c.take(Word::Unique);
    if c.take_said(b"index") {
        return create_index(c);
    }
    c = index;
    let mut ddl = Ddl::new(Verb::CreateTable);
    while c.take_any(&[Word::Local, Word::Global, Word::Unlogged]) {}
    ddl.temporary = c.take_any(&[Word::Temp, Word::Temporary]);
    if !c.take(Word::Table) {
        return None;
    }
    c.take_if_not_exists();
    ddl.targets.push(c.qualified()?);
    if c.take(Word::Partition) && c.take(Word::Of) {
        ddl.parents.push(c.qualified()?);
        if c.is_char(b'(') {
            elements(c.group()?, &mut ddl);
        }
        // Expressions there are evaluated once and for all.
        let bounds = c.until(&[Word::Partition, Word::With, Word::Using], false);
        ddl.values.push(bounds.rest());
    } else {
        if c.take(Word::Of) {
            c.qualified()?;
        }
        if c.is_char(b'(') {
            elements(c.group()?, &mut ddl);
        }
        if c.take_said(b"inherits") {
            ddl.parents.extend(names(c.group()?)?);
        }
    }
    Some(ddl)
}

/// What stands between the parentheses of a CREATE TABLE.
fn elements(mut c: Cursor<'_>, ddl: &mut Ddl) {
    while !c.is_over() {
        let mut element = c.until(&[], true);
        c.take_char(b',');
        references(element, ddl);
        if element.take(Word::Like)
            && let Some(like) = element.qualified()
        {
            ddl.others.push(like);
        }
    }
}

/// What foreign keys refer to.
fn references(mut c: Cursor<'_>, ddl: &mut Ddl) {
    while !c.is_over() {
        c.until(&[Word::References], false);
        if c.take(Word::References)
            && let Some(to) = c.qualified()
        {
            ddl.others.push(to);
        }
    }
}

/// `[CONCURRENTLY] [[IF NOT EXISTS] name] ON [ONLY] table …`
fn create_index(mut c: Cursor<'_>) -> Option<Ddl> {
    let mut ddl = Ddl::new(Verb::CreateIndex);
    ddl.concurrently = c.take(Word::Concurrently);
    c.take_if_not_exists();
    if !c.is(Word::On) {
        c.name()?;
    }
    if !c.take(Word::On) {
        return None;
    }
    c.take(Word::Only);
    ddl.targets.push(c.qualified()?);
    Some(ddl)
}

/// `CREATE SCHEMA [IF NOT EXISTS] name … CREATE TABLE …`: tables are made within.
fn create_schema(mut c: Cursor<'_>) -> Option<Ddl> {
    c.at += 1;
    c.take_if_not_exists();
    let mut schema = None;
    if c.take(Word::Authorization) {
        schema = c.name().map(|(name, _)| name);
    } else if let Some((name, _)) = c.name() {
        schema = Some(name);
    }
    let mut ddl = Ddl::new(Verb::CreateTable);
    ddl.opaque = true;
    while !c.is_over() {
        let made = c.is(Word::Create) && c.word_at(1) == Word::Table;
        c.step();
        if made && c.take(Word::Table) {
            let relation = c.qualified()?;
            ddl.targets.push(Written { schema: relation.schema.or(schema), ..relation });
        }
    }
    (!ddl.targets.is_empty()).then_some(ddl)
}

// === ALTER ===

fn alter(mut c: Cursor<'_>) -> Option<Ddl> {
    if c.take(Word::Table) {
        return alter_table(c);
    }
    if c.take_said(b"index") {
        let mut ddl = Ddl::new(Verb::AlterIndex);
        ddl.if_exists = c.take_if_exists();
        ddl.targets.push(c.qualified()?);
        if c.take_said(b"attach") {
            c.take(Word::Partition);
            ddl.indexes.push(c.qualified()?);
        }
        return Some(ddl);
    }
    if c.take_said(b"schema") {
        let mut ddl = Ddl::new(Verb::AlterSchema);
        ddl.schema = Some(c.name()?.0);
        return c.says(b"rename").then_some(ddl);
    }
    None
}

/// `ALTER TABLE [IF EXISTS] [ONLY] name [*] action, …`; not `ALTER TABLE ALL IN TABLESPACE …`.
fn alter_table(mut c: Cursor<'_>) -> Option<Ddl> {
    let mut ddl = Ddl::new(Verb::AlterTable);
    ddl.if_exists = c.take_if_exists();
    let only = c.take(Word::Only);
    if only && c.is_char(b'(') {
        ddl.targets.push(c.group()?.qualified()?);
    } else {
        ddl.targets.push(c.qualified()?);
    }
    c.take_char(b'*');
    while !c.is_over() {
        let action = c.until(&[], true);
        c.take_char(b',');
        references(action, &mut ddl);
        action_of(action, &mut ddl)?;
    }
    Some(ddl)
}

fn action_of(mut c: Cursor<'_>, ddl: &mut Ddl) -> Option<()> {
    if c.take_said(b"rename") {
        if c.take(Word::To) {
            ddl.rename = Some(c.name()?.0);
        }
    } else if c.take(Word::Set) {
        if c.take_said(b"schema") {
            ddl.schema = Some(c.name()?.0);
        }
    } else if c.take_said(b"inherit") {
        ddl.parents.push(c.qualified()?);
    } else if c.take(Word::No) {
        if c.take_said(b"inherit") {
            ddl.parents.push(c.qualified()?);
        }
    } else if c.take_said(b"attach") {
        c.take(Word::Partition);
        ddl.others.push(c.qualified()?);
        ddl.values.push(c.rest());
    } else if c.take_said(b"detach") {
        c.take(Word::Partition);
        ddl.others.push(c.qualified()?);
        ddl.concurrently |= c.is(Word::Concurrently) || c.says(b"finalize");
    } else if c.take_said(b"owner") {
        ddl.owner = true;
    } else if c.take_said(b"add") {
        add(c, ddl);
    } else if c.take(Word::Alter) {
        // What USING says becomes of the values that are there.
        c.until(&[Word::Using], false);
        if c.take(Word::Using) {
            ddl.values.push(c.rest());
        }
    }
    Some(())
}

/// `ADD [COLUMN] [IF NOT EXISTS] name type …`: with a default, the rows that are there get values.
fn add(mut c: Cursor<'_>, ddl: &mut Ddl) {
    let constraint = [Word::Constraint, Word::Unique, Word::Primary, Word::Foreign, Word::Check].contains(&c.word());
    if constraint
        || c.says(b"exclude") && !c.is_char_at(1, b'.') && (c.word_at(1) == Word::Using || c.is_char_at(1, b'('))
    {
        return;
    }
    c.take(Word::Column);
    c.take_if_not_exists();
    if c.name().is_none() {
        return;
    }
    let mut rest = c;
    let serial = rest.label().is_some_and(|(name, _)| SERIALS.contains(&name.as_bytes()));
    ddl.numbers_rows |= serial;
    while !rest.is_over() {
        rest.until(&[Word::Default, Word::As], false);
        // `BY DEFAULT`, `ON DELETE SET DEFAULT`
        let value = rest.before().is_none_or(|t| !matches!(t.word, Word::By | Word::Set));
        if rest.take(Word::Default) {
            if !value {
                continue;
            }
            // A foreign key behind it holds names that are no calls.
            ddl.values.push(rest.until(&[Word::References, Word::Constraint], false).rest());
        } else if rest.take(Word::As) {
            ddl.numbers_rows |= rest.is(Word::Identity);
        }
    }
}

// === DROP, COMMENT ===

fn drop(mut c: Cursor<'_>) -> Option<Ddl> {
    let verb = match () {
        () if c.take(Word::Table) => Verb::DropTable,
        () if c.take_said(b"index") => Verb::DropIndex,
        () if c.take_said(b"schema") => Verb::DropSchema,
        () => return None,
    };
    let mut ddl = Ddl::new(verb);
    ddl.concurrently = c.take(Word::Concurrently);
    ddl.if_exists = c.take_if_exists();
    loop {
        ddl.targets.push(c.qualified()?);
        if !c.take_char(b',') {
            break;
        }
    }
    ddl.cascade = c.take(Word::Cascade);
    Some(ddl)
}

/// `ON {TABLE name | COLUMN table.column} IS …`
fn comment(mut c: Cursor<'_>) -> Option<Ddl> {
    if !c.take(Word::On) {
        return None;
    }
    let mut ddl = Ddl::new(Verb::Comment);
    if c.take(Word::Table) {
        ddl.targets.push(c.qualified()?);
        return Some(ddl);
    }
    if !c.take(Word::Column) {
        return None;
    }
    let (first, span) = c.name()?;
    let mut parts = vec![(first, span)];
    while c.take_char(b'.') {
        parts.push(c.label()?);
    }
    // The last one is the column.
    parts.pop()?;
    let (name, last) = parts.pop()?;
    let schema = parts.pop().map(|(name, _)| name);
    ddl.targets.push(Written { span: Span { start: span.start, end: last.end }, schema, name });
    Some(ddl)
}

// === words ===

fn names(mut list: Cursor<'_>) -> Option<Vec<Written>> {
    let mut found = Vec::new();
    loop {
        found.push(list.qualified()?);
        if !list.take_char(b',') {
            return Some(found);
        }
    }
}

impl Cursor<'_> {
    /// Whether this word stands here, which means something in this place alone.
    fn says(&self, word: &[u8]) -> bool {
        self.peek().is_some_and(|token| self.is_said(token, word))
    }

    fn is_said(&self, token: &Tok, word: &[u8]) -> bool {
        token.kind == TokenKind::Ident && self.text.bytes(token).eq_ignore_ascii_case(word)
    }

    fn take_said(&mut self, word: &[u8]) -> bool {
        self.step_if(self.says(word))
    }

    fn take_if_exists(&mut self) -> bool {
        let seen = self.is(Word::If) && self.word_at(1) == Word::Exists;
        self.at += if seen { 2 } else { 0 };
        seen
    }

    fn take_if_not_exists(&mut self) -> bool {
        let seen = self.is(Word::If) && self.word_at(1) == Word::Not && self.word_at(2) == Word::Exists;
        self.at += if seen { 3 } else { 0 };
        seen
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed one is a failed test")]
mod tests {
    use super::*;
    use crate::sql::lexer::LexOptions;
    use crate::sql::name::Name;
    use crate::sql::statement::read;

    fn of(sql: &str) -> Option<Ddl> {
        read(sql.as_bytes(), LexOptions::default()).ddl.map(|ddl| *ddl)
    }

    fn text(sql: &str, span: Span) -> &str {
        &sql[span.start..span.end]
    }

    /// Targets, parents, others, indexes: as they stand in the text.
    fn said(sql: &str) -> [String; 4] {
        let ddl = of(sql).unwrap_or_else(|| panic!("{sql}"));
        [ddl.targets, ddl.parents, ddl.others, ddl.indexes]
            .map(|all| all.iter().map(|w| text(sql, w.span)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn every_relation_is_found() {
        for (sql, expected) in [
            ("create table t (a int references p(id), b int, foreign key (b) references s.q)", ["t", "", "p s.q", ""]),
            ("create table if not exists s.t (like o including all, x text check (x like 'a'))", ["s.t", "", "o", ""]),
            ("create unlogged table t () inherits (a, b.c) with (fillfactor = 70)", ["t", "a b.c", "", ""]),
            ("create table p1 partition of p (check (a > 0)) for values in (1)", ["p1", "p", "", ""]),
            ("create unique index if not exists i on only s.t using btree (lower(a)) where b", ["s.t", "", "", ""]),
            ("create index on t (a)", ["t", "", "", ""]),
            ("create index concurrently \"on\" on t (a)", ["t", "", "", ""]),
            ("alter table only t add constraint c foreign key (a) references p, drop column x", ["t", "", "p", ""]),
            ("alter table if exists t * inherit p, no inherit q", ["t", "p q", "", ""]),
            ("alter table t attach partition t1 default", ["t", "", "t1", ""]),
            ("alter table t add constraint c check (a > 0) no inherit", ["t", "", "", ""]),
            ("alter index a attach partition b", ["a", "", "", "b"]),
            ("drop table if exists a, b.c cascade", ["a b.c", "", "", ""]),
            ("drop index a", ["a", "", "", ""]),
            ("comment on column t.c is 'x'", ["t", "", "", ""]),
            ("comment on column \"S\".t.c is null", ["\"S\".t", "", "", ""]),
            ("create schema s create table t (a int) create table o.u (b int)", ["t o.u", "", "", ""]),
        ] {
            assert_eq!(said(sql), expected.map(str::to_owned), "{sql}");
        }
    }

    #[test]
    fn what_is_about_no_table_is_none_of_it() {
        for sql in [
            "create function f() returns int language sql as 'select 1'",
            "alter table all in tablespace x set tablespace y",
            "create schema s",
            "comment on function f() is 'x'",
            "alter sequence s restart",
            "drop view v",
            "create table t as select 1",
            "grant select on t to x",
        ] {
            assert_eq!(of(sql), None, "{sql}");
        }
    }

    #[test]
    fn values_for_rows_that_are_there_are_told_from_those_for_new_ones() {
        let values = |sql: &str| {
            let ddl = of(sql).unwrap();
            let values: Vec<String> = ddl.values.iter().map(|span| text(sql, *span).to_owned()).collect();
            (values.join("|"), ddl.numbers_rows)
        };
        for (sql, expected, numbers) in [
            ("alter table t add column x int default f(1) not null references p(id)", "f(1) not null", false),
            ("alter table t add x bigserial, add y int", "", true),
            ("alter table t add x int generated by default as identity", "", true),
            ("alter table t add x int generated always as (a + 1) stored", "", false),
            ("alter table t alter x set default random()", "", false),
            ("alter table t alter column x type int using random()::int, drop y", "random()::int", false),
            (
                "create table p1 partition of p for values from (now()) to (maxvalue)",
                "for values from (now()) to (maxvalue)",
                false,
            ),
            (
                "create table p1 partition of p for values from (0) to (9) partition by range (lower(a)) with (x = 1)",
                "for values from (0) to (9)",
                false,
            ),
            ("create table t (id serial, at timestamptz default now())", "", false),
            ("alter table t add check (a > random()), add constraint serial unique (a)", "", false),
        ] {
            assert_eq!(values(sql), (expected.to_owned(), numbers), "{sql}");
        }
    }

    #[test]
    fn what_is_special_about_it_is_noted() {
        assert!(of("drop index concurrently i").unwrap().concurrently);
        assert!(of("alter table t detach partition p concurrently").unwrap().concurrently);
        assert!(!of("alter table t detach partition p").unwrap().concurrently);
        assert!(of("create temp table t (a int)").unwrap().temporary);
        assert_eq!(of("alter table t rename to \"U\"").unwrap().rename, Some(Name::from("U")));
        assert_eq!(of("alter table t rename a to b").unwrap().rename, None);
        assert_eq!(of("alter table t set schema s").unwrap().schema, Some(Name::from("s")));
        assert!(of("alter table t owner to joe").unwrap().owner);
        assert_eq!(of("alter schema s rename to u").unwrap().schema, Some(Name::from("s")));
    }
}
