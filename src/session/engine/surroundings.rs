//! What a statement is judged by: the catalog as this session sees it, what names mean in it, and its settings.

use std::sync::Arc;

use crate::capture::decide::{Surroundings, decide};
use crate::capture::lanes::Tally;
use crate::capture::write::{Ask, Decision, Meaning};
use crate::catalog::relation::{Catalog, Oid};
use crate::sql::statement::Statement;

use super::Engine;

/// Relations that are remembered to be none of ours.
const STRANGERS: usize = 1000;

/// Whether a statement's snapshot is as new as the locks before it.
pub(super) enum Snapshot {
    Fresh,
    /// It may be the block's.
    Old,
    /// The server is asked.
    Asked,
}

impl Engine {
    /// The catalog by which statements are judged now.
    pub(super) fn catalog(&mut self) -> Arc<Catalog> {
        if !self.is_shared_outdated() {
            self.private = None;
        }
        if let Some(private) = &self.private {
            return private.clone();
        }
        let looks = self.links.catalogs.looks();
        if looks != self.looks {
            self.looks = looks;
            self.names.forget();
            self.epoch += 1;
        }
        self.links.catalogs.current().unwrap_or_default()
    }

    /// Whether this session may see another catalog than the shared one.
    pub(super) fn is_shared_outdated(&self) -> bool {
        self.ddl || self.links.catalogs.is_behind()
    }

    /// What becomes of a statement; `None` where the server has to be asked first, which is under way.
    pub(super) fn decide(&mut self, sql: &[u8], statement: &Statement, params: &[u32]) -> Option<Decision> {
        Some(self.decide_to_keep(sql, statement, params)?.0)
    }

    /// [`Engine::decide`], with where it is counted when it is used again.
    pub(super) fn decide_to_keep(
        &mut self,
        sql: &[u8],
        statement: &Statement,
        params: &[u32],
    ) -> Option<(Decision, Tally)> {
        let decision = self.with_surroundings(statement, params, |s| decide(sql, statement, s))?;
        let tally = self.links.lanes.tally(sql, self.machine.lex(), &decision);
        tally.count();
        Some((decision, tally))
    }

    /// Calls with what decisions about a statement hang on; asks the server for what it lacks.
    pub(super) fn with_surroundings<T>(
        &mut self,
        statement: &Statement,
        params: &[u32],
        call: impl FnOnce(&Surroundings<'_>) -> Result<T, Ask>,
    ) -> Option<T> {
        if self.needs_private_catalog(statement) {
            self.ask_catalog();
            return None;
        }
        let catalog = self.catalog();
        let encoding = self.encoding_name();
        let encoding = encoding.as_ref();
        let meaning = |written: &_| {
            let meaning = self.names.get(written)?;
            let stranger = |oid: &Oid| self.strangers.contains(oid) && !catalog.relations.contains_key(oid);
            Some(Meaning { oid: meaning.oid.filter(|oid| !stranger(oid)), ..meaning })
        };
        let settings = || self.settings();
        let scene = |names: &[_]| self.names.scene(names);
        let surroundings = Surroundings {
            catalog: &catalog,
            meaning: &meaning,
            encoding,
            standard_conforming_strings: self.machine.lex().standard_conforming_strings,
            params,
            settings: &settings,
            scene: &scene,
        };
        match call(&surroundings) {
            Ok(decision) => Some(decision),
            Err(Ask::Catalog(oid)) => {
                // Once it is read anew, what is still not in it is none of ours.
                if self.strangers.len() > STRANGERS {
                    self.strangers.clear();
                }
                self.strangers.insert(oid);
                drop(self.links.catalogs.invalidate());
                self.ask_catalog();
                None
            }
            Err(Ask::Scene(names)) => {
                self.ask_scene(&names);
                None
            }
            Err(Ask::Names(names)) => {
                names.iter().for_each(|name| self.ask_name(name));
                None
            }
        }
    }

    /// Whether a text reads the session's prepared statements, among which ours must not be seen.
    pub(super) fn looks_at_statements(&self, text: &[u8]) -> bool {
        const VIEW: &[u8] = b"pg_prepared_statement";
        memchr::memchr2_iter(b'p', b'P', text)
            .any(|at| text.get(at..at.saturating_add(VIEW.len())).is_some_and(|found| found.eq_ignore_ascii_case(VIEW)))
    }

    /// A row is in this table: if nobody knows it, the catalog has changed past all proxies.
    pub(super) fn met_table(&mut self, table: Oid) {
        if !self.catalog().relations.contains_key(&table) {
            drop(self.links.catalogs.invalidate());
        }
    }

    /// The client runs DDL.
    pub(super) fn catalog_changes(&mut self) {
        self.private = None;
        self.ddl = true;
        self.unsettle();
    }

    /// A transaction is over: what it did to the catalog is there for all to see, or undone.
    pub(super) fn catalog_committed(&mut self) {
        if std::mem::take(&mut self.ddl) {
            self.private = None;
            drop(self.links.catalogs.invalidate());
        }
    }

    /// A transaction, or a part of it, ends: what it has set may end with it.
    pub(super) fn settings_revert(&mut self) {
        if self.unsettled {
            self.names.forget();
            self.epoch += 1;
        }
        if self.ddl {
            self.private = None;
        }
    }

    /// Names may mean something else from here on.
    pub(super) fn unsettle(&mut self) {
        self.names.forget();
        self.epoch += 1;
        self.unsettled = true;
    }

    /// Whether the next statement takes a snapshot of its own.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        match self.read_committed {
            _ if !self.in_block() => Snapshot::Fresh,
            Some(true) => Snapshot::Fresh,
            Some(false) => Snapshot::Old,
            None => {
                self.ask_isolation();
                Snapshot::Asked
            }
        }
    }
}
