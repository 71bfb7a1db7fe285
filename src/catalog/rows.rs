//! The rows of the picture as the query gives them: names and numbers, nothing concluded yet.

use serde::{Deserialize, Deserializer};

use crate::catalog::relation::Oid;

/// All of them. A list that the server found nothing for is NULL.
#[derive(Debug, Deserialize)]
pub(super) struct Rows {
    pub(super) server: u32,
    #[serde(deserialize_with = "list")]
    pub(super) relations: Vec<RelationRow>,
    #[serde(deserialize_with = "list")]
    pub(super) columns: Vec<ColumnRow>,
    #[serde(deserialize_with = "list")]
    pub(super) types: Vec<TypeRow>,
    #[serde(deserialize_with = "list")]
    pub(super) indexes: Vec<IndexRow>,
    #[serde(deserialize_with = "list")]
    pub(super) keys: Vec<ForeignKeyRow>,
    /// Parent, child.
    #[serde(deserialize_with = "list")]
    pub(super) heirs: Vec<(Oid, Oid)>,
    /// What a rewrite rule names, and whose rule it is.
    #[serde(deserialize_with = "list")]
    pub(super) rewrites: Vec<(Oid, Oid)>,
    #[serde(deserialize_with = "list")]
    pub(super) triggers: Vec<TriggerRow>,
    #[serde(deserialize_with = "list")]
    pub(super) immutable: Vec<String>,
    /// The server's own functions that are stable (`s`) or volatile (`v`).
    #[serde(deserialize_with = "list")]
    pub(super) unsteady: Vec<(Oid, char)>,
    #[serde(deserialize_with = "list")]
    pub(super) functions: Vec<FunctionRow>,
    #[serde(deserialize_with = "list")]
    pub(super) operators: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) routines: Vec<RoutineRow>,
    /// Functions with relations that their parsed bodies name.
    #[serde(deserialize_with = "list")]
    pub(super) uses: Vec<(Oid, Oid)>,
    /// Columns whose NOT NULL was never checked.
    #[serde(deserialize_with = "list")]
    pub(super) unchecked: Vec<(Oid, i16)>,
    /// Collations that are not deterministic.
    #[serde(deserialize_with = "list")]
    pub(super) loose: Vec<Oid>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RelationRow {
    pub(super) oid: Oid,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: char,
    pub(super) row_security: bool,
    pub(super) rewrite_rule: bool,
    pub(super) deferrable: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct ColumnRow {
    pub(super) relation: Oid,
    pub(super) number: i16,
    pub(super) name: String,
    pub(super) type_oid: Oid,
    pub(super) type_name: String,
    pub(super) not_null: bool,
    pub(super) generated: String,
    pub(super) identity: String,
    pub(super) collation: Oid,
    /// A `pg_node_tree`, or `i` and `v` for the two that are told at a glance.
    pub(super) default: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TypeRow {
    pub(super) oid: Oid,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: char,
    pub(super) base: Oid,
    pub(super) element: Oid,
    pub(super) category: char,
    pub(super) has_send: bool,
    pub(super) has_check: bool,
    pub(super) default: Option<String>,
    pub(super) shown: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct IndexRow {
    pub(super) relation: Oid,
    pub(super) primary: bool,
    /// Numbers of columns; 0 is an expression.
    pub(super) columns: Vec<i16>,
    pub(super) deferrable: bool,
    pub(super) special: bool,
    pub(super) collations: Vec<Oid>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ForeignKeyRow {
    pub(super) from: Oid,
    pub(super) to: Oid,
    pub(super) on_delete: char,
    pub(super) on_update: char,
    pub(super) deferrable: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct TriggerRow {
    pub(super) relation: Oid,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: char,
    /// `pg_trigger.tgtype`
    pub(super) bits: u32,
    pub(super) deferrable: bool,
    pub(super) function: Oid,
}

#[derive(Debug, Deserialize)]
pub(super) struct FunctionRow {
    pub(super) oid: Oid,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) of_trigger: bool,
}

/// What a function in SQL or PL/pgSQL does: its text, or what the server knows of a body that it parsed already.
#[derive(Debug, Deserialize)]
pub(super) struct RoutineRow {
    pub(super) oid: Oid,
    pub(super) source: Option<String>,
    pub(super) writes: Option<bool>,
}

fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
