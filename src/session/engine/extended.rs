//! The extended protocol: the client's statements stay its own, its portals are bound to their capturing twins.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::capture::lanes::Tally;
use crate::capture::write::{AloneForm, AloneResult, BlockForm, Decision, Refusal, Write};
use crate::journal::entry::Param;
use crate::session::machine::Status;
use crate::sql::statement::{self, Kind, Statement};
use crate::sql::{Effect, Name, effect};
use crate::wire::error::Severity;
use crate::wire::extended::{BINARY, Bind, Parse, Reader, put_close, put_execute, put_query};
use crate::wire::message::split_cstr;

use super::judge::{Act, Judged, executed, is_control};
use super::own::Own;
use super::refusing::{no_fresh_snapshot, report};
use super::rows::Template;
use super::run::{Form, Run};
use super::surroundings::Snapshot;
use super::{Engine, Next, Special, Step};

/// OIDs below are the same on every node.
const FIRST_USER_OID: u32 = 16384;

/// A statement that the client has prepared on the wire.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) sql: Vec<u8>,
    pub(super) types: Vec<u32>,
    pub(super) statement: Statement,
    effect: Effect,
    /// Reads `pg_prepared_statements`.
    looks: bool,
    /// The decision, the epoch that it was made in, and where it is counted.
    decided: RefCell<Option<(u64, Decision, Tally)>>,
}

/// A statement that the client has prepared by SQL.
#[derive(Debug)]
pub(super) struct SqlPrepared {
    pub(super) sql: Vec<u8>,
    pub(super) statement: Statement,
}

/// What a portal of the client's runs.
#[derive(Debug)]
pub(super) enum Bound {
    Control(Effect),
    Prepare(Name, Rc<SqlPrepared>),
    Deallocate(Effect),
    Write {
        write: Arc<Write>,
        form: Form,
        params: Vec<Param>,
        /// The image comes in binary.
        binary: bool,
    },
    /// One that shows no rows, and has run.
    Spent,
}

impl Prepared {
    pub(super) fn new(sql: Vec<u8>, types: Vec<u32>, statement: Statement, effect: Effect, looks: bool) -> Self {
        Self { sql, types, statement, effect, looks, decided: RefCell::new(None) }
    }

    /// How many parameters the server wants: those that are declared and those that are used.
    fn params(&self) -> usize {
        self.types.len().max(usize::from(self.statement.max_param))
    }
}

impl Engine {
    pub(super) fn on_parse(&mut self, frame: &[u8], body: &[u8]) -> Step {
        let Some(parse) = Parse::read(body) else { return self.pass(frame) };
        self.client_unsynced = true;
        let name = Name::from_bytes(parse.statement);
        let statement = statement::read(parse.sql, self.lex());
        let looks = self.looks_at_statements(parse.sql);
        let effect = effect(parse.sql, self.lex());
        // A plain query is nothing to us; all others are looked at when they are bound, for names may mean something else then.
        let plain = matches!(statement.kind, Kind::Select { into: None }) && statement.calls.is_empty();
        let writes = statement.with.as_ref().is_some_and(|with| with.ctes.iter().any(|cte| cte.writes.is_some()));
        let prepared = (!plain || writes || looks)
            .then(|| Rc::new(Prepared::new(parse.sql.to_vec(), parse.types.clone(), statement, effect, looks)));
        let parsed = self.statements.parse(name, prepared);
        self.note_special(frame, Special::Parse(parsed));
        Step::Verbatim
    }

    pub(super) fn on_bind(&mut self, frame: &[u8], body: &[u8]) -> Step {
        let Some(bind) = Bind::read(body) else { return self.pass(frame) };
        self.client_unsynced = true;
        let portal = Name::from_bytes(bind.portal);
        let name = Name::from_bytes(bind.statement);
        let Some(prepared) = self.statements.get(&name).cloned() else {
            self.portals.remove(&portal);
            if self.statements.by_sql(&name).is_some() && self.status() != Status::Failed {
                let refusal = other_way("EXECUTE");
                return self.fail_extended(&refusal.message, report(&refusal, Severity::Error).frame());
            }
            return self.pass(frame);
        };
        if self.status() == Status::Failed && !self.turning {
            self.bind_plain(portal, &prepared);
            return self.pass(frame);
        }
        if prepared.looks {
            self.hide_twins();
        }
        // Where a block begins or ends on the way, it has to be known which.
        let control = is_control(prepared.effect);
        if !control && self.turning && self.machine.awaits_reply() {
            return Step::Wait;
        }
        if control {
            self.bind_plain(portal, &prepared);
            return self.pass(frame);
        }
        let Some(decision) = self.decide_prepared(&prepared) else { return Step::Wait };
        let judged = Judged::of(decision, &prepared.statement);
        self.take_effect(&judged);
        match judged.act {
            Act::Write(write) => self.bind_write(frame, &bind, portal, &prepared, write),
            Act::Refuse(refusal) => {
                self.portals.remove(&portal);
                self.fail_extended(&refusal.message, report(&refusal, Severity::Error).frame())
            }
            Act::Pass | Act::Control(_) | Act::Prepare(..) => {
                if prepared.effect == Effect::ReadOnly && !self.flush_early() {
                    return Step::Wait;
                }
                self.bind_plain(portal, &prepared);
                self.pass(frame)
            }
        }
    }

