//! What a session's two byte streams mean: which reply belongs to which request, the transaction's status, and
//! which statements and portals exist. Sans-IO; reads frames, never changes one.
//!
//! The rules are PostgreSQL's own: `skip_to_sync` is its "ignore till sync", a COPY swallows the Syncs before its end,
//! and asynchronous messages belong to nobody.

mod objects;
mod requests;

pub use requests::RequestId;

use objects::Objects;
pub(crate) use requests::Request;
use requests::Requests;

use crate::sql::{ClientEncoding, Effect, LexOptions, Name, effect, effects};
use crate::wire::frame::Frame;
use crate::wire::message::{back, front, split_cstr};

/// How much of a simple query's text is read; longer ones are scanned up to here.
const QUERY_TEXT: usize = 256 << 10;
/// A Parse is one statement: its name and the first words are enough.
const PARSE_TEXT: usize = 16 << 10;
/// Room for the names at the start of Bind, Describe, Execute and Close.
const NAMES: usize = 4 << 10;
/// Room for a command tag, for a parameter's name and value, and for the SQLSTATE at the start of an error.
const TAG: usize = 256;
/// A pid and the longest key of protocol 3.2.
const KEY: usize = 4 + 256;

/// The transaction status of the last ReadyForQuery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Idle,
    Block,
    Failed,
}

/// Whom a reply belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Nobody asked: notices, notifications, parameter changes, the server's farewell.
    Async,
    To(RequestId),
    /// The machine does not know: from here on it claims nothing.
    Unexpected,
}

/// The knowledge of one session.
#[derive(Debug)]
pub struct Machine {
    status: Status,
    requests: Requests,
    objects: Objects,
    /// After an error in the extended protocol, until the next Sync is answered.
    skipping: bool,
    /// The client's last request belongs to an implicit transaction, which its next Sync ends.
    unsynced: bool,
    /// The request at the head has asked for COPY data.
    copy_in: bool,
    /// COPY data was sent since the last request that can ask for it.
    data_sent: bool,
    /// Statements of the simple query at the head that are complete.
    done: u32,
    /// Something failed since the last ReadyForQuery: if that ended a transaction, it rolled it back.
    failed: bool,
    lex: LexOptions,
    /// The body of BackendKeyData: what a CancelRequest for this session names.
    key: Box<[u8]>,
    /// Set for good when a reply could not be attributed, or a name could not be read.
    lost: bool,
}

impl Machine {
    /// A session whose authentication has succeeded, and which waits for its first ReadyForQuery.
    pub fn after_login() -> Self {
        let mut requests = Requests::default();
        requests.push(Request::Startup);
        Self {
            status: Status::Idle,
            requests,
            objects: Objects::default(),
            skipping: false,
            unsynced: false,
            copy_in: false,
            data_sent: false,
            done: 0,
            failed: false,
            lex: LexOptions { standard_conforming_strings: true, encoding: ClientEncoding::AsciiSafe },
            key: Box::default(),
            lost: false,
        }
    }

    /// How many bytes of a client message's body [`Machine::on_frontend`] wants.
    pub fn frontend_interest(tag: u8) -> usize {
        match tag {
            front::QUERY => QUERY_TEXT,
            front::PARSE => PARSE_TEXT,
            front::BIND | front::DESCRIBE | front::EXECUTE | front::CLOSE => NAMES,
            _ => 0,
        }
    }

    /// How many bytes of a server message's body [`Machine::on_backend`] wants.
    pub fn backend_interest(tag: u8) -> usize {
        match tag {
            back::READY | back::COMMAND_COMPLETE | back::PARAMETER_STATUS | back::ERROR => TAG,
            back::BACKEND_KEY_DATA => KEY,
            _ => 0,
        }
    }

