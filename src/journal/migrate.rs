//! The numbered steps that make schema `pgcanon` what this version expects; a step that was released is never changed.

use crate::sql::{LexOptions, Split};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    pub version: i32,
    pub name: &'static str,
    sql: &'static str,
}

/// All steps, in order.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "base", sql: include_str!("schema/0001_base.sql") },
    Migration { version: 2, name: "forward", sql: include_str!("schema/0002_forward.sql") },
    Migration { version: 3, name: "conflicts", sql: include_str!("schema/0003_conflicts.sql") },
    Migration { version: 4, name: "sequences", sql: include_str!("schema/0004_sequences.sql") },
    Migration { version: 5, name: "statement_time", sql: include_str!("schema/0005_statement_time.sql") },
];

/// Every table of the schema, each after those that reference it: what `init --drop` removes.
pub const TABLES: &[&str] = &[
    "journal",
    "tick",
    "progress",
    "error_queue",
    "tombstone",
    "conflict",
    "meta",
    "migration",
    "peer",
    "applied",
    "early",
    "echo",
    "sequence",
    "statement_time",
];

/// Its views.
pub const VIEWS: &[&str] = &["sync_err_rec"];

/// Its functions.
pub const FUNCTIONS: &[&str] = &[
    "own_changes()",
    "before_own_changes()",
    "rank(timestamptz, text, xid, text, text, text)",
    "version(xid, text)",
    "outlives(text, text, bytea, timestamptz, text, int8, text, text, text)",
    "decided(text, int8, int4, text, text, text, text, jsonb, jsonb, text, timestamptz, timestamptz)",
    "tell(bytea, bytea, text, text, bytea, int8, xid)",
    "whole(xid)",
    "lock_key(bytea)",
    "time_of(xid, timestamptz)",
];

/// The version that this program works with.
#[must_use]
pub fn latest() -> i32 {
    MIGRATIONS.last().map_or(0, |m| m.version)
}

impl Migration {
    /// Its statements, with the comments in front of them.
    pub fn statements(&self) -> impl Iterator<Item = &'static str> {
        let sql = self.sql;
        let pieces = Split::new(sql.as_bytes(), LexOptions::default()).statements();
        pieces.filter_map(move |piece| sql.get(piece.start..piece.end)).map(str::trim)
    }

    /// The statement that remembers it.
    #[must_use]
    pub fn record(&self) -> String {
        format!("INSERT INTO pgcanon.migration (version, name) VALUES ({}, '{}')", self.version, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_without_a_gap_and_have_names_that_need_no_quotes() {
        for (n, migration) in (1..).zip(MIGRATIONS) {
            assert_eq!(migration.version, n);
            assert!(migration.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{}", migration.name);
        }
    }

    #[test]
    fn every_table_that_a_step_creates_is_known_to_drop() {
        let all: Vec<&str> = MIGRATIONS.iter().flat_map(Migration::statements).collect();
        let created = all.iter().filter_map(|s| s.split("CREATE TABLE pgcanon.").nth(1)?.split(' ').next());
        let mut roots: Vec<&str> = Vec::new();
        // One may be made anew.
        created.filter(|name| !name.starts_with("journal_")).for_each(|name| {
            if !roots.contains(&name) {
                roots.push(name);
            }
        });
        assert_eq!(roots, TABLES);
        let views = all.iter().filter_map(|s| s.split("CREATE VIEW pgcanon.").nth(1)?.split(' ').next());
        assert_eq!(views.collect::<Vec<_>>(), VIEWS);
        let functions = all.iter().filter_map(|s| s.split("CREATE FUNCTION pgcanon.").nth(1)?.split('(').next());
        let known = FUNCTIONS.iter().filter_map(|f| f.split('(').next());
        assert_eq!(functions.collect::<Vec<_>>(), known.collect::<Vec<_>>());
        assert_eq!(all.iter().filter(|s| s.contains("PARTITION OF pgcanon.journal ")).count(), 3);
    }
}
