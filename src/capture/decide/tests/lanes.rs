//! Which lane a statement takes.

use super::*;

#[test]
fn constants_and_a_pinned_key_are_text() {
    node().lanes(&[
        ('S', "insert into acc values (1, 2, 'x')"),
        ('S', "insert into acc (id, name) values (1, 'a' || 'b'), (2, upper('c')), ($1, $2)"),
        ('S', "insert into acc (id, at) values (1, $1)"),
        ('S', "insert into acc (id, doc, tags) values (1, '{}', array['a', 'b'])"),
        ('S', "insert into acc default values"),
        ('S', "insert into acc (id, cash) values (1, null)"),
        ('S', "insert into acc (id, bal) values (1, default)"),
        ('S', "insert into acc (id, bal) values (1, 2) on conflict do nothing"),
        ('S', "insert into acc (id, bal) values (1, 2) on conflict (id) do update set bal = acc.bal + excluded.bal"),
        (
            'S',
            "insert into acc as a (id, bal) values (1, 2) on conflict (id) do update set bal = a.bal where a.bal < 5",
        ),
        ('S', "update acc set bal = bal + 5 where id = 3"),
        ('S', "update acc set bal = bal - $1 where id = $2"),
        ('S', "update public.acc set bal = acc.bal * 2 where (5) = acc.id and name like 'x%'"),
        ('S', "update only acc as a set name = upper(a.name) || 'x' where a.id = -3"),
        ('S', "update acc set id = 4 where id = 3"),
        ('S', "update acc set f = f / 2, raw = 'abc', mood = 'ok' where id = 1 and mood = 'bad' and f is not null"),
        ('S', "update acc set bal = case when bal > 5 then 1 else bal end, name = coalesce(name, 'x') where id = 1"),
        ('S', "update acc set at = at where id = 1 and at is null"),
        ('S', "update acc set at = $1::timestamptz where id = 1"),
        ('S', "update acc set doc = '{}'::json where id = 1"),
        ('S', "update two set v = 1 where a = 1 and b = 'x'"),
        ('S', "update two set v = 1 where (a, b) = ($1, $2)"),
        ('S', "update uni set v = 1 where code = 'x'"),
        ('S', "delete from acc where id = 3"),
        ('S', "delete from acc where id = 3 returning *"),
        ('S', "delete from acc where id in (1, 2, 3)"),
        ('S', "update acc set bal = 0 where id in ($1, $2)"),
        ('S', "update two set v = 1 where a in (1, 2) and b = 'x'"),
        ('S', "update acc set name = pg_catalog.md5('x') where id = 1"),
        ('S', "update part set v = 1 where id = 1"),
        ('S', "truncate acc"),
    ]);
}

