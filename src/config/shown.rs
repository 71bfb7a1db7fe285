//! A configuration as keys and values, for whoever asks what is in force; secrets stay hidden.

use std::fmt::Display;
use std::time::Duration;

use super::allow::{AddressRule, Allow, Names};
use super::capture::Capture;
use super::choice::Choice;
use super::console::ConsoleUser;
use super::file::Config;
use super::node::{Keepalive, Node};
use super::peer::Peer;
use super::table::{Conflict, Delivery, Resolve, ResolveBy, TableRule};
use super::tls::Tls;

/// What was set stands there; what was left out and has no default is empty.
#[derive(Default)]
struct Shown(Vec<(String, String)>);

impl Config {
    /// Every key with its value, in the order of the file's sections.
    #[must_use]
    pub fn shown(&self) -> Vec<(String, String)> {
        // Taken apart by name, so that a new field cannot be forgotten here.
        let Self { path: _, node, tls, allow, capture, console_users, peers, tables } = self;
        let mut shown = Shown::default();
        shown.node(node);
        shown.tls(tls);
        (1..).zip(allow).for_each(|(number, rule)| shown.allow(number, rule));
        let Capture { writing, harmless } = capture;
        shown.put("capture.writing", writing.join(", "));
        shown.put("capture.harmless", harmless.join(", "));
        for ConsoleUser { name, password: _, may } in console_users {
            shown.put(&format!("console_user.{name}.may"), may.word());
        }
        for Peer { name, connect, spill_after, max_queue_bytes } in peers {
            shown.put(&format!("peer.{name}.connect"), connect);
            shown.time(&format!("peer.{name}.spill_after"), *spill_after);
            shown.put(&format!("peer.{name}.max_queue_bytes"), size(*max_queue_bytes));
        }
        tables.iter().for_each(|rule| shown.table(rule));
        shown.0
    }
}

impl Shown {
    fn put(&mut self, key: &str, value: impl Display) {
        self.0.push((key.to_owned(), value.to_string()));
    }

    fn maybe(&mut self, key: &str, value: Option<impl Display>) {
        self.put(key, value.map(|value| value.to_string()).unwrap_or_default());
    }

    fn time(&mut self, key: &str, value: Duration) {
        self.put(key, time(value));
    }

    fn node(&mut self, node: &Node) {
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
        } = node;
        self.put("node.name", name);
        self.put("node.listen", listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        self.put("node.server", server);
        self.maybe("node.control", control.as_ref());
        self.maybe("node.admin", *admin);
        self.maybe("node.metrics", *metrics);
        self.maybe("node.cluster_key_file", cluster_key_file.as_ref().map(|path| path.display()));
        self.put("node.auth", auth.word());
        self.maybe("node.max_connections", *max_connections);
        self.maybe("node.threads", *threads);
        self.time("node.drain_timeout", *drain_timeout);
        self.time("node.login_timeout", *login_timeout);
        self.time("node.connect_timeout", *connect_timeout);
        self.time("node.keepalive_idle", *idle);
        self.time("node.keepalive_interval", *interval);
        self.put("node.keepalive_count", count);
        self.maybe("node.user_timeout", user_timeout.map(time));
        self.time("node.retain", *retain);
        self.put("node.log", log.word());
        self.put("node.log_level", log_level);
    }

    fn tls(&mut self, tls: &Tls) {
        let Tls { mode, cert, key, ca } = tls;
        self.put("tls.mode", mode.word());
        self.maybe("tls.cert", cert.as_ref().map(|path| path.display()));
        self.maybe("tls.key", key.as_ref().map(|path| path.display()));
        self.maybe("tls.ca", ca.as_ref().map(|path| path.display()));
    }

