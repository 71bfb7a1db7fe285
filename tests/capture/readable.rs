//! `pgcanon journal dump` for people: the SQL that it prints makes the tables that the journal is of.

use std::process::Output;

use crate::common::node::{Node, PUBLIC, output};
use crate::common::replay::Replica;
use crate::common::{PATIENCE, Pg, msg, proc, proxy};
use crate::{TABLES, on_both};

/// The dump that people read, once all is covered by ticks.
fn dumped(node: &Node, args: &[&str]) -> String {
    node.dump();
    let Output { status, stdout, stderr } =
        output(&[&["journal", "dump"], args, &["--config"]].concat(), &node.config());
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8")
}

/// Runs the whole dump on a copy of the tables, and compares.
fn assert_runs(node: &Node) -> String {
    let sql = dumped(node, &["--full"]);
    let copy = node.copy();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("dump.sql");
    std::fs::write(&file, &sql).expect("write the SQL");
    let mut psql = proxy::psql(&node.cluster.socket_dir().display().to_string(), node.cluster.port());
    psql.args(["-q", "-v", "ON_ERROR_STOP=1", "-d", &copy, "-f"]).arg(&file).env("PGCLIENTENCODING", "UTF8");
    let Output { status, stderr, .. } = proc::output(&mut psql, PATIENCE);
    let head: String = sql.chars().take(20_000).collect();
    assert!(status.success(), "{}\n{head}", String::from_utf8_lossy(&stderr));
    Replica::on(&node.cluster.unix(), &copy).assert_equals(&mut node.direct(), &[]);
    sql
}

/// The lines that are no comment and not empty.
fn statements(sql: &str) -> Vec<&str> {
    sql.lines().filter(|line| !line.is_empty() && !line.starts_with("--")).collect()
}

const TYPES: &str = r#"
    create type mood as enum ('sad', 'it''s ok', 'größe');
    create type part as (n int, "What" text, at timestamptz);
    create domain posint as int check (value > 0);
    create domain parts as part;
    create type span as range (subtype = float8);
    create table ty (
        id int primary key, i2 int2, i8 int8, num numeric, money_like numeric(12,3), r real, d double precision, b bool,
        t text, v varchar(20), c char(5), ch "char", n name, by bytea, u uuid, j json, jb jsonb, ts timestamp,
        tz timestamptz, da date, ti time, tt timetz, iv interval, ia int[], ta text[], na numeric(5,2)[], ba bytea[],
        ir int4range, tr tstzrange, nm nummultirange, ip inet, mac macaddr, bits bit(5), vb varbit, pt point, tv tsvector,
        jp jsonpath, x xml, lsn pg_lsn, m mood, ma mood[], p part, pa part[], ps parts, po posint, sp span, cl regclass);
    create table "Odd ""one""" ("user" text, "a,b" mood, "order" part, note text, primary key ("user", "a,b", "order"));
    create table fl (r real, at timestamptz, d double precision, v text, primary key (r, at, d));
    create table ids (id int generated always as identity primary key, made timestamptz default now(), v text);
    create table moved (a int, b text, v text, primary key (a, b));
    create table uni (id int primary key, other int unique, v text);
    create table gone (id int primary key, v text); insert into gone select i, i from generate_series(1, 3) i;"#;

