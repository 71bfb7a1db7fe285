//! Every `sslmode` towards the server, against servers that have TLS, demand it, refuse it or do without.

use crate::common::certs::{Certs, Pair};
use crate::common::{Client, Cluster, Pg, Proxy, msg};
use crate::site::{SERVER_LEG_TLS, Site, conninfo, psql};

const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Whether the leg to the server is encrypted, or what the client is told.
fn leg(proxy: &Proxy, user: &str) -> Result<bool, String> {
    psql(&conninfo(&proxy.tcp(), user, "sslmode=disable"), SERVER_LEG_TLS).map(|ssl| ssl == "t")
}

/// The same of libpq itself, which is right by definition.
fn libpq(site: &Site, user: &str, more: &str) -> Result<bool, String> {
    psql(&conninfo(&site.cluster.tcp(), user, more), SERVER_LEG_TLS).map(|ssl| ssl == "t")
}

fn root(certs: &Certs) -> String {
    format!("sslrootcert={}", certs.ca().display())
}

/// `verify-*` needs a root certificate; elsewhere there is none, which would change what `require` means.
fn keywords(mode: &str, certs: &Certs) -> String {
    let root = if mode.starts_with("verify") { root(certs) } else { String::new() };
    format!("sslmode={mode} {root}")
}

#[test]
fn each_sslmode_ends_where_libpq_ends() {
    let site = Site::shared();
    for mode in MODES {
        let more = keywords(mode, &site.certs);
        let proxy = site.proxy(&more, "");
        // `ssly` may come with TLS only, `plainy` only without, the others either way.
        for user in ["trusty", "passy", "scramy", "ssly", "plainy"] {
            let (ours, theirs) = (leg(&proxy, user), libpq(&site, user, &more));
            assert_eq!(ours.clone().ok(), theirs.clone().ok(), "{mode} {user}: {ours:?} {theirs:?}");
        }
    }
}

#[test]
fn what_the_server_says_last_is_what_the_client_is_told() {
    let site = Site::shared();
    for (mode, user, encryption) in [
        ("disable", "ssly", "no encryption"),
        ("require", "plainy", "SSL encryption"),
        // Both ways were tried.
        ("allow", "unnamed", "SSL encryption"),
        ("prefer", "unnamed", "no encryption"),
    ] {
        let proxy = site.proxy(&format!("sslmode={mode}"), "");
        let refused = site.login(Client::connect(&proxy.tcp()), user, "").expect_err("no entry");
        let message = format!(
            "no pg_hba.conf entry for host \"127.0.0.1\", user \"{user}\", database \"postgres\", {encryption}"
        );
        assert_eq!((refused.sqlstate.as_str(), refused.message), ("28000", message), "{mode}");
    }
}

#[test]
fn a_server_without_tls_is_reached_in_plain_or_not_at_all() {
    let cluster = Cluster::start(
        Pg::V15,
        "",
        "local all all trust\nhost all trusty,postgres all trust\nhost all busy all reject\n",
    );
    cluster.psql("create role trusty login");
    let certs = Certs::new();
    for mode in MODES {
        let more = keywords(mode, &certs);
        let proxy = Proxy::start_for(&format!("host=127.0.0.1 port={} {more}", cluster.port()), "");
        let got = leg(&proxy, "trusty");
        if ["disable", "allow", "prefer"].contains(&mode) {
            assert_eq!(got, Ok(false), "{mode}");
            // The second attempt, of which nothing can come, must not hide what the server said to the first.
            let told = psql(&conninfo(&proxy.tcp(), "busy", "sslmode=disable"), "").expect_err("rejected");
            assert!(told.starts_with("FATAL:  pg_hba.conf rejects connection"), "{mode}: {told}");
        } else {
            let told = got.expect_err("no TLS to be had");
            assert!(told.starts_with("FATAL:  the proxy cannot reach the database server"), "{mode}: {told}");
            assert!(told.contains("does not support TLS, but sslmode requires it"), "{mode}: {told}");
        }
    }
}

#[test]
fn a_server_is_not_asked_again_the_way_it_was_asked_before() {
    let hba = "local all all trust\nhost all busy all reject\n";
    let cluster = Cluster::start(Pg::V15, "log_connections = on", hba);
    let proxy = Proxy::start_for(&format!("host=127.0.0.1 port={} sslmode=prefer", cluster.port()), "");
    psql(&conninfo(&proxy.tcp(), "busy", "sslmode=disable"), "").expect_err("rejected");
    assert_eq!(cluster.log().matches("pg_hba.conf rejects connection").count(), 1, "{}", cluster.log());
}

#[test]
fn a_protocol_negotiation_before_the_refusal_keeps_nobody_from_asking_again() {
    let site = Site::shared();
    for (mode, user) in [("allow", "ssly"), ("prefer", "plainy")] {
        let proxy = site.proxy(&format!("sslmode={mode}"), "");
        let mut client = Client::connect(&proxy.tcp());
        client.send(&msg::startup(msg::version(3, 2), &[("user", user), ("database", "postgres")]));
        assert_eq!((client.frame().tag, client.frame().tag), (b'v', b'R'), "{mode}");
    }
}

