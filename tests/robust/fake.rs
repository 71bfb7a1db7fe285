//! A server that breaks the protocol: that session ends, with 08P01 where the client can read it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::common::raw::Got;
use crate::common::{Client, PATIENCE, Proxy, eventually, msg};
use crate::{no_panic, outline, settled, startup, usage};

/// What the server does with a session; the client names it by its user.
const ACTS: [(&str, &[&str]); 16] = [
    // Before it has let the client in.
    // What it says is passed on, whatever it is: the client sees what it would see without the proxy.
    ("closes", &["closed"]),
    ("answers in HTTP", &["torn"]),
    ("sends a length of two", &["torn"]),
    ("sends a negative length", &["torn"]),
    ("sends half an answer", &["torn"]),
    ("sends an empty authentication", &["R[0] ", "closed"]),
    ("offers SASL in rubbish", &["E FATAL 57P03 the database server ended the connection during login", "closed"]),
    ("closes after a question", &["R[8] \\x00\\x00\\x00\\x05salt", "closed"]),
    ("asks for a secret and talks rubbish", &["R[8] \\x00\\x00\\x00\\x05salt", "torn"]),
    // After login.
    ("sends a bad length", &["R[4] \\x00\\x00\\x00\\x00", "Z[1] I", "E FATAL 08P01", "closed"]),
    (
        "sends a bad length within a result",
        &["R[4] \\x00\\x00\\x00\\x00", "Z[1] I", "C[9] SELECT 1\\x00", "E FATAL 08P01", "closed"],
    ),
    ("closes within a row", &["R[4] \\x00\\x00\\x00\\x00", "Z[1] I", "torn"]),
    (
        "sends what nobody asked for",
        &["R[4] \\x00\\x00\\x00\\x00", "Z[1] I", "y[5] what?", "Z[1] I", "Z[1] I", "closed"],
    ),
    ("lets in with a bad length", &["closed"]),
    ("says goodbye", &["R[4] \\x00\\x00\\x00\\x00", "Z[1] I", "E FATAL 57P01 bye", "closed"]),
    ("works", &["R[4] \\x00\\x00\\x00\\x00", "Z[1] I", "I[0] ", "Z[1] I", "closed"]),
];

const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const READY: &[u8] = b"Z\0\0\0\x05I";

fn act(mut socket: TcpStream) -> std::io::Result<()> {
    let mut len = [0; 4];
    socket.read_exact(&mut len)?;
    let mut packet = vec![0; u32::from_be_bytes(len) as usize - 4];
    socket.read_exact(&mut packet)?;
    let text = String::from_utf8_lossy(&packet).into_owned();
    let user = text.split('\0').skip_while(|part| *part != "user").nth(1).unwrap_or_default().to_owned();
    let salt = b"R\0\0\0\x0c\0\0\0\x05salt";
    match user.as_str() {
        "closes" => return Ok(()),
        "answers in HTTP" => return socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "sends a length of two" => return socket.write_all(b"R\0\0\0\x02"),
        "sends a negative length" => return socket.write_all(b"R\xff\xff\xff\xff\0\0\0\0"),
        "sends half an answer" => return socket.write_all(&OK[..6]),
        "sends an empty authentication" => return socket.write_all(b"R\0\0\0\x04"),
        "offers SASL in rubbish" => return socket.write_all(b"R\0\0\0\x0c\0\0\0\x0aSCRA"),
        "closes after a question" => return socket.write_all(salt),
        "asks for a secret and talks rubbish" => return socket.write_all(&[salt, &b"R\x7f\xff\xff\xff"[..]].concat()),
        "lets in with a bad length" => return socket.write_all(&[OK, b"Z\0\0\0\x01"].concat()),
        _ => {}
    }
    socket.write_all(&[OK, READY].concat())?;
    let mut step = |bytes: &[u8]| -> std::io::Result<()> {
        // Every answer waits for a question, so that it is read on its own.
        let mut header = [0; 5];
        socket.read_exact(&mut header)?;
        if header[0] == b'X' {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        let mut body = vec![0; u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize - 4];
        socket.read_exact(&mut body)?;
        socket.write_all(bytes)
    };
    match user.as_str() {
        "sends a bad length" => step(b"D\0\0\0\x03"),
        "sends a bad length within a result" => {
            step(b"C\0\0\0\x0dSELECT 1\0")?;
            step(b"D\x80\0\0\0")
        }
        "sends a bad length behind half a row" => {
            step(b"D\0\0\0\x0f\0")?;
            step(b"\x01\0\0\0\x05helloZ\0\0\0\0")
        }
        "closes within a row" => step(b"D\0\0\0\x64\0\x01"),
        "sends what nobody asked for" => {
            step(b"y\0\0\0\x09what?")?;
            step(READY)?;
            step(READY)
        }
        "says goodbye" => step(b"E\0\0\0\x1fSFATAL\0VFATAL\0C57P01\0Mbye\0\0"),
        _ => loop {
            step(&[b"I\0\0\0\x04", READY].concat())?;
        },
    }
}

fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || act(socket));
        }
    });
    port
}

