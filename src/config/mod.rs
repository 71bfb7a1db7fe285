//! The configuration file: reading it, checking it, and saying what is wrong with it.
//!
//! Plain data only: nothing here opens a socket.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod choice;
mod conninfo;
mod files;
mod passfile;
mod problem;
mod secret;

pub use choice::Choice;
pub use conninfo::{
    ConnInfo, ConnInfoError, Endpoint, Host, RootCert, SOCKET_DIRS, SslMode, SslNegotiation, quote,
};
pub use passfile::PassfileError;
pub use problem::{ConfigErrors, Problem};
pub use secret::Secret;
