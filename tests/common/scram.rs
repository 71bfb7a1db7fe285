//! A client's side of SCRAM-SHA-256, with a fixed nonce so that traces can be compared; no channel binding.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

use super::raw::Frame;
use super::{Client, msg};

const NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";
/// The first message after its GS2 header.
pub(crate) const FIRST_BARE: &str = "n=,r=fyko+d2lbbFgONRv9qkxdawL";

/// Answers whatever the server asks for, up to AuthenticationOk or an error; returns every frame of the exchange.
///
/// `md5` makes the answer to an MD5 request from its salt; there is no MD5 among our libraries, so the tests ask a server.
pub(crate) fn authenticate(client: &mut Client, password: &str, md5: impl Fn(&[u8]) -> String) -> Vec<Frame> {
    let mut seen = Vec::new();
    let mut server_first = String::new();
    loop {
        let frame = client.frame();
        seen.push(frame.clone());
        if frame.tag != b'R' {
            return seen;
        }
        match u32::from_be_bytes(frame.body[..4].try_into().expect("a request code")) {
            0 => return seen,
            3 => client.send(&msg::password(password)),
            5 => client.send(&msg::password(md5(&frame.body[4..8]))),
            10 => client.send(&msg::sasl_initial("SCRAM-SHA-256", format!("n,,{FIRST_BARE}").as_bytes())),
            11 => {
                server_first = String::from_utf8(frame.body[4..].to_vec()).expect("SCRAM is text");
                client.send(&msg::frame(b'p', final_message(password, &server_first).as_bytes()));
            }
            12 => assert!(server_first.starts_with(&format!("r={NONCE}")), "the server's nonce goes on from ours"),
            other => panic!("the server asks for authentication {other}"),
        }
    }
}

/// The last message, with the proof of the password.
pub(crate) fn final_message(password: &str, server_first: &str) -> String {
    let field = |name: &str| {
        let found = server_first.split(',').find_map(|field| field.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no {name} in {server_first}"))
    };
    let salt = BASE64.decode(field("s=")).expect("the salt is base64");
    let rounds: NonZeroU32 = field("i=").parse().expect("a round count");
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let without_proof = format!("c=biws,r={}", field("r="));
    let signature = sign(stored_key.as_ref(), format!("{FIRST_BARE},{server_first},{without_proof}").as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
    format!("{without_proof},p={}", BASE64.encode(proof))
}

fn sign(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}
