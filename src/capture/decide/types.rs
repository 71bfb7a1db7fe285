//! Classes of types within which every built-in operator and cast gives the same in every session.

use crate::catalog::relation::{Column, TypeSort};

/// What is known of an expression's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ty<'a> {
    /// A constant or parameter that takes its type from where it stands.
    Unknown,
    Number,
    Float,
    Bool,
    Text,
    Bytea,
    Uuid,
    Jsonb,
    Bits,
    /// Enums, domains and what else is of one kind: nothing is known but that it equals itself.
    Other(&'a str),
}

/// The class of a type by `format_type`'s name for it.
fn class(type_name: &str) -> Ty<'_> {
    if type_name.ends_with(']') {
        return Ty::Other(type_name);
    }
    let bare = type_name.split_once('(').map_or(type_name, |(bare, _)| bare);
    match bare {
        "smallint" | "integer" | "bigint" | "numeric" => Ty::Number,
        "real" | "double precision" => Ty::Float,
        "boolean" => Ty::Bool,
        "text" | "character varying" | "character" => Ty::Text,
        "bytea" => Ty::Bytea,
        "uuid" => Ty::Uuid,
        "jsonb" => Ty::Jsonb,
        "bit" | "bit varying" => Ty::Bits,
        _ => Ty::Other(type_name),
    }
}

/// The class of a column of plain type.
pub(super) fn column(column: &Column) -> Option<Ty<'_>> {
    (column.sort == TypeSort::Plain).then(|| class(&column.type_name))
}

/// Whether a column holds characters, and any of them.
pub(in crate::capture) fn is_text(of: &Column) -> bool {
    column(of) == Some(Ty::Text)
}

/// The class of a type as the grammar spells it in a cast.
pub(super) fn cast(name: &[u8]) -> Option<Ty<'static>> {
    Some(match name {
        b"int2" | b"int4" | b"int8" | b"numeric" => Ty::Number,
        b"float4" | b"float8" => Ty::Float,
        b"bool" => Ty::Bool,
        b"text" | b"varchar" | b"bpchar" => Ty::Text,
        b"bytea" => Ty::Bytea,
        b"uuid" => Ty::Uuid,
        b"jsonb" => Ty::Jsonb,
        b"bit" | b"varbit" => Ty::Bits,
        _ => return None,
    })
}

/// `format_type`'s name of a type told at Parse, for the built-in types that lane S knows.
pub(super) fn told(oid: u32) -> Option<&'static str> {
    Some(match oid {
        16 => "boolean",
        17 => "bytea",
        20 => "bigint",
        21 => "smallint",
        23 => "integer",
        25 => "text",
        114 => "json",
        650 => "cidr",
        700 => "real",
        701 => "double precision",
        869 => "inet",
        1042 => "character",
        1043 => "character varying",
        1082 => "date",
        1083 => "time without time zone",
        1114 => "timestamp without time zone",
        1184 => "timestamp with time zone",
        1186 => "interval",
        1266 => "time with time zone",
        1560 => "bit",
        1562 => "bit varying",
        1700 => "numeric",
        2950 => "uuid",
        3802 => "jsonb",
        1000 => "boolean[]",
        1001 => "bytea[]",
        1005 => "smallint[]",
        1007 => "integer[]",
        1009 => "text[]",
        1015 => "character varying[]",
        1016 => "bigint[]",
        1021 => "real[]",
        1022 => "double precision[]",
        1231 => "numeric[]",
        2951 => "uuid[]",
        3807 => "jsonb[]",
        _ => return None,
    })
}

/// The class of a parameter's told type, if it is a plain one.
pub(super) fn told_class(oid: u32) -> Option<Ty<'static>> {
    match class(told(oid)?) {
        Ty::Other(_) => None,
        class => Some(class),
    }
}

/// A type's name without its modifiers: `numeric(10,2)` is `numeric`, `timestamp(3) with time zone` loses its `(3)`.
pub(super) fn bare(type_name: &str) -> String {
    match type_name.split_once('(') {
        None => type_name.to_owned(),
        Some((front, rest)) => match rest.split_once(')') {
            Some((_, behind)) => format!("{front}{behind}"),
            None => type_name.to_owned(),
        },
    }
}

