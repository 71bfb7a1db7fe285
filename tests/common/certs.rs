//! A certificate authority and what it signs, fresh per test, in PEM files with the modes PostgreSQL demands.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::temp_dir;

/// One authority and a directory for its files.
pub(crate) struct Certs {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Paths of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

// === impl Certs ===

impl Certs {
    pub(crate) fn new() -> Certs {
        let dir = temp_dir("certs");
        let mut params = params("pgcanon test CA", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("make a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("sign the authority");
        std::fs::write(dir.path().join("ca.crt"), issuer.pem()).expect("write the authority");
        Certs { dir, issuer }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    /// A server certificate for `localhost` and 127.0.0.1.
    pub(crate) fn server(&self, name: &str) -> Pair {
        self.server_for(name, &["localhost", "127.0.0.1"])
    }

    /// A server certificate for other names.
    pub(crate) fn server_for(&self, name: &str, names: &[&str]) -> Pair {
        self.signed(name, params(name, names), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client certificate whose common name is `user`.
    pub(crate) fn client(&self, user: &str) -> Pair {
        self.signed(user, params(user, &[]), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn signed(&self, name: &str, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Pair {
        params.extended_key_usages.push(usage);
        let key = KeyPair::generate().expect("make a key");
        let cert = params.signed_by(&key, &self.issuer).expect("sign a certificate");
        let pair = Pair {
            cert: self.dir.path().join(format!("{name}.crt")),
            key: self.dir.path().join(format!("{name}.key")),
        };
        std::fs::write(&pair.cert, cert.pem()).expect("write a certificate");
        write_key(&pair.key, &key.serialize_pem());
        pair
    }

    /// A client's TLS configuration that trusts this authority, with a client certificate if given and ALPN if named.
    pub(crate) fn client_config(&self, identity: Option<&Pair>, alpn: Option<&str>) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).expect("read the authority")).expect("trust the authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has the default versions").with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let cert = CertificateDer::from_pem_file(&pair.cert).expect("read a certificate");
                let key = PrivateKeyDer::from_pem_file(&pair.key).expect("read a key");
                builder.with_client_auth_cert(vec![cert], key).expect("certificate and key fit")
            }
        };
        config.alpn_protocols.extend(alpn.map(|name| name.as_bytes().to_vec()));
        Arc::new(config)
    }
}

impl Pair {
    /// Copies the pair to where a server of user `postgres` may read it; the paths of the copies.
    pub(crate) fn copy_for(&self, cluster: &super::Cluster) -> Pair {
        let pair = Pair { cert: cluster.data_dir().join("server.crt"), key: cluster.data_dir().join("server.key") };
        std::fs::copy(&self.cert, &pair.cert).expect("copy a certificate");
        write_key(&pair.key, &std::fs::read_to_string(&self.key).expect("read a key"));
        super::cluster::hand_to_server(&pair.cert);
        super::cluster::hand_to_server(&pair.key);
        pair
    }
}

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names that a certificate can bear");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn write_key(path: &Path, pem: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(pem.as_bytes())).expect("write a key");
}
