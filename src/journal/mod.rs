//! The ordered record of a node's changes, kept in its own database (§5).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub mod entry;
pub mod key;
pub mod migrate;
