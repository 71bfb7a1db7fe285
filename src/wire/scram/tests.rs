//! SCRAM as a specification: the RFC's vector, both sides against each other, a plain client, and every refusal.
// A test may panic: that is how it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use base64::Engine as _;
use proptest::prelude::*;
use ring::pbkdf2;

use super::*;

/// Made by PostgreSQL 15: `create role alice login password 'correct horse'`.
const ALICE: &str = "SCRAM-SHA-256$4096:CRkZhotfUmkvC7fBX++P6Q==$oWCZ/qifQ29ymwpzNh2PEFvQxZ04HTCySv66lDxey+s=:GLG8ORGlbMmP1tY5PUcRqZ82iqn4J4Yiva2ke7Ea3zM=";
const PASSWORD: &str = "correct horse";
const HASH: &[u8] = &[7; 32];

fn alice() -> Verifier {
    Verifier::parse(ALICE).unwrap()
}

fn salted(password: &str, salt: &[u8], iterations: u32) -> Key {
    let mut out = Key::default();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations.try_into().unwrap(), salt, password.as_bytes(), &mut out);
    out
}

fn initial(mechanism: &str, message: &[u8]) -> Vec<u8> {
    InitialResponse { mechanism: mechanism.as_bytes(), data: Some(message) }.encode()
}

/// A client as libpq is one: it has the password and nothing else.
struct PasswordClient {
    password: &'static str,
    gs2: &'static str,
    hash: &'static [u8],
}

impl PasswordClient {
    const BARE: &'static str = "n=,r=abcdefgh";

    fn first(&self) -> Vec<u8> {
        format!("{}{}", self.gs2, Self::BARE).into_bytes()
    }

    /// The final message and the signature that the server must show.
    fn last(&self, challenge: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let server_first = std::str::from_utf8(sasl_payload(challenge, false).unwrap()).unwrap();
        let fields: Vec<_> = server_first.split(',').map(|field| &field[2..]).collect();
        let salted = salted(self.password, &BASE64.decode(fields[1]).unwrap(), fields[2].parse().unwrap());
        let client_key = mac(&salted, &[b"Client Key"]);
        let header = BASE64.encode([self.gs2.as_bytes(), self.hash].concat());
        let without_proof = format!("c={header},r={}", fields[0]);
        let signed = format!("{},{server_first},{without_proof}", Self::BARE);
        let proof = xor(&client_key, &mac(&sha256(&client_key), &[signed.as_bytes()]));
        let signature = mac(&mac(&salted, &[b"Server Key"]), &[signed.as_bytes()]);
        (format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes(), signature.to_vec())
    }
}

fn challenge(step: Step) -> Vec<u8> {
    match step {
        Step::Challenge(body) => body,
        Step::Done { .. } => panic!("finished too early"),
    }
}

/// Runs a whole exchange; the key if the client was let in and the server proved itself.
fn exchange(server: &mut ScramServer, mechanism: &str, client: &PasswordClient) -> Result<ClientKey, ScramError> {
    let body = challenge(server.on_response(&initial(mechanism, &client.first()))?);
    let (last, signature) = client.last(&body);
    match server.on_response(&last)? {
        Step::Done { final_body, client_key } => {
            let expected = format!("v={}", BASE64.encode(signature));
            assert_eq!(sasl_payload(&final_body, true).unwrap(), expected.as_bytes());
            Ok(client_key)
        }
        Step::Challenge(_) => panic!("a third challenge"),
    }
}

const PLAIN: PasswordClient = PasswordClient { password: PASSWORD, gs2: "n,,", hash: b"" };
const BOUND: PasswordClient = PasswordClient { password: PASSWORD, gs2: "p=tls-server-end-point,,", hash: HASH };

// === the specification's own example ===

const RFC_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const RFC_SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const RFC_SERVER_FIRST: &[u8] =
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const RFC_FINAL: &[u8] =
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const RFC_SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn rfc_secret() -> (Key, Verifier) {
    let salted = salted("pencil", &BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096);
    let client_key = mac(&salted, &[b"Client Key"]);
    let verifier = Verifier {
        iterations: 4096,
        salt: "W22ZaJ0SNY7soEsUEjb6gQ==".into(),
        stored_key: sha256(&client_key),
        server_key: mac(&salted, &[b"Server Key"]),
        doomed: false,
    };
    (client_key, verifier)
}

