//! From the journal onto one peer: source transactions are put together into target transactions, and taken apart again where
//! the peer objects.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep};

use crate::apply::{Applier, ApplyError, Mode};
use crate::config::NodeName;
use crate::journal::entry::Op;
use crate::journal::ticker::State as Ticks;
use crate::journal::{Item, Progress, Reader, TickId, Xid};

use super::ahead::{Ahead, Read};
use super::early::resolve;
use super::store::{Place, Store, WHOLE};
use super::{ForwardError, YIELD};

/// Source transactions in one target transaction, at most, and bytes of their rows.
const GROUP: (usize, usize) = (64, 1 << 20);

/// How long several of them wait for a lock: whoever holds it may wait for one of theirs, and one alone would not be in the way.
const TOGETHER: Duration = Duration::from_millis(20);

/// How long changes wait for those of other nodes that they may hang on, and how often is looked for them.
const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// How often is looked for those that are not waited for any more.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Course {
    pub(super) applier: Applier,
    ahead: Ahead,
    /// Everything up to here the peer has.
    at: Place,
    /// The tick that is being applied: its number, and whose it is.
    tick: (TickId, i64, i32),
    /// How far this node had the peer's own changes at that tick.
    seen: Option<TickId>,
    group: Group,
    /// Source transactions in one target transaction at the moment: fewer where they get into the way of clients.
    most: usize,
    /// The peer's name, and how far it had the others' changes when it was asked last.
    peer: String,
    origins: BTreeMap<String, Progress>,
    /// Whose changes are not waited for any more, and when was looked for them last.
    given_up: HashSet<String>,
    looked: Instant,
    /// What the tick at hand waits for.
    awaited: Option<Awaited>,
    /// What the peer has already of what is to come.
    early: HashSet<Xid>,
    /// The transaction at hand is one of these.
    passing: Option<Xid>,
    /// Up to this place every source transaction is applied alone.
    careful: Option<(Place, Mode)>,
    /// Transactions that were applied, and those that were tried again.
    pub(super) transactions: u64,
    pub(super) retries: u64,
}

/// Changes of other nodes that have to be there first, and since when they are waited for.
struct Awaited {
    deps: BTreeMap<String, Progress>,
    since: Instant,
}

/// The open target transaction.
#[derive(Default)]
struct Group {
    open: bool,
    transactions: usize,
    bytes: usize,
    /// The place within the tick of the source transaction at hand, and whether it changes tables themselves.
    ord: i32,
    barrier: bool,
}

impl Course {
    /// `at` is what the peer has, through its queue.
    pub(super) async fn begin(
        applier: Applier,
        reader: Reader,
        ticks: watch::Receiver<Ticks>,
        peer: &NodeName,
        at: Place,
        early: HashSet<Xid>,
    ) -> Result<Self, ForwardError> {
        let (first, _) = reader.range().await?.unwrap_or((TickId(1), TickId(0)));
        let (next, _) = next(at);
        match applier.progress() {
            None if next < first => return Err(ForwardError::Unsynced(first)),
            Some(_) if next < first => return Err(ForwardError::TooOld(at.0)),
            _ => {}
        }
        let (ahead, tick, group) = (Ahead::start(reader, ticks, at), (TickId(0), 0, 0), Group::default());
        let (peer, origins) = (peer.to_string(), BTreeMap::new());
        Ok(Self {
            applier,
            ahead,
            at,
            tick,
            seen: None,
            group,
            most: GROUP.0,
            peer,
            origins,
            given_up: HashSet::new(),
            looked: Instant::now(),
            awaited: None,
            early,
            passing: None,
            careful: None,
            transactions: 0,
            retries: 0,
        })
    }

    pub(super) fn at(&self) -> Place {
        self.at
    }

    /// What the peer would keep through a crash.
    pub(super) async fn durable(&mut self) -> Result<Option<Progress>, ForwardError> {
        Ok(self.applier.flushed().await?)
    }

    pub(super) fn into_applier(self) -> Applier {
        self.applier
    }

    /// What comes next; to be given to [`apply`](Self::apply).
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<(Read, Option<OwnedSemaphorePermit>), ForwardError> {
        Ok(self.ahead.next().await?)
    }

    /// Applies it, and what comes behind it until a target transaction is through, or has failed and will be tried again;
    /// nothing is open then, nor after an error of the applier's.
    pub(super) async fn apply(&mut self, read: Read, store: &Store) -> Result<(), ForwardError> {
        let mut read = read;
        loop {
            match self.step(read, store).await {
                Ok(()) if !self.group.open => return Ok(()),
                Ok(()) => read = self.ahead.next().await?.0,
                Err(ForwardError::Apply(error)) => {
                    self.step_back(error).await?;
                    self.ahead.seek(self.at);
                    self.group = Group::default();
                    self.passing = None;
                    return Ok(());
                }
                Err(other) => return Err(other),
            }
        }
    }

