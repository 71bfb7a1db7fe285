//! Which functions write replicated tables, by the look of their source: a guess that errs towards "it does" (I5).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::catalog::load::Named;
use crate::catalog::relation::{Catalog, Functions, Oid, Relation, WritingFunction};
use crate::catalog::rows::{FunctionRow, RoutineRow};
use crate::sql::{LexOptions, Lexer, Name, Token, TokenKind, ident};

/// Strings within strings that are looked into: what is passed to EXECUTE.
const DEPTH: u8 = 3;

/// The tables whose writes matter, by their last names, each with its schemas; and by OID.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) names: HashMap<Name, Vec<Name>>,
    pub(super) oids: HashSet<Oid>,
}

/// What one body does.
#[derive(Debug, Default)]
struct Seen {
    /// The first write that was found.
    write: Option<String>,
    /// Names before a parenthesis.
    calls: HashSet<Name>,
}

/// The functions that write, as a statement's calls are looked up, and (triggers' functions too) by OID with the reason.
pub(super) fn writing(
    functions: &[FunctionRow],
    routines: &[RoutineRow],
    uses: &[(Oid, Oid)],
    targets: &Targets,
    named: &Named,
) -> (Functions, HashMap<Oid, String>) {
    let is_named = |list: &[String], f: &FunctionRow| {
        list.iter().any(|n| *n == f.name || n.split_once('.') == Some((&f.schema, &f.name)))
    };
    let mut found: HashMap<Oid, String> = HashMap::new();
    let harmless: HashSet<Oid> = functions.iter().filter(|f| is_named(&named.harmless, f)).map(|f| f.oid).collect();
    for f in functions.iter().filter(|f| is_named(&named.writing, f)) {
        found.insert(f.oid, "the configuration names it as writing".into());
    }
    let naming: HashSet<Oid> = uses.iter().filter(|(_, table)| targets.oids.contains(table)).map(|(f, _)| *f).collect();
    let seen: Vec<(Oid, Seen)> =
        routines.iter().filter(|r| !harmless.contains(&r.oid)).map(|r| (r.oid, look(r, &naming, targets))).collect();
    for (oid, seen) in &seen {
        if let Some(write) = &seen.write {
            found.entry(*oid).or_insert_with(|| format!("its body has {write}"));
        }
    }
    spread(functions, &seen, &mut found);
    let mut by_name = Functions::default();
    for f in functions {
        by_name.user.insert(Name::from(f.name.as_str()));
        if let Some(why) = found.get(&f.oid).filter(|_| !f.of_trigger) {
            let entry = WritingFunction { oid: f.oid, schema: Name::from(f.schema.as_str()), why: why.clone() };
            by_name.writing.entry(Name::from(f.name.as_str())).or_default().push(entry);
        }
    }
    (by_name, found)
}

/// Whether a built-in function reads a setting, the catalog, or what differs between nodes, although it is marked immutable.
pub(super) fn looks_elsewhere(name: &str) -> bool {
    const THESE: [&str; 12] = [
        "icu_unicode_version",
        "makeaclitem",
        "pg_encoding_max_length",
        "pg_partition_root",
        "pg_walfile_name",
        "pg_walfile_name_offset",
        "postgresql_fdw_validator",
        "querytree",
        "quote_ident",
        "satisfies_hash_partition",
        "ts_lexize",
        "unicode_version",
    ];
    // Hashes and binary forms can be of OIDs.
    name.starts_with("hash") || name.starts_with("acl") || name.ends_with("send") || THESE.contains(&name)
}

/// What calls one that writes, writes.
fn spread(functions: &[FunctionRow], seen: &[(Oid, Seen)], found: &mut HashMap<Oid, String>) {
    let callable: HashMap<Oid, &FunctionRow> = functions.iter().filter(|f| !f.of_trigger).map(|f| (f.oid, f)).collect();
    let mut fresh: Vec<Oid> = found.keys().copied().collect();
    while !fresh.is_empty() {
        fresh.sort_unstable();
        let names: HashMap<Name, &FunctionRow> =
            fresh.iter().filter_map(|oid| callable.get(oid)).map(|f| (Name::from(f.name.as_str()), *f)).collect();
        fresh.clear();
        for (oid, seen) in seen {
            let called = seen.calls.iter().filter_map(|name| names.get(name)).filter(|f| f.oid != *oid);
            if let Some(f) = called.min_by_key(|f| f.oid)
                && !found.contains_key(oid)
            {
                found.insert(*oid, format!("it calls {}.{}, which writes replicated tables", f.schema, f.name));
                fresh.push(*oid);
            }
        }
    }
}

fn look(routine: &RoutineRow, naming: &HashSet<Oid>, targets: &Targets) -> Seen {
    let mut seen = Seen::default();
    if let Some(source) = &routine.source {
        read(source.as_bytes(), targets, DEPTH, &mut seen);
    }
    if routine.writes == Some(true) && naming.contains(&routine.oid) {
        seen.write = Some("a write and names a replicated table".into());
    }
    seen
}

