//! The second byte of a character is not ASCII, whatever it looks like.

use pgcanon::sql::{ClientEncoding, LexOptions};

use crate::session::{ON, SERVERS, Session};
use crate::statements::compare;

/// Two-byte characters that end in a backslash, a letter or an operator.
fn characters(session: &mut Session) {
    for (encoding, name, characters) in [
        (ClientEncoding::Sjis, "sjis", [b"\x95\x5c", b"\x83\x41", b"\x83\x7c"]),
        (ClientEncoding::ShiftJis2004, "shift_jis_2004", [b"\x95\x5c", b"\x83\x41", b"\x83\x7c"]),
        (ClientEncoding::Big5, "big5", [b"\xa5\x5c", b"\xa4\x41", b"\xa4\x7c"]),
        (ClientEncoding::Gbk, "gbk", [b"\x95\x5c", b"\xb0\x41", b"\x81\x7c"]),
        (ClientEncoding::Uhc, "uhc", [b"\xb0\xa1", b"\x81\x41", b"\x81\x61"]),
        (ClientEncoding::Gb18030, "gb18030", [b"\x95\x5c", b"\x81\x41", b"\x81\x7c"]),
    ] {
        for conforming in [true, false] {
            let opts = LexOptions { standard_conforming_strings: conforming, encoding };
            session.settings(opts, name);
            for character in characters {
                for template in [
                    "select e'X'; select 2",
                    "select e';X\\'X;'; select 2",
                    "select 'X'; select 'X;'",
                    "select X from (select 1 as X) x; select 2",
                    "select $X$;$X$; select $X$X;$$X$;",
                    "select \"X;\" from (select 1 as \"X;\") x; select 1 as X;/*X;*/;--X;",
                    "prepare X as select 1; deallocate X",
                ] {
                    let mut sql = Vec::new();
                    for b in template.bytes() {
                        if b == b'X' { sql.extend_from_slice(character) } else { sql.push(b) }
                    }
                    assert!(compare(session, &sql, opts), "{name} {}: {:?}", sql.escape_ascii(), session.query(&sql));
                }
            }
        }
    }
    // What becomes a backslash and a tilde on its way into the server.
    let opts = LexOptions { encoding: ClientEncoding::ShiftJis2004, ..ON };
    session.settings(opts, "shift_jis_2004");
    for sql in [
        &b"select e'\x81\x5f';a;'; select 2"[..],
        b"select 'a'\x81\xb0e'\\';'; select 2",
        b"select a\x81\xb0e'\\';' from (select '' as a) x; select 2",
    ] {
        assert!(compare(session, sql, opts), "{}: {:?}", sql.escape_ascii(), session.query(sql));
    }
    session.settings(ON, "utf8");
}

#[test]
fn the_second_byte_of_a_character_is_not_ascii() {
    for pg in SERVERS {
        characters(&mut Session::start(pg));
    }
}
