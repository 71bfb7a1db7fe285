//! What a new configuration changes, and which of it a running proxy can take on (§10).

use std::collections::BTreeSet;

use super::file::Config;
use super::node::{Keepalive, Node};
use super::peer::Peer;
use super::table::TableRule;
use super::tls::Tls;

/// The keys that differ between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that take effect at once, for new sessions.
    pub live: Vec<String>,
    /// Those that take effect after a restart.
    pub restart: Vec<String>,
}

impl Changes {
    /// Whether nothing differs. The *content* of certificate files may differ still: read them again in any case.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }

    fn live<T: PartialEq>(&mut self, key: &str, old: &T, new: &T) {
        if old != new {
            self.live.push(key.to_owned());
        }
    }

    fn restart<T: PartialEq>(&mut self, key: &str, old: &T, new: &T) {
        if old != new {
            self.restart.push(key.to_owned());
        }
    }
}

impl Config {
    /// What differs in `new`.
    pub fn changes(&self, new: &Config) -> Changes {
        let mut changes = Changes::default();
        node(&mut changes, &self.node, &new.node);
        // Taken apart by name, so that a new field cannot be forgotten here.
        let Tls { mode, cert, key, ca } = &self.tls;
        changes.live("tls.mode", mode, &new.tls.mode);
        changes.live("tls.cert", cert, &new.tls.cert);
        changes.live("tls.key", key, &new.tls.key);
        changes.live("tls.ca", ca, &new.tls.ca);
        changes.live("allow", &self.allow, &new.allow);
        changes.live("console_user", &self.console_users, &new.console_users);
        changes.live("capture", &self.capture, &new.capture);
        peers(&mut changes, &self.peers, &new.peers);
        tables(&mut changes, &self.tables, &new.tables);
        changes
    }
}

fn node(changes: &mut Changes, old: &Node, new: &Node) {
    let Node {
        name,
        listen,
        server,
        control,
        admin,
        metrics,
        cluster_key_file,
        auth,
        max_connections,
        threads,
        drain_timeout,
        login_timeout,
        connect_timeout,
        keepalive: Keepalive { idle, interval, count },
        user_timeout,
        retain,
        log,
        log_level,
    } = old;
    changes.restart("node.name", name, &new.name);
    changes.restart("node.listen", listen, &new.listen);
    changes.live("node.server", server, &new.server);
    changes.live("node.control", control, &new.control);
    changes.restart("node.admin", admin, &new.admin);
    changes.restart("node.metrics", metrics, &new.metrics);
    changes.restart("node.cluster_key_file", cluster_key_file, &new.cluster_key_file);
    changes.live("node.auth", auth, &new.auth);
    changes.live("node.max_connections", max_connections, &new.max_connections);
    changes.restart("node.threads", threads, &new.threads);
    changes.live("node.drain_timeout", drain_timeout, &new.drain_timeout);
    changes.live("node.login_timeout", login_timeout, &new.login_timeout);
    changes.live("node.connect_timeout", connect_timeout, &new.connect_timeout);
    changes.live("node.keepalive_idle", idle, &new.keepalive.idle);
    changes.live("node.keepalive_interval", interval, &new.keepalive.interval);
    changes.live("node.keepalive_count", count, &new.keepalive.count);
    changes.live("node.user_timeout", user_timeout, &new.user_timeout);
    changes.live("node.retain", retain, &new.retain);
    changes.restart("node.log", log, &new.log);
    changes.live("node.log_level", log_level, &new.log_level);
}

fn peers(changes: &mut Changes, old: &[Peer], new: &[Peer]) {
    let names: BTreeSet<_> = old.iter().chain(new).map(|p| &p.name).collect();
    for name in names {
        let find = |peers: &'_ [Peer]| peers.iter().find(|p| p.name == *name).cloned();
        match (find(old), find(new)) {
            (Some(Peer { name: _, connect, spill_after, max_queue_bytes }), Some(new)) => {
                changes.restart(&format!("peer.{name}.connect"), &connect, &new.connect);
                changes.restart(&format!("peer.{name}.spill_after"), &spill_after, &new.spill_after);
                changes.restart(&format!("peer.{name}.max_queue_bytes"), &max_queue_bytes, &new.max_queue_bytes);
            }
            (old, new) => changes.restart(&format!("peer.{name}"), &old, &new),
        }
    }
}

fn tables(changes: &mut Changes, old: &[TableRule], new: &[TableRule]) {
    let names: BTreeSet<_> = old.iter().chain(new).map(|t| &t.name).collect();
    for name in &names {
        let find = |rules: &'_ [TableRule]| rules.iter().find(|t| t.name == **name).cloned();
        changes.live(&format!("table.{name}"), &find(old), &find(new));
    }
    // The first match wins, so the order alone can make a difference.
    let both = |rules: &[TableRule], others: &[TableRule]| -> Vec<String> {
        let shared = rules.iter().filter(|r| others.iter().any(|o| o.name == r.name));
        shared.map(|r| r.name.to_string()).collect()
    };
    changes.live("table (order)", &both(old, new), &both(new, old));
}
