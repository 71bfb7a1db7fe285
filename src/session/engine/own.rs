//! Our own requests within the client's session: asking what names mean, writing the journal, opening and ending the block
//! around an implicit transaction.

use bytes::Bytes;
use tracing::warn;

use crate::capture::write::Write;
use crate::catalog::relation::Catalog;
use crate::catalog::scene::{self, Scene};
use crate::sql::statement::{Kind, Statement, Verb, Written};
use crate::wire::error::{Report, sqlstate};
use crate::wire::extended::{Bind, Parse, Reader, put_close, put_execute, put_flush, put_query, put_sync};
use crate::wire::message::{back, split_cstr};

use super::atomic::CommitError;
use super::names::{RESOLVE, RESOLVE_IN, arrays, quoted};
use super::pending::PendingError;
use super::rows::{Template, tag_count};
use super::twins::Need;
use super::{Engine, Next, Special, Step};

const TEXT: u32 = 25;
const BYTEA: u32 = 17;
const TEXT_ARRAY: u32 = 1009;

/// Portal of our own statements: the unnamed one may be the client's.
pub(super) const PORTAL: &[u8] = b"pgcanon";

/// Straight into the child: the server would look for it once per statement.
fn append_to(slot: i16) -> String {
    format!("INSERT INTO pgcanon.journal_{slot} (meta, data) VALUES ($1, $2)")
}

/// Takes the transaction's place in the order once more, if it has written anything at all.
fn mark_in(slot: i16) -> String {
    format!(
        "INSERT INTO pgcanon.journal_{slot} (meta, data) SELECT $1, ''::pg_catalog.bytea \
         WHERE pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL"
    )
}

const CHECK_CONSTRAINTS: &[u8] = b"SET CONSTRAINTS ALL IMMEDIATE";

/// What is asked of ours, and what its answers are for.
#[derive(Debug)]
pub(super) enum Own {
    /// Answers mean nothing, errors least of all.
    Ignore,
    Resolve(Written),
    Isolation,
    /// The transaction's number.
    Xid,
    /// What it has in the journal, and what it may hang on.
    Changes,
    Before,
    /// The BEGIN around a simple query.
    Begin,
    /// The rows are the catalog as this session sees it, as JSON.
    Catalog(Vec<u8>),
    /// The row is what DDL with these names means.
    Scene(Vec<Written>),
    /// A step like any other whose failure fails what the client asked for.
    Needed,
    /// The COMMIT of a wrapped simple query.
    Commit,
    /// Its ReadyForQuery is the client's.
    Rollback,
}

impl Engine {
    // === asking ===

    /// Until it is answered nothing is known: the server may pass the question over, behind an error that is on its way.
    pub(super) fn ask_name(&mut self, written: &Written) {
        let name = &written.name;
        let own = || Own::Resolve(*written);
        match &written.schema {
            None => self.own_execute(RESOLVE, &[TEXT], &[Some(&quoted(name))], own),
            Some(schema) => {
                self.own_execute(RESOLVE_IN, &[TEXT, TEXT], &[Some(schema.as_bytes()), Some(name.as_bytes())], own);
            }
        }
        self.sync_if_settled();
    }

    /// What DDL with these names means.
    pub(super) fn ask_scene(&mut self, names: &[Written]) {
        let [schemas, tables] = arrays(names);
        let own = || Own::Scene(names.to_vec());
        self.own_execute(
            scene::question().as_bytes(),
            &[TEXT_ARRAY, TEXT_ARRAY],
            &[Some(&schemas), Some(&tables)],
            own,
        );
        self.sync_if_settled();
    }

    /// Whether the catalog has changed since it was read, and it matters.
    pub(super) fn needs_private_catalog(&self, statement: &Statement) -> bool {
        let matters =
            !matches!(
                statement.kind,
                Kind::Ddl | Kind::Session | Kind::Other | Kind::Declare | Kind::Unknown | Kind::Prepare { .. }
            ) || statement.ddl.as_ref().is_some_and(|ddl| matches!(ddl.verb, Verb::DropSchema | Verb::AlterSchema));
        let behind = || self.private_as_of < self.links.catalogs.invalidations();
        matters && self.is_shared_outdated() && (self.private.is_none() || behind())
    }

    /// Reads the catalog within the session.
    pub(super) fn ask_catalog(&mut self) {
        self.private_as_of = self.links.catalogs.invalidations();
        let sql = self.links.catalog_sql();
        self.own_execute(sql.as_bytes(), &[], &[], || Own::Catalog(Vec::new()));
        self.sync_if_settled();
    }

    pub(super) fn learn_catalog(&mut self, json: &[u8]) {
        match self.links.read_catalog(json) {
            Ok(catalog) => self.set_private(catalog),
            Err(e) => {
                warn!(error = %e, "cannot read the catalog within a session");
                self.unexpected = Some(back::DATA_ROW);
            }
        }
    }

    pub(super) fn ask_isolation(&mut self) {
        self.own_execute(b"SHOW transaction_isolation", &[], &[], || Own::Isolation);
        self.sync_if_settled();
    }

