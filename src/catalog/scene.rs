//! What DDL means in its session: asked of the session's own server each time, since it is about what the catalog's picture
//! may not show yet.

use serde::{Deserialize, Deserializer};

use super::load::{CatalogError, decoded, qualified};

/// The surroundings of a statement, and what its names mean there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Scene {
    /// Where it makes what is named without a schema.
    pub schema: Option<String>,
    /// The schemas of `search_path` that are there.
    pub path: Vec<String>,
    /// As whom it runs.
    pub role: String,
    /// In the order in which they were asked for.
    #[serde(deserialize_with = "list")]
    pub names: Vec<Looked>,
}

/// A name, and what it means.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Looked {
    /// Without its schema, in UTF-8.
    pub asked: String,
    pub found: Option<Found>,
}

/// A relation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Found {
    pub schema: String,
    pub name: String,
    /// `pg_class.relkind`
    pub kind: char,
    pub temporary: bool,
    pub owner: String,
    /// The table itself (that of an index), and what it is a partition or a child of, the nearest first.
    pub line: Vec<Member>,
}

/// A table in such a line: schema, name, `relkind`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Member(pub String, pub String, pub char);

/// The question; its parameters are the schemas and the names, as arrays of text.
#[must_use]
pub fn question() -> String {
    qualified(include_str!("scene.sql"))
}

impl Scene {
    /// Reads the answer.
    pub fn read(answer: &[u8]) -> Result<Self, CatalogError> {
        Ok(serde_json::from_slice(&decoded(answer)?)?)
    }
}

impl Found {
    /// Whether it is an index, partitioned or not.
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(self.kind, 'i' | 'I')
    }

    /// Whether it is a table that rules can be for.
    #[must_use]
    pub fn is_table(&self) -> bool {
        matches!(self.kind, 'r' | 'p')
    }
}

fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
