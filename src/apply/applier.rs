//! Transactions onto one peer: their beginning, their end, and how far they are (I3).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::error::{ApplyError, At, Rejection};
use super::line::{Expect, Line, Param};
use super::repeats::Repeats;
use super::route::{Destination, Route};
use super::session::{self, Ready};
use super::shape::{Shape, Statement};
use super::stamp::{self, Stamps};
use super::texts::Truncating;
use crate::config::{NodeName, TableName, Triggers};
use crate::journal::entry::{Head, Lane, Op};
use crate::journal::{CommitTime, Entry, Progress, TickId};
use crate::wire::stream::Stream;

/// How a target transaction is to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Every image is a statement of its own, in the order of the images: where values of unique keys change places, rows
    /// that are changed together may be in each other's way.
    pub row_by_row: bool,
    /// How long a lock is waited for, where that is not to be well below the peer's `deadlock_timeout`: for a transaction of
    /// one statement, say, that can hold up nobody.
    pub lock_timeout: Option<Duration>,
    /// When it is committed, it is so for good.
    pub durable: bool,
}

/// Prepared statements at most; past that all are forgotten and prepared again.
const PREPARED: usize = 4000;

/// Statements of our own.
const BEGIN: (u32, &str) = (0, "BEGIN");
const COMMIT: (u32, &str) = (1, "COMMIT");
const DEFER: (u32, &str) = (2, "SET CONSTRAINTS ALL DEFERRED");
const FIRST: (u32, &str) =
    (3, "INSERT INTO pgcanon.progress (origin, system, timeline, tick, ord, part) VALUES ($1, $2, $3, $4, $5, $6)");
const NEXT: (u32, &str) = (
    4,
    "WITH noted AS (UPDATE pgcanon.progress \
        SET system = $2, timeline = $3, tick = $4, ord = $5, part = $6, updated = pg_catalog.now() \
        WHERE origin OPERATOR(pg_catalog.=) $1 AND system OPERATOR(pg_catalog.=) $7 AND timeline OPERATOR(pg_catalog.=) $8 \
        AND tick OPERATOR(pg_catalog.=) $9 AND ord OPERATOR(pg_catalog.=) $10 AND part OPERATOR(pg_catalog.=) $11 RETURNING 1) \
     SELECT (CASE pg_catalog.count(*) WHEN 1 THEN '1' ELSE 'not where it was left' END)::pg_catalog.int4 \
     FROM noted",
);
pub(super) const ASIDE: (u32, &str) =
    (5, "INSERT INTO pgcanon.applied (origin, tick, ord, seq) VALUES ($1, $2, $3, $4)");
pub(super) const EARLY: (u32, &str) = (6, "INSERT INTO pgcanon.early (origin, xid) VALUES ($1, $2)");
pub(super) const IN_TURN: (u32, &str) =
    (7, "DELETE FROM pgcanon.early WHERE origin OPERATOR(pg_catalog.=) $1 AND xid OPERATOR(pg_catalog.=) $2");
pub(super) const TIMESTAMPTZ: u32 = 1184;
const OWN: u32 = 16;

/// TEXT, INT8 and INT4, as progress is told.
const PROGRESS: [u32; 11] = [25, 20, 23, 20, 23, 23, 20, 23, 20, 23, 23];

/// Applies one origin's changes over one connection.
pub struct Applier {
    pub(super) line: Line,
    origin: NodeName,
    route: Route,
    skips_triggers: bool,
    user: String,
    /// It is the forwarder's own, not one beside it.
    alone: bool,
    /// What the peer has confirmed.
    confirmed: Option<Progress>,
    /// Commits that were sent and are not confirmed yet.
    sent: VecDeque<Progress>,
    /// How many of the line's commits are counted in.
    commits: u64,
    /// Where the log stood, at least, when that much was committed.
    unflushed: VecDeque<(u64, Progress)>,
    durable: Option<Progress>,
    /// By name on the peer.
    pub(super) shapes: HashMap<TableName, Vec<Arc<Shape>>>,
    pub(super) repeats: Repeats,
    /// Names that the peer knows.
    prepared: HashSet<u32>,
    next_id: u32,
    /// Triggers are off.
    replica: bool,
    /// The peer notes whose each commit is, and as of when.
    pub(super) stamps: Option<Stamps>,
    pub(super) open: Option<Open>,
}

