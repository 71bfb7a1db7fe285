//! What the server answers, shown to the client as answers to what it asked.

use crate::session::machine::{Reply, RequestId, Status};
use crate::sql::Effect;
use crate::wire::frame::{BadFrame, Frame};
use crate::wire::message::{back, front, put_frame};

use super::acked::Held;
use super::assemble::{HEADER, Piece};
use super::atomic::Atomic;
use super::own::Own;
use super::reports::{MANY_COMMANDS, SYNTAX_ERROR, counted_down, field, framed_error};
use super::simple::{PieceRun, QueryRun, Ready};
use super::{Engine, Next, Special, body_len, put_before, server_wait};

/// How a reply reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Verbatim,
    /// Not at all, or as what was put out in its place.
    Instead,
}

impl Engine {
    /// Takes bytes from the server; `true` if they all go to the client as they are.
    pub(crate) fn on_server(&mut self, chunk: &[u8]) -> Result<bool, BadFrame> {
        let mut plain = self.down.is_empty().then_some(0);
        let mut rest = chunk;
        loop {
            let wanted = !self.specials.is_empty();
            let mark = self.down.len();
            let Some(piece) = self.server_in.next(&mut rest, |tag, _| server_wait(tag, wanted))? else {
                if !self.server_in.at_boundary() {
                    self.down_plain(&mut plain, chunk, mark);
                }
                break;
            };
            let shown = match &piece {
                Piece::Whole(frame) => self.server_frame(frame),
                Piece::Joined(frame) => self.server_frame(frame),
                Piece::Begin { bytes } => self.server_frame(bytes),
                Piece::More(_) => Shown::Verbatim,
            };
            let end = chunk.len() - rest.len();
            match (shown, piece) {
                (Shown::Verbatim, Piece::Whole(_) | Piece::More(_)) if plain.is_some() && self.down.len() == mark => {
                    plain = Some(end);
                }
                (shown, piece) => {
                    self.down_plain(&mut plain, chunk, mark);
                    if shown == Shown::Verbatim {
                        match piece {
                            Piece::Whole(bytes) | Piece::More(bytes) => self.down.extend_from_slice(bytes),
                            Piece::Joined(bytes) | Piece::Begin { bytes } => self.down.extend_from_slice(&bytes),
                        }
                    }
                }
            }
            if let Some(tag) = self.unexpected {
                return Err(BadFrame { tag, len: 0 });
            }
            if let Some(Held::Applying { behind, .. }) = &mut self.held {
                // What stands behind it waits with it.
                behind.extend_from_slice(rest);
                break;
            }
            if !self.machine.awaits_reply() {
                let mark = self.down.len();
                self.answered_by_now();
                if self.down.len() > mark {
                    self.down_plain(&mut plain, chunk, mark);
                }
            } else if self.waiting && self.machine.takes_copy_data() {
                // What waits for an answer is the data that the server waits for.
                self.resume();
            }
        }
        if plain == Some(chunk.len()) {
            return Ok(true);
        }
        let mark = self.down.len();
        self.down_plain(&mut plain, chunk, mark);
        Ok(false)
    }

    /// Goes on, where everything that was asked is answered and what follows would not come to stand within a frame of the
    /// client's: one with COPY data may be on its way when the COPY fails.
    pub(super) fn answered_by_now(&mut self) {
        if !self.machine.awaits_reply() && (matches!(self.next, Next::Client) || !self.client_in.within_frame()) {
            self.turning = false;
            self.on_answered();
        }
    }

    fn down_plain(&mut self, plain: &mut Option<usize>, chunk: &[u8], mark: usize) {
        if let Some(upto) = plain.take() {
            put_before(&mut self.down, mark, chunk.get(..upto).unwrap_or_default());
        }
    }

    fn server_frame(&mut self, frame: &[u8]) -> Shown {
        let Some((&tag, _)) = frame.split_first() else { return Shown::Verbatim };
        let body = frame.get(HEADER..).unwrap_or_default();
        if tag == back::PARAMETER_STATUS {
            self.on_parameter(frame, body);
        }
        let shown = self.any_reply(tag, frame, body);
        if tag == back::READY && shown == Shown::Verbatim {
            self.greeted = true;
            self.reported.release(&mut self.down);
            if self.status() == Status::Idle && self.holds(frame) {
                return Shown::Instead;
            }
        } else if tag == back::READY {
            self.reported.pass();
        }
        shown
    }

