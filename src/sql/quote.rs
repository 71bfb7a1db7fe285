//! Names and constants as SQL, spelled so that they mean the same in every client encoding and under every setting.

use std::fmt::Write as _;

use crate::config::TableName;

/// Whether names in a client's encoding are those of the catalog, byte for byte.
pub fn same_bytes(encoding: &str) -> bool {
    encoding.eq_ignore_ascii_case("UTF8") || encoding.eq_ignore_ascii_case("SQL_ASCII")
}

/// An identifier in double quotes.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An identifier in double quotes, in ASCII where the text around it is in another encoding than the catalog's.
pub fn ident(name: &str, encoding: &str) -> String {
    if name.is_ascii() || same_bytes(encoding) {
        return quoted(name);
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

/// `"schema"."table"`
pub fn table(name: &TableName, encoding: &str) -> String {
    format!("{}.{}", ident(&name.schema, encoding), ident(&name.table, encoding))
}

/// A string constant, with `standard_conforming_strings`.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_other_encodings_get_escapes() {
        assert_eq!(ident("a\"b", "LATIN1"), "\"a\"\"b\"");
        assert_eq!(ident("ä\\", "UTF8"), "\"ä\\\"");
        assert_eq!(ident("é\\\"x", "LATIN1"), "U&\"\\+0000E9\\\\\"\"x\"");
        assert_eq!(literal("o'clock"), "'o''clock'");
    }
}
