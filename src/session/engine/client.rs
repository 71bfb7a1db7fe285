//! The client's stream: frames are cut out of it, and each goes to the server as it is, changed, or later.

use tracing::debug;

use crate::sql::{Lexer, Name, TokenKind, ident};
use crate::wire::extended::put_flush;
use crate::wire::message::{front, split_cstr};

use super::assemble::{HEADER, Piece};
use super::own::Own;
use super::simple::Ready;
use super::{Engine, LONGEST, Next, Special, Step, Streaming, WHOLE, body_len, put_before};

impl Engine {
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
            if self.up.len() > mark {
                self.put_plain(&mut plain, chunk, mark);
            }
            match (step, piece) {
                (Step::Verbatim, Piece::Whole(_) | Piece::More(_)) if plain.is_some() => plain = Some(end),
                (Step::Verbatim, Piece::Whole(bytes) | Piece::More(bytes)) => self.up.extend_from_slice(bytes),
                (Step::Verbatim, Piece::Joined(bytes) | Piece::Begin { bytes }) => {
                    self.end_plain(&mut plain, chunk);
                    self.up.extend_from_slice(&bytes);
                }
                (Step::Done, _) => self.end_plain(&mut plain, chunk),
                (Step::Wait, Piece::Begin { bytes }) if self.hold_whole => self.client_in.hold(bytes),
                (Step::Wait, piece) => {
                    // What has passed goes before the Flush that asks for its answers.
                    self.end_plain(&mut plain, chunk);
                    self.wait();
                    match piece {
                        Piece::Joined(bytes) => self.backlog.extend_from_slice(&bytes),
                        Piece::Begin { bytes } => {
                            // It begins anew then.
                            self.client_in.hold(Vec::new());
                            self.backlog.extend_from_slice(&bytes);
                        }
                        _ => self.backlog.extend_from_slice(chunk.get(at..end).unwrap_or_default()),
                    }
                }
            }
            if !matches!(self.next, Next::Client) {
                // What was to follow an answer has waited for the end of this frame.
                let mark = self.up.len();
                self.answered_by_now();
                if self.up.len() > mark {
                    self.put_plain(&mut plain, chunk, mark);
                }
            }
        }
        if plain == Some(chunk.len()) {
            return true;
        }
        self.end_plain(&mut plain, chunk);
        false
    }

    /// Ends the plain run: what of the chunk has passed so far is put out.
    fn end_plain(&mut self, plain: &mut Option<usize>, chunk: &[u8]) {
        let mark = self.up.len();
        self.put_plain(plain, chunk, mark);
    }

    /// Ends the plain run: what of the chunk has passed so far goes before what is put out from `mark` on.
    fn put_plain(&mut self, plain: &mut Option<usize>, chunk: &[u8], mark: usize) {
        if let Some(upto) = plain.take() {
            put_before(&mut self.up, mark, chunk.get(..upto).unwrap_or_default());
        }
    }

    /// Waits until everything is answered; the server is told to hand out what it keeps back.
    pub(super) fn wait(&mut self) {
        self.waiting = true;
        if self.machine.awaits_reply() && !self.flushed {
            self.flushed = true;
            put_flush(&mut self.up);
        }
    }

    /// Goes on with what the client sent while it had to wait.
    pub(super) fn resume(&mut self) {
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
                _ if self.must_wait(tag) => return Step::Wait,
                front::COPY_DATA => {
                    self.streaming = Streaming::Copy;
                    self.copy_data(body);
                }
                front::QUERY | front::PARSE | front::BIND if self.concerns(tag, body) => {
                    if body_len(bytes) <= LONGEST {
                        // Until all of it is here.
                        self.hold_whole = true;
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
        // It may name what this session has just made.
        let outdated = self.private.is_none() && self.is_shared_outdated();
        let opts = self.machine.lex();
        Lexer::new(body, opts).filter(|token| !token.kind.is_blank()).any(|token| {
            let name = match token.kind {
                TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent => {
                    ident::fold(token.kind, token.text(body), b'\\', opts.encoding)
                }
                _ => None,
            };
            name.is_some_and(|name| {
                catalog.by_name.contains_key(&name) || outdated && catalog.may_be_ruled(None, &name)
            })
        })
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
