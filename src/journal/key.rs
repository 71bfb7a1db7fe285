//! The cluster's key: what journal rows are signed with; never printed.

use std::fmt;

/// 32 secret bytes that all proxies of a node share.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

// === impl Key ===

impl Key {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for a keyed hash.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}
