//! pgcanon: a PostgreSQL proxy that lets every node's changes be followed by its peers, in order and exactly once.
//!
//! The tree is read downwards, floor by floor; a module uses its own floor and those below it:
//! `cli` and `node` over `session` and `admin` over `wire`, `sql` and `config`.

pub mod admin;
pub mod catalog;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod node;
pub mod session;
pub mod sql;
pub mod wire;