    fn any_reply(&mut self, tag: u8, frame: &[u8], body: &[u8]) -> Shown {
        let known = !self.machine.is_lost();
        if tag == back::ERROR {
            // What has failed is nowhere to be applied.
            self.xid = None;
        }
        let body_len = u32::try_from(body_len(frame)).unwrap_or(u32::MAX);
        match self.machine.on_backend(Frame { tag, body_len, head: body }) {
            Reply::Async if tag == back::NOTICE => self.notice(body),
            Reply::Async if tag == back::NOTIFICATION => {
                // None comes before the transaction is over.
                self.down.append(&mut self.withheld);
                Shown::Verbatim
            }
            Reply::Async if tag == back::PARAMETER_STATUS && self.greeted => Shown::Instead,
            Reply::Async => Shown::Verbatim,
            Reply::Unexpected => {
                // What follows could not be captured, and must not run.
                self.unexpected = known.then_some(tag);
                Shown::Verbatim
            }
            Reply::To(id) => {
                // Those before it were passed over by the server.
                while let Some((first, _)) = self.specials.front()
                    && *first < id
                {
                    if let Some((_, special)) = self.specials.pop_front() {
                        self.abandon(special);
                    }
                }
                if self.specials.front().is_some_and(|(first, _)| *first == id)
                    && let Some((_, special)) = self.specials.pop_front()
                {
                    self.special(id, special, tag, body)
                } else {
                    self.plain(tag)
                }
            }
        }
    }

    /// An answer to a request that was relayed as it is.
    fn plain(&mut self, tag: u8) -> Shown {
        if tag == back::ERROR {
            self.withheld.clear();
        }
        if tag == back::READY { self.ready() } else { Shown::Verbatim }
    }

    /// A ReadyForQuery that would be the client's.
    fn ready(&mut self) -> Shown {
        self.turned = None;
        self.down.append(&mut self.withheld);
        // Requests behind this one are of another transaction: what they have left here is theirs. None has left anything
        // while it waits for this.
        if self.machine.awaits_reply() && !self.turning {
            if self.last_meta.is_some() {
                self.links.wake();
            }
            if let Some((_, error)) = self.recheck.take() {
                self.down.extend_from_slice(&error);
            }
            return Shown::Verbatim;
        }
        self.committing = false;
        if std::mem::take(&mut self.rollback_due) && self.machine.status() == Status::Failed {
            self.rollback_next();
            return Shown::Instead;
        }
        if self.machine.status() == Status::Idle {
            self.transaction_over();
        }
        if self.rechecks() { Shown::Instead } else { Shown::Verbatim }
    }

    /// Nothing of the transaction is left.
    fn transaction_over(&mut self) {
        if self.last_meta.take().is_some() {
            self.links.wake();
        }
        self.pending.clear();
        self.wrapped = false;
        self.marker_due = false;
        self.constraints_due = false;
        self.poisoned = None;
        self.atomic = Atomic::default();
        self.read_committed = None;
        self.settings_revert();
        self.unsettled = false;
        self.portals.clear();
        self.catalog_committed();
    }

    fn special(&mut self, id: RequestId, special: Special, tag: u8, body: &[u8]) -> Shown {
        match special {
            Special::Own(own) => self.own(id, own, tag, body),
            Special::Step(template) => match tag {
                back::ERROR => {
                    self.held_rows.clear();
                    self.show_or_recheck(template.as_deref(), body);
                    self.step_failed();
                    Shown::Instead
                }
                _ => Shown::Instead,
            },
            Special::Twin(name, template) => {
                if tag == back::ERROR {
                    self.twins.forget(name);
                    self.show_error(Some(&template), body);
                    self.step_failed();
                } else {
                    self.twins.confirm(name);
                }
                Shown::Instead
            }
            Special::Parse(parsed) => {
                if tag == back::ERROR {
                    self.statements.unparse(parsed);
                }
                Shown::Verbatim
            }
            Special::Prepares(undo) => {
                if tag == back::ERROR {
                    self.statements.unprepare(&undo);
                }
                Shown::Verbatim
            }
            Special::Deallocates(gone) => {
                if tag != back::ERROR {
                    self.statements.forget(&gone);
                }
                Shown::Verbatim
            }
            Special::Bind(template, longer) => match tag {
                back::ERROR if longer && field(body, b'R') == Some(b"PortalSetResultFormat") => {
                    self.down.extend_from_slice(&framed_error(&counted_down(body)));
                    Shown::Instead
                }
                back::ERROR => {
                    self.show_error(Some(&template), body);
                    Shown::Instead
                }
                _ => Shown::Verbatim,
            },
            Special::Describe { simple: true, .. } if tag == back::NO_DATA => Shown::Instead,
            Special::Describe { rows, cut, simple: true } => self.hold_rows(tag, body, rows, cut),
            Special::Describe { rows, cut, .. } => self.describe(tag, body, rows, cut),
            Special::Execute(run, binary) => self.execute(id, run, binary, tag, body),
            Special::Query(query) => self.query_reply(id, query, tag, body),
            Special::Control(effect) => {
                if tag == back::COMMAND_COMPLETE {
                    self.turned = turned(effect).or(self.turned);
                }
                Shown::Verbatim
            }
            Special::Refused(error) => match tag {
                back::ERROR if !is_aborted(body) => {
                    self.down.extend_from_slice(&error);
                    Shown::Instead
                }
                _ => Shown::Verbatim,
            },
            Special::Checked(refusal, template) => {
                match tag {
                    back::ERROR if field(body, b'R') == Some(MANY_COMMANDS) => self.down.extend_from_slice(&refusal),
                    back::ERROR => self.show_error(Some(&template), body),
                    _ => {}
                }
                Shown::Instead
            }
            Special::Recheck(error) => {
                let own = tag == back::ERROR
                    && field(body, b'C') == Some(SYNTAX_ERROR)
                    && field(body, b'R') != Some(MANY_COMMANDS);
                if own { Shown::Verbatim } else { self.shown_instead(&error) }
            }
            Special::HiddenSync => {
                self.ready_hidden();
                Shown::Instead
            }
            Special::ErrorSync => self.ready(),
            Special::SegmentSync if tag == back::ERROR => {
                // What the part has done cannot be committed.
                self.segments.clear();
                self.withheld.clear();
                Shown::Verbatim
            }
            Special::SegmentSync => {
                self.down.append(&mut self.withheld);
                self.segment_ready()
            }
            Special::Syntax => {
                if tag == back::ERROR && field(body, b'R') != Some(MANY_COMMANDS) {
                    self.segments.clear();
                    self.down.extend_from_slice(&framed_error(body));
                    self.syntax_failed = true;
                }
                Shown::Instead
            }
        }
    }

