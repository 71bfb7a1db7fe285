use super::*;
use crate::sql::LexOptions;

fn of(sql: &str) -> Statement {
    read(sql.as_bytes(), LexOptions::default())
}

/// Names as `schema.name`.
fn shown(names: &[Written]) -> String {
    let one = |w: &Written| {
        let part = |n: &Name| String::from_utf8_lossy(n.as_bytes()).into_owned();
        w.schema.as_ref().map_or(String::new(), |s| part(s) + ".") + &part(&w.name)
    };
    names.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn cut(sql: &str, span: Span) -> &str {
    sql.get(span.start..span.end).unwrap_or("outside")
}

fn name(text: &str) -> Name {
    text.into()
}

fn column(text: &str) -> Expr {
    Expr::Column { qualifier: None, name: text.into() }
}

fn operator(text: &str, left: Expr, right: Expr) -> Expr {
    Expr::Operator { name: text.into(), operands: vec![left, right] }
}

/// The condition of `DELETE FROM t WHERE …`.
fn condition(text: &str) -> Expr {
    match of(&format!("delete from t where {text} returning 1")).kind {
        Kind::Delete(Delete { filter: Some(filter), .. }) => filter,
        other => panic!("{text}: {other:?}"),
    }
}

fn insert(sql: &str) -> Insert {
    match of(sql).kind {
        Kind::Insert(insert) => insert,
        other => panic!("{sql}: {other:?}"),
    }
}

fn update(sql: &str) -> Update {
    match of(sql).kind {
        Kind::Update(update) => update,
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn an_update_is_read_whole() {
    let sql = "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = 5; -- x";
    let statement = of(sql);
    assert_eq!(statement.end, sql.find(';').unwrap());
    assert_eq!((statement.max_param, shown(&statement.relations).as_str()), (1, "pgbench_accounts"));
    assert!(statement.calls.is_empty() && !statement.moment_strings && statement.moods == Moods::default());
    let Kind::Update(update) = statement.kind else { panic!("{statement:?}") };
    assert_eq!(cut(sql, update.target.reference), "pgbench_accounts");
    assert_eq!(update.filter, Some(operator("=", column("aid"), Expr::Number)));
    let value = operator("+", column("abalance"), Expr::Param(1));
    assert_eq!(update.set, [Assign { column: name("abalance"), part: false, value: Some(value) }]);
    assert!(!update.from && !update.current_of && update.returning.is_none());
}

#[test]
fn targets_and_what_their_columns_are_qualified_with() {
    for (sql, relation, only, reference, alias) in [
        ("update t set a = 1", "t", false, "t", None),
        ("update only t set a = 1", "t", true, "t", None),
        ("update only (S.T) as \"X\" set a = 1", "s.t", true, "\"X\"", Some("X")),
        ("update db.s.\"T\" * set a = 1", "s.T", false, "\"T\"", None),
        ("update s . t x set a = 1", "s.t", false, "x", Some("x")),
        ("update set set a = 1", "set", false, "set", None),
        ("update U&\"!0074\" uescape '!' set a = 1", "t", false, "U&\"!0074\" uescape '!'", None),
        ("update s.U&\"!0074\" uescape '!' set a = 1", "s.t", false, "U&\"!0074\" uescape '!'", None),
        ("update values set a = 1", "values", false, "values", None),
        ("delete from t", "t", false, "t", None),
        ("delete from only t x where true", "t", true, "x", Some("x")),
        ("delete from t as x using u", "t", false, "x", Some("x")),
        ("delete from t * as x", "t", false, "x", Some("x")),
        ("insert into s.t default values", "s.t", false, "t", None),
        ("insert into t as x values (1)", "t", false, "x", Some("x")),
        ("merge into only t as x using u on true when matched then delete", "t", true, "x", Some("x")),
    ] {
        let target = match of(sql).kind {
            Kind::Update(u) => u.target,
            Kind::Delete(d) => d.target,
            Kind::Insert(i) => i.target,
            Kind::Merge(m) => m.target,
            other => panic!("{sql}: {other:?}"),
        };
        assert_eq!((shown(&[target.relation]).as_str(), target.only), (relation, only), "{sql}");
        assert_eq!((cut(sql, target.reference), target.alias), (reference, alias.map(name)), "{sql}");
    }
}

#[test]
fn inserts() {
    let read = insert("insert into t (a, \"B\") overriding system value values (1, default), ($2, 'x')");
    assert_eq!(read.columns, Some(vec![name("a"), name("B")]));
    assert_eq!(read.overriding, Some(Overriding::System));
    let rows = vec![vec![Some(Expr::Number), None], vec![Some(Expr::Param(2)), Some(Expr::String)]];
    assert_eq!(read.source, Source::Values(rows));
    for (sql, source) in [
        ("insert into t default values", Source::DefaultValues),
        ("insert into t overriding user value select 1", Source::Query),
        ("insert into t (select 1)", Source::Query),
        ("insert into t ((select 1))", Source::Query),
        ("insert into t (values (1))", Source::Query),
        ("insert into t values (1) limit 1", Source::Query),
        ("insert into t values (1) union select 2", Source::Query),
        ("insert into t with x as (select 1) select * from x", Source::Query),
        ("insert into t table u", Source::Query),
        ("insert into t (values) values (2)", Source::Values(vec![vec![Some(Expr::Number)]])),
        ("insert into t values (now(a order by b))", Source::Values(vec![vec![Some(Expr::Opaque)]])),
    ] {
        assert_eq!(insert(sql).source, source, "{sql}");
    }
    assert!(insert("insert into t (a[1], b) values (1, 2)").opaque_columns);
    assert!(insert("insert into t (a.x) values (1)").opaque_columns);
    for bad in ["insert into t", "insert t values (1)", "insert into t values", "insert into t (a,) values (1)"] {
        assert!(matches!(of(bad).kind, Kind::Unknown | Kind::Insert(Insert { source: Source::Query, .. })), "{bad}");
    }
}

#[test]
fn conflicts() {
    let nothing = Some(OnConflict { action: ConflictAction::Nothing });
    for sql in [
        "insert into t values (1) on conflict do nothing",
        "insert into t values (1) on conflict (lower(a) collate \"C\" text_ops, b) where x > 1 do nothing",
        "insert into t values (1) on conflict on constraint c do nothing returning a",
        "insert into t select * from a join b on a.x = b.x on conflict do nothing",
        "insert into t select * from a join b on conflict on conflict do nothing",
    ] {
        assert_eq!(insert(sql).on_conflict, nothing, "{sql}");
    }
    let read = insert("insert into t select * from a join b on conflict returning x");
    assert_eq!((read.on_conflict, read.returning.is_some()), (None, true));
    let sql = "insert into t as o values (1, 2) on conflict (a) do update set b = excluded.b, c = default \
               where o.b <> excluded.b returning *";
    let Some(OnConflict { action: ConflictAction::Update { set, filter } }) = insert(sql).on_conflict else { panic!() };
    let excluded = Expr::Column { qualifier: Some(name("excluded")), name: name("b") };
    assert_eq!(set[0].value, Some(excluded));
    assert_eq!((set[1].column, &set[1].value), (name("c"), &None));
    assert!(matches!(filter, Some(Expr::Operator { .. })));
}

#[test]
fn set_lists() {
    let sql = "update t set a = 1, b[1] = 2, c.x = 3, (d, e) = (4, default), (f, g) = row(5, 6), \
               (h, i) = (select 1, 2), j = k is distinct from l, m = case when x then 1 end from u where w";
    let read = update(sql);
    assert!(read.from && read.filter == Some(column("w")));
    let list: Vec<_> = read.set.iter().map(|a| (a.column, a.part, a.value.clone())).collect();
    let number = Some(Expr::Number);
    let expected = [
        ("a", false, number.clone()),
        ("b", true, number.clone()),
        ("c", true, number.clone()),
        ("d", false, number.clone()),
        ("e", false, None),
        ("f", false, number.clone()),
        ("g", false, number),
        ("h", false, Some(Expr::Opaque)),
        ("i", false, Some(Expr::Opaque)),
        ("j", false, Some(Expr::Distinct(Box::new(column("k")), Box::new(column("l"))))),
        ("m", false, Some(Expr::Pure(vec![column("x"), Expr::Number]))),
    ];
    assert_eq!(list, expected.map(|(column, part, value)| (name(column), part, value)));
    for bad in ["update t set", "update t set a", "update t set a =", "update t set a = 1 b", "update t set (a) 1"] {
        let unknown = of(bad).kind == Kind::Unknown;
        assert!(unknown || bad.ends_with(" b"), "{bad}");
    }
}

#[test]
fn cursors_are_seen_in_conditions() {
    assert!(update("update t set a = 1 where current of c").current_of);
    assert!(!update("update t set a = 1 where current = 2").current_of);
    assert!(matches!(of("delete from t where current of c returning a").kind, Kind::Delete(d) if d.current_of));
}

#[test]
fn returning_is_the_last_clause() {
    let items = |sql: &str| {
        let returning = match of(sql).kind {
            Kind::Update(u) => u.returning,
            Kind::Insert(i) => i.returning,
            Kind::Delete(d) => d.returning,
            Kind::Merge(m) => m.returning,
            other => panic!("{sql}: {other:?}"),
        };
        let returning = returning.unwrap_or_else(|| panic!("{sql}"));
        assert!(cut(sql, returning.span).starts_with("returning"), "{sql}");
        returning.items.map(|items| {
            let one = |item: &Item| match item {
                Item::All => "*".to_owned(),
                Item::Named(name) => String::from_utf8_lossy(name.as_bytes()).into_owned(),
            };
            items.iter().map(one).collect::<Vec<_>>().join(" ")
        })
    };
    for (list, expected) in [
        ("*", Some("*")),
        ("t.*", Some("*")),
        ("u.*", None),
        ("a, B, \"C\", t.d, s.t.e", None),
        ("a, B, \"C\", t.d", Some("a b C d")),
        ("a as x, 1 + 2 y, f(a) \"Z\"", Some("x y Z")),
        ("a + 1, 1, null, true, $1, f(x), s.f(x), a::int, '1'::int::text, a::int::text", None),
        (
            "a + 1, 1, null, true, $1, f(x), s.f(x), a::int, '1'::int",
            Some("?column? ?column? ?column? bool ?column? f f a int4"),
        ),
        ("'1'::int::text, a::int::text, row(1), array[1], coalesce(a, b), (a)", Some("text a row array coalesce a")),
        ("case when a then b end", None),
        ("(select 1)", None),
        ("(select 1) as x", Some("x")),
        ("a returning_", Some("returning_")),
        ("cast(a as numeric(10, 2)), x as returning", Some("a returning")),
    ] {
        let expected = match list {
            "a, B, \"C\", t.d, s.t.e" => None,
            "a + 1, 1, null, true, $1, f(x), s.f(x), a::int, '1'::int::text, a::int::text" => {
                Some("?column? ?column? ?column? bool ?column? f f a text a")
            }
            _ => expected,
        };
        assert_eq!(items(&format!("update t set a = 1 returning {list}")).as_deref(), expected, "{list}");
    }
    assert_eq!(items("update t set a = 1 from u returning *"), None);
    assert_eq!(items("update t x set a = 1 from u returning x.*").as_deref(), Some("*"));
    assert_eq!(items("delete from t returning with (old as o) o.a"), None);
    assert_eq!(items("merge into t using u on true when matched then delete returning merge_action(), t.*"), None);
}

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

#[test]
fn withs() {
    let sql = "with recursive a (x, y) as not materialized (select 1), b as (insert into t values (1) returning a ) \
               search depth first by x set z update u set c = 1";
    let statement = of(sql);
    let with = statement.with.unwrap();
    assert!(with.recursive && matches!(statement.kind, Kind::Update(_)));
    assert!(cut(sql, with.list).starts_with("a (x") && cut(sql, with.list).ends_with("set z"));
    assert_eq!(cut(sql, with.span).len() + "update u set c = 1".len(), sql.len());
    let [a, b] = &with.ctes[..] else { panic!("{with:?}") };
    assert_eq!((a.name, cut(sql, a.name_span), cut(sql, a.aliases.unwrap())), (name("a"), "a", "(x, y)"));
    assert!(a.writes.is_none() && cut(sql, a.body) == "select 1");
    assert!(matches!(b.writes.as_deref(), Some(Kind::Insert(_))) && b.aliases.is_none());
    assert_eq!(&sql[b.body_end - 1..b.body_end + 2], "a )");
    for sql in [
        "with x as (delete from t returning a) select * from x",
        "((with x as (delete from t returning a) select * from x)) order by 1",
        "with x as (delete from t returning a) (select * from x)",
        "with x as (with y as (select 1) delete from t) table x",
        "create table n as with x as (delete from t returning *) select 1",
        "explain analyze with x as (delete from t) select 1",
    ] {
        let with = of(sql).with.unwrap_or_else(|| panic!("{sql}"));
        assert!(matches!(with.ctes[0].writes.as_deref(), Some(Kind::Delete(_))), "{sql}");
    }
    assert_eq!(of("with recursive as (select 1) select 1").with.unwrap().ctes[0].name, name("recursive"));
}

#[test]
fn relations_of_a_statement() {
    for (sql, expected) in [
        ("select 1", ""),
        ("select * from a, s.b x, lateral (select * from c) y, only (d), f(1), e", "a s.b c d e"),
        ("select * from a join b using (t) left join (c cross join d) on true, e as x (t, u), g", "a b c d e g"),
        ("select * from (a join b on true), (select 1) c, ((d)), rows from (f(1), g(2)), h", "a b d h"),
        ("select extract(year from a), substring(b from c), trim(both from d) from e", "e"),
        ("select a is distinct from b, c is not distinct from d from e", "e"),
        ("select overlay(a placing b from 1), position(a in b) from e", "e"),
        ("select extract(year from (select a from b)) from c", "b c"),
        ("select * from a where b in (select c from d) and exists (table e)", "a d e"),
        ("select * from a order by b, c limit 1", "a"),
        ("select * from a for update of b", "a"),
        ("select * from a tablesample system (1) repeatable (2), b", "a b"),
        ("select * from a join b on case when x then y end, c", "a b c"),
        ("select * from a union select b, c from d except table e", "a d e"),
        ("select a from b group by c, d having e, f", "b"),
        ("select 1 into temp t from a", "t a"),
        ("select 1 into temp from a", "temp a"),
        ("select 1 into unlogged table t from a", "t a"),
        ("insert into t (a, b) select c, d from e", "t e"),
        ("insert into temp values (1)", "temp"),
        ("update t set a = (select b from c) from d, e where f", "t c d e"),
        ("update only (t) x set (a, b) = (select 1, 2 from c)", "t c"),
        ("delete from t using a, b where c", "t a b"),
        ("delete from t using (select 1) a, b join c using (t)", "t b c"),
        ("merge into t using s on (t.a = s.a) when matched then update set a = 1, b = 2", "t s"),
        ("merge into t using (select * from a) s on x when not matched then insert (a, b) values (1, 2)", "t a"),
        ("insert into t values (1) on conflict (a) do update set b = (select c from d)", "t d"),
        ("copy t (a, b) from stdin where a > 1", "t"),
        ("copy (select a, b from t) to stdout", "t"),
        ("truncate a, only s.b, c * restart identity cascade", "a s.b c"),
        ("declare c cursor for select * from a, b", "a b"),
        ("explain analyze delete from t using a", "t a"),
        ("create table n as select * from a", "n a"),
        ("with x as (select * from a), y as (select * from x) select * from x, y, z", "a z"),
        ("with x as (select * from x) select * from x", "x"),
        ("with recursive x as (select * from x, y), y as (select 1) table x", ""),
        ("select * from (with x as (select 1) select * from x) q, x", "x"),
        ("with x as (select 1) select * from s.x", "s.x"),
        ("with t as (select 1) insert into t select * from t", "t"),
        ("with t as (select 1) update t set a = 1 from t", "t"),
        ("with t as (select 1) delete from t", "t"),
        ("insert into t with x as (select 1 from a) select * from x returning (select 1 from x)", "t a x"),
        (
            "with recursive x (a, b) as (select 1) search depth first by a, b set c cycle a, b set d using e select * from x, f",
            "f",
        ),
        ("select * from U&\"!0061\" uescape '!', json_table(a, 'b' columns (c int)), d", "a d"),
        ("select a.from, b as from from c", "c"),
        ("fetch all from c", ""),
        ("prepare p (int) as delete from t where a = $1", "t"),
    ] {
        let found = shown(&of(sql).relations);
        // Labels that are words of the grammar may list too much.
        if sql.contains("as from") {
            assert!(found.ends_with(expected), "{sql}: {found}");
        } else {
            assert_eq!(found, expected, "{sql}");
        }
    }
}

#[test]
fn calls_of_a_statement() {
    for (sql, expected) in [
        ("select f(1), s.g(2), \"H\" (3), coalesce(4), a.b.c()", "f s.g H b.c"),
        (
            "select substring(a from 1), overlay(a placing b from 1), xmlelement(name a), extract(day from b)",
            "substring overlay xmlelement extract",
        ),
        ("select cast(a as numeric(1)), b::s.t(1), c::varchar(3), t(1) 'x' from f(1) x (a, b), c d (e, f)", "t f"),
        ("insert into t (a) values (f(1)) on conflict (a) do nothing", "f"),
        ("update t set (a, b) = (select 1, f(2))", "f"),
        ("select f(1) over (partition by (a) order by (b)), count(*) filter (where c) from d group by (a)", "f count"),
        ("with x (a) as materialized (select f()) select g()", "f g"),
        ("select left(a, 1), a in (1), b = any (c), case when (a) then (b) end, not (a), a and (b)", "left"),
        ("call s.p(f(1))", "s.p f"),
        ("execute p (f(1))", "f"),
        ("copy t (a) from stdin", ""),
        ("select a from b where c like (d) and e is (f)", ""),
    ] {
        assert_eq!(shown(&of(sql).calls), expected, "{sql}");
    }
}

#[test]
fn moods_of_a_statement() {
    let moods = |sql: &str| of(sql).moods;
    let none = Moods::default();
    for sql in ["select current_timestamp", "select a + LOCALTIME", "select current_date(1)"] {
        assert_eq!(moods(sql), Moods { clock: true, ..none }, "{sql}");
    }
    for sql in ["select current_user", "select user", "select current_schema", "select session_user"] {
        assert_eq!(moods(sql), Moods { who: true, ..none }, "{sql}");
    }
    for sql in ["select 1 limit 1", "select 1 offset 2", "select 1 fetch first row only"] {
        assert_eq!(moods(sql), Moods { limit: true, ..none }, "{sql}");
    }
    for sql in ["select 1 for update", "select 1 for no key update", "select 1 for share skip locked"] {
        assert_eq!(moods(sql), Moods { locking: true, ..none }, "{sql}");
    }
    assert_eq!(moods("select 1 from t tablesample system (1)"), Moods { sample: true, ..none });
    for sql in ["select t.user, \"current_date\", x.limit", "update t set a = 1", "select 'user'"] {
        assert_eq!(moods(sql), none, "{sql}");
    }
    assert_eq!(of("select $2, $10, '$11', $3").max_param, 10);
    assert_eq!(of("select $99999").max_param, u16::MAX);
    assert!(of("insert into t values (timestamp 'now')").moment_strings);
    assert!(of("insert into t values (U&'!006eow' uescape '!')").moment_strings);
    assert!(!of("insert into t values ('nowhere')").moment_strings);
}

#[test]
fn options_of_copies() {
    let read = |sql: &str| {
        let Kind::Copy(copy) = of(sql).kind else { panic!("{sql}") };
        (copy.options, copy.defaults)
    };
    let some = |text: &str| Some(text.as_bytes().to_vec());
    let all = CopyOptions {
        delimiter: some("|"),
        null: some("nil"),
        quote: some("'"),
        escape: some("\\"),
        default: None,
        encoding: some("latin1"),
        header: true,
    };
    for sql in [
        r"copy t from stdin (format csv, delimiter '|', null 'nil', quote '''', escape e'\\', encoding latin1, header,
          force_not_null (a, b), freeze true, on_error ignore, reject_limit 3) where a > 1",
        r"copy t from stdin using delimiters '|' with null as 'nil' csv header quote $$'$$ escape '\' encoding 'latin1'
          force not null a, b force null c freeze",
        r"copy t from stdin with (header on, DELIMITER '|', null nil, quote e'\'', escape '\', encoding 'latin1')",
    ] {
        assert_eq!(read(sql), (Some(all.clone()), false), "{sql}");
    }
    assert_eq!(read("copy t from stdin"), (Some(CopyOptions::default()), false));
    assert_eq!(read("copy t from stdin (header 0)").0, Some(CopyOptions::default()));
    assert_eq!(read(r"copy t from stdin delimiter e'\t'").0.unwrap().delimiter, some("\t"));
    for (sql, defaults) in [
        ("copy t from stdin (header 2)", false),
        ("copy t from stdin (delimiter U&'|')", false),
        ("copy t from stdin (delimiter 1, default 'x')", true),
        ("copy t from stdin (shape round)", false),
    ] {
        assert_eq!(read(sql), (None, defaults), "{sql}");
    }
    let (options, defaults) = read(r"copy t from stdin (default '\D')");
    assert_eq!((options.unwrap().default, defaults), (some(r"\D"), true));
}

#[test]
fn copies() {
    use CopyDirection::{FromServer, FromStdin, To};
    use CopyFormat::{Binary, Csv, Other, Text};
    for (sql, direction, format, filtered, rest) in [
        ("copy t from stdin", FromStdin, Text, false, "from stdin"),
        ("copy t from stdout;", FromStdin, Text, false, "from stdout"),
        ("copy s.t (a, b) from 'f' with csv header", FromServer, Csv, false, "from 'f' with csv header"),
        (
            "copy t from program 'p' (format 'csv', freeze on)",
            FromServer,
            Csv,
            false,
            "from program 'p' (format 'csv', freeze on)",
        ),
        ("copy binary t from stdin", FromStdin, Binary, false, "from stdin"),
        ("copy t from stdin using delimiters '|'", FromStdin, Text, false, "from stdin using delimiters '|'"),
        ("copy t from stdin (freeze, format BINARY)", FromStdin, Binary, false, "from stdin (freeze, format BINARY)"),
        ("copy t from stdin (format \"CSV\")", FromStdin, Other, false, "from stdin (format \"CSV\")"),
        (
            "copy t from stdin (force_null (format, csv)) where a > 1",
            FromStdin,
            Text,
            true,
            "from stdin (force_null (format, csv)) where a > 1",
        ),
        ("copy t to stdout (format csv)", To, Csv, false, "to stdout (format csv)"),
    ] {
        let Kind::Copy(copy) = of(sql).kind else { panic!("{sql}") };
        assert_eq!((copy.direction, copy.format, copy.condition.is_some()), (direction, format, filtered), "{sql}");
        assert!(copy.condition.is_none_or(|span| cut(sql, span) == "where a > 1"), "{sql}");
        assert_eq!(cut(sql, copy.rest), rest);
        assert!(copy.target.is_some() && !copy.writes, "{sql}");
        assert_eq!(copy.columns.is_some(), sql.contains("(a, b)"), "{sql}");
    }
    for (sql, writes) in [
        ("copy (select 1) to stdout", false),
        ("copy (values (1)) to 'f' csv", false),
        ("copy (insert into t values (1) returning a) to stdout", true),
        ("copy (with x as (delete from t returning a) select 1) to stdout", true),
        ("copy ((with x as (delete from t returning a) select 1)) to stdout", true),
        ("copy (with x as (select 1) update t set a = 1 returning a) to stdout", true),
    ] {
        let Kind::Copy(copy) = of(sql).kind else { panic!("{sql}") };
        assert_eq!((copy.target, copy.direction, copy.writes), (None, To, writes), "{sql}");
    }
}

#[test]
fn other_kinds() {
    let into = |sql: &str| match of(sql).kind {
        Kind::Select { into } => into.map(|w| shown(&[w])),
        other => panic!("{sql}: {other:?}"),
    };
    assert_eq!(into("(select 1 into s.t)").as_deref(), Some("s.t"));
    assert_eq!(into("select 1 as into, 2 into temp from x").as_deref(), Some("temp"));
    assert_eq!(into("values (1)"), None);
    let kind = |sql: &str| of(sql).kind;
    for sql in ["", " ; ", "/**/", "begin", "lock t", "vacuum full", "prepare transaction 'x'", "commit prepared 'x'"] {
        assert_eq!(kind(sql), Kind::Other, "{sql}");
    }
    for sql in ["set a = 1", "reset all", "discard all", "load 'x'"] {
        assert_eq!(kind(sql), Kind::Session, "{sql}");
    }
    for sql in [
        "create rule r as on insert to t do also (delete from u; delete from v)",
        "create or replace function f() returns int begin atomic select 1; end",
        "create view v as select 1",
        "create table t (a int generated always as (1) stored)",
        "create temp table t ()",
        "alter table t add a int",
        "grant all on t to u",
    ] {
        assert_eq!(kind(sql), Kind::Ddl, "{sql}");
    }
    for sql in [
        "create table s.t as select 1",
        "create temp table if not exists s.t (a, b) with (x = 1) on commit drop as execute p",
        "create materialized view s.t as select 1",
        "create unlogged table s.t as table x",
    ] {
        let Kind::CreateAs { relation } = kind(sql) else { panic!("{sql}") };
        assert_eq!(shown(&[relation]), "s.t", "{sql}");
    }
    for sql in [
        "foo",
        "select 'a",
        "select (1",
        "select 1]",
        "select 1 ? \\",
        "select 1; select 2",
        "(insert into t values (1))",
        "\"select\" 1",
    ] {
        assert_eq!(kind(sql), Kind::Unknown, "{sql}");
    }
    assert_eq!(kind("declare c no scroll cursor with hold for select 1"), Kind::Declare);
    assert!(matches!(kind("call s.p(1)"), Kind::Call(p) if shown(&[p]) == "s.p"));
    let body = |sql: &str| match kind(sql) {
        Kind::Do { body } => body.map(|b| String::from_utf8_lossy(&b).into_owned()),
        other => panic!("{other:?}"),
    };
    assert_eq!(body("do language plpgsql $$ begin end $$").as_deref(), Some(" begin end "));
    assert_eq!(body("do e'it\\'s' language 'sql'").as_deref(), Some("it's"));
    assert_eq!(body("do U&'x'"), None);
}

#[test]
fn prepare_and_execute() {
    let sql = "prepare \"P\" (int, text) as delete from t where a = $1;";
    let Kind::Prepare { name: prepared, types, body, inner } = of(sql).kind else { panic!() };
    assert_eq!(
        (prepared, cut(sql, types).trim(), cut(sql, body)),
        (name("P"), "(int, text)", "delete from t where a = $1")
    );
    assert!(matches!(inner.kind, Kind::Delete(_)) && inner.relations[0].span == Span { start: 12, end: 13 });
    assert_eq!(of("prepare a as prepare b as select 1").kind, Kind::Unknown);
    let sql = "execute transaction (1, f(2))";
    let Kind::Execute { name: executed, name_span } = of(sql).kind else { panic!() };
    assert_eq!((executed, cut(sql, name_span)), (name("transaction"), "transaction"));
}

#[test]
fn explains() {
    for (sql, expected) in [
        ("explain delete from t", false),
        ("explain analyze delete from t", true),
        ("explain analyze verbose delete from t", true),
        ("explain verbose delete from t", false),
        ("explain (analyze) delete from t", true),
        ("explain (costs off, ANALYZE on, format json) delete from t", true),
        ("explain (analyze off) delete from t", false),
        ("explain (analyze 'FALSE') delete from t", false),
        ("explain (analyze 0) delete from t", false),
        ("explain (analyze, analyze false) delete from t", false),
    ] {
        let Kind::Explain { analyze, inner } = of(sql).kind else { panic!("{sql}") };
        assert!(analyze == expected && matches!(inner.kind, Kind::Delete(_)), "{sql}");
    }
    assert!(matches!(of("explain (select 1)").kind, Kind::Explain { analyze: false, .. }));
    assert!(matches!(of("explain analyze execute p").kind, Kind::Explain { analyze: true, .. }));
    assert_eq!(of("explain explain select 1").kind, Kind::Unknown);
}

#[test]
fn merges() {
    let sql = "merge into t using u on case when a then b end when matched and case when x then y end then \
               update set a = case when x then 1 end, (b, c) = (1, 2) when not matched by source then delete \
               when not matched then insert (a) overriding user value values (1) when matched then do nothing \
               returning merge_action(), t.*";
    let Kind::Merge(merge) = of(sql).kind else { panic!() };
    assert_eq!(merge.assigns, [name("a"), name("b"), name("c")]);
    assert!(merge.inserts && merge.deletes && merge.returning.is_some());
}

#[test]
fn truncates() {
    let Kind::Truncate(truncate) = of("truncate table only a, s.b * restart identity cascade").kind else { panic!() };
    assert!(truncate.restart_identity && truncate.cascade && truncate.targets[0].only && !truncate.targets[1].only);
    let Kind::Truncate(truncate) = of("truncate restart continue identity restrict").kind else { panic!() };
    assert!(!truncate.restart_identity && !truncate.cascade);
    assert_eq!(of("truncate t foo").kind, Kind::Unknown);
}

#[test]
fn words_are_in_one_class_each() {
    use super::word::Word;
    for (text, word) in Word::ALL {
        assert_eq!(Word::of(crate::sql::TokenKind::Ident, &text.to_ascii_uppercase()), *word);
    }
    assert_eq!(Word::of(crate::sql::TokenKind::QuotedIdent, b"select"), Word::None);
    assert_eq!(Word::of(crate::sql::TokenKind::Ident, b"current_timestampX"), Word::None);
}
