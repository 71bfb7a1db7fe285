//! `${VARIABLE}` in a value: replaced by the environment's, once; an unset variable is an error, never an empty string.

/// Where variables come from; a test hands in its own.
pub(super) type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// `text` with every `${NAME}` replaced; `$${` stands for a literal `${`.
///
/// The error names the variable, never a value.
pub(super) fn expand(text: &str, env: &Env<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.find('$').and_then(|at| rest.split_at_checked(at)) {
        out.push_str(before);
        if let Some(after) = from.strip_prefix("$${") {
            out.push_str("${");
            rest = after;
        } else if let Some(after) = from.strip_prefix("${") {
            let (name, after) = after.split_once('}').ok_or("`${` without its `}`; a literal `${` is written `$${`")?;
            if !is_name(name) {
                return Err(format!("`${{{name}}}` names no environment variable; a literal `${{` is written `$${{`"));
            }
            out.push_str(&env(name).ok_or_else(|| format!("the environment variable `{name}` is not set"))?);
            rest = after;
        } else {
            out.push('$');
            rest = from.get(1..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether all of `text` is one `${NAME}`.
pub(super) fn is_one_variable(text: &str) -> bool {
    text.trim().strip_prefix("${").and_then(|t| t.strip_suffix('}')).is_some_and(is_name)
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PW" => Some("a${PW} b".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_once_and_an_escape_is_not() {
        for (text, want) in [
            ("plain $ text $", "plain $ text $"),
            ("<${PW}>", "<a${PW} b>"), // what comes out is not looked at again
            ("${EMPTY}x", "x"),
            ("$${PW}", "${PW}"),
            ("$$${PW}", "$${PW}"),
            ("é${EMPTY}é$é", "éé$é"),
        ] {
            assert_eq!(expand(text, &env).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        assert_eq!(expand("${NOPE}", &env), Err("the environment variable `NOPE` is not set".into()));
        assert!(expand("x ${PW", &env).unwrap_err().contains("without its `}`"));
        assert!(expand("${a b}", &env).unwrap_err().contains("`${a b}` names no environment variable"));
        assert!(expand("${}", &env).is_err());
    }

    #[test]
    fn one_variable_alone_is_told_from_text_around_it() {
        assert!(is_one_variable("${PG_SERVER}") && is_one_variable(" ${A1} "));
        assert!(!is_one_variable("host=${H}") && !is_one_variable("${A} ${B}") && !is_one_variable("${1A}"));
    }
}