    pub(super) fn put_back_special(&mut self, id: RequestId, special: Special) {
        self.specials.push_front((id, special));
    }

    /// A request that the server has passed over after an error.
    fn abandon(&mut self, special: Special) {
        match special {
            Special::Twin(name, _) => self.twins.forget(name),
            Special::Parse(parsed) => self.statements.unparse(parsed),
            Special::Prepares(undo) => self.statements.unprepare(&undo),
            _ => {}
        }
    }

    // === errors ===

    /// A step of ours has failed, in the place of what the client asked for.
    fn step_failed(&mut self) {
        if self.committing || self.wrapped {
            self.rollback_due = true;
        }
        let query_waits = self.segments.is_empty() && self.waiting && self.backlog.first() == Some(&front::QUERY);
        self.pending.clear();
        self.unmake_sql_twins();
        self.withheld.clear();
        self.segments.clear();
        self.next = Next::Client;
        // In the extended protocol the client's own Sync comes; what a query has failed at is over with one of ours.
        if self.machine.is_skipping() && !self.client_unsynced {
            self.send(Special::ErrorSync, crate::wire::extended::put_sync);
        } else if let Some(sync) = self.hidden_sync() {
            *sync = Special::ErrorSync;
        } else {
            return;
        }
        self.drop_query |= query_waits;
    }

    /// That Sync, if it is on its way behind a question and its answer is the next.
    fn hidden_sync(&mut self) -> Option<&mut Special> {
        let (next, _) = self.machine.outstanding().next()?;
        let (_, special) = self.specials.iter_mut().find(|(id, _)| *id == next)?;
        matches!(special, Special::HiddenSync).then_some(special)
    }

    // === our own ===

    fn own(&mut self, id: RequestId, mut own: Own, tag: u8, body: &[u8]) -> Shown {
        match (&own, tag) {
            (Own::Commit, back::COMMAND_COMPLETE) => {
                // Notifications come behind it.
                let withheld = std::mem::take(&mut self.withheld);
                self.down.extend_from_slice(&withheld);
            }
            (Own::Commit, back::ERROR) => {
                self.withheld.clear();
                self.put_back_special(id, Special::Own(own));
                return Shown::Verbatim;
            }
            (Own::Begin, back::ERROR) => {
                self.show_error(None, body);
                self.segments.clear();
                self.next = Next::Client;
                self.put_back_special(id, Special::Own(Own::Rollback));
                return Shown::Instead;
            }
            (Own::Commit | Own::Rollback, back::READY) => {
                if self.rechecks() {
                    self.rollback_due = false;
                    self.transaction_over();
                    return Shown::Instead;
                }
                self.committing = false;
                self.rollback_due = false;
                self.transaction_over();
                return Shown::Verbatim;
            }
            (
                Own::Needed
                | Own::Resolve(_)
                | Own::Catalog(_)
                | Own::Scene(_)
                | Own::Isolation
                | Own::Xid
                | Own::Changes
                | Own::Before,
                back::ERROR,
            ) => {
                self.show_error(None, body);
                self.step_failed();
                return Shown::Instead;
            }
            _ => {}
        }
        self.own_reply(&mut own, tag, body);
        if !ends(tag, &own) {
            self.put_back_special(id, Special::Own(own));
        }
        Shown::Instead
    }

