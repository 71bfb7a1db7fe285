//! A session that captures: what its client sends is relayed, rewritten or refused, and what its server answers is shown
//! as if nothing had been changed (§4, I6). Sans-IO: bytes in, bytes out.
//!
//! The machine follows the conversation as the server has it. A request that is not simply relayed leaves a [`Special`]
//! under its id, which says what its answers mean; everything else passes.

mod assemble;
mod copy;
mod extended;
mod lost;
mod names;
mod own;
mod pending;
mod replies;
mod reports;
mod rows;
mod run;
mod settings;
mod simple;
mod statements;
mod twins;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::capture::decide::{Surroundings, decide};
use crate::capture::write::{Ask, Decision};
use tracing::debug;

use crate::catalog::relation::Catalog;
use crate::journal::meta::Appender;
use crate::session::links::Links;
use crate::session::machine::{Machine, RequestId, Status};
use crate::sql::statement::Statement;
use crate::sql::{Effect, LexOptions, Lexer, Name, TokenKind, ident};
use crate::wire::extended::put_flush;
use crate::wire::frame::Frame;
use crate::wire::message::{back, front, split_cstr};

use assemble::{Assembler, HEADER, Piece};
use extended::{Bound, SqlTwin};
use names::Names;
use own::Own;
use pending::Pending;
use rows::Template;
use run::{Form, Run};
use settings::Reported;
use simple::{QueryRun, Ready, Segment};
use statements::{Deallocated, MadeBySql, Parsed, Statements};
use twins::{TwinName, Twins};

/// Frames up to this size are waited for whole.
const WHOLE: usize = 256 << 10;

/// No statement on a replicated table may be larger: it has to be held, and its text to fit into a journal row.
const LONGEST: usize = 256 << 20;

/// What the answers to a request mean, where they are not simply the client's.
#[derive(Debug)]
enum Special {
    /// One of our own requests.
    Own(Own),
    /// A step of ours on the client's behalf: success is hidden, an error is the client's.
    Step(Option<Rc<Template>>),
    /// The Parse of a twin.
    Twin(TwinName, Rc<Template>),
    /// The client's own Parse.
    Parse(Parsed),
    /// The client's Execute of a `PREPARE`.
    Prepares(MadeBySql),
    /// The client's Close, or its Execute of a `DEALLOCATE`.
    Deallocates(Deallocated),
    /// The client's own Bind, of a twin; with whether that has one more column.
    Bind(Rc<Template>, bool),
    /// A Describe of a portal whose statement is a twin; `simple` where the client has sent none.
    Describe {
        rows: bool,
        cut: bool,
        simple: bool,
    },
    Execute(Box<Run>, bool),
    /// The client's Execute of what acts on the transaction.
    Control(Effect),
    Query(Box<QueryRun>),
    /// In the place of a refused statement: its error is replaced by this one.
    Refused(Vec<u8>),
    /// The Parse of a refused query: an error of the server's own goes before the refusal.
    Checked(Vec<u8>, Template),
    /// The Parse of a query whose rewritten text met an error of syntax, this one.
    Recheck(Vec<u8>),
    /// A ReadyForQuery that the client must not see.
    HiddenSync,
    /// A Sync of ours that ends what an error of ours has begun.
    ErrorSync,
    /// Ends one part of a query of which more may follow.
    SegmentSync,
    /// The whole text of a query that is run in parts: only its syntax is of interest.
    Syntax,
}

/// What has become of a client's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It goes to the server as it is.
    Verbatim,
    /// It is dealt with.
    Done,
    /// It is looked at again when everything that was asked is answered.
    Wait,
}

/// What happens when everything that was asked is answered.
#[derive(Debug, Default)]
enum Next {
    /// The client is read again.
    #[default]
    Client,
    /// The block around a client's query is committed.
    CommitWrapped,
    /// The block is rolled back, and the client told that it is idle.
    Rollback,
    /// The next part of a client's query is run.
    Segment,
}

/// Where the bytes of a frame go that is too large to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streaming {
    Pass,
    /// COPY data that is captured.
    Copy,
    /// A message that was refused.
    Drop,
}