#[test]
fn what_hangs_on_more_than_that_is_rows() {
    node().lanes(&[
        ('R', "insert into acc select 1"),
        ('R', "insert into acc (id, at) values (1, now())"),
        ('R', "insert into acc (id, at) values (1, 'now')"),
        ('R', "insert into acc (id, at) values (1, '2020-01-01')"),
        ('R', "insert into acc (id, at) values (1, current_timestamp)"),
        ('R', "insert into acc (id, cash) values (1, '5')"),
        ('R', "insert into acc (id, name) values (1, random()::text)"),
        ('R', "insert into acc (id, name) values (1, current_user)"),
        ('R', "insert into acc (id, bal) values (1, (select 5))"),
        ('R', "insert into acc (id, bal) values (1, mine(5))"),
        ('R', "insert into acc (id, name) values (1, md5('x'))"), // a user's md5 may come first
        ('R', "insert into acc (id, bal) values (1, 2 @@@ 3)"),
        ('R', "insert into acc (id, tags[1]) values (1, 'x')"),
        ('R', "insert into log (what) values ('x')"),
        ('R', "insert into acc (id, bal) values (1, 2), (3, 4) on conflict do nothing"),
        ('R', "insert into uni values (1, 'x', 2) on conflict do nothing"),
        ('R', "insert into acc (id, bal) values (1, 2) on conflict (id) do update set bal = (select max(v) from two)"),
        ('R', "update acc set bal = 1"),
        ('R', "update acc set bal = 1 where id > 3"),
        ('R', "update acc set bal = 1 where id = 3 or bal = 2"),
        ('R', "update acc set bal = 1 where id = bal"),
        ('R', "update acc set bal = 1 where id = any($1)"),
        ('R', "update acc set bal = 1 where id not in (1, 2)"),
        ('R', "update acc set bal = two.v from two where id = 1"),
        ('R', "update acc set bal = 1 where id = 1 and exists (select 1 from two)"),
        ('R', "update acc set bal = 1 where id = 1 and ctid = '(0,1)'"),
        ('R', "update acc set name = f where id = 1"), // extra_float_digits
        ('R', "update acc set name = bal || 'x' where id = 1"),
        ('R', "update acc set name = raw::text where id = 1"),
        ('R', "update acc set at = at + '1 day' where id = 1"),
        ('R', "update acc set bal = 1 where id = 1 and at > '2020-01-01'"),
        ('R', "update acc set bal = 1 where id = 1 and cash = '5'"),
        ('R', "update acc set tags[1] = 'x' where id = 1"),
        ('R', "update acc set (bal, name) = (select 1, 'x') where id = 1"),
        ('R', "update acc set bal = 1 where current of c"),
        ('R', "update two set v = 1 where a = 1"),
        ('R', "update two set v = 1 where a in (1, 2) and b in ('x', 'y')"),
        ('R', "delete from acc"),
        ('R', "delete from acc using two where acc.id = 1"),
        ('R', "with x as (select 1) update acc set bal = 1 where id = 1"),
        ('R', "insert into bare select 1"),
        ('R', "update part_1 set v = 1 where id = 1"),
        ('S', "insert into bare values (1, 'x')"),
    ]);
}

#[test]
fn what_touches_no_ruled_table_passes() {
    node().lanes(&[
        ('-', "select * from acc"),
        ('-', "insert into nothing values (1)"),
        ('-', "insert into temp.acc values (1)"),
        ('-', "insert into pg_catalog.acc values (1)"),
        ('-', "insert into other.far values (1)"),
        ('-', "update other.far set v = 1"),
        ('-', "select now() from acc for update"),
        ('-', "with x as (delete from nothing returning *) select * from x"),
        ('-', "explain update acc set bal = 1"),
        ('-', "prepare p as update acc set bal = 1"),
        ('-', "copy acc to stdout"),
        ('-', "begin"),
        ('-', "lock acc"),
        ('~', "set search_path to x"),
        ('~', "select set_config('search_path', 'x', false)"),
        ('~', "select mine(1)"),
        ('~', "create temp table acc (id int)"),
        ('~', "create temporary table acc as select 1"),
        ('~', "select 1 into temp acc"),
        ('~', "call unknown_procedure()"),
    ]);
    node().with(|n| n.shadowed = true).lanes(&[('-', "insert into acc values (1)"), ('-', "truncate acc")]);
}

#[test]
fn only_names_that_may_matter_are_asked_about() {
    let node = node().with(|n| n.asked = false);
    let asked = |sql: &str| -> Vec<String> {
        let names = match node.ask(sql) {
            Err(Ask::Names(names)) => names,
            _ => vec![],
        };
        names.iter().map(|w| String::from_utf8_lossy(w.name.as_bytes()).into_owned()).collect()
    };
    assert_eq!(asked("update acc set bal = 1"), ["acc"]);
    assert_eq!(asked("update other.nothing set bal = 1"), [""; 0]);
    // Newer than the picture, perhaps.
    assert_eq!(asked("update nothing set bal = 1"), ["nothing"]);
    assert_eq!(asked("select * from acc, two"), [""; 0]);
    assert_eq!(asked("with x as (delete from two) insert into acc select 1"), ["acc", "two"]);
    assert_eq!(asked("truncate acc, log, nothing"), ["acc", "log", "nothing"]);
}

