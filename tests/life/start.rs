//! What keeps a node from starting: one clear message, exit code 2.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::common::certs::Certs;
use crate::common::{Cluster, Pg, temp_dir};
use crate::refuses;

/// A directory with a configuration whose `[node]` has these lines; then come other sections.
fn site(node: &str, rest: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = temp_dir("start");
    let config = dir.path().join("pgcanon.toml");
    let text = format!("[node]\nname = \"a\"\nserver = \"host=/nowhere\"\n{node}\n{rest}\n");
    std::fs::write(&config, text).expect("write the configuration");
    (dir, config)
}

/// Asserts that a message is one line with all of these in it.
fn says(told: &str, parts: &[&str]) {
    let lines: Vec<&str> = told.lines().filter(|line| !line.contains(" INFO ") && !line.contains(" WARN ")).collect();
    assert_eq!(lines.len(), 1, "{told}");
    for part in parts {
        assert!(lines[0].contains(part), "{part:?} is not in: {told}");
    }
}

#[test]
fn a_port_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = taken.local_addr().expect("an address").to_string();
    let (_dir, config) = site(&format!("listen = \"{address}\""), "");
    says(&refuses(&config), &[&format!("cannot listen on {address}"), "in use", "node.listen"]);

    let (_dir, config) = site(&format!("listen = \"127.0.0.1:0\"\nmetrics = \"{address}\""), "");
    says(&refuses(&config), &[&format!("cannot listen on {address} for metrics"), "in use", "node.metrics"]);

    let (_dir, config) = site(&format!("listen = \"127.0.0.1:0\"\nadmin = \"{address}\""), "");
    says(&refuses(&config), &[&format!("cannot listen on {address} for the console"), "in use", "node.admin"]);
}

#[test]
fn an_address_of_another_machine() {
    let (_dir, config) = site("listen = \"192.0.2.1:6432\"", "[[allow]]\ntrust = true");
    says(&refuses(&config), &["cannot listen on 192.0.2.1:6432", "no such address", "node.listen"]);
    let (_dir, config) = site("listen = \"/nowhere/at/all\"", "");
    says(&refuses(&config), &["/nowhere/at/all", "make the directory first", "node.listen"]);
}

#[test]
fn keys_that_are_missing_or_open_to_others() {
    let certs = Certs::new();
    let pair = certs.server("proxy");
    let tls = |key: &str| format!("[tls]\nmode = \"allow\"\ncert = \"{}\"\nkey = \"{key}\"", pair.cert.display());
    let (_dir, config) = site("listen = \"127.0.0.1:0\"", &tls("/nowhere/server.key"));
    says(&refuses(&config), &["pgcanon.toml:8: tls.key: ", "/nowhere/server.key"]);

    let key = pair.key.display().to_string();
    let (_dir, config) = site("listen = \"127.0.0.1:0\"", &tls(&key));
    let mode = |mode| std::fs::set_permissions(&pair.key, std::fs::Permissions::from_mode(mode)).expect("set the mode");
    mode(0o644);
    says(&refuses(&config), &["pgcanon.toml:8: tls.key: ", &key, "0644", "chmod 0600"]);
    mode(0o600);
    std::fs::write(&pair.key, "no key\n").expect("spoil the key");
    says(&refuses(&config), &[&key]);
}

#[test]
fn configurations_that_cannot_be_read() {
    let (_dir, config) = site("lisen = \"127.0.0.1:0\"", "");
    says(&refuses(&config), &["pgcanon.toml:4: node.lisen: unknown key", "did you mean `listen`?"]);
    says(
        &refuses(&config.with_file_name("none.toml")),
        &["none.toml: the configuration cannot be read", "No such file"],
    );
    let (_dir, config) = site("max_connections = \"many\"", "");
    says(&refuses(&config), &["pgcanon.toml:4: node.max_connections: "]);
    std::fs::write(&config, "[node\n").expect("write the configuration");
    says(&refuses(&config), &["pgcanon.toml:1: "]);
}

#[test]
fn a_server_that_lets_in_everybody_from_beyond_this_machine() {
    let cluster = Cluster::shared(Pg::V15);
    let dir = temp_dir("start");
    let config = dir.path().join("pgcanon.toml");
    let server = format!("host={} port={}", cluster.socket_dir().display(), cluster.port());
    let text = format!("[node]\nname = \"a\"\nlisten = \"*:0\"\nserver = \"{server}\"\n");
    std::fs::write(&config, &text).expect("write the configuration");
    says(&refuses(&config), &["refusing to listen beyond this machine", "pg_hba.conf", "scram-sha-256"]);
}
