//! Nodes that follow each other: what is written through one proxy is in every node's tables, once, and comes back to none.

#[path = "../common/mod.rs"]
mod common;

mod ack;
mod atomic;
mod bounded;
mod causes;
mod chance;
mod converge;
mod ddl;
mod equal;
mod keys;
mod kinds;
mod mesh;
mod names;
mod one_table;
mod own_numbers;
mod pgbench;
mod queue;
mod rules;
mod security;
mod settle;
mod statements;
mod values;
