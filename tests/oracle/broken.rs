//! Frames no client should send: the reaction is the server's, and only this connection ends.

use crate::common::msg::{self, SSL_REQUEST, frame, packet, query, startup, version};
use crate::common::oracle::{same, states, tags};

/// A header that claims `len`, and a body that has nothing to do with it.
fn lying(tag: u8, len: i32, body: &[u8]) -> Vec<u8> {
    [&[tag], &len.to_be_bytes()[..], body].concat()
}

#[test]
fn lengths_that_cannot_be() {
    for len in [i32::MIN, -1, 0, 1, 3] {
        same(|c| {
            c.login();
            c.send(&lying(b'Q', len, b"select 1\0"));
            c.closed();
        });
    }
    // longer than the server takes for this type of message (1 GiB for a query, 10 000 bytes for Sync and its like)
    for (tag, len) in [(b'Q', i32::MAX), (b'd', 0x4000_0004), (b'S', 10_005), (b'X', 100_000), (b'p', 100_000)] {
        same(|c| {
            c.login();
            c.send(&lying(tag, len, b""));
            c.closed();
        });
    }
}

#[test]
fn the_longest_sync_and_bodies_where_none_belongs() {
    same(|c| {
        c.login();
        assert_eq!(states(&c.query("begin")).len(), 0);
        c.send(&frame(b'S', &[7; 9_000]));
        c.ready();
        c.send(&frame(b'H', b"body"));
        c.send(&msg::sync());
        c.ready();
    });
}

#[test]
fn bodies_that_do_not_parse() {
    for bad in [
        frame(b'Q', b""),
        frame(b'Q', b"select 1"),
        frame(b'Q', b"select 1\0select 2\0"),
        frame(b'P', b"name only\0"),
        frame(b'P', b"\0select 1\0\0\x05\0\0"),
        frame(b'P', b"\0select 1\0\xff\xff"),
        frame(b'B', b"\0\0\0\0\0\x01\0\0\0\x09short"),
        frame(b'B', b"\0\0\xff\xff"),
        frame(b'B', b""),
        frame(b'D', b""),
        frame(b'D', b"Sunterminated"),
        frame(b'E', b"\0\0\0"),
        frame(b'C', b"S"),
        frame(b'F', b"\0\0"),
    ] {
        same(|c| {
            c.login();
            c.pipeline(&[bad.clone(), msg::sync(), query("select 'goes on'")]);
            // some of these the server survives, some end the session: whichever it is must be the same
            if bad[0] != b'Q' && bad[0] != b'F' {
                assert_eq!(tags(&c.ready()), "EZ", "{}", bad.escape_ascii());
            }
            c.send(&msg::terminate());
            c.closed();
        });
    }
}

#[test]
fn torn_off_at_every_byte() {
    let whole = [msg::parse("s", "select 1", &[23]), msg::bind("", "s", &[]), query("select 2")].concat();
    for cut in [1, 2, 4, 5, 6, 12, 25, 26, 30, whole.len() - 1] {
        same(|c| {
            c.login();
            c.send(&whole[..cut]);
            c.client.finish_writing();
            c.closed();
        });
    }
}

#[test]
fn torn_off_in_the_startup() {
    let whole = startup(version(3, 0), &[("user", "postgres"), ("database", "postgres")]);
    for cut in [0, 1, 3, 4, 7, 8, 20, whole.len() - 1] {
        same(|c| {
            c.send(&whole[..cut]);
            c.client.finish_writing();
            c.closed();
        });
    }
}

#[test]
fn startup_packets_that_cannot_be() {
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        lying(0, 0x0000_0700, b""),
        (-1i32).to_be_bytes().to_vec(),
        0i32.to_be_bytes().to_vec(),
        [&7i32.to_be_bytes()[..], b"abc"].concat(),
        [&10_009i32.to_be_bytes()[..], &version(3, 0).to_be_bytes()[..]].concat(),
        i32::MAX.to_be_bytes().to_vec(),
        packet(version(3, 0), b""),
        packet(version(3, 0), b"\0"),
        packet(version(3, 0), b"user"),
        packet(version(3, 0), b"user\0postgres\0"),
        packet(version(3, 0), b"user\0postgres\0database\0\0"),
        packet(version(3, 0), b"user\0postgres\0\0trailing\0"),
        packet(version(3, 0), b"database\0postgres\0\0"),
        packet(version(3, 0), b"user\0\0\0"),
        packet(version(3, 0), b"\0\0\0"),
        packet(SSL_REQUEST, b"too long"),
        packet(msg::CANCEL_REQUEST, b""),
        packet(msg::CANCEL_REQUEST, b"1234"),
        packet(version(0, 0), b"\0"),
        packet(version(1, 0), b"\0"),
        packet(version(2, 0), &[0; 288]),
        packet(version(4, 0), b"user\0postgres\0\0"),
        packet(version(1234, 1), b"\0"),
        packet(u32::MAX, b"user\0postgres\0\0"),
    ] {
        same(|c| {
            c.send(&bytes);
            c.client.finish_writing(); // some of these announce more than they bring
            c.closed();
        });
    }
}
