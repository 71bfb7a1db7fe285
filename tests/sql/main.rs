//! PostgreSQL itself says how many statements a query has, what each of them did, where tokens end and how a name is kept.

#[path = "../common/mod.rs"]
mod common;

mod characters;
mod corpus;
mod made_up;
mod names;
mod reads;
mod session;
mod statements;
mod tokens;