#[test]
fn session_settings_and_types_of_parameters_count() {
    node().with(|n| n.conforming = false).lanes(&[
        ('R', "insert into acc (id, name) values (1, 'x')"),
        ('S', "insert into acc (id, bal) values (1, 2)"),
    ]);
    let told = |oids: &[u32]| node().with(|n| n.params = oids.to_vec());
    told(&[23, 1043]).lanes(&[('S', "insert into acc (id, name) values ($1, $2)")]);
    told(&[23, 1184]).lanes(&[
        ('R', "insert into acc (id, name) values ($1, $2)"), // timestamptz to text hangs on DateStyle
        ('S', "insert into acc (id, at) values ($1, $2)"),
    ]);
    told(&[701]).lanes(&[('R', "update acc set name = $1 where id = 1")]);
    told(&[1114]).lanes(&[('R', "update acc set at = $1 where id = 1")]);
    told(&[12345]).lanes(&[('R', "update acc set bal = 1 where id = 1 and mood = $1")]);
}

#[test]
fn parameters_of_times_must_be_binary() {
    let write = node().write("insert into acc (id, at) values ($1, $2)");
    assert_eq!(write.binary_params, [2]);
    match write.otherwise.as_deref() {
        Some(Decision::Write(rows)) => assert_eq!(rows.lane, Lane::Row),
        other => panic!("{other:?}"),
    }
}

#[test]
fn triggers_policies_filters_and_columns_turn_text_into_rows() {
    let update = "update acc set bal = 1 where id = 1";
    node().with(|n| n.relation(10, |r| r.before_row_trigger = true)).lanes(&[('R', update)]);
    for rule in ["where = \"bal > 0\"", "conflict = { resolve = \"last\" }"] {
        let rules = rules(&format!("[[table]]\nname = \"public.*\"\n{rule}\n"));
        node().with(|n| n.catalog.rules = rules.into()).lanes(&[('R', update), ('S', "truncate acc")]);
    }
    let rules = rules("[[table]]\nname = \"public.*\"\ncolumns = [\"bal\"]\n");
    node().with(|n| n.catalog.rules = rules.into()).lanes(&[
        ('S', update),
        ('R', "update acc set bal = 1 where id = 1 and name = 'x'"),
        ('R', "update acc set bal = 1, name = 'x' where id = 1"),
        ('-', "update acc set name = 'x' where id = 1"),
        ('R', "insert into acc values (1, 2)"),
        ('S', "insert into acc (id, bal) values (1, 2)"),
    ]);
}

#[test]
fn rights_decide_before_the_server_does() {
    node().with(|n| n.blind = Blind::read(b"iu")).lanes(&[
        ('S', "update acc set bal = 1 where id = 1"),
        ('X', "update acc set bal = 1 where id in (1, 2)"),
        ('X', "insert into log (what) values ('x')"),
        // As it may not do that at all, the server says so.
        ('R', "delete from acc where id > 1"),
    ]);
    node()
        .with(|n| n.row_security = true)
        .lanes(&[('S', "delete from acc where id = 1"), ('X', "delete from acc where id > 1")]);
}

#[test]
fn keys_that_change_and_keyless_tables_are_locked_text() {
    let node = node();
    node.lanes(&[
        ('L', "update acc set id = id + 1"),
        ('L', "update acc set id = id + 1 where id in (1, 2)"),
        ('R', "update acc set id = id, bal = 1"),
        ('L', "update bare set a = 1"),
        ('L', "delete from bare where a = 1 and exists (select 1 from acc where acc.id = bare.a)"),
        ('L', "merge into acc using two on acc.id = two.a when matched then update set bal = 1"),
        ('X', "update acc set id = id + random()"),
        ('X', "update bare set a = 1 where b = current_user"),
        ('X', "delete from bare where a in (select a from bare limit 1)"),
        ('X', "update bare set a = x.v from two x"),
        ('X', "delete from bare where ctid = '(0,1)'"),
        ('X', "delete from bare where b = 'x' and a in (select v from nothing)"),
        ('X', "delete from bare where a in (select v from other.far)"),
        ('X', "merge into log using two on log.id = two.a when not matched then insert (what) values ('x')"),
    ]);
    let write = node.write("update acc set id = id + 1 where id in (select a from two)");
    assert_eq!(
        write.before,
        ["LOCK TABLE \"public\".\"acc\" IN SHARE ROW EXCLUSIVE MODE", "LOCK TABLE \"public\".\"two\" IN SHARE MODE"]
    );
    assert!(write.fresh_snapshot && write.alone.is_none());
    let text = write.heads[0].text.as_ref().unwrap();
    assert_eq!(text.settings, [("TimeZone".to_owned(), "UTC".to_owned())]);
    let places: Vec<_> = text.names.iter().map(|p| (p.start, p.end, p.table.as_str())).collect();
    assert_eq!(places, [(7, 10, "acc"), (54, 57, "two")]);
}

