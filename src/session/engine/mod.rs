//! A session that captures: what its client sends is relayed, rewritten or refused, and what its server answers is shown
//! as if nothing had been changed (§4, I6). Sans-IO: bytes in, bytes out.
//!
//! The machine follows the conversation as the server has it. A request that is not simply relayed leaves a [`Special`]
//! under its id, which says what its answers mean; everything else passes.

mod acked;
mod assemble;
mod atomic;
mod client;
mod copy;
mod extended;
mod graves;
mod judge;
mod lifted;
mod lost;
mod names;
mod own;
mod pending;
mod refusing;
mod replies;
mod reports;
mod results;
mod rows;
mod run;
mod segments;
mod settings;
mod simple;
mod statements;
mod surroundings;
mod twins;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::capture::write::Acked;
use crate::catalog::relation::{Catalog, Oid};
use crate::journal::Xid;
use crate::journal::meta::Appender;
use crate::session::links::Links;
use crate::session::machine::{Machine, RequestId, Status};
use crate::sql::{Effect, LexOptions, Name};
use crate::wire::frame::Frame;
use crate::wire::message::{back, front, split_cstr};

use acked::Held;
use assemble::{Assembler, HEADER};
use atomic::Atomic;
use extended::Bound;
use lifted::LiftedTexts;
use names::Names;
use own::Own;
use pending::Pending;
use rows::Template;
use run::{Form, Run};
use segments::Segment;
use settings::Reported;
use simple::QueryRun;
use statements::{Deallocated, MadeBySql, Parsed, Statements};
use twins::{SqlTwins, TwinName, Twins};

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
    /// Relations that no rule is for, though one is for tables of such names.
    strangers: HashSet<Oid>,
    /// The catalog as this session alone sees it, while it has changed it.
    private: Option<Arc<Catalog>>,
    /// Invalidations that it is newer than.
    private_as_of: u64,
    /// Looks at the catalog before `names` and the decisions were made.
    looks: u64,
    statements: Statements,
    sql_twins: SqlTwins,
    portals: HashMap<Name, Rc<Bound>>,
    twins: Twins,
    lifted: LiftedTexts,
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
    /// Who has to have it before the client is answered, and its number once the server has told it.
    acked: Vec<Arc<Acked>>,
    atomic: Atomic,
    xid: Option<Xid>,
    /// What the client waits for besides the server.
    held: Option<Held>,
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

/// What most of what is put out at once fits into.
const ROOM: usize = 512;

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
            strangers: HashSet::new(),
            private: None,
            private_as_of: 0,
            statements: Statements::default(),
            sql_twins: SqlTwins::default(),
            portals: HashMap::new(),
            twins: Twins::default(),
            lifted: LiftedTexts::default(),
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
            acked: Vec::new(),
            atomic: Atomic::default(),
            xid: None,
            held: None,
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

    /// Whether the client has only whole messages of the server's: what is held of one, it may never see.
    pub(crate) fn server_at_boundary(&self) -> bool {
        !self.server_in.within_frame()
    }

    /// What is to be written to the server.
    pub(crate) fn take_up(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.up)
    }

    /// What is to be written to the client.
    pub(crate) fn take_down(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.down)
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
        let mut up = std::mem::take(&mut self.up);
        up.reserve(ROOM);
        let mark = up.len();
        put(&mut up);
        self.note_special(up.get(mark..).unwrap_or_default(), special);
        self.up = up;
    }

    /// Sends a frame whose answers are the client's.
    fn send_plain(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let mut up = std::mem::take(&mut self.up);
        up.reserve(ROOM);
        let mark = up.len();
        put(&mut up);
        self.note(up.get(mark..).unwrap_or_default());
        self.up = up;
    }

    // === what is known ===

    fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.parameters.get(name.as_bytes()).map(Vec::as_slice)
    }

    fn encoding_name(&self) -> Cow<'_, str> {
        self.parameter("client_encoding").map_or(Cow::Borrowed("UTF8"), String::from_utf8_lossy)
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

    fn pid(&self) -> u32 {
        self.machine.key().first_chunk().map_or(0, |pid| u32::from_be_bytes(*pid))
    }

    /// The appender, which needs the backend's pid.
    fn appender(&mut self) -> &Appender {
        let pid = self.pid();
        self.appender.get_or_insert_with(|| Appender::new(self.links.key.clone(), self.links.author.clone(), pid))
    }
}

/// Puts bytes in front of what stands from `mark` on. What is put out is put together of small pieces: room is made for more
/// of them than are there now.
fn put_before(out: &mut Vec<u8>, mark: usize, bytes: &[u8]) {
    out.reserve(bytes.len().saturating_add(ROOM));
    out.extend_from_slice(bytes);
    if let Some(moved) = out.get_mut(mark..) {
        moved.rotate_right(bytes.len());
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
