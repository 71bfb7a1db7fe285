//! The prepared statements, portals and savepoints of a session: which exist, under which name, until when.

use std::collections::HashMap;

use crate::sql::{Effect, Name};

/// A named (or the unnamed) portal.
#[derive(Debug)]
struct Portal {
    /// What executing it does to the session.
    effect: Effect,
    /// `WITH HOLD`: outlives its transaction, once that has committed.
    hold: bool,
    /// Created by the transaction that runs now.
    fresh: bool,
    /// Number of savepoints that stood when it was created.
    level: usize,
}

/// All that a session has under a name.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    statements: HashMap<Name, Effect>,
    portals: HashMap<Name, Portal>,
    savepoints: Vec<Name>,
}

impl Objects {
    pub(crate) fn prepare(&mut self, name: Name, effect: Effect) {
        self.statements.insert(name, effect);
    }

    pub(crate) fn statement_effect(&self, name: &Name) -> Effect {
        self.statements.get(name).copied().unwrap_or_default()
    }

    pub(crate) fn deallocate(&mut self, name: &Name) {
        self.statements.remove(name);
    }

    /// The unnamed statement is no prepared statement to SQL, and stays.
    pub(crate) fn deallocate_all(&mut self) {
        self.statements.retain(|name, _| name.is_empty());
    }

    pub(crate) fn bind(&mut self, portal: Name, statement: &Name) {
        self.open(portal, self.statement_effect(statement), false);
    }

    pub(crate) fn declare(&mut self, portal: Name, hold: bool) {
        self.open(portal, Effect::None, hold);
    }

    fn open(&mut self, portal: Name, effect: Effect, hold: bool) {
        let level = self.savepoints.len();
        self.portals.insert(portal, Portal { effect, hold, fresh: true, level });
    }

    pub(crate) fn close(&mut self, portal: &Name) {
        self.portals.remove(portal);
    }

    pub(crate) fn close_all(&mut self) {
        self.portals.clear();
    }

    /// What completing this portal does to the session.
    pub(crate) fn portal_effect(&self, portal: &Name) -> Effect {
        self.portals.get(portal).map(|p| p.effect).unwrap_or_default()
    }

    pub(crate) fn savepoint(&mut self, name: Name) {
        self.savepoints.push(name);
    }

    pub(crate) fn release(&mut self, name: &Name) {
        if let Some(at) = self.savepoints.iter().rposition(|s| s == name) {
            self.savepoints.truncate(at);
            self.portals.values_mut().for_each(|p| p.level = p.level.min(at));
        }
    }

    /// Portals opened since the savepoint go; the savepoint itself stays.
    pub(crate) fn rollback_to(&mut self, name: &Name) {
        if let Some(at) = self.savepoints.iter().rposition(|s| s == name) {
            self.savepoints.truncate(at + 1);
            self.portals.retain(|_, p| !p.fresh || p.level <= at);
        }
    }

    pub(crate) fn end_transaction(&mut self, committed: bool) {
        self.savepoints.clear();
        self.portals.retain(|_, p| p.hold && (committed || !p.fresh));
        self.portals.values_mut().for_each(|p| {
            p.fresh = false;
            p.level = 0;
        });
    }

    pub(crate) fn statement_names(&self) -> impl Iterator<Item = &Name> {
        self.statements.keys()
    }

    pub(crate) fn portal_names(&self) -> impl Iterator<Item = &Name> {
        self.portals.keys()
    }

    pub(crate) fn savepoint_names(&self) -> &[Name] {
        &self.savepoints
    }
}
