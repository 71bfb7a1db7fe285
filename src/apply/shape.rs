//! The statements that bring rows of one shape into one table of the peer: for one row, and for many as arrays (§6).

use std::fmt::Write as _;

use super::route::Destination;
use super::settle::{Ground, Settled};
use crate::journal::entry::{ColumnRole, Extra, Head, ImageColumn, Op};
use crate::journal::image::{Image, Value};
use crate::sql::quote::{ident, table};

/// `text` and `text[]`.
pub(super) const TEXT: u32 = 25;
pub(super) const TEXT_ARRAY: u32 = 1009;

/// What becomes of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Insert,
    /// An insert, or an update of the row that has its key.
    Upsert,
    Update,
    Delete,
    /// A row that may not be there is not to be there.
    Remove,
    /// A row that may not be there gets another key.
    Move,
}

/// A type of the peer's, found by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) oid: u32,
    /// Of its arrays; none where it has no such type.
    pub(super) array: Option<u32>,
    /// Quoted, with its schema.
    pub(super) name: String,
    /// A cast from `text` may mean something else than reading the text does.
    pub(super) casts: bool,
}

/// A column that the peer fills by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnColumn {
    pub(super) name: String,
    /// Generated, so that no statement may name it; otherwise an identity that is always, which no UPDATE may set.
    pub(super) generated: bool,
}

/// A statement to be prepared.
#[derive(Debug, Default)]
pub(super) struct Statement {
    /// Its name on the connection.
    pub(super) id: u32,
    pub(super) sql: String,
    pub(super) types: Vec<u32>,
}

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Input {
    /// Which value of the image.
    pub(super) at: usize,
    /// The type of an array's elements.
    pub(super) element: u32,
    /// The value is the text of a value, which the server is to read as such.
    pub(super) text: bool,
}

/// What brings images of one act.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub(super) one: Statement,
    /// Over arrays, where all types have some.
    pub(super) many: Option<Statement>,
    pub(super) params: Vec<Input>,
    /// Each image must change a row.
    pub(super) counts: bool,
}

/// Images of one shape on their way into one table.
#[derive(Debug)]
pub(super) struct Shape {
    /// What it was made for.
    columns: Vec<ImageColumn>,
    travels: Option<Vec<String>>,
    op: Op,
    extra: Extra,
    /// Old and new keys stand side by side.
    rekeyed: bool,
    /// By act; none where there is nothing to do.
    forms: [Option<Form>; 6],
    /// In their place where conflicts are settled.
    pub(super) settled: Option<Settled>,
}

/// What stands in an image before its columns.
struct Extras {
    action: Option<usize>,
    filter: Option<usize>,
}

impl Extras {
    fn of(extra: Extra) -> Self {
        let (action, filter) = match extra {
            Extra::None | Extra::Version | Extra::Told => (None, None),
            Extra::Filter => (None, Some(0)),
            Extra::Action => (Some(0), None),
            Extra::ActionAndFilter => (Some(0), Some(1)),
        };
        Self { action, filter }
    }
}

// === impl Shape ===

impl Shape {
    /// Whether it serves entries with this head.
    pub(super) fn fits(&self, to: &Destination, head: &Head) -> bool {
        self.op == head.op && self.extra == head.extra && self.columns == head.columns && self.travels == to.columns
    }

    /// `types` are those of the head's columns, `own` is what the peer's table fills by itself; `ids` gives names.
    pub(super) fn new(
        to: &Destination,
        head: &Head,
        types: &[Type],
        own: &[OwnColumn],
        ground: Option<&Ground<'_>>,
        mut ids: impl FnMut() -> u32,
    ) -> Result<Self, String> {
        let make = Make::new(to, head, types, own);
        let settled = ground.map(|ground| Settled::new(&make, to, head, ground, &mut ids)).transpose()?;
        let form = |act| make.form(act, &mut ids);
        let acts = [Act::Insert, Act::Upsert, Act::Update, Act::Delete, Act::Remove, Act::Move];
        Ok(Self {
            columns: head.columns.clone(),
            travels: to.columns.clone(),
            op: head.op,
            extra: head.extra,
            rekeyed: make.rekeyed,
            forms: acts.map(form),
            settled,
        })
    }

