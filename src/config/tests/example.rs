//! The commented example tells the truth: it loads, names every key, and its defaults are those of the program.

use super::*;
use crate::config::node::KEYS;

const EXAMPLE: &str = include_str!("../../../config/pgcanon.toml");

/// The example with its commented keys put in force.
fn in_force() -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(|line| uncomment(line) + "\n").collect()
}

#[test]
fn the_example_loads() {
    let config = load(EXAMPLE);
    assert_eq!((config.allow.len(), config.peers.len(), config.tables.len()), (2, 1, 2));
}

#[test]
fn a_commented_key_shows_its_default() {
    let site = Site::new();
    let (as_is, mut stated) = (site.load(EXAMPLE).unwrap(), site.load(&in_force()).unwrap());
    // These two have none.
    assert!(stated.node.threads.take().is_some() && stated.node.user_timeout.take().is_some());
    assert_eq!(as_is, stated);
}

#[test]
fn every_key_is_there() {
    let stated = in_force();
    let table = [
        "name",
        "peers",
        "rename",
        "columns",
        "where",
        "delivery",
        "ack_timeout",
        "on_error",
        "triggers",
        "conflict",
        "unreplicable",
        "ddl",
    ];
    let others = ["mode", "cert", "key", "ca", "address", "database", "user", "trust", "connect", "spill_after"];
    for key in KEYS.iter().chain(&table).chain(&others).chain(&["max_queue_bytes", "writing", "harmless"]) {
        assert!(stated.lines().any(|l| l.starts_with(&format!("{key} = "))), "{key}");
    }
}
