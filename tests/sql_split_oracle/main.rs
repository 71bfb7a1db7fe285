//! PostgreSQL itself says how many statements a query has, what each of them did, where tokens end and how a name is kept.
#![allow(unreachable_pub, reason = "the modules of a test have no other reader")]

mod corpus;
mod made_up;
mod server;
mod tokens;

use corpus::{CONFORMING, ESCAPING, TRICKY};
use pgcanon::sql::{ClientEncoding, Effect, Effects, LexOptions, Split, effects};
use server::{Cluster, Connection};

/// The tags of a statement with this effect; none where it has no effect.
fn tags_of(effect: Effect) -> &'static [&'static str] {
    match effect {
        // What EXECUTE runs decides its tag.
        Effect::None | Effect::Execute(_) => &[],
        Effect::Begin => &["BEGIN", "START TRANSACTION"],
        Effect::Commit { .. } => &["COMMIT", "ROLLBACK"],
        Effect::Rollback { .. } | Effect::RollbackTo(_) => &["ROLLBACK"],
        Effect::PrepareTransaction => &["PREPARE TRANSACTION", "ROLLBACK"],
        Effect::Savepoint(_) => &["SAVEPOINT"],
        Effect::Release(_) => &["RELEASE"],
        Effect::Prepare(_) => &["PREPARE"],
        Effect::Deallocate(_) => &["DEALLOCATE"],
        Effect::DeallocateAll => &["DEALLOCATE ALL"],
        Effect::DiscardAll => &["DISCARD ALL"],
        Effect::Declare { .. } => &["DECLARE CURSOR"],
        Effect::CloseCursor(_) => &["CLOSE CURSOR"],
        Effect::CloseAll => &["CLOSE CURSOR ALL"],
    }
}

const ALL_TAGS: [&str; 15] = [
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "PREPARE TRANSACTION",
    "SAVEPOINT",
    "RELEASE",
    "PREPARE",
    "DEALLOCATE",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "DECLARE CURSOR",
    "CLOSE CURSOR",
    "CLOSE CURSOR ALL",
    "",
];

/// Runs a query and compares; whether the server ran all of it.
fn compare(connection: &mut Connection, sql: &[u8], opts: LexOptions) -> bool {
    let shown = sql.escape_ascii();
    let answer = connection.query(sql);
    let found = effects(sql, opts);
    let count = found.count() as usize;
    assert_eq!(Split::new(sql, opts).statements().count(), count, "{shown}");
    match &answer.error {
        // The server refused the query or stopped within it.
        Some(_) if answer.tags.is_empty() => return false,
        Some(_) => assert!(answer.tags.len() < count, "{shown}: {found:?} {answer:?}"),
        None => {
            assert_eq!(answer.tags.len(), count, "{shown}: {found:?} {answer:?}");
            assert_eq!(answer.empty, usize::from(found == Effects::Empty), "{shown}: {answer:?}");
        }
    }
    for (index, tag) in (0..).zip(&answer.tags) {
        let expected = tags_of(found.get(index));
        let agrees =
            if expected.is_empty() { !ALL_TAGS.contains(&tag.as_str()) } else { expected.contains(&tag.as_str()) };
        assert!(agrees, "{shown}: statement {index} is {:?} and answers {tag}", found.get(index));
    }
    answer.error.is_none()
}

const ON: LexOptions = LexOptions { standard_conforming_strings: true, encoding: ClientEncoding::AsciiSafe };
const OFF: LexOptions = LexOptions { standard_conforming_strings: false, encoding: ClientEncoding::AsciiSafe };

fn settings(connection: &mut Connection, opts: LexOptions, encoding: &str) {
    let conforming = if opts.standard_conforming_strings { "on" } else { "off" };
    connection.must(&format!(
        "set standard_conforming_strings = {conforming}; set backslash_quote = on; set escape_string_warning = off; \
         set client_min_messages = error; set client_encoding = {encoding}"
    ));
    connection.must("drop schema if exists s cascade; create schema s; set search_path = s; create table t (a int)");
}

