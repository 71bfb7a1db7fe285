//! What a good file means.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::*;
use crate::config::*;

#[test]
fn a_name_is_all_that_must_be_said() {
    let config = load_node("");
    assert_eq!(config.node.name.as_str(), "a");
    assert_eq!(config.node.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:6432"]);
    assert_eq!(config.node.server, ConnInfo::default());
    assert_eq!((config.node.control, config.node.admin, config.node.metrics), (None, None, None));
    assert_eq!((config.node.max_connections, config.node.threads, config.node.user_timeout), (None, None, None));
    assert_eq!(config.tls, Tls { mode: TlsMode::Disable, cert: None, key: None, ca: None });
    assert!(config.allow.is_empty() && config.peers.is_empty() && config.tables.is_empty());
}

#[test]
fn a_socket_takes_the_port_of_the_first_tcp_entry() {
    let shown = |text: &str| -> Vec<String> { load_node(text).node.listen.iter().map(ToString::to_string).collect() };
    assert_eq!(
        shown(r#"listen = ["/run/a", "*:7001", "[::1]:7002", "/run/b/.s.PGSQL.9"]"#),
        ["/run/a/.s.PGSQL.7001", "*:7001", "[::1]:7002", "/run/b/.s.PGSQL.9"]
    );
    assert_eq!(shown(r#"listen = "/run/a""#), ["/run/a/.s.PGSQL.6432"]);
    assert_eq!(
        shown(r#"listen = ["127.0.0.1:0", "127.0.0.1:0", "/run/a"]"#),
        ["127.0.0.1:0", "127.0.0.1:0", "/run/a/.s.PGSQL.6432"]
    );
}

#[test]
fn control_lies_on_top_of_server() {
    let config = load_node(
        r#"server = "host=/srv port=5433 sslmode=disable"
           control = "dbname=app user=pgcanon port=5434""#,
    );
    let control = config.node.control.unwrap();
    assert_eq!(control.to_string(), "host=/srv port=5434 dbname=app user=pgcanon sslmode=disable");
    assert_eq!(config.node.server.to_string(), "host=/srv port=5433 sslmode=disable");
}

#[test]
fn variables_stand_for_their_value_whatever_is_in_it() {
    let config = load_node(
        r#"server = "${WHOLE}"
           control = "user=u password=${HARD} dbname='a b'"
           log_level = "info"
           [[peer]]
           name = "${NAME}"
           connect = "postgres://u:${HARD}@db1/app?application_name=$${HARD}""#,
    );
    assert_eq!(config.node.server.to_string(), "host=/srv port=1234");
    let control = config.node.control.clone().unwrap();
    assert_eq!(control.password, Some(Secret::new("p w'\\@:/?")));
    assert_eq!(control.dbname.as_deref(), Some("a b"));
    let peer = &config.peers[0];
    assert_eq!(peer.name.as_str(), "node1");
    assert_eq!(peer.connect.password, Some(Secret::new("p w'\\@:/?")));
    assert_eq!(peer.connect.application_name.as_deref(), Some("${HARD}"));
    let shown = format!("{config:?} {} {}", control, peer.connect);
    assert!(shown.contains("***") && !shown.contains("p w"), "{shown}");
}

#[test]
fn limits_and_times_are_taken_as_written() {
    let node = load_node(
        r#"max_connections = 0
           threads = 0x2
           drain_timeout = "0s"
           keepalive_idle = "0s"
           keepalive_count = 3
           user_timeout = "250ms"
           auth = "relay"
           log = "json""#,
    )
    .node;
    assert_eq!((node.max_connections, node.threads), (None, NonZeroUsize::new(2)));
    assert_eq!((node.drain_timeout, node.user_timeout), (Duration::ZERO, Some(Duration::from_millis(250))));
    assert_eq!((node.keepalive.idle, node.keepalive.count), (Duration::ZERO, 3));
    assert_eq!((node.auth, node.log), (Auth::Relay, LogFormat::Json));
    assert_eq!(load_node("max_connections = 7").node.max_connections, NonZeroUsize::new(7));
}

#[test]
fn relative_paths_are_found_beside_the_file() {
    let site = Site::new();
    let text = "[node]\nname='a'\ncluster_key_file='certs/cluster.key'\n[tls]\ncert='certs/server.crt'\nkey='certs/server.key'";
    let config = site.load(text).unwrap();
    assert_eq!(config.node.cluster_key_file, Some(site.path("certs/cluster.key")));
    assert_eq!(config.tls.key, Some(site.path("certs/server.key")));
    assert_eq!(config.tls.mode, TlsMode::Allow);
    // Tests start in the root of the crate: what is not beside the file is looked for there.
    let config = site.load("[node]\nname='a'\n[tls]\nmode='allow'\ncert='Cargo.toml'\nkey='certs/server.key'").unwrap();
    assert_eq!(config.tls.cert, Some(PathBuf::from("Cargo.toml")));
}

#[test]
fn tls_that_is_off_may_lack_its_files() {
    let config = load_node("[tls]\nmode = \"disable\"\ncert = \"none.crt\"\n");
    assert_eq!(config.tls.mode, TlsMode::Disable);
}

#[test]
fn allow_rules_keep_their_order() {
    let config =
        load_node("[[allow]]\naddress='local'\n[[allow]]\naddress=['10.0.0.0/8']\ndatabase='app'\ntrust=true\n");
    let at = |source| admit(&config.allow, source, "app", "u");
    assert_eq!(at(Source::Local), Admission::Admitted { trust: false });
    assert_eq!(at(Source::Addr([10, 0, 0, 1].into())), Admission::Admitted { trust: true });
    assert_eq!(at(Source::Addr([11, 0, 0, 1].into())), Admission::Refused);
    assert_eq!(config.allow[0].database, Names::All);
    assert_eq!(load_node("[[allow]]\nuser=['x', 'all']").allow[0].user, Names::All);
}

#[test]
fn functions_are_listed_by_name() {
    let capture = load_node("[capture]\nwriting = [\"app.book\", \"native\"]\nharmless = \"app.look\"\n").capture;
    assert_eq!(capture.writing, ["app.book", "native"]);
    assert_eq!(capture.harmless, ["app.look"]);
    assert_eq!(load_node("").capture, Capture::default());
}

#[test]
fn a_rule_says_all_it_can() {
    let config = load_node(
        r#"
[[peer]]
name = "b"
connect = "user=u"
max_queue_bytes = "2MB"
[[peer]]
name = "c"
connect = "user=u"
[[table]]
name = "local.loc_test"
peers = ["b", "c"]
rename = { b = "remote.rmt.test" }
columns = ["pk1", "info"]
where = "info is not null"
delivery = "ack"
ack_timeout = "2s"
on_error = "park"
triggers = "skip"
conflict = { resolve = "first", by = "column:mod:time", prefer = "a" }
unreplicable = "warn"
ddl = "local"
[[table]]
name = "public.*"
peers = []
conflict = { resolve = "last" }
"#,
    );
    let [one, all] = config.tables.as_slice() else { panic!("{:?}", config.tables) };
    let name = |n| NodeName::new(n).unwrap();
    assert_eq!(one.peers, Some(vec![name("b"), name("c")]));
    assert_eq!(one.rename[&name("b")], TableName { schema: "remote".into(), table: "rmt.test".into() });
    assert_eq!(one.delivery, Delivery::Ack(Duration::from_secs(2)));
    assert_eq!((one.on_error, one.triggers), (OnError::Park, Some(Triggers::Skip)));
    assert_eq!((one.unreplicable, one.ddl), (Unreplicable::Warn, Ddl::Local));
    assert_eq!(
        one.conflict,
        Some(Conflict { resolve: Resolve::First, by: ResolveBy::Column("mod:time".into()), prefer: Some(name("a")) })
    );
    assert_eq!((all.name.is_exact(), all.peers.as_deref(), all.triggers), (false, Some(&[][..]), None));
    assert_eq!(all.conflict, Some(Conflict { resolve: Resolve::Last, by: ResolveBy::CommitTime, prefer: None }));
    assert_eq!(config.peers[0].max_queue_bytes, 2 << 20);
}
