//! Which statements the client has prepared, on the wire and by SQL, as of what it has sent; what the server turns out not to
//! have done is taken back.
//!
//! A statement that is not known here is executed as it is. So a name may be forgotten only when the server says so, and
//! never one that has been given away anew meanwhile.

use std::collections::HashMap;
use std::rc::Rc;

use crate::sql::{Effect, Name};

use super::extended::{Prepared, SqlPrepared};

#[derive(Debug, Default)]
pub(super) struct Statements {
    wire: HashMap<Name, Entry>,
    sql: HashMap<Name, Rc<SqlPrepared>>,
    /// Number of the next entry.
    next: u64,
}

/// What a name stands for: nothing of ours where it writes nothing.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    id: u64,
    prepared: Option<Rc<Prepared>>,
}

/// What to take back if a Parse fails.
#[derive(Debug)]
pub(super) struct Parsed {
    name: Name,
    id: u64,
    before: Option<Entry>,
}

/// What to forget when the server has deallocated it.
#[derive(Debug)]
pub(super) struct Deallocated {
    wire: Vec<(Name, u64)>,
    sql: Vec<(Name, Rc<SqlPrepared>)>,
}

/// What to take back if a `PREPARE` fails.
#[derive(Debug)]
pub(super) struct MadeBySql {
    name: Name,
    made: Rc<SqlPrepared>,
    before: Option<Rc<SqlPrepared>>,
}

// === impl Statements ===

impl Statements {
    pub(super) fn get(&self, name: &Name) -> Option<&Rc<Prepared>> {
        self.wire.get(name)?.prepared.as_ref()
    }

    pub(super) fn by_sql(&self, name: &Name) -> Option<&Rc<SqlPrepared>> {
        self.sql.get(name)
    }

    /// What this `PREPARE` has named.
    pub(super) fn name_by_sql(&self, sql: &[u8]) -> Option<&Name> {
        self.sql.iter().find(|(_, made)| made.sql == sql).map(|(name, _)| name)
    }

    /// A Parse is on its way.
    pub(super) fn parse(&mut self, name: Name, prepared: Option<Rc<Prepared>>) -> Parsed {
        self.next += 1;
        let before = self.wire.insert(name, Entry { id: self.next, prepared });
        Parsed { name, id: self.next, before }
    }

    /// That Parse has failed, or was passed over: what had the name before has it still; the unnamed one is gone.
    pub(super) fn unparse(&mut self, parsed: Parsed) {
        if self.wire.get(&parsed.name).is_none_or(|entry| entry.id != parsed.id) {
            return;
        }
        match parsed.before.filter(|_| !parsed.name.is_empty()) {
            Some(before) => drop(self.wire.insert(parsed.name, before)),
            None => drop(self.wire.remove(&parsed.name)),
        }
    }

    /// A `PREPARE` is on its way.
    pub(super) fn prepare(&mut self, name: Name, made: Rc<SqlPrepared>) -> MadeBySql {
        let before = self.sql.insert(name, made.clone());
        MadeBySql { name, made, before }
    }

    /// That `PREPARE` has failed, or was passed over.
    pub(super) fn unprepare(&mut self, undo: &MadeBySql) {
        if self.sql.get(&undo.name).is_none_or(|now| !Rc::ptr_eq(now, &undo.made)) {
            return;
        }
        match &undo.before {
            Some(before) => drop(self.sql.insert(undo.name, before.clone())),
            None => drop(self.sql.remove(&undo.name)),
        }
    }

    pub(super) fn has_unnamed(&self) -> bool {
        self.wire.contains_key(&Name::EMPTY)
    }

    /// A simple query takes the place of the unnamed statement.
    pub(super) fn close_unnamed(&mut self) {
        self.wire.remove(&Name::EMPTY);
    }

    /// What a statement deallocates, of all that there is when it is sent.
    pub(super) fn deallocates(&self, effect: Effect) -> Option<Deallocated> {
        match effect {
            Effect::Deallocate(one) => Some(self.named(|name| *name == one)),
            Effect::DeallocateAll | Effect::DiscardAll => Some(self.named(|name| !name.is_empty())),
            _ => None,
        }
    }

    /// What a Close message closes.
    pub(super) fn closes(&self, one: &Name) -> Deallocated {
        self.named(|name| name == one)
    }

    fn named(&self, wanted: impl Fn(&Name) -> bool) -> Deallocated {
        Deallocated {
            wire: self.wire.iter().filter(|(name, _)| wanted(name)).map(|(name, entry)| (*name, entry.id)).collect(),
            sql: self.sql.iter().filter(|(name, _)| wanted(name)).map(|(name, made)| (*name, made.clone())).collect(),
        }
    }

    /// It has succeeded.
    pub(super) fn forget(&mut self, gone: &Deallocated) {
        for (name, id) in &gone.wire {
            if self.wire.get(name).is_some_and(|entry| entry.id == *id) {
                self.wire.remove(name);
            }
        }
        for (name, prepared) in &gone.sql {
            if self.sql.get(name).is_some_and(|now| Rc::ptr_eq(now, prepared)) {
                self.sql.remove(name);
            }
        }
    }
}
