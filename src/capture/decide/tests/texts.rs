//! What is sent in a statement's place, and what is journalled of it.

use super::*;
use crate::capture::write::{AloneResult, BlockForm};
use crate::journal::entry::{ColumnRole, Extra, Op};

fn alone(write: &Write) -> (String, u16, AloneResult) {
    let form = write.alone.as_ref().unwrap();
    (String::from_utf8(form.text.sql.clone()).unwrap(), form.first_param, form.result)
}

fn block(write: &Write) -> String {
    match &write.block {
        BlockForm::Imaged(text) => String::from_utf8(text.sql.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn columns(write: &Write) -> Vec<(String, ColumnRole)> {
    write.heads[0].columns.iter().map(|c| (c.name.clone(), c.role)).collect()
}

#[test]
fn text_travels_without_comments_semicolons_and_returning() {
    let node = node();
    let text = |sql: &str| String::from_utf8(node.write(sql).heads[0].text.clone().unwrap().sql).unwrap();
    assert_eq!(text("/* a */ delete from acc where id = 1 ; -- b"), "/* a */ delete from acc where id = 1");
    assert_eq!(text("delete from acc where id = 1 returning now()"), "delete from acc where id = 1 ");
    // Parameters must keep their numbers.
    assert_eq!(
        text("delete from acc where id = $1 returning $2::int"),
        "delete from acc where id = $1 returning $2::int"
    );
    let head = &node.write("delete from public.acc where id = 1").heads[0];
    let place = &head.text.as_ref().unwrap().names[0];
    assert_eq!((place.start, place.end, place.schema.as_str(), place.table.as_str()), (12, 22, "public", "acc"));
    assert_eq!((head.op, head.rows, head.rule.as_str(), head.shape), (Op::Delete, Some(1), "public.*", [7; 8]));
}

#[test]
fn what_only_returning_names_does_not_travel() {
    let write = node().write("update bare set a = a * 2 where a > 1 returning a, exists (select from two)");
    let text = write.heads[0].text.clone().unwrap();
    assert_eq!(text.sql, b"update bare set a = a * 2 where a > 1 ");
    assert_eq!(text.names.iter().map(|place| place.table.as_str()).collect::<Vec<_>>(), ["bare"]);
}

#[test]
fn one_row_of_text_journals_itself_by_its_tag() {
    let (sql, first, result) = alone(&node().write("update acc set bal = $2 where id = $1 -- x"));
    assert_eq!((first, result), (3, AloneResult::Tag { rows: 1 }));
    assert_eq!(
        sql,
        "WITH pgcanon_dml AS (update acc set bal = $2 where id = $1 RETURNING 1) INSERT INTO pgcanon.journal_0 \
         (meta, data) SELECT $3::pg_catalog.bytea, ''::pg_catalog.bytea FROM pgcanon_dml"
    );
    let (sql, _, result) = alone(&node().write("insert into acc (id) values (1), (2)"));
    assert!(sql.contains("FROM (SELECT pg_catalog.count(*) AS pgcanon_rows FROM pgcanon_dml)"), "{sql}");
    assert_eq!(result, AloneResult::Tag { rows: 2 });
    let (sql, _, result) = alone(&node().write("delete from acc where id = 1 returning name"));
    assert!(sql.ends_with("SELECT * FROM pgcanon_dml") && sql.contains("returning name), pgcanon_log"), "{sql}");
    assert_eq!(result, AloneResult::Own);
}

#[test]
fn a_statement_that_journals_itself_writes_into_the_child_of_the_moment() {
    for sql in ["update acc set bal = 1 where id = 1", "with d as (delete from acc returning id) select id from d"] {
        let form = node().write(sql).alone.clone().unwrap();
        let (first, other) = (form.text_for(0).sql, form.text_for(2).sql);
        let text = String::from_utf8(first.clone()).unwrap();
        assert_eq!((first, text.matches("INTO pgcanon.journal_0 (").count()), (form.text.sql, 1));
        assert_eq!(String::from_utf8(other).unwrap(), text.replace("journal_0", "journal_2"));
    }
}

#[test]
fn a_list_of_keys_carries_images_in_case_some_are_not_there() {
    let write = node().write("update acc set bal = 0 where id in (1, 2, 3)");
    assert_eq!((write.lane, write.expect), (Lane::Statement, Some(3)));
    assert!(
        block(&write)
            .ends_with(" RETURNING pg_catalog.record_send(ROW(\"acc\".tableoid, \"acc\".\"id\", \"acc\".\"bal\"))")
    );
    assert_eq!(columns(&write), [("id".into(), ColumnRole::KeyValue), ("bal".into(), ColumnRole::Value)]);
    let (sql, _, result) = alone(&write);
    assert!(sql.contains("CASE WHEN pgcanon_rows OPERATOR(pg_catalog.=) 3 THEN ''::pg_catalog.bytea ELSE"), "{sql}");
    assert_eq!(result, AloneResult::Count);
}

#[test]
fn images_are_appended_behind_the_last_token() {
    let node = node();
    let image = "pg_catalog.record_send(ROW(\"x\".tableoid, \"x\".\"id\", \"x\".\"bal\"))";
    assert_eq!(
        block(&node.write("update acc x set bal = 1 returning id /* c */; -- d")),
        format!("update acc x set bal = 1 returning id, {image} /* c */; -- d")
    );
    let write = node.write("update acc x set bal = 1");
    assert_eq!(block(&write), format!("update acc x set bal = 1 RETURNING {image}"));
    let (sql, _, result) = alone(&write);
    assert!(
        sql.starts_with(&format!(
            "WITH pgcanon_dml AS (update acc x set bal = 1 RETURNING {image} AS pgcanon_image), "
        ))
    );
    assert!(sql.contains("GROUP BY pgcanon_chunk"));
    assert_eq!(result, AloneResult::Count);
    let (sql, _, result) = alone(&node.write("delete from log where what > 'x' returning id"));
    assert!(
        sql.contains("returning id, pg_catalog.record_send(ROW(\"log\".tableoid, \"log\".\"id\")) AS pgcanon_image)")
    );
    assert_eq!(result, AloneResult::Rows);
}

#[test]
fn positions_are_mapped_back() {
    let write = node().write("update acc set bal = nope where id = 1");
    let text = &write.alone.as_ref().unwrap().text;
    let at = |needle: &str| String::from_utf8_lossy(&text.sql).find(needle).unwrap();
    assert_eq!(text.original(at("nope")), 21);
    assert_eq!(text.original(0), 0);
    assert_eq!(text.original(at("RETURNING")), 38);
    let write = node().write("with d (x) as (delete from acc where id = nope returning id) select wrong from d");
    let text = &write.alone.as_ref().unwrap().text;
    let at = |needle: &str| String::from_utf8_lossy(&text.sql).find(needle).unwrap();
    assert_eq!((text.original(at("nope")), text.original(at("wrong"))), (42, 68));
}

#[test]
fn rows_hold_what_can_have_changed() {
    let node = node();
    let write = node.write("insert into log (what) values ('x')");
    let names: Vec<_> = write.heads[0].columns.iter().map(|c| (c.name.as_str(), c.text)).collect();
    // Generated columns never travel; what holds OIDs travels as text.
    assert_eq!(names, [("id", false), ("what", false), ("at", false), ("p", true)]);
    assert!(block(&write).contains("\"log\".\"p\"::pg_catalog.text))"));
    assert_eq!(alone(&write).2, AloneResult::Tag { rows: 1 });
    assert_eq!(columns(&node.write("delete from acc where bal > 1")), [("id".into(), ColumnRole::Key)]);
    let whole = node.write("insert into acc (id) values (random()) on conflict (id) do update set bal = 1");
    assert_eq!((whole.heads[0].op, whole.heads[0].columns.len()), (Op::Upsert, 10));
    let trigger = super::node().with(|n| n.relation(12, |r| r.before_row_trigger = true));
    assert_eq!(columns(&trigger.write("update two set v = 1")).len(), 3);
    let leaf = node.write("update part_1 set v = 1");
    assert_eq!(leaf.heads[0].table, "part");
    assert!(block(&leaf).contains("ROW(\"part_1\".tableoid, \"part_1\".\"id\", \"part_1\".\"v\")"));
}

#[test]
fn filters_are_evaluated_by_the_node_over_the_row() {
    let rules = rules("[[table]]\nname = \"public.*\"\nwhere = \"v > 0 -- why\"\n");
    let node = node().with(|n| n.catalog.rules = rules.into());
    let write = node.write("update two set v = 1");
    assert_eq!((write.heads[0].extra, write.heads[0].columns.len()), (Extra::Filter, 3));
    let filter =
        "(SELECT (v > 0 -- why\n) IS TRUE FROM (SELECT \"two\".\"a\", \"two\".\"b\", \"two\".\"v\") AS \"two\")";
    assert!(block(&write).contains(&format!("ROW(\"two\".tableoid, {filter}, \"two\".\"a\"")), "{}", block(&write));
    let truncate = node.write("truncate two");
    assert_eq!(truncate.heads[0].extra, Extra::Filter);
}

#[test]
fn old_keys_stand_beside_new_ones_where_the_server_shows_them() {
    let node = node().with(|n| n.catalog.server = 180_000);
    let write = node.write("update uni set id = id + 1, v = 2");
    assert!(block(&write).contains("ROW(\"uni\".tableoid, old.\"id\", new.\"id\", new.\"v\")"), "{}", block(&write));
    let roles: Vec<_> = columns(&write).into_iter().map(|(_, role)| role).collect();
    assert_eq!(roles, [ColumnRole::Key, ColumnRole::Value, ColumnRole::Value]);
    let merge = node.write("merge into uni using two on id = a when matched then delete");
    assert!(block(&merge).contains("ROW(\"uni\".tableoid, merge_action(), \"uni\".\"id\""));
    assert_eq!(merge.heads[0].extra, Extra::Action);
}

#[test]
fn before_that_a_query_finds_the_key_of_the_one_row_that_is_named() {
    let write =
        node().write("update two t set b = random(), v = 1 where (t.a, b) = ($1, 'x') and v > 0 -- c\n returning 1");
    let found = |column: &str| {
        format!("(SELECT \"t\".\"{column}\" FROM \"public\".\"two\" AS \"t\" WHERE (t.a, b) = ($1, 'x') and v > 0)")
    };
    let image = ["\"t\".tableoid", &found("a"), &found("b"), "\"t\".\"a\"", "\"t\".\"b\"", "\"t\".\"v\""].join(", ");
    assert!(
        block(&write).ends_with(&format!("returning 1, pg_catalog.record_send(ROW({image}))")),
        "{}",
        block(&write)
    );
    assert!(write.heads[0].rekeys());
    let write = node().write("update part_1 set id = random() where id = 1");
    assert!(
        block(&write).contains("(SELECT \"part_1\".\"id\" FROM \"public\".\"part_1\" WHERE id = 1)"),
        "{}",
        block(&write)
    );
    node().lanes(&[
        ('X', "update two set b = random() where a = 1"),
        ('X', "update acc set id = random() where id in (1, 2)"),
        ('X', "update acc set id = random() where id = 1 or true"),
        ('X', "update acc set id = random() where id = 1 and bal < random()"),
        ('X', "update acc set id = random() where id = 1 and exists (select 1 from two)"),
        ('X', "update uni set id = random() where code = 'x'"),
        ('X', "update acc set id = random() from two where id = 1"),
    ]);
}

#[test]
fn where_conflicts_are_settled_keys_that_change_are_noted_beside_the_journal() {
    let settled = || {
        node().with(|n| {
            n.catalog.rules = rules("[[table]]\nname = \"public.*\"\nconflict = { resolve = \"last\" }\n").into()
        })
    };
    for sql in ["update acc set id = 2 where id = 1", "delete from acc where id = 1"] {
        let write = settled().write(sql);
        assert_eq!((write.lane, write.alone.is_none(), write.heads[0].frees_keys()), (Lane::Row, true, true), "{sql}");
    }
    let expected = ACC.iter().map(|c| (c.split(' ').next().unwrap().to_owned(), ColumnRole::Value));
    let expected: Vec<_> = std::iter::once(("id".to_owned(), ColumnRole::Key)).chain(expected).collect();
    assert_eq!(columns(&settled().write("update acc set id = 2 where id = 1")), expected, "the whole row is told");
    assert!(settled().write("update acc set id = id where id = 1").alone.is_some());
    for sql in ["insert into bare values (1, 'x')", "copy bare from stdin"] {
        assert!(settled().refuse(sql).hint.unwrap().starts_with("Give \"public.bare\" a primary key"), "{sql}");
    }
    assert!(settled().refuse("update acc set id = id + 1").detail.unwrap().contains("shows only the new one"));
    let late = || settled().with(|n| n.catalog.server = 180_000);
    assert!(late().write("update acc set id = id + 1").alone.is_none());
    for sql in [
        "merge into acc using two on id = a when matched then update set id = b::int",
        "with moved as (update acc set id = 2 where id = 1) select 1",
    ] {
        let hint = late().refuse(sql).hint.unwrap();
        assert!(hint.starts_with("DELETE rows, and UPDATE keys, in a statement of its own"), "{hint}");
    }
}

#[test]
fn where_statements_count_by_their_times_each_is_noted_before_it_runs() {
    let ruled = |by: &str| {
        let rule = format!("[[table]]\nname = \"public.*\"\nconflict = {{ resolve = \"last\", by = \"{by}\" }}\n");
        node().with(|n| n.catalog.rules = rules(&rule).into())
    };
    for sql in [
        "update acc set bal = 1",
        "insert into acc (id, bal) values (1, 2) on conflict (id) do update set bal = 3",
        "delete from acc where id = 1",
        "copy acc from stdin",
        "truncate two, acc",
        "with moved as (insert into acc (id, bal) values (1, 2) returning id) insert into two (a) select id from moved",
    ] {
        assert_eq!(
            ruled("statement_time").write(sql).before,
            ["INSERT INTO pgcanon.statement_time DEFAULT VALUES"],
            "{sql}"
        );
        for by in ["commit_time", "column:id"] {
            assert!(ruled(by).write(sql).before.is_empty(), "{sql}");
        }
    }
}

#[test]
fn an_upsert_that_repeats_its_key_does_not_change_it() {
    let node = node();
    let upsert = "insert into {} select 1, 'x', 2 on conflict (id) do update set id = excluded.id, v = 3";
    assert_eq!(node.lane(&upsert.replace("{}", "uni")), 'L', "another key may have been in the way");
    let one = "insert into two select 1, 'x', 2 on conflict (a, b) do update set a = excluded.a, b = excluded.b";
    assert_eq!(node.lane(one), 'R');
}

#[test]
fn every_table_of_a_truncate_has_its_own_text() {
    let node = node().with(|n| n.relation(10, |r| r.truncates = vec![Oid(12), Oid(30)]));
    let texts = |sql: &str| -> Vec<String> {
        let write = node.write(sql);
        let text = |h: &crate::journal::entry::Head| {
            let text = h.text.clone().unwrap();
            let place = &text.names[0];
            let name = &text.sql[place.start as usize..place.end as usize];
            assert_eq!(name, format!("\"{}\".\"{}\"", h.schema, h.table).as_bytes());
            String::from_utf8(text.sql).unwrap()
        };
        write.heads.iter().map(text).collect()
    };
    assert_eq!(
        texts("truncate only log, nothing, acc restart identity cascade"),
        [
            "TRUNCATE TABLE ONLY \"public\".\"log\" RESTART IDENTITY",
            "TRUNCATE TABLE \"public\".\"acc\" RESTART IDENTITY",
            "TRUNCATE TABLE \"public\".\"two\" RESTART IDENTITY",
        ]
    );
    assert_eq!(texts("truncate acc"), ["TRUNCATE TABLE \"public\".\"acc\""]);
    assert_eq!(texts("truncate part, part_1"), ["TRUNCATE TABLE \"public\".\"part\""]);
}

#[test]
fn copies_lose_freeze_and_keep_the_rest() {
    let node = node();
    for (sql, travels) in [
        ("copy two from stdin with (freeze on)", "copy two from stdin "),
        ("copy two from stdin with (format csv, freeze)", "copy two from stdin with (format csv)"),
        ("copy two from stdin (freeze true, header)", "copy two from stdin ( header)"),
        ("copy two from stdin csv freeze", "copy two from stdin csv "),
        ("copy two from stdin (null 'freeze');", "copy two from stdin (null 'freeze')"),
    ] {
        let write = node.write(sql);
        let text = write.heads[0].text.clone().unwrap();
        assert_eq!(String::from_utf8(text.sql).unwrap(), travels);
        assert!(matches!(write.block, BlockForm::AsIs) && write.alone.is_none());
        assert_eq!(text.settings.len(), 1);
    }
}

#[test]
fn writing_queries_keep_their_names_for_the_client() {
    let node = node();
    let write = node.write("with d as (delete from two returning a, b as c), e as (select 1) select * from d");
    assert!(matches!(write.block, BlockForm::OnlyAlone));
    let (sql, first, result) = alone(&write);
    assert!(
        sql.starts_with(
            "with pgcanon_raw_1 as (delete from two returning a, b as c, pg_catalog.record_send(ROW(\"two\".tableoid, \
             \"two\".\"a\", \"two\".\"b\")) AS pgcanon_image), d AS (SELECT \"a\", \"c\" FROM pgcanon_raw_1), e as \
             (select 1), pgcanon_log AS (INSERT INTO pgcanon.journal"
        ),
        "{sql}"
    );
    assert!(sql.ends_with(") select * from d"), "{sql}");
    assert_eq!((first, result, write.heads.len()), (1, AloneResult::Same, 1));

    let write = node.write("with d as (delete from two where a = $1) update acc set bal = 1");
    let (sql, first, result) = alone(&write);
    assert_eq!((first, result), (2, AloneResult::Count));
    let tables: Vec<_> = write.heads.iter().map(|h| h.table.as_str()).collect();
    assert_eq!(tables, ["acc", "two"], "the statement's own head comes first");
    // The query's meta is the second one, but its rows come first.
    let places = ["$3::pg_catalog.bytea AS pgcanon_meta", "$2::pg_catalog.bytea AS pgcanon_meta"];
    let [query, own] = places.map(|p| sql.find(p).unwrap());
    assert!(query < own, "{sql}");
    assert!(!sql.contains("d AS (SELECT"), "what returns nothing needs no name: {sql}");
}

#[test]
fn execute_runs_a_twin_that_shows_its_rows() {
    let node = node();
    let found =
        node.execute("prepare p (int, text) as update acc set name = $2 where id = $1;", "execute p (1 + 1, 'x');");
    let Decision::Write(write) = &found.decision else { panic!("{:?}", found.decision) };
    assert_eq!(block(write), "execute \"pgcanon_1\" (1 + 1, 'x');");
    assert_eq!((write.lane, write.tag), (Lane::Row, "UPDATE"));
    let twin = String::from_utf8(found.twin.unwrap().prepare("pgcanon_1")).unwrap();
    assert_eq!(
        twin,
        "PREPARE \"pgcanon_1\" (int, text) AS update acc set name = $2 where id = $1 RETURNING \
         pg_catalog.record_send(ROW(\"acc\".tableoid, \"acc\".\"id\", \"acc\".\"name\"))"
    );
    let found = node.execute("prepare p as select 1", "execute p");
    assert!(matches!(found.decision, Decision::Pass { unsettles: false }) && found.twin.is_none());
    let found = node.execute("prepare p as insert into log (what) values ($1) returning id", "execute p('a')");
    assert!(
        String::from_utf8(found.twin.unwrap().prepare("t"))
            .unwrap()
            .starts_with("PREPARE \"t\" AS insert into log (what) values ($1) returning id, pg_catalog.record_send(")
    );
}

#[test]
fn names_beyond_ascii_are_spelled_for_any_encoding() {
    let node = node().with(|n| {
        n.encoding = "LATIN1";
        n.relation(12, |r| r.columns[2] = column("größe integer"));
    });
    assert!(block(&node.write("update two set v = random()")).contains("\"two\".\"b\""));
    let write = node.write("insert into two select 1");
    assert!(block(&write).contains("\"two\".U&\"gr\\+0000F6\\+0000DFe\""), "{}", block(&write));
}
