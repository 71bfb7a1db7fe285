//! The server is the oracle: one script against the server and through the proxy, every byte the client got compared.
//!
//! A script drives a [`Conversation`]; what it sends and what comes back is recorded in order. Two runs may differ only in what
//! [`mask`] blots out, and in what a script itself declares with [`Conversation::mask`].

use std::sync::Arc;
use std::time::Duration;

use ring::digest;

use super::node::{Node, PUBLIC};
use super::raw::{Frame, Got};
use super::{Addr, Client, Cluster, PATIENCE, Pg, Proxy, direct, msg, scram};

/// The versions every script runs on.
const VERSIONS: [Pg; 2] = [Pg::V15, Pg::V18];

/// How long "nothing comes" is watched; a proxy that invents or withholds something is caught by the frames after it too.
const QUIET: Duration = Duration::from_millis(60);

/// A cluster and how the tests reach it: through a proxy, or directly when the tests prove themselves.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) proxy: Option<Proxy>,
    /// The node's database, where the proxy captures: then temporary tables of the scripts are made permanent ones, in a
    /// schema that a rule matches.
    captured: Option<String>,
}

/// One thing that happened in a conversation.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// What the script did; equal in both runs by construction, kept to read the trace by.
    Did(String),
    Byte(Option<u8>),
    Frame(Frame),
    /// A frame too large to hold: tag, length, SHA-256.
    Big(u8, usize, Vec<u8>),
    Quiet,
    Torn(Vec<u8>),
    Closed,
}

/// One connection under a script, and the record of it.
pub(crate) struct Conversation {
    pub(crate) client: Client,
    pub(crate) cluster: Arc<Cluster>,
    addr: Addr,
    captured: Option<String>,
    key: Option<(i32, Vec<u8>)>,
    trace: Vec<Event>,
    masks: Vec<fn(&mut Frame)>,
}

/// Runs the script on every version, directly and through the proxy on both kinds of socket, and compares the traces; then
/// once more with every table it makes replicated.
pub(crate) fn same(script: impl Fn(&mut Conversation)) {
    for pg in VERSIONS {
        same_on(Cluster::shared(pg), &script);
        Way::captured(pg).same_over_tcp(&script);
    }
}

/// [`same`] for what replication makes different on purpose; say what and why where it is used.
pub(crate) fn same_uncaptured(script: impl Fn(&mut Conversation)) {
    VERSIONS.into_iter().for_each(|pg| same_on(Cluster::shared(pg), &script));
}

/// [`same`] for scripts that are only about replicated tables.
pub(crate) fn same_captured(script: impl Fn(&mut Conversation)) {
    VERSIONS.into_iter().for_each(|pg| Way::captured(pg).same_over_tcp(&script));
}

/// [`same`] on one cluster, for scripts that need their own settings.
pub(crate) fn same_on(cluster: Arc<Cluster>, script: impl Fn(&mut Conversation)) {
    Way::to(cluster).same(script);
}

fn record(way: &Way, addr: &Addr, script: impl Fn(&mut Conversation)) -> Vec<Event> {
    let mut conversation = Conversation {
        client: Client::connect(addr),
        cluster: Arc::clone(&way.cluster),
        addr: addr.clone(),
        captured: way.captured.clone(),
        key: None,
        trace: Vec::new(),
        masks: Vec::new(),
    };
    script(&mut conversation);
    way.clear();
    let Conversation { mut trace, masks, .. } = conversation;
    for event in &mut trace {
        if let Event::Frame(frame) = event {
            mask(frame);
            masks.iter().for_each(|mask| mask(frame));
        }
    }
    assert!(trace.iter().any(|event| !matches!(event, Event::Did(_) | Event::Quiet)), "the script heard nothing");
    trace
}

/// Blots out what differs between any two connections to one server, and nothing else. Lengths stay.
fn mask(frame: &mut Frame) {
    let body = &mut frame.body;
    match frame.tag {
        b'K' => body.fill(0),      // the backend's pid and its secret
        b'A' => body[..4].fill(0), // the pid of the notifying backend
        b'R' => match u32::from_be_bytes(body[..4].try_into().expect("a request code")) {
            5 => body[4..].fill(0), // the salt of MD5
            11 => {
                // the server's part of the nonce: 18 random bytes in base64, up to the first comma
                let comma = body.iter().position(|byte| *byte == b',').expect("a nonce ends in a comma");
                body[comma - 24..comma].fill(b'.');
            }
            12 => body[6..].fill(b'.'), // the server's signature follows from the nonce
            _ => {}
        },
        b'T' => mask_table_oids(body),
        b'E' | b'N' => *body = mask_temp_schemas(body),
        _ => {}
    }
}

