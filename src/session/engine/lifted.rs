//! Simple queries that write what earlier ones wrote but for their constants: run as one prepared statement of ours, and
//! decided about once.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::capture::lift::{Lifted, lift, lifts};
use crate::capture::write::{BlockForm, Decision, Write};
use crate::journal::entry::Param;
use crate::session::machine::Status;
use crate::sql::{Effect, statement};
use crate::wire::extended::{BINARY, Bind, put_close, put_execute, put_sync};

use super::extended::Prepared;
use super::own::Own;
use super::run::{Form, Run};
use super::simple::alone_params;
use super::{Engine, Special, Step};

/// Above this many the oldest is forgotten.
const KEPT: usize = 128;

/// The texts seen last.
#[derive(Debug, Default)]
pub(super) struct LiftedTexts {
    by_text: HashMap<Vec<u8>, Seen>,
    /// Clock of the uses.
    now: u64,
}

#[derive(Debug)]
struct Seen {
    used: u64,
    /// None until it is seen again: most texts that are not are never.
    known: Option<Rc<Known>>,
}

#[derive(Debug)]
struct Known {
    prepared: Rc<Prepared>,
    /// Whether its parameters can stand for constants, and in which epoch that was found.
    lifts: Cell<Option<(u64, bool)>>,
}

// === impl LiftedTexts ===

impl LiftedTexts {
    /// The statement of a text that is not seen for the first time, `read` then.
    fn take(&mut self, lifted: &Lifted, read: impl FnOnce() -> Prepared) -> Option<Rc<Known>> {
        self.now += 1;
        let used = self.now;
        let Some(seen) = self.by_text.get_mut(&lifted.text.sql) else {
            if self.by_text.len() >= KEPT
                && let Some(oldest) =
                    self.by_text.iter().min_by_key(|(_, seen)| seen.used).map(|(text, _)| text.clone())
            {
                self.by_text.remove(&oldest);
            }
            self.by_text.insert(lifted.text.sql.clone(), Seen { used, known: None });
            return None;
        };
        seen.used = used;
        // Now and then a constant is longer than the others.
        let known = seen.known.as_ref().filter(|known| known.prepared.types == lifted.types);
        let known =
            known.cloned().unwrap_or_else(|| Rc::new(Known { prepared: Rc::new(read()), lifts: Cell::new(None) }));
        seen.known = Some(known.clone());
        Some(known)
    }
}

impl Engine {
    /// Runs a write of which only the constants are new; none where it has to be run as it is.
    pub(super) fn query_lifted(&mut self, text: &[u8]) -> Option<Step> {
        if self.wrapped || self.machine.awaits_reply() || self.status() == Status::Failed {
            return None;
        }
        let lex = self.lex();
        let lifted = lift(text, lex)?;
        let read = || {
            let sql = lifted.text.sql.clone();
            let statement = statement::read(&sql, lex);
            Prepared::new(sql, lifted.types.clone(), statement, Effect::None, false)
        };
        let known = self.lifted.take(&lifted, read)?;
        if self.looks_at_statements(text) {
            return None;
        }
        let Some(decision) = self.decide_prepared(&known.prepared) else { return Some(Step::Wait) };
        let Decision::Write(write) = decision else { return None };
        if !self.can_lift(&known) || !is_plain(&write) {
            return None;
        }
        if self.pending.is_full() && !self.flush_or_poison() {
            return Some(Step::Wait);
        }
        self.run_lifted(text, lifted, &write)
    }

    fn can_lift(&mut self, known: &Known) -> bool {
        let epoch = self.epoch;
        if let Some((_, lifts)) = known.lifts.get().filter(|(found, _)| *found == epoch) {
            return lifts;
        }
        let catalog = self.catalog();
        let prepared = &known.prepared;
        let lifts = lifts(&prepared.statement, &prepared.types, &catalog, |written| self.names.get(written));
        known.lifts.set(Some((epoch, lifts)));
        lifts
    }

    fn run_lifted(&mut self, text: &[u8], lifted: Lifted, write: &std::sync::Arc<Write>) -> Option<Step> {
        let idle = !self.in_block();
        let param =
            |(oid, value): (&u32, &Vec<u8>)| Param { type_oid: *oid, binary: false, value: Some(value.clone()) };
        let params: Vec<Param> = lifted.types.iter().zip(&lifted.values).map(param).collect();
        let mut metas = Vec::new();
        let (rewritten, form) = match (&write.alone, &write.block) {
            (Some(alone), _) if idle && !write.is_atomic() => {
                metas = match self.metas(write, &params) {
                    Ok(metas) => metas,
                    Err(refusal) => return Some(self.refuse_query(text, &refusal)),
                };
                (alone.text_for(self.slot()).of(&lifted.text), Form::Alone(alone.result))
            }
            _ if idle => return None,
            (_, BlockForm::Imaged(imaged)) => (imaged.clone().of(&lifted.text), Form::Imaged),
            _ => (lifted.text, Form::AsIs),
        };
        let (mut types, mut formats) = (lifted.types, vec![0; lifted.values.len()]);
        let mut values: Vec<Option<&[u8]>> = lifted.values.iter().map(|value| Some(value.as_slice())).collect();
        if idle {
            let (our_types, ours) = alone_params(&metas);
            types.extend(our_types);
            formats.resize(formats.len() + ours.len(), BINARY);
            values.extend(ours);
        }
        let template = Rc::new(self.template(rewritten, text));
        let twin = self.twin(&template.rewritten.sql, &types, template.clone()).bytes();
        // The client sees no row.
        let bind = Bind { portal: b"", statement: &twin, formats, params: values, results: vec![BINARY] };
        self.send(Special::Step(Some(template)), |out| bind.put(out));
        let mut run = Run::new(write.clone(), form, if idle { Vec::new() } else { params });
        run.withholds = idle;
        self.send(Special::Execute(Box::new(run), true), |out| put_execute(out, b"", 0));
        if self.statements.has_unnamed() {
            self.send(Special::Own(Own::Ignore), |out| put_close(out, b'S', b""));
        }
        self.client_unsynced = false;
        if idle {
            self.journalled(write, metas);
            self.end_implicit();
            self.committing = true;
        } else {
            self.note_write(write);
        }
        self.send_plain(put_sync);
        Some(Step::Done)
    }
}

/// Whether nothing but the statement itself has to be run, and shows nothing: the rows of a prepared statement must not change
/// their types, those of a query may.
fn is_plain(write: &Write) -> bool {
    let block = matches!(write.block, BlockForm::AsIs | BlockForm::Imaged(_));
    let alone = write.before.is_empty() && !write.fresh_snapshot && !write.unsettles;
    block && alone && write.binary_params.is_empty() && !write.returning
}
