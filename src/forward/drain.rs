//! From the queue onto the peer, in order; a piece leaves the queue only when the peer has it for good (§6.1).

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::apply::{Applier, ApplyError, At, Mode, Rejection};
use crate::config::OnError;
use crate::journal::entry::{Head, Lane, Op};
use crate::journal::{Entry, Progress, Xid};

use super::park::Parked;
use super::store::{Place, Store, Waiting};
use super::{ForwardError, YIELD};

/// How long locks are waited for before the queue counts as stuck.
const LOCKED: Duration = Duration::from_secs(10);

/// A piece that the peer rejects, and what it says.
#[derive(Clone, Debug, thiserror::Error)]
#[error("number {id} in the queue: {why}")]
pub(super) struct Stuck {
    pub(super) id: i64,
    pub(super) why: Rejection,
}

/// How much of the queue is wanted.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// Whole transactions, as many as are fetched at a time.
    Some,
    /// Up to a place, which is left.
    Before(Place),
    /// One transaction, with care.
    One(Mode),
    /// So many pieces, whatever they are of.
    Pieces(i64, Mode),
}

/// What was put into a target transaction.
#[derive(Default)]
struct Taken {
    ids: Vec<i64>,
    /// They have to wait for parked ones.
    behind: Vec<i64>,
    /// In the order in which they were applied.
    entries: Vec<Applied>,
    transactions: usize,
    last: Option<(Place, i32)>,
    /// Each in a transaction of its own, of which the peer may have the first when another one fails.
    one_by_one: bool,
    /// Of the last transaction something is left.
    cut: bool,
    /// The last transaction is one that the peer has already.
    passing: Option<Xid>,
    /// Of the last transaction nothing is applied yet.
    fresh: bool,
    /// The last transaction changes tables themselves: nothing goes with it.
    barrier: bool,
}

/// An entry that was applied.
struct Applied {
    place: Place,
    /// Its number, as the applier counts.
    nr: u32,
    pieces: Vec<i64>,
    on_error: OnError,
}

/// An entry that may get more pieces.
struct Building {
    place: Place,
    nr: i32,
    head: Head,
    body: Vec<u8>,
    ids: Vec<i64>,
}

pub(super) struct Drain<'a> {
    pub(super) store: &'a Store,
    pub(super) parked: &'a mut Parked,
    /// What the peer has already.
    pub(super) early: &'a HashSet<Xid>,
    /// Up to here nothing waits but what is parked: what was deleted there is not waded through again and again.
    pub(super) gone: &'a mut Option<(Place, i32)>,
    pub(super) applier: &'a mut Applier,
    /// This cluster: system and timeline.
    pub(super) identity: (i64, i32),
    /// Nothing of it stays, on either side.
    pub(super) dry: bool,
}