    async fn step(&mut self, read: Read, store: &Store) -> Result<(), ForwardError> {
        match read {
            Read::Tick(tick) => {
                if let Some(at) = self.applier.progress()
                    && at.tick == tick.id
                    && (at.system, at.timeline) != (tick.system, tick.timeline)
                {
                    return Err(ForwardError::OtherLife(at.tick, at.timeline));
                }
                self.tick = (tick.id, tick.system, tick.timeline);
                self.seen = tick.deps.get(&self.peer).map(|progress| progress.tick);
                self.begin_tick(tick.deps, store).await?;
            }
            Read::Item(Item::TxBegin { ord, xid, time, .. }) => {
                let (tick, system, timeline) = self.tick;
                self.passing = Some(xid).filter(|xid| self.early.contains(xid));
                if self.passing.is_some() {
                    self.commit().await?;
                }
                if !self.group.open {
                    self.applier.begin(self.mode((tick, ord)))?;
                    self.group = Group { open: true, ..Group::default() };
                }
                self.group.ord = ord;
                self.applier.source(Progress { system, timeline, tick, ord, part: 0 })?;
                self.applier.as_of(time, self.seen)?;
                if let Some(xid) = self.passing {
                    self.applier.in_turn(xid);
                }
            }
            Read::Item(Item::Entry(_)) if self.passing.is_some() => {}
            Read::Item(Item::Entry(entry)) => {
                self.group.bytes = self.group.bytes.saturating_add(entry.body.len());
                if let Some(to) = self.applier.destination(&entry.head) {
                    if entry.head.op == Op::Ddl && self.group.transactions > 0 {
                        return self.alone_again().await;
                    }
                    self.group.barrier |= entry.head.op == Op::Ddl;
                    self.applier.entry(&to, &entry).await?;
                }
            }
            Read::Item(Item::TxEnd) => {
                self.group.transactions = self.group.transactions.saturating_add(1);
                let Group { transactions, bytes, barrier, .. } = self.group;
                let passed = self.passing.take();
                if passed.is_some()
                    || barrier
                    || self.careful.is_some()
                    || self.applier.keeps_times()
                    || transactions >= self.most
                    || bytes >= GROUP.1
                {
                    self.commit().await?;
                }
            }
            Read::Item(Item::Forged { .. }) => {}
            Read::End(tick) => {
                // Nobody waits for what could come.
                if self.ahead.is_empty() {
                    self.commit().await?;
                    self.applier.settle().await?;
                    self.confirm();
                    self.at = self.at.max((tick, WHOLE));
                }
            }
        }
        Ok(())
    }

    /// Looks at what the peer has before its turn; to be called between target transactions.
    pub(super) async fn resolve(&mut self, store: &Store) -> Result<(), ForwardError> {
        self.applier.settle().await?;
        self.confirm();
        self.early = resolve(&mut self.applier, store).await?;
        Ok(())
    }

    /// An update must not come before the insert that it saw: where the peer lacks something that this node had of others, the
    /// tick waits for it (§5).
    async fn begin_tick(&mut self, deps: BTreeMap<String, Progress>, store: &Store) -> Result<(), ForwardError> {
        let again = !self.given_up.is_empty() && self.looked.elapsed() >= LOOK_AGAIN;
        if again || self.waits_for(&deps).is_some() {
            self.awaited = Some(Awaited { deps, since: Instant::now() });
            return self.look(store).await;
        }
        self.settled_before(store).await
    }

    /// Looks whether what is waited for has come; to be called every [`LOOK`] until it has, and nothing else meanwhile.
    pub(super) async fn look(&mut self, store: &Store) -> Result<(), ForwardError> {
        let Some(Awaited { deps, since }) = self.awaited.take() else { return Ok(()) };
        self.look_for(&deps).await?;
        while let Some(origin) = self.waits_for(&deps) {
            if since.elapsed() < PATIENCE {
                self.awaited = Some(Awaited { deps, since });
                return Ok(());
            }
            tracing::warn!(
                peer = self.peer,
                origin,
                "changes go on without those of the other node that they may hang on"
            );
            self.given_up.insert(origin);
        }
        self.settled_before(store).await
    }

    /// Whose changes are waited for, and since when.
    pub(super) fn awaits(&self) -> Option<(String, Instant)> {
        let Awaited { deps, since } = self.awaited.as_ref()?;
        Some((self.waits_for(deps)?, *since))
    }

