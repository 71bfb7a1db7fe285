//! What can be said to the console.

use pgwire::api::Type;
use pgwire::error::ErrorInfo;

use crate::admin::console::refusal;
use crate::admin::console::select::check;
use crate::config::May;
use crate::sql::statement::string_content;
use crate::sql::{LexOptions, Lexer, Split, Token, TokenKind};

/// One statement of the console's language.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    Show(View),
    Reload,
    /// The name as it was written.
    Pause(String),
    Resume(String),
    /// `SELECT` of one of the console's functions.
    Call(Function, Vec<Arg>),
    /// A query that reads what waits for the peers, and nothing else.
    Select(String),
    /// `BEGIN`: drivers say it by themselves, and there is nothing that a transaction could hold.
    Begin(&'static str),
    /// `COMMIT`, `ROLLBACK`
    End(&'static str),
    /// `SET`, and what else drivers say to bring a session into a known state: the console's has none.
    Nothing(&'static str),
}

/// What `SHOW` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Config,
    Conflicts,
    Lanes,
    Peers,
    Queue,
    Rules,
    Sessions,
    Status,
    Ticks,
    Version,
}

/// Functions that only the console has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// Applies so many rows of the queue.
    Deal,
    /// Finds out whether that would do.
    Try,
    /// Takes a row out of the queue.
    Skip,
    /// Gives a row another SQL text.
    Edit,
    /// The queue of a peer as a script.
    Export,
}

/// An argument as it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    Number(i64),
    Text(String),
    Null,
    /// `$1` is 0.
    Param(usize),
}

type Failure = Box<ErrorInfo>;

/// All views by their names; the hints list them.
const VIEWS: [(&str, View); 10] = [
    ("config", View::Config),
    ("conflicts", View::Conflicts),
    ("lanes", View::Lanes),
    ("peers", View::Peers),
    ("queue", View::Queue),
    ("rules", View::Rules),
    ("sessions", View::Sessions),
    ("status", View::Status),
    ("ticks", View::Ticks),
    ("version", View::Version),
];

const FUNCTIONS: [Function; 5] = [Function::Deal, Function::Try, Function::Skip, Function::Edit, Function::Export];

// === impl Command ===

impl Command {
    /// What one has to be allowed to do for it.
    pub(super) fn needs(&self) -> May {
        match self {
            Self::Reload | Self::Pause(_) | Self::Resume(_) => May::Act,
            Self::Call(function, _) => function.needs(),
            Self::Show(_) | Self::Select(_) | Self::Begin(_) | Self::End(_) | Self::Nothing(_) => May::Look,
        }
    }
}

// === impl Function ===

impl Function {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Deal => "deal_sync_err_rec",
            Self::Try => "try_sync_err_rec",
            Self::Skip => "skip_sync_err_rec",
            Self::Edit => "edit_sync_err_rec",
            Self::Export => "export_sync_err_rec",
        }
    }

    /// How it is called.
    const fn usage(self) -> &'static str {
        match self {
            Self::Deal => "SELECT deal_sync_err_rec(1000): apply that many rows of the queue.",
            Self::Try => "SELECT try_sync_err_rec(1000): the same, and roll it back.",
            Self::Skip => "SELECT skip_sync_err_rec(id): take that row out of the queue.",
            Self::Edit => "SELECT edit_sync_err_rec(id, 'SQL'): have that SQL run on the peer in the row's place.",
            Self::Export => "SELECT * FROM export_sync_err_rec('peer'): what waits for the peer, as a script.",
        }
    }

    /// What it is called with.
    pub(super) const fn parameters(self) -> &'static [Type] {
        match self {
            Self::Deal | Self::Try | Self::Skip => &[Type::INT8],
            Self::Export => &[Type::TEXT],
            Self::Edit => &[Type::INT8, Type::TEXT],
        }
    }

    const fn needs(self) -> May {
        match self {
            Self::Export => May::Look,
            Self::Deal | Self::Try | Self::Skip | Self::Edit => May::Act,
        }
    }
}

// === reading ===

/// The statements of a query.
pub(super) fn parse(sql: &str) -> Result<Vec<Command>, Failure> {
    let opts = LexOptions::default();
    Split::new(sql.as_bytes(), opts).statements().map(|piece| one(piece.text(sql.as_bytes()))).collect()
}

