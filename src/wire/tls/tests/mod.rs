//! TLS as a specification: every mode against good and bad certificates; here is what the tests arrange with.
// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, SigningKey as _, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ProtocolVersion, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::{client, server};
use x509_cert::der::asn1::BitString;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::{Certificate, Version};

use super::*;

mod binding;
mod faults;
mod leniency;
mod modes;
mod negotiation;

struct Pki {
    dir: TempDir,
}

struct Ca {
    params: CertificateParams,
    key: KeyPair,
    file: PathBuf,
}

impl Ca {
    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

struct Leaf {
    cert: PathBuf,
    key: PathBuf,
}

impl Pki {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn ca(&self, name: &str) -> Ca {
        let mut params = named(&[], name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let file = self.write(&format!("{name}.ca.crt"), params.self_signed(&key).unwrap().pem());
        Ca { params, key, file }
    }

    fn leaf(&self, ca: &Ca, file: &str, params: CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &ca.issuer()).unwrap();
        self.pair(file, &cert.pem(), &key)
    }

    fn pair(&self, file: &str, cert: &str, key: &KeyPair) -> Leaf {
        Leaf {
            cert: self.write(&format!("{file}.crt"), cert),
            key: self.write(&format!("{file}.key"), key.serialize_pem()),
        }
    }

    /// What `openssl x509 -req` makes: the same certificate as version 1, without extensions.
    fn version_1(&self, ca: &Ca, file: &str, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &ca.issuer()).unwrap();
        let mut cert = Certificate::from_der(made.der()).unwrap();
        cert.tbs_certificate.version = Version::V1;
        cert.tbs_certificate.extensions = None;
        cert.tbs_certificate.issuer_unique_id = None;
        let signature = ca.key.sign(&cert.tbs_certificate.to_der().unwrap()).unwrap();
        cert.signature = BitString::from_bytes(&signature).unwrap();
        self.pair(file, &pem("CERTIFICATE", &cert.to_der().unwrap()), &key)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// A certificate with these alternative names and this common name.
fn named(alternative: &[&str], common: &str) -> CertificateParams {
    let names: Vec<String> = alternative.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common);
    params
}

fn serve(leaf: &Leaf) -> ServerTlsFiles {
    ServerTlsFiles { cert: leaf.cert.clone(), key: leaf.key.clone(), client_ca: None, require_client_cert: false }
}

fn options(mode: ServerCheck, roots: Option<&Path>) -> ClientTlsOptions {
    let roots = roots.map_or(RootSource::None, |path| RootSource::File(path.to_owned()));
    ClientTlsOptions { mode, roots, client_cert: None, crl: None, direct: false }
}

type Ends = (client::TlsStream<DuplexStream>, server::TlsStream<DuplexStream>);

/// Shakes hands; the error is the one that the server leg reports.
async fn shake(acceptor: TlsAcceptor, tls: &ClientTls, host: &str) -> Result<Ends, TlsError> {
    let (near, far) = duplex(16 * 1024);
    let (connected, accepted) = tokio::join!(tls.connect(host, near), async move {
        // Dropped on failure, so that the other side sees an end.
        acceptor.accept(far).await.ok()
    });
    Ok((connected?, accepted.expect("the client connected, so the server accepted")))
}

async fn connect(server: &Leaf, options: &ClientTlsOptions, host: &str) -> Result<Ends, TlsError> {
    let acceptor = ServerTls::load(&serve(server)).unwrap().acceptor();
    shake(acceptor, &ClientTls::load(options).unwrap(), host).await
}

async fn refusal(server: &Leaf, options: &ClientTlsOptions, host: &str) -> String {
    match connect(server, options, host).await {
        Ok(_) => panic!("{host} must be refused"),
        Err(error) => error.to_string(),
    }
}

/// Whether a byte sent by the client arrives, which takes a server that is content with the client's certificate.
async fn passes((mut near, mut far): Ends) -> bool {
    let sent = async {
        near.write_all(b"x").await?;
        near.flush().await
    };
    let mut byte = [0];
    let (sent, received) = tokio::join!(sent, far.read_exact(&mut byte));
    sent.is_ok() && received.is_ok() && byte == *b"x"
}

use ServerCheck::{Require, VerifyCa, VerifyFull};