    /// Binds what is not captured.
    fn bind_plain(&mut self, portal: Name, prepared: &Prepared) {
        let bound = match (&prepared.statement.kind, prepared.effect) {
            (_, effect) if is_control(effect) => Bound::Control(effect),
            (Kind::Prepare { name, .. }, _) => {
                let made = SqlPrepared { sql: prepared.sql.clone(), statement: prepared.statement.clone() };
                Bound::Prepare(*name, Rc::new(made))
            }
            (_, effect @ (Effect::Deallocate(_) | Effect::DeallocateAll | Effect::DiscardAll)) => {
                Bound::Deallocate(effect)
            }
            _ => {
                self.portals.remove(&portal);
                return;
            }
        };
        self.portals.insert(portal, Rc::new(bound));
    }

    pub(super) fn decide_prepared(&mut self, prepared: &Rc<Prepared>) -> Option<Decision> {
        self.catalog(); // a newer one begins a new epoch
        if let Some((epoch, decision, tally)) = &*prepared.decided.borrow()
            && *epoch == self.epoch
        {
            tally.count();
            return Some(decision.clone());
        }
        let (decision, tally) = match &prepared.statement.kind {
            kind if executed(kind).is_some_and(|name| self.statements.by_sql(&name).is_some()) => {
                let target = executed(kind).and_then(|name| self.statements.by_sql(&name).cloned())?;
                return self.decide_twin(&target, &prepared.sql, &prepared.statement);
            }
            Kind::Prepare { inner, body, .. } => {
                let text = prepared.sql.get(body.start..body.end).unwrap_or_default();
                match self.decide_to_keep(text, inner, &[])? {
                    refused @ (Decision::Refuse(_), _) => refused,
                    (_, tally) => (Decision::Pass { unsettles: false }, tally),
                }
            }
            _ => self.decide_to_keep(&prepared.sql, &prepared.statement, &prepared.types)?,
        };
        *prepared.decided.borrow_mut() = Some((self.epoch, decision.clone(), tally));
        Some(decision)
    }

    fn bind_write(
        &mut self,
        frame: &[u8],
        bind: &Bind<'_>,
        portal: Name,
        prepared: &Rc<Prepared>,
        write: Arc<Write>,
    ) -> Step {
        // With too few or too many the server says so, of the client's own statement.
        let formats = bind.formats.len();
        if bind.params.len() != prepared.params() || formats > 1 && formats != bind.params.len() {
            self.portals.remove(&portal);
            return self.pass(frame);
        }
        let write = match settle_params(write, bind) {
            Ok(write) => write,
            Err(Decision::Refuse(refusal)) => {
                return self.fail_extended(&refusal.message, report(&refusal, Severity::Error).frame());
            }
            Err(_) => return self.pass(frame),
        };
        if self.pending.is_full() && (self.machine.awaits_reply() || !self.flush_or_poison()) {
            return Step::Wait;
        }
        let in_block = self.in_block();
        let params = text_params(bind, &prepared.types);
        let only_alone = matches!(write.block, BlockForm::OnlyAlone);
        if write.is_atomic() && !in_block && !self.wrapped {
            // Its COMMIT has to wait for others.
            self.wrap_extended();
        }
        // The client may fetch its rows one by one, or leave them: only the server itself sees all of them for sure.
        if let Some(form) = &write.alone
            && (!in_block && !self.wrapped || only_alone || write.returning)
        {
            if self.journal_is_behind() && (self.machine.awaits_reply() || !self.flush_or_poison()) {
                return Step::Wait;
            }
            return self.bind_alone(bind, portal, prepared, &write, form, params);
        }
        if write.fresh_snapshot {
            match self.snapshot() {
                Snapshot::Fresh => {}
                Snapshot::Old => {
                    let refusal = no_fresh_snapshot();
                    return self.fail_extended(&refusal.message, report(&refusal, Severity::Error).frame());
                }
                Snapshot::Asked => return Step::Wait,
            }
        }
        if !in_block && !self.wrapped {
            self.wrap_extended();
        }
        self.run_before(&write);
        self.note_write(&write);
        if let BlockForm::ThroughTemp(temp) = &write.block {
            return self.bind_through(bind, portal, prepared, write.clone(), temp);
        }
        let BlockForm::Imaged(rewritten) = &write.block else {
            let bound = Bound::Write { write, form: Form::AsIs, params, binary: false };
            self.portals.insert(portal, Rc::new(bound));
            return self.pass(frame);
        };
        let template = Rc::new(Template { rewritten: rewritten.clone(), original: prepared.sql.clone() });
        let twin = self.twin(&rewritten.sql, &prepared.types, template.clone()).bytes();
        let (results, binary) = if write.returning { with_one_more(&bind.results) } else { (vec![BINARY], true) };
        let bind = Bind { statement: &twin, results, ..bind.clone() };
        self.send(Special::Bind(template, write.returning), |out| bind.put(out));
        self.portals.insert(portal, Rc::new(Bound::Write { write, form: Form::Imaged, params, binary }));
        Step::Done
    }

