//! Names and constants spelled so that they mean the same in every client encoding and under every setting.

use std::fmt::Write as _;

use crate::config::TableName;
use crate::sql::Name;

/// Whether names in the client's encoding are those of the catalog, byte for byte.
pub(super) fn same_bytes(encoding: &str) -> bool {
    encoding.eq_ignore_ascii_case("UTF8") || encoding.eq_ignore_ascii_case("SQL_ASCII")
}

/// A name of the catalog as text.
pub(super) fn text(name: &Name) -> String {
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}

/// An identifier in double quotes, in ASCII where the client's encoding is another than the catalog's.
pub(super) fn ident(name: &str, encoding: &str) -> String {
    if name.is_ascii() || same_bytes(encoding) {
        return format!("\"{}\"", name.replace('"', "\"\""));
    }
    let mut out = String::from("U&\"");
    for c in name.chars() {
        match c {
            '"' => out.push_str("\"\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            // Writing into a string cannot fail.
            _ => drop(write!(out, "\\+{:06X}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// A name of the client's statement, in its own encoding, quoted.
pub(super) fn as_written(name: &Name) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &b in name.as_bytes() {
        out.extend(std::iter::repeat_n(b, if b == b'"' { 2 } else { 1 }));
    }
    out.push(b'"');
    out
}

/// `"schema"."table"`
pub(super) fn table(name: &TableName, encoding: &str) -> String {
    format!("{}.{}", ident(&name.schema, encoding), ident(&name.table, encoding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_other_encodings_get_escapes() {
        assert_eq!(ident("a\"b", "LATIN1"), "\"a\"\"b\"");
        assert_eq!(ident("é", "UTF8"), "\"é\"");
        assert_eq!(ident("é\\\"x", "LATIN1"), "U&\"\\+0000E9\\\\\"\"x\"");
    }
}
