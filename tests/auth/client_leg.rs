//! Every TLS mode of the proxy against every `sslmode` of libpq, and client certificates.

use std::io::Read;

use crate::common::certs::{Certs, Pair};
use crate::common::{Client, Proxy, eventually, msg};
use crate::site::{Site, psql, tls};

/// How psql got in, or what it was told.
type Outcome = Result<&'static str, String>;

const PLAIN: Result<&str, &str> = Ok("plain");
const TLS: Result<&str, &str> = Ok("tls");
const ONLY_TLS: &str =
    "FATAL:  the proxy accepts only TLS connections\nHINT:  Connect with sslmode=require or stricter.";
const NO_TLS: Result<&str, &str> = Err("server does not support SSL, but SSL was required");
const NO_CERTIFICATE: &str = "certificate required";
/// What OpenSSL makes of the alert for a signature that does not verify: the two authorities have the same name.
const BAD_SIGNATURE: &str = "alert decrypt error";
const UNKNOWN_CA: &str = "alert unknown ca";

fn connect(proxy: &Proxy, more: &str) -> Outcome {
    connect_to(&format!("host=localhost hostaddr=127.0.0.1 port={} {more}", proxy.port()))
}

fn connect_to(conninfo: &str) -> Outcome {
    let told = psql(&format!("{conninfo} user=trusty dbname=postgres"), r"\conninfo")?;
    Ok(if told.contains("SSL connection (protocol: TLSv1.3") { "tls" } else { "plain" })
}

/// Compares what psql was told, which has to contain every line of what is expected.
fn check(case: &str, got: Outcome, expected: Result<&str, &str>) {
    match (&got, expected) {
        (Ok(got), Ok(expected)) => assert_eq!(*got, expected, "{case}"),
        (Err(got), Err(expected)) => {
            assert!(expected.lines().all(|line| got.contains(line)), "{case}: {got:?} is not {expected:?}");
        }
        _ => panic!("{case}: {got:?} instead of {expected:?}"),
    }
}

fn certificate(pair: &Pair) -> String {
    format!("sslcert={} sslkey={}", pair.cert.display(), pair.key.display())
}

/// A certificate that nobody signed, put beside those of `certs`.
fn self_signed(certs: &Certs) -> Pair {
    let made = rcgen::generate_simple_self_signed(["trusty".to_owned()]).expect("make a certificate");
    let pair = certs.client("self-signed");
    std::fs::write(&pair.cert, made.cert.pem()).expect("write a certificate");
    std::fs::write(&pair.key, made.signing_key.serialize_pem()).expect("write a key");
    pair
}

/// `[tls]` with the certificate of the server.
pub(crate) fn section(mode: &str, site: &Site, pair: &Pair) -> String {
    format!(
        "[tls]\nmode = \"{mode}\"\ncert = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n",
        pair.cert.display(),
        pair.key.display(),
        site.certs.ca().display()
    )
}

#[test]
fn each_mode_meets_each_sslmode() {
    let site = Site::shared();
    let ca = format!("sslrootcert={}", site.certs.ca().display());
    let sslmodes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
    for (mode, expected) in [
        ("disable", [PLAIN, PLAIN, PLAIN, NO_TLS, NO_TLS, NO_TLS]),
        ("allow", [PLAIN, PLAIN, TLS, TLS, TLS, TLS]),
        ("require", [Err(ONLY_TLS), TLS, TLS, TLS, TLS, TLS]),
        (
            "verify-client",
            [
                Err(ONLY_TLS),
                Err(NO_CERTIFICATE),
                Err(NO_CERTIFICATE),
                Err(NO_CERTIFICATE),
                Err(NO_CERTIFICATE),
                Err(NO_CERTIFICATE),
            ],
        ),
    ] {
        let proxy = site.proxy("", &section(mode, &site, &site.server));
        for (sslmode, expected) in sslmodes.iter().zip(expected) {
            let case = format!("tls.mode={mode} sslmode={sslmode}");
            check(&case, connect(&proxy, &format!("sslmode={sslmode} {ca}")), expected);
        }
        // The Unix socket is for those who are here already, whatever the mode.
        let unix = format!("host={} port={} sslmode=prefer", proxy.socket_dir().display(), proxy.port());
        check(&format!("tls.mode={mode} on the Unix socket"), connect_to(&unix), PLAIN);
    }
}

#[test]
fn libpq_finds_fault_with_the_proxys_certificate_as_with_any() {
    let site = Site::shared();
    let elsewhere = site.certs.server_for("elsewhere", &["elsewhere.example"]);
    let proxy = site.proxy("", &section("allow", &site, &elsewhere));
    let ca = format!("sslrootcert={}", site.certs.ca().display());
    check("a name that is not checked", connect(&proxy, &format!("sslmode=verify-ca {ca}")), TLS);
    let other_name = "does not match host name \"localhost\"";
    check("another name", connect(&proxy, &format!("sslmode=verify-full {ca}")), Err(other_name));
    let stranger = Certs::new();
    let stranger = format!("sslmode=verify-ca sslrootcert={}", stranger.ca().display());
    check("another authority", connect(&proxy, &stranger), Err("SSL error: "));
}

