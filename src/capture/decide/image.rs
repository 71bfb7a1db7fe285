//! The row lane (§4.3): the one column that `RETURNING` shows more, and the head that says what it holds.

use crate::capture::write::Blind;
use crate::catalog::relation::{Column, Identity, Travels};
use crate::journal::entry::{ColumnRole, Extra, Head, ImageColumn, Lane, Op};
use crate::sql::Name;
use crate::sql::statement::{Assign, ConflictAction, Expr, Insert, Kind, Returning, Statement};

use super::refuse::Why;
use super::target::Ours;
use super::{Case, Surroundings, prove, quote};

/// How a write's rows travel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rows {
    /// The expression to be appended to `RETURNING`.
    pub(super) image: String,
    pub(super) head: Head,
}

/// Since when `RETURNING` shows `old` and `new`.
const OLD_AND_NEW: u32 = 180_000;
/// Since when MERGE has a `RETURNING`.
const MERGE_RETURNING: u32 = 170_000;

/// What the rows of a write look like; none where nothing that travels can have changed.
pub(super) fn rows(kind: &Kind, case: &Case<'_>, ours: &Ours<'_>) -> Result<Option<Rows>, Why> {
    let s = case.s;
    let Blind { insert, update, delete } = ours.meaning.blind;
    let blind = match kind {
        Kind::Insert(_) => insert,
        Kind::Update(_) => update,
        Kind::Delete(_) => delete,
        _ => insert || update || delete,
    };
    shown(ours, blind, s)?;
    let filtered = ours.rule.filter.as_ref();
    let settled = ours.rule.settles().is_some();
    let whole = ours.relation.before_row_trigger || settled || filtered.is_some();
    let plan = match kind {
        Kind::Insert(insert) => {
            if let Some(ConflictAction::Update { set, .. }) = insert.on_conflict.as_ref().map(|c| &c.action) {
                no_identity(set.iter().map(|a| &a.column), ours)?;
            }
            Plan::insert(insert, ours)
        }
        Kind::Update(update) => {
            keyed(ours)?;
            no_identity(update.set.iter().map(|a| &a.column), ours)?;
            Plan::update(&update.set, whole, ours)
        }
        Kind::Delete(_) => {
            keyed(ours)?;
            Plan {
                op: Op::Delete,
                columns: if filtered.is_some() && !settled { vec![] } else { others(ours, whole) },
                rekeyed: false,
            }
        }
        Kind::Merge(merge) => {
            if s.catalog.server < MERGE_RETURNING {
                return Err(Why::Merge);
            }
            let key = keyed(ours)?;
            no_identity(merge.assigns.iter(), ours)?;
            Plan { op: Op::Merge, columns: others(ours, true), rekeyed: merge.assigns.iter().any(|a| key.contains(a)) }
        }
        _ => return Ok(None),
    };
    if matches!(kind, Kind::Update(_)) && plan.columns.is_empty() && !plan.rekeyed && filtered.is_none() {
        return Ok(None);
    }
    if plan.op == Op::Upsert || settled {
        keyed(ours)?;
    }
    // A deletion by MERGE shows nothing of the row but its key then.
    if plan.rekeyed && settled && (plan.op == Op::Merge || generated_key(ours)) {
        return Err(Why::Settled);
    }
    let of = reference(case.statement, ours, s)?;
    let old = if plan.rekeyed { Some(old_key(kind, case, ours, &of)?) } else { None };
    Ok(Some(plan.rows(&of, old, ours, s)))
}

/// What the rows look like that are copied into a table, which is called `of`.
pub(super) fn copied(of: &str, ours: &Ours<'_>, s: &Surroundings<'_>) -> Result<Rows, Why> {
    shown(ours, ours.meaning.blind.insert, s)?;
    if ours.rule.settles().is_some() {
        keyed(ours)?;
    }
    Ok(Plan { op: Op::Insert, columns: others(ours, true), rekeyed: false }.rows(of, None, ours, s))
}

