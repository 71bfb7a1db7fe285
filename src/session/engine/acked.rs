//! `delivery = "ack"` (§7): behind the server's word the client waits for its peers', too.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::config::NodeName;
use crate::wire::error::{Report, Severity};
use crate::wire::extended::Reader;
use crate::wire::frame::BadFrame;

use super::Engine;
use super::own::Own;

const ASK: &[u8] = b"SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text";

/// A ReadyForQuery that the client does not get yet.
pub(super) struct Held {
    peers: Pin<Box<dyn Future<Output = Vec<NodeName>>>>,
    ready: Vec<u8>,
    /// What the server sent behind it.
    pub(super) behind: Vec<u8>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Engine {
    /// Asks which transaction this is, where somebody will have to be asked for it.
    pub(super) fn ask_xid(&mut self) {
        if !self.acked.is_empty() {
            self.own_execute(ASK, &[], &[], || Own::Xid);
        }
    }

    pub(super) fn learn_xid(&mut self, row: &[u8]) {
        let text = Reader(row.get(2..).unwrap_or_default()).value().flatten();
        self.xid = text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    }

    /// Whether the client has to wait with this ReadyForQuery.
    pub(super) fn holds(&mut self, ready: &[u8]) -> bool {
        let acked = std::mem::take(&mut self.acked);
        let Some(xid) = self.xid.take().filter(|_| !acked.is_empty()) else { return false };
        let peers = Box::pin(self.links.acknowledged(xid, &acked));
        self.held = Some(Held { peers, ready: ready.to_vec(), behind: Vec::new() });
        true
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Ready when the client waits for nobody but the server.
    pub(crate) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BadFrame>> {
        let Some(held) = &mut self.held else { return Poll::Ready(Ok(())) };
        let late = ready!(held.peers.as_mut().poll(cx));
        let Some(held) = self.held.take() else { return Poll::Ready(Ok(())) };
        if !late.is_empty() {
            self.down.extend_from_slice(&warning(&late).frame());
        }
        self.down.extend_from_slice(&held.ready);
        self.answered_by_now();
        if self.on_server(&held.behind)? {
            self.down.extend_from_slice(&held.behind);
        }
        Poll::Ready(Ok(()))
    }
}

fn warning(late: &[NodeName]) -> Report {
    let names: Vec<String> = late.iter().map(|peer| format!("\"{peer}\"")).collect();
    Report {
        severity: Severity::Warning,
        sqlstate: "01000",
        message: format!("the transaction is committed, but not yet applied by {}", names.join(", ")),
        detail: Some("It is in the journal, and applied when it can be.".to_owned()),
        hint: None,
    }
}
