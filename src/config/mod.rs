//! The configuration file: reading it, checking it, and saying what is wrong with it.
//!
//! Plain data only: nothing here opens a socket. [`Config::load`] either gives a configuration every key of which was
//! checked, or all that is wrong with it at once (§10).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod allow;
mod capture;
mod choice;
mod conninfo;
mod console;
mod env;
mod file;
mod files;
mod listen;
mod node;
mod passfile;
mod peer;
mod problem;
mod reload;
mod secret;
mod section;
mod shown;
mod table;
mod tls;
mod units;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
// a test that panics has done its work
mod tests;

pub use allow::{AddressRule, Admission, Allow, Names, Source, admit};
pub use capture::Capture;
pub use choice::Choice;
pub use conninfo::{ConnInfo, ConnInfoError, Endpoint, Host, RootCert, SOCKET_DIRS, SslMode, SslNegotiation, quote};
pub use console::{ConsoleUser, May};
pub use file::Config;
pub use listen::{BindHost, Listen};
pub use node::{Auth, Keepalive, LogFormat, Node, NodeName};
pub use passfile::PassfileError;
pub use peer::Peer;
pub use problem::{ConfigErrors, Problem};
pub use reload::Changes;
pub use secret::Secret;
pub use table::{
    Conflict, Ddl, Delivery, OnError, Resolve, ResolveBy, TableName, TablePattern, TableRule, Triggers, Unreplicable,
};
pub use tls::{Tls, TlsMode};
