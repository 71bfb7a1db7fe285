//! PostgreSQL as the oracle for SCRAM and channel binding: the same messages to a real server and to ours, the same answers.

use pgcanon::wire::scram::{
    ClientKey, InitialResponse, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramClient, ScramError, ScramServer, Step,
    Verifier, sasl_payload,
};
use pgcanon::wire::tls::server_channel_binding;

use crate::common::raw::Frame;
use crate::common::{Client, msg, scram};
use crate::site::{PASSWORD, Site, tls};

/// Who has a password, and who is asked for one though there is no such role.
const USER: &str = "scramy";
const NOBODY: &str = "nobody";

/// A session that the server is about to ask for SASL, and the binding of its TLS.
fn connect(site: &Site, user: &str, with_tls: bool) -> (Client, Option<Vec<u8>>) {
    let addr = site.cluster.tcp();
    let mut client = if with_tls { tls(&addr, site.certs.client_config(None, None)) } else { Client::connect(&addr) };
    let binding = client.tls_connection().map(|tls| server_channel_binding(tls).expect("a certificate that binds"));
    client.send(&msg::startup(msg::version(3, 0), &[("user", user), ("database", "postgres")]));
    (client, binding)
}

/// Sends a SASL message as it is and reads the answer.
fn answer(client: &mut Client, response: &[u8]) -> Frame {
    client.send(&msg::frame(b'p', response));
    client.frame()
}

// === scripts ===

/// What became of an exchange, as the client sees it.
#[derive(Debug, PartialEq)]
enum End {
    Challenge,
    Admitted,
    Refused { sqlstate: String, message: String, detail: Option<String> },
}

fn refused(error: &Frame) -> End {
    let field = |code| error.field(code).unwrap_or_default();
    End::Refused { sqlstate: field(b'C'), message: field(b'M'), detail: error.field(b'D') }
}

/// A first body, and what to answer to the server's challenge: `{n}` stands for the nonce.
struct Script {
    tls: bool,
    first: Vec<u8>,
    last: Option<&'static str>,
}

fn script(tls: bool, mechanism: &str, message: &str, last: Option<&'static str>) -> Script {
    let first = InitialResponse { mechanism: mechanism.as_bytes(), data: Some(message.as_bytes()) }.encode();
    Script { tls, first, last }
}

fn filled(template: &str, challenge: &[u8]) -> Vec<u8> {
    let server_first = String::from_utf8(sasl_payload(challenge, false).unwrap().to_vec()).unwrap();
    let nonce = server_first.split(',').next().unwrap().strip_prefix("r=").unwrap_or("none");
    template.replace("{n}", nonce).into_bytes()
}

fn against_postgres(site: &Site, user: &str, script: &Script) -> (Vec<u8>, End) {
    let (mut client, _) = connect(site, user, script.tls);
    let offer = client.frame();
    assert_eq!(offer.tag, b'R');
    let challenge = answer(&mut client, &script.first);
    let end = match (challenge.tag, script.last) {
        (b'E', _) => refused(&challenge),
        (_, None) => End::Challenge,
        (_, Some(last)) => {
            let last = answer(&mut client, &filled(last, &challenge.body));
            if last.tag == b'E' { refused(&last) } else { End::Admitted }
        }
    };
    (offer.body, end)
}

fn against_ours(verifier: Verifier, user: &str, binding: Option<Vec<u8>>, script: &Script) -> (Vec<u8>, End) {
    let mut server = ScramServer::new(verifier, binding).unwrap();
    let offer = server.offer();
    let mut run = || match (server.on_response(&script.first)?, script.last) {
        (Step::Challenge(_), None) => Ok(End::Challenge),
        (Step::Challenge(challenge), Some(last)) => {
            server.on_response(&filled(last, &challenge)).map(|_| End::Admitted)
        }
        (Step::Done { .. }, _) => Ok(End::Admitted),
    };
    let end = run().unwrap_or_else(|error: ScramError| End::Refused {
        sqlstate: error.sqlstate().into(),
        message: error.message(user),
        detail: error.detail(),
    });
    (offer, end)
}

