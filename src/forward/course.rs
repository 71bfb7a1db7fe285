//! From the journal onto one peer: source transactions are put together into target transactions, and taken apart again where
//! the peer objects.

use std::time::Duration;

use tokio::time::sleep;

use crate::apply::{Applier, ApplyError, Mode};
use crate::journal::{Item, Progress, Reader, TickId};

use super::ForwardError;

/// Source transactions in one target transaction, and bytes of their rows.
const GROUP: (usize, usize) = (64, 1 << 20);

/// After a lock was not to be had.
const YIELD: Duration = Duration::from_millis(20);

pub(super) struct Course {
    applier: Applier,
    reader: Reader,
    /// Behind this everything is still to come.
    at: Option<Progress>,
    /// The first tick of the journal.
    first: TickId,
    /// The last tick that was read to its end.
    done: Option<TickId>,
    /// Up to this place every source transaction is applied alone.
    careful: Option<(Progress, Mode)>,
}

impl Course {
    pub(super) async fn begin(applier: Applier, reader: Reader) -> Result<Self, ForwardError> {
        let at = applier.progress();
        let (first, _) = reader.range().await?.unwrap_or((TickId(1), TickId(0)));
        match at {
            None if first.0 > 1 => return Err(ForwardError::Unsynced(first)),
            Some(at) if at.tick < first && at.tick.0.saturating_add(1) < first.0 => {
                return Err(ForwardError::TooOld(at.tick));
            }
            _ => {}
        }
        Ok(Self { applier, reader, at, first, done: None, careful: None })
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        self.at
    }

    /// The tick that has to be there before there is anything to do.
    pub(super) fn next_tick(&self) -> TickId {
        match self.done {
            Some(done) => TickId(done.0.saturating_add(1)),
            None => self.at.map_or(self.first, |at| at.tick),
        }
    }

    /// What the peer would keep through a crash.
    pub(super) async fn durable(&mut self) -> Result<Option<Progress>, ForwardError> {
        Ok(self.applier.flushed().await?)
    }

    /// Applies everything up to a tick.
    pub(super) async fn run_to(
        &mut self,
        latest: TickId,
        mut tell: impl FnMut(Option<Progress>),
    ) -> Result<(), ForwardError> {
        loop {
            match self.attempt(latest, &mut tell).await {
                Ok(()) => {
                    tell(self.at);
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
        self.at = self.applier.rollback().await?;
        self.reader.close().await?;
        let Some((tick, ord)) = failed else {
            sleep(YIELD).await;
            return if retry { Ok(()) } else { Err(error.into()) };
        };
        let before = self.careful.filter(|(to, _)| (to.tick, to.ord) == (tick, ord)).map(|(_, mode)| mode);
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
        let place = Progress { system: 0, timeline: 0, tick, ord, part: 0 };
        self.careful = Some((place, mode));
        Ok(())
    }

    /// Applies tick by tick until it is through, or something fails.
    async fn attempt(&mut self, latest: TickId, tell: &mut impl FnMut(Option<Progress>)) -> Result<(), ForwardError> {
        let (mut id, mut after) = self.at.map_or((self.first, 0), |at| (at.tick, at.ord));
        if let Some(done) = self.done.filter(|done| *done >= id) {
            (id, after) = (TickId(done.0.saturating_add(1)), 0);
        }
        let mut group = (0_usize, 0_usize);
        let mut open = false;
        while id <= latest {
            let tick = self.reader.open(id, after).await?;
            if let Some(at) = self.at
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
                            self.applier.begin(self.mode(&here))?;
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
                        group.0 = group.0.saturating_add(1);
                        if self.careful.is_some() || group.0 >= GROUP.0 || group.1 >= GROUP.1 {
                            self.applier.commit().await?;
                            open = false;
                            self.passed();
                            tell(self.applier.progress());
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
        self.at = self.applier.settle().await?;
        self.done = Some(latest);
        Ok(())
    }

    fn mode(&self, here: &Progress) -> Mode {
        let is = |place: &Progress| (place.tick, place.ord) == (here.tick, here.ord);
        self.careful.filter(|(place, _)| is(place)).map(|(_, mode)| mode).unwrap_or_default()
    }

    /// Care ends behind the place that needed it.
    fn passed(&mut self) {
        let at = self.applier.progress();
        if let (Some((place, _)), Some(at)) = (&self.careful, at)
            && (place.tick, place.ord) <= (at.tick, at.ord)
        {
            self.careful = None;
        }
    }
}
