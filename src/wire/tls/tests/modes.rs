//! What is checked in which mode, of servers and of clients.

use super::*;

#[tokio::test]
async fn require_without_roots_takes_any_server() {
    let pki = Pki::new();
    let leaf = pki.leaf(&pki.ca("ours"), "server", named(&["db.example"], "db"));
    for host in ["elsewhere.example", "127.0.0.1", "::1", "not a host name"] {
        assert!(passes(connect(&leaf, &options(Require, None), host).await.unwrap()).await, "{host}");
    }
}

#[tokio::test]
async fn roots_are_checked_in_every_mode_and_the_name_in_one() {
    let pki = Pki::new();
    let (ours, other) = (pki.ca("ours"), pki.ca("other"));
    let leaf = pki.leaf(&ours, "server", named(&["db.example", "127.0.0.1"], "db"));
    for mode in [Require, VerifyCa, VerifyFull] {
        for host in ["db.example", "DB.example", "127.0.0.1"] {
            assert!(
                passes(connect(&leaf, &options(mode, Some(&ours.file)), host).await.unwrap()).await,
                "{mode} {host}"
            );
        }
        // A wrong name must not hide a wrong issuer.
        for host in ["db.example", "elsewhere.example"] {
            let refused = refusal(&leaf, &options(mode, Some(&other.file)), host).await;
            assert!(refused.contains("UnknownIssuer"), "{mode} {host}: {refused}");
        }
        for host in ["elsewhere.example", "127.0.0.2"] {
            let result = connect(&leaf, &options(mode, Some(&ours.file)), host).await;
            assert_eq!(result.is_ok(), mode != VerifyFull, "{mode} {host}");
        }
    }
    let refused = refusal(&leaf, &options(VerifyFull, Some(&ours.file)), "elsewhere.example").await;
    assert!(refused.contains("\"elsewhere.example\"") && refused.contains("db.example"), "{refused}");
}

#[tokio::test]
async fn an_outdated_certificate_is_refused_where_roots_are_given() {
    let pki = Pki::new();
    let ours = pki.ca("ours");
    let mut params = named(&["db.example"], "db");
    params.not_after = date_time_ymd(2020, 1, 1);
    let leaf = pki.leaf(&ours, "server", params);
    assert!(refusal(&leaf, &options(VerifyCa, Some(&ours.file)), "db.example").await.contains("expired"));
    assert!(connect(&leaf, &options(Require, None), "db.example").await.is_ok());
}

#[tokio::test]
async fn the_common_name_counts_only_where_no_alternative_name_of_its_kind_does() {
    let pki = Pki::new();
    let ours = pki.ca("ours");
    for (alternative, common, host, good) in [
        (&[][..], "db.example", "db.example", true),
        (&[], "DB.Example", "db.example", true),
        (&[], "*.example", "db.example", true),
        (&[], "*.example", "a.db.example", false),
        (&[], "*.example", "example", false),
        (&[], "db.example", "db2.example", false),
        (&[], "127.0.0.1", "127.0.0.1", true),
        (&[], "127.0.0.1", "127.0.0.2", false),
        (&["other.example"], "db.example", "db.example", false),
        (&["127.0.0.1"], "db.example", "db.example", true),
        (&["db.example"], "127.0.0.1", "127.0.0.1", true),
        (&["127.0.0.2"], "127.0.0.1", "127.0.0.1", false),
    ] {
        let leaf = pki.leaf(&ours, "server", named(alternative, common));
        let result = connect(&leaf, &options(VerifyFull, Some(&ours.file)), host).await;
        assert_eq!(result.is_ok(), good, "SAN {alternative:?}, CN {common}, host {host}");
    }
}

#[tokio::test]
async fn a_revoked_server_is_refused() {
    let pki = Pki::new();
    let ours = pki.ca("ours");
    let numbered = |serial: u64| {
        let mut params = named(&["db.example"], "db");
        params.serial_number = Some(serial.into());
        params
    };
    let (good, bad) = (pki.leaf(&ours, "good", numbered(7)), pki.leaf(&ours, "bad", numbered(8)));
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(4000, 1, 1),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(8u64),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let crl = pki.write("ours.crl", list.signed_by(&ours.issuer()).unwrap().pem().unwrap());
    let options = ClientTlsOptions { crl: Some(crl), ..options(VerifyCa, Some(&ours.file)) };
    assert!(connect(&good, &options, "db.example").await.is_ok());
    assert!(refusal(&bad, &options, "db.example").await.contains("Revoked"));
}

#[tokio::test]
async fn verify_full_refuses_a_host_that_no_certificate_can_name() {
    let pki = Pki::new();
    let ours = pki.ca("ours");
    let leaf = pki.leaf(&ours, "server", named(&["db.example"], "db"));
    let refused = refusal(&leaf, &options(VerifyFull, Some(&ours.file)), "not a host").await;
    assert!(refused.contains("\"not a host\""), "{refused}");
}

// === client certificates ===

#[tokio::test]
async fn client_certificates_are_asked_for_and_demanded_as_told() {
    let pki = Pki::new();
    let (ours, other) = (pki.ca("ours"), pki.ca("other"));
    let leaf = pki.leaf(&ours, "server", named(&["db.example"], "db"));
    let client = |ca: &Ca, file: &str| {
        let mut params = named(&[], "alice");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = pki.leaf(ca, file, params);
        Some((leaf.cert, leaf.key))
    };
    for (require, certificate, good) in [
        (true, client(&ours, "alice"), true),
        (true, None, false),
        (true, client(&other, "mallory"), false),
        (false, client(&ours, "bob"), true),
        (false, None, true),
        (false, client(&other, "eve"), false),
    ] {
        let files = ServerTlsFiles { client_ca: Some(ours.file.clone()), require_client_cert: require, ..serve(&leaf) };
        let options = ClientTlsOptions { client_cert: certificate.clone(), ..options(VerifyFull, Some(&ours.file)) };
        let (near, far) = duplex(16 * 1024);
        let (tls, acceptor) = (ClientTls::load(&options).unwrap(), ServerTls::load(&files).unwrap().acceptor());
        // In TLS 1.3 the client is done before the server has looked at its certificate: the server's view counts.
        let (connected, accepted) = tokio::join!(tls.connect("db.example", near), acceptor.accept(far));
        assert_eq!(accepted.is_ok(), good, "require {require}, certificate {certificate:?}");
        if let (Ok(near), Ok(far)) = (connected, accepted) {
            let shown = far.get_ref().1.peer_certificates().map(<[_]>::len);
            assert_eq!(shown, certificate.map(|_| 1));
            assert!(passes((near, far)).await);
        }
    }
}
