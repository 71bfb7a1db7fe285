//! What acts on nodes from outside of the running process.

pub mod check;
pub mod classify;
mod clocks;
pub mod demo;
pub mod init;
mod keys;
mod origins;
mod sequences;
