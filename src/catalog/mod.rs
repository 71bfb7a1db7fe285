//! What a node's server says about its tables, roles and functions.

mod control;
pub mod relation;

pub(crate) use control::server_words;
pub use control::{Control, ControlError, ControlSettings};