pub(crate) struct Engine {
    machine: Machine,
    links: Rc<Links>,
    appender: Option<Appender>,
    client_in: Assembler,
    server_in: Assembler,
    /// The first ReadyForQuery has come.
    greeted: bool,
    /// Type of a reply that nobody asked for.
    unexpected: Option<u8>,
    streaming: Streaming,
    /// The frame that has begun is wanted whole.
    hold_whole: bool,
    /// Read from the client, but not looked at yet.
    backlog: Vec<u8>,
    waiting: bool,
    /// A Flush was sent for those that we wait for.
    flushed: bool,
    next: Next,
    up: Vec<u8>,
    down: Vec<u8>,
    specials: VecDeque<(RequestId, Special)>,
    /// The Query or Execute that was sent last: COPY data is for it.
    asked: Option<RequestId>,
    parameters: BTreeMap<Vec<u8>, Vec<u8>>,
    reported: Reported,

    // === names and statements ===
    names: Names,
    /// The catalog as this session alone sees it, while it has changed it.
    private: Option<Arc<Catalog>>,
    /// Invalidations that it is newer than.
    private_as_of: u64,
    /// Looks at the catalog before `names` and the decisions were made.
    looks: u64,
    statements: Statements,
    sql_twins: HashMap<Vec<u8>, SqlTwin>,
    portals: HashMap<Name, Rc<Bound>>,
    twins: Twins,
    /// Counts everything that may change what a name means.
    epoch: u64,
    /// The client has sent messages of the extended protocol since its last Sync.
    client_unsynced: bool,

    // === the transaction ===
    pending: Pending,
    /// A block of ours is around what the client believes to be an implicit transaction.
    wrapped: bool,
    /// A request that ends or begins a block is on its way.
    turning: bool,
    /// Where the transaction stands since such a request was answered; the next ReadyForQuery says it too.
    turned: Option<Status>,
    /// The order must be taken once more at the end (§5).
    marker_due: bool,
    /// Deferred constraints must be checked before that.
    constraints_due: bool,
    /// Something in this transaction may have changed what names mean; its end may change it back.
    unsettled: bool,
    /// A catalog change is committed with this transaction.
    ddl: bool,
    /// Why the transaction must not commit.
    poisoned: Option<Vec<u8>>,
    /// Meta of the transaction's last journal row.
    last_meta: Option<Vec<u8>>,
    /// Its COMMIT is on its way.
    committing: bool,
    /// It must not stay open: the client has been told that it failed to commit.
    rollback_due: bool,
    /// Whether its isolation level is READ COMMITTED, once it was asked for.
    read_committed: Option<bool>,
    /// The client's query that waits has been answered, by the error of what had to be done before it.
    drop_query: bool,
    /// The query that is to be run in parts cannot be read.
    syntax_failed: bool,
    /// Rest of a query that is run piece by piece.
    segments: VecDeque<(usize, Vec<u8>)>,
    /// Of which query that is, and where it has got to.
    segment: Option<Segment>,
    /// A block has to be put around them first.
    wrap_segments: bool,
    /// The tag that a wrapped query ends with.
    withheld: Vec<u8>,
    /// The RowDescription of a simple query, which the server sends when the rows are there.
    held_rows: Vec<u8>,
    /// A query whose rewritten text met an error of syntax, and the error: the server is asked about the client's own.
    recheck: Option<(Vec<u8>, Vec<u8>)>,
}

impl Engine {
    /// A session whose authentication has succeeded.
    pub(crate) fn new(links: Rc<Links>) -> Self {
        Self {
            machine: Machine::after_login(),
            looks: 0,
            links,
            appender: None,
            client_in: Assembler::default(),
            server_in: Assembler::default(),
            greeted: false,
            unexpected: None,
            streaming: Streaming::Pass,
            hold_whole: false,
            backlog: Vec::new(),
            waiting: false,
            flushed: false,
            next: Next::Client,
            up: Vec::new(),
            down: Vec::new(),
            specials: VecDeque::new(),
            asked: None,
            parameters: BTreeMap::new(),
            reported: Reported::default(),
            names: Names::default(),
            private: None,
            private_as_of: 0,
            statements: Statements::default(),
            sql_twins: HashMap::new(),
            portals: HashMap::new(),
            twins: Twins::default(),
            epoch: 0,
            client_unsynced: false,
            pending: Pending::default(),
            wrapped: false,
            turning: false,
            turned: None,
            marker_due: false,
            constraints_due: false,
            unsettled: false,
            ddl: false,
            poisoned: None,
            last_meta: None,
            committing: false,
            rollback_due: false,
            read_committed: None,
            drop_query: false,
            syntax_failed: false,
            segments: VecDeque::new(),
            segment: None,
            held_rows: Vec::new(),
            recheck: None,
            wrap_segments: false,
            withheld: Vec::new(),
        }
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Whether the client must not be read now.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting || self.machine.is_congested()
    }

