//! One JSON object per line and entry: exactly what the journal holds, for tools.

use std::fmt;
use std::io::{self, Write};

use serde::{Serialize, Serializer};

use super::{At, DumpError, Form, count, extra_word, lane_word, op_word, role_word};
use crate::journal::codec::Entry;
use crate::journal::entry::{ImageColumn, Lane, Param, Place, Text};
use crate::journal::image::{Image, Images, OID_OID, Value};
use crate::journal::meta::Forgery;

/// Prints lines of JSON.
pub struct Json<W> {
    out: W,
}

#[derive(Serialize)]
struct Where {
    tick: Option<i64>,
    timeline: Option<i32>,
    ord: i32,
    xid: u64,
    lsn: String,
}

#[derive(Serialize)]
struct Forged {
    #[serde(flatten)]
    at: Where,
    forged: String,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    at: Where,
    schema: &'a str,
    table: &'a str,
    op: &'static str,
    lane: &'static str,
    rule: &'a str,
    encoding: &'a str,
    shape: Hex<'a>,
    extra: &'static str,
    count: Option<u64>,
    #[serde(flatten)]
    text: Option<Statement<'a>>,
    columns: Vec<Column<'a>>,
    rows: Rows<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Hex<'a>>,
}

/// A text: as one, where it can be told what characters it consists of, and by its bytes otherwise.
#[derive(Serialize)]
struct Statement<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_hex: Option<Hex<'a>>,
    params: Vec<Bound<'a>>,
    names: &'a [Place],
    settings: &'a [(String, String)],
}

#[derive(Serialize)]
struct Bound<'a> {
    r#type: u32,
    binary: bool,
    value: Option<Hex<'a>>,
}

#[derive(Serialize)]
struct Column<'a> {
    name: &'a str,
    r#type: &'a str,
    role: &'static str,
    text: bool,
}

/// Bytes, in hexadecimal.
struct Hex<'a>(&'a [u8]);

/// Images, each a list of `[type, bytes]`, `tableoid` first.
struct Rows<'a>(Images<'a>);

struct Row<'a>(Image<'a>);

// === impl Json ===

impl<W: Write> Json<W> {
    pub fn new(out: W) -> Self {
        Self { out }
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

impl<W: Write> Form for Json<W> {
    async fn entry(&mut self, at: &At, entry: &Entry) -> Result<(), DumpError> {
        let (lane, text) = entry.travels();
        let head = &entry.head;
        self.line(&Line {
            at: Where::new(at),
            schema: &head.schema,
            table: &head.table,
            op: op_word(head.op),
            lane: lane_word(lane),
            rule: &head.rule,
            encoding: &head.encoding,
            shape: Hex(&head.shape),
            extra: extra_word(head.extra),
            count: count(head, lane),
            text: text.map(|text| Statement::new(text, &head.encoding)),
            columns: head.columns.iter().map(Column::new).collect(),
            rows: Rows(if lane == Lane::Row { entry.images() } else { Images::new(&[]) }),
            data: (lane == Lane::Copy).then_some(Hex(&entry.body)),
        })?;
        Ok(())
    }

    fn forged(&mut self, at: &At, why: Forgery) -> io::Result<()> {
        self.line(&Forged { at: Where::new(at), forged: why.to_string() })
    }
}

impl Where {
    fn new(at: &At) -> Self {
        let At { tick, timeline, ord, xid, lsn } = *at;
        Self { tick: tick.map(|t| t.0), timeline, ord, xid: xid.0, lsn: lsn.to_string() }
    }
}

impl<'a> Statement<'a> {
    fn new(text: &'a Text, encoding: &str) -> Self {
        let Text { sql, params, names, settings } = text;
        // Bytes of another encoding can look like UTF-8 and mean something else.
        let readable = sql.is_ascii() || encoding == "UTF8";
        let text = std::str::from_utf8(sql).ok().filter(|_| readable);
        let text_hex = text.is_none().then_some(Hex(sql));
        Self { text, text_hex, params: params.iter().map(Bound::new).collect(), names, settings }
    }
}

impl<'a> Bound<'a> {
    fn new(param: &'a Param) -> Self {
        Self { r#type: param.type_oid, binary: param.binary, value: param.value.as_deref().map(Hex) }
    }
}

impl<'a> Column<'a> {
    fn new(column: &'a ImageColumn) -> Self {
        Self { name: &column.name, r#type: &column.type_name, role: role_word(column.role), text: column.text }
    }
}

// === impl Serialize ===

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // Those that cannot be read were reported before this.
        to.collect_seq(self.0.clone().flatten().map(Row))
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let tableoid = self.0.tableoid.to_be_bytes();
        let first = Value { type_oid: OID_OID, bytes: Some(&tableoid) };
        let values = std::iter::once(&first).chain(&self.0.values);
        to.collect_seq(values.map(|value| (value.type_oid, value.bytes.map(Hex))))
    }
}