/// The open target transaction.
pub(super) struct Open {
    pub(super) mode: Mode,
    /// The source transaction that is being applied, or was last.
    source: Option<Progress>,
    /// How far the peer will be, where that is not the source transaction's place.
    pub(super) stays: Option<Progress>,
    /// The number of the next entry.
    entry: u32,
    pub(super) encoding: String,
    pub(super) truncating: Option<Truncating>,
    /// A COPY whose data has not come to its end.
    pub(super) copying: bool,
    /// When what is being applied was committed on its node.
    pub(super) time: Option<CommitTime>,
    /// The peer's tick up to which its node had the peer's changes then, or more.
    pub(super) seen: Option<TickId>,
    /// Where it is a version that another node wrote, perhaps: that one, and when.
    pub(super) version: Option<(CommitTime, String)>,
}

// === impl Applier ===

impl Applier {
    /// Takes over a connection that is logged in at the peer (`ControlSettings::log_in`), for the changes of `origin`.
    pub async fn open(stream: Stream, origin: &NodeName, route: Route) -> Result<Self, ApplyError> {
        Self::begin_session(stream, origin, route, true).await
    }

    pub(super) async fn begin_session(
        stream: Stream,
        origin: &NodeName,
        route: Route,
        alone: bool,
    ) -> Result<Self, ApplyError> {
        let mut line = Line::new(stream);
        let Ready { progress, skips_triggers, user } = session::ready(&mut line, origin, alone).await?;
        let stamps = match route.goes_by_time().filter(|_| alone) {
            Some(timed) => stamp::keep_times(&mut line, origin, timed).await?,
            None => None,
        };
        Ok(Self {
            line,
            origin: origin.clone(),
            route,
            skips_triggers,
            user,
            alone,
            confirmed: progress,
            sent: VecDeque::new(),
            commits: 0,
            unflushed: VecDeque::new(),
            durable: None,
            shapes: HashMap::new(),
            repeats: Repeats::default(),
            prepared: HashSet::new(),
            next_id: OWN,
            replica: false,
            stamps,
            open: None,
        })
    }

    /// Where a change goes on this peer, by the rules of now; none if it does not go there.
    pub fn destination(&mut self, head: &Head) -> Option<Arc<Destination>> {
        self.route.of(&head.schema, &head.table)
    }

    /// Whether some of the peer's changes come before their turn.
    pub fn is_atomic(&self) -> bool {
        self.route.is_atomic()
    }

    pub(super) fn route(&mut self) -> &mut Route {
        &mut self.route
    }

    /// How far the peer is for certain; after [`commit`](Self::commit) it may be further.
    pub fn progress(&self) -> Option<Progress> {
        self.confirmed
    }

    pub(super) fn origin(&self) -> &NodeName {
        &self.origin
    }

    /// Begins a target transaction.
    pub fn begin(&mut self, mode: Mode) -> Result<(), ApplyError> {
        if self.open.is_some() {
            return Err(ApplyError::Misuse("a transaction within another"));
        }
        if self.prepared.len() > PREPARED {
            self.forget();
        }
        self.own(BEGIN, &[], &[], Expect::Done);
        self.own(DEFER, &[], &[], Expect::Done);
        if let Some(timeout) = mode.lock_timeout {
            let sql = format!("SET LOCAL lock_timeout = {}", i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
            self.plain(sql.as_bytes());
        }
        if mode.durable {
            self.plain(b"SET LOCAL synchronous_commit = local");
        }
        let encoding = "UTF8".to_owned();
        self.open = Some(Open {
            mode,
            source: None,
            stays: None,
            entry: 0,
            encoding,
            truncating: None,
            copying: false,
            time: None,
            seen: None,
            version: None,
        });
        Ok(())
    }

    /// Begins a source transaction: what is applied from here on belongs to it. When the target transaction commits, the peer
    /// has applied everything up to and with the last one that was begun.
    pub fn source(&mut self, at: Progress) -> Result<(), ApplyError> {
        self.end_of_source()?;
        let open = self.opened()?;
        open.source = Some(at);
        open.entry = 0;
        Ok(())
    }

    /// Whether every source transaction needs a target transaction of its own, as of its own time.
    pub fn keeps_times(&self) -> bool {
        self.stamps.is_some()
    }

    /// When the source transaction was committed: as of then the peer's is, too. And the last of the peer's ticks of which its
    /// node may have seen something by then, where that is known. To be called before its entries.
    pub fn as_of(&mut self, time: Option<CommitTime>, seen: Option<TickId>) -> Result<(), ApplyError> {
        let open = self.opened()?;
        (open.time, open.seen, open.version) = (time, seen, None);
        Ok(())
    }

    /// Only so many pieces of the source transaction are applied by now.
    pub fn part(&mut self, pieces: i32) -> Result<(), ApplyError> {
        if let Some(source) = &mut self.opened()?.source {
            source.part = pieces;
        }
        Ok(())
    }

    /// Whether a COPY's data has not come to its end.
    pub fn is_copying(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.copying)
    }

