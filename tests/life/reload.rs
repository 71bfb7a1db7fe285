//! SIGHUP: what changes at once, what waits for a restart, and a bad file that changes nothing.

use rustix::process::Signal;

use crate::common::certs::{Certs, Pair};
use crate::common::{Client, Cluster, Pg, Proxy, msg};
use crate::{said, try_login};

/// Changes the text of the configuration file.
fn edit(proxy: &Proxy, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(proxy.config_path()).expect("read the configuration");
    std::fs::write(proxy.config_path(), change(text)).expect("write the configuration");
}

/// Reloads and waits until that is done; what was said about it.
fn reload(proxy: &Proxy, expect: &str) -> String {
    let before = proxy.log().len();
    proxy.signal(Signal::HUP);
    crate::common::eventually(&format!("the log to say {expect:?}"), || {
        let log = proxy.log();
        log[before..].contains(expect).then(|| log[before..].to_owned())
    })
}

#[test]
fn rules_and_limits_change_for_new_sessions_only() {
    let cluster = Cluster::shared(Pg::V15);
    let proxy = Proxy::start(&cluster, "");
    let mut old = Client::login(&proxy.tcp());
    edit(&proxy, |text| format!("{text}\n[[allow]]\naddress = \"local\"\n"));
    reload(&proxy, "keys=\"allow\"");
    assert_eq!(said(&try_login(&proxy.tcp()).expect_err("no rule for TCP")).0, "28000");
    old.query("select 1");
    let mut local = Client::login(&proxy.unix());

    edit(&proxy, |text| text.replace("[node]\n", "[node]\nmax_connections = 2\n"));
    reload(&proxy, "keys=\"node.max_connections\"");
    assert_eq!(said(&try_login(&proxy.unix()).expect_err("two are there")).0, "53300");

    edit(&proxy, |text| {
        text.replace("[node]\n", "[node]\ndrain_timeout = \"1s\"\n").replace("max_connections = 2\n", "")
    });
    let said = reload(&proxy, "in force for new sessions");
    assert!(said.contains("keys=\"node.max_connections, node.drain_timeout\""), "{said}");
    Client::login(&proxy.unix());
    local.query("select 1");
    reload(&proxy, "no key changed");
}

#[test]
fn what_needs_a_restart_is_said_each_time() {
    let cluster = Cluster::shared(Pg::V15);
    let proxy = Proxy::start(&cluster, "");
    let original = std::fs::read_to_string(proxy.config_path()).expect("read the configuration");
    edit(&proxy, |text| {
        let lines = text.lines().filter(|line| !line.starts_with("metrics") && !line.starts_with("listen"));
        let text: Vec<&str> = lines.collect();
        text.join("\n").replace("[node]", "[node]\nlisten = \"127.0.0.1:1\"\nmax_connections = 7")
    });
    let first = reload(&proxy, "only after a restart");
    assert!(first.contains("keys=\"node.listen, node.metrics\""), "{first}");
    assert!(first.contains("keys=\"node.max_connections\""), "{first}");
    let second = reload(&proxy, "only after a restart");
    assert!(second.contains("keys=\"node.listen, node.metrics\""), "{second}");
    assert!(!second.contains("node.max_connections"), "in force already: {second}");
    Client::login(&proxy.tcp());
    assert_eq!(proxy.http("/healthz").0, 200);

    std::fs::write(proxy.config_path(), original).expect("write the configuration");
    let third = reload(&proxy, "in force for new sessions");
    assert!(!third.contains("restart"), "it is what the process was started with: {third}");
}

#[test]
fn a_bad_file_changes_nothing_and_is_told_with_its_lines() {
    let cluster = Cluster::shared(Pg::V15);
    let proxy = Proxy::start(&cluster, "");
    let original = std::fs::read_to_string(proxy.config_path()).expect("read the configuration");
    let line = original.lines().count() + 2;
    edit(&proxy, |text| format!("{text}\n[[allow]]\nadress = \"local\"\n"));
    let told = reload(&proxy, "reload failed, everything stays as it was");
    let expected = format!("pgcanon.toml:{}: allow.adress: unknown key; did you mean `address`?", line + 1);
    assert!(told.contains(&expected), "{expected}\n{told}");
    Client::login(&proxy.tcp());

    edit(&proxy, |_| format!("{original}\n[tls]\ncert = \"/nowhere/a.crt\"\nkey = \"/nowhere/a.key\"\n"));
    let told = reload(&proxy, "reload failed");
    assert!(told.contains("/nowhere/a.crt"), "{told}");
    std::fs::remove_file(proxy.config_path()).expect("remove the configuration");
    let told = reload(&proxy, "reload failed");
    assert!(told.contains("cannot be read"), "{told}");
    Client::login(&proxy.tcp());

    std::fs::write(proxy.config_path(), original).expect("write the configuration");
    reload(&proxy, "no key changed");
}

/// What the proxy shows a client that comes with TLS.
fn shown(proxy: &Proxy, certs: &Certs) -> Result<(), String> {
    let mut client = Client::connect(&proxy.tcp());
    client.send(&msg::packet(msg::SSL_REQUEST, b""));
    assert_eq!(client.byte(), Some(b'S'));
    client.tls(certs.client_config(None, None), "localhost").map(drop).map_err(|e| e.to_string())
}

#[test]
fn renewed_certificates_are_read_again() {
    let cluster = Cluster::shared(Pg::V15);
    let (old, new) = (Certs::new(), Certs::new());
    let Pair { cert, key } = old.server("proxy");
    let tls = format!("[tls]\nmode = \"allow\"\ncert = \"{}\"\nkey = \"{}\"\n", cert.display(), key.display());
    let proxy = Proxy::start(&cluster, &tls);
    assert_eq!(shown(&proxy, &old), Ok(()));
    assert!(shown(&proxy, &new).is_err());

    // Renewed in place: no key of the configuration changes.
    let renewed = new.server("proxy");
    std::fs::copy(&renewed.cert, &cert).expect("renew the certificate");
    let told = reload(&proxy, "reload failed");
    assert!(told.contains("proxy.crt") || told.contains("proxy.key"), "the new certificate has another key: {told}");
    assert_eq!(shown(&proxy, &old), Ok(()), "a half renewal changes nothing");
    std::fs::copy(&renewed.key, &key).expect("renew the key");
    reload(&proxy, "no key changed; certificates were read again");
    assert_eq!(shown(&proxy, &new), Ok(()));
    assert!(shown(&proxy, &old).is_err());
}

#[test]
fn what_is_logged_can_change() {
    let cluster = Cluster::shared(Pg::V15);
    let proxy = Proxy::start(&cluster, "");
    Client::login(&proxy.tcp());
    assert!(!proxy.log().contains("DEBUG"));
    edit(&proxy, |text| text.replace("[node]\n", "[node]\nlog_level = \"debug\"\n"));
    reload(&proxy, "keys=\"node.log_level\"");
    Client::login(&proxy.tcp());
    proxy.wait_log("DEBUG");
}
