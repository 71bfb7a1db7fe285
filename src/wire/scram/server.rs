//! The server's side of SCRAM towards a client: accepts what PostgreSQL accepts, refuses the rest in PostgreSQL's words (I6), yields the client key.

use base64::Engine as _;

use super::attr::{Attrs, is_printable, shown, shown_text};
use super::sasl::{InitialResponse, SaslError, authentication_sasl, sasl_continue, sasl_final};
use super::verifier::{ClientKey, Verifier};
use super::{
    BASE64, CBIND_TYPE, GS2_BOUND, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, auth_message, decode_key, mac, nonce, xor,
};

/// Why an exchange failed; the connection ends with it, as FATAL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The proof is wrong, or the user has no secret that could be proved.
    #[error("password authentication failed")]
    WrongProof,
    /// A message does not read as one; the text is the server's detail.
    #[error("malformed SCRAM message: {0}")]
    Malformed(String),
    /// The frame around the SCRAM message is wrong.
    #[error(transparent)]
    Body(#[from] SaslError),
    /// The client chose a mechanism that was not offered.
    #[error("client selected an invalid SASL authentication mechanism")]
    Mechanism,
    /// The client thinks that channel binding was not offered, but it was: somebody may have taken it from the list.
    #[error("SCRAM channel binding negotiation error")]
    Negotiation,
    /// The client binds to something else than the certificate.
    #[error("unsupported SCRAM channel-binding type \"{0}\"")]
    BindingType(String),
    /// The client is bound to another TLS channel than this one.
    #[error("SCRAM channel binding check failed")]
    Binding,
    /// The header is not the one that the exchange began with.
    #[error("unexpected SCRAM channel-binding attribute in client-final-message")]
    UnexpectedBinding,
    /// The client wants to act as somebody else.
    #[error("client uses authorization identity, but it is not supported")]
    AuthorizationIdentity,
    /// The client insists on an extension.
    #[error("client requires an unsupported SCRAM extension")]
    Extension,
    /// The nonce holds what it must not.
    #[error("non-printable characters in SCRAM nonce")]
    Nonce,
    /// The answer belongs to another exchange.
    #[error("invalid SCRAM response")]
    NonceMismatch,
    /// A message came after the last one.
    #[error("invalid SCRAM exchange state")]
    State,
    /// No random numbers could be had.
    #[error("could not generate random nonce")]
    Random,
}

impl ScramError {
    /// The SQLSTATE that PostgreSQL gives.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::WrongProof => "28P01",
            Self::Negotiation | Self::Binding => "28000",
            Self::AuthorizationIdentity | Self::Extension => "0A000",
            Self::State | Self::Random => "XX000",
            _ => "08P01",
        }
    }

    /// The message that PostgreSQL sends to this user.
    pub fn message(&self, user: &str) -> String {
        match self {
            Self::WrongProof => format!("password authentication failed for user \"{user}\""),
            Self::Malformed(_) => "malformed SCRAM message".into(),
            other => other.to_string(),
        }
    }

    /// The detail that PostgreSQL adds.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Malformed(detail) => Some(detail.clone()),
            Self::NonceMismatch => Some("Nonce does not match.".into()),
            Self::Negotiation => Some(
                "The client supports SCRAM channel binding but thinks the server does not.  \
                 However, this server does support channel binding."
                    .into(),
            ),
            _ => None,
        }
    }
}

/// What follows from a client's message.
#[derive(Debug)]
pub enum Step {
    /// Send this AuthenticationSASLContinue body and wait for the next message.
    Challenge(Vec<u8>),
    /// The client is who it says: send this AuthenticationSASLFinal body; the key opens the server.
    Done {
        /// The body to send before AuthenticationOk.
        final_body: Vec<u8>,
        /// The recovered key.
        client_key: ClientKey,
    },
}

enum State {
    /// SASLInitialResponse is due.
    Start,
    /// The mechanism is chosen, its first message was left out and is due.
    First { plus: bool },
    /// client-final-message is due.
    Final(Opened),
    /// Finished or failed.
    Over,
}

/// An exchange whose first two messages have passed.
struct Opened {
    plus: bool,
    flag: u8,
    first_bare: Vec<u8>,
    server_first: Vec<u8>,
    nonce: Vec<u8>,
}

/// One client's exchange.
pub struct ScramServer {
    verifier: Verifier,
    binding: Option<Vec<u8>>,
    nonce: String,
    state: State,
}

impl ScramServer {
    /// Begins an exchange; `channel_binding` is the end-point hash of the certificate shown to the client, if it came by TLS.
    pub fn new(verifier: Verifier, channel_binding: Option<Vec<u8>>) -> Result<Self, ScramError> {
        let nonce = nonce().ok_or(ScramError::Random)?;
        Ok(Self::with_nonce(verifier, channel_binding, nonce))
    }

    pub(super) fn with_nonce(verifier: Verifier, binding: Option<Vec<u8>>, nonce: String) -> Self {
        Self { verifier, binding, nonce, state: State::Start }
    }

    /// The AuthenticationSASL body that opens the exchange.
    pub fn offer(&self) -> Vec<u8> {
        let plus = self.binding.as_ref().map(|_| SCRAM_SHA_256_PLUS.as_bytes());
        authentication_sasl(plus.into_iter().chain([SCRAM_SHA_256.as_bytes()]))
    }

