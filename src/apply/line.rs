//! The wire to the peer: statements go out without waiting, answers come in order, the first failure counts, and neither
//! side's buffers can make the other wait for ever (I7).
//!
//! There is no Sync behind a COMMIT or a BEGIN before it is known to have succeeded: behind a failure, the server passes over
//! everything up to the next one, and whatever was sent meanwhile, further transactions included, comes to nothing (I3).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::{ApplyError, At, Rejection};
use crate::wire::extended::{BINARY, Bind, Parse, Reader, framed, put_close, put_execute, put_flush, put_sync};
use crate::wire::message::{back, front, put_frame, split_cstr};
use crate::wire::stream::Stream;

/// From so many bytes on, what is to be sent is offered to the socket.
const EARLY: usize = 16 << 10;
/// More than that, and the sender waits until the socket has taken most of it.
const HIGH: usize = 512 << 10;
const LOW: usize = 64 << 10;
/// So many answers at most are outstanding.
const MANY: usize = 4096;
/// No message that is of interest is longer.
const LONGEST: usize = 256 << 20;
const CHUNK: usize = 16 << 10;

/// What a statement has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Done,
    /// So many rows changed.
    Count(u64),
    /// One row changed, or the server finds that a text is no number (22P02): COMMIT may be on its way.
    Sure,
    /// Rows, which are kept.
    Rows,
    Commit,
}

#[derive(Clone, Copy, Debug)]
enum Waiting {
    Answer(Expect, Option<At>),
    /// ReadyForQuery.
    Sync,
}

/// A parameter of a statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Param<'a> {
    pub(super) value: Option<&'a [u8]>,
    pub(super) binary: bool,
}

/// A row of a question's answer, as text.
pub(super) type Row = Vec<Option<String>>;

/// A logged-in connection.
pub(super) struct Line {
    stream: Stream,
    out: Vec<u8>,
    /// How much of `out` the socket has taken.
    sent: usize,
    input: BytesMut,
    chunk: Box<[u8; CHUNK]>,
    waiting: VecDeque<Waiting>,
    /// Something was sent behind the last Sync.
    unsynced: bool,
    /// The first failure since the last recovery.
    failure: Option<Rejection>,
    /// The server passes over everything up to the next Sync.
    skipping: bool,
    /// A transaction has begun, for certain.
    begun: bool,
    /// Of the last ReadyForQuery.
    status: u8,
    commits: u64,
    rows: Vec<Row>,
    /// What the server said before it went.
    last_words: Option<Rejection>,
    broken: Option<ErrorKind>,
}

// === impl Param ===

impl<'a> Param<'a> {
    pub(super) fn binary(value: &'a [u8]) -> Self {
        Self { value: Some(value), binary: true }
    }

    pub(super) fn text(value: &'a str) -> Self {
        Self { value: Some(value.as_bytes()), binary: false }
    }
}

// === impl Line: sending ===