impl Catalog {
    /// What a body that is executed but no function's (that of a DO) writes of replicated tables, by the look of it.
    #[must_use]
    pub fn write_in(&self, body: &[u8]) -> Option<String> {
        let mut seen = Seen::default();
        read(body, &Targets::new(self.relations.values().map(Arc::as_ref)), DEPTH, &mut seen);
        let called = || {
            let writes = seen.calls.iter().filter_map(|name| self.functions.writing.get(name)).flatten();
            let first = writes.min_by_key(|f| f.oid)?;
            Some(format!("a call of a function, and {}", first.why))
        };
        seen.write.clone().or_else(called)
    }
}

impl Targets {
    /// All that is replicated or leads to it.
    pub(super) fn new<'a>(relations: impl Iterator<Item = &'a Relation>) -> Self {
        let mut targets = Self::default();
        for r in relations {
            if r.rule.is_some() || !r.covers.is_empty() || !r.cascades_into.is_empty() || r.trigger_writes.is_some() {
                let schemas = targets.names.entry(Name::from(r.name.table.as_str())).or_default();
                schemas.push(Name::from(r.name.schema.as_str()));
                targets.oids.insert(r.oid);
            }
        }
        targets
    }
}

fn read(source: &[u8], targets: &Targets, depth: u8, seen: &mut Seen) {
    let tokens: Vec<Token> = Lexer::new(source, LexOptions::default()).filter(|token| !token.kind.is_blank()).collect();
    for (at, token) in tokens.iter().enumerate() {
        let rest = Rest { source, tokens: tokens.get(at..).unwrap_or_default() };
        if seen.write.is_none() {
            seen.write = rest.clone().write(targets);
        }
        if let Some(name) = rest.clone().call() {
            seen.calls.insert(name);
        }
        let is_string = token.kind.is_string() || token.kind == TokenKind::NationalString;
        if let (true, Some(deeper)) = (is_string, depth.checked_sub(1)) {
            read(&content(token.text(source)), targets, deeper, seen);
        }
    }
}

/// The inside of a string, near enough: doubled quotes single.
fn content(text: &[u8]) -> Vec<u8> {
    if text.starts_with(b"$") {
        let tag = text.iter().skip(1).position(|b| *b == b'$').map_or(0, |n| n.saturating_add(2));
        return text.get(tag..text.len().saturating_sub(tag)).unwrap_or_default().to_vec();
    }
    let start = text.iter().position(|b| *b == b'\'').map_or(0, |n| n.saturating_add(1));
    let inner = text.get(start..text.len().saturating_sub(1)).unwrap_or_default();
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(b) = bytes.next() {
        out.push(*b);
        if *b == b'\'' {
            bytes.next();
        }
    }
    out
}

/// Tokens from one on.
#[derive(Clone)]
struct Rest<'a> {
    source: &'a [u8],
    tokens: &'a [Token],
}

