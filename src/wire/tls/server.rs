//! The client leg: the proxy as a TLS server, with the certificate that clients see and the binding that follows from it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;

use super::binding::{BindingError, tls_server_end_point};
use super::{ALPN_POSTGRESQL, TlsError, files, provider};

/// What clients are to be shown, and what is asked of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsFiles {
    /// The certificate, followed by its intermediates.
    pub cert: PathBuf,
    /// Its private key, unencrypted.
    pub key: PathBuf,
    /// Who may have signed a client's certificate; without it none is asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is turned away.
    pub require_client_cert: bool,
}

/// A loaded set of files; a reload makes a new one, connections keep the one they began with.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    leaf: Vec<u8>,
    binding: Result<Vec<u8>, BindingError>,
}

impl ServerTls {
    /// Reads and checks the files.
    pub fn load(files: &ServerTlsFiles) -> Result<Self, TlsError> {
        let provider = provider();
        let pair = files::certified_key(&files.cert, &files.key, &provider)?;
        let leaf = pair.end_entity_cert()?.to_vec();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(client_verifier(files)?)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols = vec![ALPN_POSTGRESQL.to_vec()];
        // As PostgreSQL: no resumption, so that a reloaded client CA is asked again and nothing is kept per client (I7).
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let binding = tls_server_end_point(&leaf);
        Ok(Self { config: Arc::new(config), leaf, binding })
    }

    /// What turns a client's socket into a TLS stream.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// The certificate that clients see, as DER.
    pub fn certificate(&self) -> &[u8] {
        &self.leaf
    }

    /// Its `tls-server-end-point` hash; where there is none, `-PLUS` must not be offered.
    pub fn channel_binding(&self) -> Result<&[u8], &BindingError> {
        self.binding.as_deref()
    }
}

fn client_verifier(files: &ServerTlsFiles) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(path) = &files.client_ca else {
        return if files.require_client_cert {
            Err(TlsError::ClientCaNeeded)
        } else {
            Ok(WebPkiClientVerifier::no_client_auth())
        };
    };
    let (roots, _) = files::roots("client CA", path)?;
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let builder = if files.require_client_cert { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|source| TlsError::Verifier { path: path.clone(), source })
}

/// Whether the client named the protocol, as it must when it begins with TLS at once.
///
/// A client that asked with SSLRequest need not.
pub fn alpn_is_postgresql(connection: &ServerConnection) -> bool {
    connection.alpn_protocol() == Some(ALPN_POSTGRESQL)
}