/// OIDs of tables that the run made; those of catalogs are fixed and compared.
fn mask_table_oids(body: &mut [u8]) {
    let mut at = 2;
    while at < body.len() {
        at += body[at..].iter().position(|byte| *byte == 0).expect("a name ends") + 1;
        let oid = u32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"));
        if oid >= 16384 {
            body[at..at + 4].copy_from_slice(&16384u32.to_be_bytes());
        }
        at += 18;
    }
}

/// The schema of temporary tables is named for the backend's slot.
fn mask_temp_schemas(body: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"pg_temp_";
    let mut out: Vec<u8> = Vec::with_capacity(body.len());
    for byte in body {
        if !byte.is_ascii_digit() || !out.ends_with(NAME) {
            out.push(*byte);
        }
    }
    out
}

/// The same messages with `create temp table` made `create table`; whatever is no run of whole messages stays as it is.
fn permanent(bytes: &[u8]) -> Vec<u8> {
    const TEMP: &[u8] = b"create temp table";
    const TABLE: &[u8] = b"create table";
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((header, behind)) = rest.split_first_chunk::<5>() {
        let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let Some(body) = len.checked_sub(4).and_then(|len| behind.get(..len)) else { return bytes.to_vec() };
        rest = &behind[body.len()..];
        let mut new = Vec::with_capacity(body.len());
        let mut left = body;
        let sql = b"QP".contains(&header[0]);
        while let Some(at) = if sql { left.windows(TEMP.len()).position(|at| at == TEMP) } else { None } {
            new.extend(&left[..at]);
            new.extend(TABLE);
            left = &left[at + TEMP.len()..];
        }
        new.extend(left);
        out.extend(msg::frame(header[0], &new));
    }
    if rest.is_empty() { out } else { bytes.to_vec() }
}

/// The first place where two traces part, with what led to it.
fn difference(expected: &[Event], got: &[Event]) -> Option<String> {
    let longest = expected.len().max(got.len());
    let at = (0..longest).find(|at| expected.get(*at) != got.get(*at))?;
    let mut text = String::new();
    for event in &expected[at.saturating_sub(12)..at] {
        text.push_str(&format!("    both    {event:?}\n"));
    }
    for event in expected.iter().skip(at).take(3) {
        text.push_str(&format!("    server  {event:?}\n"));
    }
    for event in got.iter().skip(at).take(3) {
        text.push_str(&format!("    other   {event:?}\n"));
    }
    Some(text)
}

// === impl Way ===

impl Way {
    /// The way the environment asks for, with a proxy of default configuration.
    pub(crate) fn to(cluster: Arc<Cluster>) -> Way {
        Way::with(cluster, "")
    }

    pub(crate) fn with(cluster: Arc<Cluster>, overrides: &str) -> Way {
        let proxy = (!direct()).then(|| Proxy::start(&cluster, overrides));
        Way { cluster, proxy, captured: None }
    }

    /// A node of its own with a rule for every table of schema `public`.
    pub(crate) fn captured(pg: Pg) -> Way {
        let Node { proxy, cluster, database, .. } = Node::start(pg, "select", PUBLIC);
        Way { cluster, proxy: (!direct()).then_some(proxy), captured: Some(database) }
    }

    /// Removes what a script left in the database, for the next run of it.
    fn clear(&self) {
        if let Some(database) = &self.captured {
            let mut client = Client::connect(&self.cluster.unix());
            client.send(&msg::startup(msg::version(3, 0), &[("user", "postgres"), ("database", database)]));
            client.until_ready();
            client.rows("drop schema public cascade; create schema public; grant all on schema public to public");
        }
    }

    pub(crate) fn tcp(&self) -> Addr {
        self.proxy.as_ref().map_or_else(|| self.cluster.tcp(), Proxy::tcp)
    }

    pub(crate) fn unix(&self) -> Addr {
        self.proxy.as_ref().map_or_else(|| self.cluster.unix(), Proxy::unix)
    }

    /// Runs a script directly and this way on both kinds of socket, and compares the traces.
    pub(crate) fn same(&self, script: impl Fn(&mut Conversation)) {
        self.compare(&[self.unix(), self.tcp()], script);
    }

    /// [`same`](Self::same) over TCP only, for scripts that take long.
    pub(crate) fn same_over_tcp(&self, script: impl Fn(&mut Conversation)) {
        self.compare(&[self.tcp()], script);
    }

    /// [`same`](Self::same) for answers that tell where the client came from: the proxy comes over the Unix socket, so without
    /// one only that socket is compared.
    pub(crate) fn same_where_the_address_shows(&self, script: impl Fn(&mut Conversation)) {
        let both = [self.unix(), self.tcp()];
        self.compare(if direct() { &both[..1] } else { &both }, script);
    }