    pub(super) fn columns(&self) -> &[ImageColumn] {
        &self.columns
    }

    pub(super) fn form(&self, act: Act) -> Option<&Form> {
        let at = match act {
            Act::Insert => 0,
            Act::Upsert => 1,
            Act::Update => 2,
            Act::Delete => 3,
            Act::Remove => 4,
            Act::Move => 5,
        };
        self.forms.get(at)?.as_ref()
    }

    /// What is to be done with an image; none where it is nothing, an error where it does not fit its head.
    pub(super) fn act(&self, image: &Image<'_>) -> Result<Option<Act>, String> {
        let extras = Extras::of(self.extra);
        if image.values.len() != self.columns.len().saturating_add(self.extra.width()) {
            return Err(format!("an image of {} values", image.values.len()));
        }
        let bytes = |at: usize| image.values.get(at).and_then(|v| v.bytes);
        let op = match extras.action.map(bytes) {
            None if self.op != Op::Merge => self.op,
            Some(Some(b"INSERT")) => Op::Insert,
            Some(Some(b"UPDATE")) => Op::Update,
            Some(Some(b"DELETE")) => Op::Delete,
            _ => return Err("an image that does not say what happened to its row".to_owned()),
        };
        let within = match extras.filter.map(bytes) {
            None => None,
            Some(Some([met])) => Some(*met != 0),
            Some(_) => return Err("an image that does not say whether it meets the filter".to_owned()),
        };
        let new = self.rekeyed && op == Op::Upsert && {
            let mut keys = self.columns.iter().zip(image.values.iter().skip(self.extra.width()));
            keys.any(|(c, v): (&ImageColumn, &Value<'_>)| c.role == ColumnRole::Key && v.bytes.is_none())
        };
        Ok(match (op, within) {
            (Op::Insert, Some(false)) => None,
            (Op::Insert, _) => Some(Act::Insert),
            (Op::Upsert, Some(false)) if new => None,
            (Op::Upsert, _) if new => Some(Act::Insert),
            (Op::Upsert | Op::Update, Some(false)) | (Op::Delete, Some(false)) => Some(Act::Remove),
            (Op::Upsert | Op::Update, Some(true)) if self.rekeyed => Some(Act::Move),
            (Op::Upsert, _) if self.rekeyed => Some(Act::Update),
            (Op::Upsert, _) | (Op::Update, Some(true)) => Some(Act::Upsert),
            (Op::Update, None) => Some(Act::Update),
            (Op::Delete, _) => Some(Act::Delete),
            (Op::Merge | Op::Truncate | Op::Copy | Op::Ddl, _) => return Err("images of what has none".to_owned()),
        })
    }
}

/// What the statements are made of.
pub(super) struct Make<'a> {
    pub(super) table: String,
    pub(super) columns: &'a [ImageColumn],
    pub(super) types: &'a [Type],
    pub(super) own: &'a [OwnColumn],
    travels: Vec<bool>,
    offset: usize,
    rekeyed: bool,
}

impl<'a> Make<'a> {
    fn new(to: &Destination, head: &'a Head, types: &'a [Type], own: &'a [OwnColumn]) -> Self {
        let columns = &head.columns;
        let old_key = |name: &str| columns.iter().any(|c| c.role == ColumnRole::Key && c.name == name);
        let travels = |c: &ImageColumn| c.role != ColumnRole::Value || old_key(&c.name) || to.takes(&c.name);
        Self {
            table: table(&to.table, "UTF8"),
            columns,
            types,
            own,
            travels: columns.iter().map(travels).collect(),
            offset: head.extra.width(),
            rekeyed: head.rekeys(),
        }
    }

    fn form(&self, act: Act, ids: &mut impl FnMut() -> u32) -> Option<Form> {
        let used = self.used(act);
        if !matches!(act, Act::Insert) && self.finds().next().is_none() {
            return None;
        }
        let params: Vec<Input> = used.iter().filter_map(|at| self.input(*at)).collect();
        let sql = self.sql(act, &used, false)?;
        let oids = used.iter().filter_map(|at| self.types.get(*at)).map(|t| t.oid);
        let one = Statement { id: ids(), sql, types: oids.collect() };
        let arrays: Option<Vec<u32>> = used.iter().map(|at| self.array(*at)).collect();
        let many = arrays.filter(|a| !a.is_empty() && act != Act::Move).and_then(|types| {
            let sql = self.sql(act, &used, true)?;
            Some(Statement { id: ids(), sql, types })
        });
        let nothing_set = act == Act::Upsert && self.sets().next().is_none();
        Some(Form { one, many, params, counts: !matches!(act, Act::Remove | Act::Move) && !nothing_set })
    }

