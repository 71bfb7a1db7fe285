//! Simple queries: one message, any number of statements, one ReadyForQuery.

use std::rc::Rc;
use std::sync::Arc;

use crate::capture::write::{AloneForm, BlockForm, Decision, Inserted, Refusal, Rewritten, Write};
use crate::journal::entry::Head;
use crate::journal::{EncodeError, HeadForm};
use crate::session::machine::Status;
use crate::sql::{Effect, Name, Split, effect};
use crate::wire::error::Severity;
use crate::wire::extended::{BINARY, Bind, Parse, put_close, put_describe_portal, put_execute, put_query, put_sync};
use crate::wire::message::split_cstr;

use super::atomic::CommitError;
use super::atomic::{needs_a_block, two_phases};
use super::judge::{Act, Judged, is_control};
use super::own::Own;
use super::refusing::{no_fresh_snapshot, report};
use super::rows::Template;
use super::run::{Form, Run};
use super::segments::{Segment, shifts};
use super::statements::{Deallocated, MadeBySql};
use super::surroundings::Snapshot;
use super::{Engine, Special, Step};

/// Before a query of the client's, in the same message.
const BEGIN: &[u8] = b"BEGIN;";

/// A statement that does nothing.
const NOTHING: &[u8] = b"UNLISTEN pgcanon;";

/// A query that is on its way, statement by statement.
#[derive(Debug)]
pub(super) struct QueryRun {
    pub(super) pieces: Vec<PieceRun>,
    /// The statement that the next reply belongs to.
    pub(super) at: usize,
    pub(super) template: Template,
    /// Its ReadyForQuery is not the client's: a COMMIT or another part of the query follows.
    pub(super) ready: Ready,
    pub(super) failed: bool,
    /// COPYs whose data the client has ended.
    pub(super) copies_ended: usize,
}

#[derive(Debug)]
pub(super) enum PieceRun {
    Plain,
    /// A COPY of the client's that is none of ours: its data is not, either.
    Copy,
    /// Ours: not shown.
    Own,
    Prepare(MadeBySql),
    Deallocate(Deallocated),
    Write(Box<Run>),
    /// Its error is replaced by this one.
    Refused(Vec<u8>),
}

/// What a ReadyForQuery means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    /// It is the client's.
    Shown,
    /// The block around the query has to be ended first.
    Wrapped,
    /// More of the client's query follows.
    Segment,
}

/// A statement within a query's text.
pub(super) struct Part {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) judged: Judged,
}

impl Part {
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.judged.act, Act::Write(_) | Act::Refuse(_) | Act::Prepare(..))
    }

    pub(super) fn is_control(&self) -> bool {
        matches!(self.judged.act, Act::Control(_))
    }

    pub(super) fn deallocates(&self) -> bool {
        matches!(self.judged.effect, Effect::Deallocate(_) | Effect::DeallocateAll | Effect::DiscardAll)
    }

    /// What stands behind it can only be judged when it is done.
    pub(super) fn shifts(&self) -> bool {
        self.judged.unsettles || self.judged.ddl || self.deallocates() || matches!(self.judged.act, Act::Prepare(..))
    }
}

impl Engine {
    pub(super) fn on_query(&mut self, frame: &[u8], body: &[u8]) -> Step {
        let Some((text, _)) = split_cstr(body) else {
            self.note(frame);
            return Step::Verbatim;
        };
        if std::mem::take(&mut self.drop_query) {
            return Step::Done;
        }
        self.segment = None;
        let unsynced = self.client_unsynced;
        let step = match self.query_lifted(text) {
            Some(step) => step,
            None => self.query(text, true),
        };
        if step == Step::Verbatim {
            self.client_unsynced = false;
            self.note(frame);
        }
        // A simple query takes the place of the unnamed statement and of the unnamed portal.
        if step != Step::Wait && !unsynced {
            self.statements.close_unnamed();
            self.portals.remove(&Name::EMPTY);
        }
        step
    }

