//! Reads certificates, keys and revocation lists from PEM files; every error names the file and what is wrong with it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use super::TlsError;

/// A certificate chain and its key, proved to be a pair.
pub(super) fn certified_key(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    const WHAT: &str = "certificate";
    let chain = certificates(WHAT, cert)?;
    let unusable = |source| TlsError::Unusable { what: "private key", path: key.into(), source };
    let private = provider.key_provider.load_private_key(private_key(key)?).map_err(unusable)?;
    let pair = CertifiedKey::new(chain, private);
    // Compared here and not by rustls, which refuses X.509 version 1: `openssl x509 -req` makes those, and libpq takes them.
    let certified = pair.end_entity_cert().ok().and_then(|leaf| public_key(leaf));
    let Some(certified) = certified else {
        let source = Error::InvalidCertificate(CertificateError::BadEncoding);
        return Err(TlsError::Unusable { what: WHAT, path: cert.into(), source });
    };
    match pair.key.public_key() {
        Some(own) if own.as_ref() != certified => Err(TlsError::KeyMismatch { cert: cert.into(), key: key.into() }),
        _ => Ok(pair),
    }
}

/// The certificates of a file, at least one.
pub(super) fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    blocks(what, "CERTIFICATE", path)
}

/// The revocation lists of a file, at least one.
pub(super) fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    blocks("certificate revocation list", "X509 CRL", path)
}

/// A file of trusted roots.
pub(super) fn roots(
    what: &'static str,
    path: &Path,
) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), TlsError> {
    let certificates = certificates(what, path)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        let unusable = |source| TlsError::Unusable { what, path: path.into(), source };
        store.add(certificate.clone()).map_err(unusable)?;
    }
    Ok((Arc::new(store), certificates))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    const WHAT: &str = "private key";
    let pem = read(WHAT, path)?;
    check_mode(path)?;
    // Both forms say so: PKCS#8 in its label, the older ones in a `Proc-Type` line.
    if memchr::memmem::find(&pem, b"ENCRYPTED").is_some() {
        return Err(TlsError::KeyEncrypted(path.into()));
    }
    match PrivateKeyDer::pem_slice_iter(&pem).next() {
        Some(Ok(key)) => Ok(key),
        Some(Err(source)) => Err(TlsError::Pem { what: WHAT, path: path.into(), source }),
        None => Err(TlsError::NothingInside { what: WHAT, path: path.into(), label: "PRIVATE KEY" }),
    }
}

/// The rule of PostgreSQL and libpq: the owner alone; a group may read what root owns.
fn check_mode(path: &Path) -> Result<(), TlsError> {
    let meta =
        fs::metadata(path).map_err(|source| TlsError::Read { what: "private key", path: path.into(), source })?;
    let forbidden = if meta.uid() == 0 { 0o037 } else { 0o077 };
    let mode = meta.mode() & 0o7777;
    if mode & forbidden == 0 { Ok(()) } else { Err(TlsError::KeyExposed { path: path.into(), mode }) }
}

fn blocks<T: PemObject>(what: &'static str, label: &'static str, path: &Path) -> Result<Vec<T>, TlsError> {
    let pem = read(what, path)?;
    let found = T::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::NothingInside { what, path: path.into(), label }),
        Ok(found) => Ok(found),
        Err(source) => Err(TlsError::Pem { what, path: path.into(), source }),
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { what, path: path.into(), source })
}

/// The public key of a certificate, as DER.
pub(super) fn public_key(certificate: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    certificate.tbs_certificate.subject_public_key_info.to_der().ok()
}
