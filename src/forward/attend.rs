//! Attends to one peer: live, spilling, draining, as it stands (§6.1).

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::apply::{Applier, ApplyError, Route};
use crate::catalog::ControlSettings;
use crate::journal::ticker::State as Ticks;
use crate::journal::{Progress, Reader, Renderer, TickId, Xid};

use super::command::{Command, Wish};
use super::course::{Course, LOOK, next};
use super::early::resolve;
use super::park::Parked;
use super::spill::Spiller;
use super::status::{Phase, Queued, Status};
use super::store::{Kept, Place, Store, WHOLE};
use super::{ForwardError, Options};

/// Between attempts to reach the peer: the first pause, and the longest.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often it is asked what of the changes is durable, where nothing else is to do.
const FLUSHES: Duration = Duration::from_millis(200);

/// How often is looked for what sessions have prepared and left behind.
const UNDECIDED: Duration = Duration::from_secs(1);

/// How often another proxy of the node is looked after.
const ELSEWHERE: Duration = Duration::from_millis(500);

/// Counting the queue takes one part of the time in so many.
const COUNTING: u32 = 20;

/// Waiting for other nodes' changes is no news before that.
const SEEN: Duration = Duration::from_secs(1);

/// A peer that answers nothing for so long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(5);

/// One peer, as long as the connection to the own node lives.
pub(super) struct Attendant<'a> {
    pub(super) o: &'a mut Options,
    pub(super) status: &'a watch::Sender<Status>,
    pub(super) wishes: &'a mut mpsc::Receiver<Command>,
    pub(super) store: Store,
    pub(super) kept: Kept,
    pub(super) parked: Parked,
    /// What the peer has of what is to come.
    pub(super) early: HashSet<Xid>,
    /// Up to here this connection has emptied the queue of all that is not parked.
    pub(super) gone: Option<(Place, i32)>,
    pub(super) spiller: Option<Spiller>,
    /// A command that waits for the peer.
    pub(super) waiting: Option<Command>,
    /// The queue is left to the operator until then.
    pub(super) by_hand: Option<Instant>,
    /// Since when it has taken nothing: that it can be reached does not end this.
    pub(super) down_since: Option<Instant>,
    pub(super) pause: Duration,
    /// Until then the queue is as it was seen last.
    pub(super) look_again: Instant,
    /// It has changed since.
    pub(super) uncounted: bool,
}

/// A connection to the peer is left though nothing has failed: other rules, a wish of the operator's, too long a queue.
pub(super) struct Left;

pub(super) async fn run(mut options: Options, status: watch::Sender<Status>, mut wishes: mpsc::Receiver<Command>) {
    let mut told = String::new();
    loop {
        let error = match Attendant::open(&mut options, &status, &mut wishes).await {
            Ok(mut attendant) => attendant.run().await,
            Err(error) => error,
        };
        let words = error.to_string();
        if words != told {
            tracing::warn!(peer = %options.peer.name, error = %words, "nothing is forwarded");
            told.clone_from(&words);
        }
        status.send_modify(|status| {
            status.turn(Phase::Unreachable);
            status.trouble = Some(words);
        });
        sleep(PAUSES.0).await;
    }
}

impl<'a> Attendant<'a> {
    async fn open(
        o: &'a mut Options,
        status: &'a watch::Sender<Status>,
        wishes: &'a mut mpsc::Receiver<Command>,
    ) -> Result<Self, ForwardError> {
        let store = loop {
            if let Some(store) = Store::open(own(o).await?, &o.node, &o.peer.name).await? {
                break store;
            }
            status.send_modify(|status| status.turn(Phase::Elsewhere));
            tokio::select! {
                () = sleep(ELSEWHERE) => {}
                Some(command) = wishes.recv() => {
                    let _ = command.answer.send(Err("another proxy of this node sees to the peer".to_owned()));
                }
            }
        };
        let kept = store.kept().await?;
        let down_since = Some(Instant::now());
        let mut attendant = Self {
            o,
            status,
            wishes,
            store,
            kept,
            parked: Parked::default(),
            early: HashSet::new(),
            gone: None,
            spiller: None,
            waiting: None,
            by_hand: None,
            down_since,
            pause: PAUSES.0,
            look_again: Instant::now(),
            uncounted: false,
        };
        attendant.look().await?;
        Ok(attendant)
    }

