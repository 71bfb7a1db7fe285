//! The independent checker: rebuilds tables from the journal with SQL of its own, and compares them with the node's.
//!
//! It shares no code with the program: images are bound as binary parameters, texts run as they travelled, and every entry
//! must change as many rows as it did on the node.

use super::entry::{Column, Entry, Role};
use super::session::Session;
use super::{Addr, msg};

/// An empty copy of the node's tables that changes are applied to.
#[derive(Debug)]
pub(crate) struct Replica {
    session: Session,
    /// The session's encoding.
    encoding: String,
    /// The key of each table, for upserts: `(schema, table, columns)`.
    keys: Vec<(String, String, Vec<String>)>,
    /// The transaction that is being applied, by tick and xid.
    open: Option<(u64, u64)>,
    /// COPY data of which the end has not come yet.
    copying: Vec<u8>,
    /// How many entries were applied.
    pub(crate) applied: usize,
}

/// The tables that are compared: everything but the catalogs, the journal, and schema `plain`, which no test has a rule for.
const TABLES: &str = "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace \
     where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^pg_' \
     and n.nspname not in ('pgcanon', 'information_schema', 'plain') order by 1, 2";

const KEYS: &str = "select n.nspname, c.relname, a.attname from pg_index i join pg_class c on c.oid = i.indrelid \
     join pg_namespace n on n.oid = c.relnamespace cross join unnest(i.indkey) with ordinality k(attnum, pos) \
     join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum where i.indisprimary order by 1, 2, k.pos";

const RESTART: &str = " RESTART IDENTITY";

// === impl Replica ===

impl Replica {
    /// On a database that holds the tables as they were when the journal began.
    pub(crate) fn on(addr: &Addr, database: &str) -> Replica {
        let mut session = Session::open(addr, "postgres", database);
        let mut keys: Vec<(String, String, Vec<String>)> = Vec::new();
        for row in session.ok(KEYS).rows() {
            let [schema, table, column] = words(row);
            match keys.last_mut() {
                Some((s, t, columns)) if *s == schema && *t == table => columns.push(column),
                _ => keys.push((schema, table, vec![column])),
            }
        }
        Replica { session, encoding: "UTF8".to_owned(), keys, open: None, copying: Vec::new(), applied: 0 }
    }

    /// Applies entries in their order, each source transaction as one.
    pub(crate) fn apply(&mut self, entries: &[Entry]) {
        let mut place = (0, 0, 0);
        let mut entries = entries.iter().peekable();
        while let Some(entry) = entries.next() {
            let tick = entry.tick.expect("only what a tick covers is applied");
            let next = (tick, entry.lsn, entry.xid);
            assert!(place <= next, "the dump is not in order: {place:?} before {next:?}");
            place = next;
            let transaction = (tick, entry.xid);
            if self.open != Some(transaction) {
                self.commit();
                self.session.ok("begin; set constraints all deferred");
                self.open = Some(transaction);
            }
            self.applied += 1;
            if entry.op == "truncate" && entry.extra == "none" {
                // Tables that reference each other are emptied together or not at all.
                let mut texts = vec![String::from_utf8_lossy(&renamed(entry)).into_owned()];
                while let Some(next) = entries.next_if(|next| {
                    (next.xid, next.tick) == (entry.xid, entry.tick) && next.op == "truncate" && next.extra == "none"
                }) {
                    self.applied += 1;
                    texts.push(String::from_utf8_lossy(&renamed(next)).into_owned());
                }
                self.truncate(entry, &texts);
            } else {
                self.one(entry);
            }
        }
        self.commit();
    }

    fn commit(&mut self) {
        assert!(self.copying.is_empty(), "a COPY in chunks has no end");
        if let Some(transaction) = self.open.take() {
            let answer = self.session.run("commit");
            assert_eq!(answer.failure(), None, "the commit of {transaction:?}");
            assert_eq!(answer.tags(), ["COMMIT"], "{transaction:?}");
        }
    }

    fn one(&mut self, entry: &Entry) {
        match (entry.lane.as_str(), entry.op.as_str()) {
            ("row", _) => {
                for row in &entry.rows {
                    self.image(entry, row);
                }
            }
            ("copy", _) => self.copy(entry),
            ("statement", "truncate") if entry.extra != "none" => {
                // Only filtered rows are here, so all of them are the filtered ones.
                self.must(entry, format!("delete from {}", table(entry)), &[]);
            }
            ("statement" | "locked", _) => self.text(entry),
            other => panic!("an unknown lane or operation: {other:?}"),
        }
    }

