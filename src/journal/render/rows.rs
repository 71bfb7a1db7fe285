//! What a row's image asks for, as statements.

use super::literal::Shown;
use crate::journal::entry::{ColumnRole, ImageColumn, Op};

/// A value of the image, with the column it belongs to.
#[derive(Debug)]
pub(super) struct Cell<'a> {
    pub(super) column: &'a ImageColumn,
    /// The column's name as an identifier.
    pub(super) name: &'a str,
    pub(super) shown: Shown,
}

/// The table that is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a> {
    /// Its name as SQL.
    pub(super) name: &'a str,
    /// Has an identity column whose values only the server may choose.
    pub(super) always: bool,
}

/// The statements of one image, in order; none where it asks for nothing.
///
/// `within` says whether the row, as it is now, meets the rule's filter; None where there is no filter.
pub(super) fn statements(op: Op, within: Option<bool>, table: Written<'_>, row: &[Cell<'_>]) -> Vec<String> {
    let row = Row { table, row };
    match (op, within) {
        // It was not there for a peer, or is not to be.
        (Op::Insert | Op::Delete, Some(false)) => Vec::new(),
        (Op::Insert, _) => vec![row.insert("")],
        (Op::Delete, _) => vec![row.delete()],
        // An update of a row whose key it changes, or that was in the way, shows where it was before.
        (Op::Upsert, _) if row.is_new() && within == Some(false) => Vec::new(),
        (Op::Upsert, _) if row.is_new() => vec![row.upsert()],
        (_, Some(false)) => vec![row.delete()],
        // Outside the filter before, a row is not there yet.
        (_, Some(true)) if row.moves() => vec![row.delete(), row.upsert()],
        (_, Some(true)) => vec![row.upsert()],
        (Op::Upsert, None) if !row.is_rekeyed() => vec![row.upsert()],
        (_, None) => row.update().into_iter().collect(),
    }
}

struct Row<'r, 'a> {
    table: Written<'r>,
    row: &'r [Cell<'a>],
}

impl<'r, 'a> Row<'r, 'a> {
    fn with(&self, roles: &'static [ColumnRole]) -> impl Iterator<Item = &'r Cell<'a>> + use<'r, 'a> {
        self.row.iter().filter(move |cell| roles.contains(&cell.column.role))
    }

    /// As it was before.
    fn old(&self) -> impl Iterator<Item = &'r Cell<'a>> + use<'r, 'a> {
        self.with(&[ColumnRole::Key])
    }

    /// By what it is found.
    fn key(&self) -> impl Iterator<Item = &'r Cell<'a>> + use<'r, 'a> {
        self.with(&[ColumnRole::Key, ColumnRole::KeyValue])
    }

    /// As it is now.
    fn now(&self) -> impl Iterator<Item = &'r Cell<'a>> + use<'r, 'a> {
        self.with(&[ColumnRole::Value, ColumnRole::KeyValue])
    }

    /// Whether a column that is now is part of the key.
    fn keyed(&self, cell: &Cell<'_>) -> bool {
        cell.column.role == ColumnRole::KeyValue || self.old().any(|old| old.column.name == cell.column.name)
    }

    /// Whether the key stands here twice, as it was and as it is.
    fn is_rekeyed(&self) -> bool {
        self.old().any(|old| self.now().any(|cell| cell.column.name == old.column.name))
    }

    /// Whether there was no row before, as far as the image says.
    fn is_new(&self) -> bool {
        self.is_rekeyed() && self.old().all(|cell| cell.shown == Shown::Null)
    }

    /// Whether it has another key now.
    fn moves(&self) -> bool {
        let same = |old: &Cell<'_>| {
            self.now()
                .any(|cell| cell.column.name == old.column.name && cell.shown == old.shown && old.shown.is_whole())
        };
        self.is_rekeyed() && !self.old().all(same)
    }

    fn insert(&self, more: &str) -> String {
        let names = join(self.now().map(|cell| cell.name.to_owned()), ", ");
        let values = join(self.now().map(|cell| cell.shown.given(&cell.column.type_name)), ", ");
        let overriding = if self.table.always { " OVERRIDING SYSTEM VALUE" } else { "" };
        format!("INSERT INTO {} ({names}){overriding} VALUES ({values}){more}", self.table.name)
    }

    fn upsert(&self) -> String {
        let key = join(self.now().filter(|cell| self.keyed(cell)).map(|cell| cell.name.to_owned()), ", ");
        let set =
            join(self.now().filter(|cell| !self.keyed(cell)).map(|c| format!("{0} = excluded.{0}", c.name)), ", ");
        if set.is_empty() {
            return self.insert(&format!(" ON CONFLICT ({key}) DO NOTHING"));
        }
        self.insert(&format!(" ON CONFLICT ({key}) DO UPDATE SET {set}"))
    }

    /// None where there is nothing to set.
    fn update(&self) -> Option<String> {
        let given = |cell: &Cell<'_>| format!("{} = {}", cell.name, cell.shown.given(&cell.column.type_name));
        let set = join(self.with(&[ColumnRole::Value]).map(given), ", ");
        (!set.is_empty()).then(|| format!("UPDATE {} SET {set} WHERE {}", self.table.name, self.condition()))
    }

    fn delete(&self) -> String {
        format!("DELETE FROM {} WHERE {}", self.table.name, self.condition())
    }

    fn condition(&self) -> String {
        // A record compared with a string is no comparison; with what travels as text the like may be.
        let cast = |column: &ImageColumn| column.text && !column.type_name.ends_with(']');
        let found = |cell: &Cell<'_>| cell.shown.found(cell.name, &cell.column.type_name, cast(cell.column));
        let condition = join(self.key().map(found), " AND ");
        // An image without a key is none of ours; never touch every row for it.
        if condition.is_empty() { "false /* the image holds no key */".to_owned() } else { condition }
    }
}

