//! `[[peer]]`: the other nodes, and how to reach their PostgreSQL.

use std::time::Duration;

use super::conninfo::ConnInfo;
use super::node::{self, NodeName};
use super::problem::Complaint;
use super::section::Section;
use super::units;

/// Another node, which receives this node's changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// Where its PostgreSQL is, and as whom to log in there.
    pub connect: ConnInfo,
    /// How long it may be out of reach before its changes go to the error queue.
    pub spill_after: Duration,
    /// How much may wait for it before it is given up.
    pub max_queue_bytes: u64,
}

/// The names of this node and of its peers, as far as they could be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) node: Option<NodeName>,
    pub(super) peers: Vec<NodeName>,
    /// Whether some name could not be read, so that nothing is known to be wrong for being absent.
    pub(super) incomplete: bool,
}

impl Peer {
    pub(super) fn read(mut s: Section<'_>, names: &mut Names) -> Option<Self> {
        let reading = s.reading();
        let name = s.require("name", "the name of the peer").and_then(|item| {
            let name = reading.parse(&item, node::name)?;
            if names.node.as_ref() == Some(&name) {
                let message = format!("`{name}` is this node itself, and a node is no peer of its own");
                reading.object(&item, Complaint::new(message));
            } else if names.peers.contains(&name) {
                reading.object(&item, Complaint::new(format!("another peer is named `{name}` already")));
            }
            Some(name)
        });
        match &name {
            Some(name) => names.peers.push(name.clone()),
            None => names.incomplete = true,
        }
        let connect = s.require("connect", "the connection string of the peer's PostgreSQL").and_then(|item| {
            let connect = reading.conninfo(&item)?;
            (reading.check_conninfo(&item, &connect) && reading.check_login(&item, &connect)).then_some(connect)
        });
        let spill_after = s.parse("spill_after", units::duration).unwrap_or(Duration::from_secs(30));
        let max_queue_bytes = s.parse("max_queue_bytes", units::size).unwrap_or(1 << 30);
        s.finish(|_| None);
        Some(Self { name: name?, connect: connect?, spill_after, max_queue_bytes })
    }
}
