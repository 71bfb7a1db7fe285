//! The startup packet reaches the server as it came, and what the server makes of it comes back as it is.

use crate::client_leg::section;
use crate::common::raw::{Frame, Got};
use crate::common::{Addr, Client, Cluster, PATIENCE, Pg, Proxy, msg};
use crate::site::{PASSWORD, Site, conninfo, psql, tls};
use crate::stub::Stub;

const LATEST: u32 = msg::version(3, 2);
const GREASE: u32 = msg::version(3, 9999);

/// A body of NUL-terminated strings, with the terminator of the list.
fn list(words: &[&[u8]]) -> Vec<u8> {
    let mut body: Vec<u8> = words.iter().flat_map(|word| [word, &b"\0"[..]].concat()).collect();
    body.push(0);
    body
}

/// Packets that a proxy could be tempted to tidy up.
fn packets() -> Vec<Vec<u8>> {
    let long = vec![b'x'; 9000];
    let bodies: [&[&[u8]]; 9] = [
        &[b"user", b"joe", b"database", b"shop", b"client_encoding", b"SJIS", b"options", b"-c geqo=off -c x.y=a\\ b"],
        // Not in the usual order, twice, empty, in capitals.
        &[b"zz", b"1", b"database", b"", b"user", b"joe", b"user", b"jim", b"DateStyle", b"ISO, DMY", b"a", b"\r\n\t"],
        &[b"user", b"j\xf6rg \xff\xfe", b"database", b"\x83\x65\x83\x58\x83\x67", b"application_name", b"\xe9\x80"],
        &[b"user", b"joe", b"_pq_.command_tag_format", b"1", b"_pq_.whatever", b""],
        &[b"user", b"joe", b"replication", b"database"],
        &[b"user", b"joe", b"replication", b"maybe"],
        &[b"user", b"joe", b"options", &long],
        &[b"application_name", b"nobody at all"],
        &[],
    ];
    let versions = [msg::version(3, 0), LATEST, GREASE, msg::version(2, 0), msg::version(4, 0), 0];
    let mut packets: Vec<_> = bodies.iter().map(|words| msg::packet(msg::version(3, 0), &list(words))).collect();
    packets.extend(versions.iter().map(|version| msg::packet(*version, &list(bodies[0]))));
    // No list at all, and a list that does not end.
    packets.push(msg::packet(msg::version(3, 0), b""));
    packets.push(msg::packet(msg::version(3, 0), b"user\0joe\0database"));
    packets.push(msg::packet(msg::version(3, 0), b"user\0joe\0\0more behind the end\0"));
    packets
}

#[test]
fn every_byte_arrives_and_every_answer_returns() {
    let site = Site::shared();
    let stub = Stub::start();
    let proxy = Proxy::start_for(&stub.server(), &section("allow", &site, &site.server));
    let answer = [
        msg::frame(b'v', b"\0\x03\0\0\0\0\0\x01_pq_.whatever\0"),
        msg::frame(b'R', &[0; 4]),
        msg::frame(b'S', b"odd\0\xff\xfe\0"),
        msg::frame(b'K', &[7; 260]),
        msg::frame(b'N', b"SNOTICE\0Mfor the ride\0\0"),
        msg::frame(b'Z', b"I"),
    ];
    for (i, packet) in packets().into_iter().enumerate() {
        let mut client = match i % 3 {
            0 => Client::connect(&proxy.tcp()),
            1 => Client::connect(&proxy.unix()),
            _ => tls(&proxy.tcp(), site.certs.client_config(None, None)),
        };
        client.send(&packet);
        let mut heard = stub.heard();
        assert_eq!(heard.packet.escape_ascii().to_string(), packet.escape_ascii().to_string());
        heard.answer(&answer.concat());
        for expected in &answer {
            let Frame { tag, body } = client.frame();
            assert_eq!(msg::frame(tag, &body), *expected);
        }
    }
}

#[test]
fn what_follows_the_startup_packet_at_once_is_not_lost() {
    let site = Site::shared();
    let stub = Stub::start();
    let proxy = Proxy::start_for(&stub.server(), &section("allow", &site, &site.server));
    let startup = msg::startup(msg::version(3, 0), &[("user", "joe")]);
    let early = msg::together(&[msg::query("select 1"), msg::query("select 2")]);
    for encrypted in [false, true] {
        let mut client = match encrypted {
            false => Client::connect(&proxy.tcp()),
            true => tls(&proxy.tcp(), site.certs.client_config(None, None)),
        };
        client.send(&msg::together(&[startup.clone(), early.clone()]));
        let mut heard = stub.heard();
        heard.answer(&[msg::frame(b'R', &[0; 4]), msg::frame(b'Z', b"I")].concat());
        assert_eq!(heard.more(early.len()), early);
    }
}

