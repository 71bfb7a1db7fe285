//! The session state machine against a real server: what it says of replies, statements, portals and status is what
//! the server says.

#[path = "../common/mod.rs"]
mod common;

mod attribution;
mod follower;
mod knowledge;
