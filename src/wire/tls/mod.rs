//! TLS on both legs: what is loaded is usable and fits together, and a handshake trusts nobody beyond what its mode says.
//!
//! All cryptography is `ring`, handed to rustls explicitly; no process-wide default is read or set. Who asks for TLS
//! first, and what to do when the other side declines, is decided by the callers.

mod binding;
mod client;
mod files;
mod server;
mod verify;

pub use binding::{BindingError, tls_server_end_point};
pub use client::{ClientTls, ClientTlsOptions, RootSource, ServerCheck, server_channel_binding};
pub use server::{ServerTls, ServerTlsFiles, alpn_is_postgresql};

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem;

/// The protocol name that a client who starts with TLS at once must agree on.
pub const ALPN_POSTGRESQL: &[u8] = b"postgresql";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Why TLS cannot be set up, or a handshake failed; each message is complete without its source.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or unreadable.
    #[error("cannot read {what} file {path:?}: {source}")]
    Read {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds nothing of what it is for.
    #[error("{what} file {path:?} holds no PEM block \"-----BEGIN {label}-----\"; is it DER, or another file?")]
    NothingInside {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// The block that was looked for.
        label: &'static str,
    },
    /// A file is damaged.
    #[error("{what} file {path:?} is not valid PEM: {source}")]
    Pem {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Where it went wrong.
        source: pem::Error,
    },
    /// A block is PEM but what it encodes is not usable.
    #[error("{what} file {path:?} cannot be used: {source}")]
    Unusable {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// The reason.
        source: rustls::Error,
    },
    /// The private key needs a passphrase.
    #[error(
        "private key file {0:?} is encrypted; pgcanon asks for no passphrase: write it out with `openssl pkey -in OLD -out NEW`"
    )]
    KeyEncrypted(PathBuf),
    /// Others may read the private key; PostgreSQL and libpq refuse such a file too.
    #[error(
        "private key file {path:?} has mode {mode:04o}: others can read it; run `chmod 600` on it (0640 if root owns it)"
    )]
    KeyExposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Key and certificate are not a pair.
    #[error("private key {key:?} does not belong to the first certificate in {cert:?}")]
    KeyMismatch {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// A revocation list cannot be used.
    #[error("certificate verifier for {path:?}: {source}")]
    Verifier {
        /// The file of roots or of revocations.
        path: PathBuf,
        /// The reason.
        source: rustls::server::VerifierBuilderError,
    },
    /// Client certificates are demanded, but there is nothing to check them against.
    #[error("client certificates are required but no client CA file is set")]
    ClientCaNeeded,
    /// A check is demanded, but there is nothing to check against.
    #[error(
        "sslmode={0} needs a root certificate: set sslrootcert to a file, or to \"system\" with sslmode=verify-full"
    )]
    RootsNeeded(ServerCheck),
    /// With public roots anybody can have a certificate; only the name tells.
    #[error("sslrootcert=system cannot be used with sslmode={0}; use sslmode=verify-full")]
    SystemRootsNeedName(ServerCheck),
    /// The system has no roots.
    #[error("no trusted root certificate could be loaded from the system ({0}); set sslrootcert to a file")]
    NoSystemRoots(String),
    /// Revocations without roots would check nothing.
    #[error("certificate revocation list {0:?} has no effect without sslrootcert")]
    CrlWithoutRoots(PathBuf),
    /// The host is neither a DNS name nor an address.
    #[error("host {0:?} is no name that a certificate could be checked against (sslmode=verify-full)")]
    HostName(String),
    /// The handshake failed.
    #[error("TLS handshake with the server at {host:?} failed: {source}")]
    Handshake {
        /// The host as configured.
        host: String,
        /// The reason.
        source: io::Error,
    },
    /// Direct TLS reached something that is not PostgreSQL 17 or newer.
    #[error(
        "the server at {0:?} answered direct TLS without agreeing on ALPN \"postgresql\"; use sslnegotiation=postgres (direct needs PostgreSQL 17)"
    )]
    NoAlpn(String),
    /// rustls refuses the set-up itself.
    #[error("TLS set-up: {0}")]
    Setup(#[from] rustls::Error),
}

#[cfg(test)]
mod tests;
