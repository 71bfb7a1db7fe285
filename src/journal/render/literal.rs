//! SQL constants that mean the same under every setting, and do no harm to the terminal that shows them.

use std::fmt::Write as _;

/// What there is to show of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Null,
    /// What its type's output function makes of it, or the beginning of that.
    Text {
        text: String,
        cut: bool,
    },
    /// The server made nothing of it: its bytes, or the first of them, and why.
    Raw {
        hex: String,
        why: String,
    },
}

/// How constants of a type may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Integer,
    Numeric,
    Float,
    Bool,
    Other,
}

// === impl Shown ===

impl Shown {
    /// The beginning of some bytes, and why no more can be said of them.
    pub(super) fn raw(bytes: &[u8], limit: Option<usize>, why: &str) -> Self {
        Self::Raw { hex: hex(bytes, limit), why: why.to_owned() }
    }

    /// At most so many characters of a text.
    pub(super) fn text(mut text: String, limit: Option<usize>) -> Self {
        let end = limit.and_then(|limit| text.char_indices().nth(limit)).map(|(end, _)| end);
        if let Some(end) = end {
            text.truncate(end);
        }
        Self::Text { text, cut: end.is_some() }
    }

    /// Whether nothing of it is missing.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Null | Self::Text { cut: false, .. })
    }

    /// Where it is given to a column of its type.
    pub(super) fn given(&self, type_name: &str) -> String {
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Raw { hex, why } => raw(hex, why),
            Self::Text { text, cut: true } => quoted(text, true),
            Self::Text { text, .. } => match Sort::of(type_name) {
                Sort::Integer | Sort::Numeric if is_number(text) => text.clone(),
                // A number -0 has no sign.
                Sort::Float if is_number(text) && text != "-0" => text.clone(),
                Sort::Bool => boolean(text).map_or_else(|| quoted(text, false), str::to_owned),
                _ => quoted(text, false),
            },
        }
    }

    /// `column = constant`; `cast` where the comparison alone does not tell the constant's type.
    pub(super) fn found(&self, name: &str, type_name: &str, cast: bool) -> String {
        let constant = match self {
            Self::Null => return format!("{name} IS NULL"),
            // A number with a point is no float, and compared as one of twice its size.
            Self::Text { text, cut } if Sort::of(type_name) == Sort::Float => quoted(text, *cut),
            Self::Text { text, cut } if cast => format!("{}::{type_name}", quoted(text, *cut)),
            _ => self.given(type_name),
        };
        format!("{name} = {constant}")
    }

    /// Where a parameter of this type stood by itself, as all that is given to a column or compared with it.
    pub(super) fn direct(&self, type_name: &str) -> String {
        match (self, Sort::of(type_name)) {
            (Self::Null, _) => "NULL".to_owned(),
            (Self::Text { .. }, Sort::Integer | Sort::Numeric | Sort::Bool) => self.given(type_name),
            // Blanks at the end count for text and not for char(n).
            (Self::Text { text, .. }, _) if matches!(type_name, "text" | "varchar") && !text.ends_with(' ') => {
                self.given(type_name)
            }
            _ => self.typed(type_name),
        }
    }

    /// Where a parameter of this type stood in an expression: which function or operator is meant may hang on its type.
    pub(super) fn typed(&self, type_name: &str) -> String {
        let (text, cut) = match self {
            Self::Null => return format!("NULL::{type_name}"),
            Self::Raw { hex, why } => return raw(hex, why),
            Self::Text { text, cut } => (text, *cut),
        };
        let bare = match Sort::of(type_name) {
            _ if cut => None,
            Sort::Bool => boolean(text),
            Sort::Integer | Sort::Numeric if is_number(text) => {
                // Of what type a number is, the server tells by its size and its point.
                let is = |wanted: &str| wanted == type_name;
                match (text.parse::<i64>().ok(), text.contains('.')) {
                    (Some(n), _) if n > i64::from(i32::MIN) && n <= i64::from(i32::MAX) => is("int4"),
                    (Some(n), _) => is("int8") && n != i64::MIN && n != i64::from(i32::MIN),
                    (None, _) => is("numeric"),
                }
                .then_some(text.as_str())
            }
            _ => None,
        };
        match bare {
            Some(negative) if negative.starts_with('-') => format!("({negative})"),
            Some(bare) => bare.to_owned(),
            None => format!("{}::{type_name}", quoted(text, cut)),
        }
    }

    /// Where a parameter stood of which nobody has told the type: the server takes a constant in quotes just as it took that.
    pub(super) fn untyped(&self) -> String {
        match self {
            Self::Text { text, cut } => quoted(text, *cut),
            _ => self.given(""),
        }
    }
}

// === impl Sort ===

impl Sort {
    fn of(type_name: &str) -> Self {
        match type_name.split('(').next().unwrap_or_default() {
            "smallint" | "integer" | "bigint" | "int2" | "int4" | "int8" => Self::Integer,
            // numeric(12,3)[] is none.
            "numeric" if !type_name.ends_with(']') => Self::Numeric,
            "real" | "double precision" | "float4" | "float8" => Self::Float,
            "boolean" | "bool" => Self::Bool,
            _ => Self::Other,
        }
    }
}

