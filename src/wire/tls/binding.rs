//! `tls-server-end-point` (RFC 5929): the certificate hash that both ends of a TLS leg compute alike, as PostgreSQL and libpq do.

use ring::digest;
use x509_cert::der::asn1::{AnyRef, ContextSpecific, ObjectIdentifier};
use x509_cert::der::{Decode as _, Reader, SliceReader, TagNumber};
use x509_cert::spki::AlgorithmIdentifierRef;

const fn oid(dotted: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(dotted)
}

const RSA_PSS: ObjectIdentifier = oid("1.2.840.113549.1.1.10");
const SHA256: &[ObjectIdentifier] = &[
    oid("1.2.840.113549.1.1.4"), // md5WithRSAEncryption: MD5 and SHA-1 count as SHA-256 (RFC 5929, 4.1)
    oid("1.2.840.113549.1.1.5"), // sha1WithRSAEncryption
    oid("1.2.840.10040.4.3"),    // dsa-with-sha1
    oid("1.2.840.10045.4.1"),    // ecdsa-with-SHA1
    oid("1.2.840.113549.1.1.11"), // sha256WithRSAEncryption
    oid("1.2.840.10045.4.3.2"),  // ecdsa-with-SHA256
    oid("2.16.840.1.101.3.4.3.2"), // dsa-with-sha256
    oid("1.2.840.113549.2.5"),   // md5, as a parameter of RSASSA-PSS
    oid("1.3.14.3.2.26"),        // sha1, likewise
    oid("2.16.840.1.101.3.4.2.1"), // sha256, likewise
];
const SHA384: &[ObjectIdentifier] = &[
    oid("1.2.840.113549.1.1.12"),
    oid("1.2.840.10045.4.3.3"),
    oid("2.16.840.1.101.3.4.3.3"),
    oid("2.16.840.1.101.3.4.2.2"),
];
const SHA512: &[ObjectIdentifier] = &[
    oid("1.2.840.113549.1.1.13"),
    oid("1.2.840.10045.4.3.4"),
    oid("2.16.840.1.101.3.4.3.4"),
    oid("2.16.840.1.101.3.4.2.3"),
];

/// Why a certificate gives no channel binding; such a leg speaks SCRAM without `-PLUS`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// It is not a certificate.
    #[error("the certificate cannot be parsed: {0}")]
    Malformed(String),
    /// Its signature algorithm has no hash of its own (Ed25519), or one that is not supported (SHA-224).
    #[error("the certificate's signature algorithm {0} names no hash for channel binding")]
    NoHash(String),
    /// The other side showed no certificate.
    #[error("there is no certificate to bind to")]
    NoCertificate,
}

/// The hash of a DER certificate by the hash function of its signature.
pub fn tls_server_end_point(certificate: &[u8]) -> Result<Vec<u8>, BindingError> {
    let malformed = |error: x509_cert::der::Error| BindingError::Malformed(error.to_string());
    let hash = signature_hash(certificate).map_err(malformed)?;
    let algorithm = if SHA256.contains(&hash) {
        &digest::SHA256
    } else if SHA384.contains(&hash) {
        &digest::SHA384
    } else if SHA512.contains(&hash) {
        &digest::SHA512
    } else {
        return Err(BindingError::NoHash(hash.to_string()));
    };
    Ok(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The algorithm that says which hash; only the outermost structure is read, so that no oddity inside matters.
fn signature_hash(certificate: &[u8]) -> x509_cert::der::Result<ObjectIdentifier> {
    let mut reader = SliceReader::new(certificate)?;
    let algorithm = reader.sequence(|reader| {
        let _tbs: AnyRef<'_> = reader.decode()?;
        let algorithm: AlgorithmIdentifierRef<'_> = reader.decode()?;
        let _signature: AnyRef<'_> = reader.decode()?;
        if algorithm.oid == RSA_PSS { pss_hash(&algorithm) } else { Ok(algorithm.oid) }
    })?;
    reader.finish(algorithm)
}

/// RSASSA-PSS names its hash in its parameters; left out, it is SHA-1 (RFC 4055).
fn pss_hash(algorithm: &AlgorithmIdentifierRef<'_>) -> x509_cert::der::Result<ObjectIdentifier> {
    const SHA1: ObjectIdentifier = oid("1.3.14.3.2.26");
    let Some(parameters) = algorithm.parameters else {
        return Ok(SHA1);
    };
    let mut reader = SliceReader::new(parameters.value())?;
    let hash = ContextSpecific::<AnyRef<'_>>::decode_explicit(&mut reader, TagNumber::N0)?;
    match hash {
        None => Ok(SHA1),
        Some(hash) => {
            let mut inner = SliceReader::new(hash.value.value())?;
            ObjectIdentifier::decode(&mut inner)
        }
    }
}