impl Line {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            out: Vec::new(),
            sent: 0,
            input: BytesMut::new(),
            chunk: Box::new([0; CHUNK]),
            waiting: VecDeque::new(),
            unsynced: false,
            failure: None,
            skipping: false,
            begun: false,
            status: b'I',
            commits: 0,
            rows: Vec::new(),
            last_words: None,
            broken: None,
        }
    }

    pub(super) fn parse(&mut self, name: &str, sql: &[u8], types: &[u32]) {
        Parse { statement: name.as_bytes(), sql, types: types.to_vec() }.put(&mut self.out);
    }

    /// Binds and executes; only [`Expect::Rows`] may have a result that is not empty.
    pub(super) fn execute(&mut self, name: &str, params: &[Param<'_>], expect: Expect, at: Option<At>) {
        let formats = if params.iter().all(|p| p.binary) && !params.is_empty() {
            vec![BINARY]
        } else {
            params.iter().map(|p| if p.binary { BINARY } else { 0 }).collect()
        };
        let params = params.iter().map(|p| p.value).collect();
        Bind { portal: b"", statement: name.as_bytes(), formats, params, results: Vec::new() }.put(&mut self.out);
        put_execute(&mut self.out, b"", 0);
        self.waiting.push_back(Waiting::Answer(expect, at));
        self.unsynced = true;
    }

    /// Forgets a prepared statement.
    pub(super) fn close(&mut self, name: &str) {
        put_close(&mut self.out, b'S', name.as_bytes());
    }

    pub(super) fn copy_data(&mut self, data: &[u8]) {
        framed(&mut self.out, front::COPY_DATA, |out| out.extend_from_slice(data));
    }

    /// Ends the COPY that was executed last: so many rows it must have brought.
    pub(super) fn copy_done(&mut self, rows: u64) {
        put_frame(&mut self.out, front::COPY_DONE, &[]);
        if let Some(Waiting::Answer(expect, _)) = self.waiting.back_mut() {
            *expect = Expect::Count(rows);
        }
    }

    pub(super) fn copy_fail(&mut self) {
        put_frame(&mut self.out, front::COPY_FAIL, b"given up\0");
    }

    pub(super) fn sync(&mut self) {
        put_sync(&mut self.out);
        self.waiting.push_back(Waiting::Sync);
        self.unsynced = false;
    }

    /// Lets the server be idle, if it is not yet.
    pub(super) fn rest(&mut self) {
        if self.unsynced {
            self.sync();
        }
    }

    /// Whether what was sent for the open transaction has done what it had to if nothing of it fails: no count decides.
    pub(super) fn is_sure(&self) -> bool {
        let mut open = self.waiting.iter().rev().take_while(|w| !matches!(w, Waiting::Answer(Expect::Commit, _)));
        open.all(|w| matches!(w, Waiting::Answer(Expect::Done | Expect::Sure, _) | Waiting::Sync))
    }

    /// How many commits were confirmed, ever.
    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    /// The first failure since the last recovery.
    pub(super) fn check(&self) -> Result<(), ApplyError> {
        match &self.failure {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    /// Fails by our own judgement.
    pub(super) fn fail(&mut self, rejection: Rejection) -> ApplyError {
        self.failure.get_or_insert_with(|| rejection.clone());
        rejection.into()
    }
}

// === impl Line: waiting ===

impl Line {
    /// Waits until there is room for more, and says whether something has failed so far. With `pauses` the server may count
    /// the time until more comes.
    ///
    /// # Cancel safety
    /// This and the others that wait are cancel-safe, but for [`query`](Self::query): what was sent and read is kept.
    pub(super) async fn room(&mut self, pauses: bool) -> Result<(), ApplyError> {
        if self.unsent() >= EARLY {
            if pauses && self.begun {
                self.sync();
            }
            self.nudge().await?;
        }
        if self.unsent() > HIGH {
            self.pump(|line| line.unsent() <= LOW || line.failure.is_some()).await?;
        }
        if self.waiting.len() > MANY {
            put_flush(&mut self.out);
            self.pump(|line| line.waiting.len() <= MANY / 2 || line.failure.is_some()).await?;
        }
        self.check()
    }

    /// Offers to the socket what is to be sent, and reads what is there, without waiting.
    pub(super) async fn nudge(&mut self) -> Result<(), ApplyError> {
        poll_fn(|cx| match self.poll_step(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            _ => Poll::Ready(Ok(())),
        })
        .await
        .map_err(|e| self.lost(e))?;
        self.read_frames().map_err(|e| self.lost(e))
    }

    /// Waits until everything that was sent is answered, or something has failed.
    pub(super) async fn answered(&mut self) -> Result<(), ApplyError> {
        // A Sync is answered without; and what comes behind it ends the time that the server counts.
        if !matches!(self.waiting.back(), Some(Waiting::Sync)) {
            put_flush(&mut self.out);
        }
        self.pump(|line| line.waiting.is_empty() || line.failure.is_some()).await?;
        self.check()
    }

    /// Asks one question; works inside a transaction and outside.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        types: &[u32],
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, ApplyError> {
        self.rows.clear();
        self.parse("", sql.as_bytes(), types);
        self.execute("", params, Expect::Rows, None);
        self.sync();
        self.answered().await?;
        Ok(std::mem::take(&mut self.rows))
    }

    /// Ends whatever is open, failed or not: afterwards the session is idle, and the next failure counts.
    pub(super) async fn recover(&mut self) -> Result<(), ApplyError> {
        self.sync();
        self.pump(|line| line.waiting.is_empty()).await?;
        if self.status != b'I' {
            self.parse("", b"ROLLBACK", &[]);
            self.execute("", &[], Expect::Done, None);
            self.sync();
            self.pump(|line| line.waiting.is_empty()).await?;
        }
        self.failure = None;
        self.rows.clear();
        if self.status == b'I' { Ok(()) } else { Err(self.lost(malformed("no end of a transaction"))) }
    }

    fn unsent(&self) -> usize {
        self.out.len().saturating_sub(self.sent)
    }

    async fn pump(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), ApplyError> {
        loop {
            self.read_frames().map_err(|e| self.lost(e))?;
            if done(self) {
                return Ok(());
            }
            poll_fn(|cx| self.poll_step(cx)).await.map_err(|e| self.lost(e))?;
        }
    }

    /// Ready when something was written or read.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.broken {
            return Poll::Ready(Err(kind.into()));
        }
        let mut moved = false;
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.sent = self.sent.saturating_add(n);
                    moved = true;
                }
                Poll::Ready(other) => {
                    // What the server said before it closed is there to be read.
                    self.out.clear();
                    self.sent = 0;
                    if let Err(e) = other {
                        tracing::debug!(error = %e, "cannot write to the peer");
                    }
                }
                Poll::Pending => break,
            }
        }
        if self.unsent() == 0 && self.sent > 0 {
            self.out.clear();
            self.out.shrink_to(HIGH * 2);
            self.sent = 0;
        } else if self.sent > HIGH {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        if let Poll::Ready(Err(e)) = Pin::new(&mut self.stream).poll_flush(cx) {
            tracing::debug!(error = %e, "cannot write to the peer");
        }
        let mut buf = ReadBuf::new(self.chunk.as_mut_slice());
        match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(())) => {
                self.input.extend_from_slice(buf.filled());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending if moved => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn lost(&mut self, source: io::Error) -> ApplyError {
        self.broken = Some(source.kind());
        ApplyError::Lost { source, last_words: self.last_words.clone().map(Box::new) }
    }
}