/// A string constant. Backslashes and control characters make it an `E'…'`, which does not hang on
/// `standard_conforming_strings`; line ends and tabs stay what they are.
pub(super) fn quoted(text: &str, cut: bool) -> String {
    let control = |c: char| c.is_ascii_control() && !matches!(c, '\n' | '\t');
    let escapes = text.contains(|c| c == '\\' || control(c));
    let mut out = String::with_capacity(text.len().saturating_add(4));
    out.push_str(if escapes { "E'" } else { "'" });
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\r' => out.push_str("\\r"),
            // Writing into a string cannot fail.
            c if control(c) => _ = write!(out, "\\x{:02x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push_str(if cut { "…'" } else { "'" });
    out
}

/// What may stand in a comment over one line.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Bytes in hexadecimal; of many, so many digits.
pub(super) fn hex(bytes: &[u8], limit: Option<usize>) -> String {
    let shown = limit.and_then(|limit| bytes.get(..limit / 2)).unwrap_or(bytes);
    let mut out = String::from("\\x");
    shown.iter().for_each(|byte| _ = write!(out, "{byte:02x}"));
    if shown.len() < bytes.len() {
        out.push('…');
    }
    out
}

/// In the place of a constant; what stands around it is no statement then, and cannot be run by mistake.
fn raw(hex: &str, why: &str) -> String {
    let why = one_line(why).replace("*/", "* /").replace("/*", "/ *");
    format!("/* {hex}: {why} */")
}

fn boolean(text: &str) -> Option<&'static str> {
    match text {
        "t" | "true" => Some("true"),
        "f" | "false" => Some("false"),
        _ => None,
    }
}

/// Whether it is a number that SQL writes so, too.
fn is_number(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    match unsigned.split_once('.') {
        Some((whole, broken)) => digits(whole) && digits(broken),
        None => digits(unsigned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Shown {
        Shown::text(text.to_owned(), None)
    }

    #[test]
    fn numbers_stand_bare_where_they_are_numbers() {
        for (text, type_name, given) in [
            ("-5", "integer", "-5"),
            ("1.50", "numeric(12,2)", "1.50"),
            ("NaN", "numeric", "'NaN'"),
            ("1e+20", "double precision", "'1e+20'"),
            ("-0", "real", "'-0'"),
            ("0.1", "real", "0.1"),
            ("5", "text", "'5'"),
            ("5", "\"public\".\"posint\"", "'5'"),
            ("5", "numeric(12,2)[]", "'5'"),
            ("t", "boolean", "true"),
        ] {
            assert_eq!(shown(text).given(type_name), given, "{text} {type_name}");
        }
        assert_eq!(shown("0.1").found("r", "real", false), "r = '0.1'");
        assert_eq!(shown("(1,a)").found("c", "\"s\".\"c\"", true), "c = '(1,a)'::\"s\".\"c\"");
        assert_eq!(Shown::Null.found("r", "real", false), "r IS NULL");
    }

    #[test]
    fn in_an_expression_a_constant_keeps_its_type() {
        for (text, type_name, typed) in [
            ("5", "int4", "5"),
            ("-5", "int4", "(-5)"),
            ("-2147483648", "int4", "'-2147483648'::int4"),
            ("5", "int8", "'5'::int8"),
            ("5000000000", "int8", "5000000000"),
            ("5000000000", "numeric", "'5000000000'::numeric"),
            ("5.0", "numeric", "5.0"),
            ("99999999999999999999", "numeric", "99999999999999999999"),
            ("f", "bool", "false"),
            ("x", "text", "'x'::text"),
        ] {
            assert_eq!(shown(text).typed(type_name), typed, "{text} {type_name}");
        }
        assert_eq!(shown("x").direct("text"), "'x'");
        assert_eq!(shown("x ").direct("text"), "'x '::text");
        assert_eq!(shown("5").direct("int8"), "5");
        assert_eq!(shown("0.1").direct("float8"), "'0.1'::float8");
    }

    #[test]
    fn strings_are_quoted_escaped_and_cut() {
        assert_eq!(quoted("it's\n\tä", false), "'it''s\n\tä'");
        assert_eq!(quoted("a\\b'\u{1b}[0m\r", false), "E'a\\\\b''\\x1b[0m\\r'");
        assert_eq!(Shown::text("ääää".into(), Some(3)).given("text"), "'äää…'");
        assert_eq!(Shown::text("123456".into(), Some(3)).given("integer"), "'123…'", "a part of a number is none");
        assert_eq!(Shown::text("äää".into(), Some(3)).given("text"), "'äää'");
        let raw = Shown::raw(&[1, 2, 3], Some(4), "no\n*/ type");
        assert_eq!(raw.given("x"), "/* \\x0102…: no * / type */");
        assert!(!raw.is_whole());
    }
}