    fn compare(&self, addresses: &[Addr], script: impl Fn(&mut Conversation)) {
        let expected = record(self, &self.cluster.unix(), &script);
        for addr in addresses {
            let got = record(self, addr, &script);
            if let Some(difference) = difference(&expected, &got) {
                panic!("{:?}: the server and {addr:?} differ\n{difference}", self.cluster.pg);
            }
        }
    }

    /// Asserts that the proxy never held more than `limit` bytes.
    pub(crate) fn assert_memory_below(&self, limit: u64) {
        if let Some(proxy) = &self.proxy {
            let peak = super::proc::peak_memory(proxy.pid());
            assert!(peak < limit, "the proxy took {peak} bytes at its peak, {limit} are allowed");
        }
    }
}

// === impl Conversation ===

impl Conversation {
    /// Sends a startup packet of protocol 3.0.
    pub(crate) fn startup(&mut self, params: &[(&str, &str)]) {
        let captured = self.captured.clone();
        let own = |(name, value)| match &captured {
            Some(database) if name == "database" && value == "postgres" => (name, database.as_str()),
            _ => (name, value),
        };
        let params: Vec<(&str, &str)> = params.iter().copied().map(own).collect();
        self.send(&msg::startup(msg::version(3, 0), &params));
    }

    /// Logs in as the trusted superuser and waits for the first ReadyForQuery.
    pub(crate) fn login(&mut self) {
        self.login_with(&[]);
    }

    /// [`login`](Self::login) with more startup parameters.
    pub(crate) fn login_with(&mut self, more: &[(&str, &str)]) {
        self.startup(&[&[("user", "postgres"), ("database", "postgres")], more].concat());
        self.ready();
    }

    /// Authenticates with a password, by whatever method the server wants.
    pub(crate) fn authenticate(&mut self, user: &str, password: &str) {
        let cluster = Arc::clone(&self.cluster);
        let md5 = |salt: &[u8]| {
            let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
            let inner = format!("md5('{password}{user}')::bytea || '\\x{salt}'::bytea");
            cluster.psql(&format!("select 'md5' || md5({inner})"))
        };
        let frames = scram::authenticate(&mut self.client, password, md5);
        self.trace.extend(frames.into_iter().map(Event::Frame));
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let head = &bytes[..bytes.len().min(80)];
        self.did(format!("send {} bytes: {}", bytes.len(), head.escape_ascii()));
        if self.captured.is_some() { self.client.send(&permanent(bytes)) } else { self.client.send(bytes) }
    }

    /// Sends several messages in one write.
    pub(crate) fn pipeline(&mut self, messages: &[Vec<u8>]) {
        self.send(&msg::together(messages));
    }

    /// A simple query and its answer up to ReadyForQuery.
    pub(crate) fn query(&mut self, sql: impl AsRef<[u8]>) -> Vec<Frame> {
        self.send(&msg::query(sql));
        self.ready()
    }

    /// Repeats a query, unrecorded, until its answer holds a message of this type; that answer is recorded.
    pub(crate) fn query_until(&mut self, sql: &str, tag: u8) {
        self.did(format!("{sql}, until {:?} comes", char::from(tag)));
        let frames = super::eventually(sql, || {
            let frames = self.client.query(sql);
            frames.iter().any(|frame| frame.tag == tag).then_some(frames)
        });
        self.trace.extend(frames.into_iter().map(Event::Frame));
    }

    /// Reads up to ReadyForQuery.
    pub(crate) fn ready(&mut self) -> Vec<Frame> {
        self.until(b'Z')
    }

    /// Reads up to the first message of this type.
    pub(crate) fn until(&mut self, tag: u8) -> Vec<Frame> {
        let frames = self.client.until(tag);
        for frame in &frames {
            if frame.tag == b'K' {
                self.key = Some(frame.key());
            }
            self.trace.push(Event::Frame(frame.clone()));
        }
        frames
    }

    /// Asserts that nothing comes for a while.
    pub(crate) fn quiet(&mut self) {
        match self.client.frame_within(QUIET) {
            Got::Nothing => self.trace.push(Event::Quiet),
            other => panic!("silence expected, got {other:?} after {:?}", self.trace.last()),
        }
    }

