//! Nothing in SQL makes the reader of statements panic, take too long, or point outside the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgcanon::sql::statement::{Kind, Span, read};
use pgcanon::sql::{ClientEncoding, LexOptions};

fuzz_target!(|data: &[u8]| {
    let Some((&settings, sql)) = data.split_first() else { return };
    let encoding = if settings & 1 == 0 { ClientEncoding::AsciiSafe } else { ClientEncoding::Sjis };
    let options = LexOptions { standard_conforming_strings: settings & 2 == 0, encoding };
    let statement = read(sql, options);
    assert!(statement.end <= sql.len());
    let inside = |span: Span| assert!(span.start <= span.end && span.end <= statement.end, "{span:?} in {statement:?}");
    statement.relations.iter().chain(&statement.calls).for_each(|name| inside(name.span));
    if let Some(with) = &statement.with {
        inside(with.span);
        inside(with.list);
        with.ctes.iter().for_each(|cte| inside(cte.body));
    }
    let returning = match &statement.kind {
        Kind::Insert(insert) => insert.returning.as_ref(),
        Kind::Update(update) => update.returning.as_ref(),
        Kind::Delete(delete) => delete.returning.as_ref(),
        Kind::Merge(merge) => merge.returning.as_ref(),
        _ => None,
    };
    if let Some(returning) = returning {
        inside(returning.span);
        assert_eq!(returning.span.end, statement.end, "RETURNING is not last: {statement:?}");
    }
});
