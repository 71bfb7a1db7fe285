//! Journal entries made by hand.

use bytes::Bytes;
use pgcanon::apply::{Applier, ApplyError, Mode};
use pgcanon::journal::entry::{ColumnRole, Extra, Head, ImageColumn, Lane, Op, Param, Place, Text};
use pgcanon::journal::{Entries, Entry, Progress, TickId, encode_entry};

/// `name:type`, with `*` behind it for a part of the key, and `-` for a part of the key as it was.
pub(crate) fn rows(op: Op, extra: Extra, table: &str, columns: &str, images: &[Vec<Option<Vec<u8>>>]) -> Entry {
    let column = |spec: &str| {
        let role = match spec.chars().last() {
            Some('*') => ColumnRole::KeyValue,
            Some('-') => ColumnRole::Key,
            _ => ColumnRole::Value,
        };
        let (name, type_name) = spec.trim_end_matches(['*', '-']).split_once(':').expect("name:type");
        ImageColumn { name: name.into(), type_name: type_name.into(), role, text: false }
    };
    let columns = columns.split(' ').filter(|c| !c.is_empty()).map(column).collect();
    let head = Head { columns, extra, ..head(Lane::Row, op, table) };
    let body: Vec<u8> = images.iter().flat_map(|values| image(values)).collect();
    travelled(head, &body)
}

/// A text about `table`, which stands in it as `<…>`.
pub(crate) fn text(lane: Lane, op: Op, table: &str, sql: &str, rows: Option<u64>) -> Entry {
    let (start, end) = (sql.find('<').expect("a name"), sql.find('>').expect("a name's end") - 1);
    let plain = format!("{}{}{}", &sql[..start], &sql[start + 1..=end], &sql[end + 2..]);
    let offset = |at: usize| u32::try_from(at).expect("a short text");
    let place = Place { start: offset(start), end: offset(end), schema: "public".into(), table: table.into() };
    let text = Text { sql: plain.into_bytes(), params: vec![], names: vec![place], settings: vec![] };
    travelled(Head { text: Some(text), rows, ..head(lane, op, table) }, b"")
}

pub(crate) fn with_params(mut entry: Entry, params: &[(u32, &[u8])]) -> Entry {
    let param = |(oid, value): &(u32, &[u8])| Param { type_oid: *oid, binary: false, value: Some(value.to_vec()) };
    entry.head.text.as_mut().expect("a text").params = params.iter().map(param).collect();
    entry
}

pub(crate) fn with_body(mut entry: Entry, body: &[u8]) -> Entry {
    entry.body = Bytes::copy_from_slice(body);
    entry
}

fn head(lane: Lane, op: Op, table: &str) -> Head {
    Head {
        lane,
        op,
        schema: "public".into(),
        table: table.into(),
        rule: "public.*".into(),
        encoding: "UTF8".into(),
        shape: [1; 8],
        columns: vec![],
        extra: Extra::None,
        text: None,
        rows: None,
    }
}

/// As the journal keeps it and gives it back.
fn travelled(head: Head, body: &[u8]) -> Entry {
    let mut data = Vec::new();
    encode_entry(&mut data, &head, body).expect("encode");
    Entries::new(None, data.into()).next().expect("an entry").expect("decode")
}

fn image(values: &[Option<Vec<u8>>]) -> Vec<u8> {
    let len = |n: usize| i32::try_from(n).expect("short").to_be_bytes();
    let mut out = len(values.len() + 1).to_vec();
    out.extend([0, 0, 0, 26, 0, 0, 0, 4, 0, 0, 0x40, 1]);
    for value in values {
        out.extend([0; 4]);
        match value {
            None => out.extend((-1_i32).to_be_bytes()),
            Some(bytes) => {
                out.extend(len(bytes.len()));
                out.extend(bytes);
            }
        }
    }
    out
}

pub(crate) fn int(n: i32) -> Option<Vec<u8>> {
    Some(n.to_be_bytes().to_vec())
}

pub(crate) fn str(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

pub(crate) fn flag(met: bool) -> Option<Vec<u8>> {
    Some(vec![u8::from(met)])
}

pub(crate) fn place(tick: i64, ord: i32) -> Progress {
    Progress { system: 7, timeline: 1, tick: TickId(tick), ord, part: 0 }
}

/// Applies entries as one transaction, and waits until it is committed.
pub(crate) async fn apply(
    applier: &mut Applier,
    mode: Mode,
    at: Progress,
    entries: &[Entry],
) -> Result<(), ApplyError> {
    applier.begin(mode)?;
    applier.source(at)?;
    for entry in entries {
        let to = applier.destination(&entry.head).expect("a destination");
        applier.entry(&to, entry).await?;
    }
    applier.commit().await?;
    applier.settle().await.map(drop)
}
