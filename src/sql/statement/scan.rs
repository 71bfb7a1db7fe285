//! What holds for a whole statement, at any depth: its relations, calls, parameters, and what it depends on besides.
//!
//! One pass over the tokens with a stack of its own, so that no depth of brackets is too deep. Where it cannot tell, it
//! lists a name too many rather than one too few (I5).

use super::cursor::{Cursor, Tok};
use super::word::Word;
use super::{Moods, Span, Written, expr, literal, with};
use crate::sql::name::Name;
use crate::sql::token::TokenKind;

/// What was found.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) relations: Vec<Written>,
    pub(super) calls: Vec<Written>,
    pub(super) moods: Moods,
    pub(super) max_param: u16,
    pub(super) moment_strings: bool,
}

/// One level of brackets.
#[derive(Clone, Copy, Default)]
struct Level {
    /// In a list of tables: a comma is followed by another one.
    list: bool,
    /// `DELETE` and `MERGE` have a list behind `USING`.
    using: bool,
    /// `FROM` is no clause, as in `EXTRACT (… FROM …)`.
    special: bool,
    /// `CASE`s that are open.
    cases: u32,
    /// How many CTEs were in scope when it was opened.
    ctes: usize,
}

/// What is to be done at the end of a CTE's body.
struct BodyEnd<'a> {
    close: usize,
    /// The CTE comes into scope here, if it did not see itself.
    name: Option<Name>,
    /// Where the next CTE's body begins.
    next: Option<Cursor<'a>>,
}

struct Scan<'a> {
    c: Cursor<'a>,
    facts: Facts,
    level: Level,
    levels: Vec<Level>,
    ctes: Vec<Name>,
    /// The innermost body is the last.
    bodies: Vec<BodyEnd<'a>>,
}

pub(super) fn scan(c: Cursor<'_>) -> Facts {
    let mut scan = Scan {
        c,
        facts: Facts { relations: Vec::with_capacity(2), ..Facts::default() },
        level: Level::default(),
        levels: Vec::new(),
        ctes: Vec::new(),
        bodies: Vec::new(),
    };
    while let Some(token) = scan.c.peek() {
        scan.token(*token);
    }
    scan.facts
}

