//! What is said about a bad file: all of it at once, with line, key and what was meant.

use super::*;

#[test]
fn every_problem_is_told_in_the_order_of_the_lines() {
    let found = problems(
        r#"listen = "*:1"
[node]
listne = "127.0.0.1:6432"
threads = "two"
auth = "scam"

[tls]
mode = "verify_client"

[[peers]]
name = "b"
"#,
    );
    assert_eq!(
        found,
        [
            "1: listen: unknown key; it belongs under [node]",
            "2: node.name: missing: a name for this node, unique in the cluster",
            "3: node.listne: unknown key; did you mean `listen`?",
            "4: node.threads: this must be a whole number, not a string",
            "5: node.auth: `scam` is not allowed here; it takes `relay` or `scram`; did you mean `scram`?",
            "7: tls.cert: missing: the PEM file of the server certificate, or set mode = \"disable\"",
            "7: tls.key: missing: the PEM file of the certificate's private key",
            "8: tls.mode: `verify_client` is not allowed here; it takes `disable`, `allow`, `require` or \
             `verify-client`; did you mean `verify-client`?",
            "10: peers: unknown key; did you mean `peer`?",
        ]
    );
}

#[test]
fn broken_toml_has_lines_too() {
    let found = problems("[node]\nname = \"a\nlisten = [\n\nx = = 2\n");
    assert!(found.len() > 1 && found[0].starts_with("2: "), "{found:?}");
    let found = problems("[node]\nname = \"a\"\nname = \"b\"\n");
    assert!(found.len() == 1 && found[0].starts_with("3: duplicate key"), "{found:?}");
    assert_eq!(problems(""), [" node: the section [node] is missing"]);
}

#[test]
fn a_file_that_cannot_be_read_is_said_so() {
    let site = Site::new();
    let load = |name: &str| Config::load(&site.path(name)).unwrap_err().to_string();
    let missing = load("none.toml");
    assert!(missing.contains("none.toml: the configuration cannot be read: No such file"), "{missing}");
    std::fs::write(site.path("latin1.toml"), b"# ok\n# caf\xe9\n").unwrap();
    assert!(load("latin1.toml").ends_with("latin1.toml:2: this line is not UTF-8"));
}

#[test]
fn sections_have_their_brackets() {
    assert_eq!(
        problems("[[node]]\nname = \"a\"\n[peer]\nname = \"b\"\n"),
        [
            "1: node: there is one of these; write it [node]",
            "3: peer: there may be several of these; write each [[peer]]"
        ]
    );
    assert_eq!(problems("node = 1"), ["1: node: this must be a table, not an integer"]);
}

#[test]
fn listen_entries_have_the_line_of_their_own() {
    assert_eq!(
        node_problems(
            "listen = [\n  \"*:6432\",\n  \"*:6432\",\n  7,\n  \"/a\", \"/a/.s.PGSQL.6432\",\n]\nadmin = \"127.0.0.1:9\"\nmetrics=\"*:x\""
        ),
        [
            "5: node.listen: `*:6432` is listed twice",
            "6: node.listen: this must be a string, not an integer",
            "7: node.listen: `/a/.s.PGSQL.6432` is listed twice",
            "10: node.metrics: `*:x` is not an address with its port, such as \"127.0.0.1:6433\"",
        ]
    );
    assert_eq!(node_problems("listen = []"), ["3: node.listen: an empty list: nobody could connect"]);
    assert_eq!(
        node_problems("listen = \"127.0.0.1:7\"\nadmin = \"localhost:7\""),
        ["4: node.admin: `127.0.0.1:7` is in `listen` already; give this another port"]
    );
    assert_eq!(
        node_problems("admin = \"localhost:7\"\nmetrics = \"127.0.0.1:7\""),
        ["4: node.metrics: `127.0.0.1:7` is the console's already; give this another port"]
    );
    assert_eq!(node_problems("admin = \"[::1]:7\""), [""; 0]);
    for beyond in ["*:7", "10.0.0.1:7", "[::]:7"] {
        let found = node_problems(&format!("admin = \"{beyond}\""));
        assert!(found.len() == 1 && found[0].starts_with("3: node.admin: "), "{found:?}");
        assert!(found[0].ends_with("can be reached from other machines, and what the console says is not encrypted; did you mean `127.0.0.1:7`?"), "{found:?}");
    }
}