    /// Applies an entry of the source transaction; `to` is its [`destination`](Self::destination).
    ///
    /// An error may be about an earlier entry.
    ///
    /// # Cancel safety
    /// Neither this nor any other method is cancel-safe, but for [`rollback`](Self::rollback): after a dropped call, that
    /// comes next.
    pub async fn entry(&mut self, to: &Destination, entry: &Entry) -> Result<(), ApplyError> {
        self.line.check()?;
        if self.opened()?.source.is_none() {
            return Err(ApplyError::Misuse("an entry outside of a source transaction"));
        }
        self.triggers(to)?;
        let head = &entry.head;
        if self.opened()?.copying && head.lane != Lane::Copy {
            return Err(self.malformed("a COPY in parts has no end"));
        }
        let images = !matches!(head.lane, Lane::Locked | Lane::Copy) && (head.text.is_none() || !entry.body.is_empty());
        if images || head.op != Op::Truncate {
            self.put_truncates()?;
        }
        match (&head.text, head.lane) {
            _ if images => self.rows(to, entry).await?,
            (Some(text), Lane::Copy) => self.copy(head, text, &entry.body)?,
            (Some(text), _) if head.op == Op::Truncate => self.truncate(to, head, text)?,
            (Some(text), _) if head.op == Op::Ddl => self.ddl(to, head, text).await?,
            (Some(text), _) => self.text(head, text)?,
            (None, _) => return Err(self.malformed("a statement without a text")),
        }
        let open = self.opened()?;
        open.entry = open.entry.saturating_add(1);
        // Within a COPY there is no pause.
        let pauses = !self.is_copying();
        self.line.room(pauses).await?;
        self.count_commits();
        Ok(())
    }

    /// Sends COMMIT, once it is known that everything has changed what it had to. Whether the peer has committed is known a
    /// little later: [`settle`](Self::settle) waits for it, and what goes wrong is an error of what is called next.
    pub async fn commit(&mut self) -> Result<(), ApplyError> {
        self.line.check()?;
        self.end_of_source()?;
        let open = self.open.as_mut().ok_or(ApplyError::Misuse("no transaction is open"))?;
        let at = open.stays.or(open.source).ok_or(ApplyError::Misuse("a commit of nothing"))?;
        let (time, writer) = match open.version.take() {
            Some((time, writer)) => (Some(time), writer),
            None => (open.time, self.origin.to_string()),
        };
        self.stamp(time, &writer);
        self.end(at).await
    }

    /// Finds out whether [`commit`](Self::commit) would succeed, and rolls back.
    pub async fn rehearse(&mut self) -> Result<(), ApplyError> {
        self.line.check()?;
        self.end_of_source()?;
        self.plain(b"SET CONSTRAINTS ALL IMMEDIATE");
        self.line.sync();
        self.line.answered().await?;
        self.rollback().await.map(drop)
    }

    /// Commits what is open, and that the peer is there.
    async fn end(&mut self, at: Progress) -> Result<(), ApplyError> {
        self.note(at);
        if !self.line.is_sure() {
            // The counts must be right before anything is final; meanwhile nothing is left for the peer to do, and it does not
            // wait for ever: whoever changes these rows waits with it (I4).
            self.line.sync();
            self.line.answered().await?;
            self.count_commits();
        }
        self.own(COMMIT, &[], &[], Expect::Commit);
        self.sent.push_back(at);
        self.open = None;
        self.line.nudge().await
    }