impl Scan<'_> {
    /// Reads the next token and whatever else belongs to it.
    fn token(&mut self, token: Tok) {
        match token.kind {
            TokenKind::Char(b'(' | b'[') => self.open(Level::default()),
            TokenKind::Char(b')' | b']') => self.close(),
            TokenKind::Char(b',') => {
                self.c.at += 1;
                if self.level.list {
                    self.table();
                }
            }
            TokenKind::Ident if token.word != Word::None => self.word(token.word),
            TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent => self.name(),
            TokenKind::Param => {
                let number = expr::param(self.c.text.bytes(&token)).unwrap_or(u16::MAX);
                self.facts.max_param = self.facts.max_param.max(number);
                self.c.at += 1;
            }
            kind if kind.is_string() || kind == TokenKind::NationalString => {
                let text = self.c.text;
                self.facts.moment_strings |= literal::is_moment(kind, text.bytes(&token), text.opts.encoding)
                    || (kind == TokenKind::UnicodeString && self.c.word_at(1) == Word::Uescape);
                self.c.at += 1;
            }
            _ => self.c.at += 1,
        }
    }

    fn open(&mut self, level: Level) {
        self.levels.push(std::mem::replace(&mut self.level, Level { ctes: self.ctes.len(), ..level }));
        self.c.at += 1;
    }

    fn close(&mut self) {
        self.ctes.truncate(self.level.ctes);
        self.level = self.levels.pop().unwrap_or_default();
        if self.bodies.last().is_some_and(|body| body.close == self.c.at)
            && let Some(body) = self.bodies.pop()
        {
            self.ctes.extend(body.name);
            if let Some(next) = body.next {
                // From here to there is only a head: `, name (columns) AS`.
                self.c.at = next.at - 1;
                return;
            }
        }
        self.c.at += 1;
    }

    fn previous(&self) -> Word {
        self.c.before().map_or(Word::None, |t| t.word)
    }

    fn word(&mut self, word: Word) {
        let previous = self.previous();
        match word {
            Word::From => {
                let clause = !self.level.special && !self.c.is_distinct_from();
                self.c.at += 1;
                if clause && previous == Word::Delete {
                    self.level.using = true;
                    self.target();
                } else if clause {
                    self.list();
                }
                return;
            }
            Word::Join => {
                self.c.at += 1;
                self.list();
                return;
            }
            Word::Using if !self.level.list && self.level.using => {
                self.c.at += 1;
                self.list();
                return;
            }
            Word::Using if self.level.list && self.c.is_char_at(1, b'(') => {
                // The columns of a join.
                self.c.at += 1;
                self.c.step();
                return;
            }
            Word::Into => {
                self.c.at += 1;
                self.level.using |= previous == Word::Merge;
                if !matches!(previous, Word::Insert | Word::Merge) {
                    self.made_options();
                }
                self.target();
                return;
            }
            Word::Update => {
                self.facts.moods.locking |= matches!(previous, Word::For | Word::Key);
                let verb = !matches!(previous, Word::For | Word::Key | Word::Do | Word::Then | Word::On);
                if verb && !self.c.is_char_at(1, b'(') {
                    self.c.at += 1;
                    self.target();
                    return;
                }
            }
            Word::Table => {
                self.c.at += 1;
                if self.c.take(Word::If) {
                    self.c.take(Word::Not);
                    self.c.take(Word::Exists);
                }
                self.table();
                return;
            }
            Word::With if self.with() => return,
            Word::Select | Word::Values => self.level.list = false,
            Word::Where
            | Word::Group
            | Word::Having
            | Word::Window
            | Word::Union
            | Word::Intersect
            | Word::Except
            | Word::Order
            | Word::Do => {
                self.level.list = false;
            }
            Word::Returning => {
                self.level.list = false;
                self.forget_inserted();
            }
            Word::On if self.c.word_at(1) == Word::Conflict && self.levels.is_empty() => self.forget_inserted(),
            Word::Limit | Word::Offset | Word::Fetch => {
                self.level.list = false;
                self.facts.moods.limit = true;
            }
            Word::For => self.facts.moods.locking |= matches!(self.c.word_at(1), Word::Share | Word::No | Word::Key),
            Word::TableSample => self.facts.moods.sample = true,
            Word::Case if previous != Word::As => self.level.cases += 1,
            Word::End if previous != Word::As => self.level.cases = self.level.cases.saturating_sub(1),
            // The actions of a MERGE.
            Word::When if self.level.cases == 0 => self.level.list = false,
            Word::CurrentDate | Word::CurrentTime | Word::CurrentTimestamp | Word::LocalTime | Word::LocalTimestamp => {
                self.facts.moods.clock = true;
            }
            Word::User if previous == Word::Overriding => {}
            Word::CurrentUser
            | Word::CurrentRole
            | Word::SessionUser
            | Word::User
            | Word::SystemUser
            | Word::CurrentSchema
            | Word::CurrentCatalog => {
                self.facts.moods.who = true;
            }
            Word::Extract | Word::Substring | Word::Trim | Word::Overlay | Word::Position => {
                self.name();
                if self.c.is_char(b'(') {
                    self.open(Level { special: true, ..Level::default() });
                }
                return;
            }
            _ => {}
        }
        self.name();
    }

    // === tables ===

    /// Behind `FROM`, `JOIN` or `USING`.
    fn list(&mut self) {
        self.level.list = true;
        self.table();
    }

    /// One item of a list of tables, or a bracket that holds some.
    fn table(&mut self) {
        loop {
            if self.c.is(Word::Rows) && self.c.word_at(1) == Word::From && self.c.is_char_at(2, b'(') {
                self.c.at += 2;
                self.open(Level { special: true, ..Level::default() });
                return;
            }
            if self.c.take_any(&[Word::Lateral, Word::Only]) {
                continue;
            }
            if !self.c.is_char(b'(') {
                break;
            }
            self.open(Level { list: true, ..Level::default() });
        }
        if !self.c.is_name() || (self.c.is(Word::Values) && self.c.is_char_at(1, b'(')) {
            return;
        }
        let mut ahead = self.c;
        let Some(relation) = ahead.qualified() else { return };
        if ahead.is_char(b'(') {
            return self.name(); // a function
        }
        self.c.at = ahead.at;
        if relation.schema.is_some() || !self.ctes.contains(&relation.name) {
            self.facts.relations.push(relation);
        }
        self.alias();
    }

    /// What may stand behind a table: `* AS alias (columns)`.
    fn alias(&mut self) {
        self.c.take_char(b'*');
        let named = self.c.take(Word::As);
        if self.c.is_name() && (named || !self.c.is(Word::Set)) && self.c.label().is_some() && self.c.is_char(b'(') {
            self.c.step();
        }
    }

    /// A table that is written: it is never a CTE.
    fn target(&mut self) {
        self.c.take(Word::Only);
        if self.c.is_char(b'(') {
            self.open(Level::default());
        }
        let mut ahead = self.c;
        if let Some(relation) = ahead.qualified() {
            self.c.at = ahead.at;
            self.facts.relations.push(relation);
        }
    }

    /// `INTO [[LOCAL | GLOBAL] {TEMP | TEMPORARY} | UNLOGGED] [TABLE] name`, where each of these may be the name.
    fn made_options(&mut self) {
        let options = [Word::Local, Word::Global, Word::Temp, Word::Temporary, Word::Unlogged, Word::Table];
        while options.contains(&self.c.word()) {
            let mut ahead = self.c;
            ahead.at += 1;
            if !self.c.is(Word::Table) && !ahead.is(Word::Table) && !ahead.is_name() {
                return;
            }
            self.c = ahead;
        }
    }

    // === CTEs ===

    /// At `WITH`: whether a list of CTEs begins here.
    fn with(&mut self) -> bool {
        let mut ahead = self.c;
        let Some(list) = with::list(&mut ahead) else { return false };
        if list.recursive {
            self.ctes.extend(list.entries.iter().map(|entry| entry.name));
        }
        let mut next = None;
        for entry in list.entries.iter().rev() {
            let name = (!list.recursive).then_some(entry.name);
            self.bodies.push(BodyEnd { close: entry.body.end, name, next });
            next = Some(entry.body);
        }
        if let Some(first) = next {
            self.c.at = first.at - 1;
        }
        true
    }

    /// The CTEs of the query that an `INSERT` inserts are not in scope behind that query. Those of the statement itself
    /// are, but to list one of their names is no harm.
    fn forget_inserted(&mut self) {
        self.ctes.truncate(self.level.ctes);
    }

    // === calls ===

    /// A name that may be a column, or a call if a parenthesis follows; the cursor goes behind the name.
    fn name(&mut self) {
        let begin = self.c;
        let Some(token) = begin.peek() else { return };
        let mut ahead = begin;
        ahead.at += 1;
        while ahead.is_char(b'.') {
            ahead.at += 1;
            match ahead.kind() {
                Some(TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent) => ahead.at += 1,
                _ => break, // `t.*`
            }
        }
        self.c.at = ahead.at;
        let qualified = ahead.at > begin.at + 1;
        if !ahead.is_char(b'(') || !(qualified || may_be_called(token.word)) || is_no_call(begin) {
            return;
        }
        let mut name = begin;
        if let Some(call) = called(&mut name) {
            self.facts.calls.push(call);
        }
    }
}