    /// A statement that travelled as text, with the parameters as they were bound.
    fn text(&mut self, entry: &Entry) {
        for (name, value) in &entry.settings {
            self.must(entry, "select set_config($1, $2, true)", &[text(name), text(value)]);
        }
        let params: Vec<Bound> =
            entry.params.iter().map(|p| Bound { oid: p.oid, binary: p.binary, value: p.value.clone() }).collect();
        let sql = renamed(entry);
        let tag = self.must(entry, &sql, &params);
        if entry.op == "ddl" {
            return;
        }
        let changed = count(&tag);
        assert!(changed > 0, "a text that changes nothing: {entry:#?}");
        if let Some(expected) = entry.count {
            assert_eq!(changed, expected, "{tag} of {entry:#?}");
        }
    }

    /// Runs several TRUNCATEs as one.
    fn truncate(&mut self, entry: &Entry, texts: &[String]) {
        let restart = texts.iter().any(|text| text.ends_with(RESTART));
        let names = texts.iter().map(|text| {
            let name = text.trim_end_matches(RESTART).strip_prefix("TRUNCATE TABLE ");
            name.unwrap_or_else(|| panic!("no TRUNCATE: {text}"))
        });
        let names: Vec<_> = names.collect();
        self.must(entry, format!("truncate {}{}", names.join(", "), if restart { RESTART } else { "" }), &[]);
    }

    fn copy(&mut self, entry: &Entry) {
        self.copying.extend(&entry.data);
        let Some(expected) = entry.count else { return };
        for (name, value) in &entry.settings {
            self.must(entry, "select set_config($1, $2, true)", &[text(name), text(value)]);
        }
        self.encode(&entry.encoding);
        let data = std::mem::take(&mut self.copying);
        let pieces: Vec<&[u8]> = data.chunks(1 << 16).collect();
        let answer = self.session.copy(renamed(entry), &pieces);
        assert_eq!(answer.failure(), None, "{entry:#?}");
        assert_eq!(answer.tags(), [format!("COPY {expected}")], "{entry:#?}");
    }

    /// A row that travelled as an image.
    fn image(&mut self, entry: &Entry, image: &[super::entry::Datum]) {
        let mut values = image.iter();
        values.next().expect("an image begins with tableoid");
        let action = matches!(entry.extra.as_str(), "action" | "action_and_filter").then(|| {
            let action = values.next().and_then(|d| d.value.clone()).expect("a MERGE's action");
            String::from_utf8(action).expect("a word").to_lowercase()
        });
        let within = matches!(entry.extra.as_str(), "filter" | "action_and_filter")
            .then(|| values.next().and_then(|d| d.value.as_deref()) == Some(&[1]));
        let row: Vec<(&Column, Bound)> = entry
            .columns
            .iter()
            .zip(values.by_ref())
            .map(|(column, datum)| {
                if column.text {
                    assert_eq!(datum.oid, 25, "{} travels as text: {entry:#?}", column.name);
                }
                (column, Bound { oid: 0, binary: true, value: datum.value.clone() })
            })
            .collect();
        assert!(values.next().is_none() && row.len() == entry.columns.len(), "columns and values: {entry:#?}");
        let op = action.as_deref().unwrap_or(&entry.op);
        match (op, within) {
            ("insert", Some(false)) => {}
            ("insert", _) => self.insert(entry, &row, ""),
            ("upsert", None | Some(true)) => self.upsert(entry, &row),
            ("update", None) => {
                let changed = self.update(entry, &row);
                assert_eq!(changed, Some(1), "an update: {entry:#?}");
            }
            // With a filter the peer may not have had the row.
            ("update", Some(true)) => {
                if self.update(entry, &row) == Some(0) {
                    self.insert(entry, &row, "");
                }
            }
            ("update" | "upsert", Some(false)) | ("delete", Some(_)) => {
                self.delete(entry, &row);
            }
            ("delete", None) => assert_eq!(self.delete(entry, &row), 1, "a delete: {entry:#?}"),
            other => panic!("an unknown operation {other:?}: {entry:#?}"),
        }
    }