    /// Ends when the own node is in trouble.
    async fn run(&mut self) -> ForwardError {
        loop {
            let error = if self.kept.evicted {
                self.rest(Phase::Evicted).await
            } else if self.kept.paused {
                self.rest(Phase::Paused).await
            } else {
                match self.connected().await {
                    Ok(Left) => Ok(()),
                    Err(error) if error.is_own() => Err(error),
                    Err(error) => self.cut_off(error).await,
                }
            };
            if let Err(error) = error {
                return error;
            }
        }
    }

    // === without the peer ===

    /// Nothing is to be done for the peer.
    async fn rest(&mut self, phase: Phase) -> Result<(), ForwardError> {
        self.status.send_modify(|status| {
            status.turn(phase);
            // An evicted one needs nothing of the journal any more.
            if phase == Phase::Evicted {
                status.passed = TickId(i64::MAX);
            }
        });
        let command = tokio::select! {
            command = self.wishes.recv() => command,
            () = sleep_until(self.look_again), if self.uncounted => return self.look().await,
        };
        let Some(command) = command else { return std::future::pending().await };
        match command.wish {
            Wish::Deal(_) | Wish::Try(_) if phase == Phase::Evicted => {
                let _ = command.answer.send(Err("the peer was evicted: its tables must be copied again".to_owned()));
            }
            Wish::Deal(_) | Wish::Try(_) => {
                let _ = command.answer.send(Err("the peer is paused".to_owned()));
            }
            Wish::Pause | Wish::Resume => self.pause(command).await?,
        }
        Ok(())
    }

    pub(super) async fn pause(&mut self, command: Command) -> Result<(), ForwardError> {
        self.kept.paused = command.wish == Wish::Pause;
        self.store.pause(self.kept.paused).await?;
        let _ = command.answer.send(Ok(0));
        Ok(())
    }

    /// The peer could not be reached, or was lost: waits a little, and spills when that has lasted.
    async fn cut_off(&mut self, error: ForwardError) -> Result<(), ForwardError> {
        self.store.abandon().await?;
        let words = error.to_string();
        let known = self.status.borrow().trouble.as_deref() == Some(words.as_str());
        if !known {
            tracing::warn!(peer = %self.o.peer.name, error = %words, "nothing is forwarded");
        }
        if let Some(command) = self.waiting.take() {
            let _ = command.answer.send(Err(words.clone()));
        }
        // For what is to be copied nothing is queued.
        self.down_since = (!error.needs_copy()).then(|| self.down_since.unwrap_or_else(Instant::now));
        let phase = if self.kept.spilling { Phase::Spilling } else { Phase::Unreachable };
        self.status.send_modify(|status| {
            status.turn(phase);
            status.trouble = Some(words.clone());
        });
        let again = sleep(self.pause);
        self.pause = self.pause.saturating_mul(2).min(PAUSES.1);
        self.away(again, true).await.map(drop)
    }