#[test]
fn numbers_and_times_have_their_bounds() {
    assert_eq!(
        node_problems(
            "max_connections = -1\nthreads = 0\ndrain_timeout = 60\nlogin_timeout = \"0s\"\nconnect_timeout = \"5m\"\n\
             keepalive_idle = \"100ms\"\nkeepalive_interval = \"0s\"\nkeepalive_count = 4294967296\nlog_level = \"lots\""
        ),
        [
            "3: node.max_connections: this must be from 0 to 4294967295",
            "4: node.threads: this must be from 1 to 4294967295",
            "5: node.drain_timeout: this must be a string, not an integer",
            "6: node.login_timeout: this must be longer than nothing",
            "7: node.connect_timeout: a duration is a whole number with its unit (ms, s, min, h or d), such as \"250ms\" \
             or \"10s\"; did you mean `5min`?",
            "8: node.keepalive_idle: this is counted in whole seconds, such as \"10s\"",
            "9: node.keepalive_interval: this must be longer than nothing",
            "10: node.keepalive_count: this must be from 1 to 4294967295",
            "11: node.log_level: `lots` is no log level: `off`, `error`, `warn`, `info`, `debug` or `trace`, or \
             directives such as \"info,pgcanon::wire=debug\"",
        ]
    );
}

#[test]
fn connection_strings_are_checked_with_what_lies_under_them() {
    assert_eq!(
        node_problems("server = \"host=/srv prot=1\"\ncontrol = \"user=u\""),
        ["3: node.server: connection string: unknown keyword `prot`; did you mean `port`?"]
    );
    assert_eq!(node_problems("control = \"dbname=app\""), ["3: node.control: this names no role; add user=NAME"]);
    assert_eq!(
        node_problems("server = \"sslmode=disable\"\ncontrol = \"user=u sslnegotiation=direct\""),
        [
            "4: node.control: connection string: sslnegotiation=direct needs sslmode=require, verify-ca or verify-full, not disable"
        ]
    );
    assert_eq!(
        node_problems("auth = \"scram\""),
        ["3: node.auth: `scram` reads the server's verifiers over the control connection; set `control`"]
    );
    assert_eq!(node_problems("auth = \"scram\"\ncontrol = \"user=u port=x\"").len(), 1);
    assert!(node_problems("auth = \"scram\"\ncontrol = \"user=u\"").is_empty());
}

#[test]
fn an_unset_variable_is_named_and_no_secret_is_told() {
    assert_eq!(
        node_problems("control = \"user=u password=${NOPE}\"\nlog = \"${NOPE2}\""),
        [
            "3: node.control: the environment variable `NOPE` is not set",
            "4: node.log: the environment variable `NOPE2` is not set"
        ]
    );
    for text in [
        "control = \"user=u password=hunter2 secretbit\"",
        "control = \"user=u password=hunter2 secretbit=1\"",
        "control = \"user=u password='hunter2 secretbit\"",
        "control = \"user=u password=hunter2,secretbit port=none\"",
        "control = \"postgres://u:hunter2%secretbit@h/db\"",
        "control = \"postgres://u:hunter2/secretbit@h/db\"",
        "control = \"postgres://u:hunter2@secretbit@h/db\"",
    ] {
        let found = node_problems(text).join("\n");
        assert!(!found.is_empty() && !found.contains("hunter2") && !found.contains("secretbit"), "{text}: {found}");
    }
}