/// Whether `RETURNING` may show the rows at all; `blind` where the role may not read what it may write.
fn shown(ours: &Ours<'_>, blind: bool, s: &Surroundings<'_>) -> Result<(), Why> {
    if ours.meaning.row_security {
        return Err(Why::RowSecurity);
    }
    if blind {
        return Err(Why::Privilege);
    }
    match &ours.rule.filter {
        Some(filter) if !filter.is_ascii() && !quote::same_bytes(s.encoding) => Err(Why::Encoding),
        _ => Ok(()),
    }
}

/// The key, without which no row is found again.
fn keyed(ours: &Ours<'_>) -> Result<Vec<Name>, Why> {
    ours.key().ok_or(Why::NoKey)
}

/// What is always an identity can only be set to its next value, here and everywhere.
fn no_identity<'n>(mut assigned: impl Iterator<Item = &'n Name>, ours: &Ours<'_>) -> Result<(), Why> {
    let always =
        |name: &Name| ours.root.columns.iter().any(|c| c.name == *name && c.identity == Some(Identity::Always));
    if assigned.any(always) { Err(Why::Identity) } else { Ok(()) }
}

/// Whether the server makes a part of the key.
fn generated_key(ours: &Ours<'_>) -> bool {
    let key = ours.key().unwrap_or_default();
    ours.root.columns.iter().any(|column| column.generated && key.contains(&column.name))
}

/// How a write whose key may change shows the key that a row had.
enum OldKey {
    /// By `old`, and what the row is now by `new`.
    Returned,
    /// A query (its `FROM` and `WHERE`) finds the row as it was when the statement began.
    Found(String),
}

fn old_key(kind: &Kind, case: &Case<'_>, ours: &Ours<'_>, of: &str) -> Result<OldKey, Why> {
    match old_and_new(kind, case.statement, case.s) {
        Ok(()) => Ok(OldKey::Returned),
        Err(why) => found(kind, case, ours, of).map(OldKey::Found).ok_or(why),
    }
}

/// Only one row is in question, by its key: nobody else can have given it another one meanwhile.
fn found(kind: &Kind, case: &Case<'_>, ours: &Ours<'_>, of: &str) -> Option<String> {
    let Kind::Update(update) = kind else { return None };
    let filter = update.filter.as_ref().filter(|_| !update.from)?;
    if !prove::names_one(filter, ours, case.s) {
        return None;
    }
    let condition = case.sql.get(update.filter_at.start..update.filter_at.end)?;
    let condition = std::str::from_utf8(condition).ok()?;
    let table = quote::table(&ours.relation.name, case.s.encoding);
    let alias = if ours.target.alias.is_some() { format!(" AS {of}") } else { String::new() };
    Some(format!("FROM {table}{alias} WHERE {condition}"))
}

/// Whether `old` and `new` can be written where a key may change.
fn old_and_new(kind: &Kind, statement: &Statement, s: &Surroundings<'_>) -> Result<(), Why> {
    if s.catalog.server < OLD_AND_NEW {
        return Err(Why::KeyChange);
    }
    let taken = |name: &Name| matches!(name.as_bytes(), b"old" | b"new");
    let (target, returning) = parts(kind).ok_or(Why::OldNew)?;
    let renamed = returning.is_some_and(|r| r.with);
    let clash = statement.relations.iter().any(|r| taken(&r.name)) || target.alias.as_ref().is_some_and(taken);
    // An alias of another table can hide them too; a lone word is enough to step back.
    if renamed || clash { Err(Why::OldNew) } else { Ok(()) }
}