    /// Takes the body of the client's next `p` message; after an error the exchange is over.
    pub fn on_response(&mut self, body: &[u8]) -> Result<Step, ScramError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Start => {
                let initial = InitialResponse::parse(body)?;
                let plus = self.choose(initial.mechanism)?;
                match initial.data {
                    Some(first) => self.on_first(plus, first),
                    None => {
                        self.state = State::First { plus };
                        Ok(Step::Challenge(sasl_continue(b"")))
                    }
                }
            }
            State::First { plus } => self.on_first(plus, body),
            State::Final(opened) => self.on_final(&opened, body),
            State::Over => Err(ScramError::State),
        }
    }

    fn choose(&self, mechanism: &[u8]) -> Result<bool, ScramError> {
        if mechanism == SCRAM_SHA_256_PLUS.as_bytes() && self.binding.is_some() {
            Ok(true)
        } else if mechanism == SCRAM_SHA_256.as_bytes() {
            Ok(false)
        } else {
            Err(ScramError::Mechanism)
        }
    }

    fn on_first(&mut self, plus: bool, message: &[u8]) -> Result<Step, ScramError> {
        whole(message)?;
        let mut attrs = Attrs::new(message);
        let flag = attrs.peek();
        self.read_flag(plus, &mut attrs)?;
        match attrs.peek() {
            b'a' => return Err(ScramError::AuthorizationIdentity),
            b',' => attrs.bump(),
            other => {
                return malformed(format!("Unexpected attribute \"{}\" in client-first-message.", shown(other)));
            }
        }
        let first_bare = attrs.rest().to_vec();
        if attrs.peek() == b'm' {
            return Err(ScramError::Extension);
        }
        // The name is the startup message's; what stands here is ignored, as the server does.
        attrs.read(b'n').map_err(ScramError::Malformed)?;
        let client_nonce = attrs.read(b'r').map_err(ScramError::Malformed)?;
        if !is_printable(client_nonce) {
            return Err(ScramError::Nonce);
        }
        while !attrs.at_end() {
            attrs.read_any().map_err(ScramError::Malformed)?;
        }
        let nonce = [client_nonce, self.nonce.as_bytes()].concat();
        let params = format!(",s={},i={}", self.verifier.salt, self.verifier.iterations);
        let server_first = [b"r=", nonce.as_slice(), params.as_bytes()].concat();
        let challenge = sasl_continue(&server_first);
        self.state = State::Final(Opened { plus, flag, first_bare, server_first, nonce });
        Ok(Step::Challenge(challenge))
    }

    /// The gs2 header up to the place of the authorization identity.
    fn read_flag(&self, plus: bool, attrs: &mut Attrs<'_>) -> Result<(), ScramError> {
        match attrs.peek() {
            b'n' | b'y' if plus => malformed(
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
            ),
            b'y' if self.binding.is_some() => Err(ScramError::Negotiation),
            b'n' | b'y' => {
                attrs.bump();
                if attrs.peek() != b',' {
                    return malformed(format!("Comma expected, but found character \"{}\".", shown(attrs.peek())));
                }
                attrs.bump();
                Ok(())
            }
            b'p' if !plus => malformed(
                "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.",
            ),
            b'p' => match attrs.read(b'p').map_err(ScramError::Malformed)? {
                CBIND_TYPE => Ok(()),
                other => Err(ScramError::BindingType(shown_text(other))),
            },
            other => malformed(format!("Unexpected channel-binding flag \"{}\".", shown(other))),
        }
    }

    fn on_final(&self, opened: &Opened, message: &[u8]) -> Result<Step, ScramError> {
        whole(message)?;
        let mut attrs = Attrs::new(message);
        let header = attrs.read(b'c').map_err(ScramError::Malformed)?;
        self.check_binding(opened, header)?;
        let nonce = attrs.read(b'r').map_err(ScramError::Malformed)?;
        let (without_proof, proof) = loop {
            let before = attrs.before_last_comma();
            if let (b'p', value) = attrs.read_any().map_err(ScramError::Malformed)? {
                break (before, value);
            }
        };
        let Some(proof) = decode_key(proof) else {
            return malformed("Malformed proof in client-final-message.");
        };
        if !attrs.at_end() {
            return malformed("Garbage found at the end of client-final-message.");
        }
        if nonce != opened.nonce {
            return Err(ScramError::NonceMismatch);
        }
        let signed = auth_message(&opened.first_bare, &opened.server_first, without_proof);
        let client_key = ClientKey(xor(&proof, &mac(&self.verifier.stored_key, &[&signed])));
        if !client_key.fits(&self.verifier) {
            return Err(ScramError::WrongProof);
        }
        let signature = mac(&self.verifier.server_key, &[&signed]);
        let final_body = sasl_final(format!("v={}", BASE64.encode(signature)).as_bytes());
        Ok(Step::Done { final_body, client_key })
    }

    fn check_binding(&self, opened: &Opened, header: &[u8]) -> Result<(), ScramError> {
        match &self.binding {
            Some(hash) if opened.plus => {
                let expected = BASE64.encode([GS2_BOUND, hash].concat());
                if header == expected.as_bytes() { Ok(()) } else { Err(ScramError::Binding) }
            }
            // "n,," and "y,,": the header must repeat the flag that the exchange began with.
            _ => match (opened.flag, header) {
                (b'n', b"biws") | (b'y', b"eSws") => Ok(()),
                _ => Err(ScramError::UnexpectedBinding),
            },
        }
    }
}

/// The two checks that the server makes before it reads a message.
fn whole(message: &[u8]) -> Result<(), ScramError> {
    if message.is_empty() {
        return malformed("The message is empty.");
    }
    if memchr::memchr(0, message).is_some() {
        return malformed("Message length does not match input length.");
    }
    Ok(())
}

fn malformed<T>(detail: impl Into<String>) -> Result<T, ScramError> {
    Err(ScramError::Malformed(detail.into()))
}
