//! What `pgcanon journal dump --json` says, read without any code of the program.

use serde_json::Value;

/// A line of the dump: a change, in the order in which it is to be applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// None while no tick covers it.
    pub(crate) tick: Option<u64>,
    pub(crate) xid: u64,
    pub(crate) lsn: u64,
    /// The transaction's number within the tick.
    pub(crate) ord: u64,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) op: String,
    pub(crate) lane: String,
    pub(crate) rule: String,
    pub(crate) extra: String,
    pub(crate) count: Option<u64>,
    pub(crate) text: Option<Vec<u8>>,
    pub(crate) encoding: String,
    pub(crate) params: Vec<Param>,
    pub(crate) names: Vec<Place>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Datum>>,
    pub(crate) data: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Param {
    pub(crate) oid: u32,
    pub(crate) binary: bool,
    pub(crate) value: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) schema: String,
    pub(crate) table: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(crate) role: Role,
    /// The value was cast to text on the way.
    pub(crate) text: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Key,
    Value,
    KeyValue,
}

/// One value of an image: its type and its binary form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datum {
    pub(crate) oid: u32,
    pub(crate) value: Option<Vec<u8>>,
}

/// What a dump holds: changes, and rows that nobody may take for one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dump {
    pub(crate) entries: Vec<Entry>,
    /// Why each was rejected.
    pub(crate) forged: Vec<String>,
}

/// Reads a dump; panics on what the format does not allow.
pub(crate) fn dump(text: &str) -> Dump {
    let mut dump = Dump::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON: {error}\n{line}"));
        match value["forged"].as_str() {
            Some(why) => dump.forged.push(why.to_owned()),
            None => dump.entries.push(entry(&value)),
        }
    }
    dump
}

fn entry(v: &Value) -> Entry {
    let text = v["text_hex"].as_str().map(hex).or_else(|| v["text"].as_str().map(|text| text.as_bytes().to_vec()));
    Entry {
        tick: v["tick"].as_u64(),
        xid: string(&v["xid"]).parse().unwrap_or_else(|_| panic!("no xid in {v}")),
        lsn: lsn(&string(&v["lsn"])),
        ord: v["ord"].as_u64().unwrap_or_default(),
        schema: string(&v["schema"]),
        table: string(&v["table"]),
        op: string(&v["op"]),
        lane: string(&v["lane"]),
        rule: string(&v["rule"]),
        extra: v["extra"].as_str().unwrap_or("none").to_owned(),
        count: v["count"].as_u64(),
        text,
        encoding: v["encoding"].as_str().unwrap_or("UTF8").to_owned(),
        params: list(&v["params"], |p| Param {
            oid: p["type"].as_u64().unwrap_or_default() as u32,
            binary: p["binary"].as_bool().unwrap_or_default(),
            value: p["value"].as_str().map(hex),
        }),
        names: list(&v["names"], |n| Place {
            start: number(&n["start"]),
            end: number(&n["end"]),
            schema: string(&n["schema"]),
            table: string(&n["table"]),
        }),
        settings: list(&v["settings"], |s| (string(&s[0]), string(&s[1]))),
        columns: list(&v["columns"], |c| Column {
            name: string(&c["name"]),
            type_name: string(&c["type"]),
            role: match c["role"].as_str() {
                Some("key") => Role::Key,
                Some("value") => Role::Value,
                Some("key_value") => Role::KeyValue,
                _ => panic!("no role in {c}"),
            },
            text: c["text"].as_bool().unwrap_or_default(),
        }),
        rows: list(&v["rows"], |row| list(row, |d| Datum { oid: number(&d[0]) as u32, value: d[1].as_str().map(hex) })),
        data: v["data"].as_str().map(hex).unwrap_or_default(),
    }
}

fn list<T>(value: &Value, item: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().into_iter().flatten().map(item).collect()
}

fn string(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => panic!("a string expected, not {other}"),
    }
}

fn number(value: &Value) -> usize {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or_else(|| panic!("a number expected, not {value}"))
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_else(|| panic!("no hex: {text}")) as u8;
    assert!(text.len().is_multiple_of(2), "half a byte in {text}");
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// `0/16B3748` as a number.
fn lsn(text: &str) -> u64 {
    let (high, low) = text.split_once('/').unwrap_or_else(|| panic!("no lsn: {text}"));
    let part = |half: &str| u64::from_str_radix(half, 16).unwrap_or_else(|_| panic!("no lsn: {text}"));
    part(high) << 32 | part(low)
}
