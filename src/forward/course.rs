//! From the journal onto one peer: source transactions are put together into target transactions, and taken apart again where
//! the peer objects.

use std::time::Duration;

use tokio::time::sleep;

use crate::apply::{Applier, ApplyError, Mode};
use crate::journal::{Item, Progress, Reader, TickId};

use super::ForwardError;
use super::store::{Place, WHOLE};

/// Source transactions in one target transaction, and bytes of their rows.
const GROUP: (usize, usize) = (64, 1 << 20);

/// After a lock was not to be had.
const YIELD: Duration = Duration::from_millis(20);

pub(super) struct Course {
    pub(super) applier: Applier,
    reader: Reader,
    /// Everything up to here the peer has.
    at: Place,
    /// Up to this place every source transaction is applied alone.
    careful: Option<(Place, Mode)>,
    /// Transactions that were applied, and those that were tried again.
    pub(super) transactions: u64,
    pub(super) retries: u64,
}

impl Course {
    /// `at` is what the peer has, through its queue.
    pub(super) async fn begin(applier: Applier, reader: Reader, at: Place) -> Result<Self, ForwardError> {
        let (first, _) = reader.range().await?.unwrap_or((TickId(1), TickId(0)));
        let (next, _) = next(at);
        match applier.progress() {
            None if next < first => Err(ForwardError::Unsynced(first)),
            Some(_) if next < first => Err(ForwardError::TooOld(at.0)),
            _ => Ok(Self { applier, reader, at, careful: None, transactions: 0, retries: 0 }),
        }
    }

    pub(super) fn at(&self) -> Place {
        self.at
    }

    /// The tick that has to be there before there is anything to do.
    pub(super) fn next_tick(&self) -> TickId {
        next(self.at).0
    }

    /// What the peer would keep through a crash.
    pub(super) async fn durable(&mut self) -> Result<Option<Progress>, ForwardError> {
        Ok(self.applier.flushed().await?)
    }

    pub(super) fn into_applier(self) -> Applier {
        self.applier
    }

    /// Applies everything up to a tick; after an error of the applier's nothing is open.
    pub(super) async fn run_to(&mut self, latest: TickId, mut tell: impl FnMut(&Self)) -> Result<(), ForwardError> {
        loop {
            match self.attempt(latest, &mut tell).await {
                Ok(()) => {
                    tell(self);
                    return Ok(());
                }
                Err(ForwardError::Apply(error)) => self.step_back(error).await?,
                Err(other) => return Err(other),
            }
        }
    }

    /// What failed is rolled back; how it is tried again, if it is.
    async fn step_back(&mut self, error: ApplyError) -> Result<(), ForwardError> {
        let retry = matches!(error, ApplyError::Retry(_));
        let (ApplyError::Rejected(rejection) | ApplyError::Retry(rejection)) = &error else { return Err(error.into()) };
        let failed = rejection.at.map(|at| (at.tick, at.ord));
        self.applier.rollback().await?;
        self.confirm();
        self.reader.close().await?;
        self.retries = self.retries.saturating_add(1);
        let Some(failed) = failed else {
            sleep(YIELD).await;
            return if retry { Ok(()) } else { Err(error.into()) };
        };
        let before = self.careful.filter(|(to, _)| *to == failed).map(|(_, mode)| mode);
        let mode = match before {
            // By itself first.
            None => Mode::default(),
            Some(mode) if retry => mode,
            Some(mode) if !mode.row_by_row => Mode { row_by_row: true, ..mode },
            Some(_) => return Err(error.into()),
        };
        if retry {
            sleep(YIELD).await;
        }
        self.careful = Some((failed, mode));
        Ok(())
    }

    /// Applies tick by tick until it is through, or something fails.
    async fn attempt(&mut self, latest: TickId, tell: &mut impl FnMut(&Self)) -> Result<(), ForwardError> {
        let (mut id, mut after) = next(self.at);
        let mut group = (0_usize, 0_usize);
        let mut open = false;
        while id <= latest {
            let tick = self.reader.open(id, after).await?;
            if let Some(at) = self.applier.progress()
                && at.tick == id
                && (at.system, at.timeline) != (tick.system, tick.timeline)
            {
                return Err(ForwardError::OtherLife(at.tick, at.timeline));
            }
            after = 0;
            while let Some(item) = self.reader.next().await? {
                match item {
                    Item::TxBegin { ord, .. } => {
                        let here = Progress { system: tick.system, timeline: tick.timeline, tick: id, ord, part: 0 };
                        if !open {
                            self.applier.begin(self.mode((id, ord)))?;
                            (open, group) = (true, (0, 0));
                        }
                        self.applier.source(here)?;
                    }
                    Item::Entry(entry) => {
                        group.1 = group.1.saturating_add(entry.body.len());
                        if let Some(to) = self.applier.destination(&entry.head) {
                            self.applier.entry(&to, &entry).await?;
                        }
                    }
                    Item::TxEnd => {
                        self.transactions = self.transactions.saturating_add(1);
                        group.0 = group.0.saturating_add(1);
                        if self.careful.is_some() || group.0 >= GROUP.0 || group.1 >= GROUP.1 {
                            self.applier.commit().await?;
                            open = false;
                            self.confirm();
                            tell(self);
                        }
                    }
                    Item::Forged { .. } => {}
                }
            }
            id = TickId(id.0.saturating_add(1));
        }
        if open {
            self.applier.commit().await?;
        }
        self.applier.settle().await?;
        self.confirm();
        self.at = self.at.max((latest, WHOLE));
        Ok(())
    }

    fn mode(&self, here: Place) -> Mode {
        self.careful.filter(|(place, _)| *place == here).map(|(_, mode)| mode).unwrap_or_default()
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

/// The tick that comes behind a place, and which of its transactions are passed over.
pub(super) fn next((tick, ord): Place) -> (TickId, i32) {
    if ord == WHOLE { (TickId(tick.0.saturating_add(1)), 0) } else { (tick, ord) }
}