fn join(parts: impl Iterator<Item = String>, between: &str) -> String {
    parts.collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Written<'_> = Written { name: "s.t", always: false };

    fn columns(roles: &[(&str, ColumnRole)]) -> Vec<ImageColumn> {
        let column = |(name, role): &(&str, ColumnRole)| ImageColumn {
            name: (*name).to_owned(),
            type_name: "integer".to_owned(),
            role: *role,
            text: false,
        };
        roles.iter().map(column).collect()
    }

    fn sql(op: Op, within: Option<bool>, roles: &[(&str, ColumnRole)], values: &[&str]) -> Vec<String> {
        let columns = columns(roles);
        let shown = |v: &&str| if *v == "-" { Shown::Null } else { Shown::text((*v).to_owned(), None) };
        let row: Vec<_> = columns
            .iter()
            .zip(values)
            .map(|(column, value)| Cell { column, name: &column.name, shown: shown(value) })
            .collect();
        statements(op, within, TABLE, &row)
    }

    const PLAIN: &[(&str, ColumnRole)] = &[("id", ColumnRole::KeyValue), ("a", ColumnRole::Value)];
    const MOVED: &[(&str, ColumnRole)] =
        &[("id", ColumnRole::Key), ("id", ColumnRole::Value), ("a", ColumnRole::Value)];

    #[test]
    fn each_operation_has_its_statement() {
        for (op, statement) in [
            (Op::Insert, "INSERT INTO s.t (id, a) VALUES (1, 2)"),
            (Op::Upsert, "INSERT INTO s.t (id, a) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET a = excluded.a"),
            (Op::Update, "UPDATE s.t SET a = 2 WHERE id = 1"),
            (Op::Delete, "DELETE FROM s.t WHERE id = 1"),
        ] {
            assert_eq!(sql(op, None, PLAIN, &["1", "2"]), [statement]);
        }
        let key = &[("id", ColumnRole::KeyValue)];
        assert_eq!(sql(Op::Upsert, None, key, &["1"]), ["INSERT INTO s.t (id) VALUES (1) ON CONFLICT (id) DO NOTHING"]);
        assert_eq!(sql(Op::Update, None, key, &["1"]), Vec::<String>::new());
        assert_eq!(
            sql(Op::Delete, None, &[("a", ColumnRole::Value)], &["1"]),
            ["DELETE FROM s.t WHERE false /* the image holds no key */"]
        );
    }

    #[test]
    fn a_row_that_moves_is_found_by_its_old_key() {
        assert_eq!(sql(Op::Update, None, MOVED, &["1", "2", "3"]), ["UPDATE s.t SET id = 2, a = 3 WHERE id = 1"]);
        assert_eq!(sql(Op::Upsert, None, MOVED, &["1", "2", "3"]), ["UPDATE s.t SET id = 2, a = 3 WHERE id = 1"]);
        assert_eq!(
            sql(Op::Upsert, None, MOVED, &["-", "2", "3"]),
            ["INSERT INTO s.t (id, a) VALUES (2, 3) ON CONFLICT (id) DO UPDATE SET a = excluded.a"]
        );
        assert_eq!(sql(Op::Delete, None, MOVED, &["1", "-", "-"]), ["DELETE FROM s.t WHERE id = 1"]);
        assert_eq!(sql(Op::Insert, None, MOVED, &["-", "2", "3"]), ["INSERT INTO s.t (id, a) VALUES (2, 3)"]);
    }

    #[test]
    fn the_filter_decides_what_a_peer_has() {
        let nothing = Vec::<String>::new();
        let upsert = "INSERT INTO s.t (id, a) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET a = excluded.a";
        assert_eq!(sql(Op::Insert, Some(false), PLAIN, &["1", "2"]), nothing);
        assert_eq!(sql(Op::Delete, Some(false), PLAIN, &["1", "2"]), nothing);
        assert_eq!(sql(Op::Delete, Some(true), PLAIN, &["1", "2"]), ["DELETE FROM s.t WHERE id = 1"]);
        for op in [Op::Update, Op::Upsert] {
            assert_eq!(sql(op, Some(false), PLAIN, &["1", "2"]), ["DELETE FROM s.t WHERE id = 1"]);
            assert_eq!(sql(op, Some(true), PLAIN, &["1", "2"]), [upsert]);
        }
        assert_eq!(sql(Op::Update, Some(false), MOVED, &["1", "2", "3"]), ["DELETE FROM s.t WHERE id = 1"]);
        assert_eq!(sql(Op::Update, Some(true), MOVED, &["1", "1", "2"]), [upsert]);
        assert_eq!(sql(Op::Update, Some(true), MOVED, &["9", "1", "2"]), ["DELETE FROM s.t WHERE id = 9", upsert]);
        assert_eq!(sql(Op::Upsert, Some(false), MOVED, &["-", "1", "2"]), nothing);
    }

    #[test]
    fn an_identity_is_given_its_value() {
        let table = Written { always: true, ..TABLE };
        let columns = columns(&[("id", ColumnRole::Value)]);
        let shown = Shown::text("1".into(), None);
        let row: Vec<_> = columns.iter().map(|c| Cell { column: c, name: &c.name, shown: shown.clone() }).collect();
        assert_eq!(
            statements(Op::Insert, None, table, &row),
            ["INSERT INTO s.t (id) OVERRIDING SYSTEM VALUE VALUES (1)"]
        );
    }
}