#[test]
fn a_server_that_hangs_up_during_the_login_is_seen_to_do_so() {
    let stub = Stub::start();
    let proxy = Proxy::start_for(&stub.server(), "");
    let startup = msg::startup(msg::version(3, 0), &[("user", "joe")]);
    let half_a_frame = &msg::frame(b'R', &[0; 4])[..7];
    let oversized = [&b"R"[..], &u32::MAX.to_be_bytes()].concat();
    for said in [&b""[..], half_a_frame, &oversized, b"R\0\0\0\x01", b"R\0\0\0\x04"] {
        let mut client = Client::connect(&proxy.tcp());
        client.send(&startup);
        stub.heard().answer(said);
        // What it said, be it a message or not, and then the end: as without the proxy.
        let got: Vec<u8> = std::iter::from_fn(|| client.byte()).collect();
        assert_eq!(got.escape_ascii().to_string(), said.escape_ascii().to_string());
    }
}

/// The first frames that a server answers with, up to the end of the login or the error.
fn answers(addr: &Addr, packet: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut client = Client::connect(addr);
    client.send(packet);
    let mut frames = Vec::new();
    while let Got::Frame(frame) = client.frame_within(PATIENCE) {
        let last = matches!(frame.tag, b'Z' | b'E');
        // A key is a secret of its session; its length is not. The server's file and line say nothing new.
        let body = if frame.tag == b'K' { vec![0; frame.body.len()] } else { frame.body };
        frames.push((frame.tag, body));
        if last {
            break;
        }
    }
    frames
}

#[test]
fn versions_and_options_are_the_servers_to_negotiate() {
    for pg in [Pg::V15, Pg::V18] {
        let cluster = Cluster::shared(pg);
        let proxy = Proxy::start(&cluster, "");
        let params: [&[u8]; 4] = [b"user", b"postgres", b"database", b"postgres"];
        let plain = list(&params);
        let with_options = list(&[&params[..], &[b"_pq_.one", b"1", b"_pq_.two", b"2"]].concat());
        let unknown = list(&[&params[..], &[b"no_such_parameter", b"1"]].concat());
        let broken = list(&[&params[..], &[b"client_encoding", b"no such"]].concat());
        let mut negotiated = 0;
        for (version, body) in [
            (msg::version(3, 0), &plain),
            (msg::version(3, 1), &plain),
            (LATEST, &plain),
            (GREASE, &plain),
            (msg::version(3, 0), &with_options),
            (GREASE, &with_options),
            (msg::version(4, 0), &plain),
            (msg::version(3, 0), &unknown),
            (msg::version(3, 0), &broken),
            (msg::version(3, 0), &vec![]),
            (msg::version(3, 0), &b"user\0postgres".to_vec()),
        ] {
            let packet = msg::packet(version, body);
            let (ours, theirs) = (answers(&proxy.tcp(), &packet), answers(&cluster.unix(), &packet));
            assert_eq!(ours, theirs, "{pg:?} {}", packet.escape_ascii());
            negotiated += theirs.iter().filter(|(tag, _)| *tag == b'v').count();
        }
        assert!(negotiated >= 3, "the server was asked for what it does not know: {negotiated}");
    }
}

/// Everything up to the close, whatever its form.
fn last_words(addr: &Addr, packet: &[u8]) -> String {
    let mut client = Client::connect(addr);
    client.send(packet);
    std::iter::from_fn(|| client.byte()).collect::<Vec<u8>>().escape_ascii().to_string()
}

#[test]
fn an_error_in_the_format_of_protocol_2_is_an_error() {
    let cluster = Cluster::shared(Pg::V15);
    let packet = msg::packet(msg::version(2, 0), &[0; 288]);
    let proxy = Proxy::start(&cluster, "");
    let theirs = last_words(&cluster.unix(), &packet);
    assert!(theirs.starts_with("EFATAL:  unsupported frontend protocol 2.0"), "{theirs}");
    assert_eq!(last_words(&proxy.tcp(), &packet), theirs);
    proxy.wait_log("refused by the server");
    proxy.wait_log("unsupported frontend protocol 2.0");
    // To everybody a server speaks like that when it has no process left for the session.
    let stub = Stub::start();
    let proxy = Proxy::start_for(&stub.server(), "");
    let conninfo = conninfo(&proxy.tcp(), "joe", "sslmode=disable");
    let psql = std::thread::spawn(move || psql(&conninfo, ""));
    stub.heard().answer(b"Ecould not fork new process for connection: Cannot allocate memory\n\0");
    let told = psql.join().expect("psql ends").expect_err("no session");
    assert_eq!(told, "could not fork new process for connection: Cannot allocate memory");
}

