//! Entries onto a peer (§6): exactly once, as whole transactions in their order, over one connection, without waiting between
//! statements.
//!
//! What to do about failures is left to the caller: after one, it rolls back and goes on from
//! [`progress`](Applier::progress), in smaller groups, row by row, or not at all.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod applier;
mod aside;
mod ddl;
mod early;
mod error;
mod line;
mod repeats;
mod route;
mod rows;
mod session;
mod settle;
mod shape;
mod stamp;
mod text;
mod texts;

pub use applier::{Applier, Mode};
pub use early::{Gid, Prepared};
pub use error::{ApplyError, At, CONFLICT, MALFORMED, NOT_ROUTED, Rejection};
pub use route::{Destination, Route, Timed};
pub use session::lock;
pub use text::renamed_for;