    /// A column's value as a parameter.
    pub(super) fn input(&self, at: usize) -> Option<Input> {
        let (place, text) = (at.checked_add(self.offset)?, self.columns.get(at)?.text);
        Some(Input { at: place, element: if text { TEXT } else { self.types.get(at)?.oid }, text })
    }

    /// Which columns an act needs.
    fn used(&self, act: Act) -> Vec<usize> {
        let wanted = |at: &usize| match act {
            Act::Insert | Act::Upsert => self.inserts().any(|i| i == *at),
            Act::Update => self.finds().chain(self.sets()).any(|i| i == *at),
            Act::Delete | Act::Remove => self.finds().any(|i| i == *at),
            Act::Move => self.finds().chain(self.sets()).chain(self.inserts()).any(|i| i == *at),
        };
        (0..self.columns.len()).filter(wanted).collect()
    }

    /// By what the row is found.
    fn finds(&self) -> impl Iterator<Item = usize> {
        self.of(|c| c.role != ColumnRole::Value)
    }

    /// What a new row consists of.
    fn inserts(&self) -> impl Iterator<Item = usize> {
        self.of(|c| c.role != ColumnRole::Key && !self.own.iter().any(|o| o.generated && o.name == c.name))
    }

    /// What an old row gets.
    fn sets(&self) -> impl Iterator<Item = usize> {
        self.of(|c| c.role == ColumnRole::Value && !self.own.iter().any(|o| o.name == c.name))
    }

    /// The columns of some kind, as far as they travel.
    pub(super) fn of(&self, which: impl Fn(&ImageColumn) -> bool) -> impl Iterator<Item = usize> {
        let travelling = self.columns.iter().zip(&self.travels).enumerate();
        travelling.filter_map(move |(at, (c, travels))| (*travels && which(c)).then_some(at))
    }

    /// The type of an array of values; none where they have to go one by one.
    fn array(&self, at: usize) -> Option<u32> {
        let of = self.types.get(at)?;
        if self.columns.get(at)?.text { (!of.casts).then_some(TEXT_ARRAY) } else { of.array }
    }

    /// A column's value, which is the `n`th parameter (from 0).
    fn value(&self, at: usize, n: usize, many: bool) -> Option<String> {
        let n = n.checked_add(1)?;
        Some(match self.columns.get(at)?.text {
            true if many => format!("v.c{n}::{}", self.types.get(at)?.name),
            _ if many => format!("v.c{n}"),
            _ => format!("${n}"),
        })
    }

