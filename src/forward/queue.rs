//! With a queue: it is emptied as far as the peer takes it, and what comes meanwhile goes behind it (§6.1).

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::apply::Applier;
use crate::catalog::ControlSettings;

use super::ForwardError;
use super::attend::{Attendant, Left, PAUSES, reached, watched};
use super::command::{Command, Wish};
use super::course::next;
use super::drain::{Drain, Stuck};
use super::early::resolve;
use super::status::Phase;

/// Who deals with the queue by hand is left to it for so long.
const BY_HAND: Duration = Duration::from_secs(10);

impl Attendant<'_> {
    /// Takes out of the queue what the peer has, once it has it for good.
    pub(super) async fn forget_applied(&mut self, applier: &mut Applier) -> Result<(), ForwardError> {
        if !self.store.is_empty().await?
            && let Some(progress) = applier.make_durable().await?
        {
            self.store.has(progress).await?;
            self.store.settle(&progress).await?;
        }
        self.look().await
    }

    /// Empties the queue.
    pub(super) async fn drained(
        &mut self,
        peer: &ControlSettings,
        applier: &mut Applier,
    ) -> Result<Option<Left>, ForwardError> {
        let (mut wait, mut parked_wait, mut parked_again) = (PAUSES.0, PAUSES.0, Instant::now());
        let mut seen = false;
        loop {
            if let Some(command) = self.waiting.take().or_else(|| self.wishes.try_recv().ok()) {
                if let Some(left) = self.obey(command, peer, applier).await? {
                    return Ok(Some(left));
                }
                continue;
            }
            if self.store.is_empty().await? {
                self.empty();
                if self.kept.spilling {
                    self.kept.spilling = false;
                    self.store.turn("live", None).await?;
                }
                return Ok(None);
            }
            if !std::mem::replace(&mut seen, true) {
                // What was put aside earlier.
                self.drain(applier).await?.parked_again(0).await?;
            }
            let (until, flows) = match self.by_hand.filter(|until| *until > Instant::now()) {
                Some(until) => (until, false),
                None => {
                    self.by_hand = None;
                    let limit = self.o.connect_timeout;
                    match watched(peer, limit, self.drain(applier).await?.some()).await? {
                        Ok(0) => {
                            if parked_again <= Instant::now() {
                                let again = self.drain(applier).await?.parked_again(i64::MAX).await?;
                                let applied = again.0;
                                self.takes();
                                self.park(again.1).await?;
                                parked_wait = if applied > 0 { PAUSES.0 } else { longer(parked_wait) };
                                parked_again = Instant::now() + parked_wait;
                            }
                            (parked_again, true)
                        }
                        Ok(_) => {
                            if self.status.borrow().phase != Phase::Parked {
                                self.status.send_modify(|status| status.turn(Phase::Draining));
                            }
                            wait = PAUSES.0;
                            self.takes();
                            self.look().await?;
                            continue;
                        }
                        Err(stuck) => {
                            self.takes();
                            self.stall(&stuck).await?;
                            wait = longer(wait);
                            (Instant::now() + wait, false)
                        }
                    }
                }
            };
            self.look().await?;
            if let Some(left) = self.stay(until, flows).await? {
                return Ok(Some(left));
            }
        }
    }

    /// The queue, at work.
    async fn drain<'d>(&'d mut self, applier: &'d mut Applier) -> Result<Drain<'d>, ForwardError> {
        let identity = self.store.identity().await?;
        if applier.is_atomic() {
            self.early = resolve(applier, &self.store).await?;
        }
        Ok(Drain { store: &self.store, parked: &mut self.parked, early: &self.early, applier, identity })
    }

    /// Waits with the rest of the queue; what comes meanwhile goes behind it, and where that `flows` it ends the waiting.
    async fn stay(&mut self, until: Instant, flows: bool) -> Result<Option<Left>, ForwardError> {
        loop {
            if self.kept.spilling {
                let before = self.kept.at;
                self.spill().await?;
                if self.kept.evicted {
                    return Ok(Some(Left));
                }
                if flows && self.kept.at > before {
                    return Ok(None);
                }
            }
            let (more, behind) = (self.kept.spilling, next(self.kept.at).0);
            tokio::select! {
                () = sleep_until(until) => return Ok(None),
                () = reached(&mut self.o.ticks, behind), if more => {}
                Some(command) = self.wishes.recv() => {
                    self.waiting = Some(command);
                    return Ok(None);
                }
                Ok(()) = self.o.rules.changed() => return Ok(Some(Left)),
            }
        }
    }

    async fn stall(&mut self, stuck: &Stuck) -> Result<(), ForwardError> {
        self.held_up(Phase::Stalled, stuck).await
    }

    async fn park(&mut self, rejected: Option<Stuck>) -> Result<(), ForwardError> {
        match rejected {
            Some(stuck) => self.held_up(Phase::Parked, &stuck).await,
            None => Ok(()),
        }
    }

    /// What comes from now on goes to the queue first, as some of it waits there.
    async fn held_up(&mut self, phase: Phase, stuck: &Stuck) -> Result<(), ForwardError> {
        let words = stuck.to_string();
        if !self.kept.spilling {
            self.spill_from_now_on(&words).await?;
        }
        self.status.send_modify(|status| {
            status.turn(phase);
            status.trouble = Some(words);
        });
        Ok(())
    }

    async fn obey(
        &mut self,
        command: Command,
        peer: &ControlSettings,
        applier: &mut Applier,
    ) -> Result<Option<Left>, ForwardError> {
        let Wish::Deal(most) = command.wish else {
            self.pause(command).await?;
            return Ok(self.kept.paused.then_some(Left));
        };
        self.by_hand = Some(Instant::now() + BY_HAND);
        let limit = self.o.connect_timeout;
        let mut drain = self.drain(applier).await?;
        let dealt = watched(peer, limit, async {
            let (parked, rejected) = drain.parked_again(most).await?;
            let dealt = drain.pieces(most.saturating_sub(parked)).await?;
            // A parked one holds up nobody else.
            let dealt = dealt.map(|others| u64::try_from(parked).unwrap_or(0) + others);
            Ok(match (dealt, rejected) {
                (Ok(0), Some(stuck)) => Err(stuck),
                (dealt, _) => dealt,
            })
        })
        .await;
        let answer = match &dealt {
            Ok(dealt) => dealt.as_ref().copied().map_err(ToString::to_string),
            Err(error) => Err(error.to_string()),
        };
        self.look().await?;
        let _ = command.answer.send(answer);
        dealt.map(|_| None)
    }
}

/// The next pause of a row of them.
fn longer(pause: Duration) -> Duration {
    pause.saturating_mul(2).min(PAUSES.1)
}