#[test]
fn server_follows_the_rfc_7677_example() {
    let (client_key, verifier) = rfc_secret();
    let mut server = ScramServer::with_nonce(verifier, None, RFC_SERVER_NONCE.into());
    let first = format!("n,,n=user,r={RFC_NONCE}");
    let body = challenge(server.on_response(&initial(SCRAM_SHA_256, first.as_bytes())).unwrap());
    assert_eq!(sasl_payload(&body, false).unwrap(), RFC_SERVER_FIRST);
    let Step::Done { final_body, client_key: recovered } = server.on_response(RFC_FINAL).unwrap() else {
        panic!("not done");
    };
    assert_eq!(sasl_payload(&final_body, true).unwrap(), RFC_SERVER_FINAL);
    assert_eq!(recovered.0, client_key);
}

#[test]
fn client_proves_the_recovered_key_and_checks_the_server() {
    let (_, verifier) = rfc_secret();
    let mut server = ScramServer::new(verifier.clone(), None).unwrap();
    let client = PasswordClient { password: "pencil", ..PLAIN };
    let key = exchange(&mut server, SCRAM_SHA_256, &client).unwrap();

    let mut origin = ScramServer::new(verifier.clone(), None).unwrap();
    let mut login = ScramClient::new(key, verifier, None).unwrap();
    let first = login.on_offer(&origin.offer()).unwrap();
    let body = challenge(origin.on_response(&first).unwrap());
    let Step::Done { final_body, .. } = origin.on_response(&login.on_continue(&body).unwrap()).unwrap() else {
        panic!("not done");
    };
    login.on_final(&final_body).unwrap();
}

// === both legs ===

/// Logs in to a server that has `verifier` with the key of the client whose password made it.
fn log_in(theirs: Verifier, ours: Verifier, binding: [Option<&[u8]>; 2]) -> Result<(), ScramClientError> {
    let key = exchange(&mut ScramServer::new(alice(), None).unwrap(), SCRAM_SHA_256, &PLAIN).unwrap();
    let mut server = ScramServer::new(theirs, binding[0].map(<[u8]>::to_vec)).unwrap();
    let mut login = ScramClient::new(key, ours, binding[1].map(<[u8]>::to_vec))?;
    let first = login.on_offer(&server.offer())?;
    let body = challenge(server.on_response(&first).map_err(|e| ScramClientError::Server(e.to_string()))?);
    let last = login.on_continue(&body)?;
    match server.on_response(&last).map_err(|e| ScramClientError::Server(e.to_string()))? {
        Step::Done { final_body, .. } => login.on_final(&final_body),
        Step::Challenge(_) => panic!("a third challenge"),
    }
}

#[test]
fn the_recovered_key_opens_the_server_with_and_without_binding() {
    assert_eq!(log_in(alice(), alice(), [None, None]), Ok(()));
    assert_eq!(log_in(alice(), alice(), [Some(HASH), Some(HASH)]), Ok(()));
    // Their TLS has no end-point hash: we say `y`, they never offered, all is well.
    assert_eq!(log_in(alice(), alice(), [None, Some(HASH)]), Ok(()));
}

#[test]
fn another_certificate_on_the_way_is_found_out() {
    let error = log_in(alice(), alice(), [Some(HASH), Some(&[8; 32])]).unwrap_err();
    assert_eq!(error, ScramClientError::Server("SCRAM channel binding check failed".into()));
}

#[test]
fn a_stripped_offer_is_found_out_by_the_server() {
    let key = exchange(&mut ScramServer::new(alice(), None).unwrap(), SCRAM_SHA_256, &PLAIN).unwrap();
    let mut server = ScramServer::new(alice(), Some(HASH.to_vec())).unwrap();
    let mut login = ScramClient::new(key, alice(), Some(HASH.to_vec())).unwrap();
    let first = login.on_offer(&without_plus(&server.offer()).unwrap()).unwrap();
    assert_eq!(cbind_flag(&first), Ok(Some(CbindFlag::NotOffered)));
    assert_eq!(server.on_response(&first).unwrap_err(), ScramError::Negotiation);
}

