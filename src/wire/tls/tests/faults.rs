//! Every file that cannot be used, and every option that would check less than it says.

use super::*;

#[test]
fn each_unusable_file_is_named_with_its_fault() {
    let pki = Pki::new();
    let ours = pki.ca("ours");
    let leaf = pki.leaf(&ours, "server", named(&["db.example"], "db"));
    let other = pki.leaf(&ours, "other", named(&["db.example"], "db"));
    let good_key = fs::read_to_string(&leaf.key).unwrap();
    let damaged = fs::read_to_string(&leaf.cert).unwrap().replace("-----END CERTIFICATE-----", "");
    let exposed = pki.write("exposed.key", &good_key);
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o644)).unwrap();
    let gone = pki.dir.path().join("gone");
    let fault = |cert: &Path, key: &Path| {
        let files = ServerTlsFiles { cert: cert.into(), key: key.into(), client_ca: None, require_client_cert: false };
        ServerTls::load(&files).err().expect("must fail").to_string()
    };
    for (cert, key, named, fault_text) in [
        (&gone, &leaf.key, "gone", "No such file"),
        (&leaf.cert, &gone, "gone", "No such file"),
        (&leaf.key, &leaf.key, "server.key", "no PEM block \"-----BEGIN CERTIFICATE-----\""),
        (&leaf.cert, &leaf.cert, "server.crt", "no PEM block \"-----BEGIN PRIVATE KEY-----\""),
        (&pki.write("cut.crt", damaged), &leaf.key, "cut.crt", "not valid PEM"),
        (&pki.write("junk.crt", pem("CERTIFICATE", b"junk")), &leaf.key, "junk.crt", "cannot be used"),
        (&leaf.cert, &pki.write("junk.key", pem("PRIVATE KEY", b"junk")), "junk.key", "cannot be used"),
        (&leaf.cert, &other.key, "other.key", "does not belong to the first certificate in"),
        (&leaf.cert, &exposed, "exposed.key", "0644"),
        (&leaf.cert, &pki.write("p8.key", pem("ENCRYPTED PRIVATE KEY", b"x")), "p8.key", "is encrypted"),
        (
            &leaf.cert,
            &pki.write("old.key", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n"),
            "old.key",
            "is encrypted",
        ),
    ] {
        let message = fault(cert, key);
        assert!(message.contains(named) && message.contains(fault_text), "{message}");
        assert!(!message.contains("BEGIN EC") && !message.contains(good_key.lines().nth(1).unwrap()));
    }
}

#[test]
fn options_that_would_check_less_than_they_say_are_refused() {
    let pki = Pki::new();
    let gone = pki.dir.path().join("gone.crt");
    let refused = |options: ClientTlsOptions| ClientTls::load(&options).err().expect("must fail");
    for mode in [VerifyCa, VerifyFull] {
        assert!(matches!(refused(options(mode, None)), TlsError::RootsNeeded(m) if m == mode));
    }
    for mode in [Require, VerifyCa] {
        let options = ClientTlsOptions { roots: RootSource::System, ..options(mode, None) };
        assert!(matches!(refused(options), TlsError::SystemRootsNeedName(m) if m == mode));
    }
    assert!(matches!(refused(options(Require, Some(&gone))), TlsError::Read { what: "root certificate", .. }));
    let crl = ClientTlsOptions { crl: Some(gone), ..options(Require, None) };
    assert!(matches!(refused(crl), TlsError::CrlWithoutRoots(_)));
    let leaf = pki.leaf(&pki.ca("ours"), "server", named(&["db.example"], "db"));
    let demanding = ServerTlsFiles { require_client_cert: true, ..serve(&leaf) };
    assert!(matches!(ServerTls::load(&demanding).err(), Some(TlsError::ClientCaNeeded)));
}
