//! One query for the whole picture, which any session may run, and the picture made from its answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::catalog::assemble::assemble;
use crate::catalog::relation::Catalog;
use crate::catalog::rows::Rows;
use crate::config::{Config, TableRule};
use crate::sql::{LexOptions, Lexer, TokenKind};

/// Functions that the operator knows better: by name, or by schema and name with a dot between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// They write replicated tables.
    pub writing: Vec<String>,
    /// They do not, whatever their source looks like.
    pub harmless: Vec<String>,
}

impl From<&Config> for Named {
    fn from(config: &Config) -> Self {
        Self { writing: config.capture.writing.clone(), harmless: config.capture.harmless.clone() }
    }
}

/// Why there is no picture of the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("cannot read the catalog: {0}")]
    Query(#[from] tokio_postgres::Error),
    #[error("cannot read the catalog: what came is not what was asked for: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("cannot read the catalog: {0}; a name in it may not be UTF-8")]
    Json(#[from] serde_json::Error),
}

const TEMPLATE: &str = include_str!("picture.sql");

/// The query for everything that these rules concern: one row of one column, which [`Catalog::from_json`] takes.
///
/// It is ASCII, holds no backslash, and means the same under every `search_path`, encoding and role.
#[must_use]
pub fn query(rules: &[TableRule]) -> String {
    let rows: Vec<String> = rules.iter().map(|rule| pattern(&rule.name)).collect();
    let rules = if rows.is_empty() { "(NULL, NULL)".to_owned() } else { rows.join(", ") };
    qualified(TEMPLATE).replace("/*rules*/", &rules)
}

/// Reads the catalog over a connection of its own; `version` is left at 0.
pub async fn load(
    client: &tokio_postgres::Client,
    rules: &[TableRule],
    named: &Named,
) -> Result<Catalog, CatalogError> {
    Catalog::from_json(answer(client, &query(rules)).await?.as_bytes(), rules, named)
}

/// What the server answers to a [`query`].
pub(super) async fn answer(client: &tokio_postgres::Client, query: &str) -> Result<String, CatalogError> {
    Ok(client.query_one(query, &[]).await?.try_get(0)?)
}

impl Catalog {
    /// The picture from the answer to [`query`], which was made for the same rules; `version` is left at 0.
    pub fn from_json(answer: &[u8], rules: &[TableRule], named: &Named) -> Result<Self, CatalogError> {
        let rows: Rows = serde_json::from_slice(&decoded(answer)?)?;
        Ok(assemble(rows, rules, named))
    }
}

/// What the server has spelled in base64, in lines.
pub(super) fn decoded(answer: &[u8]) -> Result<Vec<u8>, CatalogError> {
    let lines: Vec<u8> = answer.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    Ok(STANDARD.decode(lines)?)
}

/// `(schema, table)` as patterns of LIKE; in hex, so that neither quotes nor encodings nor backslashes matter.
fn pattern(pattern: &crate::config::TablePattern) -> String {
    let like = |glob: &str| {
        let mut text = String::new();
        for c in glob.chars() {
            match c {
                '*' => text.push('%'),
                '?' => text.push('_'),
                '%' | '_' | '\\' => text.extend(['\\', c]),
                c => text.push(c),
            }
        }
        let hex: String = text.bytes().map(|b| format!("{b:02x}")).collect();
        format!("pg_catalog.convert_from(pg_catalog.decode('{hex}', 'hex'), 'UTF8')")
    };
    let name = pattern.as_name();
    format!("({}, {})", like(&name.schema), like(&name.table))
}

/// The text with every operator spelled `OPERATOR(pg_catalog.…)`, without its comments.
pub(super) fn qualified(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len() * 2);
    for token in Lexer::new(sql.as_bytes(), LexOptions::default()) {
        let own = sql.get(token.start..token.end).unwrap_or_default();
        match token.kind {
            TokenKind::Operator
            | TokenKind::NotEquals
            | TokenKind::LessEquals
            | TokenKind::GreaterEquals
            | TokenKind::Char(b'=' | b'<' | b'>' | b'+' | b'-') => {
                text.push_str("OPERATOR(pg_catalog.");
                text.push_str(own);
                text.push(')');
            }
            TokenKind::Comment if own.starts_with("--") => {}
            TokenKind::Whitespace => text.push(' '),
            _ => text.push_str(own),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_qualified_and_nothing_else() {
        assert_eq!(
            qualified("a = b -- c = d\n AND x[0 : n - 1] <> ALL (y) OR c.* && '=' AND count(*)"),
            "a OPERATOR(pg_catalog.=) b  AND x[0 : n OPERATOR(pg_catalog.-) 1] OPERATOR(pg_catalog.<>) ALL (y) OR c.* \
             OPERATOR(pg_catalog.&&) '=' AND count(*)"
        );
    }

    #[test]
    fn the_query_is_safe_under_any_setting() {
        let text = query(&[]);
        assert!(text.is_ascii() && !text.contains('\\') && !text.contains("/*") && text.contains("(NULL, NULL)"));
        // What these would be looked up by name for an operator that is not qualified.
        let upper = text.to_ascii_uppercase();
        for word in
            [" LIKE ", " IN (", " BETWEEN ", " USING", " SIMILAR ", "NULLIF", " DISTINCT FROM", "CASE P", "CASE C"]
        {
            assert!(!upper.contains(word), "{word}");
        }
    }
}
