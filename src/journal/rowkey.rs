//! What tells a row from others of its table, in bytes that every node makes alike (§8): its key, and the number that a rule may
//! go by.

use super::entry::{ColumnRole, ImageColumn};
use super::image::Value;

/// The key, of the columns of an image and their values: as `record_send()` spells it, in the order of the columns' names.
pub fn row_key(columns: &[ImageColumn], values: &[Value<'_>]) -> Vec<u8> {
    let mut key: Vec<_> = columns.iter().zip(values).filter(|(column, _)| column.role != ColumnRole::Value).collect();
    key.sort_by_key(|(column, _)| &column.name);
    let mut out = Vec::new();
    for (_, Value { type_oid, bytes }) in key {
        out.extend_from_slice(&type_oid.to_be_bytes());
        let len = bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(bytes.unwrap_or_default());
    }
    out
}

/// Whether a row has given up its key for another one, of an image that holds both: there is no key before an insert.
pub fn key_differs(columns: &[ImageColumn], values: &[Value<'_>]) -> bool {
    let value = |role: ColumnRole, name: &str| {
        let mut all = columns.iter().zip(values);
        all.find(|(column, _)| column.role == role && column.name == name).and_then(|(_, value)| value.bytes)
    };
    let mut keys = columns.iter().filter(|column| column.role == ColumnRole::Key);
    keys.any(|key| {
        let before = value(ColumnRole::Key, &key.name);
        before.is_some() && before != value(ColumnRole::Value, &key.name)
    })
}

/// A value as a number that is ordered as the value is: of an integer, a date or a time. None for NULL, and for other types.
pub fn row_number(value: &Value<'_>) -> Option<i64> {
    match *value.bytes? {
        [a, b] => Some(i16::from_be_bytes([a, b]).into()),
        [a, b, c, d] => Some(i32::from_be_bytes([a, b, c, d]).into()),
        [a, b, c, d, e, f, g, h] => Some(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::sample;

    #[test]
    fn a_key_is_the_same_in_whatever_order_its_columns_are() {
        let column = |name: &str, role| ImageColumn { name: name.into(), role, ..sample().columns.remove(0) };
        let value = |bytes| Value { type_oid: 25, bytes };
        let (a, b) = (column("a", ColumnRole::Key), column("b", ColumnRole::KeyValue));
        let other = column("aa", ColumnRole::Value);
        let one = row_key(&[a.clone(), other.clone(), b.clone()], &[value(Some(b"1")), value(None), value(Some(b"2"))]);
        assert_eq!(one, b"\0\0\0\x19\0\0\0\x011\0\0\0\x19\0\0\0\x012");
        assert_eq!(row_key(&[b, a], &[value(Some(b"2")), value(Some(b"1"))]), one);
        assert_eq!(row_number(&value(Some(&[255, 255]))), Some(-1));
        assert_eq!(row_number(&value(None)), None);
    }
}
