//! Reads a statement: what kind it is, by its head.

use super::cursor::{Cursor, Text};
use super::word::Word;
use super::{Kind, Span, Statement, With, Written};
use super::{copy, ddl, insert, literal, merge, scan, truncate, update, with};
use crate::sql::lexer::LexOptions;

/// Reads one statement, with blanks, comments and semicolons around it.
///
/// What the server refuses may be read as anything: it does nothing.
#[must_use]
pub fn read(sql: &[u8], opts: LexOptions) -> Statement {
    let text = Text::new(sql, opts);
    statement(text.cursor())
}

/// A range that is a statement.
fn statement(c: Cursor<'_>) -> Statement {
    let (with, kind) = if c.text.broken { (None, Kind::Unknown) } else { kind(c) };
    // Only what makes a routine or a rule has semicolons within.
    let kind = if c.text.parted && !matches!(kind, Kind::Ddl) { Kind::Unknown } else { kind };
    let facts = scan::scan(c);
    let mut statement = Statement {
        end: c.rest().end.max(c.start()),
        with,
        max_param: facts.max_param,
        relations: facts.relations,
        calls: facts.calls,
        moods: facts.moods,
        moment_strings: facts.moment_strings,
        ddl: if kind == Kind::Ddl { ddl::ddl(c).map(Box::new) } else { None },
        kind,
    };
    // Where FROM, TO and commas mean something else, the reader of the statement knows better.
    match &statement.kind {
        Kind::Truncate(truncate) => {
            statement.relations = truncate.targets.iter().map(|target| target.relation).collect();
        }
        Kind::Copy(copy) => {
            // Its WHERE takes no query.
            if let Some(target) = &copy.target {
                statement.relations = vec![target.relation];
            }
        }
        Kind::Other | Kind::Session => statement.relations.clear(),
        _ => {}
    }
    statement
}

fn kind(mut c: Cursor<'_>) -> (Option<With>, Kind) {
    if c.is_over() {
        return (None, Kind::Other);
    }
    match c.word() {
        Word::With | Word::Select | Word::Values | Word::Table => {}
        Word::Insert | Word::Update | Word::Delete | Word::Merge => {}
        _ if c.is_char(b'(') => {}
        _ => return utility(c),
    }
    let with = with::leading(&mut c);
    let found = write(c).or_else(|| query(c));
    match found {
        Some(Kind::Select { into }) if with.is_none() => (leading_with(c), Kind::Select { into }),
        Some(kind) => (with, kind),
        None => (with, Kind::Unknown),
    }
}

/// `INSERT`, `UPDATE`, `DELETE`, `MERGE`
pub(super) fn write(c: Cursor<'_>) -> Option<Kind> {
    match c.word() {
        Word::Insert => insert::insert(c).map(Kind::Insert),
        Word::Update => update::update(c).map(Kind::Update),
        Word::Delete => update::delete(c).map(Kind::Delete),
        Word::Merge => merge::merge(c).map(Kind::Merge),
        _ => None,
    }
}

/// `SELECT`, `VALUES`, `TABLE`, in parentheses or not.
fn query(c: Cursor<'_>) -> Option<Kind> {
    let mut first = c;
    while first.is_char(b'(') {
        first = first.group()?;
    }
    with::leading(&mut first);
    while first.is_char(b'(') {
        first = first.group()?;
    }
    if !first.word().begins_query() {
        return None;
    }
    // The `INTO` of the leftmost SELECT makes a table.
    first.until(&[Word::Into, Word::From, Word::Union, Word::Intersect, Word::Except], false);
    let into = if first.take(Word::Into) { Some(into(&mut first)?) } else { None };
    Some(Kind::Select { into })
}

/// The `WITH` of a query in parentheses is as much the statement's own as one without.
fn leading_with(mut c: Cursor<'_>) -> Option<With> {
    while c.is_char(b'(') {
        c = c.group()?;
    }
    with::leading(&mut c)
}

/// `[[LOCAL | GLOBAL] {TEMP | TEMPORARY} | UNLOGGED] [TABLE] name`
fn into(c: &mut Cursor<'_>) -> Option<Written> {
    let options = [Word::Local, Word::Global, Word::Temp, Word::Temporary, Word::Unlogged, Word::Table];
    while options.contains(&c.word()) {
        let mut ahead = *c;
        ahead.at += 1;
        if !c.is(Word::Table) && !ahead.is(Word::Table) && !ahead.is_name() {
            break; // the table's name
        }
        *c = ahead;
    }
    c.qualified()
}

/// Everything that is no query and no write of rows.
fn utility(mut c: Cursor<'_>) -> (Option<With>, Kind) {
    let head = c.word();
    let kind = match head {
        Word::Truncate => truncate::truncate(c).map(Kind::Truncate),
        Word::Copy => copy::copy(c).map(Kind::Copy),
        Word::Prepare => prepare(c),
        Word::Execute => execute(c),
        Word::Explain => return explain(c),
        Word::Declare => {
            c.until(&[Word::For], false);
            c.at += 1;
            return (with::leading(&mut c), Kind::Declare);
        }
        Word::Call => {
            c.at += 1;
            c.qualified().map(Kind::Call)
        }
        Word::Do => do_block(c),
        Word::Create => return create(c),
        Word::Alter
        | Word::Drop
        | Word::Grant
        | Word::Revoke
        | Word::Comment
        | Word::Reindex
        | Word::Import
        | Word::Security
        | Word::Reassign
        | Word::Refresh => Some(Kind::Ddl),
        Word::Set | Word::Reset | Word::Discard | Word::Load => Some(Kind::Session),
        Word::Lock
        | Word::Show
        | Word::Fetch
        | Word::Move
        | Word::Close
        | Word::Vacuum
        | Word::Analyze
        | Word::Analyse
        | Word::Listen
        | Word::Unlisten
        | Word::Notify
        | Word::Begin
        | Word::Start
        | Word::Commit
        | Word::End
        | Word::Abort
        | Word::Rollback
        | Word::Savepoint
        | Word::Release
        | Word::Deallocate
        | Word::Checkpoint
        | Word::Cluster => Some(Kind::Other),
        _ => None,
    };
    (None, kind.unwrap_or(Kind::Unknown))
}

