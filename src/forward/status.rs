//! How a peer stands, for whoever asks.

use std::time::SystemTime;

use crate::journal::{Progress, TickId};

pub use super::store::Queued;
use super::store::WHOLE;

/// What becomes of changes for a peer (§6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It has not been reached yet.
    #[default]
    Connecting,
    /// It gets them as they come.
    Live,
    /// It cannot be reached, or can take nothing; they wait in the journal.
    Unreachable,
    /// They go to the queue.
    Spilling,
    /// It gets what is in the queue.
    Draining,
    /// It rejects what comes next.
    Stalled,
    /// It gets everything but what it rejected, and what touches the same rows.
    Parked,
    /// By the operator's wish it gets nothing.
    Paused,
    /// The queue became too large: the tables must be copied again.
    Evicted,
    /// Another proxy of this node sees to it.
    Elsewhere,
}

#[derive(Clone, Debug, Default)]
pub struct Status {
    pub phase: Phase,
    /// Since when it has been in this phase.
    pub since: Option<SystemTime>,
    /// What it has applied.
    pub applied: Option<Progress>,
    /// Everything up to here it has: a tick, and a transaction of it or all of them.
    pub reached: (TickId, i32),
    /// Nothing up to this tick is needed of the journal any more.
    pub passed: TickId,
    /// The last trouble, until it is over.
    pub trouble: Option<String>,
    pub queued: Queued,
    /// Source transactions that were applied since the start, and those that were tried again.
    pub transactions: u64,
    pub retries: u64,
}

// === impl Phase ===

impl Phase {
    pub const ALL: [Self; 10] = [
        Self::Connecting,
        Self::Live,
        Self::Unreachable,
        Self::Spilling,
        Self::Draining,
        Self::Stalled,
        Self::Parked,
        Self::Paused,
        Self::Evicted,
        Self::Elsewhere,
    ];

    /// As operators and scripts read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Unreachable => "unreachable",
            Self::Spilling => "spilling",
            Self::Draining => "draining",
            Self::Stalled => "stalled",
            Self::Parked => "parked",
            Self::Paused => "paused",
            Self::Evicted => "evicted",
            Self::Elsewhere => "elsewhere",
        }
    }
}

// === impl Status ===

impl Status {
    /// Whether the peer has all of a tick.
    #[must_use]
    pub fn has(&self, tick: TickId) -> bool {
        self.reached >= (tick, WHOLE)
    }

    pub(super) fn turn(&mut self, phase: Phase) {
        if self.phase != phase {
            self.phase = phase;
            self.since = Some(SystemTime::now());
        }
        if phase == Phase::Live {
            self.trouble = None;
        }
    }
}
