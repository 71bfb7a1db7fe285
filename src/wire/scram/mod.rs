//! SCRAM-SHA-256 and its `-PLUS`, sans-IO: proves a client against the server's own verifier and logs in with the key that proof yields.
//!
//! This is what `auth = "scram"` stands on (§10): with TLS on both legs and two certificates the exchange cannot be
//! relayed, because the channel binding of one leg is not that of the other. [`ScramServer`] speaks to the client as
//! the server would (same rules, same messages, I6); the [`ClientKey`] it recovers lets [`ScramClient`] log in. The
//! password itself is never known to the proxy.

mod attr;
mod client;
mod sasl;
mod server;
mod verifier;

pub use client::{ScramClient, ScramClientError};
pub use sasl::{
    CbindFlag, InitialResponse, SaslError, authentication_sasl, cbind_flag, parse_mechanisms, sasl_continue,
    sasl_final, sasl_payload, without_plus,
};
pub use server::{ScramError, ScramServer, Step};
pub use verifier::{ClientKey, Verifier, VerifierError};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac};

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism whose proof covers the TLS channel.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The largest SASL message body that PostgreSQL reads; a longer one ends the connection without a reply.
pub const MAX_SASL_MESSAGE: usize = 1024;

/// The only binding type that PostgreSQL knows, as it stands in a SCRAM message.
const CBIND_TYPE: &[u8] = b"tls-server-end-point";
/// The header that starts a message bound to the channel.
const GS2_BOUND: &[u8] = b"p=tls-server-end-point,,";
/// Bytes of a SHA-256 key.
const KEY_LEN: usize = 32;
/// Random bytes of a nonce; as many as PostgreSQL and libpq take.
const NONCE_LEN: usize = 18;

type Key = [u8; KEY_LEN];

/// PostgreSQL's decoder does not look at the unused bits of the last character, so neither does this.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

fn to_key(bytes: &[u8]) -> Option<Key> {
    Key::try_from(bytes).ok()
}

fn decode_key(text: &[u8]) -> Option<Key> {
    BASE64.decode(text).ok().and_then(|bytes| to_key(&bytes))
}

/// HMAC-SHA-256 over the parts as if they stood in one piece.
fn mac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    fill(context.sign().as_ref())
}

fn sha256(bytes: &[u8]) -> Key {
    fill(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// A 32-byte digest as an array, without a panic to argue about.
fn fill(bytes: &[u8]) -> Key {
    let mut key = Key::default();
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = *from;
    }
    key
}

fn xor(a: &Key, b: &Key) -> Key {
    let mut out = *a;
    for (to, from) in out.iter_mut().zip(b) {
        *to ^= *from;
    }
    out
}

/// Equality in time that does not depend on where two keys differ.
fn same(a: &Key, b: &Key) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, a);
    hmac::verify(&key, b, hmac::sign(&key, a).as_ref()).is_ok()
}

/// A fresh nonce of printable characters without a comma; `None` if the system has no randomness to give.
fn nonce() -> Option<String> {
    let mut raw = [0u8; NONCE_LEN];
    SystemRandom::new().fill(&mut raw).ok()?;
    Some(BASE64.encode(raw))
}

/// The text that both sides sign: the three messages before the proof.
fn auth_message(first_bare: &[u8], server_first: &[u8], final_without_proof: &[u8]) -> Vec<u8> {
    [first_bare, server_first, final_without_proof].join(&b","[..])
}

#[cfg(test)]
mod tests;