    /// Waits for something without the peer, and spills when that lasts. None where a command wants the peer, or wants it
    /// left alone; with `hurry` the former is not waited for either.
    async fn away<T>(&mut self, what: impl Future<Output = T>, hurry: bool) -> Result<Option<T>, ForwardError> {
        let mut what = std::pin::pin!(what);
        let spill_at = self.down_since.map(|since| since + self.o.peer.spill_after);
        loop {
            if !self.kept.spilling && spill_at.is_some_and(|at| Instant::now() >= at) {
                let why = self.status.borrow().trouble.clone().unwrap_or_default();
                self.spill_from_now_on(&why).await?;
            }
            if self.kept.spilling {
                self.spill().await?;
                if self.kept.evicted {
                    return Ok(None);
                }
            }
            let (spilling, behind) = (self.kept.spilling, next(self.kept.at).0);
            tokio::select! {
                done = &mut what => return Ok(Some(done)),
                () = sleep_until(spill_at.unwrap_or_else(Instant::now)), if !spilling && spill_at.is_some() => {}
                () = reached(&mut self.o.ticks, behind), if spilling => {}
                () = sleep_until(self.look_again), if self.uncounted => self.look().await?,
                Some(command) = self.wishes.recv() => match command.wish {
                    Wish::Pause | Wish::Resume => {
                        self.pause(command).await?;
                        return Ok(None);
                    }
                    Wish::Deal(_) | Wish::Try(_) => {
                        if let Some(before) = self.waiting.replace(command) {
                            let _ = before.answer.send(Err("another drain was asked for".to_owned()));
                        }
                        if hurry {
                            return Ok(None);
                        }
                    }
                },
            }
        }
    }

    pub(super) async fn spill_from_now_on(&mut self, why: &str) -> Result<(), ForwardError> {
        self.kept.spilling = true;
        self.store.turn("spilling", Some(why)).await?;
        tracing::warn!(peer = %self.o.peer.name, error = why, "changes go to the error queue");
        self.status.send_modify(|status| status.turn(Phase::Spilling));
        Ok(())
    }

    /// Moves what is there to the queue, for a moment: the peer may be back meanwhile.
    pub(super) async fn spill(&mut self) -> Result<(), ForwardError> {
        let latest = self.o.ticks.borrow().latest.unwrap_or_default();
        if next(self.kept.at).0 > latest {
            return Ok(());
        }
        let route = Route::new(&self.o.rules.borrow().rules, &self.o.peer.name);
        let spiller = match &mut self.spiller {
            Some(spiller) => {
                spiller.set_route(route);
                spiller
            }
            none => {
                let reader = Reader::new(own(self.o).await?, self.o.key.clone());
                let renderer = Renderer::new(own(self.o).await?, None);
                none.insert(Spiller::new(reader, renderer, route))
            }
        };
        self.kept.at = spiller.run_to(self.kept.at, latest, &self.store).await?;
        self.look().await?;
        let most = self.o.peer.max_queue_bytes;
        let bytes = u64::try_from(self.status.borrow().queued.bytes).unwrap_or(0);
        if bytes > most {
            tracing::error!(peer = %self.o.peer.name, bytes, most, "the queue is too large: the peer is evicted, its tables must be copied again");
            self.store.evict(&format!("{bytes} bytes in the queue, max_queue_bytes is {most}")).await?;
            self.kept.evicted = true;
            self.empty();
        }
        Ok(())
    }

    /// Looks at the queue, for whoever asks: a long one is not counted all the time.
    pub(super) async fn look(&mut self) -> Result<(), ForwardError> {
        let passed = self.kept.passed();
        self.status.send_modify(|status| status.passed = passed);
        let began = Instant::now();
        self.uncounted = began < self.look_again;
        if !self.uncounted {
            let queued = self.store.queued().await?;
            self.look_again = Instant::now() + began.elapsed().saturating_mul(COUNTING);
            self.status.send_modify(|status| status.queued = queued);
        }
        Ok(())
    }

    /// Nothing is in the queue.
    pub(super) fn empty(&mut self) {
        self.parked = Parked::default();
        self.look_again = Instant::now();
        self.uncounted = false;
        self.status.send_modify(|status| status.queued = Queued::default());
    }

    // === with the peer ===

