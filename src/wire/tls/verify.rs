//! Checks a server's certificate as far as the mode asks; the handshake's own signature is checked in every mode.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _, Header, Reader as _, SliceReader};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::{Certificate, Version};

use super::files::public_key;

/// Whom the server must be signed by.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) webpki: Arc<WebPkiServerVerifier>,
    /// The roots once more, for certificates that webpki takes for odd and libpq does not; empty shuts that path.
    pub(super) roots: Vec<CertificateDer<'static>>,
}

/// The check of one mode.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    /// `None`: whoever answers is taken.
    pub(super) chain: Option<Chain>,
    pub(super) check_name: bool,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        // webpki looks at the name last, so an error about the name says that the chain is good.
        let name_error = match chain.webpki.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            Ok(verified) => return Ok(verified),
            Err(error) if is_name_error(&error) => error,
            // What webpki finds odd rather than wrong: neither expired nor unknown nor badly signed.
            Err(error @ Error::InvalidCertificate(CertificateError::Other(_))) => {
                let parsed = Certificate::from_der(leaf).map_err(|_| error.clone())?;
                if !self.is_signed_by_root(chain, leaf, &parsed, now) {
                    return Err(explained(error, &parsed));
                }
                match ParsedCertificate::try_from(leaf).and_then(|leaf| verify_server_name(&leaf, name)) {
                    Ok(()) => return Ok(ServerCertVerified::assertion()),
                    Err(error) if is_name_error(&error) => error,
                    Err(_) => CertificateError::NotValidForNameContext {
                        expected: name.to_owned(),
                        presented: common_name(&parsed).map(str::to_owned).into_iter().collect(),
                    }
                    .into(),
                }
            }
            Err(error) => return Err(error),
        };
        if !self.check_name || common_name_matches(leaf, name) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(name_error)
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let result = verify_tls12_signature(message, leaf, signed, &self.algorithms);
        or_version_1(result, leaf, |key| {
            let scheme = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
            let key = SubjectPublicKeyInfoOwned::from_der(key).ok();
            let good = scheme.zip(key).is_some_and(|((_, candidates), key)| {
                let id = algorithm_id(&key.algorithm);
                let bits = key.subject_public_key.raw_bytes();
                candidates.iter().any(|candidate| {
                    Some(candidate.public_key_alg_id().as_ref()) == id.as_deref()
                        && candidate.verify_signature(bits, message, signed.signature()).is_ok()
                })
            });
            if good { Ok(HandshakeSignatureValid::assertion()) } else { Err(CertificateError::BadSignature.into()) }
        })
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let result = verify_tls13_signature(message, leaf, signed, &self.algorithms);
        or_version_1(result, leaf, |key| {
            verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key), signed, &self.algorithms)
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerVerifier {
    /// Takes two kinds of certificate that webpki refuses and libpq accepts, because PostgreSQL's own manual makes them:
    /// a version 1 certificate signed by a root (`openssl x509 -req`), and a self-signed one that is marked as a CA and
    /// is itself in the file of roots (`openssl req -x509`).
    fn is_signed_by_root(&self, chain: &Chain, der: &CertificateDer<'_>, leaf: &Certificate, now: UnixTime) -> bool {
        let is_root = || chain.roots.iter().any(|root| root == der);
        if leaf.tbs_certificate.version != Version::V1 && !is_root() {
            return false;
        }
        let validity = &leaf.tbs_certificate.validity;
        let valid = validity.not_before.to_unix_duration().as_secs() <= now.as_secs()
            && now.as_secs() <= validity.not_after.to_unix_duration().as_secs();
        let Ok(message) = signed_part(der) else {
            return false;
        };
        valid && chain.roots.iter().any(|root| self.signed_by(message, leaf, root))
    }

    fn signed_by(&self, message: &[u8], leaf: &Certificate, root: &CertificateDer<'_>) -> bool {
        let Ok(root) = Certificate::from_der(root) else {
            return false;
        };
        let key = &root.tbs_certificate.subject_public_key_info;
        let (signature_id, key_id) = (algorithm_id(&leaf.signature_algorithm), algorithm_id(&key.algorithm));
        leaf.tbs_certificate.issuer == root.tbs_certificate.subject
            && leaf.signature_algorithm == leaf.tbs_certificate.signature
            && self.algorithms.all.iter().any(|algorithm| {
                Some(algorithm.signature_alg_id().as_ref()) == signature_id.as_deref()
                    && Some(algorithm.public_key_alg_id().as_ref()) == key_id.as_deref()
                    && algorithm
                        .verify_signature(key.subject_public_key.raw_bytes(), message, leaf.signature.raw_bytes())
                        .is_ok()
            })
    }
}

