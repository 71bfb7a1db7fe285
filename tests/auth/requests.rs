//! What comes before the startup packet: requests for encryption, in any order, once each, and nothing behind them.

use crate::client_leg::section;
use crate::common::raw::Got;
use crate::common::{Client, PATIENCE, Proxy, msg};
use crate::site::{Refused, Site};

fn ask(client: &mut Client, request: u32) -> Option<u8> {
    client.send(&msg::packet(request, b""));
    client.byte()
}

/// The error that a client is told, and that the connection is closed behind it.
fn refused(client: &mut Client) -> Refused {
    let refused = Refused::of(&client.frame());
    assert!(matches!(client.frame_within(PATIENCE), Got::Closed));
    refused
}

fn with_tls(site: &Site) -> Proxy {
    site.proxy("", &section("allow", site, &site.server))
}

#[test]
fn both_requests_are_declined_in_either_order() {
    let site = Site::shared();
    let proxy = site.proxy("", "");
    for addr in [proxy.tcp(), proxy.unix()] {
        for order in [[msg::SSL_REQUEST, msg::GSSENC_REQUEST], [msg::GSSENC_REQUEST, msg::SSL_REQUEST]] {
            let mut client = Client::connect(&addr);
            assert_eq!(order.map(|request| ask(&mut client, request)), [Some(b'N'); 2]);
            assert_eq!(site.login(client, "trusty", "").map(drop), Ok(()), "{addr:?}");
        }
    }
}

#[test]
fn a_unix_socket_has_no_tls_even_where_tcp_has() {
    let site = Site::shared();
    let proxy = with_tls(&site);
    let mut client = Client::connect(&proxy.unix());
    assert_eq!(ask(&mut client, msg::SSL_REQUEST), Some(b'N'));
    assert_eq!(site.login(client, "trusty", "").map(drop), Ok(()));
}

#[test]
fn tls_may_follow_a_declined_gss_request() {
    let site = Site::shared();
    let proxy = with_tls(&site);
    let mut client = Client::connect(&proxy.tcp());
    assert_eq!(ask(&mut client, msg::GSSENC_REQUEST), Some(b'N'));
    assert_eq!(ask(&mut client, msg::SSL_REQUEST), Some(b'S'));
    let client = client.tls(site.certs.client_config(None, None), "localhost").expect("shake hands");
    assert_eq!(site.login(client, "trusty", "").map(drop), Ok(()));
}

#[test]
fn the_same_request_twice_is_refused_as_by_the_server() {
    let site = Site::shared();
    let proxy = site.proxy("", "");
    for request in [msg::SSL_REQUEST, msg::GSSENC_REQUEST] {
        let told = [proxy.tcp(), proxy.unix(), site.cluster.unix()].map(|addr| {
            let mut client = Client::connect(&addr);
            assert_eq!(ask(&mut client, request), Some(b'N'));
            client.send(&msg::packet(request, b""));
            let told = refused(&mut client);
            (told.sqlstate, told.message.split(':').next().map(str::to_owned))
        });
        let minor = request & 0xffff;
        let expected = ("0A000".to_owned(), Some(format!("unsupported frontend protocol 1234.{minor}")));
        assert_eq!(told, [expected.clone(), expected.clone(), expected]);
    }
}

#[test]
fn no_request_for_encryption_is_taken_inside_tls() {
    let site = Site::shared();
    let proxy = with_tls(&site);
    for request in [msg::SSL_REQUEST, msg::GSSENC_REQUEST] {
        let mut client = crate::site::tls(&proxy.tcp(), site.certs.client_config(None, None));
        client.send(&msg::packet(request, b""));
        assert_eq!(refused(&mut client).sqlstate, "0A000");
    }
}

#[test]
fn bytes_behind_a_request_are_not_taken_for_encrypted_ones() {
    let site = Site::shared();
    let with_tls = with_tls(&site);
    let without = site.proxy("", "");
    let smuggled = msg::startup(msg::version(3, 0), &[("user", "trusty"), ("database", "postgres")]);
    for addr in [with_tls.tcp(), without.tcp(), without.unix()] {
        for (request, name) in [(msg::SSL_REQUEST, "SSL"), (msg::GSSENC_REQUEST, "GSSAPI encryption")] {
            let mut client = Client::connect(&addr);
            client.send(&msg::together(&[msg::packet(request, b""), smuggled.clone()]));
            let told = refused(&mut client);
            assert_eq!(told.sqlstate, "08P01");
            assert_eq!(told.message, format!("received unencrypted data after {name} request"));
        }
    }
}

#[test]
fn a_packet_that_comes_byte_by_byte_is_one() {
    let site = Site::shared();
    let proxy = site.proxy("", "");
    let mut client = Client::connect(&proxy.tcp());
    msg::packet(msg::SSL_REQUEST, b"").iter().for_each(|byte| client.send(&[*byte]));
    assert_eq!(client.byte(), Some(b'N'));
    let startup = msg::startup(msg::version(3, 0), &[("user", "trusty"), ("database", "postgres")]);
    startup.iter().for_each(|byte| client.send(&[*byte]));
    assert_eq!(client.until_ready().last().map(|frame| frame.tag), Some(b'Z'));
}