    fn sql(&self, act: Act, used: &[usize], many: bool) -> Option<String> {
        let name = |at: usize| Some(ident(&self.columns.get(at)?.name, "UTF8"));
        let value = |at: usize| self.value(at, used.iter().position(|u| *u == at)?, many);
        let list = |at: &mut dyn Iterator<Item = usize>, each: &dyn Fn(usize) -> Option<String>, by: &str| {
            Some(at.map(each).collect::<Option<Vec<_>>>()?.join(by))
        };
        let source = many.then(|| unnest(used.len()));
        let table = &self.table;
        let find =
            |t: &str| list(&mut self.finds(), &|at| Some(format!("{t}.{} = {}", name(at)?, value(at)?)), " AND ");
        let set = || list(&mut self.sets(), &|at| Some(format!("{} = {}", name(at)?, value(at)?)), ", ");
        let insert = |from: &str| {
            let names = list(&mut self.inserts(), &name, ", ")?;
            let values = list(&mut self.inserts(), &value, ", ")?;
            if names.is_empty() {
                return Some(format!("INSERT INTO {table} DEFAULT VALUES"));
            }
            let rows = if from.is_empty() { format!("VALUES ({values})") } else { format!("SELECT {values}{from}") };
            Some(format!("INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE {rows}"))
        };
        let from = |word: &str| source.as_ref().map_or(String::new(), |s| format!(" {word} {s}"));
        Some(match act {
            Act::Insert => insert(&from("FROM"))?,
            Act::Upsert => {
                let mut sql = insert(&from("FROM"))?;
                let key = list(&mut self.finds(), &name, ", ")?;
                let set = list(&mut self.sets(), &|at| name(at).map(|n| format!("{n} = EXCLUDED.{n}")), ", ")?;
                let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {set}") };
                write!(sql, " ON CONFLICT ({key}) DO {action}").ok()?;
                sql
            }
            Act::Update => {
                let set = set().filter(|set| !set.is_empty())?;
                format!("UPDATE {table} AS t SET {set}{} WHERE {}", from("FROM"), find("t")?)
            }
            Act::Delete | Act::Remove => format!("DELETE FROM {table} AS t{} WHERE {}", from("USING"), find("t")?),
            Act::Move => {
                let set = set().filter(|set| !set.is_empty() && !many)?;
                let insert = insert(" WHERE NOT EXISTS (SELECT FROM u)")?;
                let find = find("t")?;
                format!("WITH u AS (UPDATE {table} AS t SET {set} WHERE {find} RETURNING 1) {insert}")
            }
        })
    }
}

/// Parameters, each an array, as rows. The server knows the function that takes several by this name only, and by no other
/// function's, whatever the search_path is.
fn unnest(columns: usize) -> String {
    let all = |prefix: &str| (1..=columns).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>().join(", ");
    format!("unnest({}) AS v({})", all("$"), all("c"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;
    use crate::config::{OnError, TableName, Triggers};
    use crate::journal::entry::sample;

    fn to(columns: Option<&[&str]>) -> Destination {
        let table = TableName { schema: "s".into(), table: "T".into() };
        Destination {
            source: table.clone(),
            table,
            columns: columns.map(|c| c.iter().map(|c| (*c).to_owned()).collect()),
            filter: None,
            on_error: OnError::default(),
            triggers: Triggers::default(),
            conflict: None,
        }
    }

    /// `name`, `name*` of the key, `name-` the key as it was.
    fn shape(op: Op, extra: Extra, columns: &[&str], to: &Destination, own: &[OwnColumn]) -> Shape {
        let column = |spec: &&str| {
            let role = match spec.chars().last() {
                Some('*') => ColumnRole::KeyValue,
                Some('-') => ColumnRole::Key,
                _ => ColumnRole::Value,
            };
            let name = spec.trim_end_matches(['*', '-', '~']).to_owned();
            ImageColumn { name, type_name: "integer".into(), role, text: spec.ends_with('~') }
        };
        let columns: Vec<_> = columns.iter().map(column).collect();
        let types =
            vec![Type { oid: 23, array: Some(1007), name: "pg_catalog.int4".into(), casts: false }; columns.len()];
        let head = Head { op, extra, columns, ..sample() };
        let mut id = 0;
        let ids = || {
            id += 1;
            id
        };
        Shape::new(to, &head, &types, own, None, ids).unwrap()
    }

    fn sql(shape: &Shape, act: Act) -> (String, Option<String>) {
        let form = shape.form(act).unwrap();
        (form.one.sql.clone(), form.many.as_ref().map(|m| m.sql.clone()))
    }

    #[test]
    fn each_act_has_a_statement_for_one_row_and_one_for_many() {
        let shape = shape(Op::Upsert, Extra::None, &["k*", "a\"b", "m~"], &to(None), &[]);
        let many = |s: &str| Some(s.to_owned());
        assert_eq!(
            sql(&shape, Act::Insert),
            (
                r#"INSERT INTO "s"."T" ("k", "a""b", "m") OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3)"#.into(),
                many(
                    r#"INSERT INTO "s"."T" ("k", "a""b", "m") OVERRIDING SYSTEM VALUE SELECT v.c1, v.c2, v.c3::pg_catalog.int4 FROM unnest($1, $2, $3) AS v(c1, c2, c3)"#
                )
            )
        );
        assert!(
            sql(&shape, Act::Upsert)
                .0
                .ends_with(r#" ON CONFLICT ("k") DO UPDATE SET "a""b" = EXCLUDED."a""b", "m" = EXCLUDED."m""#)
        );
        assert_eq!(
            sql(&shape, Act::Update).1,
            many(
                r#"UPDATE "s"."T" AS t SET "a""b" = v.c2, "m" = v.c3::pg_catalog.int4 FROM unnest($1, $2, $3) AS v(c1, c2, c3) WHERE t."k" = v.c1"#
            )
        );
        assert_eq!(
            sql(&shape, Act::Delete),
            (
                r#"DELETE FROM "s"."T" AS t WHERE t."k" = $1"#.into(),
                many(r#"DELETE FROM "s"."T" AS t USING unnest($1) AS v(c1) WHERE t."k" = v.c1"#)
            )
        );
        let value = |at| Input { at, element: 23, text: false };
        assert_eq!(shape.form(Act::Delete).unwrap().params, [value(0)]);
        let insert = shape.form(Act::Insert).unwrap();
        assert_eq!(insert.params, [value(0), value(1), Input { at: 2, element: TEXT, text: true }]);
        assert_eq!(insert.one.types, [23, 23, 23], "one value is read as what it is");
        assert_eq!(insert.many.as_ref().unwrap().types, [1007, 1007, TEXT_ARRAY]);
    }

    #[test]
    fn what_the_peer_fills_itself_is_not_set() {
        let own = [OwnColumn { name: "i".into(), generated: false }, OwnColumn { name: "g".into(), generated: true }];
        let shape = shape(Op::Upsert, Extra::Filter, &["k*", "i", "g"], &to(None), &own);
        let (one, _) = sql(&shape, Act::Upsert);
        assert_eq!(
            one,
            r#"INSERT INTO "s"."T" ("k", "i") OVERRIDING SYSTEM VALUE VALUES ($1, $2) ON CONFLICT ("k") DO NOTHING"#
        );
        assert!(!shape.form(Act::Upsert).unwrap().counts, "nothing is set where the row is there");
        assert!(shape.form(Act::Update).is_none());
    }

    #[test]
    fn a_column_list_leaves_out_all_but_itself_and_the_key() {
        let shape = shape(Op::Update, Extra::None, &["k-", "k", "a", "b"], &to(Some(&["b"])), &[]);
        assert_eq!(sql(&shape, Act::Update).0, r#"UPDATE "s"."T" AS t SET "k" = $2, "b" = $3 WHERE t."k" = $1"#);
    }

    fn act(shape: &Shape, values: &[Option<&[u8]>]) -> Option<Act> {
        let values = values.iter().map(|bytes| Value { type_oid: 0, bytes: *bytes }).collect();
        shape.act(&Image { tableoid: 1, values }).unwrap()
    }

    #[test]
    fn filters_and_actions_say_what_becomes_of_a_row() {
        let filtered = |op| shape(op, Extra::Filter, &["k*", "a"], &to(None), &[]);
        let [yes, no, k]: [Option<&[u8]>; 3] = [Some(&[1]), Some(&[0]), Some(b"k")];
        assert_eq!(act(&filtered(Op::Insert), &[yes, k, k]), Some(Act::Insert));
        assert_eq!(act(&filtered(Op::Insert), &[no, k, k]), None);
        assert_eq!(act(&filtered(Op::Update), &[yes, k, k]), Some(Act::Upsert));
        assert_eq!(act(&filtered(Op::Update), &[no, k, k]), Some(Act::Remove));
        let merge = shape(Op::Merge, Extra::ActionAndFilter, &["k*", "a"], &to(None), &[]);
        assert_eq!(act(&merge, &[Some(b"DELETE"), yes, k, k]), Some(Act::Delete));
        assert_eq!(act(&merge, &[Some(b"UPDATE"), no, k, k]), Some(Act::Remove));
        let rekeyed = shape(Op::Upsert, Extra::None, &["k-", "k", "a"], &to(None), &[]);
        assert_eq!(act(&rekeyed, &[None, k, k]), Some(Act::Insert));
        assert_eq!(act(&rekeyed, &[k, k, k]), Some(Act::Update));
        let moved = shape(Op::Update, Extra::Filter, &["k-", "k", "a"], &to(None), &[]);
        assert_eq!(act(&moved, &[yes, k, k, k]), Some(Act::Move));
        let image = Image { tableoid: 1, values: vec![] };
        assert!(moved.act(&image).is_err());
    }
}