fn one(sql: &[u8]) -> Result<Command, Failure> {
    let tokens: Vec<Token> = Lexer::new(sql, LexOptions::default())
        .filter(|token| !token.kind.is_blank() && token.kind != TokenKind::Semicolon)
        .collect();
    // Longer than any command but SELECT and SET; more is not worth folding.
    let words: Vec<String> = tokens.iter().take(6).map(|token| word(token, sql)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["show", view] => VIEWS
            .iter()
            .find(|(name, _)| name == view)
            .map(|(_, view)| Command::Show(*view))
            .ok_or_else(|| unknown(&format!("there is no \"{}\" to show", view.escape_debug()))),
        ["reload"] => Ok(Command::Reload),
        ["pause", _, ..] => Ok(Command::Pause(rest(&tokens, sql))),
        ["resume", _, ..] => Ok(Command::Resume(rest(&tokens, sql))),
        ["pause" | "resume"] => Err(unknown("the name of a peer is missing")),
        ["select" | "with" | "values" | "(", ..] => query(&tokens, sql),
        ["begin", ..] | ["start", "transaction", ..] => Ok(Command::Begin("BEGIN")),
        ["commit" | "end", ..] => Ok(Command::End("COMMIT")),
        ["rollback" | "abort", ..] => Ok(Command::End("ROLLBACK")),
        ["set", ..] => Ok(Command::Nothing("SET")),
        ["reset", ..] => Ok(Command::Nothing("RESET")),
        ["discard", ..] => Ok(Command::Nothing("DISCARD")),
        ["close", ..] => Ok(Command::Nothing("CLOSE CURSOR")),
        ["deallocate", ..] => Ok(Command::Nothing("DEALLOCATE")),
        ["unlisten", ..] => Ok(Command::Nothing("UNLISTEN")),
        [first, ..] => Err(unknown(&format!("the console does not know \"{}\"", first.escape_debug()))),
        [] => Err(unknown("there is no statement")),
    }
}

fn word(token: &Token, sql: &[u8]) -> String {
    String::from_utf8_lossy(token.text(sql)).to_ascii_lowercase()
}

/// Everything behind the first word, without quotes around it.
fn rest(tokens: &[Token], sql: &[u8]) -> String {
    let (start, end) = (tokens.get(1).map_or(0, |t| t.start), tokens.last().map_or(0, |t| t.end));
    let text = String::from_utf8_lossy(sql.get(start..end).unwrap_or_default()).into_owned();
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)) {
            return inner.to_owned();
        }
    }
    text
}

fn query(tokens: &[Token], sql: &[u8]) -> Result<Command, Failure> {
    let calls = |function: &&Function| {
        tokens.windows(2).any(|pair| matches!(pair, [name, open] if word(name, sql) == function.name() && open.kind == TokenKind::Char(b'(')))
    };
    if let Some(function) = FUNCTIONS.iter().find(calls) {
        let args = call(tokens, sql).ok_or_else(|| usage(*function, "is called by itself"))?;
        if args.len() != function.parameters().len() {
            return Err(usage(*function, "takes other arguments"));
        }
        return Ok(Command::Call(*function, args));
    }
    check(sql).map_err(|why| unknown(&why))?;
    Ok(Command::Select(String::from_utf8_lossy(sql).into_owned()))
}

/// The arguments of `SELECT [* FROM] [pgcanon.]name(…) [[AS] alias]`.
fn call(tokens: &[Token], sql: &[u8]) -> Option<Vec<Arg>> {
    let mut rest = tokens.get(1..)?;
    let is = |token: &Token, text: &str| word(token, sql) == text;
    if let [star, from, behind @ ..] = rest
        && is(star, "*")
        && is(from, "from")
    {
        rest = behind;
    }
    if let [schema, dot, behind @ ..] = rest
        && is(schema, "pgcanon")
        && is(dot, ".")
    {
        rest = behind;
    }
    rest = rest.get(2..)?;
    let mut args = Vec::new();
    if let [close, behind @ ..] = rest
        && is(close, ")")
    {
        rest = behind;
    } else {
        loop {
            let (arg, behind) = argument(rest, sql)?;
            args.push(arg);
            let (sign, behind) = behind.split_first()?;
            rest = behind;
            match sign.kind {
                TokenKind::Char(b',') => {}
                TokenKind::Char(b')') => break,
                _ => return None,
            }
        }
    }
    let named = |token: &Token| matches!(token.kind, TokenKind::Ident | TokenKind::QuotedIdent);
    match rest {
        [] => Some(args),
        [alias] if named(alias) => Some(args),
        [word, alias] if is(word, "as") && named(alias) => Some(args),
        _ => None,
    }
}

/// A constant or a parameter, with casts behind it, which change nothing.
fn argument<'t>(tokens: &'t [Token], sql: &[u8]) -> Option<(Arg, &'t [Token])> {
    let (first, mut rest) = tokens.split_first()?;
    let text = first.text(sql);
    let digits = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    let arg = match first.kind {
        TokenKind::Number => Arg::Number(digits(text)?),
        TokenKind::Char(b'-') => {
            let (number, behind) = rest.split_first()?;
            rest = behind;
            Arg::Number(digits(number.text(sql))?.checked_neg()?)
        }
        TokenKind::Param => Arg::Param(usize::try_from(digits(text.get(1..)?)?).ok()?.checked_sub(1)?),
        TokenKind::Ident if text.eq_ignore_ascii_case(b"null") => Arg::Null,
        kind => Arg::Text(String::from_utf8(string_content(kind, text, LexOptions::default().encoding)?.into()).ok()?),
    };
    while let [cast, kind, behind @ ..] = rest
        && cast.kind == TokenKind::TypeCast
        && kind.kind == TokenKind::Ident
    {
        rest = behind;
    }
    Some((arg, rest))
}

