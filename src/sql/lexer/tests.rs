#![allow(clippy::indexing_slicing, reason = "an index out of range is a failed test")]

use super::*;
use TokenKind as K;

fn lex_with(sql: &[u8], opts: LexOptions) -> Vec<(TokenKind, &[u8])> {
    Lexer::new(sql, opts).filter(|t| t.kind != K::Whitespace).map(|t| (t.kind, t.text(sql))).collect()
}

/// Each line of a table: a text and the tokens in it, blanks left out.
fn check(opts: LexOptions, table: &[(&str, &[(TokenKind, &str)])]) {
    for (sql, expected) in table {
        let expected: Vec<_> = expected.iter().map(|(kind, text)| (*kind, text.as_bytes())).collect();
        assert_eq!(lex_with(sql.as_bytes(), opts), expected, "{sql:?}");
    }
}

const ON: LexOptions = LexOptions { standard_conforming_strings: true, encoding: ClientEncoding::AsciiSafe };
const OFF: LexOptions = LexOptions { standard_conforming_strings: false, ..ON };

#[test]
fn identifiers_and_punctuation() {
    check(
        ON,
        &[
            ("Ab_1$é x", &[(K::Ident, "Ab_1$é"), (K::Ident, "x")]),
            (r#""a""b" "c"#, &[(K::QuotedIdent, r#""a""b""#), (K::Unterminated(Open::QuotedIdent), r#""c"#)]),
            (
                r#"U&"\0061" u&x"#,
                &[(K::UnicodeIdent, r#"U&"\0061""#), (K::Ident, "u"), (K::Operator, "&"), (K::Ident, "x")],
            ),
            (r#""" U&"""#, &[(K::Invalid(Fault::EmptyIdent), r#""""#), (K::Invalid(Fault::EmptyIdent), r#"U&"""#)]),
            (
                "a::b:=c:d..e.f",
                &[
                    (K::Ident, "a"),
                    (K::TypeCast, "::"),
                    (K::Ident, "b"),
                    (K::ColonEquals, ":="),
                    (K::Ident, "c"),
                    (K::Char(b':'), ":"),
                    (K::Ident, "d"),
                    (K::DotDot, ".."),
                    (K::Ident, "e"),
                    (K::Char(b'.'), "."),
                    (K::Ident, "f"),
                ],
            ),
            (
                "(a[1],b);",
                &[
                    (K::Char(b'('), "("),
                    (K::Ident, "a"),
                    (K::Char(b'['), "["),
                    (K::Number, "1"),
                    (K::Char(b']'), "]"),
                    (K::Char(b','), ","),
                    (K::Ident, "b"),
                    (K::Char(b')'), ")"),
                    (K::Semicolon, ";"),
                ],
            ),
            ("a\x0b{\\", &[(K::Ident, "a"), (K::Other(b'{'), "{"), (K::Other(b'\\'), "\\")]),
            (
                "n'a' N 'b' en'c'",
                &[
                    (K::NationalString, "n'a'"),
                    (K::Ident, "N"),
                    (K::String, "'b'"),
                    (K::Ident, "en"),
                    (K::String, "'c'"),
                ],
            ),
        ],
    );
}

#[test]
fn strings_and_their_continuation() {
    check(
        ON,
        &[
            (r"'a''b\'c", &[(K::String, r"'a''b\'"), (K::Ident, "c")]),
            (r"e'a\'b\\'c", &[(K::EscapeString, r"e'a\'b\\'"), (K::Ident, "c")]),
            ("'a'\n'b'", &[(K::String, "'a'\n'b'")]),
            ("'a' -- x\n\n -- y\r 'b''c'", &[(K::String, "'a' -- x\n\n -- y\r 'b''c'")]),
            ("'a' 'b'", &[(K::String, "'a'"), (K::String, "'b'")]),
            ("'a'-- x", &[(K::String, "'a'"), (K::Comment, "-- x")]),
            ("'a'\n-'b'", &[(K::String, "'a'"), (K::Char(b'-'), "-"), (K::String, "'b'")]),
            ("'a'\n/**/'b'", &[(K::String, "'a'"), (K::Comment, "/**/"), (K::String, "'b'")]),
            ("'a'\n-- '", &[(K::String, "'a'"), (K::Comment, "-- '")]),
            ("E'a'\n'\\'b'", &[(K::EscapeString, "E'a'\n'\\'b'")]),
            ("'a'\nE'b'", &[(K::String, "'a'"), (K::EscapeString, "E'b'")]),
            ("u&'a'\n'b' uescape '!'", &[(K::UnicodeString, "u&'a'\n'b'"), (K::Ident, "uescape"), (K::String, "'!'")]),
            ("N'a'\n'b'", &[(K::NationalString, "N'a'\n'b'")]),
            ("b'01'\n'1' x'f''g'", &[(K::BitString, "b'01'\n'1'"), (K::BitString, "x'f'"), (K::String, "'g'")]),
            ("B'1", &[(K::Unterminated(Open::BitString), "B'1")]),
            ("'a'\n'b", &[(K::Unterminated(Open::String), "'a'\n'b")]),
            (r"e'\", &[(K::Unterminated(Open::String), r"e'\")]),
            (r"e'\'", &[(K::Unterminated(Open::String), r"e'\'")]),
            (r"e'\x' e'\047'", &[(K::EscapeString, r"e'\x'"), (K::EscapeString, r"e'\047'")]),
            (r"e'\u0061\U00000061\ud83d\ude00'", &[(K::EscapeString, r"e'\u0061\U00000061\ud83d\ude00'")]),
            (r"e'\u00g1'", &[(K::Invalid(Fault::UnicodeEscape), r"e'\u00g1'")]),
            (r"e'\u+061'", &[(K::Invalid(Fault::UnicodeEscape), r"e'\u+061'")]),
            (r"e'\ud83dx'", &[(K::Invalid(Fault::UnicodeEscape), r"e'\ud83dx'")]),
            (r"e'\ude00'", &[(K::Invalid(Fault::UnicodeEscape), r"e'\ude00'")]),
        ],
    );
}

#[test]
fn backslashes_escape_where_strings_do_not_conform() {
    check(
        OFF,
        &[
            (r"'a\'b'c", &[(K::EscapeString, r"'a\'b'"), (K::Ident, "c")]),
            (r"n'a\'b'c", &[(K::NationalString, r"n'a\'b'"), (K::Ident, "c")]),
            (r"b'0\'1", &[(K::BitString, r"b'0\'"), (K::Number, "1")]),
            (r"u&'a\'b", &[(K::Invalid(Fault::UnsafeUnicodeString), r"u&'a\'"), (K::Ident, "b")]),
            (r#"u&"a\""#, &[(K::UnicodeIdent, r#"u&"a\""#)]),
        ],
    );
}

#[test]
fn dollar_quotes_and_parameters() {
    check(
        ON,
        &[
            ("$$a'$b$$", &[(K::DollarString, "$$a'$b$$")]),
            ("$a$ $b$a$ x", &[(K::DollarString, "$a$ $b$a$"), (K::Ident, "x")]),
            ("$é1$;$é1$", &[(K::DollarString, "$é1$;$é1$")]),
            ("a$$b$$", &[(K::Ident, "a$$b$$")]),
            ("$1$$b$$", &[(K::Param, "$1"), (K::DollarString, "$$b$$")]),
            ("$12a", &[(K::Invalid(Fault::ParamJunk), "$12a")]),
            ("$a b", &[(K::Other(b'$'), "$"), (K::Ident, "a"), (K::Ident, "b")]),
            ("$", &[(K::Other(b'$'), "$")]),
            ("$a$ $A$", &[(K::Unterminated(Open::DollarString), "$a$ $A$")]),
        ],
    );
}

#[test]
fn operators_end_at_comments_and_before_trailing_signs() {
    check(
        ON,
        &[
            (
                "a<=b>=c<>d!=e=>f",
                &[
                    (K::Ident, "a"),
                    (K::LessEquals, "<="),
                    (K::Ident, "b"),
                    (K::GreaterEquals, ">="),
                    (K::Ident, "c"),
                    (K::NotEquals, "<>"),
                    (K::Ident, "d"),
                    (K::NotEquals, "!="),
                    (K::Ident, "e"),
                    (K::EqualsGreater, "=>"),
                    (K::Ident, "f"),
                ],
            ),
            ("+ % ~ !", &[(K::Char(b'+'), "+"), (K::Char(b'%'), "%"), (K::Operator, "~"), (K::Operator, "!")]),
            ("=-1", &[(K::Char(b'='), "="), (K::Char(b'-'), "-"), (K::Number, "1")]),
            ("<=+1", &[(K::LessEquals, "<="), (K::Char(b'+'), "+"), (K::Number, "1")]),
            ("?- @+-", &[(K::Operator, "?-"), (K::Operator, "@+-")]),
            ("%-", &[(K::Operator, "%-")]),
            (
                "*+-+x",
                &[
                    (K::Char(b'*'), "*"),
                    (K::Char(b'+'), "+"),
                    (K::Char(b'-'), "-"),
                    (K::Char(b'+'), "+"),
                    (K::Ident, "x"),
                ],
            ),
            ("||/*c*/-", &[(K::Operator, "||"), (K::Comment, "/*c*/"), (K::Char(b'-'), "-")]),
            ("=+--c", &[(K::Char(b'='), "="), (K::Char(b'+'), "+"), (K::Comment, "--c")]),
            ("@--c\n+", &[(K::Operator, "@"), (K::Comment, "--c"), (K::Char(b'+'), "+")]),
            ("=+*", &[(K::Operator, "=+*")]),
        ],
    );
    let long = "@".repeat(64);
    assert_eq!(lex_with(long.as_bytes(), ON), [(K::Invalid(Fault::LongOperator), long.as_bytes())]);
    assert_eq!(lex_with(&long.as_bytes()[1..], ON), [(K::Operator, &long.as_bytes()[1..])]);
}

#[test]
fn comments_nest() {
    check(
        ON,
        &[
            ("/*a/*b*/c*/d", &[(K::Comment, "/*a/*b*/c*/"), (K::Ident, "d")]),
            ("/**//*/*/**/*/**/", &[(K::Comment, "/**/"), (K::Comment, "/*/*/**/*/**/")]),
            ("/*/ */a", &[(K::Comment, "/*/ */"), (K::Ident, "a")]),
            ("/***/a", &[(K::Comment, "/***/"), (K::Ident, "a")]),
            ("/* /* */", &[(K::Unterminated(Open::Comment), "/* /* */")]),
            ("/*", &[(K::Unterminated(Open::Comment), "/*")]),
            ("--a\r;--b", &[(K::Comment, "--a"), (K::Semicolon, ";"), (K::Comment, "--b")]),
        ],
    );
}

#[test]
fn numbers() {
    for number in
        ["0", "12", "1_000", "1.", "1.5", ".5", "1e5", "1.e-5", ".5E+1_0", "0x1F", "0X_f", "0o17", "0b1_0", "1_2.3_4"]
    {
        check(ON, &[(number, &[(K::Number, number)])]);
    }
    for junk in [
        "1a", "1_", "1__0", "1._5", "1e", "1e+", "1e_5", "0x", "0x_", "0xg", "0b12", "0o8", "1.5é", "0x1F$", "1ex",
        "1e5$", "1.5e5$x", "1_0$", "1.5_0$", "1e+5_0$", "1.e5$",
    ] {
        check(ON, &[(junk, &[(K::Invalid(Fault::NumberJunk), junk)])]);
    }
    check(
        ON,
        &[
            ("1..10", &[(K::Number, "1"), (K::DotDot, ".."), (K::Number, "10")]),
            ("1...5", &[(K::Number, "1"), (K::DotDot, ".."), (K::Number, ".5")]),
            ("1.5.6", &[(K::Number, "1.5"), (K::Number, ".6")]),
            ("a.1", &[(K::Ident, "a"), (K::Number, ".1")]),
            ("1$", &[(K::Number, "1"), (K::Other(b'$'), "$")]),
            ("0x1F.5", &[(K::Number, "0x1F"), (K::Number, ".5")]),
            ("1_1.5$", &[(K::Number, "1_1.5"), (K::Other(b'$'), "$")]),
            ("1e+5$", &[(K::Number, "1e+5"), (K::Other(b'$'), "$")]),
            ("1--2", &[(K::Number, "1"), (K::Comment, "--2")]),
        ],
    );
}

#[test]
fn the_second_byte_of_a_character_is_no_backslash() {
    for (encoding, character) in [
        (ClientEncoding::Sjis, &b"\x95\x5c"[..]),
        (ClientEncoding::Big5, b"\xa5\x5c"),
        (ClientEncoding::Gbk, b"\x81\x5c"),
        (ClientEncoding::Gb18030, b"\x81\x5c"),
    ] {
        let opts = LexOptions { encoding, ..ON };
        let string = [b"e'", character, b"'"].concat();
        let sql = [&string[..], b"x"].concat();
        assert_eq!(lex_with(&sql, opts), [(K::EscapeString, &string[..]), (K::Ident, b"x")], "{encoding:?}");
        assert_eq!(lex_with(&sql, ON)[0].0, K::Unterminated(Open::String));
        let ident = [b"a", character, b"b"].concat();
        assert_eq!(lex_with(&ident, opts), [(K::Ident, &ident[..])], "{encoding:?}");
        let tagged = [b"$", character, b"$;$", character, b"$"].concat();
        assert_eq!(lex_with(&tagged, opts), [(K::DollarString, &tagged[..])], "{encoding:?}");
    }
}

#[test]
fn two_characters_of_shift_jis_2004_become_ascii() {
    let opts = LexOptions { encoding: ClientEncoding::ShiftJis2004, ..ON };
    // An escaped quote, then the end.
    assert_eq!(lex_with(b"e'\x81\x5f''x", opts), [(K::EscapeString, &b"e'\x81\x5f''"[..]), (K::Ident, b"x")]);
    assert_eq!(
        lex_with(b"a\x81\xb0e'\\''", opts),
        [(K::Ident, &b"a"[..]), (K::Operator, b"\x81\xb0"), (K::EscapeString, b"e'\\''")]
    );
}

#[test]
fn long_runs_are_read_once() {
    // Quadratic reading would take minutes here.
    for piece in ["+", "+/**/", "=-", "'a' ", "$a", "/*", "1..", "*+-+"] {
        let sql = piece.repeat(1_000_000 / piece.len());
        assert!(Lexer::new(sql.as_bytes(), ON).count() > 0);
    }
}