#[test]
fn a_server_with_another_salt_or_count_is_refused_before_any_proof() {
    for change in [|v: &mut Verifier| v.iterations = 4097, |v: &mut Verifier| v.salt = "AAAA".into()] {
        let mut theirs = alice();
        change(&mut theirs);
        assert_eq!(log_in(theirs, alice(), [None, None]), Err(ScramClientError::VerifierChanged));
    }
}

#[test]
fn a_server_without_the_server_key_is_refused() {
    let mut theirs = alice();
    theirs.server_key = [0; 32];
    assert_eq!(log_in(theirs, alice(), [None, None]), Err(ScramClientError::ServerSignature));
}

#[test]
fn a_key_of_another_verifier_is_refused_at_once() {
    let (_, other) = rfc_secret();
    assert_eq!(log_in(alice(), other, [None, None]), Err(ScramClientError::KeyMismatch));
}

#[test]
fn the_client_refuses_a_server_that_does_not_speak_scram_to_it() {
    let key = exchange(&mut ScramServer::new(alice(), None).unwrap(), SCRAM_SHA_256, &PLAIN).unwrap();
    let login = || ScramClient::with_nonce(key.clone(), alice(), None, "mine".into());
    let only_plus = authentication_sasl([SCRAM_SHA_256_PLUS.as_bytes()]);
    assert_eq!(login().on_offer(&only_plus), Err(ScramClientError::NoMechanism(SCRAM_SHA_256_PLUS.into())));
    assert_eq!(login().on_offer(&[0, 0, 0, 5, 1, 2, 3, 4]), Err(ScramClientError::Body(SaslError::Kind(5))));
    let offer = authentication_sasl([SCRAM_SHA_256.as_bytes()]);
    for (server_first, expected) in [
        ("r=mine,s=CRkZhotfUmkvC7fBX++P6Q==,i=4096", ScramClientError::Nonce),
        ("r=other,s=CRkZhotfUmkvC7fBX++P6Q==,i=4096", ScramClientError::Nonce),
        ("r=mineX,s=CRkZhotfUmkvC7fBX++P6Q==,i=1", ScramClientError::VerifierChanged),
    ] {
        let mut login = login();
        login.on_offer(&offer).unwrap();
        assert_eq!(login.on_continue(&sasl_continue(server_first.as_bytes())), Err(expected));
    }
    let mut early = login();
    assert_eq!(early.on_final(&sasl_final(b"v=AAAA")), Err(ScramClientError::State));
}

// === the client leg ===

#[test]
fn a_verifier_of_a_real_server_admits_its_password_and_only_that() {
    for (binding, mechanism, client) in
        [(None, SCRAM_SHA_256, PLAIN), (Some(HASH), SCRAM_SHA_256_PLUS, BOUND), (Some(HASH), SCRAM_SHA_256, PLAIN)]
    {
        let server = || ScramServer::new(alice(), binding.map(<[u8]>::to_vec)).unwrap();
        assert!(exchange(&mut server(), mechanism, &client).unwrap().fits(&alice()));
        let wrong = PasswordClient { password: "correct horse ", ..client };
        assert_eq!(exchange(&mut server(), mechanism, &wrong).unwrap_err(), ScramError::WrongProof);
    }
}

#[test]
fn a_doomed_verifier_looks_like_any_other_and_admits_nobody() {
    let doomed = Verifier::mock(b"secret", "nobody");
    assert_eq!(doomed.salt, Verifier::mock(b"secret", "nobody").salt);
    assert_ne!(doomed.salt, Verifier::mock(b"secret", "someone").salt);
    assert_ne!(doomed.salt, Verifier::mock(b"other", "nobody").salt);
    assert_eq!((doomed.salt.len(), doomed.iterations), (alice().salt.len(), alice().iterations));
    let error = exchange(&mut ScramServer::new(doomed.clone(), None).unwrap(), SCRAM_SHA_256, &PLAIN).unwrap_err();
    assert_eq!(error, ScramError::WrongProof);
    assert_eq!(error.message("nobody"), "password authentication failed for user \"nobody\"");
    // Not even a verifier that fits lets a doomed exchange through.
    let fitting = Verifier { doomed: true, ..alice() };
    assert_eq!(
        exchange(&mut ScramServer::new(fitting, None).unwrap(), SCRAM_SHA_256, &PLAIN).unwrap_err(),
        ScramError::WrongProof
    );
}