fn conversation(proxy: &Proxy, user: &str) -> Vec<String> {
    let mut client = Client::connect(&proxy.tcp());
    client.send(&startup(user));
    let mut seen = Vec::new();
    // One question after the other, as long as there is an answer.
    loop {
        let frame = match client.frame_within(PATIENCE) {
            Got::Frame(frame) => frame,
            got => {
                seen.push(if matches!(got, Got::Closed) { "closed" } else { "torn" }.to_owned());
                return seen;
            }
        };
        let last = seen.len();
        seen.push(crate::sketch(&frame));
        match frame.tag {
            b'R' | b'I' => {}
            b'Z' if user == "works" && last > 2 => {
                client.send(&msg::terminate());
                client.finish_writing();
            }
            _ => client.send(&msg::query("")),
        }
    }
}

#[test]
fn a_server_that_breaks_the_protocol_hurts_one_session_only() {
    let server = format!("host=127.0.0.1 port={} sslmode=disable", serve());
    let proxy = Proxy::start_for(&server, "");
    let mut bystander = Client::connect(&proxy.tcp());
    bystander.send(&startup("works"));
    bystander.until_ready();
    proxy.metrics();
    let before = settled(proxy.pid());
    for (user, expected) in ACTS {
        let seen = conversation(&proxy, user);
        let agree = seen.len() == expected.len() && seen.iter().zip(expected).all(|(got, want)| got.starts_with(want));
        assert!(agree, "a server that {user}: {seen:#?}");
        assert_eq!(bystander.query("").len(), 2, "while the server {user}");
    }
    eventually("all to be over", || (proxy.metric("pgcanon_sessions") == 1.0).then_some(()));
    eventually("nothing to be held", || (usage(proxy.pid()) == before).then_some(()));
    no_panic(&proxy);
    let bad_lengths = 3.0;
    let unasked = 1.0;
    assert_eq!(proxy.metric("pgcanon_unfollowed_sessions_total"), bad_lengths + unasked);
}

#[test]
fn no_error_is_put_into_half_a_row() {
    let proxy = Proxy::start_for(&format!("host=127.0.0.1 port={} sslmode=disable", serve()), "");
    let mut client = Client::connect(&proxy.tcp());
    client.send(&startup("sends a bad length behind half a row"));
    client.until_ready();
    client.send(&msg::sync());
    let half: Vec<Option<u8>> = (0..6).map(|_| client.byte()).collect();
    assert_eq!(half, b"D\0\0\0\x0f\0".map(Some));
    client.send(&msg::sync());
    proxy.wait_log("the server broke the protocol");
    // What is left of the row may come or not; an error in its place would be read as part of it.
    let rest: Vec<u8> = std::iter::from_fn(|| client.byte()).collect();
    assert!(b"\x01\0\0\0\x05hello".starts_with(&rest), "{}", rest.escape_ascii());
    no_panic(&proxy);
}

#[test]
fn a_server_with_broken_tls_is_a_server_that_cannot_be_reached() {
    for answer in [&b"S"[..], b"Srubbish that is no handshake", b"N", b"E\0\0\0\x04", b"x", b""] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let answered = answer.to_vec();
        std::thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                let _ = socket.read_exact(&mut [0; 8]).and_then(|()| socket.write_all(&answered));
            }
        });
        let proxy = Proxy::start_for(&format!("host=127.0.0.1 port={port} sslmode=require"), "");
        let mut client = Client::connect(&proxy.tcp());
        client.send(&startup("postgres"));
        let told = outline(&mut client);
        assert_eq!(
            told,
            ["E FATAL 57P03 the proxy cannot reach the database server", "closed"],
            "{}",
            answer.escape_ascii()
        );
        no_panic(&proxy);
    }
}
