//! SCRAM secrets: the server's stored verifier, a doomed stand-in where there is none, and the recovered client key; none is ever printed.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use ring::pbkdf2;

use super::{BASE64, Key, decode_key, mac, same, sha256};

/// The iteration count that PostgreSQL shows for a user who has no secret.
const MOCK_ITERATIONS: u32 = 4096;
/// Bytes of salt that PostgreSQL stores with a secret.
const SALT_LEN: usize = 16;

/// Why a stored password is not a SCRAM verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// The role's password is stored in another form, such as md5.
    #[error(
        "the stored password is not a SCRAM-SHA-256 secret; set it again with password_encryption = 'scram-sha-256'"
    )]
    NotScram,
    /// The secret starts as one but does not read as one.
    #[error("the stored SCRAM-SHA-256 secret is malformed: {0}")]
    Malformed(&'static str),
}

/// What PostgreSQL keeps of a password (`pg_authid.rolpassword`): enough to check a proof, not to make one.
#[derive(Clone)]
pub struct Verifier {
    pub(super) iterations: u32,
    /// Base64, byte for byte as stored, because it is part of what both sides sign.
    pub(super) salt: String,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
    pub(super) doomed: bool,
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
    pub fn parse(secret: &str) -> Result<Self, VerifierError> {
        use VerifierError::{Malformed, NotScram};
        let rest = secret.strip_prefix("SCRAM-SHA-256$").ok_or(NotScram)?;
        let (params, keys) = rest.split_once('$').ok_or(Malformed("the keys are missing"))?;
        let (iterations, salt) = params.split_once(':').ok_or(Malformed("the salt is missing"))?;
        let (stored, server) = keys.split_once(':').ok_or(Malformed("the server key is missing"))?;
        let digits = !iterations.is_empty() && iterations.bytes().all(|b| b.is_ascii_digit());
        let iterations =
            iterations.parse::<i32>().ok().filter(|n| digits && *n > 0).and_then(|n| u32::try_from(n).ok());
        let salt_is_good = BASE64.decode(salt).is_ok_and(|raw| !raw.is_empty());
        Ok(Self {
            iterations: iterations.ok_or(Malformed("the iteration count is no positive number"))?,
            salt: Some(salt).filter(|_| salt_is_good).ok_or(Malformed("the salt is not base64"))?.to_owned(),
            stored_key: decode_key(stored.as_bytes()).ok_or(Malformed("the stored key is not 32 bytes of base64"))?,
            server_key: decode_key(server.as_bytes()).ok_or(Malformed("the server key is not 32 bytes of base64"))?,
            doomed: false,
        })
    }

    /// A verifier that nothing satisfies, for a user who is unknown or has no SCRAM secret.
    ///
    /// The salt follows from `secret` and the name, so that asking twice does not tell such a user from a real one;
    /// `secret` is random and lives as long as the process.
    pub fn mock(secret: &[u8], user: &str) -> Self {
        let salt = mac(secret, &[user.as_bytes()]);
        Self {
            iterations: MOCK_ITERATIONS,
            salt: BASE64.encode(salt.get(..SALT_LEN).unwrap_or(&salt)),
            stored_key: Key::default(),
            server_key: Key::default(),
            doomed: true,
        }
    }

    /// A verifier of our own for a password that the configuration has, or, without one, a stand-in that nobody can tell from
    /// it: neither by its salt nor by the time that it takes to make.
    pub fn of_password(secret: &[u8], user: &str, password: Option<&str>) -> Self {
        let mock = Self::mock(secret, user);
        let text = password.unwrap_or_default();
        // As the server does: what has no normal form is taken as it is.
        let normal = stringprep::saslprep(text).unwrap_or(text.into());
        let mut salted = Key::default();
        let iterations = NonZeroU32::new(MOCK_ITERATIONS).unwrap_or(NonZeroU32::MIN);
        let salt = BASE64.decode(&mock.salt).unwrap_or_default();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, normal.as_bytes(), &mut salted);
        let (stored_key, server_key) = (sha256(&mac(&salted, &[b"Client Key"])), mac(&salted, &[b"Server Key"]));
        Self { stored_key, server_key, doomed: password.is_none(), ..mock }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// The key that a client proved to have: as good as its password towards this server, so never shown.
#[derive(Clone)]
pub struct ClientKey(pub(super) Key);

impl ClientKey {
    /// Whether this is the key that the verifier was made from.
    pub fn fits(&self, verifier: &Verifier) -> bool {
        same(&sha256(&self.0), &verifier.stored_key) && !verifier.doomed
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey(..)")
    }
}
