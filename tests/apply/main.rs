//! Applying: what the journal holds onto real servers, exactly once, in order, whole, and under the peer's own names.

#[path = "../common/mod.rs"]
mod common;

mod claims;
mod echoes;
mod failures;
mod forms;
mod locks;
mod made;
mod nodes;
mod once;
mod site;
mod versions;
