//! `[tls]`: what clients are offered. That the files hold what they should is for the TLS layer to find out.

use std::path::PathBuf;

use super::choice::Choice;
use super::files::Kind;
use super::section::Section;

/// TLS towards clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Whether it is offered and demanded.
    pub mode: TlsMode,
    /// The certificate chain; always there unless the mode is `disable`.
    pub cert: Option<PathBuf>,
    /// Its private key; always there unless the mode is `disable`.
    pub key: Option<PathBuf>,
    /// What client certificates are verified against; always there when the mode is `verify-client`.
    pub ca: Option<PathBuf>,
}

/// Whether clients are offered TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Clients that ask are told no.
    #[default]
    Disable,
    /// Clients choose.
    Allow,
    /// Clients without TLS are refused, except on the Unix socket.
    Require,
    /// … and must show a certificate that `ca` vouches for.
    VerifyClient,
}

impl Choice for TlsMode {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("require", Self::Require),
        ("verify-client", Self::VerifyClient),
    ];
}

impl Tls {
    pub(super) fn read(mut s: Section<'_>) -> Self {
        let mode = s.choice("mode").unwrap_or(TlsMode::Allow);
        let mut file = |key: &'static str, kind: Kind, needed: bool, what: &str| {
            let found = s.path(key);
            match &found {
                // What is switched off may be incomplete.
                _ if mode == TlsMode::Disable => {}
                Some((item, path)) => s.reading().check_file(item, path, kind),
                None if needed && !s.has(key) => s.missing(key, what),
                None => {}
            }
            found.map(|(_, path)| path)
        };
        let tls = Self {
            mode,
            cert: file("cert", Kind::Public, true, "the PEM file of the server certificate, or set mode = \"disable\""),
            key: file("key", Kind::Private, true, "the PEM file of the certificate's private key"),
            ca: file(
                "ca",
                Kind::Public,
                mode == TlsMode::VerifyClient,
                "mode = \"verify-client\" needs the PEM file of the CA that signs client certificates",
            ),
        };
        s.finish(|_| None);
        tls
    }
}