#[test]
fn files_must_be_there_and_private() {
    let found = node_problems(
        "cluster_key_file = \"certs/none.key\"\nserver = \"sslcert=certs/server.crt sslkey=certs/open.key\"\n\
         [tls]\nmode = \"verify-client\"\ncert = \"/none.crt\"\nkey = \"certs/open.key\"\n\
         [[peer]]\nname = \"b\"\nconnect = \"user=u passfile=certs/ca.crt sslrootcert=certs\"",
    );
    let wants = [
        "3: node.cluster_key_file: the file certs/none.key does not exist, neither beside this file nor where pgcanon was started",
        "4: node.server: others can get at /…/certs/open.key (mode 0644); run `chmod 0600 /…/certs/open.key`",
        "5: tls.ca: missing: mode = \"verify-client\" needs the PEM file of the CA that signs client certificates",
        "7: tls.cert: the file /none.crt does not exist",
        "8: tls.key: others can get at /…/certs/open.key (mode 0644); run `chmod 0600 /…/certs/open.key`",
        "11: peer.connect: others can get at /…/certs/ca.crt (mode 0644); run `chmod 0600 /…/certs/ca.crt`",
        "11: peer.connect: /…/certs is not a regular file",
    ];
    // The temporary directory has another name every time.
    let shorten = |s: &String| {
        let words = s.split_inclusive(' ').map(|w| match (w.find('/'), w.find("/certs")) {
            (Some(from), Some(to)) if from < to => format!("{}/…{}", &w[..from], &w[to..]),
            _ => w.to_owned(),
        });
        words.collect::<String>()
    };
    assert_eq!(found.iter().map(shorten).collect::<Vec<_>>(), wants);
}

#[test]
fn allow_rules_say_what_they_mean() {
    assert_eq!(
        node_problems("[[allow]]\naddress = [\"10.0.0.1/8\", \"localhost\"]\nuser = []\ntrust = \"yes\"\ndb = \"app\""),
        [
            "4: allow.address: `10.0.0.1/8` has address bits beyond its prefix; did you mean `10.0.0.0/8`?",
            "4: allow.address: `localhost` is not an address or a network, such as \"10.0.0.0/8\" or \"::1\", nor `local`; \
             did you mean `127.0.0.1`?",
            "5: allow.user: an empty list fits nobody; leave the key out to allow all",
            "6: allow.trust: this must be true or false, not a string",
            "7: allow.db: unknown key",
        ]
    );
}

#[test]
fn peers_have_names_of_their_own() {
    assert_eq!(
        node_problems(
            "[[peer]]\nname = \"a\"\nconnect = \"user=u\"\n[[peer]]\nname = \"beta\"\n[[peer]]\nname = \"beta\"\n\
             connect = \"user=u\"\nmax_queue_bytes = \"1gb\"\n[[peer]]\nname = \"x.y\"\nconnect = \"host=h\""
        ),
        [
            "4: peer.name: `a` is this node itself, and a node is no peer of its own",
            "6: peer.connect: missing: the connection string of the peer's PostgreSQL",
            "9: peer.name: another peer is named `beta` already",
            "11: peer.max_queue_bytes: a size is a whole number with its unit (B, kB, MB, GB or TB), such as \"512MB\"; \
             did you mean `1GB`?",
            "13: peer.name: `x.y` is no node name: up to 48 letters, digits, `_` and `-`",
            "14: peer.connect: this names no role; add user=NAME",
        ]
    );
}