impl Drain<'_> {
    /// Applies some of the queue: how many pieces, or which one is in the way. None are left when none were applied.
    pub(super) async fn some(&mut self) -> Result<Result<u64, Stuck>, ForwardError> {
        let mut wanted = Wanted::Some;
        let until = Instant::now() + LOCKED;
        loop {
            let (error, taken) = match self.attempt(wanted).await? {
                Ok(applied) => return Ok(Ok(applied)),
                Err(failed) => failed,
            };
            let (ApplyError::Rejected(why) | ApplyError::Retry(why) | ApplyError::Unable(why)) = &error else {
                return Err(error.into());
            };
            let place = why.at.map(|at| (at.tick, at.ord));
            let first = taken.entries.first().map(|applied| applied.place);
            if matches!(error, ApplyError::Retry(_)) {
                if Instant::now() > until {
                    return taken.stuck(why).map(Err).ok_or_else(|| error.into());
                }
                sleep(YIELD).await;
            }
            wanted = match (wanted, place) {
                // What stands before it can be applied without it, or has been.
                (Wanted::Some, Some(place)) if first.is_some_and(|first| first < place) && !taken.one_by_one => {
                    Wanted::Before(place)
                }
                (Wanted::Some, _) => Wanted::One(Mode::default()),
                (Wanted::One(mode), _) if matches!(error, ApplyError::Retry(_)) => Wanted::One(mode),
                // Nothing is wrong with the piece, whatever its rule says of those that are rejected.
                (Wanted::One(_), _) if matches!(error, ApplyError::Unable(_)) => {
                    self.note(&taken, why).await?;
                    return Err(error.into());
                }
                (Wanted::One(mode), _) if !mode.row_by_row => Wanted::One(Mode { row_by_row: true, ..mode }),
                (Wanted::Before(_), _) => Wanted::One(Mode::default()),
                (Wanted::One(mode) | Wanted::Pieces(_, mode), _) => match taken.blame(why) {
                    None => return Err(error.into()),
                    Some((id, OnError::Discard)) => {
                        self.store.discard(id, why).await?;
                        Wanted::One(mode)
                    }
                    Some((id, OnError::Park)) => {
                        let entry = self.store.park_rejected(id, why).await?;
                        self.parked.touched.add(&entry)?;
                        Wanted::One(mode)
                    }
                    Some((id, OnError::Stall)) => {
                        self.store.mark(id, why).await?;
                        return Ok(Err(Stuck { id, why: (**why).clone() }));
                    }
                },
            };
        }
    }

    /// Applies so many pieces, or none; where each transaction is as of its own time, one transaction by another.
    pub(super) async fn pieces(&mut self, most: i64) -> Result<Result<u64, Stuck>, ForwardError> {
        let (mut mode, until) = (Mode::default(), Instant::now() + LOCKED);
        let mut done: u64 = 0;
        loop {
            let left = most.saturating_sub(i64::try_from(done).unwrap_or(i64::MAX));
            match self.attempt(Wanted::Pieces(left, mode)).await? {
                Ok(applied) => {
                    done = done.saturating_add(applied);
                    if applied == 0 || self.dry || !self.applier.keeps_times() {
                        return Ok(Ok(done));
                    }
                }
                Err((ApplyError::Rejected(_), _)) if !mode.row_by_row => mode.row_by_row = true,
                Err((ApplyError::Retry(_), _)) if Instant::now() < until => sleep(YIELD).await,
                Err((error, taken)) => {
                    let (ApplyError::Rejected(why) | ApplyError::Retry(why) | ApplyError::Unable(why)) = &error else {
                        return Err(error.into());
                    };
                    let Some(stuck) = self.note(&taken, why).await? else { return Err(error.into()) };
                    return if matches!(error, ApplyError::Unable(_)) { Err(error.into()) } else { Ok(Err(stuck)) };
                }
            }
        }
    }

    /// Notes in the queue what a failure was about, if that can be told.
    async fn note(&self, taken: &Taken, why: &Rejection) -> Result<Option<Stuck>, ForwardError> {
        let stuck = taken.stuck(why);
        if let Some(stuck) = stuck.as_ref().filter(|_| !self.dry) {
            self.store.mark(stuck.id, why).await?;
        }
        Ok(stuck)
    }

    /// One target transaction, or one by one where each has a time of its own; what failed is rolled back.
    async fn attempt(&mut self, wanted: Wanted) -> Result<Result<u64, (ApplyError, Taken)>, ForwardError> {
        let mut aside: u64 = 0;
        loop {
            self.store.begin().await?;
            let mut taken = Taken::default();
            let filled = self.fill(wanted, &mut taken).await;
            // Pieces that have to wait for parked ones are parked first, and the rest is taken anew: of a transaction that the
            // peer says it has nothing but parked pieces is kept.
            let aside_first = !taken.behind.is_empty() && !self.dry;
            let done = match filled {
                Ok(()) if !aside_first && taken.transactions > 0 => self.end(&taken).await,
                filled => filled,
            };
            match done {
                Ok(()) if self.dry => {
                    self.store.rollback().await?;
                    return Ok(Ok(taken.pieces()));
                }
                Ok(()) if aside_first => {
                    self.applier.rollback().await?;
                    self.store.park(&taken.behind).await?;
                    self.store.commit().await?;
                    aside = aside.saturating_add(u64::try_from(taken.behind.len()).unwrap_or(u64::MAX));
                }
                Ok(()) => {
                    if let Some(progress) = self.applier.progress() {
                        self.store.has(progress).await?;
                    }
                    self.store.commit().await?;
                    *self.gone = taken.last;
                    return Ok(Ok(taken.pieces().saturating_add(aside)));
                }
                Err(ForwardError::Apply(
                    error @ (ApplyError::Rejected(_) | ApplyError::Retry(_) | ApplyError::Unable(_)),
                )) => {
                    self.store.rollback().await?;
                    let has = self.applier.rollback().await?;
                    if let Some(has) = has.filter(|_| taken.one_by_one) {
                        self.store.settle(&has).await?;
                    }
                    return Ok(Err((error, taken)));
                }
                Err(other) => return Err(other),
            }
        }
    }

    async fn fill(&mut self, wanted: Wanted, taken: &mut Taken) -> Result<(), ForwardError> {
        let simple = !self.dry && self.parked.touched.is_empty() && matches!(wanted, Wanted::Some);
        taken.one_by_one = simple && self.applier.keeps_times();
        let mut building: Option<Building> = None;
        loop {
            let most = match wanted {
                Wanted::Pieces(most, _) => most.saturating_sub(i64::try_from(taken.ids.len()).unwrap_or(i64::MAX)),
                _ => i64::MAX,
            };
            if most <= 0 {
                self.put(&mut building, taken).await?;
            }
            // A COPY in several pieces cannot be cut.
            let most = if most <= 0 && self.applier.is_copying() { 1 } else { most };
            if most <= 0 {
                break;
            }
            let upto = taken.last.filter(|_| matches!(wanted, Wanted::Some)).map(|(place, _)| place);
            let chunk = self.store.next(taken.last.or(*self.gone), upto, most).await?;
            if chunk.is_empty() {
                break;
            }
            for piece in chunk {
                if taken.last.is_none_or(|(place, _)| place != piece.place) {
                    let alone = self.applier.keeps_times() && !taken.one_by_one;
                    if taken.is_enough(wanted, piece.place) || taken.transactions > 0 && alone {
                        return self.finish(taken, building).await;
                    }
                    self.put(&mut building, taken).await?;
                    self.passed(taken);
                    taken.fresh = true;
                }
                self.take(piece, &mut building, taken, wanted).await?;
            }
        }
        if let Some(last) = taken.last.filter(|_| matches!(wanted, Wanted::Pieces(..))) {
            taken.cut = self.store.next(Some(last), None, 1).await?.first().is_some_and(|next| next.place == last.0);
        }
        self.finish(taken, building).await
    }

    async fn source(&mut self, taken: &mut Taken, piece: &Waiting, mode: Mode) -> Result<(), ForwardError> {
        if taken.one_by_one {
            if taken.transactions > 0 {
                self.applier.commit().await?;
            }
            self.applier.begin(mode)?;
        } else if taken.transactions == 0 {
            self.applier.begin(Mode { durable: true, ..mode })?;
        }
        taken.transactions = taken.transactions.saturating_add(1);
        let ((system, timeline), (tick, ord)) = (self.identity, piece.place);
        self.applier.source(Progress { system, timeline, tick, ord, part: 0 })?;
        Ok(self.applier.as_of(piece.time, piece.seen)?)
    }

    async fn take(
        &mut self,
        mut piece: Waiting,
        building: &mut Option<Building>,
        taken: &mut Taken,
        wanted: Wanted,
    ) -> Result<(), ForwardError> {
        let mode = wanted.mode();
        let entry = piece.take_entry()?;
        taken.last = Some((piece.place, piece.seq));
        if self.early.contains(&piece.xid) {
            self.put(building, taken).await?;
            if std::mem::take(&mut taken.fresh) {
                self.source(taken, &piece, mode).await?;
            }
            taken.passing = Some(piece.xid);
            taken.ids.push(piece.id);
            return Ok(());
        }
        if self.parked.touched.by(&entry)? {
            self.parked.touched.add(&entry)?;
            taken.behind.push(piece.id);
            return Ok(());
        }
        if std::mem::take(&mut taken.fresh) {
            self.source(taken, &piece, mode).await?;
        }
        taken.ids.push(piece.id);
        if let Some(open) = building
            && (open.place, open.nr) == (piece.place, piece.nr)
            && open.add(piece.id, &entry)
        {
            return Ok(());
        }
        self.put(building, taken).await?;
        if entry.head.op == Op::Ddl && !matches!(wanted, Wanted::Pieces(..)) {
            if taken.transactions > 1 {
                return Err(apart(piece.place).into());
            }
            taken.barrier = true;
        }
        let Entry { head, body } = entry;
        *building = Some(Building { place: piece.place, nr: piece.nr, head, body: body.into(), ids: vec![piece.id] });
        Ok(())
    }

    /// Applies the entry that was being put together.
    async fn put(&mut self, building: &mut Option<Building>, taken: &mut Taken) -> Result<(), ForwardError> {
        let Some(Building { place, head, body, ids, .. }) = building.take() else { return Ok(()) };
        let entry = Entry { head, body: body.into() };
        let nr = taken.entries.iter().rev().take_while(|before| before.place == place).count();
        let Some(to) = self.applier.destination(&entry.head) else { return Ok(()) };
        let nr = u32::try_from(nr).unwrap_or(u32::MAX);
        taken.entries.push(Applied { place, nr, pieces: ids, on_error: to.on_error });
        Ok(self.applier.entry(&to, &entry).await?)
    }

    /// A transaction that the peer has already is through.
    fn passed(&mut self, taken: &mut Taken) {
        if let Some(xid) = taken.passing.take() {
            self.applier.in_turn(xid);
        }
    }

    async fn finish(&mut self, taken: &mut Taken, mut building: Option<Building>) -> Result<(), ForwardError> {
        self.put(&mut building, taken).await?;
        let Some((_, seq)) = taken.last.filter(|_| taken.transactions > 0) else { return Ok(()) };
        if !taken.cut {
            self.passed(taken);
        } else if !taken.fresh {
            self.applier.part(seq.saturating_add(1))?;
        }
        Ok(())
    }

    /// Has the peer commit what was taken, or find out that it could; its pieces are removed from the queue meanwhile, for good
    /// when this transaction is committed, too.
    async fn end(&mut self, taken: &Taken) -> Result<(), ForwardError> {
        let (removed, applied) = tokio::join!(self.store.remove(&taken.ids), self.conclude());
        applied?;
        removed?;
        if taken.one_by_one {
            self.applier.make_durable().await?;
        }
        Ok(())
    }

    /// Has the peer commit what is open, or find out that it could.
    pub(super) async fn conclude(&mut self) -> Result<(), ForwardError> {
        if self.dry {
            return Ok(self.applier.rehearse().await?);
        }
        self.applier.commit().await?;
        self.applier.settle().await?;
        Ok(())
    }
}