#[test]
fn the_server_agrees_on_where_statements_end() {
    let cluster = Cluster::start();
    let mut connection = cluster.connect();
    let mut refused = Vec::new(); // then the query is not what it should be
    for (opts, own) in [(ON, CONFORMING), (OFF, ESCAPING)] {
        settings(&mut connection, opts, "utf8");
        for sql in TRICKY.iter().chain(own) {
            let ran = compare(&mut connection, sql.as_bytes(), opts);
            if !ran {
                refused.push(format!("{sql}: {:?}", connection.query(sql.as_bytes())));
            }
            connection.reset();
            connection.must("drop schema s cascade; create schema s; create table t (a int)");
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn the_server_agrees_on_made_up_and_broken_queries() {
    let cluster = Cluster::start();
    let mut connection = cluster.connect();
    for opts in [ON, OFF] {
        settings(&mut connection, opts, "utf8");
        made_up::broken_and_generated(&mut connection, opts);
    }
}

#[test]
fn the_server_agrees_on_where_tokens_end() {
    let cluster = Cluster::start();
    let mut connection = cluster.connect();
    for opts in [ON, OFF] {
        settings(&mut connection, opts, "utf8");
        tokens::tokens(&mut connection, opts);
    }
}

/// Two-byte characters that end in a backslash, a letter or an operator.
#[test]
fn the_second_byte_of_a_character_is_not_ascii() {
    let cluster = Cluster::start();
    let connection = &mut cluster.connect();
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
            settings(connection, opts, name);
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
                    assert!(
                        compare(connection, &sql, opts),
                        "{name} {}: {:?}",
                        sql.escape_ascii(),
                        connection.query(&sql)
                    );
                }
            }
        }
    }
    // What becomes a backslash and a tilde on its way into the server.
    let opts = LexOptions { encoding: ClientEncoding::ShiftJis2004, ..ON };
    settings(connection, opts, "shift_jis_2004");
    for sql in [
        &b"select e'\x81\x5f';'; select 2"[..],
        b"select 'a'\x81\xb0e'\\';'; select 2",
        b"select a\x81\xb0e'\\';' from (select '' as a) x; select 2",
    ] {
        assert!(compare(connection, sql, opts), "{}: {:?}", sql.escape_ascii(), connection.query(sql));
    }
    settings(connection, ON, "utf8");
}

/// Names as `PREPARE` keeps them.
#[test]
fn the_server_keeps_names_as_we_do() {
    let cluster = Cluster::start();
    let connection = &mut cluster.connect();
    let long = [("a", 70), ("É", 40), ("é", 40), ("😀", 20), ("Ab1$_", 20)].map(|(piece, times)| piece.repeat(times));
    let mut idents: Vec<String> = [
        "a",
        "FooBar",
        "É1",
        "_x$",
        "\"Foo\"",
        "\"a\"\"b\"",
        "\" ; '\"",
        "U&\"\\0061\\+01F600\"",
        "u&\"\\\\\\D83D\\DE00\"\"x\"",
        "U&\"!00e9\\\" uescape '!'",
        "U&\"d\\0061t\" UESCAPE E'\\\\'",
        "U&\"$0041\"/**/uescape/**/$$$$$",
        "begin",
        "transaction",
        "prepare",
        "\"\u{1}\"",
        "uescape",
        "U&\"é\\00e9\"",
    ]
    .map(String::from)
    .into();
    for text in &long {
        for shift in ["", "x", "xx", "xxx"] {
            idents.push(format!("{}{text}", if text.starts_with(|c: char| c.is_alphabetic()) { shift } else { "y" }));
            idents.push(format!("\"{shift}{text}\""));
            idents.push(format!("U&\"{shift}{text}\\00e9\""));
        }
    }
    for ident in idents {
        let sql = format!("prepare {ident} as select 1");
        // `$$$$$` is no string: the server and we both refuse.
        let kept = connection.query(sql.as_bytes());
        let Effects::One(found) = effects(sql.as_bytes(), ON) else { panic!("{sql}") };
        if kept.error.is_some() {
            assert_eq!(found, Effect::None, "{sql}: {kept:?}");
            continue;
        }
        let rows = connection.must("select name from pg_prepared_statements").rows;
        let Effect::Prepare(name) = found else { panic!("{sql}: {found:?}") };
        assert_eq!(rows, [name.as_bytes()], "{sql}: {name:?}");
        connection.must("deallocate all");
    }
}
