//! Values that are easy to break on the way (scenario A7), in keys and beside them, by every way into a table: byte for byte.

use crate::common::msg;
use crate::common::session::Session;
use crate::common::{Pg, rng};
use crate::mesh::{Mesh, server};
use crate::one_table::{BOTH, HERE, THERE, pair};

const NASTY: &[&str] = &[
    "it's",
    "''",
    "back\\slash",
    "\\\\'",
    "ends in \\",
    "new\nline\r\n\ttab\u{b}",
    "$1",
    "$1 $2 $$ $a$ $",
    "';drop table local.loc_test; --",
    "/* open",
    "close */ -- rest",
    "",
    " ",
    "null",
    "NULL",
    "\\N",
    "\\.",
    "4 bytes: 😀 𝔘𝔫𝔦 \u{10FFFF}",
    "e\u{301} é ß İ \u{feff}\u{200b}",
    "\u{1}\u{7f}\u{80}",
    "local.loc_test",
    "remote.rmt_test loc_test.pk1",
    "\"quoted\"",
    "U&'\\0041'",
    "E'\\n' \\x41 \\u0041",
    "{1,\"a\",NULL}",
    "(1,\"a\",)",
    "%s %d ${HOME} `id`",
    "a,b;c|d\te",
];

fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn escaped(value: &str) -> String {
    let mut text = String::from("E'");
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\'' => text.push_str("\\'"),
            '\\' => text.push_str("\\\\"),
            c if u32::from(c) < 0x20 => text.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) > 0xffff => text.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text + "'"
}

fn dollars(value: &str) -> String {
    format!("$q${value}$q$")
}

fn unicode(value: &str) -> String {
    let escape = |c: char| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("!+{:06x}", u32::from(c)) };
    format!("U&'{}' uescape '!'", value.chars().map(escape).collect::<String>())
}

/// As COPY has it in its text format.
fn copied(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('\t', "\\t");
    value.replace('\n', "\\n").replace('\r', "\\r").replace('\u{b}', "\\v")
}

/// Byte for byte, whatever the texts look like.
fn assert_same_bytes(mesh: &Mesh) {
    mesh.assert_equal(&BOTH);
    let bytes = |(node, table): (&'static str, &'static str)| {
        (
            node,
            format!(
                "select pk1, md5(pk2) k, md5(info) i, octet_length(info) n, encode(record_send(t.*), 'hex') r from {table} t"
            ),
        )
    };
    mesh.assert_same(&BOTH.map(bytes));
}

/// Writes every value in every way; rows that hold it twice, in the key and beside it.
fn write(s: &mut Session, t: &str) {
    let mut next = 0;
    let mut key = || {
        next += 1;
        next
    };
    for value in NASTY {
        // In the statement.
        for quoted in [literal(value), escaped(value), dollars(value), unicode(value)] {
            s.ok(&format!("insert into {t} (pk1, pk2, info) values ({}, {quoted}, {quoted}) -- $1 ' \"", key()));
            s.ok(&format!("insert into {t} select {}, {quoted}, {quoted} /* ' */ where random() >= 0", key()));
        }
        // By parameters, of both formats.
        let n = key().to_string();
        s.bound(
            &format!("insert into {t} (pk1, pk2, info) values ($1, $2, $3)"),
            &[Some(&n), Some(value), Some(value)],
        );
        let n = i32::to_be_bytes(key());
        let sql = format!("insert into {t} (info, pk2, pk1) values ($3, $2, $1)");
        let params: [Option<&[u8]>; 3] = [Some(&n), Some(value.as_bytes()), Some(value.as_bytes())];
        let bind = msg::bind_formats("", "", &[1], &params, &[]);
        let answer = s.send(&[msg::parse("", &sql, &[23, 25, 25]), bind, msg::execute("", 0), msg::sync()]);
        assert_eq!(answer.failure(), None, "{value:?}");
        let n = key().to_string();
        let sql = format!("insert into {t} select $1::int, $2, $3 || random()::text");
        s.bound(&sql, &[Some(&n), Some(value), Some(value)]);
        // Found again by it.
        let n = key();
        s.ok(&format!("insert into {t} (pk1, pk2, info) values ({n}, {}, null)", literal(value)));
        let sql =
            format!("update {t} set info = coalesce(info, '') || {0} where pk1 = {n} and pk2 = {0}", literal(value));
        assert_eq!(s.ok(&sql).tags(), ["UPDATE 1"]);
        let sql = format!("update {t} set info = info || $1 where pk1 = $2 and pk2 = $3");
        assert_eq!(s.bound(&sql, &[Some(value), Some(&n.to_string()), Some(value)]).tags(), ["UPDATE 1"]);
        let sql = format!("delete from {t} where pk1 = $1 and pk2 = $2");
        assert_eq!(s.bound(&sql, &[Some("1"), Some(value)]).failure(), None);
    }
    // Backslashes that escape.
    s.ok("set standard_conforming_strings = off; set escape_string_warning = off");
    for value in NASTY {
        let quoted = format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
        s.ok(&format!("insert into {t} (pk1, pk2, info) values ({}, {quoted}, {quoted})", key()));
        s.ok(&format!("update {t} set info = info || {quoted} where pk2 = {quoted} and pk1 = {}", key() - 1));
    }
    s.ok("reset standard_conforming_strings");
    // NULL.
    s.bound(&format!("insert into {t} values ($1, 'n', $2, $3, $4)"), &[Some("-1"), None, None, None]);
    s.ok(&format!("insert into {t} values (-2, 'n')"));
    s.ok(&format!("insert into {t} select -3, 'n', null, null, null where random() >= 0"));
    s.ok(&format!("insert into {t} select -4, 'n', 'x', now(), now()"));
    s.bound(&format!("update {t} set info = $1, mod_time = null where pk1 = -4 and pk2 = 'n'"), &[None]);
    // COPY.
    let rows: Vec<String> =
        NASTY.iter().map(|value| format!("{}\t{}\t{}\t\\N\t\\N\n", key(), copied(value), copied(value))).collect();
    let data: Vec<&[u8]> = rows.iter().map(String::as_bytes).collect();
    assert_eq!(s.copy(format!("copy {t} from stdin"), &data).failure(), None);
}