#[test]
fn a_client_certificate_opens_what_is_closed_without() {
    let site = Site::shared();
    let proxy = site.proxy("", &section("verify-client", &site, &site.server));
    let good = certificate(&site.client_pair("trusty"));
    let strangers = Certs::new();
    let forged = certificate(&strangers.client("trusty"));
    let stranger = certificate(&self_signed(&strangers));
    for sslmode in ["allow", "prefer", "require"] {
        check(sslmode, connect(&proxy, &format!("sslmode={sslmode} {good}")), TLS);
    }
    check("another authority", connect(&proxy, &format!("sslmode=require {stranger}")), Err(UNKNOWN_CA));
    proxy.wait_log("TLS handshake with the client failed");
    check("a forged authority", connect(&proxy, &format!("sslmode=require {forged}")), Err(BAD_SIGNATURE));
    check("in plain", connect(&proxy, &format!("sslmode=disable {good}")), Err(ONLY_TLS));
    // One that was not asked for may be missing, but not wrong.
    let proxy = site.proxy("", &section("require", &site, &site.server));
    check("not asked for", connect(&proxy, "sslmode=require"), TLS);
    check("not asked for, good", connect(&proxy, &format!("sslmode=require {good}")), TLS);
    check("not asked for, wrong", connect(&proxy, &format!("sslmode=require {stranger}")), Err(UNKNOWN_CA));
}

#[test]
fn a_refusal_for_want_of_tls_has_the_servers_sqlstate() {
    let site = Site::shared();
    let proxy = site.proxy("", &section("require", &site, &site.server));
    let refused = site.login(Client::connect(&proxy.tcp()), "trusty", "").expect_err("TLS is required");
    assert_eq!(refused.sqlstate, "28000");
    // A declined request for GSS encryption does not open a way around it.
    let mut client = Client::connect(&proxy.tcp());
    client.send(&msg::packet(msg::GSSENC_REQUEST, b""));
    assert_eq!(client.byte(), Some(b'N'));
    assert_eq!(site.login(client, "trusty", "").expect_err("TLS is required").sqlstate, "28000");
    assert_eq!(proxy.metric(r#"pgcanon_refusals_total{reason="tls"}"#), 2.0);
}

#[test]
fn direct_tls_needs_the_protocols_name() {
    let site = Site::shared();
    let proxy = site.proxy("", &section("require", &site, &site.server));
    let direct = |alpn| Client::connect(&proxy.tcp()).tls(site.certs.client_config(None, alpn), "localhost");
    let mut client = site.login(direct(Some("postgresql")).expect("shake hands"), "trusty", "").expect("let in");
    assert_eq!(client.rows("select 1"), [[Some("1".to_owned())]]);
    // Another name fails the handshake; no name fails after it, when the client learns that it is closed.
    let refused = direct(Some("http/1.1")).expect_err("another protocol");
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    assert_eq!(direct(None).expect("shake hands").byte(), None);
    // The client sees the close before it is counted.
    eventually("both to be counted", || {
        (proxy.metric(r#"pgcanon_refusals_total{reason="protocol"}"#) == 2.0).then_some(())
    });
}

#[test]
fn after_an_sslrequest_the_name_may_be_left_out_but_not_be_another() {
    let site = Site::shared();
    let proxy = site.proxy("", &section("allow", &site, &site.server));
    for alpn in [None, Some("postgresql")] {
        let client = tls(&proxy.tcp(), site.certs.client_config(None, alpn));
        assert_eq!(site.login(client, "trusty", "").map(drop), Ok(()), "{alpn:?}");
    }
    let mut client = Client::connect(&proxy.tcp());
    client.send(&msg::packet(msg::SSL_REQUEST, b""));
    assert_eq!(client.byte(), Some(b'S'));
    assert!(client.tls(site.certs.client_config(None, Some("h2")), "localhost").is_err());
}

#[test]
fn direct_tls_is_closed_where_there_is_no_tls() {
    let site = Site::shared();
    let proxy = site.proxy("", "");
    let refused = Client::connect(&proxy.tcp()).tls(site.certs.client_config(None, Some("postgresql")), "localhost");
    refused.expect_err("no TLS here");
    // TLS is for TCP: on the Unix socket its first bytes are a startup packet of absurd length.
    let proxy = site.proxy("", &section("allow", &site, &site.server));
    let refused = Client::connect(&proxy.unix()).tls(site.certs.client_config(None, Some("postgresql")), "localhost");
    refused.expect_err("no TLS on the Unix socket");
}

#[test]
fn direct_tls_asks_for_the_client_certificate_too() {
    let site = Site::shared();
    let proxy = site.proxy("", &section("verify-client", &site, &site.server));
    let good = site.client_pair("trusty");
    let client =
        Client::connect(&proxy.tcp()).tls(site.certs.client_config(Some(&good), Some("postgresql")), "localhost");
    assert_eq!(site.login(client.expect("shake hands"), "trusty", "").map(drop), Ok(()));
    // In TLS 1.3 a client is done with its handshake before the other side has looked at its certificate.
    let config = site.certs.client_config(None, Some("postgresql"));
    let connection = rustls::ClientConnection::new(config, "localhost".try_into().expect("a name"));
    let socket = std::net::TcpStream::connect(("127.0.0.1", proxy.port())).expect("connect");
    let mut stream = rustls::StreamOwned::new(connection.expect("a configuration"), socket);
    let refused = stream.read(&mut [0]).expect_err("no certificate, no answer");
    assert!(refused.to_string().contains("CertificateRequired"), "{refused}");
}