/// `[[database.]schema.]name`, where the first part may be any word that a call can begin with.
fn called(c: &mut Cursor<'_>) -> Option<Written> {
    let (name, span) = c.label()?;
    let mut written = Written { span, schema: None, name };
    while c.take_char(b'.') {
        let (name, part) = c.label()?;
        written.schema = Some(written.name);
        written.name = name;
        written.span = Span { start: span.start, end: part.end };
    }
    Some(written)
}

/// Whether a word before a parenthesis is, or stands for, a function.
const fn may_be_called(word: Word) -> bool {
    use super::word::Class;
    match word {
        Word::Like | Word::Ilike | Word::Is | Word::Join | Word::Similar | Word::Overlaps => false,
        Word::Extract
        | Word::Grouping
        | Word::Json
        | Word::JsonArray
        | Word::JsonArrayAgg
        | Word::JsonExists
        | Word::JsonObject
        | Word::JsonObjectAgg
        | Word::JsonQuery
        | Word::JsonScalar
        | Word::JsonSerialize
        | Word::JsonTable
        | Word::JsonValue
        | Word::MergeAction
        | Word::Normalize
        | Word::Overlay
        | Word::Position
        | Word::Substring
        | Word::Treat
        | Word::Trim
        | Word::XmlConcat
        | Word::XmlElement
        | Word::XmlExists
        | Word::XmlForest
        | Word::XmlParse
        | Word::XmlPi
        | Word::XmlRoot
        | Word::XmlSerialize
        | Word::XmlTable => true,
        word => matches!(word.class(), Class::Free | Class::FunctionOnly),
    }
}

/// Whether what stands before a name and a parenthesis shows that it is no call.
fn is_no_call(c: Cursor<'_>) -> bool {
    let Some(before) = c.before() else {
        return c.is(Word::Explain);
    };
    match before.kind {
        TokenKind::Char(b')' | b']') | TokenKind::TypeCast | TokenKind::Number | TokenKind::QuotedIdent => true,
        kind if kind.is_string() => true,
        TokenKind::Ident => match (before.word, c.word()) {
            (Word::As | Word::Into | Word::Execute | Word::Prepare | Word::Copy | Word::Explain, _) => true,
            (Word::On, Word::Conflict) | (Word::Then, Word::Insert) | (Word::Not, Word::Materialized) => true,
            (Word::Order | Word::Group | Word::Partition, Word::By) => true,
            // `t SET (a, b) = …`
            (Word::None | Word::Update, Word::Set) => true,
            _ => false,
        },
        _ => false,
    }
}