#[test]
fn a_long_key_of_a_newer_protocol_cancels() {
    let cluster = Cluster::shared(Pg::V18);
    let proxy = Proxy::start(&cluster, "");
    let mut client = Client::connect(&proxy.tcp());
    client.send(&msg::startup(LATEST, &[("user", "postgres"), ("database", "postgres")]));
    let (pid, key) = client.until_ready().iter().find(|frame| frame.tag == b'K').expect("a key").key();
    assert_eq!(key.len(), 32);
    client.send(&msg::query("select pg_sleep(600)"));
    crate::common::eventually("the statement to run", || {
        let sql = format!("select wait_event from pg_stat_activity where pid = {pid}");
        (cluster.psql(&sql) == "PgSleep").then_some(())
    });
    Client::connect(&proxy.tcp()).send(&msg::cancel(pid, &key));
    let frames = client.until_ready();
    let error = frames.iter().find(|frame| frame.tag == b'E').expect("an error");
    assert_eq!(error.field(b'C').as_deref(), Some("57014"));
}

#[test]
fn settings_of_a_connection_string_arrive() {
    let site = Site::shared();
    let proxy = site.proxy("", "");
    let more = "options='-c statement_timeout=4321 -c my.own=a\\\\ b' client_encoding=LATIN1 application_name='x y'";
    let sql = "select current_setting('statement_timeout'), current_setting('my.own'), \
               current_setting('client_encoding'), current_setting('application_name')";
    assert_eq!(psql(&conninfo(&proxy.tcp(), "scramy", more), sql).as_deref(), Ok("4321ms|a b|LATIN1|x y"));
}

#[test]
fn replication_connections_are_let_through() {
    let site = Site::shared();
    let relay = site.proxy("sslmode=disable", "");
    let scram = site.proxy("sslmode=disable", &format!("[node]\n{}", site.control("control")));
    let id = site.cluster.psql("select system_identifier from pg_control_system()");
    for (proxy, replication) in [(&relay, "database"), (&relay, "true"), (&scram, "database"), (&scram, "1")] {
        let conninfo = conninfo(&proxy.tcp(), "scramy", &format!("replication={replication}"));
        let told = psql(&conninfo, "IDENTIFY_SYSTEM").expect("let in");
        assert_eq!(told.split('|').next(), Some(id.as_str()), "{replication}");
        // SQL is for those of a database only.
        assert_eq!(psql(&conninfo, "select 1").is_ok(), replication == "database", "{replication}");
    }
    // A role without the right, and one that pg_hba.conf does not know for replication.
    for (user, replication) in [("passy", "database"), ("passy", "true")] {
        let told = [site.cluster.tcp(), relay.tcp()].map(|addr| {
            let more = format!("sslmode=disable replication={replication}");
            psql(&conninfo(&addr, user, &more), "IDENTIFY_SYSTEM").expect_err("refused")
        });
        assert_eq!(told[0], told[1]);
    }
}

#[test]
fn a_replication_stream_flows_both_ways() {
    let site = Site::shared();
    let proxy = site.proxy("sslmode=disable", "[[allow]]\nuser = \"scramy\"\n");
    let mut client = Client::connect(&proxy.tcp());
    let params = [("user", "scramy"), ("database", "postgres"), ("replication", "true")];
    client.send(&msg::startup(msg::version(3, 0), &params));
    crate::common::scram::authenticate(&mut client, PASSWORD, |_| unreachable!("SCRAM is asked for"));
    client.until_ready();
    let start = client.rows("IDENTIFY_SYSTEM")[0][2].clone().expect("a position");
    client.send(&msg::query(format!("START_REPLICATION PHYSICAL {start}")));
    assert_eq!(client.frame().tag, b'W');
    site.cluster.psql("select pg_logical_emit_message(false, 'a', 'through the pipe'), pg_switch_wal()");
    let mut stream = Vec::new();
    while !stream.windows(16).any(|bytes| bytes == b"through the pipe") {
        let frame = client.frame();
        assert_eq!(frame.tag, b'd');
        stream.extend(frame.body);
    }
    client.send(&msg::copy_done());
    let last: Vec<u8> = client.until_ready().iter().map(|frame| frame.tag).filter(|tag| *tag != b'd').collect();
    assert_eq!(last.escape_ascii().to_string(), "cCCZ");
}
