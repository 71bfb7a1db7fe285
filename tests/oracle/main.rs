//! Everything a client can do, once on the server and once through the proxy: the bytes that come back must be the same.
//!
//! One file per subject; `PGCANON_TEST_TARGET=direct` compares the server with itself.

#[path = "../common/mod.rs"]
mod common;

mod auth;
mod big;
mod broken;
mod cancel;
mod captured;
mod copy;
mod encoding;
mod extended;
mod function;
mod notices;
mod pipeline;
mod portals;
mod replication;
mod simple;
mod startup;
mod transactions;
mod unexpected;
