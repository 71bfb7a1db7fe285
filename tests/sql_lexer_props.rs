//! What holds for any bytes at all: the tokens and the pieces make up the text, and nothing panics.

use pgcanon::sql::{ClientEncoding, Effects, LexOptions, Lexer, Name, Split, effect, effects, ident, shape};
use proptest::prelude::*;

fn options() -> impl Strategy<Value = LexOptions> {
    use ClientEncoding::{AsciiSafe, Big5, Gb18030, Gbk, Johab, ShiftJis2004, Sjis, Uhc};
    let encodings = vec![AsciiSafe, AsciiSafe, Sjis, Big5, Gbk, Uhc, Gb18030, Johab, ShiftJis2004];
    (any::<bool>(), proptest::sample::select(encodings))
        .prop_map(|(standard_conforming_strings, encoding)| LexOptions { standard_conforming_strings, encoding })
}

/// Bytes that mean something to the scanner, in any order, with others between them.
fn sql() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"'",
        b"''",
        b"\"",
        b"\\",
        b"\\'",
        b"\\u00",
        b"\\ud83d",
        b"$",
        b"$$",
        b"$a$",
        b"$1",
        b"--",
        b"/*",
        b"*/",
        b"\n",
        b"\r",
        b" ",
        b"\x0b",
        b";",
        b"(",
        b")",
        b"e'",
        b"E'",
        b"N'",
        b"b'",
        b"X'",
        b"U&'",
        b"u&\"",
        b"0x",
        b"1_0",
        b"1.",
        b"..",
        b"1e+",
        b"+",
        b"-",
        b"=",
        b"@",
        b"!",
        b"::",
        b":=",
        b"a",
        b"_",
        b"\xc3\xa9",
        b"\x95\x5c",
        b"\x81\x5f",
        b"\x81\xb0",
        b"\x81\x30",
        b"\xff",
        b"\0",
        b"create",
        b" function ",
        b" begin ",
        b" atomic ",
        b" end",
        b"commit ",
        b"prepare ",
        b"declare ",
        b"cursor",
        b"uescape '!'",
        b"savepoint ",
        b" in ",
        b"values",
        b"[",
        b"]",
        b",",
        b"7",
    ];
    prop_oneof![
        proptest::collection::vec(proptest::sample::select(pieces), 0..40).prop_map(|p| p.concat()),
        proptest::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tokens_tile_the_text(sql in sql(), opts in options()) {
        let mut at = 0;
        for token in Lexer::new(&sql, opts) {
            prop_assert_eq!(token.start, at);
            prop_assert!(token.end > at, "{:?} is empty", token);
            at = token.end;
        }
        prop_assert_eq!(at, sql.len());
    }

    #[test]
    fn pieces_make_up_the_query(sql in sql(), opts in options()) {
        let pieces: Vec<&[u8]> = Split::new(&sql, opts).map(|piece| piece.text(&sql)).collect();
        prop_assert_eq!(pieces.join(&b';'), sql);
    }

    #[test]
    fn effects_are_those_of_the_pieces(sql in sql(), opts in options()) {
        let each: Vec<_> = Split::new(&sql, opts).statements().map(|piece| effect(piece.text(&sql), opts)).collect();
        let all = effects(&sql, opts);
        prop_assert_eq!(all.count() as usize, each.len());
        prop_assert_eq!(all == Effects::Empty, each.is_empty());
        for (index, effect) in (0..).zip(each) {
            prop_assert_eq!(all.get(index), effect);
        }
    }

    #[test]
    fn a_shape_is_bounded_and_sees_no_blanks(sql in sql(), opts in options()) {
        let apart: Vec<&[u8]> = Lexer::new(&sql, opts).map(|token| token.text(&sql)).collect();
        let shape_of_it = shape(&sql, opts);
        prop_assert_eq!(&shape(&apart.join(&b' '), opts), &shape_of_it);
        // A byte that is no UTF-8 takes three.
        prop_assert!(shape_of_it.len() <= 3 * (shape::SHAPE_MAX + 2));
    }

    #[test]
    fn an_identifier_has_a_name_of_at_most_63_bytes(sql in sql(), opts in options(), times in 1_usize..20) {
        let sql = sql.repeat(times);
        for token in Lexer::new(&sql, opts) {
            if let Some(name) = ident::fold(token.kind, token.text(&sql), b'\\', opts.encoding) {
                prop_assert!(name.as_bytes().len() <= 63);
            }
        }
    }

    #[test]
    fn a_name_is_a_prefix_of_its_bytes(raw in proptest::collection::vec(any::<u8>(), 0..100)) {
        let name = Name::from_bytes(&raw);
        prop_assert!(raw.starts_with(name.as_bytes()));
        prop_assert!(name.as_bytes().len() == 63 || raw.get(name.as_bytes().len()).is_none_or(|b| *b == 0));
    }
}