#[test]
fn a_certificate_of_the_wrong_authority_or_name_ends_it() {
    let site = Site::shared();
    let stranger = Certs::new();
    for (more, why) in [
        (format!("sslmode=verify-ca {}", root(&stranger)), "TLS handshake with the server"),
        (format!("sslmode=require {}", root(&stranger)), "TLS handshake with the server"),
    ] {
        let proxy = site.proxy(&more, "");
        let refused = site.login(Client::connect(&proxy.tcp()), "trusty", "").expect_err("a stranger");
        assert_eq!(
            (refused.sqlstate.as_str(), refused.message.as_str()),
            ("57P03", "the proxy cannot reach the database server")
        );
        assert!(refused.detail.contains(why), "{more}: {refused:?}");
    }
    // The certificate is for localhost and 127.0.0.1.
    let reach = |name: &str, mode: &str| {
        let server =
            format!("host={name} hostaddr=127.0.0.1 port={} sslmode={mode} {}", site.cluster.port(), root(&site.certs));
        leg(&Proxy::start_for(&server, ""), "trusty")
    };
    assert_eq!(reach("localhost", "verify-full"), Ok(true));
    assert_eq!(reach("db.example", "verify-ca"), Ok(true));
    let told = reach("db.example", "verify-full").expect_err("another name");
    assert!(told.contains("db.example"), "{told}");
    // libpq, too, goes on in plain where it may.
    let proxy = site.proxy(&format!("sslmode=prefer {}", root(&stranger)), "");
    assert_eq!(leg(&proxy, "trusty"), libpq(&site, "trusty", &format!("sslmode=prefer {}", root(&stranger))));
}

fn identity(pair: &Pair) -> String {
    format!("sslcert={} sslkey={}", pair.cert.display(), pair.key.display())
}

#[test]
fn a_client_certificate_of_the_proxy_is_for_those_it_is_vouched_for() {
    let site = Site::shared();
    let certy = identity(&site.client_pair("certy"));
    let vouched = "[[allow]]\nuser = \"certy\"\ntrust = true\n[[allow]]\n";
    let proxy = site.proxy(&format!("sslmode=require {certy}"), vouched);
    assert_eq!(leg(&proxy, "certy"), Ok(true));
    // The certificate is the proxy's: whoever comes by TCP would be `certy` without any proof.
    let proxy = site.proxy(&format!("sslmode=require {certy}"), "");
    let refused = site.login(Client::connect(&proxy.tcp()), "certy", "").expect_err("not proven");
    assert_eq!(refused.sqlstate, "28000");
    assert_eq!(refused.detail, "The server took the proxy's own Unix user or certificate for the client's.");
    assert!(refused.hint.contains("asks for a password"), "{refused:?}");
    // By Unix socket the kernel says that the client is the proxy's own user.
    assert_eq!(site.login(Client::connect(&proxy.unix()), "certy", "").map(drop), Ok(()));
    // Roles that prove themselves do not care.
    assert_eq!(leg(&proxy, "scramy"), Ok(true));
    // Without a certificate, and with another's, the server says what it says to everybody.
    for more in [String::new(), identity(&site.client_pair("another"))] {
        let more = format!("sslmode=require {more}");
        let proxy = site.proxy(&more, vouched);
        assert_eq!(leg(&proxy, "certy"), libpq(&site, "certy", &more), "{more}");
        assert!(leg(&proxy, "certy").is_err());
    }
}

#[test]
fn direct_tls_reaches_a_server_that_knows_it_and_no_other() {
    let hba = "local all all trust\nhostssl all trusty all trust\n";
    let site = Site::start_with(Pg::V17, hba);
    let more = format!("sslmode=verify-ca {} sslnegotiation=direct", root(&site.certs));
    assert_eq!(leg(&site.proxy(&more, ""), "trusty"), Ok(true));
    let old = Site::shared();
    let more = format!("sslmode=verify-ca {} sslnegotiation=direct", root(&old.certs));
    let told = leg(&old.proxy(&more, ""), "trusty").expect_err("15 has no direct TLS");
    assert!(told.starts_with("FATAL:  the proxy cannot reach the database server"), "{told}");
}

#[test]
fn without_a_host_the_unix_socket_comes_first() {
    let cluster = Cluster::start(Pg::V15, "", "local all all trust\nhost all all all trust\n");
    let over_unix = |proxy: &Proxy| {
        let conninfo = conninfo(&proxy.tcp(), "postgres", "sslmode=disable");
        psql(&conninfo, "select inet_client_addr() is null").expect("let in") == "t"
    };
    let server = format!("port={}", cluster.port());
    // The server has no socket where libpq looks by default.
    assert!(!over_unix(&Proxy::start_for(&server, "")));
    cluster.psql(&format!("alter system set unix_socket_directories = '{}', '/tmp'", cluster.socket_dir().display()));
    cluster.restart();
    assert!(over_unix(&Proxy::start_for(&server, "")));
}
