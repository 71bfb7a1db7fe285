//! What sessions count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::session::relay::Moved;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    reason: &'static str,
}

/// Counters of all sessions of this process.
#[derive(Debug, Default, Clone)]
pub struct SessionMetrics {
    pub(crate) open: Gauge,
    pub(crate) logged_in: Counter,
    pub(crate) cancels: Counter,
    bytes_from_clients: Counter,
    bytes_from_servers: Counter,
    pub(crate) unfollowed: Counter,
    refused: Family<Reason, Counter>,
}

impl SessionMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        registry.register("sessions", "Client sessions that are open, logging in or logged in", m.open.clone());
        registry.register("logins", "Sessions that the server let in", m.logged_in.clone());
        registry.register("refusals", "Sessions that ended before they were let in, by reason", m.refused.clone());
        registry.register("cancel_requests", "Cancel requests that were forwarded", m.cancels.clone());
        registry.register("client_bytes", "Bytes that clients sent after login", m.bytes_from_clients.clone());
        registry.register("server_bytes", "Bytes that servers sent after login", m.bytes_from_servers.clone());
        registry.register(
            "unfollowed_sessions",
            "Sessions whose messages could not be followed to the end, for a client or server broke the protocol",
            m.unfollowed.clone(),
        );
        m
    }

    pub(crate) fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn count(&self, moved: Moved) {
        // Most wake-ups move bytes one way only, and a counter that all threads share is not free.
        if moved.up > 0 {
            self.bytes_from_clients.inc_by(moved.up);
        }
        if moved.down > 0 {
            self.bytes_from_servers.inc_by(moved.down);
        }
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> i64 {
        self.open.get()
    }
}
