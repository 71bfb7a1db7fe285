//! `delivery = "atomic"` (§7): a COMMIT goes to the server only when the peers have prepared what it commits.

use crate::capture::write::Refusal;
use crate::forward::{Changes, Unprepared};
use crate::journal::{Progress, TickId, unhex};
use crate::wire::error::{Report, Severity};
use crate::wire::extended::Reader;

use super::Engine;
use super::acked::Held;
use super::own::Own;
use super::pending::PendingError;
use super::refusing::report;

const CHANGES: &[u8] = b"SELECT * FROM pgcanon.own_changes()";
const BEFORE: &[u8] = b"SELECT * FROM pgcanon.before_own_changes()";

/// What the session holds of a transaction at its end, at most (I7).
const MOST: usize = 64 << 20;

/// Why a transaction cannot commit.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitError {
    #[error(transparent)]
    Pending(#[from] PendingError),
    #[error(transparent)]
    Unprepared(#[from] Unprepared),
    #[error("the transaction has more than {0} bytes, too many for delivery = \"atomic\"")]
    TooLarge(usize),
}

/// How far a transaction is on its way to the peers.
#[derive(Debug, Default)]
pub(super) enum Atomic {
    #[default]
    No,
    /// The server is asked what they have to have, or has answered.
    Asked(Box<Changes>, usize),
    /// They have been asked.
    Preparing,
    Prepared(Result<(), Unprepared>),
}

impl Engine {
    pub(super) fn is_atomic(&self) -> bool {
        self.acked.iter().any(|acked| acked.atomic)
    }

    /// Whether nobody has to be waited for any more; where not, everything that was asked has to be answered first.
    pub(super) fn prepare_peers(&mut self) -> Result<bool, CommitError> {
        if !self.is_atomic() {
            return Ok(true);
        }
        match std::mem::take(&mut self.atomic) {
            Atomic::No => {
                self.own_execute(CHANGES, &[], &[], || Own::Changes);
                self.own_execute(BEFORE, &[], &[], || Own::Before);
                self.atomic = Atomic::Asked(Box::default(), 0);
                Ok(false)
            }
            Atomic::Asked(_, bytes) if bytes > MOST => Err(CommitError::TooLarge(MOST)),
            Atomic::Asked(changes, _) if changes.rows.is_empty() => Ok(true),
            Atomic::Asked(changes, _) => {
                let pid = self.pid();
                self.held = Some(Held::Preparing(Box::pin(self.links.prepare(*changes, pid, &self.acked))));
                self.atomic = Atomic::Preparing;
                Ok(false)
            }
            Atomic::Preparing => {
                self.atomic = Atomic::Preparing;
                Ok(false)
            }
            Atomic::Prepared(result) => Ok(result.map(|()| true)?),
        }
    }

    /// The peers have answered.
    pub(super) fn prepared(&mut self, result: Result<(), Unprepared>) {
        self.atomic = Atomic::Prepared(result);
        self.answered_by_now();
    }

    pub(super) fn learn_change(&mut self, row: &[u8]) {
        let Atomic::Asked(changes, bytes) = &mut self.atomic else { return };
        let mut reader = Reader(row.get(2..).unwrap_or_default());
        let mut value = || reader.value().flatten();
        let (xid, meta, data) = (text(value()), value(), value());
        *bytes = bytes.saturating_add(row.len());
        if let (Some(Ok(meta)), Some(Ok(data)), true) = (meta.map(unhex), data.map(unhex), *bytes <= MOST) {
            changes.xid = xid;
            changes.rows.push((meta, data));
        }
    }

    pub(super) fn learn_before(&mut self, row: &[u8]) {
        let Atomic::Asked(changes, _) = &mut self.atomic else { return };
        let mut reader = Reader(row.get(2..).unwrap_or_default());
        let mut value = || reader.value().flatten();
        let (xid, origin) = (text(value()), text(value()));
        let (Some(system), Some(timeline), Some(tick), Some(ord)) =
            (text(value()), text(value()), text(value()).map(TickId), text(value()))
        else {
            return;
        };
        match (xid, origin) {
            (Some(xid), _) => changes.unticked.push(xid),
            (None, Some(origin)) => {
                changes.deps.insert(origin, Progress { system, timeline, tick, ord, part: 0 });
            }
            (None, None) => changes.ticked = Some(tick),
        }
    }

    /// What the client is told when a transaction cannot commit.
    pub(super) fn commit_error(&self, error: &CommitError) -> Vec<u8> {
        let CommitError::Unprepared(why) = error else { return self.own_error(error) };
        Report::error(why.sqlstate.clone(), format!("the transaction cannot be committed: {why}")).frame()
    }
}

fn text<T: std::str::FromStr>(value: Option<&[u8]>) -> Option<T> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}

/// PREPARE TRANSACTION of the client's.
pub(super) fn two_phases() -> Vec<u8> {
    let refusal = Refusal {
        message: "a transaction with delivery = \"atomic\" cannot be prepared".into(),
        detail: Some("The peers prepare it themselves, before its COMMIT.".into()),
        hint: Some("Use COMMIT.".into()),
    };
    report(&refusal, Severity::Error).frame()
}

/// A statement that journals itself, and commits with that.
pub(super) fn needs_a_block() -> Refusal {
    Refusal {
        message: "with delivery = \"atomic\" this statement cannot be replicated outside of a block".into(),
        detail: None,
        hint: Some("Put BEGIN and COMMIT around it.".into()),
    }
}
