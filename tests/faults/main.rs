//! Everything fails at any moment, and nothing is lost, doubled or made up: processes killed, networks cut, a peer promoted.

#[path = "../common/mod.rs"]
mod common;

mod commits;
mod killed;
mod ledger;
mod load;
mod network;
mod promoted;
mod site;
mod writer;