    /// Waits until all commits are confirmed.
    pub async fn settle(&mut self) -> Result<Option<Progress>, ApplyError> {
        self.line.check()?;
        self.line.rest();
        self.line.answered().await?;
        self.count_commits();
        Ok(self.confirmed)
    }

    /// Gives up the open transaction, and makes the session ready for the next one. Commits that were sent are confirmed
    /// afterwards, or have failed.
    pub async fn rollback(&mut self) -> Result<Option<Progress>, ApplyError> {
        if self.open.take().is_some_and(|open| open.copying) {
            self.line.copy_fail();
        }
        self.line.recover().await?;
        self.count_commits();
        self.sent.clear();
        if let Some(stamps) = &mut self.stamps {
            stamps.forget();
        }
        // What the peer has prepared of what was sent is not known, and its tables may have changed.
        self.forget();
        if self.replica {
            self.plain(b"SET session_replication_role = origin");
            self.replica = false;
        }
        self.line.sync();
        self.line.answered().await?;
        Ok(self.confirmed)
    }

    /// The newest progress that survives a crash of the peer; to be asked between transactions, and now and then.
    pub async fn flushed(&mut self) -> Result<Option<Progress>, ApplyError> {
        if self.open.is_some() {
            return Err(ApplyError::Misuse("a question within a transaction"));
        }
        let (insert, flush) = session::log_position(&mut self.line).await?;
        self.count_commits();
        // All that is confirmed was in the log before it was asked.
        let noted = self.unflushed.back().map(|(_, progress)| *progress).or(self.durable);
        if let Some(confirmed) = self.confirmed.filter(|confirmed| noted != Some(*confirmed)) {
            self.unflushed.push_back((insert, confirmed));
        }
        while let Some((_, progress)) = self.unflushed.front().filter(|(lsn, _)| *lsn <= flush) {
            self.durable = Some(*progress);
            self.unflushed.pop_front();
        }
        Ok(self.durable)
    }

    /// How far the peer is, for good: what it has of that in its log is on its disk now.
    pub async fn make_durable(&mut self) -> Result<Option<Progress>, ApplyError> {
        if let Some(confirmed) = self.confirmed {
            self.begin(Mode { durable: true, ..Mode::default() })?;
            // Any change will do.
            self.end(confirmed).await?;
            self.settle().await?;
        }
        Ok(self.confirmed)
    }

    /// How far the peer has applied every origin's changes; to be asked between transactions.
    pub async fn origins(&mut self) -> Result<BTreeMap<String, Progress>, ApplyError> {
        if self.open.is_some() {
            return Err(ApplyError::Misuse("a question within a transaction"));
        }
        let origins = session::origins(&mut self.line).await?;
        self.count_commits();
        Ok(origins)
    }

    /// Writes how far the peer will be: from where we know it to be, and from nowhere else.
    fn note(&mut self, at: Progress) {
        let before = self.sent.back().copied().or(self.confirmed);
        let numbers =
            |p: Progress| [p.system, p.timeline.into(), p.tick.0, p.ord.into(), p.part.into()].map(|n| n.to_string());
        let mut values = vec![self.origin.to_string()];
        values.extend(numbers(at));
        values.extend(before.into_iter().flat_map(numbers));
        let params: Vec<Param<'_>> = values.iter().map(|v| Param::text(v)).collect();
        let statement = if before.is_some() { NEXT } else { FIRST };
        let types = PROGRESS.get(..params.len()).unwrap_or_default();
        self.own(statement, types, &params, Expect::Sure);
    }

    /// What the end of a source transaction ends with it.
    pub(super) fn end_of_source(&mut self) -> Result<(), ApplyError> {
        if self.opened()?.copying {
            return Err(self.malformed("a COPY in parts has no end"));
        }
        self.put_truncates()
    }

    pub(super) fn count_commits(&mut self) {
        while self.commits < self.line.commits() {
            self.commits = self.commits.saturating_add(1);
            self.confirmed = self.sent.pop_front().or(self.confirmed);
        }
    }

