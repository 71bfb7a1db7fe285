//! What a statement is read as: the server says which tables and functions it depends on, what binds tighter than what,
//! and which words can be names.

use pgcanon::sql::Name;
use pgcanon::sql::statement::{Delete, Expr, Item, Kind, Target, Update, Written, read};

use crate::made_up::Dice;
use crate::session::{ON, SERVERS, Session};

/// Tables `ta` … `tf` in `s`, `tb` in `s2` too, with columns `a` … `c`, and functions `fa` … `fd`, one of them in `s2`.
fn schema(session: &mut Session) {
    session.settings(ON, "utf8");
    session.must("drop schema if exists s2 cascade; create schema s2; create table s2.tb (a int, b int, c int)");
    for table in ["ta", "tb", "tc", "td", "te", "tf"] {
        session.must(&format!("create table {table} (a int primary key, b int, c int)"));
    }
    for function in ["fa", "fb", "fc", "s2.fd"] {
        session.must(&format!("create function {function}(int) returns int language sql as 'select 1'"));
    }
}

fn text(name: &Name) -> String {
    String::from_utf8(name.as_bytes().to_vec()).unwrap()
}

/// As the server shows a name with `search_path = s`.
fn shown(names: &[Written]) -> Vec<String> {
    let one = |w: &Written| match &w.schema {
        Some(schema) if schema.as_bytes() != b"s" => format!("{}.{}", text(schema), text(&w.name)),
        _ => text(&w.name),
    };
    let mut all: Vec<String> = names.iter().map(one).collect();
    all.sort();
    all.dedup();
    all
}

/// What the statement depends on as the body of a function: tables, then functions; none where the server refuses it.
fn depends(session: &mut Session, sql: &str) -> Option<[Vec<String>; 2]> {
    let create = format!("create function body() returns void begin atomic {sql}; end");
    if session.query(create.as_bytes()).error.is_some() {
        return None;
    }
    let found = [("pg_class", "regclass"), ("pg_proc", "regproc")].map(|(catalog, cast)| {
        let answer = session.must(&format!(
            "select distinct refobjid::{cast}::text collate \"C\" from pg_depend where classid = 'pg_proc'::regclass \
             and objid = 'body'::regproc and refclassid = '{catalog}'::regclass order by 1"
        ));
        answer.rows.into_iter().flatten().collect()
    });
    session.must("drop function body");
    Some(found)
}

fn compare(session: &mut Session, sql: &str) -> bool {
    let statement = read(sql.as_bytes(), ON);
    let Some([tables, functions]) = depends(session, sql) else { return false };
    assert_ne!(statement.kind, Kind::Unknown, "{sql}");
    assert_eq!(shown(&statement.relations), tables, "{sql}: tables");
    let calls = shown(&statement.calls);
    let missing: Vec<_> = functions.iter().filter(|f| !calls.contains(f)).collect();
    assert!(missing.is_empty(), "{sql}: not listed: {missing:?}");
    true
}

