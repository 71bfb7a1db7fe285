//! What capture has to know of the node's tables, types and functions: one immutable picture, replaced as a whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::config::{TableName, TableRule, Triggers};
use crate::sql::Name;

/// An object's OID on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
pub struct Oid(pub u32);

/// The node's catalog as of one moment.
#[derive(Debug, Default, PartialEq)]
pub struct Catalog {
    /// Grows with every picture that differs from the one before.
    pub version: u64,
    /// `server_version_num`
    pub server: u32,
    /// The rules that it was made for: what [`Relation::rule`] counts.
    pub rules: Arc<[TableRule]>,
    /// Every relation that a rule concerns, directly or not: ruled tables, their partitions and children, views over them,
    /// tables whose writes, triggers or TRUNCATE CASCADE reach them.
    pub relations: HashMap<Oid, Arc<Relation>>,
    /// The last parts of their names.
    pub by_name: HashMap<Name, Vec<Oid>>,
    pub functions: Functions,
    /// Names of operators that exist outside `pg_catalog`: what they are applied to is not known.
    pub user_operators: HashSet<Name>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Functions {
    /// Names in `pg_catalog` of which every overload is an immutable plain function.
    pub immutable: HashSet<Name>,
    /// Names of functions outside `pg_catalog`: unqualified, they may win over the built-in ones.
    pub user: HashSet<Name>,
    /// Functions and procedures that write replicated tables: named in the configuration, or, in SQL and PL/pgSQL, with a source
    /// that names such a table behind a writing verb.
    pub writing: HashMap<Name, Vec<WritingFunction>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritingFunction {
    pub oid: Oid,
    pub schema: Name,
    /// What was found, for the message.
    pub why: String,
}

/// A table, partition, view.
#[derive(Debug, Clone, PartialEq)]
pub struct Relation {
    pub oid: Oid,
    pub name: TableName,
    pub kind: RelationKind,
    /// Index of the first rule that matches it, or, for a partition, its root.
    pub rule: Option<usize>,
    /// The ancestor that the rule names, for a partition that no earlier rule names itself. Children by inheritance travel by
    /// their ancestor's rule under their own name: they are other tables, on every node.
    pub root: Option<Oid>,
    pub columns: Vec<Column>,
    /// What identifies a row on every node: the primary key, or another unique key that is not deferrable, not partial, over plain
    /// columns that are all NOT NULL. Indices into `columns`, in the key's order. None for a table with children by inheritance,
    /// whose rows its keys do not reach.
    pub key: Option<Vec<usize>>,
    /// Every unique index and constraint, the key included; exclusion constraints count.
    pub uniques: Vec<Unique>,
    /// A BEFORE or INSTEAD OF row trigger of the user's: may change what is written.
    pub before_row_trigger: bool,
    /// Any trigger of the user's.
    pub user_trigger: bool,
    /// A rule on INSERT, UPDATE or DELETE (`pg_rewrite`) other than a view's own.
    pub rewrite_rule: bool,
    /// Row-level security is enabled.
    pub row_security: bool,
    /// Its writes make the server take locks or look at rows when the statement is over: foreign keys on either side, AFTER
    /// and constraint triggers. A place in the journal's order taken within the statement would be too early (§5).
    pub late: bool,
    /// It has deferrable constraints, which may be checked as late as COMMIT.
    pub deferrable: bool,
    /// Ruled tables that a DELETE (or an UPDATE of the key) here changes by `ON DELETE/UPDATE CASCADE | SET NULL | SET DEFAULT`,
    /// at any depth, while this table itself has no rule.
    pub cascades_into: Vec<Oid>,
    /// Ruled tables that a write here can write itself, while this relation has no rule: its partitions or children, the
    /// tables under a view, those that its rewrite rules name.
    pub covers: Vec<Oid>,
    /// A trigger function of it that writes replicated tables, and what was found: matters where this table has no rule.
    pub trigger_writes: Option<String>,
    /// Tables that reference it: what TRUNCATE … CASCADE reaches, at any depth, itself left out.
    pub truncates: Vec<Oid>,
    /// A digest of names and types of its columns and of its key.
    pub shape: [u8; 8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    Table,
    Partitioned,
    View,
    MaterializedView,
    Foreign,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// Indices into `columns`; empty where it is over expressions.
    pub columns: Vec<usize>,
    pub deferrable: bool,
    /// Partial, over expressions, or an exclusion constraint.
    pub special: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: Name,
    /// As `format_type` has it; types outside `pg_catalog` always with their schema, and quoted.
    pub type_name: String,
    pub not_null: bool,
    /// GENERATED ALWAYS AS (…), stored or virtual: never travels.
    pub generated: bool,
    pub identity: Option<Identity>,
    /// How the default comes about; `Immutable` where there is none (it is NULL).
    pub default: Volatility,
    /// How its values are carried in an image.
    pub travels: Travels,
    pub sort: TypeSort,
    pub moments: Moments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    Always,
    ByDefault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    Immutable,
    Stable,
    Volatile,
}

/// How a column's values are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Travels {
    /// In the type's own binary form: built-in types, and enums and domains whose form holds no OID.
    Binary,
    /// Cast to text first: arrays, ranges and composites of user types, `reg*`, extension types without a binary form.
    Text,
}

/// What the statement lane has to know of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeSort {
    /// Constants mean the same in every session, and every built-in operator and cast among these types is immutable: integers,
    /// numeric, floats, booleans, text, varchar, char, bytea, uuid, jsonb, bits, enums.
    Plain,
    /// Constants mean the same in every session; operators are not vouched for: json, inet, geometry, text search, arrays of
    /// plain types, …
    Constant,
    /// Dates and times: only binary parameters, NULL and its own old value mean the same everywhere.
    Time,
    /// `money`, `reg*`, `xml`, user base types, domains with constraints, composites, …
    Session,
}

/// Whether the text of a type's values may hold words for a moment, such as `now`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moments {
    No,
    /// It is a date or time.
    Plain,
    /// An array or range of them.
    Within,
    /// Nobody knows: a composite, say.
    Unknown,
}

