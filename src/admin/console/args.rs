//! What the console's functions are called with: constants of the text, or parameters in either format.

use pgwire::api::Type;
use pgwire::error::ErrorInfo;

use crate::admin::console::command::{Arg, Function};
use crate::admin::console::node::Bound;
use crate::admin::console::refusal;

type Failure = Box<ErrorInfo>;

/// A value of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    Text(String),
}

/// Types of the parameters, as the functions want them.
pub(super) fn types(function: Function, args: &[Arg]) -> Vec<Type> {
    let mut types = Vec::new();
    for (arg, wanted) in args.iter().zip(function.parameters()) {
        let Arg::Param(number) = arg else { continue };
        // A client that has a parameter 60000 sends as many.
        while types.len() <= *number {
            types.push(Type::TEXT);
        }
        if let Some(kind) = types.get_mut(*number) {
            kind.clone_from(wanted);
        }
    }
    types
}

/// An argument's value; none for null.
pub(super) fn value(arg: &Arg, wanted: &Type, bound: &Bound<'_>) -> Result<Option<Value>, Failure> {
    let number = *wanted == Type::INT8;
    match arg {
        Arg::Null => Ok(None),
        Arg::Number(n) if number => Ok(Some(Value::Number(*n))),
        Arg::Number(n) => Ok(Some(Value::Text(n.to_string()))),
        Arg::Text(text) => text_value(text, number).map(Some),
        Arg::Param(at) => {
            let missing = || refusal("42P02", &format!("there is no parameter ${}", at.saturating_add(1)), None);
            let Some(bytes) = bound.values.get(*at).ok_or_else(missing)? else { return Ok(None) };
            let format = if bound.formats.len() == 1 { bound.formats.first() } else { bound.formats.get(*at) };
            let told = bound.types.get(*at).and_then(|oid| Type::from_oid(*oid));
            let binary = format.is_some_and(|format| *format == 1);
            match told.unwrap_or_else(|| wanted.clone()) {
                Type::INT2 | Type::INT4 | Type::INT8 if binary => {
                    let n = integer(bytes).ok_or_else(|| refusal("22P03", "incorrect binary data format", None))?;
                    Ok(Some(if number { Value::Number(n) } else { Value::Text(n.to_string()) }))
                }
                Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => {
                    text_value(utf8(bytes)?, number).map(Some)
                }
                _ if !binary => text_value(utf8(bytes)?, number).map(Some),
                other => Err(refusal("42804", &format!("a parameter cannot be of type {}", other.name()), None)),
            }
        }
    }
}

fn text_value(text: &str, number: bool) -> Result<Value, Failure> {
    if !number {
        return Ok(Value::Text(text.to_owned()));
    }
    text.trim().parse().map(Value::Number).map_err(|_| {
        refusal("22P02", &format!("invalid input syntax for type bigint: \"{}\"", text.escape_debug()), None)
    })
}

fn utf8(bytes: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(bytes).map_err(|_| refusal("22021", "invalid byte sequence for encoding \"UTF8\"", None))
}

fn integer(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        2 => Some(i16::from_be_bytes(bytes.try_into().ok()?).into()),
        4 => Some(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        8 => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;

    fn param(bytes: &[u8], told: u32, format: u16, wanted: &Type) -> Result<Option<Value>, String> {
        let bound = Bound { types: vec![told], formats: vec![format], values: vec![Some(bytes)] };
        value(&Arg::Param(0), wanted, &bound).map_err(|e| e.code)
    }

    #[test]
    fn numbers_come_in_every_form_that_drivers_send() {
        for (bytes, told, format) in [
            (&b"7"[..], 0, 0),
            (b"7", 25, 1),
            (b" 7 ", 1700, 0),
            (&[0, 7], 21, 1),
            (&[0, 0, 0, 7], 23, 1),
            (&[0, 0, 0, 0, 0, 0, 0, 7], 0, 1),
        ] {
            assert_eq!(param(bytes, told, format, &Type::INT8), Ok(Some(Value::Number(7))), "{bytes:?}");
        }
        assert_eq!(param(&[0, 0, 7], 23, 1, &Type::INT8), Err("22P03".into()));
        assert_eq!(param(b"seven", 25, 0, &Type::INT8), Err("22P02".into()));
        assert_eq!(param(&[0; 8], 701, 1, &Type::INT8), Err("42804".into()));
        assert_eq!(param("ä".as_bytes(), 0, 0, &Type::TEXT), Ok(Some(Value::Text("ä".into()))));
        assert_eq!(param(&[0xff], 25, 0, &Type::TEXT), Err("22021".into()));
    }

    #[test]
    fn a_parameter_that_was_not_bound_is_missed_and_a_null_is_none() {
        let bound = Bound { values: vec![None], ..Bound::default() };
        assert_eq!(value(&Arg::Param(0), &Type::INT8, &bound).unwrap(), None);
        assert_eq!(value(&Arg::Param(1), &Type::INT8, &bound).unwrap_err().message, "there is no parameter $2");
    }

    #[test]
    fn parameters_are_of_the_types_that_their_places_want() {
        assert_eq!(types(Function::Edit, &[Arg::Param(1), Arg::Param(0)]), [Type::TEXT, Type::INT8]);
        assert_eq!(types(Function::Deal, &[Arg::Number(1)]), Vec::<Type>::new());
    }
}
