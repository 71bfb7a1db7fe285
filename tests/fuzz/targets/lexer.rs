//! Tokens tile the text, and so do the statements of a query; nothing in SQL makes what reads it panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgcanon::sql::{ClientEncoding, LexOptions, Lexer, Split, effect, effects, ident};

const ENCODINGS: [ClientEncoding; 8] = [
    ClientEncoding::AsciiSafe,
    ClientEncoding::Sjis,
    ClientEncoding::Big5,
    ClientEncoding::Gbk,
    ClientEncoding::Uhc,
    ClientEncoding::Gb18030,
    ClientEncoding::Johab,
    ClientEncoding::ShiftJis2004,
];

fuzz_target!(|data: &[u8]| {
    let Some((&settings, sql)) = data.split_first() else { return };
    let encoding = ENCODINGS[usize::from(settings & 7)];
    let options = LexOptions { standard_conforming_strings: settings & 8 == 0, encoding };
    let mut lexer = Lexer::new(sql, options);
    let mut end = 0;
    let mut significant = Vec::new();
    while let Some(token) = lexer.next() {
        assert_eq!(token.start, end, "a gap or an overlap before {token:?}");
        assert!(token.end > token.start, "an empty token: {token:?}");
        assert_eq!(lexer.position(), token.end);
        let _ = ident::fold(token.kind, token.text(sql), b'\\', encoding);
        end = token.end;
        if !token.kind.is_blank() {
            significant.push(token);
        }
    }
    assert_eq!(end, sql.len(), "the text is read to its end");
    let mut again = Lexer::new(sql, options);
    assert!(std::iter::from_fn(|| again.next_significant()).eq(significant.iter().copied()));

    let mut next = 0;
    let mut last = None;
    for piece in Split::new(sql, options) {
        assert_eq!(piece.start, next, "a gap before {piece:?}");
        assert!((piece.start..=sql.len()).contains(&piece.end));
        assert!(sql.get(piece.end).is_none_or(|&b| b == b';'), "{piece:?} does not end at a semicolon");
        next = piece.end + 1;
        last = Some(piece.end);
        let _ = effect(piece.text(sql), options);
    }
    assert!(last.is_some_and(|end| end == sql.len() || end + 1 == sql.len()), "the query is cut to its end");
    let all = effects(sql, options);
    let statements = Split::new(sql, options).statements().count();
    assert_eq!(all.get(u32::MAX), all.get(statements as u32), "behind the last statement there is nothing");
});
