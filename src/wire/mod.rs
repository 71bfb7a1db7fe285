//! The PostgreSQL wire protocol and the sockets that carry it; knows no SQL.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod array;
pub mod error;
pub mod extended;
pub mod frame;
pub mod inbox;
pub mod message;
pub mod negotiate;
pub mod scram;
pub mod startup;
pub mod stream;
pub mod tls;
pub mod upstream;
