//! `auth = "scram"`: the proxy proves clients with the server's verifiers and logs in with the key their proof reveals.

use crate::client_leg::section;
use crate::common::cluster::Stop;
use crate::common::{Client, Proxy, msg, scram};
use crate::site::{PASSWORD, SERVER_LEG_TLS, Site, conninfo, psql, tls};

/// TLS on both legs, each with a certificate of its own, and the control connection over TLS as well.
fn proxy(site: &Site, more: &str) -> Proxy {
    let ca = site.certs.ca();
    let node = format!(
        "[node]\nauth = \"scram\"\ncontrol = \"dbname=postgres user=control password={PASSWORD}\"\n{more}\n{}",
        section("require", site, &site.proxy_pair())
    );
    site.proxy(&format!("sslmode=verify-full sslrootcert={}", ca.display()), &node)
}

fn enter(proxy: &Proxy, user: &str, password: &str, more: &str) -> Result<String, String> {
    let conninfo = conninfo(&proxy.tcp(), user, &format!("sslmode=require {more} password={password}"));
    psql(&conninfo, SERVER_LEG_TLS)
}

fn words(told: Result<String, String>) -> String {
    told.expect_err("refused")
}

const ENTERED: Result<&str, &String> = Ok("t");

#[test]
fn channel_binding_works_on_two_legs_with_different_certificates() {
    let site = Site::shared();
    let proxy = proxy(&site, "");
    for binding in ["require", "prefer", "disable"] {
        let told = enter(&proxy, "scramy", PASSWORD, &format!("channel_binding={binding}"));
        assert_eq!(told.as_deref(), ENTERED, "{binding}");
    }
    // Roles that do not log in by SCRAM are the server's to ask.
    for user in ["trusty", "passy", "md5y"] {
        assert_eq!(enter(&proxy, user, PASSWORD, "").as_deref(), ENTERED, "{user}");
    }
}

#[test]
fn every_pair_of_legs_works() {
    let site = Site::shared();
    for server in ["sslmode=disable", "sslmode=require"] {
        let node = format!("[node]\n{}", site.control("control"));
        let proxy = site.proxy(server, &format!("{node}{}", section("allow", &site, &site.proxy_pair())));
        for client in ["sslmode=disable", "sslmode=require channel_binding=require"] {
            for addr in [proxy.tcp(), proxy.unix()] {
                if addr.host().starts_with('/') && client.contains("require") {
                    continue; // no TLS there
                }
                let told = psql(&conninfo(&addr, "scramy", client), "select current_user");
                assert_eq!(told.as_deref(), Ok("scramy"), "{server} {client} {addr:?}");
            }
        }
    }
}

#[test]
fn a_client_learns_that_it_is_in_only_when_the_server_says_so() {
    let site = Site::shared();
    let proxy = proxy(&site, "");
    let tags = |user: &str| {
        let mut client = tls(&proxy.tcp(), site.certs.client_config(None, None));
        client.send(&msg::startup(msg::version(3, 0), &[("user", user), ("database", "postgres")]));
        let frames = scram::authenticate(&mut client, PASSWORD, |_| unreachable!("SCRAM is asked for"));
        frames.iter().map(|frame| (char::from(frame.tag), frame.body[3])).collect::<Vec<_>>()
    };
    let (offer, challenge, proven, ok) = (('R', 10), ('R', 11), ('R', 12), ('R', 0));
    assert_eq!(tags("scramy"), [offer, challenge, proven, ok]);
    // The password is right, but the server takes it no longer: nothing may look like a success before that.
    let expired = tags("expired");
    assert_eq!((&expired[..2], expired.len(), expired[2].0), (&[offer, challenge][..], 3, 'E'));
}

#[test]
fn nothing_secret_is_logged_however_much_is() {
    let site = Site::shared();
    let proxy = proxy(&site, "log_level = \"trace\"");
    assert_eq!(enter(&proxy, "scramy", PASSWORD, "channel_binding=require").as_deref(), ENTERED);
    words(enter(&proxy, "scramy", "a-wr0ng-one", ""));
    words(enter(&proxy, "expired", PASSWORD, ""));
    proxy.wait_log("password authentication failed");
    assert!(proxy.log().contains("TRACE") && proxy.log().contains("pg_authid"), "so much is not logged");
    let verifier = site.cluster.psql("select rolpassword from pg_authid where rolname = 'scramy'");
    let parts = verifier.split(['$', ':']).filter(|part| part.len() > 6 && !part.starts_with("SCRAM"));
    let secrets: Vec<&str> = parts.chain([PASSWORD, "a-wr0ng-one", ",p="]).collect();
    assert_eq!(secrets.len(), 6, "{verifier}");
    for secret in secrets {
        assert!(!proxy.log().contains(secret), "{secret} is in the log");
    }
}

