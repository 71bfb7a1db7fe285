//! PostgreSQL as the oracle for SCRAM and channel binding: the same messages to a real server and to ours, the same answers.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;

use pgcanon::wire::scram::{
    ClientKey, InitialResponse, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramClient, ScramServer, Step, Verifier,
    sasl_payload,
};
use pgcanon::wire::tls::{ClientTls, ClientTlsOptions, RootSource, ServerCheck, server_channel_binding};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const BIN: &str = "/usr/lib/postgresql/15/bin";
const PASSWORD: &str = "correct horse";

// === a server with TLS and SCRAM ===

struct Cluster {
    dir: TempDir,
    port: u16,
}

/// A command as the owner of the cluster: servers refuse to run as root.
fn as_owner(program: &str) -> Command {
    if am_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn output(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

impl Cluster {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let this = Self { dir, port };
        let data = this.data();
        output(as_owner(&format!("{BIN}/initdb")).args(["-U", "postgres", "-A", "trust", "-N", "-D"]).arg(&data));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(data.join("server.crt"), made.cert.pem()).unwrap();
        let key = data.join("server.key");
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        if am_root() {
            use std::os::unix::fs::MetadataExt as _;
            let owner = std::fs::metadata(&data).unwrap().uid();
            chown(&key, Some(owner), None).unwrap();
        }
        std::fs::write(data.join("pg_hba.conf"), "local all all trust\nhost all all all scram-sha-256\n").unwrap();
        let options =
            format!("-p {port} -k {} -c listen_addresses=127.0.0.1 -c ssl=on -c fsync=off", this.dir.path().display());
        let log = this.dir.path().join("log");
        output(
            as_owner(&format!("{BIN}/pg_ctl"))
                .arg("-D")
                .arg(&data)
                .arg("-l")
                .arg(log)
                .args(["-o", &options, "-w", "start"]),
        );
        this.sql(&format!("create role alice login password '{PASSWORD}'"));
        this
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn sql(&self, text: &str) -> String {
        let port = self.port.to_string();
        let host = self.dir.path();
        output(
            Command::new(format!("{BIN}/psql"))
                .arg("-h")
                .arg(host)
                .args(["-p", &port, "-U", "postgres", "-Atqc", text]),
        )
    }

    fn verifier(&self) -> Verifier {
        Verifier::parse(self.sql("select rolpassword from pg_authid where rolname = 'alice'").trim()).unwrap()
    }

    async fn connect(&self, user: &str, tls: bool) -> Leg {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let (mut stream, binding): (Box<dyn Socket>, _) = if tls {
            socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
            assert_eq!(socket.read_u8().await.unwrap(), b'S');
            let options = ClientTlsOptions {
                mode: ServerCheck::Require,
                roots: RootSource::None,
                client_cert: None,
                crl: None,
                direct: false,
            };
            let stream = ClientTls::load(&options).unwrap().connect("localhost", socket).await.unwrap();
            let binding = server_channel_binding(stream.get_ref().1).unwrap();
            (Box::new(stream), Some(binding))
        } else {
            (Box::new(socket), None)
        };
        let body = [&[0, 3, 0, 0], b"user\0".as_slice(), user.as_bytes(), b"\0database\0postgres\0\0"].concat();
        stream.write_i32(i32::try_from(body.len() + 4).unwrap()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        Leg { stream, binding }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ =
            as_owner(&format!("{BIN}/pg_ctl")).arg("-D").arg(self.data()).args(["-m", "immediate", "stop"]).output();
    }
}

trait Socket: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

/// One connection to the server, at the point where it asks for SASL.
struct Leg {
    stream: Box<dyn Socket>,
    binding: Option<Vec<u8>>,
}

impl Leg {
    async fn read(&mut self) -> (u8, Vec<u8>) {
        let tag = self.stream.read_u8().await.unwrap();
        let length = self.stream.read_i32().await.unwrap();
        let mut body = vec![0; usize::try_from(length - 4).unwrap()];
        self.stream.read_exact(&mut body).await.unwrap();
        (tag, body)
    }

    async fn send(&mut self, body: &[u8]) {
        self.stream.write_u8(b'p').await.unwrap();
        self.stream.write_i32(i32::try_from(body.len() + 4).unwrap()).await.unwrap();
        self.stream.write_all(body).await.unwrap();
        self.stream.flush().await.unwrap();
    }
}

// === scripts ===

/// What became of an exchange, as the client sees it.
#[derive(Debug, PartialEq)]
enum End {
    Challenge,
    Admitted,
    Refused { sqlstate: String, message: String, detail: Option<String> },
}

fn refused(body: &[u8]) -> End {
    let mut end = (String::new(), String::new(), None);
    for field in body.split(|b| *b == 0).filter(|field| !field.is_empty()) {
        let text = String::from_utf8(field[1..].to_vec()).unwrap();
        match field[0] {
            b'C' => end.0 = text,
            b'M' => end.1 = text,
            b'D' => end.2 = Some(text),
            _ => {}
        }
    }
    End::Refused { sqlstate: end.0, message: end.1, detail: end.2 }
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

async fn against_postgres(cluster: &Cluster, user: &str, script: &Script) -> (Vec<u8>, End) {
    let mut leg = cluster.connect(user, script.tls).await;
    let (tag, offer) = leg.read().await;
    assert_eq!(tag, b'R');
    leg.send(&script.first).await;
    let end = match leg.read().await {
        (b'E', body) => refused(&body),
        (_, challenge) => match script.last {
            None => End::Challenge,
            Some(last) => {
                leg.send(&filled(last, &challenge)).await;
                match leg.read().await {
                    (b'E', body) => refused(&body),
                    _ => End::Admitted,
                }
            }
        },
    };
    (offer, end)
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
    let end = run().unwrap_or_else(|error: pgcanon::wire::scram::ScramError| End::Refused {
        sqlstate: error.sqlstate().into(),
        message: error.message(user),
        detail: error.detail(),
    });
    (offer, end)
}

const ZEROS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

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

#[tokio::test]
async fn every_message_is_answered_as_the_server_answers_it() {
    let cluster = Cluster::start();
    let verifier = cluster.verifier();
    let binding = cluster.connect("alice", true).await.binding;
    for script in scripts() {
        let theirs = against_postgres(&cluster, "alice", &script).await;
        let ours = against_ours(verifier.clone(), "alice", binding.clone().filter(|_| script.tls), &script);
        let shown = (script.first.escape_ascii().to_string(), script.last);
        assert_eq!((&ours.0, &ours.1), (&theirs.0, &theirs.1), "{shown:?}");
    }
    // A user who is not there, whose proof is looked at all the same.
    let last = Box::leak(format!("c=biws,r={{n}},p={ZEROS}").into_boxed_str());
    let script = script(false, SCRAM_SHA_256, "n,,n=,r=x", Some(last));
    let theirs = against_postgres(&cluster, "nobody", &script).await;
    let ours = against_ours(Verifier::mock(b"secret", "nobody"), "nobody", None, &script);
    assert_eq!(ours, theirs);

    // A key recovered from a client opens the server, with the binding that the server computes for itself.
    let key = recovered(&verifier);
    for tls in [false, true] {
        let mut leg = cluster.connect("alice", tls).await;
        let mut login = ScramClient::new(key.clone(), verifier.clone(), leg.binding.clone()).unwrap();
        let first = login.on_offer(&leg.read().await.1).unwrap();
        let mechanism = if tls { SCRAM_SHA_256_PLUS } else { SCRAM_SHA_256 };
        assert_eq!(InitialResponse::parse(&first).unwrap().mechanism, mechanism.as_bytes());
        leg.send(&first).await;
        let answer = login.on_continue(&leg.read().await.1).unwrap();
        leg.send(&answer).await;
        login.on_final(&leg.read().await.1).unwrap();
        assert_eq!(leg.read().await, (b'R', vec![0, 0, 0, 0]));
    }
}

/// The key as our server recovers it from a client that has the password.
fn recovered(verifier: &Verifier) -> ClientKey {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ring::{digest, hmac, pbkdf2};
    let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec();
    let mut server = ScramServer::new(verifier.clone(), None).unwrap();
    let first = script(false, SCRAM_SHA_256, "n,,n=,r=x", None).first;
    let Step::Challenge(challenge) = server.on_response(&first).unwrap() else { panic!("no challenge") };
    let server_first = String::from_utf8(sasl_payload(&challenge, false).unwrap().to_vec()).unwrap();
    let fields: Vec<_> = server_first.split(',').map(|field| &field[2..]).collect();
    let mut salted = [0; 32];
    let (salt, count) = (STANDARD.decode(fields[1]).unwrap(), fields[2].parse().unwrap());
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, count, &salt, PASSWORD.as_bytes(), &mut salted);
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let without_proof = format!("c=biws,r={}", fields[0]);
    let signature = sign(stored_key.as_ref(), format!("n=,r=x,{server_first},{without_proof}").as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    let last = format!("{without_proof},p={}", STANDARD.encode(proof));
    match server.on_response(last.as_bytes()).unwrap() {
        Step::Done { client_key, .. } => client_key,
        Step::Challenge(_) => panic!("a third challenge"),
    }
}
