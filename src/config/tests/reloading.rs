//! What a reload says of two files.

use super::*;
use crate::config::Changes;

fn changes(old: &str, new: &str) -> Changes {
    let site = Site::new();
    site.load(old).unwrap().changes(&site.load(new).unwrap())
}

const OLD: &str = r#"
[node]
name = "a"
[[peer]]
name = "b"
connect = "user=u"
[[peer]]
name = "c"
connect = "user=u"
[[table]]
name = "s.t"
[[table]]
name = "s.*"
"#;

#[test]
fn the_same_file_changes_nothing() {
    assert!(changes(OLD, OLD).is_empty());
}

#[test]
fn every_key_of_a_node_is_either_live_or_needs_a_restart() {
    let new = r#"
[node]
name = "b"
listen = "*:6432"
server = "host=/srv"
control = "user=u"
admin = "127.0.0.1:1"
metrics = "*:2"
cluster_key_file = "certs/cluster.key"
auth = "scram"
max_connections = 1
threads = 1
drain_timeout = "1s"
login_timeout = "1s"
connect_timeout = "1s"
keepalive_idle = "1s"
keepalive_interval = "1s"
keepalive_count = 1
user_timeout = "1s"
retain = "1s"
log = "json"
log_level = "warn"
"#;
    let found = changes("[node]\nname = \"a\"", new);
    let live = [
        "server",
        "control",
        "auth",
        "max_connections",
        "drain_timeout",
        "login_timeout",
        "connect_timeout",
        "keepalive_idle",
        "keepalive_interval",
        "keepalive_count",
        "user_timeout",
        "retain",
        "log_level",
    ];
    assert_eq!(found.live, live.map(|k| format!("node.{k}")));
    let restart = ["name", "listen", "admin", "metrics", "cluster_key_file", "threads", "log"];
    assert_eq!(found.restart, restart.map(|k| format!("node.{k}")));
}

#[test]
fn tls_and_allow_are_live() {
    let new = "[node]\nname='a'\n[tls]\nmode='require'\ncert='certs/server.crt'\nkey='certs/server.key'\nca='certs/ca.crt'\n[[allow]]";
    let found = changes("[node]\nname='a'", new);
    assert_eq!(found.live, ["tls.mode", "tls.cert", "tls.key", "tls.ca", "allow"]);
    assert!(found.restart.is_empty());
}

#[test]
fn what_is_said_of_functions_is_live() {
    assert_eq!(changes("[node]\nname='a'", "[node]\nname='a'\n[capture]\nwriting='f'").live, ["capture"]);
}

#[test]
fn peers_and_rules_are_told_by_name() {
    let new = r#"
[node]
name = "a"
[[peer]]
name = "b"
connect = "user=v"
spill_after = "1s"
[[peer]]
name = "d"
connect = "user=u"
[[table]]
name = "s.t"
ddl = "refuse"
[[table]]
name = "s.u"
[[table]]
name = "s.*"
"#;
    let found = changes(OLD, new);
    assert_eq!(found.live, ["table.s.t", "table.s.u"]);
    assert_eq!(found.restart, ["peer.b.connect", "peer.b.spill_after", "peer.c", "peer.d"]);
}

#[test]
fn the_order_of_rules_is_a_change() {
    let swapped = OLD.replace("s.t", "X").replace("s.*", "s.t").replace('X', "s.*");
    assert_eq!(changes(OLD, &swapped).live, ["table (order)"]);
}

#[test]
fn users_of_the_console_change_at_once() {
    let with = |password: &str| format!("{OLD}[[console_user]]\nname = \"op\"\npassword = \"{password}\"\n");
    let found = changes(&with("one"), &with("two"));
    assert_eq!((found.live, found.restart), (vec!["console_user".to_owned()], Vec::new()));
}
