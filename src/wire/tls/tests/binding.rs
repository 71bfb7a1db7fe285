//! The end-point hash, checked against OpenSSL.

use super::*;

#[tokio::test]
async fn both_ends_bind_to_the_same_certificate() {
    let pki = Pki::new();
    let leaf = pki.leaf(&pki.ca("ours"), "server", named(&["db.example"], "db"));
    let loaded = ServerTls::load(&serve(&leaf)).unwrap();
    let tls = ClientTls::load(&options(Require, None)).unwrap();
    let (near, _) = shake(loaded.acceptor(), &tls, "db.example").await.unwrap();
    assert_eq!(server_channel_binding(near.get_ref().1).as_deref(), loaded.channel_binding());
    assert_eq!(
        loaded.channel_binding().unwrap(),
        ring::digest::digest(&ring::digest::SHA256, loaded.certificate()).as_ref()
    );
}

/// Certificates made by OpenSSL 3.0 (`openssl req -x509 -newkey … -sha…`); the hashes are those of
/// `openssl x509 -outform der | openssl dgst -sha…`.
#[test]
fn the_end_point_hash_is_that_of_openssl() {
    macro_rules! check {
        ($file:literal, $hash:expr) => {{
            let pem = include_bytes!(concat!("../testdata/", $file, ".pem"));
            let hash = tls_server_end_point(&CertificateDer::from_pem_slice(pem).unwrap());
            let hash = hash.map(|hash| hash.iter().map(|b| format!("{b:02x}")).collect::<String>());
            assert_eq!(hash.as_deref().map_err(Clone::clone), $hash, $file);
        }};
    }
    let no_hash = |oid: &str| Err(BindingError::NoHash(oid.into()));
    check!("rsa-md5", Ok("3ff8ab6fcb91546a4fba099b63cbedd186f9af8f6dfc380bf2d8e49ef267e144"));
    check!("ecdsa-sha1", Ok("63865da9f4a5378b9fdb7af6bf74b8a6e7b26f26b4c4b6a9fe7c2a927f9e143c"));
    check!("ecdsa-sha256", Ok("c2295504f096d3cbdd1f3641774a13c1b445e83e81ad8515fd5bd97205df3811"));
    check!(
        "ecdsa-sha384",
        Ok("7b67e1bdd9db627aedcd42f3d176e9f69639f10553204814a53fd5df452d8fafe21fdb633c67d33b48822d880ac429a2")
    );
    check!(
        "ecdsa-sha512",
        Ok(concat!(
            "241d55e0368303ba6d71ad619fadf1eb163ca3e49e74e97ef75e68a0e426651b",
            "b1002d5ecf5a4cad7500f0ee16147902131ca8e2c3eb597714cba3f2fbb76ea9"
        ))
    );
    check!(
        "pss-sha512",
        Ok(concat!(
            "a8d08821a5f42b9280e9ce51281320342b07e46a2611dd8cca2151b2836b9c64",
            "c4abba45758455d8dd3080968a13ca81a05a21173229d4aa39aa46fe806f78d4"
        ))
    );
    check!("pss-sha1", Ok("51d57deebccdd9118419180c3a9069639dd59f82c7e384e6cbab2e8184a7ad43"));
    check!("ed25519", no_hash("1.3.101.112"));
    check!("ecdsa-sha224", no_hash("1.2.840.10045.4.3.1"));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_end_point_hash_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), cut in 0usize..400, flip in 0usize..400) {
        let _ = tls_server_end_point(&bytes);
        let pem = include_bytes!("../testdata/pss-sha512.pem");
        let mut der = CertificateDer::from_pem_slice(pem).unwrap().to_vec();
        let at = flip % der.len();
        der[at] ^= bytes.first().copied().unwrap_or(1);
        let _ = tls_server_end_point(&der);
        der.truncate(cut);
        proptest::prop_assert!(tls_server_end_point(&der).is_err());
    }
}
