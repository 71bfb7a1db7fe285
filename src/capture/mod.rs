//! From a statement and the catalog to what is sent in its place and what stands in the journal (§4).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub mod decide;
pub mod lanes;
pub mod lift;
pub mod moment;
pub mod write;