    /// What of the tick was prepared is committed by now.
    async fn settled_before(&mut self, store: &Store) -> Result<(), ForwardError> {
        if self.applier.is_atomic() {
            self.commit().await?;
            self.resolve(store).await?;
        }
        Ok(())
    }

    fn waits_for(&self, deps: &BTreeMap<String, Progress>) -> Option<String> {
        missing(deps, &self.origins, &self.peer).find(|origin| !self.given_up.contains(*origin)).cloned()
    }

    /// Asks the peer how far it has others' changes.
    async fn look_for(&mut self, deps: &BTreeMap<String, Progress>) -> Result<(), ForwardError> {
        self.commit().await?;
        self.applier.settle().await?;
        self.confirm();
        self.origins = self.applier.origins().await?;
        self.looked = Instant::now();
        self.given_up.retain(|origin| missing(deps, &self.origins, &self.peer).any(|missing| missing == origin));
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), ForwardError> {
        if self.group.open {
            self.applier.commit().await?;
            self.group.open = false;
            self.most = self.most.saturating_add(1).min(GROUP.0);
            self.transactions = self.transactions.saturating_add(u64::try_from(self.group.transactions).unwrap_or(0));
        }
        self.confirm();
        Ok(())
    }

    /// DDL goes with nothing that came before it (§9): what is open is rolled back, and comes again one by one.
    async fn alone_again(&mut self) -> Result<(), ForwardError> {
        let place = (self.tick.0, self.group.ord);
        self.applier.rollback().await?;
        self.confirm();
        self.careful = Some((place, Mode::default()));
        self.ahead.seek(self.at);
        self.group = Group::default();
        self.passing = None;
        Ok(())
    }

    /// What failed is rolled back; how it is tried again, if it is.
    async fn step_back(&mut self, error: ApplyError) -> Result<(), ForwardError> {
        let (retry, unable) = (matches!(error, ApplyError::Retry(_)), matches!(error, ApplyError::Unable(_)));
        // What it lacks it may have enough of for less.
        let less = unable && self.most > 1;
        if retry || unable {
            self.most = (self.most / 4).max(1);
        }
        let (ApplyError::Rejected(rejection) | ApplyError::Retry(rejection) | ApplyError::Unable(rejection)) = &error
        else {
            return Err(error.into());
        };
        let failed = rejection.at.map(|at| (at.tick, at.ord));
        self.applier.rollback().await?;
        self.confirm();
        self.retries = self.retries.saturating_add(1);
        let Some(failed) = failed else {
            sleep(YIELD).await;
            return if retry || less { Ok(()) } else { Err(error.into()) };
        };
        let before = self.careful.filter(|(to, _)| *to == failed).map(|(_, mode)| mode);
        let mode = match before {
            // By itself first.
            None => Mode::default(),
            Some(mode) if retry => mode,
            Some(mode) if !unable && !mode.row_by_row => Mode { row_by_row: true, ..mode },
            Some(_) => return Err(error.into()),
        };
        if retry {
            sleep(YIELD).await;
        }
        self.careful = Some((failed, mode));
        Ok(())
    }

    fn mode(&self, here: Place) -> Mode {
        let lock_timeout = (self.most > 1 && !self.applier.keeps_times()).then_some(TOGETHER);
        let together = Mode { lock_timeout, ..Mode::default() };
        self.careful.filter(|(place, _)| *place == here).map_or(together, |(_, mode)| mode)
    }

    /// Takes note of what the peer has confirmed; care ends behind the place that needed it.
    fn confirm(&mut self) {
        let Some(at) = self.applier.progress() else { return };
        self.at = self.at.max((at.tick, at.ord));
        if self.careful.is_some_and(|(place, _)| place <= self.at) {
            self.careful = None;
        }
    }
}

/// The other nodes whose changes a peer does not have that it has to have first.
pub(super) fn missing<'a>(
    deps: &'a BTreeMap<String, Progress>,
    known: &'a BTreeMap<String, Progress>,
    peer: &'a str,
) -> impl Iterator<Item = &'a String> {
    let reached = |known: Option<&Progress>, wanted: &Progress| {
        known.is_some_and(|known| {
            (known.tick, known.ord) >= (wanted.tick, wanted.ord)
                // After a failover numbers mean something else; what was before is there or is lost.
                || (known.system, known.timeline) != (wanted.system, wanted.timeline)
        })
    };
    deps.iter()
        .filter(move |(origin, wanted)| *origin != peer && !reached(known.get(*origin), wanted))
        .map(|(origin, _)| origin)
}

/// The tick that comes behind a place, and which of its transactions are passed over.
pub(super) fn next((tick, ord): Place) -> (TickId, i32) {
    if ord == WHOLE { (TickId(tick.0.saturating_add(1)), 0) } else { (tick, ord) }
}