#[test]
fn newer_servers_show_more() {
    node().with(|n| n.catalog.server = 170_000).lanes(&[
        ('R', "merge into acc using two on acc.id = two.a when matched then update set bal = 1"),
        ('L', "update acc set id = id + 1"),
    ]);
    node().with(|n| n.catalog.server = 180_000).lanes(&[
        ('R', "update acc set id = id + 1"),
        ('L', "update acc as old set id = id + 1"),
        ('L', "update acc as x set id = x.id + 1 returning with (old as o) o.id"),
        ('R', "merge into acc using two on acc.id = two.a when matched then update set id = two.a"),
    ]);
}

#[test]
fn copies_travel_as_their_data_where_all_nodes_make_the_same_of_it() {
    let rules = rules("[[table]]\nname = \"public.*\"\nwhere = \"bal > 0\"\n");
    node().with(|n| n.catalog.rules = rules.into()).lanes(&[('R', "copy acc from stdin")]);
    node().lanes(&[
        ('C', "copy two from stdin"),
        ('C', "copy acc (id, at) from stdin (format binary)"),
        ('C', "copy log from stdin csv"),
        ('C', "copy part_1 from stdin"),
        ('C', "copy two from stdin where a > 5"),
        ('C', "copy two from stdin where a > (select 1)"), // which the server refuses
        ('R', "copy acc from stdin"),                      // money
        ('R', "copy two from stdin where a > random()"),
        ('R', "copy log (what) from stdin"),
        ('R', "copy log (id, what, at, p) from stdin (format binary)"), // OIDs in its values
        ('C', "copy acc (id, at) from stdin (null 'x', delimiter '|')"),
        ('R', "copy acc (id, at) from stdin (null 'now')"),
        ('R', "copy acc (id, at) from stdin (delimiter U&'|')"),
        ('R', "copy acc (id, at) from stdin (encoding 'sjis')"),
        ('X', "copy log (what) from stdin (default 'x')"),
        ('X', "copy log (what) from stdin where id > 3"),
        ('X', "copy acc from '/tmp/x'"),
        ('X', "copy acc from program 'x'"),
    ]);
}

#[test]
fn writing_queries_are_captured_one_by_one() {
    node().lanes(&[
        ('R', "with d as (delete from acc where id = 1 returning *) select * from d"),
        ('R', "with d as (delete from acc where id = 1 returning *) insert into two select id, name, 1 from d"),
        ('R', "with d as (delete from acc) insert into nothing values (1)"),
        ('R', "with d as (delete from nothing returning a) update acc set bal = 1 from d where id = a"),
        ('X', "with d as (delete from acc returning id + 1, bal + 1) select * from d"),
        ('X', "with d as (delete from acc using two returning *) select * from d"),
        ('X', "with d as (update acc set id = id + 1) select 1"),
        ('R', "with d (x, y) as (delete from acc returning id + 1, bal + 1) select x from d"),
    ]);
}

#[test]
fn late_and_deferrable_come_from_the_table() {
    let node = node().with(|n| {
        n.relation(10, |r| r.late = true);
        n.relation(12, |r| r.deferrable = true);
    });
    let write = node.write("with d as (delete from two) update acc set bal = 1");
    assert!(write.late && write.deferrable);
    assert!(!node.write("delete from bare where a = 1").late);
}
