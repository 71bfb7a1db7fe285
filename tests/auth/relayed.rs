//! The server's own authentication through the proxy: every method, on every combination of encrypted legs.

use crate::client_leg::section;
use crate::common::{Client, Proxy, eventually};
use crate::site::{PASSWORD, Refused, SERVER_LEG_TLS, Site, conninfo, psql, tls};

/// What a client gets that takes what the proxy offers: TLS on its leg or not, and on the server's.
struct Legs {
    client_tls: bool,
    server_tls: bool,
}

const LEGS: [Legs; 4] = [
    Legs { client_tls: false, server_tls: false },
    Legs { client_tls: true, server_tls: false },
    Legs { client_tls: false, server_tls: true },
    Legs { client_tls: true, server_tls: true },
];

impl Legs {
    /// A proxy with a certificate of its own.
    fn proxy(&self, site: &Site, overrides: &str) -> Proxy {
        let pair = site.proxy_pair();
        let sslmode = if self.server_tls { "require" } else { "disable" };
        let tls = if self.client_tls { section("require", site, &pair) } else { String::new() };
        site.proxy(&format!("sslmode={sslmode}"), &format!("{overrides}{tls}"))
    }

    /// Logs in with psql; says whether the server's leg was encrypted.
    fn enter(&self, proxy: &Proxy, user: &str, more: &str) -> Result<bool, String> {
        let sslmode = if self.client_tls { "require" } else { "disable" };
        let conninfo = conninfo(&proxy.tcp(), user, &format!("sslmode={sslmode} {more}"));
        psql(&conninfo, SERVER_LEG_TLS).map(|ssl| ssl == "t")
    }

    fn name(&self) -> String {
        let word = |tls| if tls { "tls" } else { "plain" };
        format!("{}/{}", word(self.client_tls), word(self.server_tls))
    }
}

#[test]
fn every_method_works_over_every_pair_of_legs() {
    let site = Site::shared();
    for legs in LEGS {
        let proxy = legs.proxy(&site, "");
        for user in ["trusty", "passy", "md5y", "scramy"] {
            // `disable` is what a client has to say that gets no binding through; the next test is about that.
            let got = legs.enter(&proxy, user, "channel_binding=disable");
            assert_eq!(got, Ok(legs.server_tls), "{} {user}", legs.name());
        }
    }
}

#[test]
fn channel_binding_gets_through_where_it_can() {
    const NOT_OFFERED: &str =
        "channel binding is required, but server did not offer an authentication method that supports channel binding";
    const NO_TLS: &str = "channel binding required, but SSL not in use";
    let site = Site::shared();
    for legs in LEGS {
        let proxy = legs.proxy(&site, "");
        let enter = |binding: &str| legs.enter(&proxy, "scramy", &format!("channel_binding={binding}"));
        let name = legs.name();
        assert_eq!(enter("disable"), Ok(legs.server_tls), "{name}");
        if legs.client_tls && legs.server_tls {
            let told = enter("prefer").expect_err("the two certificates differ");
            assert!(told.starts_with("FATAL:  SCRAM channel binding cannot pass through a proxy"), "{name}: {told}");
            assert!(told.contains("HINT:  Set node.auth = \"scram\""), "{name}: {told}");
            assert_eq!(proxy.metric(r#"pgcanon_refusals_total{reason="channel_binding"}"#), 1.0);
        } else {
            assert_eq!(enter("prefer"), Ok(legs.server_tls), "{name}");
        }
        let told = enter("require").expect_err("nothing to bind to on both ends");
        let expected = if legs.client_tls { NOT_OFFERED } else { NO_TLS };
        assert!(told.contains(expected), "{name}: {told}");
    }
}

#[test]
fn with_the_servers_own_certificate_a_binding_passes_untouched() {
    let site = Site::shared();
    let proxy = site.proxy("sslmode=require", &section("require", &site, &site.server));
    for binding in ["require", "prefer", "disable"] {
        let conninfo = conninfo(&proxy.tcp(), "scramy", &format!("sslmode=require channel_binding={binding}"));
        assert_eq!(psql(&conninfo, SERVER_LEG_TLS).as_deref(), Ok("t"), "{binding}");
    }
}

/// What a refused client is told, with the address that the server sees.
fn told(site: &Site, client: Client, user: &str, database: &str, password: &str) -> Refused {
    site.login_to(client, user, database, password).map(drop).expect_err(user)
}

/// Those who are refused, and for what.
const REFUSED: [(&str, &str, &str, &str); 11] = [
    ("passy", "postgres", "wrong", "28P01"),
    ("md5y", "postgres", "wrong", "28P01"),
    ("scramy", "postgres", "wrong", "28P01"),
    ("scramy", "postgres", "", "28P01"),
    ("nobody", "postgres", PASSWORD, "28P01"),
    ("weak", "postgres", PASSWORD, "28P01"),
    ("expired", "postgres", PASSWORD, "28P01"),
    ("expired", "postgres", "wrong", "28P01"),
    ("nologin", "postgres", PASSWORD, "28000"),
    ("scramy", "no_such_database", PASSWORD, "3D000"),
    ("unnamed", "postgres", PASSWORD, "28000"),
];

#[test]
fn who_is_refused_is_told_what_the_server_tells_in_both_modes() {
    let site = Site::shared();
    let relay = site.proxy("sslmode=disable", "");
    let scram = site.proxy("sslmode=disable", &format!("[node]\n{}", site.control("control")));
    for (user, database, password, sqlstate) in REFUSED {
        let theirs = told(&site, Client::connect(&site.cluster.tcp()), user, database, password);
        assert_eq!(theirs.sqlstate, sqlstate, "{user} {database}");
        for (proxy, mode) in [(&relay, "relay"), (&scram, "scram")] {
            let ours = told(&site, Client::connect(&proxy.tcp()), user, database, password);
            assert_eq!(ours, theirs, "{mode}: {user} {database} {password}");
        }
    }
}

#[test]
fn who_is_refused_over_tls_is_told_the_same_too() {
    let site = Site::shared();
    let pair = site.proxy_pair();
    let relay = site.proxy("sslmode=require", &section("require", &site, &pair));
    let scram = site
        .proxy("sslmode=require", &format!("[node]\n{}{}", site.control("control"), section("require", &site, &pair)));
    let config = || site.certs.client_config(None, None);
    for (user, database, password, _) in REFUSED {
        let theirs = told(&site, tls(&site.cluster.tcp(), config()), user, database, password);
        for (proxy, mode) in [(&relay, "relay"), (&scram, "scram")] {
            let ours = told(&site, tls(&proxy.tcp(), config()), user, database, password);
            assert_eq!(ours, theirs, "{mode}: {user} {database} {password}");
        }
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_login_leaves_nothing_behind() {
    let site = Site::shared();
    for overrides in [String::new(), format!("[node]\n{}", site.control("control"))] {
        let proxy = site.proxy("sslmode=disable", &overrides);
        let mut client = Client::connect(&proxy.tcp());
        client.send(&crate::common::msg::startup(3 << 16, &[("user", "scramy"), ("database", "postgres")]));
        assert_eq!(client.frame().tag, b'R');
        assert_eq!(proxy.metric("pgcanon_sessions"), 1.0);
        drop(client);
        eventually("the session to end", || (proxy.metric("pgcanon_sessions") == 0.0).then_some(()));
    }
}
