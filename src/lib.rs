//! pgcanon: a PostgreSQL proxy that lets every node's changes be followed by its peers, in order and exactly once.
//!
//! The tree is read downwards, floor by floor; a module uses its own floor and those below it:
//! `cli`, `node` and `cluster` over `session` and `admin`, over `capture`, `journal`, `apply` and `catalog`, over `wire`,
//! `sql` and `config`.

pub mod admin;
pub mod apply;
pub mod capture;
pub mod catalog;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod forward;
pub mod journal;
pub mod node;
pub mod session;
pub mod sql;
pub mod wire;