    /// Deals with a query's text; `whole` if it is all that the client sent. [`Step::Verbatim`] leaves sending it to the caller.
    pub(super) fn query(&mut self, text: &[u8], whole: bool) -> Step {
        if self.looks_at_statements(text) {
            if self.machine.awaits_reply() {
                return Step::Wait;
            }
            self.client_unsynced = false;
            self.hide_twins();
        }
        let failed = self.status() == Status::Failed;
        if failed && self.machine.awaits_reply() {
            return Step::Wait;
        }
        let Some(parts) = self.parts(text) else { return Step::Wait };
        // Afterwards there is no writing the journal either.
        if parts.iter().any(|p| p.judged.effect == Effect::ReadOnly) && !self.flush_early() {
            return Step::Wait;
        }
        let ours = parts.iter().any(Part::is_ours);
        let control = parts.iter().any(Part::is_control);
        let ending = control && (self.transaction_matters() || self.is_capturing());
        let whole_as_is = whole && !parts.iter().any(Part::deallocates);
        let split = whole && (control && parts.len() > 1 && (ours || failed) || shifts(&parts));
        if !ours && !ending && !split {
            return if whole_as_is { self.pass_query(parts) } else { self.send_query(text, parts, false) };
        }
        // What it does hangs on what is not answered yet.
        if self.machine.awaits_reply() {
            return Step::Wait;
        }
        if split {
            return self.begin_segments(text, &parts);
        }
        if control && !self.before_control(&parts) {
            return Step::Wait;
        }
        if !ours {
            return if self.poisoned.is_some() && commits(&parts) {
                self.refuse_commit()
            } else if whole_as_is {
                self.pass_query(parts)
            } else {
                self.send_query(text, parts, false)
            };
        }
        self.client_unsynced = false;
        if self.pending.is_full() && !self.flush_or_poison() {
            return Step::Wait;
        }
        self.run_query(text, parts)
    }

    /// Reads a query's statements and decides about each; `None` where the server has to be asked first.
    fn parts(&mut self, text: &[u8]) -> Option<Vec<Part>> {
        let lex = self.lex();
        let failed = self.status() == Status::Failed;
        let mut parts = Vec::new();
        for piece in Split::new(text, lex).statements() {
            let sql = piece.text(text);
            let effect = effect(sql, lex);
            let mut judged = match effect {
                _ if is_control(effect) => Judged::new(Act::Control(effect)),
                // It will only be told that the block has failed.
                _ if failed => Judged::new(Act::Pass),
                _ => self.judge(sql)?,
            };
            if !failed {
                judged.effect = effect;
            }
            parts.push(Part { start: piece.start, end: piece.end, judged });
        }
        Some(parts)
    }

    /// The query goes as it is.
    fn pass_query(&mut self, parts: Vec<Part>) -> Step {
        parts.iter().for_each(|part| self.take_effect(&part.judged));
        Step::Verbatim
    }

    // === transaction control ===

    /// Whether ending the transaction, or a savepoint, takes more than the client's own words.
    fn transaction_matters(&self) -> bool {
        !self.pending.is_empty()
            || self.marker_due
            || self.constraints_due
            || self.last_meta.is_some()
            || self.poisoned.is_some()
    }

    /// What has to be in the journal before these; `false` where it has to be answered first.
    fn before_control(&mut self, parts: &[Part]) -> bool {
        let mut ready = true;
        for part in parts {
            let Act::Control(effect) = &part.judged.act else { continue };
            ready &= self.before_effect(*effect);
        }
        ready
    }

    /// [`Engine::before_control`] for one.
    pub(super) fn before_effect(&mut self, effect: Effect) -> bool {
        if self.status() != Status::Block {
            if matches!(effect, Effect::Rollback { .. } | Effect::RollbackTo(_)) {
                self.pending.clear();
            }
            return true;
        }
        let flushed = match effect {
            Effect::Commit { .. } | Effect::PrepareTransaction => {
                if self.poisoned.is_some() {
                    return true;
                }
                if effect == Effect::PrepareTransaction {
                    if self.is_atomic() {
                        self.poisoned = Some(two_phases());
                        return true;
                    }
                    // Nobody can have it before its COMMIT PREPARED.
                    self.acked.clear();
                }
                let flushed = self.flush_for_commit();
                self.committing = matches!(flushed, Ok(true)) && matches!(effect, Effect::Commit { .. });
                flushed
            }
            Effect::Savepoint(_) => self.flush().map_err(CommitError::from),
            Effect::Rollback { .. } | Effect::RollbackTo(_) => {
                self.pending.clear();
                Ok(true)
            }
            _ => Ok(true),
        };
        flushed.unwrap_or_else(|e| {
            self.poisoned = Some(self.commit_error(&e));
            true
        })
    }