/// The bytes of a certificate that its issuer signed, as they came.
fn signed_part<'a>(certificate: &'a CertificateDer<'_>) -> x509_cert::der::Result<&'a [u8]> {
    let mut reader = SliceReader::new(certificate)?;
    Header::decode(&mut reader)?;
    reader.tlv_bytes()
}

/// Runs `check` on the bare public key if the certificate is of version 1, which webpki does not read.
fn or_version_1(
    result: Result<HandshakeSignatureValid, Error>,
    leaf: &CertificateDer<'_>,
    check: impl FnOnce(&[u8]) -> Result<HandshakeSignatureValid, Error>,
) -> Result<HandshakeSignatureValid, Error> {
    let Err(error) = result else {
        return result;
    };
    let version = Certificate::from_der(leaf).map(|leaf| leaf.tbs_certificate.version);
    match public_key(leaf) {
        Some(key) if version == Ok(Version::V1) => check(&key),
        _ => Err(error),
    }
}

/// An algorithm as rustls names it: the content of its sequence without the header.
fn algorithm_id(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let mut id = algorithm.oid.to_der().ok()?;
    if let Some(parameters) = &algorithm.parameters {
        id.extend(parameters.to_der().ok()?);
    }
    Some(id)
}

fn is_name_error(error: &Error) -> bool {
    use CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(error, Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
}

#[derive(thiserror::Error)]
#[error(
    "X.509 version 1 certificate that no root has signed directly, or that is out of date; issue it again with extensions"
)]
struct Version1;

/// rustls shows the reasons it does not know itself by `Debug`, and an operator is to read this one.
impl fmt::Debug for Version1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn explained(error: Error, leaf: &Certificate) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::Other(_)) if leaf.tbs_certificate.version == Version::V1 => {
            CertificateError::Other(OtherError(Arc::new(Version1))).into()
        }
        other => other,
    }
}

/// libpq's fallback: the common name counts where the certificate lists no alternative name of the host's kind.
fn common_name_matches(leaf: &[u8], host: &ServerName<'_>) -> bool {
    let Ok(leaf) = Certificate::from_der(leaf) else {
        return false;
    };
    let is_dns = matches!(host, ServerName::DnsName(_));
    let of_this_kind = |name: &GeneralName| match name {
        GeneralName::DnsName(_) => is_dns,
        GeneralName::IpAddress(_) => !is_dns,
        _ => false,
    };
    match leaf.tbs_certificate.get::<SubjectAltName>() {
        Ok(None) => {}
        Ok(Some((_, names))) if !names.0.iter().any(of_this_kind) => {}
        _ => return false,
    }
    let Some(pattern) = common_name(&leaf) else {
        return false;
    };
    match host {
        ServerName::DnsName(name) => dns_matches(pattern, name.as_ref()),
        other => pattern == other.to_str(),
    }
}

/// The first common name of the subject.
fn common_name(leaf: &Certificate) -> Option<&str> {
    const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    let mut attributes = leaf.tbs_certificate.subject.0.iter().flat_map(|set| set.0.iter());
    let first = attributes.find(|attribute| attribute.oid == COMMON_NAME)?;
    std::str::from_utf8(first.value.value()).ok()
}

/// A name, or `*.` for exactly one label in front.
fn dns_matches(pattern: &str, host: &str) -> bool {
    let Some(parent) = pattern.strip_prefix("*.") else {
        return pattern.eq_ignore_ascii_case(host);
    };
    host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent))
}
