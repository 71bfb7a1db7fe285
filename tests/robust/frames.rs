//! Bad input: whatever bytes come, a session ends as it would on the server, and nobody else notices.

use crate::common::{Addr, Client, msg};
use crate::{Scene, outline, startup};

/// A small generator of random numbers (xorshift), seeded, so that a failure can be had again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("it is below a usize")
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next() as u8).collect()
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A frame with a length word that is not its length.
fn lying(tag: u8, len: i32, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &len.to_be_bytes(), body].concat()
}

/// Messages that mean something, to make others of.
fn honest() -> Vec<Vec<u8>> {
    vec![
        msg::query("select 1; select 'two'"),
        msg::query("select 1/0"),
        msg::query("begin"),
        msg::query("prepare p as select 1"),
        msg::parse("s", "select $1::int", &[23]),
        msg::parse("", "select 2", &[]),
        msg::bind("", "s", &[Some(b"7")]),
        msg::bind("c", "", &[]),
        msg::describe(b'S', "s"),
        msg::describe(b'P', "c"),
        msg::execute("", 0),
        msg::execute("c", 1),
        msg::close(b'S', "s"),
        msg::close(b'P', "nobody"),
        msg::sync(),
        msg::sync(),
        msg::flush(),
        msg::function_call(810, &[]),
        msg::query("copy t from stdin"),
        msg::copy_data("1\n"),
        msg::copy_done(),
        msg::copy_fail("no"),
        msg::password("what for"),
        msg::terminate(),
    ]
}

/// A few messages, of which some are damaged.
fn damaged(random: &mut Random) -> Vec<u8> {
    let honest = honest();
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(6) {
        let mut message = random.pick(&honest).clone();
        match random.below(8) {
            0 => message.truncate(random.below(message.len())),
            1 => {
                let at = random.below(message.len());
                message[at] = random.next() as u8;
            }
            2 => {
                let len = *random.pick(&[0, 1, 3, 4, 5, 100, 1 << 20, i32::MAX, -1, i32::MIN]);
                message[1..5].copy_from_slice(&i32::to_be_bytes(len));
            }
            3 => message[0] = random.next() as u8,
            4 => message.extend(random.bytes(20)),
            _ => {}
        }
        bytes.extend(message);
    }
    bytes
}

/// Sends, ends the writing half and tells what came back.
///
/// A peer that closes before it has read everything resets the connection, and then some of its words may be lost; over a Unix
/// socket they are not.
fn answer(addr: &Addr, before: &[u8], bytes: &[u8]) -> Vec<String> {
    let mut client = Client::connect(addr);
    if !before.is_empty() {
        client.send(before);
        client.until_ready();
    }
    client.send(bytes);
    client.finish_writing();
    outline(&mut client)
}

#[test]
fn startup_packets_of_all_kinds_end_as_on_the_server() {
    let mut scene = Scene::new("");
    let packet = |len: i32, rest: &[u8]| [&len.to_be_bytes()[..], rest].concat();
    let v3 = [0, 3, 0, 0];
    let mut cases: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x00\x05hello".to_vec(),
        vec![0; 64],
        vec![0xff; 64],
        startup("nobody"),
        startup(""),
        msg::startup(msg::version(3, 0), &[]),
        msg::startup(msg::version(2, 0), &[("user", "postgres")]),
        msg::startup(msg::version(4, 0), &[("user", "postgres")]),
        msg::packet(msg::version(3, 0), b"user\0postgres"),
        msg::packet(msg::version(3, 0), b"user\0postgres\0"),
        msg::packet(msg::version(3, 0), b"user"),
        msg::packet(msg::version(3, 0), b""),
        msg::startup(msg::version(3, 0), &[("user", "postgres"), ("replication", "perhaps")]),
        msg::startup(msg::version(3, 0), &[("user", "postgres"), ("no_such_setting", "1")]),
        msg::startup(msg::version(3, 0), &[("user", "postgres"), ("options", "-c nonsense")]),
        msg::packet(msg::CANCEL_REQUEST, b""),
        msg::packet(msg::CANCEL_REQUEST, b"1234"),
        msg::packet(msg::CANCEL_REQUEST, &[1; 400]),
        msg::packet(msg::version(1234, 1), b""),
    ];
    // Whole packets on both sides of the limit.
    cases.extend([9_999, 10_000, 10_001, 10_003, 10_004, 10_005, 10_006].map(|len: usize| {
        let bare = msg::startup(msg::version(3, 0), &[("user", "postgres"), ("application_name", "")]).len();
        let name = "n".repeat(len - bare);
        msg::startup(msg::version(3, 0), &[("user", "postgres"), ("application_name", &name)])
    }));
    cases.extend([i32::MIN, -1, 0, 3, 4, 7, 8, 9, 10_000, 10_001, i32::MAX].map(|len| packet(len, &v3)));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    cases.extend((0..150).map(|_| random.bytes(100)));
    // Of plausible length, so that the bytes reach a parser.
    cases.extend((0..150).map(|i| {
        let body = random.bytes(60);
        msg::packet(if i % 3 == 0 { random.next() as u32 } else { msg::version(3, 0) }, &body)
    }));
    for bytes in &cases {
        let shown = bytes.escape_ascii();
        let expected = answer(&scene.cluster.unix(), b"", bytes);
        let got = answer(&scene.proxy.unix(), b"", bytes);
        assert_eq!(got, expected, "{shown}");
        let ended = answer(&scene.proxy.tcp(), b"", bytes);
        assert!(ended.last().is_some_and(|end| end == "closed" || Some(end) == expected.last()), "{shown}: {ended:?}");
    }
    scene.is_clean();
}