/// The target and the own `RETURNING` of a write.
pub(in crate::capture) fn parts(kind: &Kind) -> Option<(&crate::sql::statement::Target, Option<&Returning>)> {
    match kind {
        Kind::Insert(i) => Some((&i.target, i.returning.as_ref())),
        Kind::Update(u) => Some((&u.target, u.returning.as_ref())),
        Kind::Delete(d) => Some((&d.target, d.returning.as_ref())),
        Kind::Merge(m) => Some((&m.target, m.returning.as_ref())),
        _ => None,
    }
}

/// The columns besides the key that may travel; with `whole` all of them, otherwise none.
fn others(ours: &Ours<'_>, whole: bool) -> Vec<Name> {
    let key = ours.key().unwrap_or_default();
    let travelling = |c: &&Column| whole && !c.generated && !key.contains(&c.name) && ours.travels(&c.name);
    ours.root.columns.iter().filter(travelling).map(|c| c.name).collect()
}

/// What travels of each row.
struct Plan {
    op: Op,
    /// Besides the key.
    columns: Vec<Name>,
    /// The key may differ before and after.
    rekeyed: bool,
}

impl Plan {
    fn insert(insert: &Insert, ours: &Ours<'_>) -> Self {
        let columns = others(ours, true);
        match insert.on_conflict.as_ref().map(|c| &c.action) {
            Some(ConflictAction::Update { set, .. }) => {
                Self { op: Op::Upsert, columns, rekeyed: conflict_rekeys(set, ours) }
            }
            _ => Self { op: Op::Insert, columns, rekeyed: false },
        }
    }

    fn update(set: &[Assign], whole: bool, ours: &Ours<'_>) -> Self {
        // A name in another encoding than the catalog's may be any column's.
        let unknown = set.iter().any(|a| ours.root.column(&a.column).is_none());
        let assigned = |name: &Name| set.iter().any(|a| a.column == *name);
        let mut columns = others(ours, true);
        if !set.iter().any(|a| ours.travels(&a.column)) && !unknown && !ours.relation.before_row_trigger {
            columns.clear();
        } else if !whole && !unknown {
            columns.retain(assigned);
        }
        if ours.rule.filter.is_some() {
            columns = others(ours, true);
        }
        Self { op: Op::Update, columns, rekeyed: prove::changes_key(set, ours) }
    }

    /// `of` is what columns of the row are qualified with, as it is now.
    fn rows(self, of: &str, old: Option<OldKey>, ours: &Ours<'_>, s: &Surroundings<'_>) -> Rows {
        let key = ours.key().unwrap_or_default();
        let is_key = |c: &&Column| key.contains(&c.name);
        let travels = |c: &&Column| key.contains(&c.name) || self.columns.contains(&c.name);
        let mut image = Image { s, values: Vec::new(), columns: Vec::new() };
        if let Some(old) = old {
            let (before, now, query) = match &old {
                OldKey::Returned => ("old", "new", None),
                OldKey::Found(query) => (of, of, Some(query.as_str())),
            };
            for column in ours.root.columns.iter().filter(is_key) {
                image.column(before, column, ColumnRole::Key, query);
            }
            for column in ours.root.columns.iter().filter(|c| travels(c) && !c.generated) {
                image.column(now, column, ColumnRole::Value, None);
            }
        } else {
            for column in ours.root.columns.iter().filter(travels) {
                let role = match (key.contains(&column.name), self.op) {
                    (true, Op::Delete) => ColumnRole::Key,
                    (true, _) => ColumnRole::KeyValue,
                    (false, _) => ColumnRole::Value,
                };
                image.column(of, column, role, None);
            }
        }
        let (filter, merge) = (ours.rule.filter.as_deref(), self.op == Op::Merge);
        let extra = match (merge, filter.is_some()) {
            (false, false) => Extra::None,
            (false, true) => Extra::Filter,
            (true, false) => Extra::Action,
            (true, true) => Extra::ActionAndFilter,
        };
        let mut first = vec![format!("{}.tableoid", of)];
        first.extend(merge.then(|| "merge_action()".to_owned()));
        first.extend(filter.map(|condition| filter_of(condition, of, ours, s)));
        first.extend(image.values);
        let columns = image.columns;
        Rows {
            image: format!("pg_catalog.record_send(ROW({}))", first.join(", ")),
            head: Head { columns, extra, ..head(s, Lane::Row, self.op, ours) },
        }
    }
}

