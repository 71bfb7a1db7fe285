//! What a node's server says about its tables, roles and functions.

mod assemble;
mod control;
mod graph;
pub mod load;
pub mod relation;
mod routines;
mod rows;
pub mod scene;
pub mod times;
mod types;
pub mod watch;

pub(crate) use control::server_words;
pub use control::{Control, ControlError, ControlSettings, Fate};
pub use watch::{Awaited, Catalogs, Pace, Wanted};