    /// Whether something is under way that the client's end must not cut short: not what it has left without a Sync, or the
    /// end of its data.
    pub(crate) fn is_busy(&self) -> bool {
        let left = self.machine.is_lost() || self.client_unsynced || self.machine.takes_copy_data();
        self.waiting || self.machine.awaits_reply() && !left
    }

    /// Outside of a transaction, nothing asked, nothing held.
    pub(crate) fn is_idle(&self) -> bool {
        self.machine.is_idle() && !self.waiting && self.backlog.is_empty() && !self.wrapped
    }

    pub(crate) fn client_at_boundary(&self) -> bool {
        self.client_in.at_boundary() && self.backlog.is_empty()
    }

    pub(crate) fn server_at_boundary(&self) -> bool {
        self.server_in.at_boundary()
    }

    /// What is to be written to the server.
    pub(crate) fn take_up(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.up)
    }

    /// What is to be written to the client.
    pub(crate) fn take_down(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.down)
    }

    // === the client's stream ===

    /// Takes bytes from the client; `true` if they all go to the server as they are.
    pub(crate) fn on_client(&mut self, chunk: &[u8]) -> bool {
        if self.machine.is_lost() {
            // It broke the protocol: the server hears the rest of it and hangs up.
            return self.backlog.is_empty();
        }
        // Up to here the chunk goes as it is, and nothing else was put out.
        let mut plain = self.up.is_empty().then_some(0);
        let mut rest = chunk;
        loop {
            let at = chunk.len() - rest.len();
            if self.waiting {
                self.backlog.extend_from_slice(rest);
                break;
            }
            let whole = self.hold_whole;
            let mark = self.up.len();
            let piece = match self.client_in.next(&mut rest, |tag, len| client_wait(tag, len, whole)) {
                Ok(piece) => piece,
                Err(bad) => {
                    // The server says what is wrong with it, and ends the session.
                    debug!(%bad, "client broke the protocol");
                    self.machine.lose();
                    self.put_plain(&mut plain, chunk, mark);
                    let held = self.client_in.take_held();
                    self.up.extend_from_slice(&held);
                    self.up.extend_from_slice(rest);
                    return false;
                }
            };
            let end = chunk.len() - rest.len();
            let Some(piece) = piece else {
                if !self.client_in.at_boundary() {
                    self.put_plain(&mut plain, chunk, mark);
                }
                break;
            };
            let step = match &piece {
                Piece::Whole(frame) => self.client_frame(frame),
                Piece::Joined(frame) => {
                    self.hold_whole = false;
                    self.client_frame(frame)
                }
                Piece::Begin { bytes } => self.client_begin(bytes),
                Piece::More(bytes) => self.client_more(bytes),
            };
            if let (Some(upto), true) = (plain, self.up.len() > mark) {
                let own = self.up.split_off(mark);
                self.up.extend_from_slice(chunk.get(..upto).unwrap_or_default());
                self.up.extend_from_slice(&own);
                plain = None;
            }
            match (step, piece) {
                (Step::Verbatim, Piece::Whole(_) | Piece::More(_)) if plain.is_some() => plain = Some(end),
                (Step::Verbatim, Piece::Whole(bytes) | Piece::More(bytes)) => self.up.extend_from_slice(bytes),
                (Step::Verbatim, Piece::Joined(bytes) | Piece::Begin { bytes }) => {
                    let mark = self.up.len();
                    self.put_plain(&mut plain, chunk, mark);
                    self.up.extend_from_slice(&bytes);
                }
                (Step::Done, _) => {
                    let mark = self.up.len();
                    self.put_plain(&mut plain, chunk, mark);
                }
                (Step::Wait, Piece::Begin { bytes }) => {
                    // Not until an answer: until all of it is here.
                    self.client_in.hold(bytes);
                    self.hold_whole = true;
                }
                (Step::Wait, Piece::Joined(bytes)) => {
                    let mark = self.up.len();
                    self.put_plain(&mut plain, chunk, mark);
                    self.wait();
                    self.backlog.extend_from_slice(&bytes);
                }
                (Step::Wait, Piece::Whole(_) | Piece::More(_)) => {
                    // What has passed goes before the Flush that asks for its answers.
                    let mark = self.up.len();
                    self.put_plain(&mut plain, chunk, mark);
                    self.wait();
                    self.backlog.extend_from_slice(chunk.get(at..end).unwrap_or_default());
                }
            }
        }
        if plain == Some(chunk.len()) {
            return true;
        }
        let mark = self.up.len();
        self.put_plain(&mut plain, chunk, mark);
        false
    }

    /// Ends the plain run: what of the chunk has passed so far goes before what is put out from `mark` on.
    fn put_plain(&mut self, plain: &mut Option<usize>, chunk: &[u8], mark: usize) {
        if let Some(upto) = plain.take() {
            let own = self.up.split_off(mark);
            self.up.extend_from_slice(chunk.get(..upto).unwrap_or_default());
            self.up.extend_from_slice(&own);
        }
    }

    /// Waits until everything is answered; the server is told to hand out what it keeps back.
    fn wait(&mut self) {
        self.waiting = true;
        if self.machine.awaits_reply() && !self.flushed {
            self.flushed = true;
            put_flush(&mut self.up);
        }
    }

    /// Goes on with what the client sent while it had to wait.
    fn resume(&mut self) {
        self.waiting = false;
        self.flushed = false;
        let backlog = std::mem::take(&mut self.backlog);
        if self.on_client(&backlog) {
            self.up.extend_from_slice(&backlog);
        }
    }

    fn client_frame(&mut self, frame: &[u8]) -> Step {
        let Some((&tag, _)) = frame.split_first() else { return Step::Verbatim };
        let body = frame.get(HEADER..).unwrap_or_default();
        // What the server will not execute is none of ours; it says itself what is wrong.
        if self.machine.is_lost() || self.machine.is_skipping() && tag != front::SYNC {
            self.note(frame);
            return Step::Verbatim;
        }
        if self.must_wait(tag) {
            return Step::Wait;
        }
        match tag {
            front::QUERY => self.on_query(frame, body),
            front::PARSE => self.on_parse(frame, body),
            front::BIND => self.on_bind(frame, body),
            front::DESCRIBE => self.on_describe(frame, body),
            front::EXECUTE => self.on_execute(frame, body),
            front::CLOSE => self.on_close(frame, body),
            front::SYNC => self.on_sync(frame),
            front::FUNCTION_CALL => self.on_function_call(frame, body),
            front::COPY_DATA => {
                self.note(frame);
                self.copy_data(body);
                Step::Verbatim
            }
            front::COPY_DONE | front::COPY_FAIL => self.copy_end(frame),
            _ => {
                self.note(frame);
                Step::Verbatim
            }
        }
    }

    /// Whether what is under way consists of steps of which some are still to be sent.
    fn must_wait(&self, tag: u8) -> bool {
        let data = matches!(tag, front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL);
        if data || !self.machine.awaits_reply() || self.machine.takes_copy_data() {
            return false;
        }
        // While they are on their way nothing else is: the last one tells.
        let last = self.specials.back().map(|(_, special)| special);
        match last {
            Some(Special::Own(Own::Begin | Own::Commit | Own::Rollback) | Special::SegmentSync) => true,
            Some(Special::Query(query)) => query.ready != Ready::Shown,
            _ => false,
        }
    }

    /// A frame that is not held whole.
    fn client_begin(&mut self, bytes: &[u8]) -> Step {
        let Some((&tag, _)) = bytes.split_first() else { return Step::Verbatim };
        let body = bytes.get(HEADER..).unwrap_or_default();
        self.streaming = Streaming::Pass;
        if !self.machine.is_lost() && !self.machine.is_skipping() {
            match tag {
                front::COPY_DATA => {
                    self.streaming = Streaming::Copy;
                    self.copy_data(body);
                }
                front::QUERY | front::PARSE | front::BIND if self.concerns(tag, body) => {
                    if body_len(bytes) <= LONGEST {
                        return Step::Wait;
                    }
                    self.streaming = Streaming::Drop;
                    self.refuse_too_long(tag);
                    return Step::Done;
                }
                _ => {}
            }
        }
        self.note(bytes);
        Step::Verbatim
    }

    fn client_more(&mut self, bytes: &[u8]) -> Step {
        match self.streaming {
            Streaming::Pass => Step::Verbatim,
            Streaming::Copy => {
                self.copy_data(bytes);
                Step::Verbatim
            }
            Streaming::Drop => Step::Done,
        }
    }

    /// Whether the beginning of a large message names anything of ours.
    fn concerns(&mut self, tag: u8, body: &[u8]) -> bool {
        if tag == front::BIND {
            let statement = split_cstr(body).and_then(|(_, rest)| split_cstr(rest)).map(|(name, _)| name);
            return statement.is_some_and(|name| self.statements.get(&Name::from_bytes(name)).is_some());
        }
        let catalog = self.catalog();
        let opts = self.machine.lex();
        Lexer::new(body, opts).filter(|token| !token.kind.is_blank()).any(|token| {
            let name = match token.kind {
                TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent => {
                    ident::fold(token.kind, token.text(body), b'\\', opts.encoding)
                }
                _ => None,
            };
            name.is_some_and(|name| catalog.by_name.contains_key(&name))
        })
    }

    // === towards the server ===

    /// Lets the machine see a frame that goes to the server.
    fn note(&mut self, frame: &[u8]) -> Option<RequestId> {
        let (&tag, _) = frame.split_first()?;
        if tag == front::SYNC {
            self.twins.next_batch();
        }
        let head = frame.get(HEADER..)?;
        let body_len = u32::try_from(body_len(frame)).unwrap_or(u32::MAX);
        let id = self.machine.on_frontend(Frame { tag, body_len, head });
        if matches!(tag, front::QUERY | front::EXECUTE) {
            self.asked = id;
        }
        id
    }

    /// [`Engine::note`] with what the answers mean.
    fn note_special(&mut self, frame: &[u8], special: Special) {
        if let Some(id) = self.note(frame) {
            self.specials.push_back((id, special));
        }
    }

    /// Sends a frame.
    fn send(&mut self, special: Special, put: impl FnOnce(&mut Vec<u8>)) {
        let mut frame = Vec::new();
        put(&mut frame);
        self.note_special(&frame, special);
        self.up.extend_from_slice(&frame);
    }

    // === decisions ===

    /// The catalog by which statements are judged now.
    fn catalog(&mut self) -> Arc<Catalog> {
        if !self.is_shared_outdated() {
            self.private = None;
        }
        if let Some(private) = &self.private {
            return private.clone();
        }
        let looks = self.links.catalogs.looks();
        if looks != self.looks {
            self.looks = looks;
            self.names.forget();
            self.epoch += 1;
        }
        self.links.catalogs.current().unwrap_or_default()
    }

    /// Whether this session may see another catalog than the shared one.
    fn is_shared_outdated(&self) -> bool {
        self.ddl || self.links.catalogs.is_behind()
    }

    /// What becomes of a statement; `None` where the server has to be asked first, which is under way.
    fn decide(&mut self, sql: &[u8], statement: &Statement, params: &[u32]) -> Option<Decision> {
        if self.needs_private_catalog(statement) {
            self.ask_catalog();
            return None;
        }
        let decision = self.with_surroundings(params, |s| decide(sql, statement, s))?;
        self.links.lanes.record(sql, self.machine.lex(), &decision);
        Some(decision)
    }

    /// Calls with what decisions hang on; asks the server for the names that it lacks.
    fn with_surroundings<T>(
        &mut self,
        params: &[u32],
        call: impl FnOnce(&Surroundings<'_>) -> Result<T, Ask>,
    ) -> Option<T> {
        let catalog = self.catalog();
        let encoding = self.encoding_name();
        let meaning = |written: &_| self.names.get(written);
        let settings = || self.settings();
        let surroundings = Surroundings {
            catalog: &catalog,
            meaning: &meaning,
            encoding: &encoding,
            standard_conforming_strings: self.machine.lex().standard_conforming_strings,
            params,
            settings: &settings,
        };
        match call(&surroundings) {
            Ok(decision) => Some(decision),
            Err(Ask(names)) => {
                names.iter().for_each(|name| self.ask_name(name));
                None
            }
        }
    }

    /// Whether a text reads the session's prepared statements, among which ours must not be seen.
    fn looks_at_statements(&self, text: &[u8]) -> bool {
        const VIEW: &[u8] = b"pg_prepared_statement";
        memchr::memchr2_iter(b'p', b'P', text)
            .any(|at| text.get(at..at.saturating_add(VIEW.len())).is_some_and(|found| found.eq_ignore_ascii_case(VIEW)))
    }

    /// The client runs DDL.
    fn catalog_changes(&mut self) {
        self.private = None;
        self.ddl = true;
        self.unsettle();
    }

    /// A transaction is over: what it did to the catalog is there for all to see, or undone.
    fn catalog_committed(&mut self) {
        if std::mem::take(&mut self.ddl) {
            self.private = None;
            drop(self.links.catalogs.invalidate());
        }
    }

    /// A transaction, or a part of it, ends: what it has set may end with it.
    fn settings_revert(&mut self) {
        if self.unsettled {
            self.names.forget();
            self.epoch += 1;
        }
        if self.ddl {
            self.private = None;
        }
    }

    /// Names may mean something else from here on.
    fn unsettle(&mut self) {
        self.names.forget();
        self.epoch += 1;
        self.unsettled = true;
    }

    fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.parameters.get(name.as_bytes()).map(Vec::as_slice)
    }

    fn encoding_name(&self) -> String {
        self.parameter("client_encoding").map_or_else(|| "UTF8".into(), |v| String::from_utf8_lossy(v).into_owned())
    }

    /// Settings that constants of a text hang on.
    fn settings(&self) -> Vec<(String, String)> {
        ["DateStyle", "IntervalStyle", "TimeZone"]
            .into_iter()
            .filter_map(|name| {
                let value = self.parameter(name)?;
                Some((name.to_owned(), String::from_utf8_lossy(value).into_owned()))
            })
            .collect()
    }

    /// Where the transaction stands, as far as it is answered.
    fn status(&self) -> Status {
        self.turned.unwrap_or(self.machine.status())
    }

    /// Whether the session is inside a block that the client began.
    fn in_block(&self) -> bool {
        self.status() == Status::Block && !self.wrapped
    }

    /// Whether something is under way that may still have entries for the journal.
    fn is_capturing(&self) -> bool {
        self.specials.iter().any(|(_, special)| matches!(special, Special::Execute(..) | Special::Query(_)))
    }

    /// Whether something of this transaction has yet to be journalled before a statement that journals itself.
    fn journal_is_behind(&self) -> bool {
        let later = |special: &Special| match special {
            Special::Execute(run, _) => !matches!(run.form, Form::Alone(_)),
            Special::Query(_) => true,
            _ => false,
        };
        !self.pending.is_empty() || self.specials.iter().any(|(_, special)| later(special))
    }

    fn lex(&self) -> LexOptions {
        self.machine.lex()
    }

    /// Takes note of the server's reported settings.
    fn on_parameter(&mut self, frame: &[u8], body: &[u8]) {
        if let Some((name, rest)) = split_cstr(body)
            && let Some((value, _)) = split_cstr(rest)
        {
            let before = self.parameters.insert(name.to_vec(), value.to_vec());
            if self.greeted && !self.machine.is_lost() {
                self.reported.hold(name, before.as_deref(), value, frame);
            }
            // What was decided holds the encoding and the settings that constants hang on.
            self.epoch += 1;
        }
    }

    /// The appender, which needs the backend's pid.
    fn appender(&mut self) -> &Appender {
        let pid = self.machine.key().first_chunk().map_or(0, |pid| u32::from_be_bytes(*pid));
        self.appender.get_or_insert_with(|| Appender::new(self.links.key.clone(), self.links.author.clone(), pid))
    }
}

