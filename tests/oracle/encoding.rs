//! Clients whose text is not UTF-8: bytes are the server's to convert, nobody else's to look at.

use crate::common::msg::{bind, copy_data, copy_done, execute, parse, query, sync};
use crate::common::oracle::{same, states};

#[test]
fn latin1() {
    same(|c| {
        c.login_with(&[("client_encoding", "LATIN1")]);
        let row = c.query(b"select 'gr\xfc\xdfe' as \"\xe4\", 'x'");
        assert!(row[0].body.windows(2).any(|pair| pair == b"\xe4\0"), "the column is named in Latin-1");
        c.query(b"select length('\xfc'), octet_length('\xfc'), E'\\u00e4'");
        assert_eq!(states(&c.query("select chr(8364)")), ["22P05"]); // no euro sign in Latin-1
        c.query(b"select \"\xfc\" from pg_class");
        c.query(b"do $$ begin raise notice '\xe4\xf6\xfc'; end $$");
        c.pipeline(&[
            parse("s", b"select $1 || '\xe4'", &[25]),
            bind("", "s", &[Some(b"\xf6")]),
            execute("", 0),
            sync(),
        ]);
        c.ready();
        c.query("create temp table t (a text)");
        c.pipeline(&[query("copy t from stdin"), copy_data(b"\xe4\xf6\n"), copy_done()]);
        c.ready();
        c.query("copy t to stdout");
        c.query("set client_encoding = utf8");
        c.query("table t");
    });
}

#[test]
fn shift_jis_has_backslashes_inside_its_letters() {
    same(|c| {
        c.login_with(&[("client_encoding", "SJIS")]);
        // 0x95 0x5c is one letter, whose second byte is a backslash; 0x83 0x7c ends in a vertical bar
        c.query(b"select '\x95\x5c', E'\x95\x5c', '\x83\x7c'");
        c.query(b"select '\x95\x5c' as \"\x95\x5c\"; select '\x83\x5c'';'");
        c.query("create temp table t (a text)");
        c.pipeline(&[query("copy t from stdin"), copy_data(b"\x95\x5c\t\n"), copy_done()]);
        c.ready();
        c.pipeline(&[query("copy t from stdin"), copy_data(b"\x95\x5c\n\x83\x7c\n"), copy_done()]);
        c.ready();
        c.query("copy t to stdout");
        c.query(b"select '\x95");
        c.query("select 1");
    });
}

#[test]
fn bytes_that_are_no_text_in_any_encoding() {
    same(|c| {
        c.login();
        assert_eq!(states(&c.query(b"select '\xff\xfe'")), ["22021"]);
        c.query(b"\xff\xfe");
        c.query(b"select '\xc3'");
        c.query("set client_encoding = 'SQL_ASCII'");
        c.query(b"select '\xff'");
        c.query("select U&'\\00e4'");
        c.query("reset client_encoding");
        c.pipeline(&[parse("", b"select '\xff'", &[]), sync()]);
        c.ready();
        c.startup(&[]); // not a frame of this phase: whatever it is, the server ends it
        c.closed();
    });
    same(|c| {
        c.startup(&[("user", "postgres"), ("database", "postgres"), ("application_name", "\u{00e4}\u{1F418}")]);
        c.ready();
        c.query("show application_name");
    });
}
