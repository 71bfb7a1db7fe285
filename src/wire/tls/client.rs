//! The server leg: the proxy as a TLS client with libpq's meaning of `require`, `verify-ca` and `verify-full`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::binding::{BindingError, tls_server_end_point};
use super::verify::{Chain, ServerVerifier};
use super::{ALPN_POSTGRESQL, TlsError, files, provider};

/// How much of the server's certificate is checked; the part of `sslmode` that concerns TLS itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerCheck {
    /// Encrypted; checked like `verify-ca` where roots are given, as libpq does.
    Require,
    /// Signed by a root.
    VerifyCa,
    /// Signed by a root, and for this host.
    VerifyFull,
}

impl fmt::Display for ServerCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        })
    }
}

/// Whom to trust (`sslrootcert`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// Nobody is named.
    None,
    /// The certificates of a file.
    File(PathBuf),
    /// The system's own (`sslrootcert=system`).
    System,
}

/// How to reach the server by TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTlsOptions {
    /// How much is checked.
    pub mode: ServerCheck,
    /// Against what.
    pub roots: RootSource,
    /// The proxy's own certificate and key (`sslcert`, `sslkey`).
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// Revoked certificates (`sslcrl`).
    pub crl: Option<PathBuf>,
    /// TLS from the first byte (`sslnegotiation=direct`).
    pub direct: bool,
}

/// A loaded set of options; a reload makes a new one.
#[derive(Clone)]
pub struct ClientTls {
    connector: TlsConnector,
    check_name: bool,
    direct: bool,
}

impl ClientTls {
    /// Reads and checks the files.
    pub fn load(options: &ClientTlsOptions) -> Result<Self, TlsError> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let check_name = options.mode == ServerCheck::VerifyFull;
        let chain = chain(options)?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier { chain, check_name, algorithms }));
        let mut config = match &options.client_cert {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let pair = files::certified_key(cert, key, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
            }
        };
        config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
        // PostgreSQL hands out no tickets; every connection is checked anew.
        config.resumption = Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), check_name, direct: options.direct })
    }

    /// Whether TLS starts with the first byte, without an SSLRequest.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Shakes hands with `host`, whose name is sent (SNI) unless it is an address, over a socket that is ready for it.
    pub async fn connect<S>(&self, host: &str, socket: S) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.server_name(host)?;
        let failed = |source| TlsError::Handshake { host: host.to_owned(), source };
        let stream = self.connector.connect(name, socket).await.map_err(failed)?;
        if self.direct && stream.get_ref().1.alpn_protocol() != Some(ALPN_POSTGRESQL) {
            return Err(TlsError::NoAlpn(host.to_owned()));
        }
        Ok(stream)
    }

    fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        match ServerName::try_from(host) {
            Ok(name) => Ok(name.to_owned()),
            Err(_) if self.check_name => Err(TlsError::HostName(host.to_owned())),
            // The name does not matter here; an address keeps it out of the handshake.
            Err(_) => Ok(ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
        }
    }
}

/// The end-point hash of the certificate that the server showed.
pub fn server_channel_binding(connection: &ClientConnection) -> Result<Vec<u8>, BindingError> {
    let leaf = connection.peer_certificates().and_then(<[_]>::first).ok_or(BindingError::NoCertificate)?;
    tls_server_end_point(leaf)
}

/// What a chain is checked against; `None` where encryption is all that is asked for.
fn chain(options: &ClientTlsOptions) -> Result<Option<Chain>, TlsError> {
    let (store, roots, path) = match (&options.roots, options.mode) {
        (RootSource::None, ServerCheck::Require) => {
            return options.crl.clone().map_or(Ok(None), |crl| Err(TlsError::CrlWithoutRoots(crl)));
        }
        (RootSource::None, mode) => return Err(TlsError::RootsNeeded(mode)),
        (RootSource::System, ServerCheck::VerifyFull) => (system_roots()?, Vec::new(), PathBuf::from("system")),
        (RootSource::System, mode) => return Err(TlsError::SystemRootsNeedName(mode)),
        (RootSource::File(path), _) => {
            let (store, roots) = files::roots("root certificate", path)?;
            (store, roots, path.clone())
        }
    };
    let mut builder = WebPkiServerVerifier::builder_with_provider(store, provider());
    if let Some(crl) = &options.crl {
        // As libpq has OpenSSL do: the whole chain, a missing or outdated list is an error.
        builder = builder.with_crls(files::revocation_lists(crl)?).enforce_revocation_expiration();
    }
    let path = options.crl.clone().unwrap_or(path);
    let webpki = builder.build().map_err(|source| TlsError::Verifier { path, source })?;
    // The lenient path of `Chain` knows no revocation, so it stays shut where a list is given.
    let roots = if options.crl.is_some() { Vec::new() } else { roots };
    Ok(Some(Chain { webpki, roots }))
}

fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(found.certs.iter().cloned().map(CertificateDer::into_owned));
    if added > 0 {
        return Ok(Arc::new(store));
    }
    let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    Err(TlsError::NoSystemRoots(if reasons.is_empty() { "none found".into() } else { reasons.join("; ") }))
}
