//! The two spellings of a connection string, taken apart into keywords and values; no meaning is given to them yet.
//!
//! Errors name the place, never the text: a password with an unquoted blank in it must not be told to a log.

use super::keyword::ConnInfoError;

/// Keywords and values, in the order they were written, unquoted and percent-decoded.
pub(crate) type Pairs = Vec<(String, String)>;

/// Takes a connection string of either form apart.
pub(crate) fn pairs(text: &str) -> Result<Pairs, ConnInfoError> {
    match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
        Some(rest) => uri(rest),
        None => keywords(text),
    }
}

/// A value as it stands in the `keyword=value` form: quoted where it must be.
pub fn quote(value: &str) -> String {
    if !value.is_empty() && !value.contains(|c: char| is_blank(c) || c == '\'' || c == '\\') {
        return value.to_owned();
    }
    let mut out = String::with_capacity(value.len().saturating_add(2));
    out.push('\'');
    for c in value.chars() {
        if matches!(c, '\'' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('\'');
    out
}

/// What C's `isspace` says in the "C" locale, which is what libpq asks.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

// === keyword=value ===

fn keywords(text: &str) -> Result<Pairs, ConnInfoError> {
    let mut found = Pairs::new();
    let mut rest = text.trim_start_matches(is_blank);
    while !rest.is_empty() {
        let at = text.len().saturating_sub(rest.len()).saturating_add(1);
        let missing = ConnInfoError::Syntax {
            at,
            what: "this word is no keyword=value; a value with a blank in it is put in single quotes",
        };
        let end = rest.find(|c| c == '=' || is_blank(c)).ok_or(missing.clone())?;
        let (keyword, after) = rest.split_at_checked(end).ok_or(missing.clone())?;
        let after = after.trim_start_matches(is_blank).strip_prefix('=').ok_or(missing.clone())?;
        if keyword.is_empty() {
            return Err(missing);
        }
        let (value, after) = value(after.trim_start_matches(is_blank))
            .ok_or(ConnInfoError::Syntax { at, what: "the single quote that begins this value is not closed" })?;
        found.push((keyword.to_owned(), value));
        rest = after.trim_start_matches(is_blank);
    }
    Ok(found)
}

/// One value and what follows it; none where a quote is not closed.
fn value(text: &str) -> Option<(String, &str)> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let mut out = String::new();
    let mut chars = text.chars();
    loop {
        let rest = chars.as_str();
        match chars.next() {
            Some('\\') => out.extend(chars.next()),
            Some('\'') if quoted => return Some((out, chars.as_str())),
            Some(c) if !quoted && is_blank(c) => return Some((out, rest)),
            Some(c) => out.push(c),
            None => return (!quoted).then_some((out, rest)),
        }
    }
}

// === postgres:// ===

/// What follows `postgres://`: `[user[:password]@][host][:port][/dbname][?keyword=value&…]`.
fn uri(text: &str) -> Result<Pairs, ConnInfoError> {
    let mut found = Pairs::new();
    let mut push = |keyword: &str, value: &str| -> Result<(), ConnInfoError> {
        if !value.is_empty() {
            found.push((keyword.to_owned(), percent_decode(value)?));
        }
        Ok(())
    };
    // As in libpq, an `@` counts as the end of the user's part only before the first `/`.
    let before_slash = text.split('/').next().unwrap_or_default();
    let rest = match before_slash.split_once('@') {
        Some((login, _)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            push("user", user)?;
            push("password", password)?;
            text.split_once('@').map_or("", |(_, rest)| rest)
        }
        None => text,
    };
    let (host, rest) = uri_host(rest)?;
    if host.contains('@') {
        return Err(ConnInfoError::Uri("a `@` in a user's name or password is written %40"));
    }
    push("host", host)?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (port, dbname) = place.split_once('/').unwrap_or((place, ""));
    if let Some(port) = port.strip_prefix(':') {
        push("port", port)?;
    }
    push("dbname", dbname)?;
    for parameter in query.split('&').filter(|p| !p.is_empty()) {
        found.push(uri_parameter(parameter)?);
    }
    Ok(found)
}

/// The host, without its brackets, and what follows it.
fn uri_host(text: &str) -> Result<(&str, &str), ConnInfoError> {
    if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').ok_or(ConnInfoError::Uri("`[` without its `]` around the address"))?;
        if host.is_empty() {
            return Err(ConnInfoError::Uri("no address between `[` and `]`"));
        }
        if rest.starts_with(',') {
            return Err(ConnInfoError::SeveralHosts);
        }
        return match rest.is_empty() || rest.starts_with([':', '/', '?']) {
            true => Ok((host, rest)),
            false => Err(ConnInfoError::Uri("only `:`, `/` or `?` may follow the `]`")),
        };
    }
    let end = text.find([':', '/', '?']).unwrap_or(text.len());
    let (host, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    Ok((host, rest))
}

fn uri_parameter(text: &str) -> Result<(String, String), ConnInfoError> {
    let (keyword, value) =
        text.split_once('=').ok_or(ConnInfoError::Uri("a parameter after `?` has no `=` and value"))?;
    if value.contains('=') {
        return Err(ConnInfoError::Uri("a `=` inside a parameter's value is written %3D"));
    }
    let (keyword, value) = (percent_decode(keyword)?, percent_decode(value)?);
    // What JDBC writes; libpq reads it in a URI too.
    if keyword == "ssl" && value == "true" {
        return Ok(("sslmode".to_owned(), "require".to_owned()));
    }
    Ok((keyword, value))
}

fn percent_decode(text: &str) -> Result<String, ConnInfoError> {
    const BAD: ConnInfoError =
        ConnInfoError::Uri("a `%` is followed by two hexadecimal digits; a literal one is written %25");
    let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok()).ok_or(BAD);
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (high, low) = (hex(bytes.next())?, hex(bytes.next())?);
        match high << 4 | low {
            0 => return Err(ConnInfoError::Uri("%00 cannot be part of a value")),
            decoded => out.push(decoded),
        }
    }
    String::from_utf8(out).map_err(|_| ConnInfoError::Uri("a percent-encoded value is not UTF-8"))
}
