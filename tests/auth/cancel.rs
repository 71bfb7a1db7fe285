//! Cancel requests reach the server as they came, whatever their key and however they came, and are waited for.

use std::time::Duration;

use crate::client_leg::section;
use crate::common::raw::Got;
use crate::common::{Client, PATIENCE, Proxy, msg};
use crate::site::{Site, tls};
use crate::stub::Stub;

const KEYS: [&[u8]; 3] = [&[0, 255, 1, 128], &[7; 32], &[0xa5; 256]];

#[test]
fn keys_of_every_length_arrive_verbatim_and_the_client_waits_for_the_server() {
    let site = Site::shared();
    let stub = Stub::start();
    let proxy = Proxy::start_for(&stub.server(), &section("allow", &site, &site.server));
    let config = || site.certs.client_config(None, Some("postgresql"));
    for key in KEYS {
        let packet = msg::cancel(-7, key);
        for way in ["plain", "unix", "tls", "direct tls"] {
            let mut client = match way {
                "plain" => Client::connect(&proxy.tcp()),
                "unix" => Client::connect(&proxy.unix()),
                "tls" => tls(&proxy.tcp(), config()),
                _ => Client::connect(&proxy.tcp()).tls(config(), "localhost").expect("shake hands"),
            };
            client.send(&packet);
            let heard = stub.heard();
            assert_eq!(heard.packet, packet, "{way}, {} bytes", key.len());
            // Only a close would show that nobody waits; there is nothing else to see in the meantime.
            assert!(matches!(client.frame_within(Duration::from_millis(50)), Got::Nothing), "{way}");
            drop(heard);
            assert!(matches!(client.frame_within(PATIENCE), Got::Closed), "{way}");
        }
    }
    assert_eq!(proxy.metric("pgcanon_cancel_requests_total"), 12.0);
}

#[test]
fn a_statement_is_cancelled_over_every_leg() {
    let site = Site::shared();
    for server in ["sslmode=disable", "sslmode=require"] {
        let proxy = site.proxy(server, &section("allow", &site, &site.server));
        for encrypted in [false, true] {
            let connect = || match encrypted {
                true => tls(&proxy.tcp(), site.certs.client_config(None, None)),
                false => Client::connect(&proxy.tcp()),
            };
            let mut client = connect();
            client.send(&msg::startup(msg::version(3, 0), &[("user", "trusty"), ("database", "postgres")]));
            let frames = client.until_ready();
            let (pid, key) = frames.iter().find(|frame| frame.tag == b'K').expect("a key").key();
            client.send(&msg::query("select pg_sleep(600)"));
            crate::common::eventually("the statement to run", || {
                let sql = format!("select wait_event from pg_stat_activity where pid = {pid}");
                (site.cluster.psql(&sql) == "PgSleep").then_some(())
            });
            let mut canceller = connect();
            canceller.send(&msg::cancel(pid, &key));
            let error = client.until_ready().into_iter().find(|frame| frame.tag == b'E').expect("an error");
            assert_eq!(error.field(b'C').as_deref(), Some("57014"), "{server} encrypted={encrypted}");
        }
    }
}

#[test]
fn a_cancel_request_for_an_absent_server_ends_quietly() {
    let proxy = Proxy::start_for("host=127.0.0.1 port=1 sslmode=disable", "");
    let mut client = Client::connect(&proxy.tcp());
    client.send(&msg::cancel(1, &[0; 4]));
    assert!(matches!(client.frame_within(PATIENCE), Got::Closed));
    proxy.wait_log("cannot forward a cancel request");
}