    /// Takes note of a client's message; returns the request that it opens.
    pub fn on_frontend(&mut self, frame: Frame<'_>) -> Option<RequestId> {
        if self.lost {
            return None;
        }
        match frame.tag {
            front::COPY_DATA => self.data_sent = true,
            front::QUERY | front::EXECUTE => self.data_sent = false,
            _ => {}
        }
        let request = match frame.tag {
            // Nothing of the data can have failed yet: the server still ignores it.
            front::SYNC if self.takes_copy_data() && !self.data_sent => Request::Void,
            front::SYNC => Request::Sync,
            front::COPY_DONE | front::COPY_FAIL => Request::CopyEnd,
            // The server has raised an error, and reads on only for a Sync.
            _ if self.skipping => return None,
            front::QUERY => {
                let text = split_cstr(frame.head).map_or(frame.head, |(text, _)| text);
                Request::Query(effects(text, self.lex))
            }
            front::PARSE => self.parse(frame.head),
            front::BIND => self.bind(&frame)?,
            front::DESCRIBE => Request::Describe,
            front::EXECUTE => Request::Execute { portal: leading_name(frame.head) },
            front::CLOSE => match frame.head.split_first() {
                Some((b'S', name)) => Request::CloseStatement(leading_name(name)),
                Some((_, name)) => Request::ClosePortal(leading_name(name)),
                None => Request::ClosePortal(Name::default()),
            },
            front::FUNCTION_CALL => Request::FunctionCall,
            _ => return None,
        };
        self.unsynced = match request {
            Request::CopyEnd | Request::Void => self.unsynced,
            _ => !request.ends_with_ready(),
        };
        let skipped_to = self.skipping && matches!(request, Request::Sync);
        let id = self.requests.push(request);
        self.skipping &= !skipped_to;
        Some(id)
    }

    fn parse(&self, body: &[u8]) -> Request {
        let (name, rest) = split_cstr(body).unwrap_or((body, &[]));
        let text = split_cstr(rest).map_or(rest, |(text, _)| text);
        Request::Parse { statement: Name::from_bytes(name), effect: effect(text, self.lex) }
    }

    fn bind(&mut self, frame: &Frame<'_>) -> Option<Request> {
        match split_cstr(frame.head) {
            Some((portal, rest)) => {
                Some(Request::Bind { portal: Name::from_bytes(portal), statement: leading_name(rest) })
            }
            // Malformed: the server will say so.
            None if frame.is_whole() => Some(Request::Bind { portal: Name::default(), statement: Name::default() }),
            None => {
                self.lost = true;
                None
            }
        }
    }

    /// Takes note of a server's message; says whom it belongs to.
    pub fn on_backend(&mut self, frame: Frame<'_>) -> Reply {
        if self.lost {
            return Reply::Unexpected;
        }
        match frame.tag {
            back::NOTICE | back::NOTIFICATION => return Reply::Async,
            back::PARAMETER_STATUS => {
                self.on_parameter(frame.head);
                return Reply::Async;
            }
            _ => {}
        }
        let Some((id, head)) = self.requests.head() else {
            // With nothing asked, only a farewell (FATAL) can come.
            return if frame.tag == back::ERROR { Reply::Async } else { self.unexpected() };
        };
        match (frame.tag, head) {
            (back::BACKEND_KEY_DATA, Request::Startup) => self.key = frame.head.into(),
            (back::AUTHENTICATION | back::NEGOTIATE_VERSION, Request::Startup)
            | (
                back::DATA_ROW | back::COPY_DATA | back::COPY_DONE | back::COPY_OUT,
                Request::Query(_) | Request::Execute { .. },
            )
            | (back::ROW_DESCRIPTION, Request::Query(_))
            | (back::PARAMETER_DESCRIPTION, Request::Describe)
            | (back::FUNCTION_RESULT, Request::FunctionCall) => {}
            (back::ROW_DESCRIPTION | back::NO_DATA, Request::Describe)
            | (back::EMPTY_QUERY | back::PORTAL_SUSPENDED, Request::Execute { .. }) => {
                self.requests.pop();
            }
            (back::PARSE_COMPLETE, Request::Parse { .. })
            | (back::BIND_COMPLETE, Request::Bind { .. })
            | (back::CLOSE_COMPLETE, Request::CloseStatement(_) | Request::ClosePortal(_)) => self.confirm(),
            (back::EMPTY_QUERY, Request::Query(_)) => {}
            (back::COPY_IN, Request::Query(_) | Request::Execute { .. }) => {
                self.copy_in = true;
                self.requests.swallow_syncs();
            }
            (back::COMMAND_COMPLETE, Request::Query(_) | Request::Execute { .. }) => self.on_complete(frame.head),
            (back::ERROR, _) => self.on_error(frame.head),
            // A COPY ends with its completion or with an error, before that.
            (back::READY, head) if head.ends_with_ready() && !self.copy_in => self.on_ready(frame.head),
            _ => return self.unexpected(),
        }
        Reply::To(id)
    }

