//! What acts on nodes from outside of the running process.

pub mod check;
pub mod classify;
pub mod demo;
pub mod init;
mod keys;
mod sequences;