#[test]
fn rules_name_tables_and_peers_that_are_there() {
    assert_eq!(
        node_problems(
            r#"[[peer]]
name = "berlin"
connect = "user=u"
[[peer]]
name = "paris"
connect = "user=u"
[[table]]
name = "orders"
peers = ["berlni", "paris", "paris", "a"]
[[table]]
name = "public.*"
rename = { berlin = "x.y", pari = "x.z" }
[[table]]
name = "public.*"
peers = ["paris"]
columns = ["a", "a", ""]
where = " "
ack_timeout = "1s"
[[table]]
name = "s.t"
peers = ["paris"]
rename = { berlin = "y.*", paris = "y" }
delivery = "ack"
ack_timeout = "1"
conflict = { resolve = "node", by = "commit-time", rank = 1 }
[[table]]
name = "s.u"
conflict = { by = "column:", prefer = "berln" }
"#
        ),
        [
            "10: table.name: `orders` lacks its schema; did you mean `public.orders`?",
            "11: table.peers: no [[peer]] is named `berlni`; did you mean `berlin`?",
            "11: table.peers: `paris` is listed twice",
            "11: table.peers: `a` is this node itself; here its peers are named",
            "14: table.rename: a pattern cannot be renamed: all its tables would become one; write a rule per table",
            "14: table.rename.pari: no [[peer]] is named `pari`; did you mean `paris`?",
            "16: table.name: an earlier rule is for `public.*` already, and the first match wins",
            "18: table.columns: `a` is listed twice",
            "18: table.columns: a column name is empty",
            "19: table.where: an empty condition; leave the key out to replicate every row",
            "20: table.ack_timeout: this needs delivery = \"ack\" or \"atomic\"; nobody waits in \"async\"",
            "24: table.rename.berlin: `berlin` is not among this rule's `peers`",
            "24: table.rename.berlin: `y.*` is a pattern; this must be one table",
            "24: table.rename.paris: `y` lacks its schema; did you mean `public.y`?",
            "26: table.ack_timeout: a duration is a whole number with its unit (ms, s, min, h or d), such as \"250ms\" or \
             \"10s\"; did you mean `1s`?",
            "27: table.conflict.by: `commit-time` is not allowed here; it takes `commit_time`, \
             `statement_time` or `column:NAME`; did you mean `commit_time`?",
            "27: table.conflict.prefer: missing: resolve = \"node\" needs the node whose version stays",
            "27: table.conflict.rank: unknown key",
            "30: table.conflict.resolve: missing: which version stays: last, first, error or node",
            "30: table.conflict.by: `column:` is not allowed here; it takes `commit_time`, \
             `statement_time` or `column:NAME`",
            "30: table.conflict.prefer: neither this node nor a [[peer]] is named `berln`; did you mean `berlin`?",
        ]
    );
}

#[test]
fn functions_are_named_without_arguments_and_once() {
    assert_eq!(
        node_problems("[capture]\nwriting = [\"f(int)\", \".g\", \"h\"]\nharmless = \"h\"\nwritten = 1\n"),
        [
            "4: capture.writing: `f(int)` has arguments; all functions of a name are meant; did you mean `f`?",
            "4: capture.writing: `.g` is not a function, such as \"public.transfer\"",
            "5: capture.harmless: `h` is listed as writing too",
            "6: capture.written: unknown key; did you mean `writing`?",
        ]
    );
}

#[test]
fn a_user_of_the_console_has_one_name_and_one_password() {
    let site = Site::new();
    std::fs::write(site.path("certs/pgpass"), "from a file\r\n").unwrap();
    let config =
        site.load("[node]\nname = \"a\"\n[[console_user]]\nname = \"op\"\npassword_file = \"certs/pgpass\"\n").unwrap();
    assert_eq!(config.console_users[0].password.expose(), "from a file");
    assert_eq!(config.console_users[0].may, crate::config::May::Look);
    let section = |rest: &str| format!("[node]\nname = \"a\"\n[[console_user]]\n{rest}");
    for (rest, wanted) in [
        ("password = \"x\"", "3: console_user.name: missing: the name to log in with"),
        ("name = \"op\"", "3: console_user.password: missing: a password"),
        ("name = \"op\"\npassword = \"\"", "5: console_user.password: an empty password would let in anybody"),
        ("name = \"\"\npassword = \"x\"", "4: console_user.name: this names nobody"),
        ("name = \"op\"\npassword_file = \"certs/server.crt\"", "5: console_user.password_file: others can get at"),
        (
            "name = \"op\"\npassword = \"x\"\npassword_file = \"certs/pgpass\"",
            "5: console_user.password: there is a password_file, too",
        ),
        (
            "name = \"op\"\npassword = \"x\"\nmay = \"acts\"",
            "6: console_user.may: `acts` is not allowed here; it takes `look` or `act`; did you mean `act`?",
        ),
        (
            "name = \"op\"\npassword = \"x\"\n[[console_user]]\nname = \"op\"\npassword = \"y\"",
            "7: console_user.name: another user of the console is named `op` already",
        ),
        (
            "name = \"op\"\npasword = \"x\"\npassword = \"x\"",
            "5: console_user.pasword: unknown key; did you mean `password`?",
        ),
    ] {
        let found = problems(&section(rest));
        assert!(found.iter().any(|problem| problem.starts_with(wanted)), "{rest}: {found:?}");
    }
}
