//! What a peer gets of a table, and as what (§10): by the rules of now, whatever they were when the change was captured.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Conflict, Delivery, NodeName, OnError, TableName, TableRule, Triggers};

/// The rules as they concern one peer.
#[derive(Clone, Debug)]
pub struct Route {
    rules: Vec<TableRule>,
    peer: NodeName,
    /// By schema and table.
    known: HashMap<String, HashMap<String, Option<Arc<Destination>>>>,
}

/// What the times of commits are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timed {
    /// Rules go by columns, and prefer a node where those are the same.
    InTies,
    Always,
}

/// A table on its way to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Here.
    pub source: TableName,
    /// There.
    pub table: TableName,
    /// What travels besides the key; none for all.
    pub columns: Option<Vec<String>>,
    /// The condition of rows that travel, by the names that the table has here.
    pub filter: Option<String>,
    pub on_error: OnError,
    pub triggers: Triggers,
    pub conflict: Option<Conflict>,
}

impl Route {
    pub fn new(rules: &[TableRule], peer: &NodeName) -> Self {
        Self { rules: rules.to_vec(), peer: peer.clone(), known: HashMap::new() }
    }

    /// Whether some of the changes that go there come before their turn.
    pub fn is_atomic(&self) -> bool {
        let goes_there = |rule: &&TableRule| rule.peers.as_ref().is_none_or(|peers| peers.contains(&self.peer));
        self.rules.iter().filter(goes_there).any(|rule| matches!(rule.delivery, Delivery::Atomic(_)))
    }

    /// Whether the time of a change's commit decides anything there: always, or where a tie is possible.
    pub fn goes_by_time(&self) -> Option<Timed> {
        let goes_there = |rule: &&TableRule| rule.peers.as_ref().is_none_or(|peers| peers.contains(&self.peer));
        let times = self.rules.iter().filter(goes_there).filter_map(TableRule::settles).filter_map(|conflict| {
            match (conflict.by.column(), &conflict.prefer) {
                (None, _) => Some(Timed::Always),
                (Some(_), Some(_)) => Some(Timed::InTies),
                (Some(_), None) => None,
            }
        });
        times.max()
    }

    /// Whom it leads to.
    pub fn peer(&self) -> &NodeName {
        &self.peer
    }

    /// Where a table's changes go; none if this peer does not get them. The first rule that matches counts, though it may
    /// leave this peer out.
    pub fn of(&mut self, schema: &str, table: &str) -> Option<Arc<Destination>> {
        if let Some(known) = self.known.get(schema).and_then(|tables| tables.get(table)) {
            return known.clone();
        }
        let found = self.find(schema, table).map(Arc::new);
        self.known.entry(schema.to_owned()).or_default().insert(table.to_owned(), found.clone());
        found
    }

    fn find(&self, schema: &str, table: &str) -> Option<Destination> {
        let rule = self.rules.iter().find(|rule| rule.name.matches(schema, table))?;
        if rule.peers.as_ref().is_some_and(|peers| !peers.contains(&self.peer)) {
            return None;
        }
        let source = TableName { schema: schema.to_owned(), table: table.to_owned() };
        Some(Destination {
            table: rule.rename.get(&self.peer).unwrap_or(&source).clone(),
            source,
            columns: rule.columns.clone(),
            filter: rule.filter.clone(),
            on_error: rule.on_error,
            triggers: rule.triggers.unwrap_or_default(),
            conflict: rule.settles().cloned(),
        })
    }
}

impl Destination {
    /// Whether a column that is not of the key travels.
    pub fn takes(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.iter().any(|c| c == column))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;
    use crate::config::Config;

    fn route(peer: &str) -> Route {
        let toml = "[node]\nname = \"a\"\nserver = \"host=/tmp\"\ncontrol = \"user=x dbname=y\"\n\
            [[peer]]\nname = \"b\"\nconnect = \"host=/tmp user=x dbname=y\"\n\
            [[peer]]\nname = \"c\"\nconnect = \"host=/tmp user=x dbname=z\"\n\
            [[table]]\nname = \"public.only\"\npeers = [\"b\"]\nrename = { b = \"Far.Other\" }\ncolumns = [\"x\"]\n\
            [[table]]\nname = \"public.*\"\ntriggers = \"skip\"\n";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgcanon.toml");
        std::fs::write(&path, toml).unwrap();
        let config = Config::load(&path).unwrap();
        Route::new(&config.tables, &NodeName::new(peer).unwrap())
    }

    #[test]
    fn the_first_rule_counts_even_where_it_leaves_a_peer_out() {
        let (mut b, mut c) = (route("b"), route("c"));
        for _ in 0..2 {
            let there = b.of("public", "only").unwrap();
            assert_eq!(there.table.to_string(), "Far.Other");
            assert_eq!(there.source.to_string(), "public.only");
            assert!(there.takes("x") && !there.takes("y"));
            assert_eq!(c.of("public", "only"), None);
            assert_eq!(c.of("public", "t").unwrap().triggers, Triggers::Skip);
            assert_eq!(c.of("private", "t"), None);
        }
    }
}
