//! How a peer stands, for whoever asks.

use std::time::SystemTime;

use crate::apply::ApplyError;
use crate::journal::Progress;

use super::ForwardError;

/// What becomes of changes for a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It has not been reached yet.
    #[default]
    Connecting,
    /// It gets them as they come.
    Live,
    /// It cannot be reached.
    Unreachable,
    /// It was reached, and rejects a change.
    Stalled,
}

#[derive(Clone, Debug, Default)]
pub struct Status {
    pub phase: Phase,
    /// Since when it has not been live.
    pub since: Option<SystemTime>,
    /// What it has applied.
    pub applied: Option<Progress>,
    /// What of that would survive its crash.
    pub durable: Option<Progress>,
    /// The last trouble, until it is over.
    pub trouble: Option<String>,
}

impl Status {
    pub(super) fn reach(&mut self, progress: Option<Progress>) {
        self.phase = Phase::Live;
        self.since = None;
        self.trouble = None;
        self.applied = progress;
    }

    pub(super) fn fail(&mut self, error: &ForwardError, words: String) {
        self.phase = match error {
            ForwardError::Apply(ApplyError::Rejected(_)) => Phase::Stalled,
            _ => Phase::Unreachable,
        };
        self.since.get_or_insert_with(SystemTime::now);
        self.trouble = Some(words);
    }
}
