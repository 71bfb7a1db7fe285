//! What the handshake says besides certificates: ALPN and SNI.

use super::*;

/// A server that knows no ALPN, as PostgreSQL 16 and older.
fn old_server(leaf: &Leaf) -> TlsAcceptor {
    let pair = files::certified_key(&leaf.cert, &leaf.key, &provider()).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn alpn_is_always_offered_and_demanded_only_when_direct() {
    let pki = Pki::new();
    let ours = pki.ca("ours");
    let leaf = pki.leaf(&ours, "server", named(&["db.example"], "db"));
    for direct in [false, true] {
        let options = ClientTlsOptions { direct, ..options(VerifyFull, Some(&ours.file)) };
        let tls = ClientTls::load(&options).unwrap();
        let (_, far) = shake(ServerTls::load(&serve(&leaf)).unwrap().acceptor(), &tls, "db.example").await.unwrap();
        assert!(alpn_is_postgresql(far.get_ref().1));
        let result = shake(old_server(&leaf), &tls, "db.example").await;
        assert_eq!(matches!(result, Err(TlsError::NoAlpn(_))), direct);
        assert_eq!(result.is_ok(), !direct);
    }
}

#[tokio::test]
async fn a_client_without_alpn_is_taken_and_known_for_it_and_one_with_another_is_not() {
    let pki = Pki::new();
    let ours = pki.ca("ours");
    let leaf = pki.leaf(&ours, "server", named(&["db.example"], "db"));
    let acceptor = ServerTls::load(&serve(&leaf)).unwrap().acceptor();
    for (offered, good) in [(vec![], true), (vec![b"http/1.1".to_vec()], false)] {
        let (roots, _) = files::roots("root", &ours.file).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offered;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let (near, far) = duplex(16 * 1024);
        let (connected, accepted) =
            tokio::join!(connector.connect("db.example".try_into().unwrap(), near), acceptor.accept(far));
        assert_eq!((connected.is_ok(), accepted.is_ok()), (good, good));
        if let Ok(far) = accepted {
            assert!(!alpn_is_postgresql(far.get_ref().1));
        }
    }
}

#[tokio::test]
async fn the_host_name_is_sent_and_an_address_is_not() {
    let pki = Pki::new();
    let leaf = pki.leaf(&pki.ca("ours"), "server", named(&["db.example"], "db"));
    for (host, sent) in [("db.example", Some("db.example")), ("127.0.0.1", None), ("::1", None)] {
        let (_, far) = connect(&leaf, &options(Require, None), host).await.unwrap();
        assert_eq!(far.get_ref().1.server_name(), sent);
    }
}
