//! What the names of a statement mean: which relation is written, by which rule it travels.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::capture::write::{Acked, Ask, Meaning};
use crate::catalog::relation::{Oid, Relation};
use crate::catalog::scene::Scene;
use crate::config::{Delivery, TableRule};
use crate::sql::Name;
use crate::sql::statement::{Target, Written};

use super::{Surroundings, quote};

/// The session's names: those that the server has to be asked about are gathered on the way.
pub(super) struct Names<'a> {
    s: &'a Surroundings<'a>,
    ask: RefCell<Vec<Written>>,
    ask_scene: RefCell<Option<Vec<Written>>>,
    ask_catalog: Cell<Option<Oid>>,
}

/// A relation that some rule concerns.
#[derive(Clone)]
pub(super) struct Known<'a> {
    pub(super) relation: &'a Arc<Relation>,
    pub(super) meaning: Meaning,
    /// The rule that it travels by, and the relation which that rule names; none for what merely leads to a ruled table.
    pub(super) ruled: Option<(&'a TableRule, &'a Arc<Relation>)>,
}

/// A table that is written and travels by a rule.
#[derive(Clone)]
pub(super) struct Ours<'a> {
    pub(super) target: &'a Target,
    pub(super) relation: &'a Relation,
    pub(super) root: &'a Relation,
    pub(super) rule: &'a TableRule,
    pub(super) meaning: Meaning,
}

// === impl Names ===

impl<'a> Names<'a> {
    pub(super) fn new(s: &'a Surroundings<'a>) -> Self {
        Self { s, ask: RefCell::default(), ask_scene: RefCell::default(), ask_catalog: Cell::default() }
    }

    /// What a name means, if it is a relation that a rule concerns. Most names are told apart by their last part alone.
    pub(super) fn look(&self, written: &Written) -> Option<Known<'a>> {
        let catalog = self.s.catalog;
        let foreign_bytes = !written.name.as_bytes().is_ascii() && !quote::same_bytes(self.s.encoding);
        // A table that a rule would be for may be newer than the picture.
        let known = catalog.by_name.contains_key(&written.name);
        if !foreign_bytes && !known && !catalog.may_be_ruled(written.schema.as_ref(), &written.name) {
            return None;
        }
        if written.schema == Some(Name::from("pg_catalog")) {
            return None;
        }
        let Some(meaning) = (self.s.meaning)(written) else {
            let mut ask = self.ask.borrow_mut();
            let same = |w: &Written| w.name == written.name && w.schema == written.schema;
            if !ask.iter().any(same) {
                ask.push(*written);
            }
            return None;
        };
        let oid = meaning.oid?;
        let Some(relation) = catalog.relations.get(&oid) else {
            // Newer than the picture; one of another schema, whose name is like that of one we know, is no concern of ours.
            if !known || catalog.may_be_ruled(Some(&meaning.schema), &written.name) {
                self.ask_catalog.set(Some(oid));
            }
            return None;
        };
        let rule = relation.rule.and_then(|index| self.s.catalog.rules.get(index));
        let ruled = rule.and_then(|rule| Some((rule, catalog.ruled(relation.oid)?)));
        Some(Known { relation, meaning, ruled })
    }

    /// Whether it is a temporary relation by which ruled tables may be written.
    pub(super) fn reaches(&self, written: &Written) -> bool {
        (self.s.meaning)(written).is_some_and(|meaning| meaning.reaches)
    }

    /// What DDL with these names means in the session.
    pub(super) fn scene(&self, names: &[Written]) -> Option<Arc<Scene>> {
        let scene = (self.s.scene)(names);
        if scene.is_none() {
            self.ask_scene.replace(Some(names.to_vec()));
        }
        scene
    }

    /// An error where something was met that the server has to be asked about.
    pub(super) fn asked(&self) -> Result<(), Ask> {
        let ask = self.ask.take();
        match self.ask_scene.take() {
            _ if !ask.is_empty() => Err(Ask::Names(ask)),
            Some(names) => Err(Ask::Scene(names)),
            None => self.ask_catalog.take().map_or(Ok(()), |oid| Err(Ask::Catalog(oid))),
        }
    }
}

// === impl Ours ===

impl<'a> Ours<'a> {
    pub(super) fn new(target: &'a Target, known: &Known<'a>) -> Option<Self> {
        let (rule, root) = known.ruled?;
        Some(Self { target, relation: known.relation, root, rule, meaning: known.meaning })
    }

    /// The names of the key that finds a row on every node.
    pub(super) fn key(&self) -> Option<Vec<Name>> {
        let key = self.root.key.as_ref()?;
        Some(key.iter().filter_map(|at| self.root.columns.get(*at)).map(|c| c.name).collect())
    }

    /// Whether the rule lets this column travel: its own list, and the key always.
    pub(super) fn travels(&self, name: &Name) -> bool {
        match &self.rule.columns {
            None => true,
            Some(columns) => {
                let in_key = self.key().is_some_and(|key| key.contains(name));
                in_key || columns.iter().any(|c| c.as_bytes() == name.as_bytes())
            }
        }
    }

    /// Whether it is the very table that the rule names, with rows of no other table in it.
    pub(super) fn is_root(&self) -> bool {
        self.root.oid == self.relation.oid
    }

    /// `schema.table` for messages.
    pub(super) fn name(&self) -> String {
        self.relation.name.to_string()
    }
}

/// Who has to have changes of these rules before their client is answered.
pub(super) fn acked<'a>(rules: impl IntoIterator<Item = &'a TableRule>) -> Vec<Arc<Acked>> {
    let mut all: Vec<Arc<Acked>> = Vec::new();
    for rule in rules {
        if let Delivery::Ack(wait) | Delivery::Atomic(wait) = rule.delivery {
            let atomic = matches!(rule.delivery, Delivery::Atomic(_));
            all.push(Arc::new(Acked { peers: rule.peers.clone(), wait, atomic }));
        }
    }
    all.dedup();
    all
}

/// What notes when a statement began, where conflicts go by that.
pub(super) fn noted<'a>(rules: impl IntoIterator<Item = &'a TableRule>) -> Vec<String> {
    let note = || "INSERT INTO pgcanon.statement_time DEFAULT VALUES".to_owned();
    rules.into_iter().any(TableRule::goes_by_statements).then(note).into_iter().collect()
}