    fn insert(&mut self, entry: &Entry, row: &[(&Column, Bound)], more: &str) {
        let now: Vec<&(&Column, Bound)> = row.iter().filter(|(c, _)| c.role != Role::Key).collect();
        let columns: Vec<String> = now.iter().map(|(c, _)| quoted(&c.name)).collect();
        let values: Vec<String> = now.iter().enumerate().map(|(i, (c, _))| slot(i, c)).collect();
        let params: Vec<Bound> = now.iter().map(|(_, value)| value.clone()).collect();
        let sql = format!(
            "insert into {} ({}) overriding system value values ({}){more}",
            table(entry),
            columns.join(", "),
            values.join(", ")
        );
        let tag = self.must(entry, &sql, &params);
        assert_eq!(tag, "INSERT 0 1", "{sql}: {entry:#?}");
    }

    fn upsert(&mut self, entry: &Entry, row: &[(&Column, Bound)]) {
        let own = |(s, t, _): &&(String, String, Vec<String>)| *s == entry.schema && *t == entry.table;
        let key = self.keys.iter().find(own).map(|(_, _, columns)| columns.clone()).expect("an upsert needs a key");
        let rest = row.iter().map(|(c, _)| &c.name).filter(|name| !key.contains(name));
        let set: Vec<String> = rest.map(|name| format!("{0} = excluded.{0}", quoted(name))).collect();
        let key: Vec<String> = key.iter().map(|name| quoted(name)).collect();
        let action = if set.is_empty() {
            format!("{0} = excluded.{0}", key[0]) // so that the row counts
        } else {
            set.join(", ")
        };
        self.insert(entry, row, &format!(" on conflict ({}) do update set {action}", key.join(", ")));
    }

    /// How many rows were updated; none where there is nothing to set.
    fn update(&mut self, entry: &Entry, row: &[(&Column, Bound)]) -> Option<u64> {
        let (mut params, mut set, mut find) = (Vec::new(), Vec::new(), Vec::new());
        for (column, value) in row {
            let pair = format!("{} = {}", quoted(&column.name), slot(params.len(), column));
            match column.role {
                Role::Value => set.push(pair),
                Role::Key | Role::KeyValue => find.push(pair),
            }
            params.push(value.clone());
        }
        assert!(!find.is_empty(), "an update's image without a key: {entry:#?}");
        if set.is_empty() {
            return None;
        }
        let sql = format!("update {} set {} where {}", table(entry), set.join(", "), find.join(" and "));
        Some(count(&self.must(entry, &sql, &params)))
    }

    fn delete(&mut self, entry: &Entry, row: &[(&Column, Bound)]) -> u64 {
        let key: Vec<&(&Column, Bound)> = row.iter().filter(|(c, _)| c.role != Role::Value).collect();
        assert!(!key.is_empty(), "a delete's image without a key: {entry:#?}");
        let find: Vec<String> =
            key.iter().enumerate().map(|(i, (c, _))| format!("{} = {}", quoted(&c.name), slot(i, c))).collect();
        let params: Vec<Bound> = key.iter().map(|(_, value)| value.clone()).collect();
        let sql = format!("delete from {} where {}", table(entry), find.join(" and "));
        count(&self.must(entry, &sql, &params))
    }

    /// Texts of entries are in the encoding of the client whose they were.
    fn encode(&mut self, encoding: &str) {
        if self.encoding != encoding {
            self.session.ok(&format!("set client_encoding = '{encoding}'"));
            self.encoding = encoding.to_owned();
        }
    }

    /// Runs one statement and returns its tag.
    fn must(&mut self, entry: &Entry, sql: impl AsRef<[u8]>, params: &[Bound]) -> String {
        let sql = sql.as_ref();
        self.encode(&entry.encoding);
        let types: Vec<u32> = params.iter().map(|p| p.oid).collect();
        let formats: Vec<i16> = params.iter().map(|p| i16::from(p.binary)).collect();
        let values: Vec<Option<&[u8]>> = params.iter().map(|p| p.value.as_deref()).collect();
        let bind = msg::bind_formats("", "", &formats, &values, &[]);
        let answer = self.session.send(&[msg::parse("", sql, &types), bind, msg::execute("", 0), msg::sync()]);
        if let Some(failure) = answer.failure() {
            panic!("{}: {failure:?}\nof {entry:?}", String::from_utf8_lossy(sql));
        }
        answer.tags().pop().expect("a tag")
    }

