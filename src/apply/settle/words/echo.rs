//! What goes out again of a conflict: the row or the deletion that has won.

use super::{Column, Told, Words};
use crate::apply::applier::TIMESTAMPTZ;
use crate::apply::shape::TEXT;
use crate::config::Resolve;
use crate::journal::codec::{EncodeError, encode_head};
use crate::journal::entry::{ColumnRole, Extra, Head, ImageColumn, Lane, Op};
use crate::sql::quote::literal;

impl<'a> Words<'a> {
    /// The image, where it has won, goes out again if the end would hang on the order of what nodes hear otherwise.
    pub(super) fn again(&self) -> Result<Option<String>, EncodeError> {
        let mut why = self.newer_ones_lost();
        why.extend(self.gone_astray());
        if why.is_empty() {
            return Ok(None);
        }
        let (table, key) = (self.schema_and_name(), self.told(Told::Key));
        let version = match self.tells_versions() {
            true => format!("{}, {}, ", self.told(Told::Time), self.told(Told::Origin)),
            false => String::new(),
        };
        let columns = self.list(", ", |_| true, |c| c.plain(&c.value));
        let image = format!("pg_catalog.record_send(ROW(0::pg_catalog.oid, {version}{columns}))");
        // Whoever wrote over it, that one has seen it.
        let row = format!("{table}, {key}, NULL, NULL");
        let from = format!("won WHERE {}", why.join(" OR "));
        Ok(Some(format!("SELECT pgcanon.tell({}, {image}, {row}) FROM {from}", self.row_head()?)))
    }

    /// What is told again nobody has any more, perhaps: who tells it has written something over it meanwhile that is weaker, and
    /// so has who wrote it. A column need not grow, and clocks step back.
    fn gone_astray(&self) -> Option<String> {
        let who = match self.head.extra {
            Extra::Told => String::new(),
            // As long as its writer has it, that one tells it to all who have something weaker.
            Extra::Version => {
                let [peer, bringer] = [self.ground.peer, self.ground.bringer].map(|node| literal(node.as_str()));
                format!(" AND {} IN ({peer}, {bringer})", self.told(Told::Origin))
            }
            _ => return None,
        };
        let rank = self.rank("t", self.ground.conflict.resolve);
        Some(format!("NOT EXISTS (SELECT FROM {} AS t WHERE {} AND {rank} = 0){who}", self.table, self.same_key()))
    }

    /// Where rows are not as strong as they are new, nodes may know more than they tell. Over a newer row, as who wrote that may
    /// have known the image; and over the deletion of another node, as it has been beaten elsewhere by what is deleted, perhaps.
    fn newer_ones_lost(&self) -> Vec<String> {
        let (table, key) = (self.schema_and_name(), self.told(Told::Key));
        let newer = match (&self.number, self.ground.conflict.resolve) {
            (_, Resolve::Last | Resolve::Error) | (Some(_), Resolve::Node) => return Vec::new(),
            (Some(Column { name, value, .. }), Resolve::First) => format!("t.{name} > {value}"),
            (None, _) => format!("v.at > {}", self.told(Told::Time)),
        };
        let mut why = vec![
            format!(
                "EXISTS (SELECT FROM {} AS t, {} WHERE {} AND {newer})",
                self.table,
                self.version("t"),
                self.same_key()
            ),
            // The transaction has said so of this row before.
            format!(
                "EXISTS (SELECT FROM pgcanon.echo AS e \
                 WHERE (e.nsp_name, e.table_name, e.key) = ({table}, {key}) AND e.sent IS NULL)"
            ),
        ];
        if self.ground.conflict.resolve == Resolve::First {
            why.push(format!(
                "EXISTS (SELECT FROM {} AS d, {} WHERE v.origin IS DISTINCT FROM {} \
                 AND NOT EXISTS (SELECT FROM {} AS t WHERE {} AND {} = 0))",
                self.deletions(),
                self.version("d"),
                self.told(Told::Origin),
                self.table,
                self.same_key(),
                self.rank("t", Resolve::First)
            ));
        }
        why
    }