    /// Sends the pending entries once those before them are there; `false` where that has to be waited for.
    pub(super) fn flush_early(&mut self) -> bool {
        !self.machine.awaits_reply() && self.flush_or_poison()
    }

    /// Sends the pending entries ahead of time; `false` where some are left.
    pub(super) fn flush_or_poison(&mut self) -> bool {
        self.flush().unwrap_or_else(|e| {
            self.poisoned = Some(self.own_error(&e));
            self.pending.clear();
            true
        })
    }

    // === running ===

    fn run_query(&mut self, text: &[u8], parts: Vec<Part>) -> Step {
        let more = !self.segments.is_empty();
        let idle = !self.in_block() && !self.wrapped;
        let unread = parts.iter().any(|part| part.judged.unread);
        let refused = parts.iter().find_map(|part| match &part.judged.act {
            Act::Refuse(refusal) if unread || parts.len() == 1 => Some(refusal.clone()),
            _ => None,
        });
        if let Some(refusal) = refused {
            return self.refuse_query(text, &refusal);
        }
        if idle && more {
            return self.refuse_query(
                text,
                &Refusal {
                    message:
                        "a write to a replicated table beside transaction control in one query cannot be replicated"
                            .into(),
                    detail: Some(
                        "The server makes one transaction of the statements before the next COMMIT or BEGIN.".into(),
                    ),
                    hint: Some("Send the statements one by one, or begin the query with BEGIN.".into()),
                },
            );
        }
        let only_alone = |p: &Part| matches!(&p.judged.act, Act::Write(w) if matches!(w.block, BlockForm::OnlyAlone));
        if let [part] = parts.as_slice()
            && let Act::Write(write) = &part.judged.act
            && let Some(form) = &write.alone
            && (idle && !write.is_atomic() || only_alone(part) && !idle && !self.wrapped)
        {
            if self.journal_is_behind() && !self.flush_or_poison() {
                return Step::Wait;
            }
            self.take_effect(&part.judged);
            return self.run_alone(text, part.start..part.end, write, form);
        }
        if idle && parts.iter().any(|p| only_alone(p) && matches!(&p.judged.act, Act::Write(w) if w.is_atomic())) {
            return self.refuse_query(text, &needs_a_block());
        }
        if parts.iter().any(only_alone) {
            return self.refuse_query(
                text,
                &Refusal {
                    message: "this statement cannot be replicated as a part of a query with several statements".into(),
                    detail: None,
                    hint: Some("Send it in a query of its own.".into()),
                },
            );
        }
        if parts.iter().any(|p| matches!(&p.judged.act, Act::Write(write) if write.fresh_snapshot)) {
            match self.snapshot() {
                Snapshot::Fresh => {}
                Snapshot::Old => return self.refuse_query(text, &no_fresh_snapshot()),
                Snapshot::Asked => return Step::Wait,
            }
        }
        let writes = parts.iter().any(|p| matches!(p.judged.act, Act::Write(_)));
        let opens = idle && writes && self.status() == Status::Idle;
        self.wrapped |= opens;
        self.send_query(text, parts, opens)
    }