#[test]
fn a_verifier_of_our_own_admits_its_password_and_looks_like_one_of_nobody() {
    let made = |password| Verifier::of_password(b"secret", "alice", password);
    let admits =
        |verifier: Verifier| exchange(&mut ScramServer::new(verifier, None).unwrap(), SCRAM_SHA_256, &PLAIN).map(drop);
    assert_eq!(admits(made(Some(PASSWORD))), Ok(()));
    assert_eq!(admits(made(Some("correct house"))), Err(ScramError::WrongProof));
    assert_eq!(admits(made(None)), Err(ScramError::WrongProof));
    assert_eq!(made(Some(PASSWORD)).salt, made(None).salt);
    // Clients send the normal form of what was typed: here a no-break space is one that breaks.
    assert_eq!(admits(made(Some("correct\u{a0}horse"))), Ok(()));
}

#[test]
fn a_first_message_may_come_in_a_message_of_its_own() {
    let mut server = ScramServer::new(alice(), None).unwrap();
    let empty = InitialResponse { mechanism: SCRAM_SHA_256.as_bytes(), data: None }.encode();
    assert_eq!(challenge(server.on_response(&empty).unwrap()), sasl_continue(b""));
    let body = challenge(server.on_response(&PLAIN.first()).unwrap());
    assert!(matches!(server.on_response(&PLAIN.last(&body).0), Ok(Step::Done { .. })));
    assert_eq!(server.on_response(b"again").unwrap_err(), ScramError::State);
}

#[test]
fn optional_extensions_and_the_user_name_are_ignored() {
    let mut server = ScramServer::with_nonce(alice(), None, "S".into());
    let first = b"n,,n=somebody else,r=abc,x=1,Y=";
    let body = challenge(server.on_response(&initial(SCRAM_SHA_256, first)).unwrap());
    assert!(body.ends_with(b"r=abcS,s=CRkZhotfUmkvC7fBX++P6Q==,i=4096"));
    let proof = format!("c=biws,r=abcS,z=9,p={}", BASE64.encode([0; 32]));
    assert_eq!(server.on_response(proof.as_bytes()).unwrap_err(), ScramError::WrongProof);
}

#[test]
fn a_final_message_is_held_to_the_first() {
    let cases: [(&[u8], ScramError); 7] = [
        (b"", ScramError::Malformed("The message is empty.".into())),
        (b"c=biws\0", ScramError::Malformed("Message length does not match input length.".into())),
        (b"c=eSws,r=abcS,p=AA==", ScramError::UnexpectedBinding),
        (b"c=biws,r=abcS", ScramError::Malformed("Attribute expected, but found end of string.".into())),
        (b"c=biws,r=abcS,p=AA==", ScramError::Malformed("Malformed proof in client-final-message.".into())),
        (
            b"c=biws,r=abcS,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,q=1",
            ScramError::Malformed("Garbage found at the end of client-final-message.".into()),
        ),
        (b"c=biws,r=abcT,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", ScramError::NonceMismatch),
    ];
    for (message, expected) in cases {
        let mut server = ScramServer::with_nonce(alice(), None, "S".into());
        server.on_response(&initial(SCRAM_SHA_256, b"n,,n=,r=abc")).unwrap();
        assert_eq!(server.on_response(message).unwrap_err(), expected, "{}", message.escape_ascii());
    }
}

// === bodies and secrets ===