fn usage(function: Function, what: &str) -> Failure {
    refusal("42601", &format!("{} {what}", function.name()), Some(function.usage().to_owned()))
}

fn unknown(message: &str) -> Failure {
    let views: Vec<String> = VIEWS.iter().map(|(name, _)| name.to_ascii_uppercase()).collect();
    let functions: Vec<String> = FUNCTIONS.iter().map(|function| format!("{}()", function.name())).collect();
    let hint = format!(
        "The console's commands are SHOW {}, SELECT from sync_err_rec, SELECT {}, PAUSE peer, RESUME peer and RELOAD.",
        views.join(" | "),
        functions.join(" | "),
    );
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
        assert_eq!(parse("SET extra_float_digits = 3, a, b, c, d").unwrap(), [Command::Nothing("SET")]);
        assert_eq!(parse(";;").unwrap(), []);
    }

    #[test]
    fn a_peer_is_named_as_it_is_configured_or_in_quotes() {
        assert_eq!(parse("pause node-b_2;").unwrap(), [Command::Pause("node-b_2".into())]);
        assert_eq!(parse("RESUME \"B\"").unwrap(), [Command::Resume("B".into())]);
        assert_eq!(parse("pause").unwrap_err().message, "the name of a peer is missing");
    }

    #[test]
    fn functions_are_called_with_constants_and_parameters() {
        let call = |sql: &str| match parse(sql).unwrap().as_slice() {
            [Command::Call(function, args)] => (*function, args.clone()),
            other => panic!("{other:?}"),
        };
        let number = |n| (Function::Deal, vec![Arg::Number(n)]);
        assert_eq!(call("select deal_sync_err_rec(1000)"), number(1000));
        assert_eq!(call("SELECT * FROM pgcanon.deal_sync_err_rec ( -3 ) AS n;"), number(-3));
        assert_eq!(call("select deal_sync_err_rec($1::int) n"), (Function::Deal, vec![Arg::Param(0)]));
        assert_eq!(call("select skip_sync_err_rec(null)"), (Function::Skip, vec![Arg::Null]));
        assert_eq!(
            call("select edit_sync_err_rec('7'::bigint, $q$ it's $q$)"),
            (Function::Edit, vec![Arg::Text("7".into()), Arg::Text(" it's ".into())])
        );
        assert_eq!(
            call(r"select edit_sync_err_rec($2, E'a\'b')"),
            (Function::Edit, vec![Arg::Param(1), Arg::Text("a'b".into())])
        );
    }

    #[test]
    fn a_function_that_is_called_otherwise_is_told_how() {
        for (sql, message) in [
            ("select deal_sync_err_rec()", "deal_sync_err_rec takes other arguments"),
            ("select deal_sync_err_rec(1, 2)", "deal_sync_err_rec takes other arguments"),
            ("select deal_sync_err_rec(1), 2", "deal_sync_err_rec is called by itself"),
            ("select deal_sync_err_rec(count(*)) from sync_err_rec", "deal_sync_err_rec is called by itself"),
            ("select id, skip_sync_err_rec(id) from sync_err_rec", "skip_sync_err_rec is called by itself"),
        ] {
            let error = parse(sql).unwrap_err();
            assert_eq!((error.code.as_str(), error.message.as_str()), ("42601", message), "{sql}");
            assert!(error.hint.unwrap().contains("_sync_err_rec("), "{sql}");
        }
    }

    #[test]
    fn what_is_unknown_is_told_what_there_is() {
        let error = parse("show lanse").unwrap_err();
        assert_eq!((error.code.as_str(), error.message.as_str()), ("42601", "there is no \"lanse\" to show"));
        let hint = error.hint.unwrap();
        assert!(hint.starts_with("The console's commands are SHOW CONFIG | CONFLICTS | LANES | PEERS |"), "{hint}");
        assert!(hint.ends_with("PAUSE peer, RESUME peer and RELOAD."), "{hint}");
        assert_eq!(parse("delete from sync_err_rec").unwrap_err().message, "the console does not know \"delete\"");
        for bad in ["show", "show lanes now", "reload twice", "'show' lanes"] {
            assert_eq!(parse(bad).unwrap_err().code, "42601", "{bad}");
        }
    }

    #[test]
    fn what_changes_something_is_not_for_who_may_look() {
        let needs = |sql: &str| parse(sql).unwrap().first().unwrap().needs();
        for sql in ["show peers", "select * from sync_err_rec", "select export_sync_err_rec('b')", "begin", "set a = 1"]
        {
            assert_eq!(needs(sql), May::Look, "{sql}");
        }
        for sql in [
            "reload",
            "pause b",
            "resume b",
            "select deal_sync_err_rec(1)",
            "select skip_sync_err_rec(1)",
            "select edit_sync_err_rec(1, 'x')",
        ] {
            assert_eq!(needs(sql), May::Act, "{sql}");
        }
    }
}