    fn unexpected(&mut self) -> Reply {
        self.lost = true;
        Reply::Unexpected
    }

    /// The server has done what the head asked for.
    fn confirm(&mut self) {
        match self.requests.pop() {
            Some(Request::Parse { statement, effect }) => self.objects.prepare(statement, effect),
            Some(Request::Bind { portal, statement }) => self.objects.bind(portal, &statement),
            Some(Request::CloseStatement(name)) => self.objects.deallocate(&name),
            Some(Request::ClosePortal(name)) => self.objects.close(&name),
            _ => {}
        }
    }

    fn on_complete(&mut self, tag: &[u8]) {
        if std::mem::take(&mut self.copy_in) {
            self.requests.end_copy();
            // The Sync behind the Execute may be among those that were swallowed.
            self.unsynced = matches!(self.requests.head(), Some((_, Request::Execute { .. })));
        }
        let effect = match self.requests.head() {
            Some((_, Request::Query(effects))) => {
                let effect = effects.get(self.done);
                self.done = self.done.saturating_add(1);
                effect
            }
            Some((_, Request::Execute { portal })) => {
                let effect = self.objects.portal_effect(portal);
                self.requests.pop();
                effect
            }
            _ => return,
        };
        self.apply(effect, split_cstr(tag).map_or(tag, |(tag, _)| tag));
    }

    /// What a completed command has done to the session. The tag is believed before the text is: a COMMIT may answer
    /// `ROLLBACK`.
    fn apply(&mut self, effect: Effect, tag: &[u8]) {
        match effect {
            Effect::None | Effect::Begin | Effect::ReadOnly => {}
            Effect::Commit { .. } | Effect::Rollback { .. } | Effect::PrepareTransaction => {
                self.objects.end_transaction(tag != b"ROLLBACK");
                self.failed = false;
            }
            Effect::Savepoint(name) => self.objects.savepoint(name),
            Effect::Release(name) => self.objects.release(&name),
            Effect::RollbackTo(name) => self.objects.rollback_to(&name),
            // One level is enough: what EXECUTE runs is hardly ever an EXECUTE.
            Effect::Execute(name) => match self.objects.statement_effect(&name) {
                Effect::Execute(_) => {}
                effect => self.apply(effect, tag),
            },
            Effect::Prepare(name) => self.objects.prepare(name, Effect::None),
            Effect::Deallocate(name) => self.objects.deallocate(&name),
            Effect::DeallocateAll => self.objects.deallocate_all(),
            Effect::DiscardAll => {
                self.objects.deallocate_all();
                self.objects.close_all();
            }
            Effect::Declare { name, hold } => self.objects.declare(name, hold),
            Effect::CloseCursor(name) => self.objects.close(&name),
            Effect::CloseAll => self.objects.close_all(),
        }
    }

    fn on_error(&mut self, body: &[u8]) {
        self.copy_in = false;
        self.failed = true;
        match self.requests.head() {
            // The last statement of a query completes with the commit. Where that fails the tag is missing, but what
            // the statement did to the session's prepared statements is done.
            Some((_, Request::Query(effects))) if self.done.checked_add(1) == Some(effects.count()) => {
                let effect = effects.get(self.done);
                if self.status != Status::Failed && outlives_failed_commit(effect, sqlstate(body)) {
                    self.apply(effect, b"");
                }
                return;
            }
            Some((_, head)) if head.ends_with_ready() => return,
            // A Parse of the unnamed statement drops the old one before it can fail.
            Some((_, Request::Parse { statement, .. })) if statement.is_empty() => {
                self.objects.deallocate(&Name::default());
            }
            _ => {}
        }
        self.skipping = !self.requests.skip_to_sync();
    }