#[test]
fn two_requests_for_encryption_and_stuffed_bytes_are_refused() {
    let mut scene = Scene::new("");
    let ssl = msg::packet(msg::SSL_REQUEST, b"");
    let gss = msg::packet(msg::GSSENC_REQUEST, b"");
    for (requests, code) in [([&ssl, &ssl], "0A000"), ([&gss, &gss], "0A000")] {
        let mut client = Client::connect(&scene.proxy.tcp());
        for request in requests {
            client.send(request);
            if std::ptr::eq(request, requests[1]) {
                break;
            }
        }
        assert_eq!(client.byte(), Some(b'N'));
        client.send(requests[1]);
        let outline = outline(&mut client);
        assert!(outline[0].starts_with(&format!("E FATAL {code}")), "{outline:?}");
        assert_eq!(outline[1..], ["closed"]);
    }
    for request in [ssl, gss] {
        let mut client = Client::connect(&scene.proxy.tcp());
        client.send(&[request, startup("postgres")].concat());
        let outline = outline(&mut client);
        assert!(outline[0].starts_with("E FATAL 08P01 received unencrypted data"), "{outline:?}");
    }
    scene.is_clean();
}

#[test]
fn broken_messages_end_as_on_the_server() {
    let mut scene = Scene::new("");
    let mut cases = vec![
        lying(b'Q', -1, b"select 1\0"),
        lying(b'Q', i32::MIN, b"select 1\0"),
        lying(b'Q', 0, b"select 1\0"),
        lying(b'Q', 3, b"select 1\0"),
        lying(b'Q', 4, b""),
        lying(b'Q', 5, b"x"),
        lying(b'Q', i32::MAX, b"select 1\0"),
        lying(b'Q', 1 << 30, b"select 1\0"),
        lying(b'S', 5, b"x"),
        lying(b'S', 100_000, b""),
        lying(b'P', 4, b""),
        lying(b'B', 4, b""),
        lying(b'B', 6, b"\0\0"),
        lying(b'D', 4, b""),
        lying(b'E', 4, b""),
        lying(b'C', 4, b""),
        lying(b'F', 4, b""),
        lying(b'X', 4, b""),
        lying(b'X', 2, b""),
        lying(0, 4, b""),
        lying(b'p', 4, b""),
        [msg::query("select 1"), lying(b'?', 4, b""), msg::query("select 2")].concat(),
        [msg::parse("", "select 1", &[]), lying(b'S', -5, b"")].concat(),
        [msg::query("copy t from stdin"), lying(b'Q', 4, b""), msg::copy_done(), msg::sync()].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 100],
    ];
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    cases.extend((0..300).map(|_| damaged(&mut random)));
    cases.extend((0..60).map(|_| random.bytes(200)));
    for bytes in &cases {
        let shown = bytes.escape_ascii();
        let login = startup("postgres");
        let expected = answer(&scene.cluster.unix(), &login, bytes);
        let got = answer(&scene.proxy.unix(), &login, bytes);
        assert_eq!(got, expected, "{shown}");
        let ended = answer(&scene.proxy.tcp(), &login, bytes);
        assert!(ended.last().is_some_and(|end| end == "closed"), "{shown}: {ended:?}");
    }
    scene.is_clean();
    assert_eq!(scene.cluster.psql("select count(*) from t where a <> 1"), "0");
}

#[test]
fn bytes_during_authentication() {
    let mut scene = Scene::new("");
    let mut random = Random(0xd1b5_4a32_d192_ed03);
    let mut cases = vec![
        lying(b'p', -1, b""),
        lying(b'p', 0, b""),
        lying(b'p', 4, b""),
        lying(b'p', 1 << 30, b"x"),
        lying(b'Q', 13, b"select 1\0"),
        msg::sasl_initial("SCRAM-SHA-1", b"n,,n=,r=x"),
        msg::sasl_initial("SCRAM-SHA-256", b"rubbish"),
        msg::sasl_initial("SCRAM-SHA-256", b"n,,n=,r=fyko+d2lbbFgONRv9qkxdawL"),
        msg::sasl_initial("SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=,r=x"),
        msg::password("secret"),
        msg::sync(),
    ];
    cases.extend((0..60).map(|_| random.bytes(80)));
    cases.extend((0..60).map(|_| msg::sasl_initial("SCRAM-SHA-256", &random.bytes(60))));
    for bytes in &cases {
        for addr in scene.addrs() {
            let mut client = Client::connect(&addr);
            client.send(&startup("joe"));
            client.until(b'R');
            client.send(bytes);
            client.finish_writing();
            let outline = outline(&mut client);
            assert!(outline.last().is_some_and(|end| end == "closed"), "{}: {outline:?}", bytes.escape_ascii());
            assert!(outline.iter().all(|line| line != "Z"), "nobody is let in so: {outline:?}");
        }
    }
    scene.is_clean();
}
