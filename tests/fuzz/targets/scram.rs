//! SCRAM messages of both sides: no panic, no proof by chance, and what is taken apart can be put together again.
#![no_main]

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use libfuzzer_sys::fuzz_target;
use pgcanon::wire::scram::{
    ClientKey, InitialResponse, ScramClient, ScramServer, Step, Verifier, authentication_sasl, cbind_flag,
    parse_mechanisms, sasl_payload, without_plus,
};
use ring::{digest, hmac};

const KEY: [u8; 32] = [7; 32];

fn verifier() -> Verifier {
    let stored = BASE64.encode(digest::digest(&digest::SHA256, &KEY));
    let server = BASE64.encode([9; 32]);
    Verifier::parse(&format!("SCRAM-SHA-256$4096:c2FsdHNhbHQ=${stored}:{server}")).expect("a verifier")
}

/// What an honest exchange leaves in the server's hands.
fn client_key() -> ClientKey {
    static ONCE: OnceLock<ClientKey> = OnceLock::new();
    let honest = || {
        let mut server = ScramServer::new(verifier(), None).expect("randomness");
        let first = InitialResponse { mechanism: b"SCRAM-SHA-256", data: Some(b"n,,n=,r=abc") };
        let Ok(Step::Challenge(challenge)) = server.on_response(&first.encode()) else { panic!("no challenge") };
        let challenge = std::str::from_utf8(&challenge[4..]).expect("text").to_owned();
        let nonce = challenge.split(',').next().expect("a nonce").to_owned();
        let signed = format!("n=,r=abc,{challenge},c=biws,{nonce}");
        let stored = digest::digest(&digest::SHA256, &KEY);
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored.as_ref()), signed.as_bytes());
        let proof: Vec<u8> = KEY.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        match server.on_response(format!("c=biws,{nonce},p={}", BASE64.encode(proof)).as_bytes()) {
            Ok(Step::Done { client_key, .. }) => client_key,
            other => panic!("the honest client is refused: {:?}", other.err()),
        }
    };
    ONCE.get_or_init(honest).clone()
}

/// A client that does not know the key.
fn as_client(binding: Option<Vec<u8>>, messages: &[&[u8]]) {
    let mut server = ScramServer::new(verifier(), binding).expect("randomness");
    for message in messages {
        match server.on_response(message) {
            Ok(step) => assert!(matches!(step, Step::Challenge(_)), "let in without a proof"),
            Err(e) => {
                let _ = (e.message("joe"), e.detail(), e.sqlstate());
                assert!(server.on_response(message).is_err(), "after an error it is over");
                return;
            }
        }
    }
}

/// A server that does not know the key either.
fn as_server(binding: Option<Vec<u8>>, messages: &[&[u8]]) {
    let mut client = ScramClient::new(client_key(), verifier(), binding).expect("the key fits, and there is randomness");
    let mut messages = messages.iter();
    let mut next = || messages.next().copied().unwrap_or_default();
    if client.on_offer(next()).is_ok() && client.on_continue(next()).is_ok() {
        assert!(client.on_final(next()).is_err(), "the server has proved nothing");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, data)) = data.split_first() else { return };
    let messages: Vec<&[u8]> = data.split(|&b| b == 0xff).collect();
    let binding = (mode & 2 == 0).then(|| vec![5; 32]);
    if mode & 1 == 0 { as_client(binding, &messages) } else { as_server(binding, &messages) }

    if let Ok(response) = InitialResponse::parse(data) {
        assert_eq!(response.encode(), data, "put together again");
        let _ = cbind_flag(data);
    }
    if let Ok(names) = parse_mechanisms(data) {
        assert_eq!(authentication_sasl(names.iter().copied()), data, "put together again");
        let plain = without_plus(data).expect("a list that could be read");
        let left = parse_mechanisms(&plain).expect("a list of ours");
        assert!(!left.contains(&&b"SCRAM-SHA-256-PLUS"[..]));
        assert_eq!(without_plus(&plain).ok().as_ref(), Some(&plain));
    }
    let _ = (sasl_payload(data, true), sasl_payload(data, false), Verifier::parse(&String::from_utf8_lossy(data)));
});