/// How much of a client's message is waited for.
fn client_wait(tag: u8, len: usize, whole: bool) -> usize {
    /// The server's own limits: of what is longer it reads no more than the length.
    const LARGE: usize = 0x3fff_fffa;
    const SMALL: usize = 9_996;
    let limit = match tag {
        front::QUERY | front::PARSE | front::BIND | front::FUNCTION_CALL => LARGE,
        front::DESCRIBE | front::EXECUTE | front::CLOSE | front::SYNC | front::FLUSH | front::TERMINATE => SMALL,
        front::COPY_DONE | front::COPY_FAIL => SMALL,
        // COPY data is streamed; of a type that is none the server reads nothing.
        _ => 0,
    };
    match whole {
        _ if len > limit => 0,
        true => usize::MAX,
        false => WHOLE,
    }
}

/// How much of a server's message is waited for.
fn server_wait(tag: u8, wanted: bool) -> usize {
    match tag {
        back::DATA_ROW if wanted => usize::MAX,
        back::DATA_ROW | back::COPY_DATA | back::FUNCTION_RESULT => 0,
        _ if wanted => usize::MAX,
        _ => WHOLE,
    }
}

/// The length of the whole body of a frame of which at least the header is here.
fn body_len(frame: &[u8]) -> usize {
    let len = frame.get(1..HEADER).and_then(|len| len.first_chunk()).map_or(4, |len| u32::from_be_bytes(*len));
    usize::try_from(len).unwrap_or(usize::MAX).saturating_sub(4)
}
