//! Every change into the journal, or refused: what clients do through the proxy, and what the journal makes of it.
//!
//! The judge is `common/replay.rs`: it rebuilds the tables from the journal alone.

#[path = "../common/mod.rs"]
mod common;

mod blocks;
mod checker;
mod copy;
mod crash;
mod extended;
mod forgery;
mod lifted;
mod names;
mod order;
mod prepared;
mod random;
mod readable;
mod refused;
mod shapes;
mod simple;
mod tables;
mod triggers;

use common::Pg;
use common::node::{Node, PUBLIC};

/// Tables of the common sorts; those in schema `plain` have no rule.
const TABLES: &str = "
    create table acc (id int primary key, owner text not null default 'nobody', balance int not null default 0, note text);
    insert into acc select i, 'owner ' || i, 100 * i from generate_series(1, 10) i;
    create table ev (id bigint generated always as identity primary key, at timestamptz not null default now(), what text);
    create table tok (id uuid primary key default gen_random_uuid(), n serial, r double precision default random());
    create table pair (a int, b text, v numeric(12,3), tags text[], doc jsonb, primary key (a, b));
    insert into pair select i / 3, 'b' || i, i, array['x', i::text], jsonb_build_object('i', i) from generate_series(1, 9) i;
    create table log (line text, n int);
    create schema plain; create table plain.seen (id int primary key, v text);
    insert into plain.seen select i, 'seen ' || i from generate_series(1, 5) i;";

/// Runs a test on a node of each version, with these tables and a rule for schema `public`.
fn on_both(tables: &str, test: impl Fn(&Node)) {
    for pg in [Pg::V15, Pg::V18] {
        test(&Node::start(pg, tables, PUBLIC));
    }
}
