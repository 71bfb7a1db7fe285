//! What acts on nodes from outside of the running process.

pub mod check;
pub mod demo;
pub mod init;
