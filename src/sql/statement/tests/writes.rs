use super::*;

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
