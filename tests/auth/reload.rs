//! Certificates are read again on SIGHUP: new sessions see the new one, a broken one changes nothing.

use rustix::process::Signal;

use crate::client_leg::section;
use crate::common::certs::Certs;
use crate::common::{Client, Proxy, eventually};
use crate::site::{Site, psql, tls};

fn verified(proxy: &Proxy, root: &Certs) -> Result<(), String> {
    let conninfo = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=trusty dbname=postgres sslmode=verify-full sslrootcert={}",
        proxy.port(),
        root.ca().display()
    );
    psql(&conninfo, "select 1").map(drop)
}

fn times(proxy: &Proxy, text: &str) -> usize {
    proxy.log().matches(text).count()
}

#[test]
fn a_renewed_certificate_is_seen_by_new_sessions_and_a_broken_one_by_nobody() {
    let site = Site::shared();
    let (old, new) = (Certs::new(), Certs::new());
    let pair = old.server("renewed");
    let proxy = site.proxy("", &section("allow", &site, &pair));
    let mut session =
        site.login(tls(&proxy.tcp(), old.client_config(None, None)), "trusty", "").expect("the old certificate");
    let renewed = new.server("renewed");

    // Renewed in place, as certificate tools do.
    std::fs::copy(&renewed.cert, &pair.cert).expect("renew the certificate");
    proxy.signal(Signal::HUP); // the certificate without its key
    proxy.wait_log("reload failed, everything stays as it was");
    proxy.wait_log("does not belong to the first certificate");
    verified(&proxy, &old).expect("the certificate of before");

    std::fs::copy(&renewed.key, &pair.key).expect("renew the key");
    proxy.signal(Signal::HUP);
    proxy.wait_log("certificates were read again");
    verified(&proxy, &new).expect("the new certificate");
    assert!(verified(&proxy, &old).expect_err("the old authority").starts_with("SSL error: "));
    assert_eq!(session.rows("select 1"), [[Some("1".to_owned())]], "a session keeps what it began with");

    for broken in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let failures = times(&proxy, "reload failed");
        std::fs::write(&pair.cert, broken).expect("break the certificate");
        proxy.signal(Signal::HUP);
        eventually("the failed reload to be logged", || (times(&proxy, "reload failed") > failures).then_some(()));
        verified(&proxy, &new).expect("the certificate of before");
    }
    std::fs::remove_file(&pair.key).expect("lose the key");
    let failures = times(&proxy, "reload failed");
    proxy.signal(Signal::HUP);
    eventually("the failed reload to be logged", || (times(&proxy, "reload failed") > failures).then_some(()));
    verified(&proxy, &new).expect("the certificate of before");
}

#[test]
fn the_authority_of_client_certificates_is_reloaded_too() {
    let site = Site::shared();
    let ca = site.certs.ca().with_file_name("clients.crt");
    let other = Certs::new();
    std::fs::copy(site.certs.ca(), &ca).expect("trust our own");
    let overrides = section("verify-client", &site, &site.server);
    let overrides = overrides.replace(&site.certs.ca().display().to_string(), &ca.display().to_string());
    let proxy = site.proxy("", &overrides);
    let enter = |certs: &Certs| {
        let pair = certs.client("reloading");
        let certificate = format!("sslcert={} sslkey={}", pair.cert.display(), pair.key.display());
        let conninfo = format!("host=127.0.0.1 port={} user=trusty dbname=postgres sslmode=require", proxy.port());
        psql(&format!("{conninfo} {certificate}"), "select 1")
    };
    assert_eq!((enter(&site.certs).as_deref(), enter(&other).is_err()), (Ok("1"), true));
    std::fs::copy(other.ca(), &ca).expect("trust the other");
    proxy.signal(Signal::HUP);
    proxy.wait_log("certificates were read again");
    assert_eq!((enter(&site.certs).is_err(), enter(&other).as_deref()), (true, Ok("1")));
}

#[test]
fn tls_can_be_switched_on_without_a_restart() {
    let site = Site::shared();
    let proxy = site.proxy("", "[tls]\nmode = \"disable\"\n");
    let config = std::fs::read_to_string(proxy.config_path()).expect("read the configuration");
    let config = config.split("[tls]").next().expect("a part before");
    let config = format!("{config}{}", section("require", &site, &site.server));
    let mut open = site.login(Client::connect(&proxy.tcp()), "trusty", "").expect("in plain");
    std::fs::write(proxy.config_path(), config).expect("write the configuration");
    proxy.signal(Signal::HUP);
    proxy.wait_log("in force for new sessions");
    let refused = site.login(Client::connect(&proxy.tcp()), "trusty", "").expect_err("TLS is required now");
    assert_eq!(refused.sqlstate, "28000");
    verified(&proxy, &site.certs).expect("over TLS");
    assert_eq!(open.rows("select 1"), [[Some("1".to_owned())]], "a session goes on as it began");
}