    fn on_ready(&mut self, body: &[u8]) {
        if let Some(Request::Query(_)) = self.requests.pop() {
            // A simple query takes the place of the unnamed statement and of the unnamed portal.
            self.objects.deallocate(&Name::default());
            self.objects.close(&Name::default());
        }
        self.status = match body {
            [b'T'] => Status::Block,
            [b'E'] => Status::Failed,
            _ => Status::Idle,
        };
        if self.status == Status::Idle {
            self.objects.end_transaction(!self.failed);
        }
        self.failed = false;
        self.done = 0;
        self.unsynced &= !self.requests.is_empty();
    }

    fn on_parameter(&mut self, body: &[u8]) {
        let Some((name, rest)) = split_cstr(body) else { return };
        let Some((value, _)) = split_cstr(rest) else { return };
        match name {
            b"client_encoding" => self.lex.encoding = ClientEncoding::from_name(&String::from_utf8_lossy(value)),
            b"standard_conforming_strings" => self.lex.standard_conforming_strings = value == b"on",
            _ => {}
        }
    }

    pub fn status(&self) -> Status {
        self.status
    }

    /// Whether the server has raised an error and passes over everything up to the next Sync.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Whether the client's last request belongs to an implicit transaction, which its next Sync ends.
    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// How the session's texts are to be read now.
    pub fn lex(&self) -> LexOptions {
        self.lex
    }

    /// What completing this portal does to the session.
    pub fn portal_effect(&self, portal: &Name) -> Effect {
        self.objects.portal_effect(portal)
    }

    /// The body of the session's BackendKeyData; empty if there was none.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether the server owes an answer.
    pub fn awaits_reply(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Whether the server reads COPY data, whose end has not been sent.
    pub fn takes_copy_data(&self) -> bool {
        self.copy_in && !self.requests.has_copy_end()
    }

    /// Outside of a transaction and nothing asked: the session can end here without taking anything from the client.
    pub fn is_idle(&self) -> bool {
        !self.lost && self.status == Status::Idle && !self.unsynced && !self.skipping && !self.awaits_reply()
    }

    /// Whether the machine has lost the thread, for good.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The streams can no longer be followed.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// What the server owes an answer, oldest first.
    pub(crate) fn outstanding(&self) -> impl Iterator<Item = (RequestId, &Request)> {
        self.requests.iter()
    }

    /// Whether so much is asked and not answered that the client has to wait.
    pub fn is_congested(&self) -> bool {
        self.requests.is_congested()
    }

    /// Names of the prepared statements, on the wire and by SQL; the unnamed one is the empty name.
    pub fn statements(&self) -> impl Iterator<Item = &Name> {
        self.objects.statement_names()
    }

    /// Names of the portals, which are the cursors.
    pub fn portals(&self) -> impl Iterator<Item = &Name> {
        self.objects.portal_names()
    }

    /// The savepoints, outermost first.
    pub fn savepoints(&self) -> &[Name] {
        self.objects.savepoint_names()
    }
}

/// Whether an error with this SQLSTATE, at a statement that is the last of its query, came from the commit behind it.
fn outlives_failed_commit(effect: Effect, sqlstate: &[u8]) -> bool {
    let class = sqlstate.get(..2).unwrap_or_default();
    match effect {
        Effect::DeallocateAll => true,
        Effect::Deallocate(_) => class != b"26",
        // What PREPARE itself can fail with: it reads its statement, and runs nothing.
        Effect::Prepare(_) => !matches!(class, b"0A" | b"22" | b"25" | b"42" | b"53" | b"54" | b"57"),
        _ => false,
    }
}

fn sqlstate(body: &[u8]) -> &[u8] {
    body.split(|&b| b == 0).find_map(|field| field.strip_prefix(b"C")).unwrap_or_default()
}

fn leading_name(body: &[u8]) -> Name {
    Name::from_bytes(split_cstr(body).map_or(body, |(name, _)| name))
}