/// A head without columns and text.
pub(super) fn head(s: &Surroundings<'_>, lane: Lane, op: Op, ours: &Ours<'_>) -> Head {
    Head {
        lane,
        op,
        schema: ours.root.name.schema.clone(),
        table: ours.root.name.table.clone(),
        rule: ours.rule.name.to_string(),
        encoding: s.encoding.to_owned(),
        shape: ours.root.shape,
        columns: Vec::new(),
        extra: Extra::None,
        text: None,
        rows: None,
    }
}

/// Whether ON CONFLICT DO UPDATE may give the row in the way another key. With one unique key, it was in the way by that key.
fn conflict_rekeys(set: &[Assign], ours: &Ours<'_>) -> bool {
    let key = ours.key().unwrap_or_default();
    let excluded = Name::from("excluded");
    let by_key_alone = ours.relation.uniques.len() == 1;
    let kept = |a: &Assign| match &a.value {
        Some(Expr::Column { qualifier: Some(q), name }) => by_key_alone && *q == excluded && *name == a.column,
        _ => false,
    };
    let assigned = |a: &&Assign| key.contains(&a.column) || ours.root.column(&a.column).is_none();
    prove::changes_key(set, ours) && !set.iter().filter(assigned).all(kept)
}

/// What columns of the target are qualified with.
fn reference(statement: &Statement, ours: &Ours<'_>, s: &Surroundings<'_>) -> Result<String, Why> {
    let (target, written) = (ours.target, ours.target.relation);
    // Two tables of one name and of two schemas can stand side by side as long as nobody says the name alone.
    let namesakes = statement.relations.iter().any(|r| r.name == written.name && r.schema != written.schema);
    let name = match target.alias {
        None if namesakes || !written.name.as_bytes().is_ascii() => {
            return Ok(quote::table(&ours.relation.name, s.encoding));
        }
        None => written.name,
        Some(alias) => alias,
    };
    match std::str::from_utf8(name.as_bytes()) {
        Ok(text) if text.is_ascii() || quote::same_bytes(s.encoding) => Ok(quote::ident(text, s.encoding)),
        _ => Err(Why::Encoding),
    }
}

struct Image<'a> {
    s: &'a Surroundings<'a>,
    values: Vec<String>,
    columns: Vec<ImageColumn>,
}

impl Image<'_> {
    /// With a query, the column of the row that it finds.
    fn column(&mut self, of: &str, column: &Column, role: ColumnRole, query: Option<&str>) {
        let name = quote::text(&column.name);
        let text = column.travels == Travels::Text;
        let cast = if text { "::pg_catalog.text" } else { "" };
        let value = format!("{of}.{}{cast}", quote::ident(&name, self.s.encoding));
        self.values.push(match query {
            Some(query) => format!("(SELECT {value} {query})"),
            None => value,
        });
        self.columns.push(ImageColumn { name, type_name: column.type_name.clone(), role, text });
    }
}

/// The rule's filter over the row as it is now, by the names that the rule knows.
fn filter_of(condition: &str, of: &str, ours: &Ours<'_>, s: &Surroundings<'_>) -> String {
    let columns: Vec<_> = ours.root.columns.iter().map(|c| quote::ident(&quote::text(&c.name), s.encoding)).collect();
    let columns: Vec<_> = columns.iter().map(|c| format!("{}.{c}", of)).collect();
    let table = quote::ident(&ours.root.name.table, s.encoding);
    // The line's end closes a comment that the condition may end with.
    format!("(SELECT ({condition}\n) IS TRUE FROM (SELECT {}) AS {table})", columns.join(", "))
}