    pub(super) fn opened(&mut self) -> Result<&mut Open, ApplyError> {
        self.open.as_mut().ok_or(ApplyError::Misuse("no transaction is open"))
    }
}

// === impl Applier: statements ===

impl Applier {
    /// Switches triggers off or on, as the destination has it.
    fn triggers(&mut self, to: &Destination) -> Result<(), ApplyError> {
        let replica = to.triggers == Triggers::Skip;
        if replica == self.replica {
            return Ok(());
        }
        if replica && !self.skips_triggers {
            let message = format!("the rule of {} says triggers = \"skip\", which the role may not do", to.source);
            let mut rejection = Rejection::own("42501", message, self.at(0));
            let user = crate::sql::quote::ident(&self.user, "UTF8");
            let hint = format!("GRANT SET ON PARAMETER session_replication_role TO {user}, as a superuser of the peer");
            rejection.hint = Some(hint);
            return Err(self.line.fail(rejection));
        }
        let role = if replica { "replica" } else { "origin" };
        self.put_truncates()?;
        self.plain(format!("SET session_replication_role = {role}").as_bytes());
        self.replica = replica;
        Ok(())
    }

    /// Tells the peer's own proxies that its tables are others. Not where the transaction is to be prepared: the server would
    /// refuse that.
    pub(super) fn tell(&mut self) {
        if self.alone {
            self.plain(format!("NOTIFY {}", crate::catalog::watch::CHANNEL).as_bytes());
        }
    }

    /// The place of the current entry.
    pub(super) fn at(&self, row: u32) -> Option<At> {
        let open = self.open.as_ref()?;
        let source = open.source?;
        Some(At { tick: TickId(source.tick.0), ord: source.ord, entry: open.entry, row })
    }

    pub(super) fn malformed(&mut self, message: impl Into<String>) -> ApplyError {
        self.malformed_row(0, message)
    }

    pub(super) fn malformed_row(&mut self, row: u32, message: impl Into<String>) -> ApplyError {
        let rejection = Rejection::malformed(message, self.at(row));
        self.line.fail(rejection)
    }

    /// A statement of ours without parameters, that comes once.
    pub(super) fn plain(&mut self, sql: &[u8]) {
        self.line.parse("", sql, &[]);
        let at = self.at(0);
        self.line.execute("", &[], Expect::Done, at);
    }

    /// A statement of ours that comes again and again.
    pub(super) fn own(&mut self, (id, sql): (u32, &str), types: &[u32], params: &[Param<'_>], expect: Expect) {
        let name = format!("p{id}");
        if self.prepared.insert(id) {
            self.line.parse(&name, sql.as_bytes(), types);
        }
        self.line.execute(&name, params, expect, None);
    }

    /// The name of a statement that the peer has prepared, or will have.
    pub(super) fn prepare(&mut self, statement: &Statement) -> Result<String, ApplyError> {
        let name = format!("p{}", statement.id);
        if self.prepared.insert(statement.id) {
            if !statement.sql.is_ascii() {
                self.encode("UTF8")?;
            }
            self.line.parse(&name, statement.sql.as_bytes(), &statement.types);
        }
        Ok(name)
    }

    pub(super) fn mark_prepared(&mut self, id: u32) {
        self.prepared.insert(id);
    }

    pub(super) fn drop_prepared(&mut self, ids: Vec<u32>) {
        for id in ids {
            self.prepared.remove(&id);
            self.line.close(&format!("p{id}"));
        }
    }

    pub(super) fn new_id(&mut self) -> u32 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(OWN);
        self.next_id
    }

    /// Forgets all that is prepared and all that is known of the peer's tables.
    pub(super) fn forget(&mut self) {
        self.plain(b"DEALLOCATE ALL");
        self.prepared.clear();
        self.repeats.clear();
        self.shapes.clear();
    }

    /// What follows is in this encoding: the server converts it by itself (texts, parameters, images and COPY alike).
    pub(super) fn encode(&mut self, encoding: &str) -> Result<(), ApplyError> {
        let open = self.opened()?;
        if open.encoding != encoding {
            open.encoding = encoding.to_owned();
            self.plain(format!("SET LOCAL client_encoding = {}", crate::sql::quote::literal(encoding)).as_bytes());
        }
        Ok(())
    }
}