const STATEMENTS: &[&str] = &[
    "select * from ta, s2.tb, lateral (select fa(td.a) from td) x, only (te)",
    "select x.a from (ta join tb using (a)) x (a) cross join tc, td natural join te order by 1 limit fa(1)",
    "select extract(year from now()), substring('a' from fa(1)), trim(both from 'x'), position('a' in 'b') from ta",
    "select a is distinct from fa(b), a is not distinct from c from ta as tb (a, b, c)",
    "select * from rows from (generate_series(1, fa(2)), generate_series(1, 2)) with ordinality as x (td, te, tf), tc",
    "with ta as (select * from ta), tb as (select * from ta) select * from ta, tb, s.tc",
    "with recursive ta as (select 1 as a union select a + 1 from ta where a < 5) select * from ta, tb",
    "with recursive x (a, b) as (select a, b from ta union all select x.a, x.b from x join tb on tb.a = x.a) \
     search breadth first by a, b set c cycle a set d using td select * from x, tc",
    "select * from (with ta as (select 1) select * from ta) x, tb, (table tc) y, (values (1), (fa(2))) z",
    "select * from ta where exists (select from tb where a in (select b from te)) or a = any (array(select a from tf))",
    "select * from ta for no key update of ta skip locked",
    "select * from ta tablesample system (fa(1)) repeatable (2), tb",
    "select count(*) filter (where fa(a) > 1) over (partition by (b) order by (c)) from ta group by grouping sets ((a), (b, c)), a, b, c",
    "select * from ta join tb on case when ta.a = 1 then true else false end, tc",
    "(select a from ta) union all (select fb(a) from tb order by 1) intersect select c from tc except values (1)",
    "insert into ta (a, b) select x.a, fa(x.b) from tb x on conflict (a) do update set b = (select max(a) from tc), c = s2.fd(1)",
    "insert into ta with tb as (select * from tc) select * from tb on conflict on constraint ta_pkey do nothing",
    "with tb as (select 1) insert into tb (a) select * from tb",
    "with ta as (select 1 as a) update ta set b = 1 from ta x",
    "with x as (delete from ta using tb, tc where ta.a = tb.a returning ta.*) insert into td select * from x",
    "with x as materialized (insert into ta values (fa(1)) on conflict do nothing returning a), \
     y as (update tb set b = x.a from x returning tb.a) select * from x, y, tc",
    "update only s.ta as x set (a, b) = (select 1, fa(2) from tb), c = default from tc, td where x.a = tc.a and fb(td.a) = 1",
    "update ta set c = case when ta.a is not distinct from tb.a then 1 else 2 end from tb",
    "delete from ta using tb join tc using (a), td where exists (table te)",
    "delete from ta where ctid = any (array(select ctid from ta for update limit fa(1)))",
    "select * from xmltable('/a' passing (select '<a/>'::xml from tb) columns a int path '.' default fa(1)) x, tc",
    "select * from ta where (a, b) in (select c, fa(1) from tb) and not (a between fb(1) and (select 2 from tc))",
    "select array(select a from ta), array[fa(1), (select a from tb)], row(fb(1), fc(2)), (select tc from tc)",
    "select fa(1) as from, s2.fd(2) as into, 3 as \"update\" from ta",
    "select coalesce(fa(1), greatest(fb(2), nullif(1, fc(3))))",
];

