//! The PostgreSQL wire protocol and the sockets that carry it; knows no SQL.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod scram;
pub mod tls;