#[test]
fn a7_texts_arrive_byte_for_byte() {
    let mesh = pair(server(Pg::V15, 'a'), server(Pg::V18, 'b'), ["postgres"; 2]);
    for (from, t) in [("a", HERE), ("b", THERE)] {
        let mut s = mesh.client(from);
        write(&mut s, t);
        assert_same_bytes(&mesh);
        let all = mesh.node(from).sql(&format!("select count(*) > {} from {t}", NASTY.len() * 14));
        assert_eq!(all, "t");
        s.ok(&format!("truncate {t}"));
        mesh.settle();
    }
}

#[test]
fn a7_a_megabyte_arrives_byte_for_byte() {
    let mesh = pair(server(Pg::V15, 'a'), server(Pg::V15, 'b'), ["postgres"; 2]);
    let t = HERE;
    let mut s = mesh.client("a");
    // Without a pattern that would compress, and with characters of all lengths.
    let mut rng = rng::Rng::new(rng::seed("a megabyte"));
    let alphabet: Vec<char> = "abcdefghijklmnopqrstuvwxyz'\\$ \n€ä😀".chars().collect();
    let mut text = String::new();
    while text.len() < 1 << 20 {
        text.push(*rng.pick(&alphabet));
    }
    s.ok(&format!("insert into {t} (pk1, pk2, info) values (1, 'literal', {})", literal(&text)));
    s.bound(&format!("insert into {t} (pk1, pk2, info) values ($1, 'bound', $2)"), &[Some("2"), Some(&text)]);
    s.ok(&format!(
        "insert into {t} select i, 'made', string_agg(md5(random()::text), '') \
         from generate_series(3, 6) i, generate_series(1, 32768) group by i"
    ));
    s.ok(&format!("update {t} set info = info || now() where pk1 = 1"));
    s.ok(&format!("update {t} set info = upper(info) where pk1 = 2 and pk2 = 'bound'"));
    let line = format!("7\tcopied\t{}\t\\N\t\\N\n", copied(&text));
    let data: Vec<&[u8]> = line.as_bytes().chunks(60_000).collect();
    assert_eq!(s.copy(format!("copy {t} from stdin"), &data).failure(), None);
    s.ok("begin");
    for i in 10..20 {
        s.bound(
            &format!("insert into {t} (pk1, pk2, info) values ($1, 'block', $2)"),
            &[Some(&i.to_string()), Some(&text)],
        );
    }
    s.ok("commit");
    assert_same_bytes(&mesh);
    assert_eq!(mesh.node("b").sql(&format!("select count(*) from {THERE} where length(info) >= 300000")), "17");
}