    fn bind_alone(
        &mut self,
        bind: &Bind<'_>,
        portal: Name,
        prepared: &Rc<Prepared>,
        write: &Arc<Write>,
        form: &AloneForm,
        params: Vec<Param>,
    ) -> Step {
        let metas = match self.metas(write, &params) {
            Ok(metas) => metas,
            Err(refusal) => {
                return self.fail_extended(&refusal.message, report(&refusal, Severity::Error).frame());
            }
        };
        // Parameters that the text does not use are left out: ours follow those that it does.
        let used = usize::from(form.first_param.saturating_sub(1));
        let (our_types, ours) = super::simple::alone_params(&metas);
        let mut types = prepared.types.clone();
        types.resize(used, 0);
        types.extend(our_types);
        let mut formats: Vec<u16> = (0..used).map(|n| if bind.is_binary(n) { BINARY } else { 0 }).collect();
        formats.extend(ours.iter().map(|_| BINARY));
        let mut values = bind.params.clone();
        values.resize(used, None);
        values.extend(ours);
        let (results, binary) = match form.result {
            AloneResult::Rows => with_one_more(&bind.results),
            AloneResult::Count => (vec![BINARY], true),
            AloneResult::Tag { .. } => (vec![], false),
            AloneResult::Own | AloneResult::Same => (bind.results.clone(), false),
        };
        let template = Rc::new(Template { rewritten: form.text_for(self.slot()), original: prepared.sql.clone() });
        self.run_before(write);
        let twin = self.twin(&template.rewritten.sql, &types, template.clone()).bytes();
        let bind = Bind { portal: bind.portal, statement: &twin, formats, params: values, results };
        self.send(Special::Bind(template, form.result == AloneResult::Rows), |out| bind.put(out));
        self.journalled(write, metas);
        let bound = Bound::Write { write: write.clone(), form: Form::Alone(form.result), params: Vec::new(), binary };
        self.portals.insert(portal, Rc::new(bound));
        Step::Done
    }

    pub(super) fn on_describe(&mut self, frame: &[u8], body: &[u8]) -> Step {
        self.client_unsynced = true;
        let portal = body.strip_prefix(b"P").and_then(split_cstr).map(|(name, _)| Name::from_bytes(name));
        let bound = portal.and_then(|name| self.portals.get(&name));
        let (rows, cut) = match bound.map(|bound| &**bound) {
            Some(Bound::Write { write, form, .. }) if !matches!(form, Form::AsIs | Form::IntoTemp) => {
                let run = Run::new(write.clone(), *form, Vec::new());
                (run.shows_rows(), run.cuts_rows())
            }
            Some(Bound::Spent) => (false, false),
            _ => return self.pass(frame),
        };
        self.note_special(frame, Special::Describe { rows, cut, simple: false });
        Step::Verbatim
    }