    fn set_private(&mut self, catalog: Catalog) {
        self.private = Some(std::sync::Arc::new(catalog));
        self.names.forget();
        self.epoch += 1;
    }

    /// Within a pipeline the client's own Sync comes.
    fn sync_if_settled(&mut self) {
        if !self.client_unsynced {
            self.send(Special::HiddenSync, put_sync);
        }
    }

    // === statements ===

    /// Executes a statement of ours by the extended protocol, prepared once.
    pub(super) fn own_execute(&mut self, sql: &[u8], types: &[u32], params: &[Option<&[u8]>], own: impl Fn() -> Own) {
        let special = || Special::Step(None);
        let twin = self.twin(sql, types, std::rc::Rc::default()).bytes();
        let binary = types.iter().map(|oid| u16::from(*oid != TEXT)).collect();
        let bind = Bind { portal: PORTAL, statement: &twin, formats: binary, params: params.to_vec(), results: vec![] };
        self.send(special(), |out| bind.put(out));
        self.send(Special::Own(own()), |out| put_execute(out, PORTAL, 0));
        self.send(special(), |out| put_close(out, b'P', PORTAL));
    }

    /// Executes what has to run before a write.
    pub(super) fn run_before(&mut self, write: &Write) {
        for before in &write.before {
            self.own_execute(before.as_bytes(), &[], &[], || Own::Needed);
        }
    }

    /// The twin with this text, parsed if it is not there yet.
    pub(super) fn twin(
        &mut self,
        sql: &[u8],
        types: &[u32],
        template: std::rc::Rc<Template>,
    ) -> super::twins::TwinName {
        let (name, need) = self.twins.take(sql, types);
        if let Need::Parse { close } = need {
            if let Some(old) = close {
                self.close_twin(old);
            }
            let bytes = name.bytes();
            let parse = Parse { statement: &bytes, sql, types: types.to_vec() };
            self.send(Special::Twin(name, template), |out| parse.put(out));
        }
        name
    }

    fn close_twin(&mut self, name: super::twins::TwinName) {
        self.send(Special::Own(Own::Ignore), |out| put_close(out, b'S', &name.bytes()));
    }

    /// A client that looks at the session's prepared statements sees its own only.
    pub(super) fn hide_twins(&mut self) {
        let twins = self.twins.take_all();
        if twins.is_empty() {
            return;
        }
        for twin in self.sql_twins.take_all() {
            self.send(Special::Own(Own::Ignore), |out| put_close(out, b'S', twin.as_bytes()));
        }
        twins.into_iter().for_each(|name| self.close_twin(name));
        self.sync_if_settled();
    }

    // === the journal ===

    /// Sends everything that waits for the journal; `false` where more is left, to be sent when this is answered.
    pub(super) fn flush(&mut self) -> Result<bool, PendingError> {
        /// Batches that are on their way at once.
        const AHEAD: usize = 4;
        for _ in 0..AHEAD {
            let Some(data) = self.pending.take_batch()?.map(Bytes::from) else { break };
            self.bury(&data)?;
            let meta = self.appender().own(&data);
            self.append(&meta, &data);
            self.last_meta = Some(meta);
            self.marker_due = false;
        }
        Ok(self.pending.is_empty())
    }

    fn append(&mut self, meta: &[u8], data: &[u8]) {
        let sql = append_to(self.slot());
        self.own_execute(sql.as_bytes(), &[BYTEA, BYTEA], &[Some(meta), Some(data)], || Own::Needed);
    }

    /// Everything that has to be in the journal before the transaction commits; `false` as with [`Engine::flush`].
    pub(super) fn flush_for_commit(&mut self) -> Result<bool, CommitError> {
        self.check_constraints();
        if !self.flush()? {
            return Ok(false);
        }
        self.take_place();
        if !self.prepare_peers()? {
            return Ok(false);
        }
        self.ask_xid();
        Ok(true)
    }

    /// The check may wait for others: only behind it is the place in the order the last word.
    pub(super) fn check_constraints(&mut self) {
        if std::mem::take(&mut self.constraints_due) {
            self.own_execute(CHECK_CONSTRAINTS, &[], &[], || Own::Needed);
            self.marker_due = true;
        }
    }

    /// Takes the transaction's place in the order, where no row of the journal has taken it yet.
    pub(super) fn take_place(&mut self) {
        if std::mem::take(&mut self.marker_due) {
            let meta = self.appender().own(&[]);
            let sql = mark_in(self.slot());
            self.own_execute(sql.as_bytes(), &[BYTEA], &[Some(&meta)], || Own::Needed);
        }
    }

    /// The child of the journal that is written now.
    pub(super) fn slot(&self) -> i16 {
        *self.links.slot.borrow()
    }

    // === the block around an implicit transaction ===

    /// Opens it, in the simple protocol.
    pub(super) fn wrap_simple(&mut self) {
        self.wrapped = true;
        self.send(Special::Own(Own::Begin), |out| put_query(out, b"BEGIN"));
    }

