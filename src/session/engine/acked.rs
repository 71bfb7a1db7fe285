//! `delivery = "ack"` (§7): behind the server's word the client waits for its peers', too.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::config::NodeName;
use crate::forward::Unprepared;
use crate::wire::error::{Report, Severity};
use crate::wire::extended::Reader;
use crate::wire::frame::BadFrame;

use super::Engine;
use super::own::Own;

const ASK: &[u8] = b"SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text";

/// What the client waits for that the server does not say.
pub(super) enum Held {
    /// Peers prepare the transaction, before its COMMIT.
    Preparing(Pin<Box<dyn Future<Output = Result<(), Unprepared>>>>),
    /// They apply it, behind its COMMIT.
    Applying {
        peers: Pin<Box<dyn Future<Output = Vec<NodeName>>>>,
        /// The ReadyForQuery that the client does not get yet.
        ready: Vec<u8>,
        /// What the server sent behind it.
        behind: Vec<u8>,
    },
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
        self.held = Some(Held::Applying { peers, ready: ready.to_vec(), behind: Vec::new() });
        true
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Ready when the client waits for nobody but the server.
    pub(crate) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BadFrame>> {
        let late = match &mut self.held {
            None => return Poll::Ready(Ok(())),
            Some(Held::Preparing(peers)) => {
                let prepared = ready!(peers.as_mut().poll(cx));
                self.held = None;
                self.prepared(prepared);
                return Poll::Ready(Ok(()));
            }
            Some(Held::Applying { peers, .. }) => ready!(peers.as_mut().poll(cx)),
        };
        let Some(Held::Applying { ready, behind, .. }) = self.held.take() else { return Poll::Ready(Ok(())) };
        if !late.is_empty() {
            self.down.extend_from_slice(&warning(&late).frame());
        }
        self.down.extend_from_slice(&ready);
        self.answered_by_now();
        if self.on_server(&behind)? {
            self.down.extend_from_slice(&behind);
        }
        Poll::Ready(Ok(()))
    }
}

fn warning(late: &[NodeName]) -> Report {
    let names: Vec<String> = late.iter().map(|peer| format!("\"{peer}\"")).collect();
    Report {
        severity: Severity::Warning,
        sqlstate: "01000".into(),
        message: format!("the transaction is committed, but not yet applied by {}", names.join(", ")),
        detail: Some("It is in the journal, and applied when it can be.".to_owned()),
        hint: None,
    }
}