impl Wanted {
    fn mode(self) -> Mode {
        match self {
            Self::One(mode) | Self::Pieces(_, mode) => mode,
            Self::Some | Self::Before(_) => Mode::default(),
        }
    }
}

/// What was put together has to be taken apart before this place: DDL goes with nothing that came before it (§9).
fn apart((tick, ord): Place) -> ApplyError {
    let at = Some(At { tick, ord, entry: 0, row: 0 });
    let (sqlstate, message) = ("40001".to_owned(), "DDL is applied by itself".to_owned());
    ApplyError::Retry(Box::new(Rejection { sqlstate, message, detail: None, hint: None, at }))
}

impl Building {
    /// Takes another piece of the same entry, where both are rows: what the operator has put in the place of one is not.
    fn add(&mut self, id: i64, piece: &Entry) -> bool {
        let rows = self.head.lane == Lane::Row && piece.head.lane == Lane::Row;
        if rows {
            self.head.rows = self.head.rows.zip(piece.head.rows).map(|(a, b)| a.saturating_add(b));
            self.body.extend_from_slice(&piece.body);
            self.ids.push(id);
        }
        rows
    }
}

impl Taken {
    fn stuck(&self, why: &Rejection) -> Option<Stuck> {
        self.blame(why).map(|(id, _)| Stuck { id, why: why.clone() })
    }

    fn pieces(&self) -> u64 {
        u64::try_from(self.ids.len().saturating_add(self.behind.len())).unwrap_or(u64::MAX)
    }

    /// The piece that a failure is about, and what its rule says about failures.
    fn blame(&self, why: &Rejection) -> Option<(i64, OnError)> {
        let Some(At { tick, ord, entry, row }) = why.at else {
            return self.entries.first().and_then(|first| Some((*first.pieces.first()?, OnError::Stall)));
        };
        let about = self.entries.iter().find(|applied| (applied.place, applied.nr) == ((tick, ord), entry))?;
        let row = usize::try_from(row).ok()?;
        Some((*about.pieces.get(row).or(about.pieces.first())?, about.on_error))
    }

    /// Whether a transaction at this place is left for the next time.
    fn is_enough(&self, wanted: Wanted, next: Place) -> bool {
        match wanted {
            Wanted::Some | Wanted::Before(_) if self.barrier => true,
            Wanted::Before(place) => next >= place,
            Wanted::One(_) => self.transactions > 0,
            Wanted::Some | Wanted::Pieces(..) => false,
        }
    }
}