    /// One connection's life.
    async fn connected(&mut self) -> Result<Left, ForwardError> {
        let peer = ControlSettings::load(&self.o.peer.connect, self.o.connect_timeout, self.o.liveness)?;
        let rules = self.o.rules.borrow_and_update().clone();
        let route = Route::new(&rules.rules, &self.o.peer.name);
        let (node, limit, to) = (self.o.node.clone(), self.o.connect_timeout, &peer);
        let opened = async move {
            let open = async { Ok(Applier::open(to.log_in(&format!("pgcanon:{node}")).await?, &node, route).await?) };
            timeout(limit, open).await.unwrap_or(Err(ForwardError::Frozen))
        };
        let Some(applier) = self.away(opened, false).await? else { return Ok(Left) };
        let mut applier = applier?;
        self.gone = None;
        self.went_back(applier.progress()).await?;
        self.early = watched(&peer, self.o.connect_timeout, resolve(&mut applier, &self.store)).await?;
        loop {
            self.forget_applied(&mut applier).await?;
            if let Some(left) = self.drained(&peer, &mut applier).await? {
                return Ok(left);
            }
            match self.live(&peer, applier).await? {
                Ok(left) => return Ok(left),
                Err(back) => applier = back,
            }
        }
    }

    /// Whether there is something in the journal behind this place.
    fn is_behind(&self, at: Place) -> bool {
        next(at).0 <= self.o.ticks.borrow().latest.unwrap_or_default()
    }

    /// It takes what it gets, or would if there were something.
    pub(super) fn takes(&mut self) {
        self.down_since = None;
        self.pause = PAUSES.0;
    }

    /// A peer that has less than it had gets again what it has lost, as long as the journal holds that.
    async fn went_back(&mut self, says: Option<Progress>) -> Result<(), ForwardError> {
        // As it is now: what was noted since is not in what we keep.
        let kept = self.store.kept().await?;
        if !kept.was_set_back(says) {
            return Ok(());
        }
        self.kept = kept;
        let reader = Reader::new(own(self.o).await?, self.o.key.clone());
        let (first, _) = reader.range().await?.unwrap_or((TickId(1), TickId(0)));
        let at = says.map_or(TickId(0), |says| says.tick);
        if says.map_or(TickId(1), |says| says.tick) < first {
            return Err(if says.is_some() { ForwardError::TooOld(at) } else { ForwardError::Unsynced(first) });
        }
        tracing::warn!(peer = %self.o.peer.name, tick = at.0, "the peer has less than it had: it gets again what came behind this");
        let cut = says.is_some_and(|says| says.part != 0);
        if !self.kept.spilling && (cut || !self.store.is_empty(None).await?) {
            self.spill_from_now_on("the peer has less than it had").await?;
        }
        self.store.set_back(&mut self.kept, says).await?;
        if self.kept.spilling {
            self.spill().await?;
        }
        Ok(())
    }