/// Rows with something in every column; made by `random()`, so that they travel as rows.
const ROWS: &str = r#"
    insert into ty select 1 + (random() * 0)::int, -32768, -9223372036854775808, 123456789012345678901234567890.0001230, -1.5, 0.1, 0.1, true,
        E'it''s a \\ back\nslash\r\n\ttab ünï 日本 😀 \x1b', 'va''r', 'ab ', 'q', 'na"me', '\x00ff5c27', '00000000-0000-0000-0000-00000000000a',
        '{"a" :  "\u00e9\\n"}', '{"k": ["\"", 1.50, null]}', '2024-02-29 23:59:59.999999', '0044-03-15 12:00:00+00 BC', 'infinity', '24:00',
        '10:00:00.5+02', '-1 year 2 mons -3 days 04:05:06.789', '{{1,NULL},{3,4}}', array['a"b', 'NULL', null, '', '\', '{}'], '{1.10,2}', array['\x5c'::bytea],
        '[1,5)', '[2024-01-01 00:00+00,)', '{[1,2],(5,)}', '::1/64', '08:00:2b:01:02:03', '10101', '1', '(1.5,-2)', '''a b'':1A c:2', '$.a[*] ? (@ > 1)',
        '<a b="c">&amp;</a>', '16/B374D848', 'it''s ok', '{sad,größe}', row(1, E'a,"\\ )', '2024-01-01 00:00+00')::part, array[row(1, 'x', null)::part, null],
        row(2, '', null)::part, 5, '[0.1,1e300)', 'ty';
    insert into ty (id, num, r, d, ts, iv, ir, t, b) select 2 + (random() * 0)::int, 'NaN', '-0', '-infinity', '-infinity', '@ 1.5 sec', 'empty', '', false;
    insert into ty (id) select 3 + (random() * 0)::int;
    update ty set r = 'NaN', d = 1e-300, num = 'infinity', i8 = 5000000000 where random() < 2 and id = 3;
    update ty set (i2, i8, num, money_like, r, d, b, t, v, c, by, u, j, jb, ts, tz, iv, ia, ta, ir, m, ma, p, pa, ps, po, sp, cl) =
        (select i2, i8, num, money_like, r, d, b, t, v, c, by, u, j, jb, ts, tz, iv, ia, ta, ir, m, ma, p, pa, ps, po, sp, cl
         from ty where id = 1) where id = 2;
    insert into "Odd ""one""" select 'u' || i, 'größe', row(i, 'w', null)::part, random()::text from generate_series(1, 4) i;
    update "Odd ""one""" set note = random()::text where "user" < 'u3';
    delete from "Odd ""one""" where "user" = 'u4' and random() < 2;
    insert into fl select 0.1 * i, '2024-01-01 00:00:00.123456+00', i / 3.0, random()::text from generate_series(1, 6) i;
    update fl set v = random()::text where r > 0.35::real;
    delete from fl where r < 0.15::real and random() < 2;
    insert into ids (v) values ('a'), ('b'); insert into ids (v) select random()::text from generate_series(1, 300);
    delete from ids where id % 7 = 0 and random() < 2;
    insert into uni select i, 10 * i, random()::text from generate_series(1, 5) i;
    insert into uni values (3, 99, random()::text), (8, 80, 'new') on conflict (id) do update set v = excluded.v || 'x', other = uni.other + 1;
    insert into uni (id, other) values (4 + (random() * 0)::int, 7) on conflict (id) do nothing;
    insert into moved select i, 'b', random()::text from generate_series(1, 5) i;
    update moved set a = a + 100 where a = 2;
    update moved set a = a + 10, v = 'moved' where b = 'b';
    delete from moved where a = 11;"#;

#[test]
fn rows_of_every_type_make_the_same_table_elsewhere() {
    on_both(TYPES, |node| {
        let mut c = node.client();
        for sql in ROWS.split_inclusive(";\n") {
            c.ok(sql);
        }
        if c.ok("show server_version_num").value().as_str() >= "180000" {
            // The row in the way gets another key; the other row is new.
            c.ok("insert into moved select 13, 'b', random()::text union all select 50, 'new', random()::text \
                on conflict (a, b) do update set a = moved.a + 1000");
            assert_eq!(node.lanes().last().map(String::as_str), Some("row upsert"));
        }
        assert!(node.lanes().iter().any(|lane| lane == "row insert"), "{:?}", node.lanes());
        let sql = assert_runs(node);
        let has = |line: &str| assert!(sql.contains(line), "{line}\n{sql}");
        has("INSERT INTO public.ids (id, made, v) OVERRIDING SYSTEM VALUE VALUES (1, '");
        has(
            "INSERT INTO public.\"Odd \"\"one\"\"\" (\"user\", \"a,b\", \"order\", note) VALUES ('u1', 'größe', '(1,w,)', '",
        );
        has(" WHERE \"user\" = 'u4' AND \"a,b\" = 'größe' AND \"order\" = '(4,w,)'::\"public\".\"part\";");
        has(
            "-32768, -9223372036854775808, 123456789012345678901234567890.0001230, -1.500, 0.1, 0.1, true, E'it''s a \\\\ back",
        );
        has(" ON CONFLICT (id) DO UPDATE SET other = excluded.other, v = excluded.v;");
    });
}

#[test]
fn texts_have_their_constants_in_place() {
    on_both(&format!("{TABLES}; {TYPES}"), |node| {
        let mut c = node.client();
        c.ok("create schema hidden; set search_path = hidden, public");
        c.ok("insert into acc (id, owner) values (11, '$1 -- no') /* $2 */ -- $1");
        let text = |sql: &str, params: &[&str]| {
            let params: Vec<_> = params.iter().map(|p| Some(*p)).collect();
            node.client().bound(sql, &params);
        };
        text("update acc set owner = $2, balance=balance-$1 where id=$3", &["-5", "it's\\", "1"]);
        text("insert into acc (id, note) values ($1, 'a''$2'), ($2, null)", &["20", "21"]);
        text("delete from acc where id in ($1,$2)", &["20", "2"]);
        // types that are told, and binary values of types that are not
        let int4 = |n: i32| n.to_be_bytes().to_vec();
        let mut binary = |sql: &str, types: &[u32], values: &[Option<&[u8]>]| {
            let bind = msg::bind_formats("", "", &[1], values, &[]);
            let answer = c.send(&[msg::parse("", sql, types), bind, msg::execute("", 0), msg::sync()]);
            assert_eq!(answer.failure(), None, "{sql}");
        };
        let (a, b) = (int4(-7), 6_i64.to_be_bytes());
        binary(
            "update acc set balance = balance - $1, note = $3 where id = $2",
            &[23, 20, 25],
            &[Some(&a), Some(&b), None],
        );
        binary(
            "update public.acc set balance = balance * $1, note = $3 where id = $2",
            &[],
            &[Some(&a), Some(&int4(7)), Some(b"so")],
        );
        // 2024-01-01, in days and in microseconds since 2000
        let (day, micros) = (int4(8766), (8766_i64 * 86_400_000_000).to_be_bytes());
        binary(
            "insert into ty (id, da, tz, m) values ($1, $2, $3, 'sad')",
            &[],
            &[Some(&int4(1)), Some(&day), Some(&micros)],
        );
        drop(c);
        let mut c = node.client();
        c.ok("set datestyle = 'german'; set timezone = 'Asia/Tokyo'");
        c.ok("insert into log values ('x', 1); update log set n = n + 1 where line = 'x'");
        c.ok("truncate gone");
        assert!(node.lanes().iter().filter(|lane| lane.starts_with("statement")).count() >= 6, "{:?}", node.lanes());
        let sql = assert_runs(node);
        let shown = statements(&sql);
        let has = |line: &str| assert!(shown.contains(&line), "{line}\n{sql}");
        has("insert into public.acc (id, owner) values (11, '$1 -- no');");
        has(r"update public.acc set owner = E'it''s\\', balance=balance- '-5' where id= '1';");
        has("insert into public.acc (id, note) values ('20', 'a''$2'), ('21', null);");
        has("delete from public.acc where id in ('20','2');");
        has("update public.acc set balance = balance - (-7), note = NULL where id = 6;");
        has("update public.acc set balance = balance * (-7), note = 'so' where id = 7;");
        has(
            "insert into public.ty (id, da, tz, m) values (1, '2024-01-01'::date, '2024-01-01 00:00:00+00'::timestamptz, 'sad');",
        );
        has("TRUNCATE TABLE public.gone;");
        assert!(
            sql.contains("\n-- with DateStyle = German, DMY; IntervalStyle = postgres; TimeZone = Asia/Tokyo\n"),
            "{sql}"
        );
    });
}

#[test]
fn whatever_the_clients_encoding_it_is_utf8() {
    let tables = "create table \"größe\" (id int primary key, \"ä\" text, tags text[], doc jsonb, \"€\" int);
        create table t (id int primary key, v text)";
    on_both(tables, |node| {
        let mut c = node.client();
        c.ok("set client_encoding = 'LATIN1'");
        for sql in [
            &b"insert into t values (1, 'gr\xfc\xdfe \xa7')"[..],
            b"insert into t select 2 + (random() * 0)::int, '\xc3\xa4'",
            b"insert into \"gr\xf6\xdfe\" (id, \"\xe4\", tags, doc) select i, '\xe4' || random(), array['\xfc', 'x'], '{\"\xe9\": \"\xe8\"}' from generate_series(1, 3) i",
        ] {
            assert_eq!(c.run(sql).failure(), None);
        }
        assert_eq!(c.copy("copy t from stdin", &[b"10\t\xe4\n11\t\xf6\n"]).tags(), ["COPY 2"]);
        assert_eq!(c.copy("copy t from stdin (encoding 'WIN1252')", &[b"12\t\x80\n"]).tags(), ["COPY 1"]);
        c.ok("set client_encoding = 'SJIS'");
        // The second byte of the first character is a backslash.
        assert_eq!(c.run(b"insert into t values (20, E'\x95\x5c\\\\')").failure(), None);
        assert_eq!(c.run(b"insert into t select 21 + (random() * 0)::int, '\x95\x5c'").failure(), None);
        c.ok("set client_encoding = 'UTF8'");
        c.ok("update \"größe\" set \"€\" = 5, \"ä\" = 'ł' || random() where id < 3");
        let sql = assert_runs(node);
        let has = |line: &str| assert!(sql.contains(line), "{line}\n{sql}");
        has("insert into public.t values (1, 'grüße §');");
        has("INSERT INTO public.t (id, v) VALUES (2, 'Ã¤');");
        has("INSERT INTO public.\"größe\" (id, \"ä\", tags, doc, \"€\") VALUES (1, 'ä0.");
        has(", '{ü,x}', '{\"é\": \"è\"}', NULL);");
        has("copy public.t from stdin;\n10\tä\n11\tö\n\\.\n");
        has("copy public.t from stdin (encoding 'UTF8');\n12\t€\n\\.\n");
        has("insert into public.t values (20, E'表\\\\');");
        has("INSERT INTO public.t (id, v) VALUES (21, '表');");
        has("\"€\" = 5 WHERE id = 1;");
    });
}

#[test]
fn copies_are_shown_by_their_first_lines_or_whole() {
    on_both("create table c (id int primary key, a text); create table d (id int, a text)", |node| {
        let mut c = node.client();
        assert_eq!(c.copy("copy c from stdin", &[b"1\tone\n2\t\\N\n3\ta\\\\b\n\\.\n"]).tags(), ["COPY 3"]);
        // In more than one entry, cut within lines and characters.
        let data: String = (0..60_000).map(|n| format!("{}\tä row {n} äöü\n", 1000 + n)).collect();
        let pieces: Vec<&[u8]> = data.as_bytes().chunks(65_537).collect();
        assert_eq!(c.copy("copy c from stdin", &pieces).tags(), ["COPY 60000"]);
        let parts = node.journal().iter().filter(|entry| entry.op == "copy").count();
        assert!(parts > 3, "{parts} entries");
        assert_runs(node);

        assert_eq!(c.copy("copy c (a, id) from stdin csv header", &[b"a,id\n\"x\n\"\"y\",4\n,5"]).tags(), ["COPY 2"]);
        if c.ok("show server_version_num").value().as_str() < "180000" {
            assert_runs(node); // `\.` ends csv data in psql 15 and in servers of its age only
        }
        let sql = dumped(node, &[]);
        let has = |line: &str| assert!(sql.contains(line), "{line}\n{sql}");
        has("copy public.c from stdin;\n1\tone\n2\t\\N\n3\ta\\\\b\n\\.\n");
        has("copy public.c (a, id) from stdin csv header;\na,id\n\"x\n\"\"y\",4\n,5\n\\.\n");
        has("-- copy public.c from stdin; data of which the first lines are\n-- 1000 ä row 0 äöü\n");
        has("-- 1004 ä row 4 äöü\n-- …\n");
        has(&format!("-- the COPY had 60000 rows, {} bytes\n", data.len()));
        assert!(!sql.contains("row 5 "), "{sql}");

        let mut binary = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x04".to_vec();
        binary.extend(7_i32.to_be_bytes());
        binary.extend(b"\0\0\0\x01x\xff\xff");
        assert_eq!(c.copy("copy d from stdin with (format binary)", &[&binary]).tags(), ["COPY 1"]);
        let sql = dumped(node, &["--full"]);
        let note =
            format!("-- copy public.d from stdin with (format binary); 1 rows, {} bytes, in binary", binary.len());
        assert!(sql.contains(&note), "{sql}");
    });
}

#[test]
fn people_see_ticks_transactions_and_the_beginning_of_long_values() {
    on_both("create table t (id int primary key, v text, b bytea)", |node| {
        let mut c = node.client();
        c.ok("insert into t values (1, 'first')");
        node.dump();
        c.ok("begin; insert into t values (2, 'second'); delete from t where id = 1; commit");
        c.ok("insert into t select 3 + (random() * 0)::int, repeat('ä', 1000), decode(repeat('ab', 1000), 'hex')");
        c.ok(&format!("insert into t values (4, '{}')", "z".repeat(1000)));
        node.sql("insert into pgcanon.journal (slot, meta, data) values (0, 'by', 'hand')");
        let sql = dumped(node, &[]);
        let kept: Vec<String> = sql
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| match line.split_once(": xid ") {
                Some((which, _)) => which.to_owned(),
                None => line.split(", timeline 1, made 2").next().unwrap_or_default().to_owned(),
            })
            .collect();
        let at = |line: &str| kept.iter().position(|l| l == line).unwrap_or_else(|| panic!("{line}\n{sql}"));
        let third = format!(
            "INSERT INTO public.t (id, v, b) VALUES (3, '{}…', E'\\\\x{}…');",
            "ä".repeat(200),
            "ab".repeat(99)
        );
        let fourth = format!("insert into public.t values (4, '{}…');", "z".repeat(200));
        let order = [
            "-- tick 1",
            "-- transaction 1",
            "insert into public.t values (1, 'first');",
            "-- end of tick 1: 1 transaction",
            "-- tick 2",
            "insert into public.t values (2, 'second');",
            "delete from public.t where id = 1;",
            &third,
            &fourth,
        ]
        .map(at);
        assert!(order.is_sorted(), "{order:?}\n{sql}");
        let forged = sql.lines().filter(|line| line.starts_with("-- FORGED, it counts for nothing: a row by")).count();
        assert_eq!(forged, 1, "{sql}");
        let counted: u32 = sql
            .lines()
            .filter_map(|line| {
                line.strip_prefix("-- end of tick ")?.split_once(": ")?.1.split(' ').next()?.parse::<u32>().ok()
            })
            .sum();
        assert_eq!(counted, 5, "{sql}");
        let one = dumped(node, &["--from", "1", "--to", "1"]);
        assert_eq!(statements(&one), ["insert into public.t values (1, 'first');"]);
    });
}

#[test]
fn what_this_node_cannot_read_is_shown_for_what_it_is() {
    let tables = "create type mood as enum ('sad', 'glad'); create table t (id int primary key, m mood, v text)";
    on_both(tables, |node| {
        let mut c = node.client();
        c.ok("insert into t select i, 'sad', random()::text from generate_series(1, 200) i");
        c.ok("update t set v = 'after' where id = 1");
        node.dump();
        node.sql("alter table t drop column m; drop type mood");
        let sql = dumped(node, &["--full"]);
        let broken = "(200, /* \\x736164: type \"public.mood\" does not exist (42704) */, '";
        assert!(sql.contains(broken), "{sql}");
        assert!(sql.contains("update public.t set v = 'after' where id = 1;"), "{sql}");
    });
}

#[test]
fn a_filter_makes_deletes_and_upserts() {
    let rules = format!("[[table]]\nname = \"public.t\"\nwhere = \"keep\"\n{PUBLIC}");
    for pg in [Pg::V15, Pg::V18] {
        let node = Node::start(pg, "create table t (id int primary key, keep bool, v text)", &rules);
        let mut c = node.client();
        c.ok("insert into t values (1, true, 'a'), (2, false, 'b')");
        c.ok("update t set keep = not keep, v = 'moved'");
        c.ok("delete from t where id = 1; delete from t where id = 2");
        let sql = dumped(&node, &[]);
        assert_eq!(
            statements(&sql),
            [
                "INSERT INTO public.t (id, keep, v) VALUES (1, true, 'a');",
                "DELETE FROM public.t WHERE id = 1;",
                "INSERT INTO public.t (id, keep, v) VALUES (2, true, 'moved') ON CONFLICT (id) DO UPDATE SET keep = excluded.keep, v = excluded.v;",
                "DELETE FROM public.t WHERE id = 2;",
            ]
        );
        assert_eq!(sql.matches("-- a row of public.t outside the rule's filter: nothing to do\n").count(), 2, "{sql}");
    }
}