    pub(super) fn on_execute(&mut self, frame: &[u8], body: &[u8]) -> Step {
        let Some((name, rest)) = split_cstr(body) else { return self.pass(frame) };
        self.client_unsynced = true;
        let Some(bound) = self.portals.get(&Name::from_bytes(name)).cloned() else { return self.pass(frame) };
        match &*bound {
            Bound::Control(effect) => self.execute_control(frame, *effect),
            Bound::Spent => self.execute_spent(frame, name),
            Bound::Prepare(name, made) => {
                let undo = self.statements.prepare(*name, made.clone());
                self.note_special(frame, Special::Prepares(undo));
                Step::Verbatim
            }
            Bound::Deallocate(effect) => {
                if matches!(effect, Effect::DeallocateAll | Effect::DiscardAll) {
                    self.unmake_sql_twins();
                    self.twins.take_all();
                }
                match self.statements.deallocates(*effect) {
                    Some(gone) => self.note_special(frame, Special::Deallocates(gone)),
                    None => drop(self.note(frame)),
                }
                Step::Verbatim
            }
            Bound::Write { write, form, params, binary } => {
                self.before_execute(write);
                let run = Run::new(write.clone(), *form, params.clone());
                if !run.shows_rows() {
                    self.portals.insert(Name::from_bytes(name), Rc::new(Bound::Spent));
                }
                let special = |run| Special::Execute(Box::new(run), *binary);
                let limit = Reader(rest).u32().unwrap_or(0);
                // With a limit the server would stop at our rows, and never say that it is complete.
                if limit != 0 && !run.shows_rows() {
                    self.send(special(run), |out| put_execute(out, name, 0));
                    return Step::Done;
                }
                self.note_special(frame, special(run));
                Step::Verbatim
            }
        }
    }

    /// The client's own portal could not be run again; ours could, for it has rows. One that cannot takes its place.
    fn execute_spent(&mut self, frame: &[u8], portal: &[u8]) -> Step {
        let ignored = || Special::Own(Own::Ignore);
        let twin = self.twin(b"UNLISTEN pgcanon", &[], Rc::default()).bytes();
        let bind = Bind { portal, statement: &twin, formats: vec![], params: vec![], results: vec![] };
        self.send(ignored(), |out| put_close(out, b'P', portal));
        self.send(ignored(), |out| bind.put(out));
        self.send(ignored(), |out| put_execute(out, portal, 0));
        self.pass(frame)
    }

    fn execute_control(&mut self, frame: &[u8], effect: Effect) -> Step {
        // What is under way may still have something for the journal.
        if (self.turning || self.is_capturing()) && self.machine.awaits_reply() {
            return Step::Wait;
        }
        if self.wrapped {
            // The client takes the block over.
            self.wrapped = false;
        }
        if !self.before_effect(effect) {
            return Step::Wait;
        }
        if self.poisoned.is_some() && matches!(effect, Effect::Commit { .. } | Effect::PrepareTransaction) {
            let error = self.poisoned.take().unwrap_or_default();
            self.rollback_due = true;
            return self.fail_extended("this cannot be committed", error);
        }
        self.settings_revert();
        self.turning = true;
        self.note_special(frame, Special::Control(effect));
        Step::Verbatim
    }

    pub(super) fn on_sync(&mut self, frame: &[u8]) -> Step {
        // The server ignores it until the data has ended.
        if self.machine.takes_copy_data() {
            return self.pass(frame);
        }
        if self.machine.is_skipping() {
            self.client_unsynced = false;
            if self.wrapped {
                self.rollback_due = true;
                self.waiting = true;
            }
            return self.pass(frame);
        }
        if self.wrapped {
            if self.machine.awaits_reply() {
                return Step::Wait;
            }
            // What the client sends behind this Sync is of another transaction.
            self.waiting = true;
            if let Some(error) = self.poisoned.take() {
                self.rollback_due = true;
                self.fail_extended("this cannot be committed", error);
            } else {
                match self.flush_for_commit() {
                    Ok(true) => {
                        self.committing = true;
                        self.own_execute(b"COMMIT", &[], &[], || Own::Needed);
                    }
                    Ok(false) => return Step::Wait,
                    Err(e) => {
                        let error = self.commit_error(&e);
                        self.rollback_due = true;
                        self.fail_extended("this cannot be committed", error);
                    }
                }
            }
        } else if self.status() == Status::Idle && self.client_unsynced && !self.turning {
            self.end_implicit();
            self.committing = self.last_meta.is_some();
        }
        self.client_unsynced = false;
        self.pass(frame)
    }