/// Whether assigning the one to the other is the same in every session. Floats and bytea as text hang on settings.
pub(super) fn assigns(from: Ty<'_>, to: Ty<'_>) -> bool {
    match (from, to) {
        (Ty::Unknown, _) => true,
        (from, to) if from == to => true,
        (Ty::Number, Ty::Float | Ty::Text | Ty::Other(_)) => true,
        (Ty::Float, Ty::Number) => true,
        (Ty::Bool, Ty::Other(_)) => true,
        (Ty::Bool | Ty::Uuid | Ty::Jsonb | Ty::Bits, Ty::Text) => true,
        _ => false,
    }
}

/// Whether an explicit cast between them is the same in every session.
pub(super) fn casts(from: Ty<'_>, to: Ty<'_>) -> bool {
    match (from, to) {
        (Ty::Float | Ty::Bytea, Ty::Text) | (Ty::Other(_), _) => false,
        (Ty::Text, _) => true,
        (from, to) => {
            assigns(from, to)
                || matches!(
                    (from, to),
                    (Ty::Bool | Ty::Jsonb | Ty::Bits, Ty::Number) | (Ty::Number, Ty::Bool | Ty::Bits)
                )
                || matches!((from, to), (Ty::Jsonb, Ty::Bool | Ty::Float))
        }
    }
}

/// The class that two operands are compared or merged in.
pub(super) fn unify<'a>(a: Ty<'a>, b: Ty<'a>) -> Option<Ty<'a>> {
    match (a, b) {
        (Ty::Unknown, x) | (x, Ty::Unknown) => Some(x),
        (a, b) if a == b => Some(a),
        (Ty::Number, Ty::Float) | (Ty::Float, Ty::Number) => Some(Ty::Float),
        (Ty::Other(name), Ty::Number | Ty::Bool) | (Ty::Number | Ty::Bool, Ty::Other(name)) => Some(Ty::Other(name)),
        _ => None,
    }
}

/// What a prefix or infix operator gives, where it is immutable for all that these classes can be.
pub(super) fn operator<'a>(name: &[u8], operands: &[Ty<'a>]) -> Option<Ty<'a>> {
    let [first, rest @ ..] = operands else { return None };
    let whole = rest.iter().try_fold(*first, |a, b| unify(a, *b));
    let number = |t: Option<Ty<'a>>| t.filter(|t| matches!(t, Ty::Number | Ty::Float));
    let textual = |t: &Ty<'_>| matches!(t, Ty::Text | Ty::Unknown);
    match (name, rest) {
        (b"=" | b"<>" | b"!=", [_]) => whole.map(|_| Ty::Bool),
        (b"<" | b">" | b"<=" | b">=", [_]) => whole.map(|_| Ty::Bool),
        (b"~~" | b"~~*" | b"!~~" | b"!~~*" | b"~" | b"~*" | b"!~" | b"!~*", [second]) => {
            (textual(first) && textual(second)).then_some(Ty::Bool)
        }
        (b"+" | b"-", []) => number(whole),
        (b"+" | b"*" | b"/" | b"%", [_]) => number(whole),
        (b"-", [second]) => match (first, second) {
            (Ty::Jsonb, Ty::Unknown | Ty::Text | Ty::Number) => Some(Ty::Jsonb),
            _ => number(whole),
        },
        (b"~", []) => whole.filter(|t| matches!(t, Ty::Number | Ty::Bits)),
        (b"&" | b"|" | b"#", [_]) => whole.filter(|t| matches!(t, Ty::Number | Ty::Bits)),
        (b"<<" | b">>", [Ty::Number]) => Some(*first).filter(|t| matches!(t, Ty::Number | Ty::Bits)),
        (b"||", [second]) if textual(first) && textual(second) => Some(Ty::Text),
        (b"||", [_]) => whole.filter(|t| matches!(t, Ty::Jsonb | Ty::Bytea | Ty::Bits)),
        (b"->", [Ty::Unknown | Ty::Text | Ty::Number]) if *first == Ty::Jsonb => Some(Ty::Jsonb),
        (b"->>", [Ty::Unknown | Ty::Text | Ty::Number]) if *first == Ty::Jsonb => Some(Ty::Text),
        (b"#>" | b"#-", [Ty::Unknown]) if *first == Ty::Jsonb => Some(Ty::Jsonb),
        (b"#>>", [Ty::Unknown]) if *first == Ty::Jsonb => Some(Ty::Text),
        (b"@>" | b"<@", [_]) if whole == Some(Ty::Jsonb) => Some(Ty::Bool),
        (b"?" | b"?|" | b"?&", [Ty::Unknown]) if *first == Ty::Jsonb => Some(Ty::Bool),
        _ => None,
    }
}