fn statements(session: &mut Session) {
    // A refused one would test nothing.
    let refused: Vec<_> = STATEMENTS.iter().filter(|sql| !compare(session, sql)).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn the_server_agrees_on_tables_and_functions() {
    for pg in SERVERS {
        let mut session = Session::start(pg);
        schema(&mut session);
        statements(&mut session);
        let mut dice = Dice(11);
        let ran = (0..400).filter(|_| compare(&mut session, &query(&mut dice, 3))).count();
        assert!(ran > 100, "only {ran} of the made up queries were valid");
    }
}

/// A query made up of pieces that hold further ones.
fn query(dice: &mut Dice, depth: usize) -> String {
    let tables = ["ta", "tb", "s2.tb", "tc", "s.td", "te", "\"tf\""];
    let mut with = String::new();
    if depth > 0 && dice.roll(4) == 0 {
        with += dice.pick(&["with ", "with recursive "]);
        for n in 0..=dice.roll(2) {
            with += if n > 0 { ", " } else { "" };
            with += dice.pick(&["ta", "tb (a, b)", "tc", "x"]);
            with += dice.pick(&[" as (", " as materialized (", " as not materialized ("]);
            with += &format!("{})", query(dice, depth - 1));
        }
    }
    let mut from = Vec::new();
    for n in 0..=dice.roll(3) {
        let alias = format!("{}z{n}{depth}", dice.pick(&[" ", " as "]));
        let item = match dice.roll(8) {
            0 if depth > 0 => format!("({}){alias}", query(dice, depth - 1)),
            1 if depth > 0 => format!("lateral ({}){alias} (a, b)", query(dice, depth - 1)),
            2 => format!("generate_series(1, fa(2)){alias} (a)"),
            3 => format!("({} join {} q{n}{depth} using (a)){alias}", dice.pick(&tables), dice.pick(&tables)),
            4 => format!("only ({}){alias}", dice.pick(&tables)),
            _ => format!("{}{alias}", dice.pick(&tables)),
        };
        let joins = [", ", " cross join ", " natural left join "];
        from.push(if n > 0 { dice.pick(&joins).to_owned() + &item } else { item });
    }
    let condition = match dice.roll(6) {
        0 if depth > 0 => format!(" where exists ({})", query(dice, depth - 1)),
        1 if depth > 0 => {
            format!(" where 1 is not distinct from ({} limit 1) order by fb(1), 2", query(dice, depth - 1))
        }
        2 => " where extract(year from now()) > fc(1) group by 1, 2 for update".to_owned(),
        3 => format!(" union all select 1, 2 from {}, {} as x", dice.pick(&tables), dice.pick(&tables)),
        _ => String::new(),
    };
    let items = dice.pick(&[
        "1 as a, 2 as b",
        "fa(1) as a, s2.fd(2) b",
        "substring('a' from 1) as a, 1 is distinct from 2 as b",
    ]);
    format!("{with}select {items} from {}{condition}", from.concat())
}

// === targets ===

/// Statements that write `x.y` or `y`, which is not there.
const TARGETS: &[&str] = &[
    "insert into {} values (1)",
    "insert into {} as x (a, b) overriding user value select 1 on conflict (lower(a) collate \"C\") where b do nothing",
    "/* update t */ with a as (select 1) insert into {} default values returning *, a b",
    "update {} set a = 1",
    "update only {} x set (a, b[1]) = row(1, default), c.d = 2 from t where current_date = a returning x.*",
    "update only ({}) as \"X\" set a = 1 where current of c",
    "update {} * set set = set",
    "delete from {}",
    "delete from only {} using t, t as u where t.a = 1;",
    "delete from {} * as where_ where where_.a returning 1",
    "with recursive a as (select 1), b as (select 2) delete from {} where exists (table a)",
    "merge into {} x using t on x.a = t.a when matched then delete when not matched then insert default values",
];

#[test]
fn the_server_agrees_on_targets() {
    for pg in SERVERS {
        let mut session = Session::start(pg);
        session.settings(ON, "utf8");
        for template in TARGETS {
            for name in
                ["none", "s . none", "\"None\"", "s.\"No ne\"", "U&\"!006eone\" uescape '!'", "values", "update", "set"]
            {
                let sql = template.replace("{}", name);
                let answer = session.query(sql.as_bytes());
                let message = answer.error.as_ref().and_then(|e| e.field(b'M')).unwrap_or_default();
                let asked = message.strip_prefix("relation \"").and_then(|m| m.strip_suffix("\" does not exist"));
                let Target { relation, .. } = match read(sql.as_bytes(), ON).kind {
                    Kind::Insert(insert) => insert.target,
                    Kind::Update(update) => update.target,
                    Kind::Delete(delete) => delete.target,
                    Kind::Merge(merge) => merge.target,
                    other => panic!("{sql}: {other:?}, {message}"),
                };
                let schema = relation.schema.as_ref().map_or(String::new(), |s| text(s) + ".");
                assert_eq!(asked, Some((schema + &text(&relation.name)).as_str()), "{sql}: {message}");
            }
        }
    }
}

// === expressions ===

fn condition(text: &str) -> Expr {
    match read(format!("delete from x where {text}").as_bytes(), ON).kind {
        Kind::Delete(Delete { filter: Some(filter), .. }) => filter,
        other => panic!("{text}: {other:?}"),
    }
}

/// As the server shows it: `BETWEEN` and `IN` are comparisons, and chains are one node.
#[allow(clippy::result_large_err, reason = "either way it is moved on")]
fn normal(expr: Expr) -> Expr {
    let all = |list: Vec<Expr>| list.into_iter().map(normal).collect::<Vec<_>>();
    match expr {
        Expr::Between(list) => {
            let [of, low, high] = <[Expr; 3]>::try_from(all(list)).unwrap();
            let compare = |name: &str, with| Expr::Operator { name: name.into(), operands: vec![of.clone(), with] };
            Expr::And(vec![compare(">=", low), compare("<=", high)])
        }
        Expr::In { of, list, negated: false } => {
            let of = normal(*of);
            let equal = |e| Expr::Operator { name: "=".into(), operands: vec![of.clone(), e] };
            normal(Expr::Or(all(list).into_iter().map(equal).collect()))
        }
        Expr::And(list) => Expr::And(flat(all(list), |e| if let Expr::And(l) = e { Ok(l) } else { Err(e) })),
        Expr::Or(list) => Expr::Or(flat(all(list), |e| if let Expr::Or(l) = e { Ok(l) } else { Err(e) })),
        Expr::Operator { name, operands } => Expr::Operator { name, operands: all(operands) },
        Expr::Not(of) => Expr::Not(Box::new(normal(*of))),
        Expr::Is(of) => Expr::Is(Box::new(normal(*of))),
        Expr::Distinct(a, b) => Expr::Distinct(Box::new(normal(*a)), Box::new(normal(*b))),
        Expr::Pure(list) => Expr::Pure(all(list)),
        Expr::Any { of, operator, array } => {
            Expr::Any { of: Box::new(normal(*of)), operator, array: Box::new(normal(*array)) }
        }
        Expr::Array(list) => Expr::Array(all(list)),
        other => other,
    }
}

fn flat(list: Vec<Expr>, chain: impl Fn(Expr) -> Result<Vec<Expr>, Expr>) -> Vec<Expr> {
    list.into_iter().flat_map(|e| chain(e).unwrap_or_else(|e| vec![e])).collect()
}

#[test]
fn the_server_agrees_on_what_binds_tighter() {
    let operators = [
        " + ",
        " - ",
        " * ",
        " / ",
        " % ",
        " & ",
        " | ",
        " # ",
        " << ",
        " = ",
        " < ",
        " >= ",
        " <> ",
        " != ",
        " and ",
        " or ",
        " is distinct from ",
        " and not ",
        " = -",
        " + - ",
        " - ~",
        " | @ ",
        "*+",
    ];
    let tails =
        [" between b + c and c * a", " in (a, b + c)", " = any (array[b, c])", " = case when p or q then b else c end"];
    for pg in SERVERS {
        let mut session = Session::start(pg);
        session.settings(ON, "utf8");
        session.must("create table x (a int, b int, c int, p bool, q bool)");
        let mut dice = Dice(5);
        let mut ran = 0;
        for _ in 0..4000 {
            let mut sql = String::new();
            for n in 0..=dice.roll(6) {
                if n > 0 {
                    match dice.roll(8) {
                        0 => sql += dice.pick(&tails),
                        1 => {
                            sql += dice.pick(&[" is null", " is not null", " isnull", " is true", " notnull and a = b"])
                        }
                        _ => {}
                    }
                    sql += dice.pick(&operators);
                }
                sql += dice.pick(&[
                    "a",
                    "b",
                    "c",
                    "p",
                    "q",
                    "not p",
                    "-a",
                    "(a + b)",
                    "(p or q)",
                    "- b * c",
                    "coalesce(a, b)",
                ]);
            }
            if session.query(format!("create view v as select from x where {sql}").as_bytes()).error.is_some() {
                continue;
            }
            let shown = session.must("select pg_get_viewdef('v')").rows.remove(0).unwrap();
            session.must("drop view v");
            let shown = shown.split_once("WHERE ").unwrap().1.trim_end_matches(';').replace("x.", "");
            let (ours, theirs) = (condition(&sql), condition(&shown));
            assert!(ours != Expr::Opaque && theirs != Expr::Opaque, "{sql}: {ours:?}\n{shown}: {theirs:?}");
            assert_eq!(normal(ours), normal(theirs), "{sql}\n{shown}");
            ran += 1;
        }
        assert!(ran > 300, "only {ran} of the made up conditions were valid");
    }
}

// === words ===

#[test]
fn the_server_agrees_on_which_words_can_be_names() {
    for pg in SERVERS {
        let mut session = Session::start(pg);
        let words = session.must("select concat_ws(' ', word, catcode, barelabel) from pg_get_keywords()").rows;
        for row in words.into_iter().flatten() {
            let [word, class, bare] = <[&str; 3]>::try_from(row.split(' ').collect::<Vec<_>>()).unwrap();
            let kind = |sql: String| read(sql.as_bytes(), ON).kind;
            let table = matches!(kind(format!("delete from {word}")), Kind::Delete(_));
            assert_eq!(table, matches!(class, "U" | "C"), "{word} as a table");
            let call = matches!(condition(&format!("{word}(a, b, 1, 2) = 1")), Expr::Operator { operands, .. }
                if matches!(operands[0], Expr::Call { .. }));
            assert_eq!(call, matches!(class, "U" | "T"), "{word} as a function");
            let Kind::Update(Update { returning: Some(returning), .. }) =
                kind(format!("update x set a = 1 returning 1 {word}"))
            else {
                // A word that ends the item.
                assert_eq!(bare, "f", "{word} as a label");
                continue;
            };
            let label = returning.items == Some(vec![Item::Named(word.into())]);
            // A label that is read as part of the expression leaves the name unknown.
            assert!(label == (bare == "t") || !label, "{word} as a label");
        }
    }
}