    /// Sends a query with the capturing texts in their places, `opens` a block of ours around it.
    fn send_query(&mut self, text: &[u8], parts: Vec<Part>, opens: bool) -> Step {
        let (mut sql, mut inserted, mut at) = (Vec::with_capacity(text.len()), Vec::new(), 0);
        let mut pieces = Vec::with_capacity(parts.len());
        let begins = |p: &Part| matches!(p.judged.act, Act::Control(Effect::Begin));
        let single = parts.len() == 1 && !parts.iter().any(begins);
        if single && self.segment.is_some() && !self.wrapped && self.status() == Status::Idle {
            // To the server a query of several statements is a transaction, outside of a block, too.
            sql.extend_from_slice(NOTHING);
            inserted.push(Inserted { at: 0, len: NOTHING.len(), instead: 0 });
            pieces.push(PieceRun::Own);
        } else if opens {
            // In one query with what it is for: should it fail, nothing else runs.
            sql.extend_from_slice(BEGIN);
            inserted.push(Inserted { at: 0, len: BEGIN.len(), instead: 0 });
            pieces.push(PieceRun::Own);
        }
        for part in parts {
            self.take_effect(&part.judged);
            sql.extend_from_slice(text.get(at..part.start).unwrap_or_default());
            at = part.start;
            match part.judged.act {
                Act::Write(write) => {
                    let write = self.settle_write(write);
                    for before in &write.before {
                        inserted.push(Inserted { at: sql.len(), len: before.len() + 1, instead: 0 });
                        sql.extend_from_slice(before.as_bytes());
                        sql.push(b';');
                        pieces.push(PieceRun::Own);
                    }
                    self.note_write(&write);
                    let form = match &write.block {
                        BlockForm::ThroughTemp(temp) => {
                            super::copy::put_through(&write, temp, &mut sql, &mut inserted, &mut pieces);
                            at = part.end;
                            continue;
                        }
                        BlockForm::Imaged(rewritten) => {
                            let shift = sql.len();
                            inserted.extend(rewritten.inserted.iter().map(|i| Inserted { at: i.at + shift, ..*i }));
                            sql.extend_from_slice(&rewritten.sql);
                            at = part.end;
                            Form::Imaged
                        }
                        _ => Form::AsIs,
                    };
                    pieces.push(PieceRun::Write(Box::new(Run::new(write, form, Vec::new()))));
                }
                Act::Prepare(name, prepared) => pieces.push(PieceRun::Prepare(self.statements.prepare(name, prepared))),
                Act::Refuse(refusal) => {
                    // What stands before it is answered as if the server itself had refused.
                    sql.extend_from_slice(&Self::failing(&refusal.message));
                    at = part.end;
                    pieces.push(PieceRun::Refused(report(&refusal, Severity::Error).frame()));
                }
                Act::Pass if part.judged.copies => pieces.push(PieceRun::Copy),
                Act::Pass | Act::Control(_) => pieces.push(match self.statements.deallocates(part.judged.effect) {
                    Some(gone) => PieceRun::Deallocate(gone),
                    None => PieceRun::Plain,
                }),
            }
            sql.extend_from_slice(text.get(at..part.end).unwrap_or_default());
            at = part.end;
        }
        sql.extend_from_slice(text.get(at..).unwrap_or_default());
        let ready = if !self.segments.is_empty() {
            Ready::Segment
        } else if self.wrapped {
            Ready::Wrapped
        } else {
            Ready::Shown
        };
        self.client_unsynced = false;
        let mut frame = Vec::new();
        put_query(&mut frame, &sql);
        let template = self.template(Rewritten { sql, inserted }, text);
        let run = QueryRun { pieces, at: 0, template, ready, failed: false, copies_ended: 0 };
        self.send(Special::Query(Box::new(run)), |out| out.extend_from_slice(&frame));
        Step::Done
    }

    /// Without parameters those that text hangs on cannot be bound as it needs them.
    pub(super) fn settle_write(&self, write: Arc<Write>) -> Arc<Write> {
        match write.otherwise.as_deref() {
            Some(Decision::Write(other)) if !write.binary_params.is_empty() => other.clone(),
            _ => write,
        }
    }

    /// What a write in a block asks of the block's end.
    pub(super) fn note_write(&mut self, write: &Write) {
        self.constraints_due |= write.deferrable;
        for acked in &write.acked {
            if !self.acked.contains(acked) {
                self.acked.push(acked.clone());
            }
        }
    }

