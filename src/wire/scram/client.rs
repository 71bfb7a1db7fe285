//! The client's side of SCRAM towards the server: logs in with a recovered key, and only to a server that holds the same verifier.

use base64::Engine as _;
use ring::hmac;

use super::attr::{Attrs, shown_text};
use super::sasl::{InitialResponse, SaslError, listed, parse_mechanisms, sasl_payload};
use super::verifier::{ClientKey, Verifier};
use super::{BASE64, GS2_BOUND, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, auth_message, mac, nonce, xor};

/// Why the proxy could not log in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramClientError {
    /// The key was not recovered from this verifier.
    #[error("the recovered client key does not belong to the verifier")]
    KeyMismatch,
    /// The server wants something else than SCRAM.
    #[error(
        "the server offers no SCRAM-SHA-256 (it offers: {0}); auth = \"scram\" needs scram-sha-256 in pg_hba.conf for the proxy's address"
    )]
    NoMechanism(String),
    /// The body around the SCRAM message is wrong.
    #[error("the server's authentication message is malformed")]
    Body(#[from] SaslError),
    /// The SCRAM message is wrong.
    #[error("the server's SCRAM message is malformed: {0}")]
    Malformed(String),
    /// The server's nonce does not continue ours.
    #[error("the server's SCRAM nonce does not start with ours")]
    Nonce,
    /// Salt or iterations are not those of the verifier the client was checked against.
    #[error(
        "the server's SCRAM verifier is not the one the client was checked against (has the password expired, or was it just changed?)"
    )]
    VerifierChanged,
    /// The server named an error instead of its signature.
    #[error("the server ended SCRAM with: {0}")]
    Server(String),
    /// The server does not know the verifier: it is not the server it should be.
    #[error("the server could not prove that it knows the SCRAM verifier")]
    ServerSignature,
    /// A message came out of turn.
    #[error("SCRAM message out of turn")]
    State,
    /// No random numbers could be had.
    #[error("could not generate random nonce")]
    Random,
}

enum State {
    Start,
    /// Our first message is out.
    First {
        gs2: &'static [u8],
        bound: bool,
    },
    /// Our proof is out; this is what both sides sign.
    Final {
        signed: Vec<u8>,
    },
    Over,
}

/// One login.
pub struct ScramClient {
    key: ClientKey,
    verifier: Verifier,
    binding: Option<Vec<u8>>,
    nonce: String,
    state: State,
}

impl ScramClient {
    /// Prepares a login; `channel_binding` is the end-point hash of the server's certificate, if the leg has TLS.
    pub fn new(key: ClientKey, verifier: Verifier, channel_binding: Option<Vec<u8>>) -> Result<Self, ScramClientError> {
        if !key.fits(&verifier) {
            return Err(ScramClientError::KeyMismatch);
        }
        let nonce = nonce().ok_or(ScramClientError::Random)?;
        Ok(Self::with_nonce(key, verifier, channel_binding, nonce))
    }

    pub(super) fn with_nonce(key: ClientKey, verifier: Verifier, binding: Option<Vec<u8>>, nonce: String) -> Self {
        Self { key, verifier, binding, nonce, state: State::Start }
    }

    /// Answers an AuthenticationSASL body with the body of a SASLInitialResponse.
    pub fn on_offer(&mut self, body: &[u8]) -> Result<Vec<u8>, ScramClientError> {
        let State::Start = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramClientError::State);
        };
        let offered = parse_mechanisms(body)?;
        let has = |name: &str| offered.contains(&name.as_bytes());
        // `y` tells the server that its -PLUS did not arrive, so that it can refuse a downgrade.
        let (mechanism, gs2, bound): (_, &'static [u8], _) = match (&self.binding, has(SCRAM_SHA_256_PLUS)) {
            (Some(_), true) => (SCRAM_SHA_256_PLUS, GS2_BOUND, true),
            (Some(_), false) if has(SCRAM_SHA_256) => (SCRAM_SHA_256, b"y,,", false),
            (None, _) if has(SCRAM_SHA_256) => (SCRAM_SHA_256, b"n,,", false),
            _ => return Err(ScramClientError::NoMechanism(listed(&offered))),
        };
        let first = [gs2, &self.first_bare()].concat();
        self.state = State::First { gs2, bound };
        Ok(InitialResponse { mechanism: mechanism.as_bytes(), data: Some(&first) }.encode())
    }

    /// Answers an AuthenticationSASLContinue body with the body of a SASLResponse.
    pub fn on_continue(&mut self, body: &[u8]) -> Result<Vec<u8>, ScramClientError> {
        let State::First { gs2, bound } = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramClientError::State);
        };
        let server_first = sasl_payload(body, false)?;
        let nonce = self.check_server_first(server_first)?;
        let hash = self.binding.as_deref().filter(|_| bound).unwrap_or_default();
        let header = BASE64.encode([gs2, hash].concat());
        let without_proof = [b"c=", header.as_bytes(), b",r=", nonce].concat();
        let signed = auth_message(&self.first_bare(), server_first, &without_proof);
        let proof = xor(&self.key.0, &mac(&self.verifier.stored_key, &[&signed]));
        self.state = State::Final { signed };
        Ok([without_proof.as_slice(), b",p=", BASE64.encode(proof).as_bytes()].concat())
    }

    /// Checks an AuthenticationSASLFinal body; only after this the server is who it should be.
    pub fn on_final(&mut self, body: &[u8]) -> Result<(), ScramClientError> {
        let State::Final { signed } = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ScramClientError::State);
        };
        let message = sasl_payload(body, true)?;
        let mut attrs = Attrs::new(message);
        if attrs.peek() == b'e' {
            let text = attrs.read(b'e').map_err(ScramClientError::Malformed)?;
            return Err(ScramClientError::Server(shown_text(text)));
        }
        let signature = attrs.read(b'v').map_err(ScramClientError::Malformed)?;
        let signature = BASE64.decode(signature).map_err(|_| ScramClientError::ServerSignature)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.verifier.server_key);
        hmac::verify(&key, &signed, &signature).map_err(|_| ScramClientError::ServerSignature)
    }

    /// The server takes the name from the startup message, so none is sent here.
    fn first_bare(&self) -> Vec<u8> {
        format!("n=,r={}", self.nonce).into_bytes()
    }

    fn check_server_first<'a>(&self, message: &'a [u8]) -> Result<&'a [u8], ScramClientError> {
        let mut attrs = Attrs::new(message);
        let mut read = |attr| attrs.read(attr).map_err(ScramClientError::Malformed);
        let (nonce, salt, iterations) = (read(b'r')?, read(b's')?, read(b'i')?);
        match nonce.strip_prefix(self.nonce.as_bytes()) {
            Some(theirs) if !theirs.is_empty() => {}
            _ => return Err(ScramClientError::Nonce),
        }
        let expected = self.verifier.iterations.to_string();
        if salt == self.verifier.salt.as_bytes() && iterations == expected.as_bytes() {
            Ok(nonce)
        } else {
            Err(ScramClientError::VerifierChanged)
        }
    }
}
