//! The lanes of statements over a small catalog.

mod ddl;
mod lanes;
mod refusals;
mod texts;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Executed, Surroundings, decide, decide_execute};
use crate::capture::write::{Ask, Blind, Decision, Meaning, Refusal, Write};
use crate::catalog::relation::{
    Catalog, Column, Functions, Identity, Moments, Oid, Relation, RelationKind, Travels, TypeSort, Unique, Volatility,
    WritingFunction,
};
use crate::catalog::scene::{Found, Looked, Member, Scene};
use crate::config::{Config, TableName, TableRule};
use crate::journal::entry::Lane;
use crate::sql::statement::{Written, read};
use crate::sql::{LexOptions, Name};

/// A node and a session on it.
struct Node {
    catalog: Catalog,
    blind: Blind,
    row_security: bool,
    encoding: &'static str,
    conforming: bool,
    params: Vec<u32>,
    shadowed: bool,
    asked: bool,
}

/// `name type` and flags behind it: `!` not null, `now` a stable default, `serial`, `always`, `gen`, `text` travels as text.
fn column(spec: &str) -> Column {
    let (name, rest) = spec.split_once(' ').unwrap();
    let flag = |f: &str| rest.contains(&format!("<{f}>"));
    let type_name = rest.split('<').next().unwrap().trim().to_owned();
    let sort = match type_name.as_str() {
        t if t.contains("time") || t == "date" => TypeSort::Time,
        "json" | "inet" | "integer[]" | "text[]" => TypeSort::Constant,
        "money" | "regclass" | "pair" => TypeSort::Session,
        _ => TypeSort::Plain,
    };
    Column {
        name: Name::from(name),
        type_name,
        not_null: flag("!"),
        generated: flag("gen"),
        identity: flag("always").then_some(Identity::Always),
        default: match (flag("now"), flag("serial") || flag("always")) {
            (true, _) => Volatility::Stable,
            (_, true) => Volatility::Volatile,
            _ => Volatility::Immutable,
        },
        travels: if flag("text") { Travels::Text } else { Travels::Binary },
        sort,
        moments: if sort == TypeSort::Time { Moments::Plain } else { Moments::No },
    }
}

fn table(oid: u32, name: &str, key: &[usize], columns: &[&str]) -> Relation {
    let (schema, table) = name.split_once('.').unwrap();
    let unique = Unique { columns: key.to_vec(), deferrable: false, special: false };
    Relation {
        oid: Oid(oid),
        name: TableName { schema: schema.into(), table: table.into() },
        kind: RelationKind::Table,
        rule: Some(0),
        root: None,
        columns: columns.iter().map(|c| column(c)).collect(),
        key: (!key.is_empty()).then(|| key.to_vec()),
        uniques: if key.is_empty() { vec![] } else { vec![unique] },
        before_row_trigger: false,
        user_trigger: false,
        rewrite_rule: false,
        row_security: false,
        late: false,
        deferrable: false,
        cascades_into: vec![],
        covers: vec![],
        trigger_writes: None,
        truncates: vec![],
        shape: [7; 8],
    }
}

fn rules(text: &str) -> Vec<TableRule> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("[node]\nname = \"a\"\n{text}")).unwrap();
    Config::load(file.path()).unwrap().tables
}

const ACC: &[&str] = &[
    "id integer<!>",
    "bal bigint",
    "name text",
    "at timestamp with time zone",
    "doc json",
    "cash money",
    "f double precision",
    "mood mood",
    "raw bytea",
    "tags text[]",
];

/// What the tests write: `acc` with a plain key, `log` with a serial and a clock in its defaults, `two` with two key columns,
/// `uni` with another unique key, `bare` without a key, `part` with partition `part_1`, `other.far` without a rule.
fn node() -> Node {
    let mut part = table(20, "public.part", &[0], &["id integer<!>", "v integer"]);
    part.kind = RelationKind::Partitioned;
    let mut leaf = table(21, "public.part_1", &[1], &["v integer", "id integer<!>"]);
    leaf.root = Some(Oid(20));
    let mut uni = table(13, "public.uni", &[0], &["id integer<!>", "code text<!>", "v integer"]);
    uni.uniques.push(Unique { columns: vec![1], deferrable: false, special: false });
    let mut far = table(30, "other.far", &[0], &["id integer<!>", "v integer"]);
    far.rule = None;
    far.cascades_into = vec![Oid(10)];
    let mut seen = table(31, "public.seen", &[], &["id integer"]);
    (seen.kind, seen.rule, seen.covers) = (RelationKind::View, None, vec![Oid(10)]);
    let mut over = table(32, "other.over", &[0], &["id integer<!>"]);
    (over.rule, over.covers) = (None, vec![Oid(20)]);
    let mut fires = table(33, "other.fires", &[0], &["id integer<!>"]);
    (fires.rule, fires.trigger_writes) = (None, Some("its body has INSERT INTO acc".into()));
    let relations = [
        table(10, "public.acc", &[0], ACC),
        table(
            11,
            "public.log",
            &[0],
            &["id integer<!><serial>", "what text", "at timestamp with time zone<now>", "up text<gen>", "p pair<text>"],
        ),
        table(12, "public.two", &[0, 1], &["a integer<!>", "b text<!>", "v integer"]),
        uni,
        table(14, "public.bare", &[], &["a integer", "b text"]),
        part,
        leaf,
        far,
        seen,
        over,
        fires,
    ];
    let writing =
        WritingFunction { oid: Oid(99), schema: Name::from("app"), why: "its body has INSERT INTO acc".into() };
    let names = |list: &[&str]| list.iter().map(|n| Name::from(*n)).collect::<HashSet<_>>();
    let mut by_name: HashMap<Name, Vec<Oid>> = HashMap::new();
    for r in &relations {
        by_name.entry(Name::from(r.name.table.as_str())).or_default().push(r.oid);
    }
    let catalog = Catalog {
        version: 1,
        server: 150_000,
        rules: rules("[[table]]\nname = \"public.*\"\n").into(),
        relations: relations.map(|r| (r.oid, Arc::new(r))).into(),
        by_name,
        functions: Functions {
            immutable: names(&["abs", "upper", "lower", "round", "length", "md5", "sqrt"]),
            user: names(&["mine", "md5"]),
            writing: HashMap::from([(Name::from("book"), vec![writing])]),
        },
        user_operators: names(&["@@@"]),
    };
    Node {
        catalog,

        blind: Blind::NOWHERE,
        row_security: false,
        encoding: "UTF8",
        conforming: true,
        params: vec![],
        shadowed: false,
        asked: true,
    }
}