impl Rest<'_> {
    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(*first)
    }

    fn take(&mut self, word: &str) -> bool {
        let is = self
            .tokens
            .first()
            .is_some_and(|t| t.kind == TokenKind::Ident && t.text(self.source).eq_ignore_ascii_case(word.as_bytes()));
        if is {
            self.next();
        }
        is
    }

    fn take_sign(&mut self, sign: u8) -> bool {
        let is = self.tokens.first().is_some_and(|t| t.kind == TokenKind::Char(sign));
        if is {
            self.next();
        }
        is
    }

    /// A name of any number of parts: the last two.
    fn name(&mut self) -> Option<(Option<Name>, Name)> {
        let (mut schema, mut name) = (None, self.part()?);
        while self.take_sign(b'.') {
            schema = Some(std::mem::replace(&mut name, self.part()?));
        }
        Some((schema, name))
    }

    fn part(&mut self) -> Option<Name> {
        let token = self.next()?;
        ident::fold(token.kind, token.text(self.source), b'\\', LexOptions::default().encoding)
    }

    /// A verb and a target that matters.
    fn write(mut self, targets: &Targets) -> Option<String> {
        let verb = if self.take("insert") && self.take("into") {
            "INSERT INTO"
        } else if self.take("merge") && self.take("into") {
            "MERGE INTO"
        } else if self.take("delete") && self.take("from") {
            "DELETE FROM"
        } else if self.take("update") {
            "UPDATE"
        } else if self.take("copy") {
            "COPY"
        } else if self.take("truncate") {
            self.take("table");
            "TRUNCATE"
        } else {
            return None;
        };
        loop {
            if self.take("only") {
                self.take_sign(b'(');
            }
            let (schema, name) = self.name()?;
            let known = targets.names.get(&name);
            if known.is_some_and(|schemas| schema.is_none_or(|s| schemas.contains(&s)))
                && (verb != "COPY" || self.clone().copies_in())
            {
                return Some(format!("{verb} {}", String::from_utf8_lossy(name.as_bytes())));
            }
            self.take_sign(b')');
            self.take_sign(b'*');
            if verb != "TRUNCATE" || !self.take_sign(b',') {
                return None;
            }
        }
    }

    /// Behind the table of a COPY: whether it is FROM.
    fn copies_in(mut self) -> bool {
        if self.take_sign(b'(') {
            while !self.tokens.is_empty() && !self.take_sign(b')') {
                self.next();
            }
        }
        self.take("from")
    }

    /// The name of what may be a call.
    fn call(mut self) -> Option<Name> {
        let name = self.part()?;
        self.take_sign(b'(').then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> Targets {
        let names = [("orders", "shop"), ("Odd", "shop")];
        Targets { names: names.map(|(n, s)| (Name::from(n), vec![Name::from(s)])).into(), oids: [Oid(20000)].into() }
    }

    #[test]
    fn a_write_is_a_verb_before_a_name_that_matters() {
        for (source, write) in [
            ("begin insert into orders values (1); end", Some("INSERT INTO orders")),
            ("INSERT /* x */ INTO shop . \"orders\" default values", Some("INSERT INTO orders")),
            ("insert into other.orders values (1)", None),
            ("insert into db.shop.orders values (1)", Some("INSERT INTO orders")),
            ("update only orders set x = 1", Some("UPDATE orders")),
            ("update only (orders) set x = 1", Some("UPDATE orders")),
            ("select 1 from orders for update", None),
            ("delete from \"Odd\" where true", Some("DELETE FROM Odd")),
            ("delete from odd", None),
            ("merge into orders using x on true when matched then delete", Some("MERGE INTO orders")),
            ("truncate a, only b, orders", Some("TRUNCATE orders")),
            ("truncate table orders", Some("TRUNCATE orders")),
            ("copy orders (a, b) from '/tmp/x'", Some("COPY orders")),
            ("copy orders to '/tmp/x'", None),
            ("-- insert into orders\nselect 1", None),
            ("execute 'insert into orders values (' || quote_literal(x) || ')'", Some("INSERT INTO orders")),
            ("execute format($q$delete from shop.orders where a = %L$q$, a)", Some("DELETE FROM orders")),
            ("execute 'do $x$ begin execute ''insert into orders''; end $x$'", Some("INSERT INTO orders")),
            ("select 'it''s', x from y", None),
            ("insert into", None),
            ("insert into orders.", None),
        ] {
            let mut seen = Seen::default();
            read(source.as_bytes(), &targets(), DEPTH, &mut seen);
            assert_eq!(seen.write.as_deref(), write, "{source}");
        }
    }

    fn function(oid: u32, name: &str, of_trigger: bool) -> FunctionRow {
        FunctionRow { oid: Oid(oid), schema: "app".into(), name: name.into(), of_trigger }
    }

    fn source(oid: u32, text: &str) -> RoutineRow {
        RoutineRow { oid: Oid(oid), source: Some(text.into()), writes: None }
    }

    #[test]
    fn what_calls_a_writing_function_writes_and_the_operator_knows_better() {
        let functions = [
            function(1, "add", false),
            function(2, "add_twice", false),
            function(3, "outer", false),
            function(4, "looks", false),
            function(5, "native", false),
            function(6, "trig", true),
            function(7, "pure", false),
            function(8, "parsed", false),
        ];
        let routines = [
            source(1, "insert into orders values (1)"),
            source(2, "begin perform app.add(); perform add(); end"),
            source(3, "select ADD_TWICE()"),
            source(4, "update orders set x = 1"),
            source(6, "begin insert into orders select 1; return new; end"),
            source(7, "select pure(1), count(*) from orders"),
            RoutineRow { oid: Oid(8), source: None, writes: Some(true) },
        ];
        let named = Named { writing: vec!["app.native".into()], harmless: vec!["looks".into()] };
        let (by_name, by_oid) = writing(&functions, &routines, &[(Oid(8), Oid(20000))], &targets(), &named);
        let mut names: Vec<String> = by_name.writing.keys().map(|n| format!("{n:?}")).collect();
        names.sort();
        assert_eq!(names, ["\"add\"", "\"add_twice\"", "\"native\"", "\"outer\"", "\"parsed\""]);
        let why = |name: &str| by_name.writing.get(&Name::from(name)).and_then(|w| w.first()).map(|w| w.why.as_str());
        assert_eq!(why("add"), Some("its body has INSERT INTO orders"));
        assert_eq!(why("outer"), Some("it calls app.add_twice, which writes replicated tables"));
        assert_eq!(why("native"), Some("the configuration names it as writing"));
        assert!(by_oid.contains_key(&Oid(6)) && !by_oid.contains_key(&Oid(7)));
        assert_eq!(by_name.user.len(), 8);
    }
}