    pub(super) fn on_close(&mut self, frame: &[u8], body: &[u8]) -> Step {
        self.client_unsynced = true;
        if let Some((what, rest)) = body.split_first()
            && let Some((name, _)) = split_cstr(rest)
        {
            let name = Name::from_bytes(name);
            if *what == b'S' {
                let gone = self.statements.closes(&name);
                self.note_special(frame, Special::Deallocates(gone));
                return Step::Verbatim;
            }
            self.portals.remove(&name);
        }
        self.pass(frame)
    }

    pub(super) fn on_function_call(&mut self, frame: &[u8], body: &[u8]) -> Step {
        let oid = Reader(body).u32().unwrap_or(0);
        let catalog = self.catalog();
        let found = catalog.functions.writing.iter().flat_map(|(name, all)| all.iter().map(move |f| (name, f)));
        let refused = found.into_iter().find(|(_, function)| function.oid.0 == oid).map(|(name, function)| Refusal {
            message: format!(
                "function {} cannot be called: its changes cannot be replicated",
                name.as_bytes().escape_ascii()
            ),
            detail: Some(function.why.clone()),
            hint: Some("Send its statements one by one.".into()),
        });
        match refused {
            Some(refusal) => {
                let error = report(&refusal, Severity::Error).frame();
                self.client_unsynced = false;
                self.send(Special::Refused(error), |out| put_query(out, &Self::failing(&refusal.message)));
                Step::Done
            }
            None => self.pass(frame),
        }
    }

    /// The name of the twin of a statement that was prepared by SQL.
    pub(super) fn sql_twin_name(&mut self, prepared: &SqlPrepared) -> String {
        let (name, old) = self.sql_twins.take(&prepared.sql);
        if let Some(old) = old {
            self.send(Special::Own(Own::Ignore), |out| put_close(out, b'S', old.as_bytes()));
        }
        name
    }

    /// Prepares that twin, unless it is there as it should be.
    pub(super) fn make_sql_twin(&mut self, prepared: &SqlPrepared, sql: &[u8]) {
        let Some(name) = self.sql_twins.make(&prepared.sql, sql) else { return };
        // Perhaps there is an older one; closing none is no error.
        self.send(Special::Own(Own::Ignore), |out| put_close(out, b'S', name.as_bytes()));
        self.own_execute(sql, &[], &[], || Own::Needed);
    }

    /// Whether they are there is not known any more.
    pub(super) fn unmake_sql_twins(&mut self) {
        self.sql_twins.unmake();
    }

    fn pass(&mut self, frame: &[u8]) -> Step {
        self.note(frame);
        Step::Verbatim
    }

    /// After a wrapped extended transaction has failed.
    pub(super) fn rollback_next(&mut self) {
        self.rollback_due = false;
        self.next = Next::Rollback;
    }
}

/// A statement is run by the other protocol than it was prepared by.
pub(super) fn other_way(right: &str) -> Refusal {
    Refusal {
        message: "a write to a replicated table that was prepared in one way and is executed in the other cannot be \
                  replicated"
            .into(),
        detail: None,
        hint: Some(format!("Execute it by {right}, or prepare it once more.")),
    }
}

/// The write that is right for how the parameters are bound.
fn settle_params(write: Arc<Write>, bind: &Bind<'_>) -> Result<Arc<Write>, Decision> {
    let as_text = |param: &u16| {
        let at = usize::from(*param).saturating_sub(1);
        !bind.is_binary(at) && bind.params.get(at).is_some_and(Option::is_some)
    };
    if !write.binary_params.iter().any(as_text) {
        return Ok(write);
    }
    match write.otherwise.as_deref() {
        Some(Decision::Write(other)) => Ok(other.clone()),
        Some(other) => Err(other.clone()),
        None => Ok(write),
    }
}

/// The parameters as a text's entry carries them.
fn text_params(bind: &Bind<'_>, types: &[u32]) -> Vec<Param> {
    bind.params
        .iter()
        .enumerate()
        .map(|(at, value)| Param {
            type_oid: types.get(at).copied().filter(|oid| *oid < FIRST_USER_OID).unwrap_or(0),
            binary: bind.is_binary(at),
            value: value.map(<[u8]>::to_vec),
        })
        .collect()
}

/// Result formats for one more column, and whether that comes in binary.
fn with_one_more(results: &[u16]) -> (Vec<u16>, bool) {
    match results {
        [] => (vec![], false),
        [one] => (vec![*one], *one == BINARY),
        many => ([many, &[BINARY]].concat(), true),
    }
}
