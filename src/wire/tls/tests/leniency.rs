//! Certificates that webpki finds odd and libpq does not, and what stays refused about them.

use super::*;

#[tokio::test]
async fn version_1_certificates_are_taken_when_a_root_has_signed_them() {
    let pki = Pki::new();
    let (ours, other) = (pki.ca("ours"), pki.ca("other"));
    // Another key under our name: the name of the issuer alone must not do.
    let impostor = pki.ca("impostor");
    let impostor = Ca { params: ours.params.clone(), ..impostor };
    let leaf = pki.version_1(&ours, "server", &named(&[], "db.example"));
    let forged = pki.version_1(&impostor, "forged", &named(&[], "db.example"));

    assert!(passes(connect(&leaf, &options(Require, None), "x").await.unwrap()).await);
    assert!(passes(connect(&leaf, &options(VerifyCa, Some(&ours.file)), "x").await.unwrap()).await);
    assert!(passes(connect(&leaf, &options(VerifyFull, Some(&ours.file)), "db.example").await.unwrap()).await);
    let refused = refusal(&leaf, &options(VerifyFull, Some(&ours.file)), "x.example").await;
    assert!(refused.contains("\"x.example\"") && refused.contains("db.example"), "{refused}");
    for (leaf, root) in [(&leaf, &other), (&forged, &ours)] {
        let refused = refusal(leaf, &options(VerifyCa, Some(&root.file)), "db.example").await;
        assert!(refused.contains("version 1"), "{refused}");
    }
}

#[tokio::test]
async fn version_1_certificates_are_refused_when_outdated_or_of_another_issuer() {
    let pki = Pki::new();
    let ours = pki.ca("ours");
    let mut params = named(&[], "db.example");
    // The same key under another name did not issue what names us.
    let renamed = pki.ca("renamed");
    let renamed = Ca { key: KeyPair::from_pem(&ours.key.serialize_pem()).unwrap(), ..renamed };
    let other_issuer = pki.version_1(&renamed, "other-issuer", &params);
    params.not_after = date_time_ymd(2020, 1, 1);
    let old = pki.version_1(&ours, "old", &params);
    params.not_before = date_time_ymd(3000, 1, 1);
    params.not_after = date_time_ymd(3001, 1, 1);
    let early = pki.version_1(&ours, "early", &params);
    for leaf in [other_issuer, old, early] {
        let options = options(VerifyCa, Some(&ours.file));
        assert!(connect(&leaf, &options, "db.example").await.is_err());
    }
}

#[tokio::test]
async fn version_1_certificates_work_in_tls_1_2_too() {
    let pki = Pki::new();
    let ours = pki.ca("ours");
    let leaf = pki.version_1(&ours, "server", &named(&[], "db.example"));
    let pair = files::certified_key(&leaf.cert, &leaf.key, &provider()).unwrap();
    let config = |key: Arc<dyn rustls::sign::SigningKey>| {
        let pair = rustls::sign::CertifiedKey::new(pair.cert.clone(), key);
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
        TlsAcceptor::from(Arc::new(config))
    };
    let tls = ClientTls::load(&options(VerifyFull, Some(&ours.file))).unwrap();
    let ends = shake(config(Arc::clone(&pair.key)), &tls, "db.example").await.unwrap();
    assert_eq!(ends.0.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert!(passes(ends).await);
    // The certificate is public; whoever has not its key must not get through, not even where nothing else is checked.
    let tls = ClientTls::load(&options(Require, None)).unwrap();
    let stranger = pki.leaf(&ours, "stranger", named(&["db.example"], "db"));
    let stranger = files::certified_key(&stranger.cert, &stranger.key, &provider()).unwrap();
    assert!(matches!(shake(config(stranger.key), &tls, "db.example").await, Err(TlsError::Handshake { .. })));
}

#[tokio::test]
async fn a_server_without_the_key_of_its_certificate_is_refused_in_every_mode() {
    let pki = Pki::new();
    let ours = pki.ca("ours");
    let key = |leaf: &Leaf| files::certified_key(&leaf.cert, &leaf.key, &provider()).unwrap();
    let stranger = key(&pki.leaf(&ours, "stranger", named(&["db.example"], "db")));
    for leaf in
        [pki.leaf(&ours, "v3", named(&["db.example"], "db")), pki.version_1(&ours, "v1", &named(&[], "db.example"))]
    {
        let pair = rustls::sign::CertifiedKey::new(key(&leaf).cert, Arc::clone(&stranger.key));
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        for options in [options(Require, None), options(VerifyFull, Some(&ours.file))] {
            let tls = ClientTls::load(&options).unwrap();
            let result = shake(acceptor.clone(), &tls, "db.example").await;
            assert!(matches!(result, Err(TlsError::Handshake { .. })), "{}", options.mode);
        }
    }
}

#[tokio::test]
async fn a_self_signed_certificate_marked_as_ca_is_taken_where_it_is_itself_the_root() {
    let pki = Pki::new();
    let key = KeyPair::generate().unwrap();
    let mut params = named(&["db.example"], "db.example");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let leaf = pki.pair("self", &params.self_signed(&key).unwrap().pem(), &key);
    assert!(passes(connect(&leaf, &options(VerifyCa, Some(&leaf.cert)), "x").await.unwrap()).await);
    assert!(passes(connect(&leaf, &options(VerifyFull, Some(&leaf.cert)), "db.example").await.unwrap()).await);
    assert!(refusal(&leaf, &options(VerifyFull, Some(&leaf.cert)), "x.example").await.contains("name"));
    let other = pki.ca("other");
    assert!(connect(&leaf, &options(VerifyCa, Some(&other.file)), "db.example").await.is_err());
    // A CA certificate that a root has signed is no server certificate.
    let ours = pki.ca("ours");
    let sub = pki.leaf(&ours, "sub", params.clone());
    assert!(connect(&sub, &options(VerifyCa, Some(&ours.file)), "db.example").await.is_err());
    // Out of date is out of date.
    params.not_after = date_time_ymd(2020, 1, 1);
    let old = pki.pair("old", &params.self_signed(&key).unwrap().pem(), &key);
    assert!(connect(&old, &options(VerifyCa, Some(&old.cert)), "db.example").await.is_err());
}