/// What a built-in function gives; only those whose every overload over these classes is immutable.
pub(super) fn call<'a>(name: &[u8], args: &[Ty<'a>]) -> Option<Ty<'a>> {
    let only = |allowed: &[Ty<'_>]| args.iter().all(|t| *t == Ty::Unknown || allowed.contains(t));
    let all = args.iter().try_fold(Ty::Unknown, |a, b| unify(a, *b));
    match name {
        b"lower" | b"upper" | b"initcap" | b"btrim" | b"ltrim" | b"rtrim" | b"replace" | b"translate" | b"reverse"
        | b"split_part" | b"substr" | b"left" | b"right" | b"lpad" | b"rpad" | b"repeat"
            if only(&[Ty::Text, Ty::Number]) =>
        {
            Some(Ty::Text)
        }
        b"chr" | b"to_hex" if only(&[Ty::Number]) => Some(Ty::Text),
        b"starts_with" if only(&[Ty::Text]) => Some(Ty::Bool),
        b"jsonb_set" | b"jsonb_insert" => match args {
            // A path, a value, and a word or two more: none of them is of a type that could be told here.
            [Ty::Jsonb | Ty::Unknown, Ty::Unknown, rest @ ..] => {
                rest.iter().all(|t| matches!(t, Ty::Unknown | Ty::Jsonb | Ty::Bool)).then_some(Ty::Jsonb)
            }
            _ => None,
        },
        b"md5" if only(&[Ty::Text, Ty::Bytea]) => Some(Ty::Text),
        b"length" | b"char_length" | b"character_length" | b"octet_length" | b"bit_length" | b"strpos" | b"ascii"
            if only(&[Ty::Text, Ty::Bytea, Ty::Bits]) =>
        {
            Some(Ty::Number)
        }
        b"abs" | b"mod" | b"round" | b"trunc" | b"ceil" | b"ceiling" | b"floor" | b"sign" | b"div" | b"gcd"
        | b"lcm" => all.filter(|t| matches!(t, Ty::Number | Ty::Float)),
        b"sha224" | b"sha256" | b"sha384" | b"sha512" if only(&[Ty::Bytea]) => Some(Ty::Bytea),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_on_settings_has_no_class() {
        assert!(!assigns(Ty::Float, Ty::Text), "extra_float_digits");
        assert!(!casts(Ty::Bytea, Ty::Text), "bytea_output");
        assert_eq!(operator(b"||", &[Ty::Number, Ty::Text]), None, "textanycat is stable");
        assert_eq!(call(b"to_char", &[Ty::Number, Ty::Unknown]), None);
        assert_eq!(told_class(1184), None);
        assert_eq!(operator(b"@@", &[Ty::Text, Ty::Text]), None, "default_text_search_config");
    }

    #[test]
    fn plain_operators_keep_their_classes() {
        assert_eq!(operator(b"+", &[Ty::Number, Ty::Unknown]), Some(Ty::Number));
        assert_eq!(operator(b"+", &[Ty::Unknown, Ty::Unknown]), None);
        assert_eq!(operator(b"||", &[Ty::Text, Ty::Unknown]), Some(Ty::Text));
        assert_eq!(operator(b"->>", &[Ty::Jsonb, Ty::Unknown]), Some(Ty::Text));
        assert_eq!(operator(b"=", &[Ty::Other("mood"), Ty::Unknown]), Some(Ty::Bool));
        assert_eq!(operator(b"=", &[Ty::Text, Ty::Number]), None);
    }

    #[test]
    fn modifiers_do_not_make_another_type() {
        assert_eq!(bare("timestamp(3) with time zone"), "timestamp with time zone");
        assert_eq!(class("numeric(10,2)"), Ty::Number);
        assert!(matches!(class("character varying(3)[]"), Ty::Other(_)));
    }
}
