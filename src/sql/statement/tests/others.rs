use super::*;

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
    assert_eq!((cut(sql, b.body), &sql[b.body.end..=b.close]), ("insert into t values (1) returning a", " )"));
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
    for sql in [
        "select t.user, \"current_date\", x.limit",
        "update t set a = 1",
        "select 'user'",
        "insert into t overriding user value values (1)",
    ] {
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
