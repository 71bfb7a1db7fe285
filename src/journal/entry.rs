//! What stands in a journal row: entries, each with a head that says what it is, and the rows that go with it.

use serde::{Deserialize, Serialize};

use crate::sql::quote;

/// How a change travels (§4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    Statement,
    Row,
    Locked,
    Copy,
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    Insert,
    /// An insert that may have become an update of the row in its way: images are whole rows.
    Upsert,
    Update,
    Delete,
    /// Images begin with the action's name (`INSERT`, `UPDATE`, `DELETE`) as text.
    Merge,
    Truncate,
    Copy,
    /// DDL: applied in a transaction of its own, behind all that came before.
    Ddl,
}

/// Everything about an entry but its rows.
///
/// What one statement's entries differ in stands last: [`HeadForm`](super::HeadForm) encodes the rest once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub op: Op,
    /// The table that the rule names, with its exact names.
    pub schema: String,
    pub table: String,
    /// The rule's pattern.
    pub rule: String,
    /// Of the text, and of all texts in images: the server sends them to its client, whose encoding this is, by the server's
    /// name for it.
    pub encoding: String,
    /// Digest of the table's columns and key when it was captured.
    pub shape: [u8; 8],
    /// What the images hold, in order, behind `tableoid` and what `extra` says.
    pub columns: Vec<ImageColumn>,
    /// In an image, between `tableoid` and the columns.
    pub extra: Extra,
    pub lane: Lane,
    /// Rows that the statement changed, where known when the head was written.
    pub rows: Option<u64>,
    /// Lanes S, L and C: the statement. In lane R none.
    pub text: Option<Text>,
}

/// One value of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageColumn {
    pub name: String,
    pub type_name: String,
    pub role: ColumnRole,
    /// Whether the value was cast to text on the way.
    pub text: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnRole {
    /// Part of the key by which the row is found: as it was before the change.
    Key,
    /// A value that the row has now; of the key, where the key can have changed (`OldKey` stands beside it).
    Value,
    /// Part of the key, the same before and after: found by it, and part of an inserted row.
    KeyValue,
}

/// What stands in an image before the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extra {
    None,
    /// A boolean: whether the row, as it is now, meets the rule's filter.
    Filter,
    /// The action of a MERGE.
    Action,
    /// Both, the action first.
    ActionAndFilter,
    /// The row's version, where that is not its transaction's: a time and the node that wrote it.
    Version,
    /// Nothing; its version is in the row, and the transaction's node, which tells it again, is not who wrote it, perhaps.
    Told,
}

impl Extra {
    /// How many values it is.
    pub fn width(self) -> usize {
        match self {
            Self::None | Self::Told => 0,
            Self::Filter | Self::Action => 1,
            Self::ActionAndFilter | Self::Version => 2,
        }
    }
}

/// A statement that travels as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Without what capture added.
    pub sql: Vec<u8>,
    /// Every relation name in the text and which table it meant, in order: the target is among them.
    pub names: Vec<Place>,
    /// Settings that the meaning of its constants hangs on (lanes L and C only).
    pub settings: Vec<(String, String)>,
    pub params: Vec<Param>,
}

/// A relation's name in a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub start: u32,
    pub end: u32,
    pub schema: String,
    pub table: String,
}

/// A parameter of a text, as it was bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// The type's OID where it was told at Parse, 0 otherwise; only those of built-in types.
    pub type_oid: u32,
    pub binary: bool,
    pub value: Option<Vec<u8>>,
}

impl Head {
    /// Whether images hold the key that a row had beside the one that it has now.
    #[must_use]
    pub fn rekeys(&self) -> bool {
        self.op != Op::Delete && self.columns.iter().any(|column| column.role == ColumnRole::Key)
    }

    /// Whether keys that rows had may be nobody's afterwards.
    #[must_use]
    pub fn frees_keys(&self) -> bool {
        matches!(self.op, Op::Delete | Op::Merge) || self.rekeys()
    }

    /// Whether a place of DDL holds not the table but its schema alone: of what is beside the table, an index or a partition.
    #[must_use]
    pub fn names_schema(&self, text: &Text, place: &Place) -> bool {
        let at = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let name = text.sql.get(at(place.start)..at(place.end));
        self.op == Op::Ddl && name == Some(quote::ident(&place.schema, &self.encoding).as_bytes())
    }
}

/// A head for tests.
#[cfg(test)]
pub(crate) fn sample() -> Head {
    let role = ColumnRole::KeyValue;
    Head {
        lane: Lane::Row,
        op: Op::Insert,
        schema: "public".into(),
        table: "t".into(),
        rule: "public.*".into(),
        encoding: "UTF8".into(),
        shape: [1; 8],
        columns: vec![ImageColumn { name: "id".into(), type_name: "integer".into(), role, text: false }],
        extra: Extra::None,
        text: None,
        rows: None,
    }
}