    /// Applies what comes; where the peer rejects something, everything from there on is in the queue and the applier comes back.
    async fn live(&mut self, peer: &ControlSettings, applier: Applier) -> Result<Result<Left, Applier>, ForwardError> {
        let reader = Reader::new(own(self.o).await?, self.o.key.clone());
        let applied = applier.progress().map_or(self.kept.at, |progress| (progress.tick, progress.ord));
        let from = self.kept.at.max(applied);
        let mut course = Course::begin(
            applier,
            reader,
            self.o.ticks.clone(),
            &self.o.peer.name,
            from,
            std::mem::take(&mut self.early),
        )
        .await?;
        let told = course.applier.progress();
        self.status.send_modify(|status| {
            status.turn(Phase::Live);
            status.applied = told;
            status.reached = from;
        });
        tracing::info!(peer = %self.o.peer.name, "forwarding");
        let mut resolved = Instant::now();
        let mut flushes = tokio::time::interval(FLUSHES);
        flushes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let awaits = course.awaits();
            self.shows_wait(awaits.as_ref());
            let (read, _room) = tokio::select! {
                read = course.next(), if awaits.is_none() => read?,
                () = sleep(LOOK), if awaits.is_some() => {
                    watched(peer, self.o.connect_timeout, course.look(&self.store)).await?;
                    continue;
                }
                Ok(()) = self.o.rules.changed() => return Ok(Ok(Left)),
                Some(command) = self.wishes.recv() => {
                    match command.wish {
                        Wish::Deal(_) | Wish::Try(_) => {
                            let _ = command.answer.send(Ok(0));
                        }
                        Wish::Pause | Wish::Resume => self.pause(command).await?,
                    }
                    if self.kept.paused {
                        return Ok(Ok(Left));
                    }
                    continue;
                }
                _ = flushes.tick() => {
                    let at = course.at();
                    let durable = watched(peer, self.o.connect_timeout, course.durable()).await?;
                    self.passed(durable, at).await?;
                    if !self.is_behind(at) {
                        self.takes();
                    }
                    if course.applier.is_atomic() && resolved.elapsed() >= UNDECIDED {
                        watched(peer, self.o.connect_timeout, course.resolve(&self.store)).await?;
                        resolved = Instant::now();
                    }
                    continue;
                }
            };
            let (had, before) = (course.applier.progress(), (course.transactions, course.retries));
            let run = watched(peer, self.o.connect_timeout, course.apply(read, &self.store)).await;
            self.status.send_modify(|status| {
                status.applied = course.applier.progress();
                status.reached = course.at();
                status.transactions += course.transactions.saturating_sub(before.0);
                status.retries += course.retries.saturating_sub(before.1);
            });
            if course.applier.progress() != had || !self.is_behind(course.at()) {
                self.takes();
            }
            if let Err(error) = run {
                let ForwardError::Apply(ApplyError::Rejected(why)) = &error else { return Err(error) };
                // Which piece it is, and what becomes of it, is seen when it stands in the queue.
                let words = why.to_string();
                self.spill_from_now_on(&words).await?;
                self.spill().await?;
                return Ok(if self.kept.evicted { Ok(Left) } else { Err(course.into_applier()) });
            }
        }
    }

    /// A wait for other nodes' changes that lasts is to be seen.
    fn shows_wait(&self, awaits: Option<&(String, Instant)>) {
        let words = awaits
            .filter(|(_, since)| since.elapsed() >= SEEN)
            .map(|(origin, _)| format!("waits for changes of {origin} that came before"));
        self.status.send_if_modified(|status| {
            let news = status.trouble != words;
            status.trouble = words;
            news
        });
    }

    /// What is durable on the peer is not needed in the journal; nor is what it does not get.
    async fn passed(&mut self, durable: Option<Progress>, at: Place) -> Result<(), ForwardError> {
        let applied = self.status.borrow().applied;
        let passed = match durable {
            Some(durable) if Some(durable) != applied => TickId(durable.tick.0.saturating_sub(1)),
            None if applied.is_some() => return Ok(()),
            // Everything that was for it is.
            _ if at.1 == WHOLE => at.0,
            _ => TickId(at.0.0.saturating_sub(1)),
        };
        if (passed, WHOLE) > self.kept.at {
            self.kept.at = (passed, WHOLE);
            if let Some(durable) = durable {
                self.store.has(durable).await?;
            }
            self.store.reach(self.kept.at).await?;
        }
        let passed = self.kept.passed();
        self.status.send_modify(|status| status.passed = passed);
        Ok(())
    }
}

/// A connection to the own node.
async fn own(o: &Options) -> Result<tokio_postgres::Client, ForwardError> {
    let control = o.control.borrow().clone();
    control.connect().await.map_err(ForwardError::OwnConnect)
}

/// Waits for a tick; for ever where the proxy is ending.
pub(super) async fn reached(ticks: &mut watch::Receiver<Ticks>, next: TickId) {
    if ticks.wait_for(|ticks| ticks.latest.is_some_and(|latest| latest >= next)).await.is_err() {
        std::future::pending().await
    }
}

/// Gives up waiting for a peer that takes no new connection either: one that was stopped, say, answers nothing for ever.
pub(super) async fn watched<T>(
    peer: &ControlSettings,
    limit: Duration,
    work: impl Future<Output = Result<T, ForwardError>>,
) -> Result<T, ForwardError> {
    let silent = async {
        loop {
            sleep(SILENCE).await;
            let there = timeout(limit.min(SILENCE), peer.log_in("pgcanon: are you there?")).await;
            match there {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return ForwardError::from(error),
                Err(_) => return ForwardError::Frozen,
            }
        }
    };
    tokio::select! {
        done = work => done,
        error = silent => Err(error),
    }
}