/// `PREPARE name [(types)] AS …`, or `PREPARE TRANSACTION '…'`.
fn prepare(mut c: Cursor<'_>) -> Option<Kind> {
    c.at += 1;
    if c.is(Word::Transaction) && c.peek_at(1).is_some_and(|t| t.kind.is_string()) {
        return Some(Kind::Other);
    }
    let (name, _) = c.name()?;
    let start = c.behind();
    if c.is_char(b'(') {
        c.group()?;
    }
    let types = Span { start, end: c.start() };
    if !c.take(Word::As) || c.is_over() {
        return None;
    }
    let body = c.rest();
    let inner = read(c.text.sql.get(body.start..body.end)?, c.text.opts);
    let preparable = matches!(
        inner.kind,
        Kind::Insert(_) | Kind::Update(_) | Kind::Delete(_) | Kind::Merge(_) | Kind::Select { .. }
    );
    preparable.then(|| Kind::Prepare { name, types, body, inner: Box::new(inner) })
}

fn execute(mut c: Cursor<'_>) -> Option<Kind> {
    c.at += 1;
    let (name, name_span) = c.name()?;
    if c.is_char(b'(') {
        c.group()?;
    }
    c.is_over().then_some(Kind::Execute { name, name_span })
}

/// `EXPLAIN [ANALYZE] [VERBOSE] …`, `EXPLAIN (option, …) …`; a query in parentheses may follow at once.
fn explain(mut c: Cursor<'_>) -> (Option<With>, Kind) {
    c.at += 1;
    let mut analyze = false;
    let options = c.is_char(b'(') && !c.word_at(1).begins_query() && !c.is_char_at(1, b'(');
    if options {
        if let Some(list) = c.group() {
            analyze = explain_analyzes(list);
        }
    } else {
        analyze = c.take_any(&[Word::Analyze, Word::Analyse]);
        c.take(Word::Verbose);
    }
    // Nothing that has a statement of its own within can be explained but these.
    let explainable = c.is_char(b'(')
        || c.word().begins_query()
        || matches!(
            c.word(),
            Word::Insert
                | Word::Update
                | Word::Delete
                | Word::Merge
                | Word::Execute
                | Word::Declare
                | Word::Create
                | Word::Refresh
        );
    if !explainable {
        return (None, Kind::Unknown);
    }
    let inner = statement(c);
    if inner.kind == Kind::Unknown {
        return (None, Kind::Unknown);
    }
    (inner.with.clone(), Kind::Explain { analyze, inner: Box::new(inner) })
}

/// Whether a list of options switches ANALYZE on; the last one counts.
fn explain_analyzes(mut list: Cursor<'_>) -> bool {
    let mut analyze = false;
    while !list.is_over() {
        let mut option = list.until(&[], true);
        list.take_char(b',');
        if option.take_any(&[Word::Analyze, Word::Analyse]) {
            analyze = !is_off(option);
        }
    }
    analyze
}

/// `false`, `off`, `0`, in quotes or not; the server takes no abbreviation here.
fn is_off(c: Cursor<'_>) -> bool {
    let Some(token) = c.peek() else { return false };
    let text = c.text.bytes(token);
    let word = text.strip_prefix(b"'").and_then(|t| t.strip_suffix(b"'")).unwrap_or(text);
    word.eq_ignore_ascii_case(b"false") || word.eq_ignore_ascii_case(b"off") || word == b"0"
}

/// `DO [LANGUAGE name] 'body' [LANGUAGE name]`
fn do_block(mut c: Cursor<'_>) -> Option<Kind> {
    c.at += 1;
    let mut body = None;
    let mut bodies = 0;
    while let Some(token) = c.peek() {
        if c.take(Word::Language) {
            c.next()?;
            continue;
        }
        if !token.kind.is_string() {
            return Some(Kind::Do { body: None });
        }
        let text = c.text.bytes(token);
        body = literal::decode(token.kind, text, c.text.opts.encoding).map(|body| body.into_owned().into_boxed_slice());
        bodies += 1;
        c.at += 1;
    }
    Some(Kind::Do { body: if bodies == 1 { body } else { None } })
}

/// `CREATE …`: one that fills a table from a query, or any other.
fn create(mut c: Cursor<'_>) -> (Option<With>, Kind) {
    c.at += 1;
    let options = [Word::Local, Word::Global, Word::Temp, Word::Temporary, Word::Unlogged, Word::Materialized];
    while c.take_any(&options) {}
    if !c.take(Word::Table) && !c.take(Word::View) {
        return (None, Kind::Ddl);
    }
    let view = c.before().is_some_and(|t| t.word == Word::View);
    let materialized =
        view && c.at.checked_sub(2).and_then(|at| c.text.tokens.get(at)).is_some_and(|t| t.word == Word::Materialized);
    if c.is(Word::If) && c.word_at(1) == Word::Not {
        c.at += 3;
    }
    let Some(relation) = c.qualified() else { return (None, Kind::Ddl) };
    if view && !materialized {
        return (None, Kind::Ddl);
    }
    c.until(&[Word::As], false);
    if !c.take(Word::As) {
        return (None, Kind::Ddl);
    }
    (with::leading(&mut c), Kind::CreateAs { relation })
}