    fn allow(&mut self, number: usize, rule: &Allow) {
        let Allow { address, database, user, trust } = rule;
        let addresses = address.iter().map(|address| match address {
            AddressRule::Local => "local".to_owned(),
            AddressRule::Net(net) => net.to_string(),
        });
        let names = |names: &Names| match names {
            Names::All => "all".to_owned(),
            Names::Only(names) => names.join(", "),
        };
        self.put(&format!("allow.{number}.address"), addresses.collect::<Vec<_>>().join(", "));
        self.put(&format!("allow.{number}.database"), names(database));
        self.put(&format!("allow.{number}.user"), names(user));
        self.put(&format!("allow.{number}.trust"), trust);
    }

    fn table(&mut self, rule: &TableRule) {
        let TableRule {
            name,
            peers,
            rename,
            columns,
            filter,
            delivery,
            on_error,
            triggers,
            conflict,
            unreplicable,
            ddl,
        } = rule;
        let key = |what: &str| format!("table.{name}.{what}");
        let peers = peers.as_ref().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        let rename: Vec<String> = rename.iter().map(|(peer, name)| format!("{peer} = {name}")).collect();
        self.maybe(&key("peers"), peers);
        self.put(&key("rename"), rename.join(", "));
        self.maybe(&key("columns"), columns.as_ref().map(|names| names.join(", ")));
        self.maybe(&key("where"), filter.as_ref());
        self.put(&key("delivery"), delivery.shown());
        self.put(&key("on_error"), on_error.word());
        self.maybe(&key("triggers"), triggers.map(Choice::word));
        self.maybe(&key("conflict"), conflict.as_ref().map(Conflict::shown));
        self.put(&key("unreplicable"), unreplicable.word());
        self.put(&key("ddl"), ddl.word());
    }
}

impl Delivery {
    /// For people to read.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Async => "async".to_owned(),
            Self::Ack(time) => format!("ack within {time:?}"),
            Self::Atomic(time) => format!("atomic within {time:?}"),
        }
    }
}

impl Conflict {
    /// For people to read.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut text = self.resolve.word().to_owned();
        if matches!(self.resolve, Resolve::Last | Resolve::First) {
            text.push_str(&match &self.by {
                ResolveBy::CommitTime => " by commit time".to_owned(),
                ResolveBy::StatementTime => " by statement time".to_owned(),
                ResolveBy::Column(column) => format!(" by column {column}"),
            });
        }
        if let Some(node) = &self.prefer {
            text.push_str(&format!(", prefer {node}"));
        }
        text
    }
}

/// As it can be written in the file.
fn time(value: Duration) -> String {
    match (value.subsec_millis(), value.as_secs()) {
        (0, seconds) => format!("{seconds}s"),
        _ => format!("{}ms", value.as_millis()),
    }
}

fn size(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{bytes}B"), |(unit, word)| format!("{}{word}", bytes.checked_div(unit).unwrap_or(0)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::super::tests::load;

    #[test]
    fn what_is_set_is_shown_and_secrets_are_not() {
        let config = load(
            "[node]\nname = \"a\"\nserver = \"password=hunter2 host=/srv\"\nretain = \"90s\"\n\
             [[console_user]]\nname = \"op\"\npassword = \"hunter3\"\nmay = \"act\"\n\
             [[peer]]\nname = \"b\"\nconnect = \"user=u password='hunter 4'\"\nmax_queue_bytes = \"3MB\"\nspill_after = \"100ms\"\n\
             [[table]]\nname = \"s.*\"\n",
        );
        let shown = config.shown();
        let all: String = shown.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        assert!(!all.contains("hunter"), "{all}");
        let value = |key: &str| shown.iter().find(|(k, _)| k == key).unwrap().1.as_str();
        assert_eq!((value("node.retain"), value("node.admin"), value("node.max_connections")), ("90s", "", ""));
        assert_eq!((value("console_user.op.may"), value("peer.b.max_queue_bytes")), ("act", "3MB"));
        assert_eq!((value("peer.b.spill_after"), value("table.s.*.on_error")), ("100ms", "stall"));
        assert!(value("peer.b.connect").contains("user=u"), "{all}");
    }
}