#[test]
fn the_plus_mechanism_is_taken_from_a_list_and_nothing_else() {
    let both = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    assert_eq!(parse_mechanisms(both).unwrap(), [SCRAM_SHA_256_PLUS.as_bytes(), SCRAM_SHA_256.as_bytes()]);
    assert_eq!(without_plus(both).unwrap(), b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let other = b"\0\0\0\x0aOAUTHBEARER\0SCRAM-SHA-256\0\0";
    assert_eq!(without_plus(other).unwrap(), other);
    assert_eq!(parse_mechanisms(b"\0\0\0\x0aSCRAM-SHA-256\0"), Err(SaslError::Unterminated));
    assert_eq!(parse_mechanisms(b"\0\0\0\x0a\0x"), Err(SaslError::Trailing));
    assert_eq!(parse_mechanisms(b"\0\0\0\x03"), Err(SaslError::Kind(3)));
}

#[test]
fn the_binding_flag_of_an_initial_response_is_read() {
    assert_eq!(cbind_flag(&initial(SCRAM_SHA_256, b"n,,n=,r=x")), Ok(Some(CbindFlag::Unsupported)));
    assert_eq!(cbind_flag(&initial(SCRAM_SHA_256, b"y,,n=,r=x")), Ok(Some(CbindFlag::NotOffered)));
    assert_eq!(cbind_flag(&initial(SCRAM_SHA_256_PLUS, &BOUND.first())), Ok(Some(CbindFlag::Bound)));
    assert_eq!(cbind_flag(b"SCRAM-SHA-256\0\xff\xff\xff\xff"), Ok(None));
    assert_eq!(cbind_flag(b"SCRAM-SHA-256\0\0\0\0\x05n,,"), Err(SaslError::Short));
    assert_eq!(cbind_flag(b"SCRAM-SHA-256\0\xff\xff\xff\xfen"), Err(SaslError::Short));
    assert_eq!(cbind_flag(b"SCRAM-SHA-256\0\0\0\0\x01nn"), Err(SaslError::Trailing));
}

#[test]
fn only_whole_secrets_are_taken() {
    assert!(matches!(Verifier::parse("md5d41d8cd98f00b204e9800998ecf8427e"), Err(VerifierError::NotScram)));
    assert!(matches!(Verifier::parse(""), Err(VerifierError::NotScram)));
    for (from, to) in [
        ("4096", "0"),
        ("4096", "+1"),
        ("4096", "x"),
        ("4096", ""),
        ("==$", "$"),
        ("s=:", "s:"),
        ("$o", "o"),
        (":G", "G"),
    ] {
        let broken = ALICE.replacen(from, to, 1);
        assert_ne!(broken, ALICE);
        assert!(matches!(Verifier::parse(&broken), Err(VerifierError::Malformed(_))), "{broken}");
    }
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let (key, verifier) = rfc_secret();
    let shown = format!("{:?} {:?}", ClientKey(key), verifier);
    assert_eq!(shown, "ClientKey(..) Verifier { iterations: 4096, .. }");
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(a in proptest::collection::vec(any::<u8>(), 0..80), plus in any::<bool>()) {
        let _ = (parse_mechanisms(&a), without_plus(&a), cbind_flag(&a), sasl_payload(&a, plus));
        let _ = Verifier::parse(&String::from_utf8_lossy(&a));
        let binding = plus.then(|| HASH.to_vec());
        let _ = ScramServer::new(alice(), binding.clone()).unwrap().on_response(&a);
        let mechanism = if plus { SCRAM_SHA_256_PLUS } else { SCRAM_SHA_256 };
        let mut server = ScramServer::new(alice(), binding).unwrap();
        let _ = server.on_response(&initial(mechanism, &a));
        let (key, verifier) = rfc_secret();
        let mut login = ScramClient::new(ClientKey(key), verifier, None).unwrap();
        let _ = login.on_offer(&authentication_sasl([SCRAM_SHA_256.as_bytes()]));
        let _ = login.on_continue(&sasl_continue(&a));
    }

    /// Texts made of SCRAM's own letters get further into the parsers than random bytes do.
    #[test]
    fn no_text_makes_a_parser_panic(first in "[nyp],[,am]?(n=[a-z]{0,3},)?(r=[!-~]{0,9})?(,[a-z]=?[a-z]{0,3}){0,3}", last in "(c=(biws|eSws|[a-z]{0,4}),?)?(r=abcS,)?([a-zA-Z0-9]=?[a-zA-Z0-9+/=]{0,44},?){0,3}") {
        let mut server = ScramServer::with_nonce(alice(), None, "S".into());
        let _ = server.on_response(&initial(SCRAM_SHA_256, first.as_bytes()));
        let mut server = ScramServer::with_nonce(alice(), None, "S".into());
        server.on_response(&initial(SCRAM_SHA_256, b"n,,n=,r=abc")).unwrap();
        prop_assert!(server.on_response(last.as_bytes()).is_err());
    }
}