#[test]
fn a_changed_password_counts_at_once() {
    let site = Site::shared();
    let proxy = proxy(&site, "");
    let mut current = PASSWORD.to_owned();
    for next in ["the-second", "the-third"] {
        assert_eq!(enter(&proxy, "changing", &current, "").as_deref(), ENTERED);
        site.cluster.psql(&format!("alter role changing password '{next}'"));
        let told = words(enter(&proxy, "changing", &current, ""));
        assert_eq!(told, "FATAL:  password authentication failed for user \"changing\"");
        current = next.to_owned();
        assert_eq!(enter(&proxy, "changing", &current, "").as_deref(), ENTERED);
    }
    site.cluster.psql("alter role changing password null");
    assert_eq!(
        words(enter(&proxy, "changing", &current, "")),
        "FATAL:  password authentication failed for user \"changing\""
    );
}

#[test]
fn a_control_role_that_may_not_read_verifiers_lets_nobody_in_and_says_what_is_missing() {
    let site = Site::shared();
    let overrides = format!("[node]\n{}", site.control("powerless"));
    let proxy = site.proxy("sslmode=disable", &overrides);
    let refused = site.login(Client::connect(&proxy.tcp()), "scramy", PASSWORD).expect_err("no verifier, no login");
    assert_eq!(refused.sqlstate, "28000");
    assert_eq!(refused.message, "SCRAM authentication failed: the proxy cannot read SCRAM verifiers from the server");
    proxy.wait_log("GRANT SELECT ON pg_catalog.pg_authid");
    proxy.wait_log("permission denied for table pg_authid");
    // A control connection that cannot even be made is told apart in the log.
    let overrides = "[node]\nauth = \"scram\"\ncontrol = \"dbname=postgres user=control password=wrong\"\n";
    let proxy = site.proxy("sslmode=disable", overrides);
    site.login(Client::connect(&proxy.tcp()), "scramy", PASSWORD).expect_err("no control connection, no login");
    proxy.wait_log("control connection: password authentication failed for user");
}

#[test]
fn the_control_connection_is_made_again_after_a_restart() {
    let site = Site::start();
    let proxy = proxy(&site, "");
    assert_eq!(enter(&proxy, "scramy", PASSWORD, "").as_deref(), ENTERED);
    for how in [Stop::Fast, Stop::Immediate] {
        site.cluster.stop(how);
        let told = words(enter(&proxy, "scramy", PASSWORD, ""));
        assert!(told.starts_with("FATAL:  the proxy cannot reach the database server"), "{told}");
        site.cluster.restart();
        assert_eq!(enter(&proxy, "scramy", PASSWORD, "").as_deref(), ENTERED, "{how:?}");
    }
    site.cluster.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'control'");
    assert_eq!(enter(&proxy, "scramy", PASSWORD, "").as_deref(), ENTERED);
}

#[test]
fn a_client_that_claims_less_than_was_offered_is_refused_as_by_the_server() {
    let site = Site::shared();
    let proxy = proxy(&site, "");
    let config = || site.certs.client_config(None, None);
    for claim in ["y,,", "p=tls-unique,,", "p=tls-server-end-point,,", "n,a=other,,"] {
        let said = [site.cluster.tcp(), proxy.tcp()].map(|addr| {
            let mut client = tls(&addr, config());
            client.send(&msg::startup(msg::version(3, 0), &[("user", "scramy"), ("database", "postgres")]));
            assert_eq!(client.frame().tag, b'R');
            client.send(&msg::sasl_initial("SCRAM-SHA-256", format!("{claim}n=,r=abcdefgh").as_bytes()));
            let frame = client.frame();
            [b'S', b'C', b'M', b'D', b'H'].map(|field| frame.field(field))
        });
        assert_eq!(said[0], said[1], "{claim}");
    }
}
