//! Whatever the words, reading a statement neither panics nor points outside the text, and what stands behind it is no part of it.

use pgcanon::sql::LexOptions;
use pgcanon::sql::statement::{Kind, Span, Statement, Target, Written, read};
use proptest::prelude::*;

/// Words, signs and whole clauses, in an order that is often nearly SQL.
fn sql() -> impl Strategy<Value = String> {
    let words: Vec<&'static str> = "insert into update delete from merge using truncate table copy select values with recursive as \
        materialized not set where returning on conflict do nothing default overriding system value only all any some in \
        between and or is null distinct like ilike escape case when then else end cast array row coalesce \
        exists extract substring join left cross lateral rows for share limit order by group union prepare execute explain \
        analyze declare cursor call language create stdin stdout to format csv header current of matched search cycle \
        depth first restart identity cascade uescape old new t u a b x s interval timestamp time zone without double \
        precision numeric character varying current_timestamp user tablesample temp begin atomic"
        .split_whitespace()
        .collect();
    let signs = vec![
        "(",
        ")",
        "(",
        ")",
        "[",
        "]",
        ",",
        ",",
        ".",
        "*",
        "=",
        "=",
        "+",
        "-",
        "::",
        ":=",
        "=>",
        "<>",
        "||",
        "@",
        ";",
        "$1",
        "$99999",
        "1",
        "1.5e3",
        "'x'",
        "'now'",
        "E'\\x41\\''",
        "U&'a'",
        "b'01'",
        "n'x'",
        "$$a$$",
        "\"Q\"",
        "U&\"!0061\"",
        "uescape '!'",
        "--\n",
        "/* */",
        "\"",
        "'",
        "$",
    ];
    let clauses = vec![
        "insert into t (a, b) values (1, $2)",
        "update t set a = a + 1",
        "(a, b) = (1, 2)",
        "with x as (delete from t returning *)",
        "on conflict (a) do update set b = excluded.b",
        "case when a then b end",
        "select * from a, b",
        "merge into t using u on a when matched then",
        "copy t from stdin",
        "returning a, t.*, b as c",
        "where a = any ($1)",
    ];
    let piece = prop_oneof![
        5 => proptest::sample::select(words),
        4 => proptest::sample::select(signs),
        1 => proptest::sample::select(clauses),
    ];
    (any::<bool>(), proptest::collection::vec(piece, 0..60)).prop_map(|(spaced, pieces)| {
        let begin = pieces.join(if spaced { " " } else { "\t\n" });
        begin + if spaced { "" } else { " " }
    })
}

/// All places in the text that a statement names.
fn spans(statement: &Statement) -> Vec<Span> {
    let mut spans: Vec<Span> = statement.relations.iter().chain(&statement.calls).map(|w| w.span).collect();
    if let Some(with) = &statement.with {
        spans.extend([with.span, with.list]);
        for cte in &with.ctes {
            spans.extend([cte.name_span, cte.body, Span { start: cte.body.end, end: cte.close + 1 }]);
            spans.extend(cte.aliases);
            spans.extend(cte.writes.as_deref().map(kind_spans).unwrap_or_default());
        }
    }
    spans.extend(kind_spans(&statement.kind));
    spans
}

fn kind_spans(kind: &Kind) -> Vec<Span> {
    let target = |t: &Target| vec![t.relation.span, t.reference];
    let written = |w: &Written| vec![w.span];
    match kind {
        Kind::Insert(i) => [target(&i.target), i.returning.iter().map(|r| r.span).collect()].concat(),
        Kind::Update(u) => [target(&u.target), u.returning.iter().map(|r| r.span).collect()].concat(),
        Kind::Delete(d) => [target(&d.target), d.returning.iter().map(|r| r.span).collect()].concat(),
        Kind::Merge(m) => [target(&m.target), m.returning.iter().map(|r| r.span).collect()].concat(),
        Kind::Truncate(t) => t.targets.iter().flat_map(target).collect(),
        Kind::Copy(c) => [c.target.as_ref().map(target).unwrap_or_default(), vec![c.rest]].concat(),
        Kind::Select { into } => into.iter().flat_map(written).collect(),
        Kind::Prepare { types, body, .. } => vec![*types, *body],
        Kind::Execute { name_span, .. } => vec![*name_span],
        Kind::Explain { inner, .. } => spans(inner),
        Kind::Call(w) | Kind::CreateAs { relation: w } => written(w),
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn places_are_within_the_statement(sql in sql(), conforming in any::<bool>()) {
        let opts = LexOptions { standard_conforming_strings: conforming, ..LexOptions::default() };
        let statement = read(sql.as_bytes(), opts);
        prop_assert!(statement.end <= sql.len());
        for span in spans(&statement) {
            prop_assert!(span.start <= span.end && span.end <= statement.end, "{:?} of {:?}", span, statement);
        }
    }

    #[test]
    fn what_stands_behind_a_statement_is_no_part_of_it(sql in sql()) {
        let alone = read(sql.as_bytes(), LexOptions::default());
        // Behind an open string or comment everything is a part of it.
        if alone.kind != Kind::Unknown {
            for behind in [";", " ; ", "\n-- x", " /* x */ ;\n"] {
                let followed = read(format!("{sql}{behind}").as_bytes(), LexOptions::default());
                prop_assert_eq!(&followed, &alone);
            }
        }
    }

    #[test]
    fn a_relation_is_listed_for_every_target(sql in sql()) {
        let statement = read(sql.as_bytes(), LexOptions::default());
        let target = match &statement.kind {
            Kind::Insert(i) => Some(&i.target),
            Kind::Update(u) => Some(&u.target),
            Kind::Delete(d) => Some(&d.target),
            Kind::Merge(m) => Some(&m.target),
            _ => None,
        };
        if let Some(target) = target {
            prop_assert!(statement.relations.contains(&target.relation), "{:?}", statement);
        }
    }
}