impl Node {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn relation(&mut self, oid: u32, change: impl FnOnce(&mut Relation)) {
        let mut relation = Relation::clone(&self.catalog.relations[&Oid(oid)]);
        change(&mut relation);
        self.catalog.relations.insert(Oid(oid), Arc::new(relation));
    }

    fn meaning(&self, written: &Written) -> Option<Meaning> {
        let found = self.catalog.by_name.get(&written.name).into_iter().flatten();
        let in_schema = |oid: &&Oid| {
            let name = &self.catalog.relations[oid].name;
            written.schema.is_none_or(|s| s.as_bytes() == name.schema.as_bytes())
        };
        let oid = found.into_iter().find(in_schema).copied().filter(|_| !self.shadowed);
        let schema = Name::from("public");
        let reaches = self.shadowed && written.name == Name::from("seen");
        let known = Meaning { oid, schema, blind: self.blind, row_security: self.row_security, reaches };
        self.asked.then_some(known)
    }

    fn surroundings<T>(&self, then: impl FnOnce(&Surroundings<'_>) -> T) -> T {
        then(&Surroundings {
            catalog: &self.catalog,
            meaning: &|written| self.meaning(written),
            encoding: self.encoding,
            standard_conforming_strings: self.conforming,
            params: &self.params,
            settings: &|| vec![("TimeZone".into(), "UTC".into())],
            scene: &|names| self.asked.then(|| Arc::new(self.scene(names))),
        })
    }

    /// As app, with `search_path` public; `i_…` is an index of the table of the rest of its name.
    fn scene(&self, names: &[Written]) -> Scene {
        let text = |name: &Name| String::from_utf8(name.as_bytes().to_vec()).unwrap();
        let member = |r: &Relation, kind| Member(r.name.schema.clone(), r.name.table.clone(), kind);
        let look = |written: &Written| {
            let asked = text(&written.name);
            let index = asked.strip_prefix("i_");
            let table = Written { name: Name::from(index.unwrap_or(&asked)), ..*written };
            let found = self.meaning(&table).and_then(|m| m.oid).map(|oid| {
                let relation = &self.catalog.relations[&oid];
                let mut line = vec![member(relation, 'r')];
                line.extend(relation.root.map(|root| member(&self.catalog.relations[&root], 'p')));
                let kind = match relation.kind {
                    _ if index.is_some() => 'i',
                    RelationKind::View => 'v',
                    RelationKind::Partitioned => 'p',
                    _ => 'r',
                };
                let schema = relation.name.schema.clone();
                Found { schema, name: asked.clone(), kind, temporary: false, owner: "boss".into(), line }
            });
            Looked { asked, found }
        };
        let names = names.iter().map(look).collect();
        Scene { schema: Some("public".into()), path: vec!["public".into()], role: "app".into(), names }
    }

    fn lex(&self) -> LexOptions {
        LexOptions { standard_conforming_strings: self.conforming, ..LexOptions::default() }
    }

    fn ask(&self, sql: &str) -> Result<Decision, Ask> {
        self.surroundings(|s| decide(sql.as_bytes(), &read(sql.as_bytes(), self.lex()), s))
    }

    fn decide(&self, sql: &str) -> Decision {
        self.ask(sql).unwrap()
    }

    fn execute(&self, prepare: &str, execute: &str) -> Executed {
        let (first, second) = (read(prepare.as_bytes(), self.lex()), read(execute.as_bytes(), self.lex()));
        self.surroundings(|s| {
            decide_execute(prepare.as_bytes(), &first, execute.as_bytes(), &second, "pgcanon_1", s).unwrap()
        })
    }

    fn write(&self, sql: &str) -> Arc<Write> {
        match self.decide(sql) {
            Decision::Write(write) => write,
            other => panic!("{sql}: {other:?}"),
        }
    }

    fn refuse(&self, sql: &str) -> Refusal {
        match self.decide(sql) {
            Decision::Refuse(refusal) => refusal,
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// S, R, L, C, X, `!` for a warning, or `-` for what passes (`~` if it unsettles names).
    fn lane(&self, sql: &str) -> char {
        match self.decide(sql) {
            Decision::Pass { unsettles: false } => '-',
            Decision::Pass { unsettles: true } => '~',
            Decision::Refuse(_) => 'X',
            Decision::Warn { .. } => '!',
            Decision::Write(write) => match write.lane {
                Lane::Statement => 'S',
                Lane::Row => 'R',
                Lane::Locked => 'L',
                Lane::Copy => 'C',
            },
        }
    }

    fn lanes(&self, expected: &[(char, &str)]) {
        let wrong: Vec<_> = expected.iter().filter(|(lane, sql)| self.lane(sql) != *lane).collect();
        let found: Vec<_> = wrong.iter().map(|(lane, sql)| format!("{lane} is {}: {sql}", self.lane(sql))).collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
