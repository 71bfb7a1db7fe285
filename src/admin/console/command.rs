//! What can be said to the console.

use pgwire::error::ErrorInfo;

use crate::admin::console::refusal;
use crate::sql::{LexOptions, Lexer, Split, TokenKind};

/// One statement of the console's language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Show(View),
    Reload,
    /// `BEGIN`: drivers say it by themselves, and there is nothing that a transaction could hold.
    Begin(&'static str),
    /// `COMMIT`, `ROLLBACK`
    End(&'static str),
    /// `SET …`: drivers set how values look, which the console has only one way for.
    Set,
}

/// What `SHOW` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Lanes,
    Rules,
    Sessions,
    Ticks,
    Version,
}

/// All views by their names; the hints list them.
const VIEWS: [(&str, View); 5] = [
    ("lanes", View::Lanes),
    ("rules", View::Rules),
    ("sessions", View::Sessions),
    ("ticks", View::Ticks),
    ("version", View::Version),
];

/// The statements of a query.
pub(super) fn parse(sql: &str) -> Result<Vec<Command>, Box<ErrorInfo>> {
    let opts = LexOptions::default();
    Split::new(sql.as_bytes(), opts).statements().map(|piece| one(piece.text(sql.as_bytes()))).collect()
}

fn one(sql: &[u8]) -> Result<Command, Box<ErrorInfo>> {
    let mut words = Vec::new();
    let mut lexer = Lexer::new(sql, LexOptions::default());
    while let Some(token) = lexer.next_significant() {
        if token.kind == TokenKind::Semicolon {
            continue;
        }
        words.push(String::from_utf8_lossy(token.text(sql)).to_ascii_lowercase());
        // Longer than any command but SET; more is not worth reading.
        if words.len() > 4 {
            break;
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["show", view] => VIEWS
            .iter()
            .find(|(name, _)| name == view)
            .map(|(_, view)| Command::Show(*view))
            .ok_or_else(|| unknown(&format!("there is no \"{view}\" to show"))),
        ["reload"] => Ok(Command::Reload),
        ["begin", ..] | ["start", "transaction", ..] => Ok(Command::Begin("BEGIN")),
        ["commit"] | ["end"] => Ok(Command::End("COMMIT")),
        ["rollback"] | ["abort"] => Ok(Command::End("ROLLBACK")),
        ["set", ..] => Ok(Command::Set),
        [first, ..] => Err(unknown(&format!("the console does not know \"{}\"", first.escape_debug()))),
        [] => Err(unknown("there is no statement")),
    }
}

fn unknown(message: &str) -> Box<ErrorInfo> {
    let views: Vec<String> = VIEWS.iter().map(|(name, _)| name.to_ascii_uppercase()).collect();
    let hint = format!("The console's commands are SHOW {} and RELOAD.", views.join(" | "));
    refusal("42601", message, Some(hint))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
// a test that panics has done its work
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_sql_is() {
        assert_eq!(parse("show lanes").unwrap(), [Command::Show(View::Lanes)]);
        let two = parse(" /* x */ SHOW\nTicks ; ;reload -- y").unwrap();
        assert_eq!(two, [Command::Show(View::Ticks), Command::Reload]);
        assert_eq!(parse("begin; commit").unwrap(), [Command::Begin("BEGIN"), Command::End("COMMIT")]);
        assert_eq!(parse("BEGIN ISOLATION LEVEL READ COMMITTED").unwrap(), [Command::Begin("BEGIN")]);
        assert_eq!(parse("SET extra_float_digits = 3, a, b, c, d").unwrap(), [Command::Set]);
        assert_eq!(parse(";;").unwrap(), []);
    }

    #[test]
    fn what_is_unknown_is_told_what_there_is() {
        let error = parse("show lanse").unwrap_err();
        assert_eq!((error.code.as_str(), error.message.as_str()), ("42601", "there is no \"lanse\" to show"));
        assert_eq!(
            error.hint.as_deref(),
            Some("The console's commands are SHOW LANES | RULES | SESSIONS | TICKS | VERSION and RELOAD.")
        );
        assert_eq!(parse("select 1").unwrap_err().message, "the console does not know \"select\"");
        for bad in ["show", "show lanes now", "reload twice", "'show' lanes"] {
            assert_eq!(parse(bad).unwrap_err().code, "42601", "{bad}");
        }
    }
}
