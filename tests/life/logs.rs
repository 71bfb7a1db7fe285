//! What is logged: JSON on request, one event a line, never SQL at info, never a secret at all.

use rustix::process::Signal;

use crate::common::{Client, Cluster, Pg, Proxy, eventually, msg, scram};
use crate::said;

const HBA: &str = "local all postgres trust\nlocal all all password\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// Does what would be tempting to log: statements, values, errors, passwords right and wrong.
fn tempt(cluster: &Cluster, proxy: &Proxy) {
    let mut admin = Client::login(&proxy.unix());
    admin.query("select 'lingonberry' as cloudberry");
    admin.query("alter role joe password 'raspberry'");
    admin.query("select 'lingonberry'::int");
    admin.send(&msg::together(&[
        msg::parse("cloudberry", "select $1 || 'lingonberry'", &[]),
        msg::bind("", "cloudberry", &[Some(b"lingonberry")]),
        msg::execute("", 0),
        msg::sync(),
    ]));
    admin.until_ready();
    for (password, outcome) in [("raspberry", b'R'), ("blackberry", b'E')] {
        let mut joe = Client::connect(&proxy.unix());
        joe.send(&msg::startup(msg::version(3, 0), &[("user", "joe"), ("database", "postgres")]));
        let last = scram::authenticate(&mut joe, password, |_| unreachable!("no MD5 here")).pop().expect("an answer");
        assert_eq!(last.tag, outcome, "{last:?}");
    }
    // Broken SQL on the wire as well as a name that would forge a line.
    let mut forger = Client::connect(&proxy.unix());
    forger.send(&msg::startup(
        msg::version(3, 0),
        &[("user", "eve\n2026 INFO forged"), ("database", "x\r\n{\"forged\":1}")],
    ));
    assert_eq!(said(&forger.frame()).0, "28000");
    cluster.psql("alter role joe password 'raspberry'");
}

fn scene(overrides: &str) -> (Cluster, Proxy) {
    let cluster = Cluster::start(Pg::V15, "", HBA);
    cluster.psql("create role joe login password 'raspberry'; create role control login password 'cranberry'");
    let rules = "[[allow]]\nuser = [\"postgres\", \"joe\"]\n";
    let control = "control = \"user=control password=cranberry dbname=postgres\"\n";
    let proxy = Proxy::start(&cluster, &format!("[node]\n{control}{overrides}\n{rules}"));
    (cluster, proxy)
}

/// Ends the proxy and returns its log.
fn end(proxy: &Proxy) -> String {
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_exit().code(), Some(0));
    eventually("the whole log", || Some(proxy.log()).filter(|log| log.contains("stopped")))
}

#[test]
fn json_is_one_object_a_line() {
    let (cluster, proxy) = scene("log = \"json\"");
    tempt(&cluster, &proxy);
    // A message of several lines: all that is wrong with a configuration.
    std::fs::write(proxy.config_path(), "[node]\nx = 1\ny = 2\n").expect("write a bad configuration");
    proxy.signal(Signal::HUP);
    proxy.wait_log("reload failed");
    let log = end(&proxy);
    assert!(log.lines().count() > 5, "{log}");
    for line in log.lines() {
        // PostgreSQL's own parser says what JSON is.
        let fields = cluster
            .psql(&format!("select j->>'level', j->'timestamp' is not null from (select $js${line}$js$::json j) j"));
        let level = fields.strip_suffix("|t").unwrap_or_else(|| panic!("no timestamp in {line}"));
        assert!(["INFO", "WARN", "ERROR"].contains(&level), "{line}");
    }
}

#[test]
fn at_info_there_is_no_sql_and_no_line_is_forged() {
    let (cluster, proxy) = scene("");
    tempt(&cluster, &proxy);
    let log = end(&proxy);
    assert!(log.contains("refused"), "the refusals are told: {log}");
    assert!(!log.contains("berry"), "{log}");
    for line in log.lines() {
        let levels = [" INFO ", " WARN ", " ERROR "];
        assert!(
            levels.iter().any(|level| line.get(20..).is_some_and(|rest| rest.contains(level))),
            "a line of its own: {line:?}"
        );
        assert!(!line.starts_with("2026 ") && !line.starts_with('{'), "forged: {line:?}\n{log}");
    }
}

#[test]
fn secrets_are_not_even_traced() {
    let (cluster, proxy) = scene("log_level = \"trace\"");
    tempt(&cluster, &proxy);
    assert_eq!(proxy.http("/readyz").0, 200, "the control connection is used");
    let log = end(&proxy);
    assert!(log.contains("DEBUG") || log.contains("TRACE"), "it does trace: {log}");
    for secret in ["raspberry", "blackberry", "cranberry"] {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
}
