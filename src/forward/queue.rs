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

/// How long the peer is left alone with what it has rejected.
struct Again {
    stuck: Duration,
    parked: Duration,
    parked_at: Instant,
}

impl Attendant<'_> {
    /// Takes out of the queue what the peer has, once it has it for good.
    pub(super) async fn forget_applied(&mut self, applier: &mut Applier) -> Result<(), ForwardError> {
        if !self.store.is_empty(self.gone).await?
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
        let mut again = Again { stuck: PAUSES.0, parked: PAUSES.0, parked_at: Instant::now() };
        let mut seen = false;
        loop {
            if let Some(command) = self.waiting.take().or_else(|| self.wishes.try_recv().ok()) {
                if let Some(left) = self.obey(command, peer, applier).await? {
                    return Ok(Some(left));
                }
                continue;
            }
            if self.store.is_empty(self.gone).await? {
                self.empty();
                if self.kept.spilling {
                    self.kept.spilling = false;
                    self.store.turn("live", None).await?;
                }
                return Ok(None);
            }
            if !std::mem::replace(&mut seen, true) {
                // What was put aside earlier.
                self.drain(peer, applier).await?.parked_again(0).await?;
            }
            let Some((until, flows)) = self.some(peer, applier, &mut again).await? else { continue };
            self.look().await?;
            if let Some(left) = self.stay(until, flows).await? {
                return Ok(Some(left));
            }
        }
    }

    /// Applies some of the queue. Where nothing of it can be: until when that is so, and whether what comes meanwhile can.
    async fn some(
        &mut self,
        peer: &ControlSettings,
        applier: &mut Applier,
        again: &mut Again,
    ) -> Result<Option<(Instant, bool)>, ForwardError> {
        if let Some(until) = self.by_hand.filter(|until| *until > Instant::now()) {
            return Ok(Some((until, false)));
        }
        self.by_hand = None;
        let limit = self.o.connect_timeout;
        match watched(peer, limit, self.drain(peer, applier).await?.some()).await? {
            Ok(0) => {
                if again.parked_at <= Instant::now() {
                    let mut drain = self.drain(peer, applier).await?;
                    let (applied, rejected) = watched(peer, limit, drain.parked_again(i64::MAX)).await?;
                    self.takes();
                    if let Some(stuck) = rejected {
                        self.held_up(Phase::Parked, &stuck).await?;
                    }
                    again.parked = if applied > 0 { PAUSES.0 } else { longer(again.parked) };
                    again.parked_at = Instant::now() + again.parked;
                }
                Ok(Some((again.parked_at, true)))
            }
            Ok(_) => {
                if self.status.borrow().phase != Phase::Parked {
                    self.status.send_modify(|status| status.turn(Phase::Draining));
                }
                again.stuck = PAUSES.0;
                self.takes();
                self.look().await?;
                Ok(None)
            }
            Err(stuck) => {
                self.takes();
                self.held_up(Phase::Stalled, &stuck).await?;
                again.stuck = longer(again.stuck);
                Ok(Some((Instant::now() + again.stuck, false)))
            }
        }
    }

    /// The queue, at work.
    async fn drain<'d>(
        &'d mut self,
        peer: &ControlSettings,
        applier: &'d mut Applier,
    ) -> Result<Drain<'d>, ForwardError> {
        let identity = self.store.identity().await?;
        if applier.is_atomic() {
            self.early = watched(peer, self.o.connect_timeout, resolve(applier, &self.store)).await?;
        }
        let (store, parked, early, gone) = (&self.store, &mut self.parked, &self.early, &mut self.gone);
        Ok(Drain { store, parked, early, gone, applier, identity, dry: false })
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
        let (most, dry) = match command.wish {
            Wish::Deal(most) => (most, false),
            Wish::Try(most) => (most, true),
            Wish::Pause | Wish::Resume => {
                self.pause(command).await?;
                return Ok(self.kept.paused.then_some(Left));
            }
        };
        self.by_hand = Some(Instant::now() + BY_HAND);
        let limit = self.o.connect_timeout;
        let mut drain = Drain { dry, ..self.drain(peer, applier).await? };
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
