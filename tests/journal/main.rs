//! The journal: its order, its ticks, its reading, its trimming.

#[path = "../common/mod.rs"]
mod common;

mod order;
mod reading;
mod rendering;
mod store;
mod ticks;
mod trimming;