// === impl Line: reading ===

impl Line {
    fn read_frames(&mut self) -> io::Result<()> {
        while let Some(&[tag, a, b, c, d]) = self.input.first_chunk() {
            let len = usize::try_from(i32::from_be_bytes([a, b, c, d])).ok().filter(|len| (4..LONGEST).contains(len));
            let whole = len.and_then(|len| len.checked_add(1)).ok_or_else(|| malformed("a length"))?;
            if self.input.len() < whole {
                break;
            }
            let mut frame = self.input.split_to(whole);
            frame.advance(5);
            self.on_frame(tag, &frame)?;
        }
        Ok(())
    }

    fn on_frame(&mut self, tag: u8, body: &[u8]) -> io::Result<()> {
        match tag {
            back::PARSE_COMPLETE | back::BIND_COMPLETE | back::CLOSE_COMPLETE | back::COPY_IN => {}
            back::NOTICE | back::NOTIFICATION | back::PARAMETER_STATUS => {}
            back::DATA_ROW => {
                if matches!(self.waiting.front(), Some(Waiting::Answer(Expect::Rows, _))) {
                    self.rows.push(row(body).ok_or_else(|| malformed("DataRow"))?);
                }
            }
            back::COMMAND_COMPLETE => self.on_complete(body)?,
            back::EMPTY_QUERY => self.on_complete(b"\0")?,
            back::ERROR => self.on_error(body),
            back::READY => self.on_ready(body)?,
            _ => return Err(malformed("a message")),
        }
        Ok(())
    }

    fn on_complete(&mut self, body: &[u8]) -> io::Result<()> {
        let Some(Waiting::Answer(expect, at)) = self.waiting.pop_front() else {
            return Err(malformed("CommandComplete"));
        };
        let (tag, _) = split_cstr(body).ok_or_else(|| malformed("CommandComplete"))?;
        self.begun = self.begun && expect != Expect::Commit || tag == b"BEGIN";
        let failure = match expect {
            Expect::Done | Expect::Sure | Expect::Rows => None,
            Expect::Count(expected) => {
                let found = count(tag).unwrap_or(0);
                (found != expected).then(|| Rejection::count(expected, found, at))
            }
            Expect::Commit if tag == b"COMMIT" => {
                self.commits = self.commits.saturating_add(1);
                None
            }
            Expect::Commit => Some(Rejection::own("40000", "the peer has rolled back where it was to commit", at)),
        };
        if let Some(failure) = failure {
            self.failure.get_or_insert(failure);
        }
        Ok(())
    }

    fn on_error(&mut self, body: &[u8]) {
        let (expect, at) = match self.waiting.front() {
            Some(Waiting::Answer(expect, at)) => (Some(*expect), *at),
            _ => (None, None),
        };
        let mut rejection = Rejection::read(body, at);
        if expect == Some(Expect::Sure) && rejection.sqlstate == "22P02" {
            rejection = Rejection::count(1, 0, at);
        }
        self.last_words = Some(rejection.clone());
        self.failure.get_or_insert(rejection);
        self.skipping = true;
    }

    fn on_ready(&mut self, body: &[u8]) -> io::Result<()> {
        let skipping = std::mem::take(&mut self.skipping);
        loop {
            match self.waiting.pop_front() {
                Some(Waiting::Sync) => break,
                // Passed over.
                Some(Waiting::Answer(..)) if skipping => {}
                _ => return Err(malformed("ReadyForQuery")),
            }
        }
        self.last_words = None;
        self.status = body.first().copied().unwrap_or_default();
        self.begun = self.begun && self.status != b'I';
        Ok(())
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the peer sent {what} that cannot be understood"))
}

/// The number at the end of a command tag.
fn count(tag: &[u8]) -> Option<u64> {
    let digits = tag.rsplit(|&b| b == b' ').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn row(body: &[u8]) -> Option<Row> {
    let mut reader = Reader(body);
    let text = |value: Option<&[u8]>| value.map(|v| String::from_utf8_lossy(v).into_owned());
    (0..reader.u16()?).map(|_| reader.value().map(text)).collect()
}