/// Neither firing nor skipping them on the peers is right for every trigger (§6).
#[derive(Debug, thiserror::Error)]
#[error(
    "these tables have triggers, and their rules do not say what becomes of them on the peers: {}. {}", .0.join(", "),
    Triggers::CHOICE
)]
pub struct UndecidedTriggers(Vec<String>);

impl Catalog {
    /// An error where neither firing nor skipping was chosen for a ruled table's triggers.
    pub fn triggers_are_decided(&self) -> Result<(), UndecidedTriggers> {
        let undecided = |relation: &&Arc<Relation>| {
            let rule = relation.rule.and_then(|rule| self.rules.get(rule));
            relation.root.is_none() && relation.user_trigger && rule.is_some_and(|rule| rule.triggers.is_none())
        };
        let mut names: Vec<String> =
            self.relations.values().filter(undecided).map(|relation| relation.name.to_string()).collect();
        names.sort();
        if names.is_empty() { Ok(()) } else { Err(UndecidedTriggers(names)) }
    }

    /// Whether a rule would be for a table of this name, were there one that the picture does not show.
    pub fn may_be_ruled(&self, schema: Option<&Name>, table: &Name) -> bool {
        let text = |name: &Name| std::str::from_utf8(name.as_bytes()).map(str::to_owned);
        let Ok(table) = text(table) else { return true };
        match schema.map(text).transpose() {
            Ok(Some(schema)) => self.rules.iter().any(|rule| rule.name.matches(&schema, &table)),
            Ok(None) => self.rules.iter().any(|rule| rule.name.matches_name(&table)),
            Err(_) => true,
        }
    }

    /// The relation that a rule names for this one: itself, or its root.
    pub fn ruled(&self, oid: Oid) -> Option<&Arc<Relation>> {
        let relation = self.relations.get(&oid)?;
        relation.rule?;
        relation.root.map_or(Some(relation), |root| self.relations.get(&root))
    }
}

impl Relation {
    /// A column's index by its name.
    pub fn column(&self, name: &Name) -> Option<usize> {
        self.columns.iter().position(|c| c.name == *name)
    }
}
