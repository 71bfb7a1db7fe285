use super::*;

#[test]
fn expressions_bind_as_in_the_server() {
    let (a, b, c) = (|| column("a"), || column("b"), || column("c"));
    for (text, expected) in [
        ("a or b and c", Expr::Or(vec![a(), Expr::And(vec![b(), c()])])),
        ("a and b and c", Expr::And(vec![a(), b(), c()])),
        ("(a or b) and c", Expr::And(vec![Expr::Or(vec![a(), b()]), c()])),
        ("not a = b", Expr::Not(Box::new(operator("=", a(), b())))),
        ("a = b is null", Expr::Is(Box::new(operator("=", a(), b())))),
        ("a + b * c", operator("+", a(), operator("*", b(), c()))),
        ("a - b - c", operator("-", operator("-", a(), b()), c())),
        ("a || b = c", operator("=", operator("||", a(), b()), c())),
        ("a || b + c", operator("||", a(), operator("+", b(), c()))),
        ("a != -5", operator("<>", a(), Expr::Number)),
        ("a like b", operator("~~", a(), b())),
        ("a not ilike b || c", operator("!~~*", a(), operator("||", b(), c()))),
        ("a in (b, 1)", Expr::In { of: Box::new(a()), list: vec![b(), Expr::Number], negated: false }),
        ("a not in (b)", Expr::In { of: Box::new(a()), list: vec![b()], negated: true }),
        ("a between b and c and b", Expr::And(vec![Expr::Between(vec![a(), b(), c()]), b()])),
        ("a = any ($1)", Expr::Any { of: Box::new(a()), operator: name("="), array: Box::new(Expr::Param(1)) }),
        ("a is not distinct from b", Expr::Distinct(Box::new(a()), Box::new(b()))),
        ("a isnull", Expr::Is(Box::new(a()))),
        ("(a, b) = row(b, c)", operator("=", Expr::Row(vec![a(), b()]), Expr::Row(vec![b(), c()]))),
        ("array[a, b]", Expr::Array(vec![a(), b()])),
        ("array[[a], [b]]", Expr::Array(vec![Expr::Array(vec![a()]), Expr::Array(vec![b()])])),
        ("x'1f'", Expr::BitString),
        ("t.a", Expr::Column { qualifier: Some(name("t")), name: name("a") }),
        ("pg_catalog.f(a)", Expr::Call { schema: Some(name("pg_catalog")), name: name("f"), args: vec![a()] }),
        ("left(a, 1)", Expr::Call { schema: None, name: name("left"), args: vec![a(), Expr::Number] }),
        ("coalesce(a, b)", Expr::Pure(vec![a(), b()])),
        ("case a when b then c else 1 end", Expr::Pure(vec![a(), b(), c(), Expr::Number])),
    ] {
        assert_eq!(condition(text), expected, "{text}");
    }
}

#[test]
fn types_are_called_as_the_server_calls_them() {
    for (text, schema, kind, array) in [
        ("int", "pg_catalog", "int4", false),
        ("double precision", "pg_catalog", "float8", false),
        ("float(10)", "pg_catalog", "float4", false),
        ("character varying(10)", "pg_catalog", "varchar", false),
        ("char(10)", "pg_catalog", "bpchar", false),
        ("\"char\"", "", "char", false),
        ("bit varying", "pg_catalog", "varbit", false),
        ("numeric(10, 2)[]", "pg_catalog", "numeric", true),
        ("timestamp(3) with time zone", "pg_catalog", "timestamptz", false),
        ("time without time zone", "pg_catalog", "time", false),
        ("Text", "", "text", false),
        ("s.\"T\"[3][]", "s", "T", true),
        ("json array", "", "json", true),
        ("interval(3)", "pg_catalog", "interval", false),
    ] {
        let to = Type { schema: (!schema.is_empty()).then(|| name(schema)), name: name(kind), array };
        let expected = Expr::Cast { to: to.clone(), of: Box::new(Expr::Param(1)) };
        assert_eq!(condition(&format!("$1::{text}")), expected, "{text}");
        assert_eq!(condition(&format!("cast($1 as {text})")), expected, "{text}");
        if !array {
            let expected = Expr::Cast { to, of: Box::new(Expr::String) };
            assert_eq!(condition(&format!("{text} 'x'")), expected, "{text}");
        }
    }
}

#[test]
fn what_the_small_grammar_does_not_hold_is_opaque() {
    for text in [
        "a = (select 1)",
        "exists (select 1)",
        "a in (select 1)",
        "a in (((select 1)))",
        "a = any (select 1)",
        "a = all ($1)",
        "count(*) > 1",
        "f(distinct a)",
        "f(a order by b)",
        "f(a => 1)",
        "f(variadic a)",
        "f(a) over (order by b)",
        "f(a) filter (where b)",
        "a[1] = 2",
        "(a).b = 2",
        "s.t.a = 2",
        "t.*",
        "a collate \"C\" = b",
        "a at time zone 'x' = b",
        "a operator(pg_catalog.=) b",
        "a like b escape 'c'",
        "a similar to b",
        "current_date = a",
        "extract(year from a) = 1",
        "interval '1' day = a",
        "a = b returns",
        "array(select 1) = a",
        "a is json",
        "()",
        "a =",
    ] {
        assert_eq!(condition(text), Expr::Opaque, "{text}");
    }
}

#[test]
fn deep_and_long_expressions() {
    let nested = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(condition(&nested(20)), column("a"));
    assert_eq!(condition(&nested(100_000)), Expr::Opaque);
    assert_eq!(condition(&format!("a{}", " + a".repeat(100_000))), Expr::Opaque);
    assert_eq!(condition(&format!("{} a", "not ".repeat(100_000))), Expr::Opaque);
    assert_eq!(condition(&format!("{}a{}", "array[".repeat(100_000), "]".repeat(100_000))), Expr::Opaque);
    assert_eq!(condition(&format!("array{}a{}", "[".repeat(100_000), "]".repeat(100_000))), Expr::Opaque);
    let Expr::Or(list) = condition(&format!("a{}", " or a = 1".repeat(1000))) else { panic!("no chain") };
    assert_eq!(list.len(), 1001);
    let with = format!("{}select 1{}", "with x as (".repeat(1000), ") select 1".repeat(1000));
    assert!(matches!(of(&with).kind, Kind::Select { .. }));
}