    /// The row that has won.
    pub(super) fn tell_row(&self) -> Result<String, EncodeError> {
        Ok(self.tell(&self.row_head()?, "h.image", "h", "here AS h"))
    }

    /// The deletion that has won.
    pub(super) fn tell_grave(&self, from: &str) -> Result<String, EncodeError> {
        Ok(self.tell(&self.grave_head()?, &self.grave_image(), "d", from))
    }

    fn tell(&self, head: &str, image: &str, winner: &str, from: &str) -> String {
        let writer = if self.ground.keeps_times { format!("{winner}.writer") } else { "NULL".to_owned() };
        let seen = self.told(Told::Seen);
        format!("SELECT pgcanon.tell({head}, {image}, NULL, NULL, NULL, {seen}, {writer}) FROM {from}")
    }

    /// What an entry with the row of the peer is headed with there.
    fn row_head(&self) -> Result<String, EncodeError> {
        let role = |role| if role == ColumnRole::Value { role } else { ColumnRole::KeyValue };
        let column = |c: &Column<'_>| ImageColumn { role: role(c.head.role), ..c.head.clone() };
        self.head_of(Op::Upsert, self.tells_versions(), self.columns.iter().map(column).collect())
    }

    /// The same where it is gone: its key, and nothing but the number of its version.
    fn grave_head(&self) -> Result<String, EncodeError> {
        let key = |column: &Column<'_>| ImageColumn { role: ColumnRole::Key, ..column.head.clone() };
        let keys = self.keys().into_iter().map(key);
        let columns = keys.chain(self.beside_key().map(|column| column.head.clone())).collect();
        self.head_of(Op::Delete, self.number.is_none(), columns)
    }

    /// The columns that an image of what is gone has behind its key: whoever has a newer row is to tell all of it.
    fn beside_key(&self) -> impl Iterator<Item = &Column<'a>> {
        self.columns.iter().filter(|column| !column.is_key())
    }

    fn head_of(&self, op: Op, version: bool, columns: Vec<ImageColumn>) -> Result<String, EncodeError> {
        let head = Head {
            lane: Lane::Row,
            op,
            schema: self.to.table.schema.clone(),
            table: self.to.table.table.clone(),
            encoding: "UTF8".to_owned(),
            columns,
            extra: if version { Extra::Version } else { Extra::Told },
            text: None,
            rows: Some(1),
            ..self.head.clone()
        };
        Ok(bytes(&encode_head(&head)?))
    }

    /// The image of what is gone: `dead` is called `d`.
    fn grave_image(&self) -> String {
        let field = |oid: u32, len: u32| bytes(&[oid.to_be_bytes(), len.to_be_bytes()].concat());
        let versions: usize = if self.number.is_none() { 2 } else { 0 };
        let count = self.columns.len().saturating_add(versions).saturating_add(1);
        let mut parts =
            vec![bytes(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes()), field(26, 4), bytes(&[0; 4])];
        if self.number.is_none() {
            parts.extend([
                field(TIMESTAMPTZ, 8),
                "pg_catalog.timestamptz_send(d.at)".to_owned(),
                bytes(&TEXT.to_be_bytes()),
                "pg_catalog.int4send(pg_catalog.octet_length(d.origin))".to_owned(),
                "pg_catalog.convert_to(d.origin, 'UTF8')".to_owned(),
            ]);
        }
        parts.push(self.told(Told::Key));
        for column in self.beside_key() {
            let null = field(column.type_oid, u32::MAX);
            if self.number.as_ref().map(|number| number.at) != Some(column.at) {
                parts.push(null);
                continue;
            }
            let (len, send) = match column.type_oid {
                21 => (2, "pg_catalog.int2send(d.number::pg_catalog.int2)"),
                23 | 1082 => (4, "pg_catalog.int4send(d.number::pg_catalog.int4)"),
                _ => (8, "pg_catalog.int8send(d.number)"),
            };
            parts.push(format!("COALESCE({} || {send}, {null})", field(column.type_oid, len)));
        }
        parts.join(" || ")
    }
}

/// A `bytea`.
fn bytes(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("'\\x{hex}'::pg_catalog.bytea")
}