    /// A ReadyForQuery of ours alone.
    fn ready_hidden(&mut self) {
        if std::mem::take(&mut self.syntax_failed) {
            put_frame(&mut self.down, back::READY, status_byte(self.machine.status()));
            self.next = Next::Client;
        }
    }

    // === simple queries ===

    fn query_reply(&mut self, id: RequestId, mut query: Box<QueryRun>, tag: u8, body: &[u8]) -> Shown {
        if tag == back::READY {
            return self.query_ready(&query);
        }
        let mark = self.down.len();
        let at = query.at;
        let behind = query.pieces.get(at.saturating_add(1)..).unwrap_or_default();
        let last = behind.iter().all(|piece| matches!(piece, PieceRun::Own));
        let mut shown = match (tag, query.pieces.get_mut(at)) {
            (back::ERROR, piece) => {
                query.failed = true;
                match piece {
                    Some(PieceRun::Refused(error)) if !is_aborted(body) => self.down.extend_from_slice(error),
                    Some(PieceRun::Write(run)) => {
                        let own = run.own_error(body);
                        self.show_or_recheck(Some(&query.template), &own)
                    }
                    _ => self.show_or_recheck(Some(&query.template), body),
                }
                self.withheld.clear();
                for piece in query.pieces.iter().skip(at) {
                    if let PieceRun::Prepare(undo) = piece {
                        self.statements.unprepare(undo);
                    }
                }
                Shown::Instead
            }
            (_, Some(PieceRun::Own)) => Shown::Instead,
            (_, Some(PieceRun::Write(run))) => self.run_reply(run, false, tag, body),
            (back::COMMAND_COMPLETE, Some(PieceRun::Deallocate(gone))) => {
                self.statements.forget(gone);
                Shown::Verbatim
            }
            _ => Shown::Verbatim,
        };
        if tag == back::COMMAND_COMPLETE {
            query.at = at.saturating_add(1);
            if last && query.ready == Ready::Wrapped && !matches!(query.pieces.get(at), Some(PieceRun::Own)) {
                // Until the block around it is committed, the query has not succeeded.
                self.withheld = if shown == Shown::Verbatim {
                    let mut frame = Vec::new();
                    put_frame(&mut frame, tag, body);
                    frame
                } else {
                    self.down.split_off(mark)
                };
                shown = Shown::Instead;
            }
        }
        self.put_back_special(id, Special::Query(query));
        shown
    }

    fn query_ready(&mut self, query: &QueryRun) -> Shown {
        match query.ready {
            // Its BEGIN has failed already.
            Ready::Wrapped if query.failed && self.machine.status() == Status::Idle => self.ready(),
            Ready::Wrapped => {
                self.next = if query.failed { Next::Rollback } else { Next::CommitWrapped };
                Shown::Instead
            }
            Ready::Segment if !query.failed => self.between_segments(),
            Ready::Segment => {
                self.segments.clear();
                self.rollback_due |= self.wrapped;
                self.ready()
            }
            Ready::Shown => self.ready(),
        }
    }

    fn segment_ready(&mut self) -> Shown {
        if self.segments.is_empty() { self.ready() } else { self.between_segments() }
    }

    /// A part of the client's query is over, and the client hears of it when all are.
    fn between_segments(&mut self) -> Shown {
        self.committing = false;
        if self.machine.status() == Status::Idle {
            self.transaction_over();
        }
        Shown::Instead
    }
}

/// Where a transaction stands when this has completed.
fn turned(effect: Effect) -> Option<Status> {
    match effect {
        Effect::Begin | Effect::RollbackTo(_) => Some(Status::Block),
        Effect::Commit { chain } | Effect::Rollback { chain } => Some(if chain { Status::Block } else { Status::Idle }),
        Effect::PrepareTransaction => Some(Status::Idle),
        _ => None,
    }
}

/// Whether a request of ours is over with this reply.
fn ends(tag: u8, own: &Own) -> bool {
    match own {
        // Simple queries end with ReadyForQuery.
        Own::Commit | Own::Rollback | Own::Begin => tag == back::READY,
        _ => matches!(
            tag,
            back::COMMAND_COMPLETE | back::ERROR | back::PARSE_COMPLETE | back::BIND_COMPLETE | back::CLOSE_COMPLETE
        ),
    }
}

fn status_byte(status: Status) -> &'static [u8] {
    match status {
        Status::Idle => b"I",
        Status::Block => b"T",
        Status::Failed => b"E",
    }
}

/// The error of a block that has failed before: more to the point than a refusal.
fn is_aborted(body: &[u8]) -> bool {
    field(body, b'C') == Some(b"25P02")
}