    /// Reads everything up to the end of the connection.
    pub(crate) fn closed(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.client.frame_within(PATIENCE) {
                Got::Frame(frame) => {
                    self.trace.push(Event::Frame(frame.clone()));
                    frames.push(frame);
                }
                Got::Torn(bytes) => self.trace.push(Event::Torn(bytes)),
                Got::Closed => {
                    self.trace.push(Event::Closed);
                    return frames;
                }
                Got::Nothing => {
                    panic!("the connection should end, but stays open after {frames:#?}")
                }
            }
        }
    }

    /// One byte outside any frame, as the answer to SSLRequest.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let byte = self.client.byte();
        self.trace.push(Event::Byte(byte));
        byte
    }

    /// Reads one frame of any size without holding it.
    pub(crate) fn big_frame(&mut self) -> (u8, usize) {
        let mut hash = digest::Context::new(&digest::SHA256);
        let (tag, len) = self.client.stream_frame(|piece| hash.update(piece));
        self.trace.push(Event::Big(tag, len, hash.finish().as_ref().to_vec()));
        (tag, len)
    }

    /// Reads every message of one type into one hash, up to and with the first message of another.
    pub(crate) fn big_run(&mut self, of: u8) -> usize {
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut total = 0;
        loop {
            let frame = self.client.frame();
            if frame.tag != of {
                self.trace.push(Event::Big(of, total, hash.finish().as_ref().to_vec()));
                self.trace.push(Event::Frame(frame));
                return total;
            }
            hash.update(&(frame.body.len() as u64).to_be_bytes()); // borders of messages count
            hash.update(&frame.body);
            total += frame.body.len();
        }
    }

    /// Runs SQL in another session, directly on the server.
    pub(crate) fn other(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.did(format!("another session: {sql}"));
        self.another().rows(sql)
    }

    /// Another session, directly on the server, in the same database.
    fn another(&self) -> Client {
        let mut client = Client::connect(&self.cluster.unix());
        let database = self.captured.as_deref().unwrap_or("postgres");
        client.send(&msg::startup(msg::version(3, 0), &[("user", "postgres"), ("database", database)]));
        client.until_ready();
        client
    }

    /// Sends CancelRequest for this session over a new connection and waits until that connection is closed.
    pub(crate) fn cancel(&mut self) {
        let (pid, key) = self.key.clone().expect("logged in");
        self.cancel_with(&msg::cancel(pid, &key));
    }

    /// Sends any bytes over a new connection and expects it to be closed in silence, as for a cancel request.
    pub(crate) fn cancel_with(&mut self, bytes: &[u8]) {
        self.did("cancel".to_owned());
        let mut client = Client::connect(&self.addr);
        client.send(bytes);
        match client.frame_within(PATIENCE) {
            Got::Closed => {}
            other => panic!("a cancel request is answered by closing, not by {other:?}"),
        }
    }

    /// The session's pid and secret.
    pub(crate) fn key(&self) -> (i32, Vec<u8>) {
        self.key.clone().expect("logged in")
    }

    /// Waits until this session's backend is seen in `pg_stat_activity` doing `what` (a condition on its row).
    pub(crate) fn wait_until(&mut self, what: &str) {
        let (pid, _) = self.key();
        let sql = format!("select 1 from pg_stat_activity where pid = {pid} and ({what})");
        let mut other = Client::login(&self.cluster.unix());
        super::eventually(what, || (!other.rows(&sql).is_empty()).then_some(()));
    }

    /// Closes the connection and opens the next one, in the same trace.
    pub(crate) fn reconnect(&mut self) {
        self.did("reconnect".to_owned());
        self.client = Client::connect(&self.addr);
        self.key = None;
    }

    /// Adds a mask for what this script's answers contain that no two runs share; say why where it is used.
    pub(crate) fn mask(&mut self, mask: fn(&mut Frame)) {
        self.masks.push(mask);
    }

    fn did(&mut self, what: String) {
        self.trace.push(Event::Did(what));
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Event::Did(what) => write!(f, "-> {what}"),
            Event::Byte(byte) => write!(f, "<- byte {:?}", byte.map(|byte| byte.escape_ascii().to_string())),
            Event::Frame(frame) => write!(f, "<- {frame:?}"),
            Event::Big(tag, len, _) => {
                write!(f, "<- {}[{len}], held as its hash", tag.escape_ascii())
            }
            Event::Quiet => f.write_str("   (quiet)"),
            Event::Torn(bytes) => write!(f, "<- torn: {}", bytes.escape_ascii()),
            Event::Closed => f.write_str("<- closed"),
        }
    }
}

/// The SQLSTATEs of all errors among the frames, in order.
pub(crate) fn states(frames: &[Frame]) -> Vec<String> {
    let errors = frames.iter().filter(|frame| frame.tag == b'E');
    errors.map(|frame| frame.field(b'C').expect("an error has a SQLSTATE")).collect()
}

/// The message types among the frames, in order, as text: `"12TDCZ"`.
pub(crate) fn tags(frames: &[Frame]) -> String {
    frames.iter().map(|frame| char::from(frame.tag)).collect()
}