    /// Panics with the differing rows where a table here is not what it is on the node.
    ///
    /// `filters` are the rules' conditions: `(schema.table, condition)`; only rows that meet them are expected here.
    pub(crate) fn assert_equals(&mut self, node: &mut Session, filters: &[(&str, &str)]) {
        self.encode("UTF8");
        let tables = node.ok(TABLES).rows();
        assert_eq!(tables, self.session.ok(TABLES).rows(), "the tables");
        assert!(!tables.is_empty(), "there is nothing to compare");
        for row in tables {
            let [schema, name] = words(row);
            let full = format!("{}.{}", quoted(&schema), quoted(&name));
            let filter = filters.iter().find(|(table, _)| *table == format!("{schema}.{name}"));
            let filter = filter.map_or(String::new(), |(_, filter)| format!(" where {filter}"));
            let digest =
                |filter: &str| format!("select count(*), sum(hashtext(whole::text)) from {full} whole{filter}");
            let expected = node.ok(&digest(&filter)).rows();
            let got = self.session.ok(&digest("")).rows();
            if expected != got {
                let all = |filter: &str| format!("select whole::text from {full} whole{filter} order by 1");
                let there = node.ok(&all(&filter)).rows();
                let here = self.session.ok(&all("")).rows();
                panic!("{full}: the node has {expected:?}, the journal makes {got:?}\n{}", difference(&there, &here));
            }
        }
    }
}

type Rows = Vec<Vec<Option<String>>>;

fn difference(node: &Rows, replica: &Rows) -> String {
    let only = |a: &Rows, b: &Rows| {
        let mut left: std::collections::HashMap<&Vec<Option<String>>, usize> = std::collections::HashMap::new();
        b.iter().for_each(|row| *left.entry(row).or_default() += 1);
        let missing = a.iter().filter(|row| match left.get_mut(row) {
            Some(n) if *n > 0 => {
                *n -= 1;
                false
            }
            _ => true,
        });
        missing.take(10).map(|row| format!("    {}\n", row[0].as_deref().unwrap_or("null"))).collect::<String>()
    };
    format!("  only on the node:\n{}  only by the journal:\n{}", only(node, replica), only(replica, node))
}

/// A value for a statement of ours.
#[derive(Clone, Debug)]
struct Bound {
    oid: u32,
    binary: bool,
    value: Option<Vec<u8>>,
}

fn text(value: &str) -> Bound {
    Bound { oid: 25, binary: false, value: Some(value.as_bytes().to_vec()) }
}

/// The placeholder of a column's value: its type is the parameter's, so that its binary form is read as what it is.
fn slot(index: usize, column: &Column) -> String {
    let n = index + 1;
    if column.text { format!("${n}::text::{}", column.type_name) } else { format!("${n}::{}", column.type_name) }
}

/// The text with every relation's name replaced by the table it meant, whatever the search_path was.
fn renamed(entry: &Entry) -> Vec<u8> {
    let mut sql = entry.text.clone().unwrap_or_else(|| panic!("a text is missing: {entry:#?}"));
    let mut names = entry.names.clone();
    names.sort_by_key(|place| std::cmp::Reverse(place.start));
    for place in names {
        let schema = quoted(&place.schema);
        let written = sql.get(place.start..place.end).unwrap_or_default();
        // Of an index, or of a partition, only the schema is named.
        let schema_alone = entry.op == "ddl" && (written == schema.as_bytes() || written == place.schema.as_bytes());
        let name = if schema_alone { schema } else { format!("{schema}.{}", quoted(&place.table)) };
        sql.splice(place.start..place.end, name.into_bytes());
    }
    sql
}

fn table(entry: &Entry) -> String {
    format!("{}.{}", quoted(&entry.schema), quoted(&entry.table))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The number at the end of a command tag.
fn count(tag: &str) -> u64 {
    tag.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no count in {tag}"))
}

fn words<const N: usize>(row: Vec<Option<String>>) -> [String; N] {
    let row: Vec<String> = row.into_iter().map(|word| word.expect("a name")).collect();
    row.try_into().expect("as many columns as were asked for")
}
