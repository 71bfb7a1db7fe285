//! What relation names mean in this session: asked of its own server, remembered until something may have changed it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::capture::write::{Blind, Meaning, blind};
use crate::catalog::relation::Oid;
use crate::catalog::scene::Scene;
use crate::sql::Name;
use crate::sql::statement::Written;
use crate::wire::array::array;
use crate::wire::extended::Reader;

/// What is asked about a relation, with every name and operator spelled out: the session's search_path may be anything.
macro_rules! ask {
    ($($which:literal)+) => {
        concat!(
            "SELECT c.oid::pg_catalog.int8::pg_catalog.text, c.relpersistence::pg_catalog.text, ",
            "(SELECT n.nspname::pg_catalog.text FROM pg_catalog.pg_namespace n ",
            "WHERE n.oid OPERATOR(pg_catalog.=) c.relnamespace), ",
            blind!(),
            ", pg_catalog.row_security_active(c.oid)::pg_catalog.text, ",
            // Rules (a view's own is one) that name what is no temporary table, and triggers.
            "(c.relpersistence OPERATOR(pg_catalog.=) 't' AND (EXISTS (SELECT FROM pg_catalog.pg_trigger t ",
            "WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid AND NOT t.tgisinternal) ",
            "OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d ",
            "ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass ",
            "AND d.objid OPERATOR(pg_catalog.=) r.oid ",
            "AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass ",
            "JOIN pg_catalog.pg_class k ON k.oid OPERATOR(pg_catalog.=) d.refobjid ",
            "WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid AND k.oid OPERATOR(pg_catalog.<>) c.oid ",
            "AND (k.relpersistence OPERATOR(pg_catalog.<>) 't' OR k.relkind OPERATOR(pg_catalog.=) 'v')",
            ")))::pg_catalog.text FROM pg_catalog.pg_class c WHERE ",
            $($which),+
        )
        .as_bytes()
    };
}

/// Asks what the lone name `$1` means here.
pub(super) const RESOLVE: &[u8] = ask!("c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)");

/// Asks what the name `$2` means in schema `$1`. `to_regclass` fails where the role may not look into the schema; that is for
/// the client's own statement to meet.
pub(super) const RESOLVE_IN: &[u8] = ask!(
    "c.relname OPERATOR(pg_catalog.=) $2::pg_catalog.name AND c.relnamespace OPERATOR(pg_catalog.=) "
    "(SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) $1::pg_catalog.name)"
);

const TEXT: u32 = 25;

type Key = (Option<Name>, Name);

#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<Key, Meaning>,
    /// What DDL with these names means.
    scenes: HashMap<Vec<Key>, Arc<Scene>>,
}

impl Names {
    pub(super) fn get(&self, written: &Written) -> Option<Meaning> {
        self.known.get(&key(written)).copied()
    }

    /// There is no such relation.
    pub(super) fn absent(&mut self, written: &Written) {
        self.known.insert(key(written), Meaning::NONE);
    }

    /// The DataRow that answers [`RESOLVE`] or [`RESOLVE_IN`].
    pub(super) fn learn(&mut self, written: &Written, row: &[u8]) -> Option<()> {
        let mut reader = Reader(row);
        let count = reader.u16()?;
        let values = (0..count).map(|_| reader.value()).collect::<Option<Vec<_>>>()?;
        let values = values.into_iter().collect::<Option<Vec<_>>>()?;
        let [oid, persistence, schema, blind, row_security, reaches] = values.as_slice() else { return None };
        let oid = std::str::from_utf8(oid).ok()?.parse().ok()?;
        let temporary = *persistence == b"t";
        self.known.insert(
            key(written),
            Meaning {
                oid: (!temporary).then_some(Oid(oid)),
                schema: Name::from_bytes(schema),
                blind: Blind::read(blind),
                row_security: *row_security == b"true",
                reaches: *reaches == b"true",
            },
        );
        Some(())
    }

    pub(super) fn scene(&self, names: &[Written]) -> Option<Arc<Scene>> {
        self.scenes.get(&names.iter().map(key).collect::<Vec<_>>()).cloned()
    }

    pub(super) fn set_scene(&mut self, names: &[Written], scene: Scene) {
        self.scenes.insert(names.iter().map(key).collect(), Arc::new(scene));
    }

    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.scenes.clear();
    }
}

fn key(written: &Written) -> Key {
    (written.schema, written.name)
}

/// Schemas and names for [`question`](crate::catalog::scene::question), each an array of text in binary.
pub(super) fn arrays(names: &[Written]) -> [Vec<u8>; 2] {
    let array = |part: fn(&Written) -> Name| {
        let mut out = Vec::new();
        let parts: Vec<Name> = names.iter().map(part).collect();
        array(&mut out, TEXT, parts.iter().map(|part| Some(part.as_bytes())));
        out
    };
    [array(|name| name.schema.unwrap_or_default()), array(|name| name.name)]
}

/// A lone name as `to_regclass` reads it.
pub(super) fn quoted(name: &Name) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &b in name.as_bytes() {
        out.extend(std::iter::repeat_n(b, if b == b'"' { 2 } else { 1 }));
    }
    out.push(b'"');
    out
}
