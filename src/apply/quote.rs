//! Names, spelled so that they mean the same in every encoding that a text may be in.

use std::fmt::Write as _;

use crate::config::TableName;

/// An identifier in double quotes; in ASCII where the text around it is in another encoding than ours.
pub(super) fn ident(name: &str, encoding: &str) -> String {
    if name.is_ascii() || encoding == "UTF8" {
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

/// `"schema"."table"`
pub(super) fn table(name: &TableName, encoding: &str) -> String {
    format!("{}.{}", ident(&name.schema, encoding), ident(&name.table, encoding))
}

/// A string constant, with `standard_conforming_strings`.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_characters() {
        assert_eq!(ident("a\"b", "LATIN1"), "\"a\"\"b\"");
        assert_eq!(ident("ä\\", "UTF8"), "\"ä\\\"");
        assert_eq!(ident("ä\\\"", "LATIN1"), "U&\"\\+0000E4\\\\\"\"\"");
        assert_eq!(literal("o'clock"), "'o''clock'");
    }
}