    /// Opens it within a pipeline: what was done since the last Sync becomes part of it.
    pub(super) fn wrap_extended(&mut self) {
        self.wrapped = true;
        self.own_execute(b"BEGIN", &[], &[], || Own::Needed);
    }

    /// Everything that was asked is answered.
    pub(super) fn on_answered(&mut self) {
        match std::mem::take(&mut self.next) {
            Next::Segment if !self.segments.is_empty() => self.next_segment(),
            Next::Client | Next::Segment => {
                if self.waiting {
                    self.resume();
                }
            }
            Next::CommitWrapped => self.commit_wrapped(),
            Next::Rollback => self.send(Special::Own(Own::Rollback), |out| put_query(out, b"ROLLBACK")),
        }
    }

    /// Asks the server to hand out what it keeps back.
    pub(super) fn push_flush(&mut self) {
        if self.machine.awaits_reply() {
            put_flush(&mut self.up);
        }
    }

    fn commit_wrapped(&mut self) {
        if let Some(error) = self.poisoned.take() {
            return self.fail_wrapped(error);
        }
        match self.flush_for_commit() {
            Ok(true) => {
                self.committing = true;
                self.send(Special::Own(Own::Commit), |out| put_query(out, b"COMMIT"));
            }
            Ok(false) => {
                self.next = Next::CommitWrapped;
                self.push_flush();
            }
            Err(e) => {
                let error = self.commit_error(&e);
                self.fail_wrapped(error);
            }
        }
    }

    /// The wrapped query fails at its very end.
    fn fail_wrapped(&mut self, error: Vec<u8>) {
        self.withheld.clear();
        self.down.extend_from_slice(&error);
        self.send(Special::Own(Own::Rollback), |out| put_query(out, b"ROLLBACK"));
    }

    // === failing ===

    /// What the client is told when capture itself fails.
    pub(super) fn own_error(&self, error: &dyn std::fmt::Display) -> Vec<u8> {
        warn!(%error, "a transaction cannot be captured and is refused");
        Report::error(sqlstate::SYSTEM_ERROR, format!("the transaction cannot be replicated: {error}")).frame()
    }

    /// A statement that the server will refuse, for one that we refuse: so that the session is where it would be after
    /// any error. The server's log shows our words.
    pub(super) fn failing(words: &str) -> Vec<u8> {
        let words: String = words.chars().map(|c| if matches!(c, '\'' | '\\' | '\0') { ' ' } else { c }).collect();
        format!("SELECT 'pgcanon: {words}'::pg_catalog.int4").into_bytes()
    }

    /// [`Engine::failing`] in the extended protocol.
    pub(super) fn fail_extended(&mut self, words: &str, error: Vec<u8>) -> Step {
        let sql = Self::failing(words);
        let parse = Parse { statement: PORTAL, sql: &sql, types: vec![] };
        self.send(Special::Refused(error), |out| parse.put(out));
        Step::Done
    }

    /// Answers of ours that the client never sees.
    pub(super) fn own_reply(&mut self, own: &mut Own, tag: u8, body: &[u8]) {
        match (own, tag) {
            (Own::Resolve(written), back::DATA_ROW) => {
                let written = *written;
                if self.names.learn(&written, body).is_none() {
                    // Asked again it would say the same, and without an answer nothing may be written.
                    warn!("the server does not say what a name means in the expected way");
                    self.unexpected = Some(tag);
                }
            }
            (Own::Resolve(written), back::COMMAND_COMPLETE) => {
                let tag = split_cstr(body).map_or(body, |(tag, _)| tag);
                if tag_count(tag) == Some(0) {
                    self.names.absent(written);
                }
            }
            (Own::Scene(names), back::DATA_ROW) => {
                let answer = Reader(body.get(2..).unwrap_or_default()).value().flatten().map(Scene::read);
                match answer {
                    Some(Ok(scene)) => self.names.set_scene(names, scene),
                    other => {
                        warn!(?other, "the server does not say what names mean in the expected way");
                        self.unexpected = Some(tag);
                    }
                }
            }
            (Own::Isolation, back::DATA_ROW) => {
                let level = Reader(body.get(2..).unwrap_or_default()).value().flatten();
                self.read_committed = Some(matches!(level, Some(b"read committed" | b"read uncommitted")));
            }
            (Own::Xid, back::DATA_ROW) => self.learn_xid(body),
            (Own::Changes, back::DATA_ROW) => self.learn_change(body),
            (Own::Before, back::DATA_ROW) => self.learn_before(body),
            (Own::Catalog(json), back::DATA_ROW) => {
                let mut reader = Reader(body);
                if reader.u16() == Some(1)
                    && let Some(Some(value)) = reader.value()
                {
                    json.extend_from_slice(value);
                }
            }
            (Own::Catalog(json), back::COMMAND_COMPLETE) => {
                let json = std::mem::take(json);
                self.learn_catalog(&json);
            }
            (Own::Ignore, back::ERROR) => {
                warn!(error = crate::wire::error::describe_error(body), "a question of the proxy's own failed");
            }
            _ => {}
        }
    }
}
