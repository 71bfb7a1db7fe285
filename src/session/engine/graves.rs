//! Deletions that a late change must not undo (§8) are remembered in the transaction that makes them, beside their entries.

use bytes::Bytes;

use super::Engine;
use super::own::Own;
use crate::config::TableRule;
use crate::journal::codec::{DecodeError, Entries};
use crate::journal::entry::Op;
use crate::journal::{BadImage, Entry, key_differs, row_key, row_number};
use crate::wire::array::array;

const BYTEA: u32 = 17;
const INT8: u32 = 20;
const BYTEA_ARRAY: u32 = 1001;
const INT8_ARRAY: u32 = 1016;

/// Names come as bytes: the client may have another encoding.
const REMEMBER: &[u8] = b"INSERT INTO pgcanon.tombstone (nsp_name, table_name, key, number) \
    SELECT pg_catalog.convert_from(v.nsp, 'UTF8'), pg_catalog.convert_from(v.name, 'UTF8'), v.key, v.number \
    FROM unnest($1, $2, $3, $4) AS v(nsp, name, key, number)";

#[derive(Debug, thiserror::Error)]
pub(super) enum GraveError {
    #[error("a captured change cannot be read again: {0}")]
    Entry(#[from] DecodeError),
    #[error("the server sent a row that is not what was asked for: {0}")]
    Image(#[from] BadImage),
}

/// A row that was deleted; with no key all of its table.
#[derive(Debug, PartialEq, Eq)]
struct Grave {
    schema: String,
    table: String,
    key: Vec<u8>,
    /// Of its version, where a column tells it.
    number: Option<i64>,
}

impl Engine {
    /// Remembers what these entries delete.
    pub(super) fn bury(&mut self, entries: &Bytes) -> Result<(), GraveError> {
        let rules = self.links.wanted.borrow().rules.clone();
        if rules.iter().all(|rule| rule.settles().is_none()) {
            return Ok(());
        }
        let mut graves = Vec::new();
        for entry in Entries::new(None, entries.clone()) {
            dig(&entry?, &rules, &mut graves)?;
        }
        if graves.is_empty() {
            return Ok(());
        }
        let numbers: Vec<_> = graves.iter().map(|grave| grave.number.map(i64::to_be_bytes)).collect();
        let mut params = [const { Vec::new() }; 4];
        let [schema, table, key, number] = &mut params;
        array(schema, BYTEA, graves.iter().map(|grave| Some(grave.schema.as_bytes())));
        array(table, BYTEA, graves.iter().map(|grave| Some(grave.table.as_bytes())));
        array(key, BYTEA, graves.iter().map(|grave| Some(grave.key.as_slice())));
        array(number, INT8, numbers.iter().map(|number| number.as_ref().map(<[u8; 8]>::as_slice)));
        let params = params.each_ref().map(|param| Some(param.as_slice()));
        self.own_execute(REMEMBER, &[BYTEA_ARRAY, BYTEA_ARRAY, BYTEA_ARRAY, INT8_ARRAY], &params, || Own::Needed);
        Ok(())
    }
}

/// Adds what an entry deletes, where a rule settles conflicts.
fn dig(entry: &Entry, rules: &[TableRule], graves: &mut Vec<Grave>) -> Result<(), BadImage> {
    let head = &entry.head;
    if head.op != Op::Truncate && !head.frees_keys() {
        return Ok(());
    }
    let rule = rules.iter().find(|rule| rule.name.matches(&head.schema, &head.table));
    let Some(conflict) = rule.and_then(TableRule::settles) else { return Ok(()) };
    let mut grave = |key, number| {
        graves.push(Grave { schema: head.schema.clone(), table: head.table.clone(), key, number });
    };
    let by = conflict.by.column();
    if head.op == Op::Truncate {
        // Rows that are not looked at have no number.
        if by.is_none() {
            grave(Vec::new(), None);
        }
        return Ok(());
    }
    for image in entry.images() {
        let image = image?;
        if head.op == Op::Merge && image.values.first().and_then(|value| value.bytes) != Some(b"DELETE") {
            continue;
        }
        let values = image.values.get(head.extra.width()..).unwrap_or_default();
        if head.rekeys() && !key_differs(&head.columns, values) {
            continue;
        }
        // Of a key that is a number, too, the new one stands last.
        let number = head.columns.iter().zip(values).rev().find(|(column, _)| by == Some(column.name.as_str()));
        grave(row_key(&head.columns, values), number.and_then(|(_, value)| row_number(value)));
    }
    Ok(())
}