    /// Runs a statement that journals itself.
    fn run_alone(&mut self, text: &[u8], span: std::ops::Range<usize>, write: &Arc<Write>, form: &AloneForm) -> Step {
        let write = self.settle_write(write.clone());
        let form = write.alone.clone().unwrap_or_else(|| form.clone());
        let idle = !self.in_block();
        let metas = match self.metas(&write, &[]) {
            Ok(metas) => metas,
            Err(refusal) => return self.refuse_query(text, &refusal),
        };
        // The statement's own text may be a part of the query's: positions count from the query's beginning.
        let before = text.get(..span.start).unwrap_or_default();
        let own = form.text_for(self.slot());
        let rewritten = Rewritten {
            sql: [before, &own.sql].concat(),
            inserted: own.inserted.iter().map(|i| Inserted { at: i.at + before.len(), ..*i }).collect(),
        };
        let template = Rc::new(self.template(rewritten, text));
        self.run_before(&write);
        let (types, params) = alone_params(&metas);
        let parse = Parse { statement: b"", sql: &template.rewritten.sql, types };
        self.send(Special::Step(Some(template.clone())), |out| parse.put(out));
        let bind = Bind { portal: b"", statement: b"", formats: vec![BINARY], params, results: vec![] };
        self.send(Special::Step(Some(template.clone())), |out| bind.put(out));
        let mut run = Run::new(write.clone(), Form::Alone(form.result), Vec::new());
        run.withholds = true;
        if run.shows_rows() {
            let special = Special::Describe { rows: true, cut: run.cuts_rows(), simple: true };
            self.send(special, |out| put_describe_portal(out, b""));
        }
        self.send(Special::Execute(Box::new(run), false), |out| put_execute(out, b"", 0));
        self.send(Special::Own(Own::Ignore), |out| put_close(out, b'S', b""));
        self.journalled(&write, metas);
        if idle {
            self.end_implicit();
            self.committing = true;
        }
        if self.segments.is_empty() {
            self.send_plain(put_sync);
        } else {
            self.send(Special::SegmentSync, put_sync);
        }
        Step::Done
    }

    /// A statement that journals itself is on its way.
    pub(super) fn journalled(&mut self, write: &Write, metas: Vec<Vec<u8>>) {
        self.last_meta = metas.into_iter().next().or_else(|| self.last_meta.take());
        self.marker_due |= write.late;
        self.note_write(write);
    }

    /// What an implicit transaction still needs before its Sync: nothing of it is pending.
    pub(super) fn end_implicit(&mut self) {
        self.check_constraints();
        self.take_place();
        self.ask_xid();
    }

    /// The metas of a statement that journals itself.
    pub(super) fn metas(
        &mut self,
        write: &Write,
        params: &[crate::journal::entry::Param],
    ) -> Result<Vec<Vec<u8>>, Refusal> {
        let appender = self.appender();
        let meta =
            |(form, head): (&HeadForm, &Head)| Ok(appender.selfmade(&form.encode(head.lane, head.rows, params)?));
        let metas = write.forms().and_then(|forms| forms.iter().zip(&write.heads).map(meta).collect());
        metas.map_err(|e: EncodeError| Refusal {
            message: format!("the statement cannot be written to the journal: {e}"),
            detail: None,
            hint: None,
        })
    }

    /// How a text of ours stands for `text`, which may be a part of the client's query: positions count from its beginning.
    pub(super) fn template(&self, mut rewritten: Rewritten, text: &[u8]) -> Template {
        let Some(Segment { whole, at, .. }) = &self.segment else {
            return Template { rewritten, original: text.to_vec() };
        };
        rewritten.inserted.insert(0, Inserted { at: 0, len: 0, instead: *at });
        Template { rewritten, original: whole.to_vec() }
    }
}

fn commits(parts: &[Part]) -> bool {
    parts.iter().any(|p| matches!(p.judged.act, Act::Control(Effect::Commit { .. } | Effect::PrepareTransaction)))
}

/// Types and values of our parameters of a statement that journals itself.
pub(super) fn alone_params(metas: &[Vec<u8>]) -> (Vec<u32>, Vec<Option<&[u8]>>) {
    const BYTEA: u32 = 17;
    metas.iter().map(|meta| (BYTEA, Some(meta.as_slice()))).unzip()
}