/// A whole last message that any verifier refuses.
const WRONG_PROOF: &str = "c=biws,r={n},p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn scripts() -> Vec<Script> {
    const PLUS: &str = SCRAM_SHA_256_PLUS;
    let plain = |message, last| script(false, SCRAM_SHA_256, message, last);
    let mut all = vec![
        script(false, PLUS, "n,,n=,r=x", None),
        script(false, "PLAIN", "n,,n=,r=x", None),
        script(true, PLUS, "n,,n=,r=x", None),
        script(true, PLUS, "y,,n=,r=x", None),
        script(true, PLUS, "p=tls-unique,,n=,r=x", None),
        script(true, PLUS, "p=tls-server-end-point,,n=,r=x", Some("c=biws,r={n},p=AA==")),
        script(true, PLUS, "p=tls-server-end-point", None),
        script(true, PLUS, "p=tls-unïque and what follows it until it is cut,,n=,r=x", None),
        script(true, SCRAM_SHA_256, "y,,n=,r=x", None),
        script(true, SCRAM_SHA_256, "n,,n=,r=x", Some("c=biws,r={n},p=AA==")),
        script(true, SCRAM_SHA_256, "p=tls-server-end-point,,n=,r=x", None),
    ];
    let first = [
        "",
        "n",
        "nn",
        "n,",
        "n,,",
        "n,x",
        "n,,n",
        "n,,n=",
        "n,,r=x",
        "n,,n=,",
        "n,,n=,r",
        "n,,n=,r=",
        "n,,n=,r=\u{1}",
        "n,,n=,r=x y",
        "n,,n=,r=x,",
        "n,,n=,r=x,e",
        "n,,n=,r=x,e=1,F=",
        "n,,n=,r=x,1=1",
        "n,a=bob,n=,r=x",
        "n,,m=1,n=,r=x",
        "n,,n=,r=x\0",
        "x,,n=,r=x",
        "\u{7f},,n=,r=x",
        " ",
        "y,,n=,r=x",
        "y",
        "p=x",
        "n,,n=someone,r=x",
    ];
    all.extend(first.map(|message| plain(message, None)));
    let last = [
        "",
        "c",
        "c=biws",
        "c=,r={n},p=AA==",
        "c=eSws,r={n},p=AA==",
        "r={n}",
        "c=biws,",
        "c=biws,r={n}",
        "c=biws,r={n},",
        "c=biws,r={n},p",
        "c=biws,r={n},p=",
        "c=biws,r={n},p=AA==",
        "c=biws,r={n},p=####",
        "c=biws,r={n},1=x",
        "c=biws,r={n},x=1,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "c=biws,r={n},p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,x=1",
        "c=biws,r={n},p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,",
        "c=biws,r=x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "c=biws,r={n}x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "c=biws,r={n},p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=",
        "c=biws\0,r={n}",
    ];
    all.extend(last.map(|message| plain("n,,n=,r=x", Some(message))));
    all.push(plain("y,,n=,r=x", Some("c=biws,r={n},p=AA==")));
    // Frames that are no SASLInitialResponse.
    let raw = |first: &[u8]| Script { tls: false, first: first.to_vec(), last: None };
    all.extend([
        raw(b""),
        raw(b"SCRAM-SHA-256"),
        raw(b"SCRAM-SHA-256\0"),
        raw(b"SCRAM-SHA-256\0\0\0\0\x09n,,"),
        raw(b"SCRAM-SHA-256\0\xff\xff\xff\xfen,,"),
        raw(b"SCRAM-SHA-256\0\xff\xff\xff\xffn,,"),
        raw(b"SCRAM-SHA-256\0\0\0\0\x09n,,n=,r=xy"),
        raw(b"SCRAM-SHA-256\0\xff\xff\xff\xff"),
    ]);
    all
}

#[test]
fn every_message_is_answered_as_the_server_answers_it() {
    let site = Site::shared();
    let stored = site.cluster.psql(&format!("select rolpassword from pg_authid where rolname = '{USER}'"));
    let verifier = Verifier::parse(&stored).unwrap();
    let (_, binding) = connect(&site, USER, true);
    for script in scripts() {
        let theirs = against_postgres(&site, USER, &script);
        let ours = against_ours(verifier.clone(), USER, binding.clone().filter(|_| script.tls), &script);
        let shown = (script.first.escape_ascii().to_string(), script.last);
        assert_eq!((&ours.0, &ours.1), (&theirs.0, &theirs.1), "{shown:?}");
    }
    // A user who is not there, whose proof is looked at all the same.
    let script = script(false, SCRAM_SHA_256, "n,,n=,r=x", Some(WRONG_PROOF));
    let theirs = against_postgres(&site, NOBODY, &script);
    let ours = against_ours(Verifier::mock(b"secret", NOBODY), NOBODY, None, &script);
    assert_eq!(ours, theirs);

    // A key recovered from a client opens the server, with the binding that the server computes for itself.
    let key = recovered(&verifier);
    for tls in [false, true] {
        let (mut client, binding) = connect(&site, USER, tls);
        assert_eq!(binding.is_some(), tls);
        let mut login = ScramClient::new(key.clone(), verifier.clone(), binding).unwrap();
        let first = login.on_offer(&client.frame().body).unwrap();
        let mechanism = if tls { SCRAM_SHA_256_PLUS } else { SCRAM_SHA_256 };
        assert_eq!(InitialResponse::parse(&first).unwrap().mechanism, mechanism.as_bytes());
        let last = login.on_continue(&answer(&mut client, &first).body).unwrap();
        login.on_final(&answer(&mut client, &last).body).unwrap();
        assert_eq!(client.frame(), Frame { tag: b'R', body: vec![0, 0, 0, 0] });
    }
}

/// The key as our server recovers it from a client that has the password.
fn recovered(verifier: &Verifier) -> ClientKey {
    let mut server = ScramServer::new(verifier.clone(), None).unwrap();
    let first = script(false, SCRAM_SHA_256, &format!("n,,{}", scram::FIRST_BARE), None).first;
    let Step::Challenge(challenge) = server.on_response(&first).unwrap() else { panic!("no challenge") };
    let server_first = String::from_utf8(sasl_payload(&challenge, false).unwrap().to_vec()).unwrap();
    match server.on_response(scram::final_message(PASSWORD, &server_first).as_bytes()).unwrap() {
        Step::Done { client_key, .. } => client_key,
        Step::Challenge(_) => panic!("a third challenge"),
    }
}
