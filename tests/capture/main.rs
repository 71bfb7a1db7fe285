//! Every change into the journal, or refused: what clients do through the proxy, and what the journal makes of it.
//!
//! The judge is `common/replay.rs`: it rebuilds the tables from the journal alone.

#[path = "../common/mod.rs"]
mod common;

mod checker;
