//! A node's whole journal, as its proxy wrote it, on a peer: all lanes, all types, all names.

use crate::common::Pg;
use crate::common::node::PUBLIC;
use crate::common::session::Session;
use crate::site::Site;

const TABLES: &str = "
    create type mood as enum ('sad', 'ok', 'happy');
    create type spot as (x int, y text);
    create domain short as text check (length(value) < 20);
    create table acc (id int primary key, owner text not null default 'nobody', balance int not null default 0, note text);
    insert into acc select i, 'owner ' || i, 100 * i from generate_series(1, 10) i;
    create table ev (id bigint generated always as identity primary key, at timestamptz not null default now(), what text,
        twice text generated always as (what || what) stored);
    create table tok (id uuid primary key default gen_random_uuid(), n serial, r double precision default random());
    create table pair (a int, b text, v numeric(12,3), tags text[], doc jsonb, primary key (a, b));
    create table log (line text, n int);
    create table kinds (id int primary key, b bool, i2 int2, i8 int8, f4 float4, f8 float8, n numeric, c char(5), vc varchar(9),
        t text, by bytea, d date, ti time, tz timetz, ts timestamp, tsz timestamptz, iv interval, u uuid, j json, jb jsonb,
        ip inet, ci cidr, ma macaddr, bi bit(3), bv bit varying, po point, r4 int4range, tr tstzrange, mr int4multirange,
        ia int[], ta text[], tsa timestamptz[], m mood, ma2 mood[], s spot, sa spot[], sh short, x xml, tv tsvector,
        l pg_lsn, nm name, ch \"char\", mo money, rc regclass, o oid);
    create table parts (id int, k int, v text, primary key (id, k)) partition by list (k);
    create table parts_1 partition of parts for values in (1);
    create table parts_2 partition of parts for values in (2);
    create table mother (id int primary key, v text);
    create table child (id int primary key, mother int references mother on delete cascade deferrable initially immediate, v text);
    create table swap (id int primary key, u int unique);
    create table narrow (id int primary key);
    insert into swap select i, i from generate_series(1, 6) i;";

fn kinds(s: &mut Session, id: i32) {
    s.ok(&format!(
        "insert into kinds values ({id}, true, 2, 3000000000, 1.5, 'NaN', 12345678901234567890.000100, 'ab', 'vc', \
         'täxt', '\\x00ff', 'infinity', '12:34:56.789', '01:02:03+04', '2024-02-29 01:02:03.000004', \
         now() + random() * interval '1 day', '1 mon 2 days 03:04:05', gen_random_uuid(), '{{\"a\" :  1}}', '{{\"b\": [1, null]}}', \
         '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', B'101', B'10101', '(1,2)', '[1,5)', \
         tstzrange(now(), null), '{{[1,3),[7,9)}}', '{{{{1,2}},{{3,null}}}}', array['a', null, 'b\"c'], array[now()], 'ok', \
         array['sad','happy']::mood[], row(1, 'a,b')::spot, array[row(2, null)::spot], 'short', '<a>x</a>', 'fat:2 cat:3', \
         '16/B374D848', 'a name', 'x', 12.34, 'pg_class', 42)"
    ));
    s.ok(&format!("insert into kinds (id, t) select {id} + 1, clock_timestamp()::text"));
}

#[test]
fn every_lane_and_type_arrives() {
    for pg in [Pg::V15, Pg::V18] {
        let site = Site::new(pg, TABLES, PUBLIC);
        let mut s = site.node.client();
        // S: text
        s.ok("update acc set balance = balance + 7 where id = 3");
        s.ok(
            "insert into acc (id, owner) values (11, 'it''s') on conflict (id) do update set balance = acc.balance + 1",
        );
        s.ok(
            "insert into acc (id, owner) values (11, 'again') on conflict (id) do update set balance = acc.balance + 1",
        );
        s.ok("delete from acc where id in (1, 2)");
        for n in 4..9 {
            s.bound(
                "update acc set balance = balance + $1, note = $2 where id = $3",
                &[Some("5"), None, Some(&n.to_string())],
            );
        }
        // R: rows
        s.ok("insert into ev (what) select 'w' || i from generate_series(1, 2500) i");
        s.ok("update ev set what = what || now()::text where id % 3 = 0");
        s.ok("delete from ev where id % 7 = 0 and random() >= 0");
        s.ok("insert into tok default values");
        s.ok("insert into tok (r) select i from generate_series(1, 50) i");
        s.ok("update tok set r = random() where n < 20");
        s.ok("insert into log select 'l' || i, (random() * 10)::int from generate_series(1, 30) i");
        s.ok("insert into pair select i / 3, 'b' || i, random(), array['x', i::text], jsonb_build_object('i', i) from generate_series(1, 9) i");
        s.ok("insert into pair select i / 3, 'b' || i, random(), null, null from generate_series(5, 12) i \
              on conflict (a, b) do update set v = excluded.v, tags = pair.tags || 'more'::text");
        kinds(&mut s, 1);
        kinds(&mut s, 10);
        s.ok("update kinds set t = t || clock_timestamp()::text, m = 'happy', s = row(7, 'z')::spot, ia = ia || ia, iv = iv * 2");
        s.ok("insert into parts select i, 1 + i % 2, now()::text from generate_series(1, 20) i");
        s.ok("update parts set v = random()::text where id < 9");
        s.ok("insert into narrow select i from generate_series(1, 5) i");
        s.ok("delete from narrow where id > 3 and random() >= 0");
        // L: a lock, and text
        s.ok("update acc set id = id + 100 where balance > 500 and id < 100");
        s.ok("update swap set id = 7 - id where id > 3 and false");
        // C: COPY
        let data: Vec<String> = (0..20_000).map(|i| format!("{}\tcopied {i} ä\n", i + 1000)).collect();
        let chunks: Vec<&[u8]> = data.iter().map(String::as_bytes).collect();
        let copied = s.copy("copy mother (id, v) from stdin", &chunks);
        assert_eq!(copied.failure(), None);
        assert_eq!(s.copy("copy child from stdin with (format csv)", &[b"1,1000,x\n2,1001,\n"]).failure(), None);
        // Blocks, and what is undone
        s.ok("begin");
        s.ok("update acc set balance = 0 where id = 4");
        s.ok("savepoint a");
        s.ok("insert into ev (what) values ('undone')");
        s.ok("rollback to a");
        s.ok("delete from mother where id = 1001");
        s.ok("commit");
        s.ok("begin; truncate log; insert into log values ('new', 1); commit");
        s.ok("truncate mother, child");
        if pg != Pg::V15 {
            s.ok("update pair set a = a + 100 where a < 3");
            s.ok("merge into acc using (values (5), (555)) v(id) on acc.id = v.id when matched and acc.id = 5 then delete \
                  when not matched then insert (id, owner) values (v.id, 'merged')");
        }
        drop(s);
        site.assert_follows();
        // All of it is behind: nothing is applied twice.
        site.assert_follows();
    }
}

#[test]
fn rows_move_in_and_out_of_a_filter() {
    let tables =
        "create table t (id int primary key, v text, n int default 0); create table other (id int primary key)";
    let rules =
        "[[table]]\nname = \"public.t\"\nwhere = \"t.v is not null -- a comment\"\n\n[[table]]\nname = \"public.*\"\n";
    for pg in [Pg::V15, Pg::V18] {
        let site = Site::new(pg, tables, rules);
        // What the peer has of its own, and the filter leaves alone.
        site.peer.session().ok("insert into t values (1000, null, 5)");
        let mut s = site.node.client();
        s.ok("insert into t select i, case when i % 2 = 0 then 'v' end from generate_series(1, 20) i");
        s.ok("update t set v = 'in' where id < 6");
        s.ok("update t set v = null where id between 8 and 12");
        s.ok("update t set n = n + 1");
        s.ok("delete from t where id in (2, 3, 9)");
        s.ok("delete from t where id > 18 and random() >= 0");
        s.ok("insert into t values (4, 'x'), (21, null) on conflict (id) do update set v = case when t.id = 4 then null else 'y' end");
        if pg == Pg::V18 {
            s.ok("update t set id = id + 100, v = case when id % 4 = 0 then null else coalesce(v, 'moved in') end where id > 12");
        }
        run_on(&site);
        let all = |filter: &str| format!("select * from t where {filter} order by id");
        assert_eq!(site.peer.sql(&all("id <> 1000")), site.node.sql(&all("v is not null")));
        s.ok("truncate t");
        s.ok("insert into t values (1, 'after')");
        run_on(&site);
        assert_eq!(site.peer.sql("select id, v from t order by 1"), "1|after\n1000|");
    }
}

fn run_on(site: &Site) {
    use crate::site::run;
    run(async {
        let mut applier = site.applier().await;
        site.forward(&mut applier, 16, pgcanon::apply::Mode::default()).await.expect("apply the journal");
    });
}

#[test]
fn tables_arrive_under_the_names_they_have_on_the_peer() {
    let long = "n".repeat(63);
    let columns = "(id int primary key, \"t\" text, \"Select\" int default 1, t_id text)";
    let here = ["t", "Mixed \"Quote\"", "select", "grüße", &long];
    let there = ["Other", "plain", "from", "größer.punkt", "\"\"\""];
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut tables = String::from("create schema \"Far\";");
    let (mut tables_here, mut rules) = (String::new(), String::new());
    for (from, to) in here.iter().zip(there) {
        tables_here.push_str(&format!("create table {} {columns};", quoted(from)));
        tables.push_str(&format!("create table \"Far\".{} {columns};", quoted(to)));
        let toml = |name: &str| name.replace('\\', "\\\\").replace('"', "\\\"");
        rules.push_str(&format!(
            "[[table]]\nname = \"public.{}\"\nrename = {{ b = \"Far.{}\" }}\n\n",
            toml(from),
            toml(to)
        ));
    }
    // The same names there hold something else.
    tables.push_str(&tables_here);
    let site = Site::unlike(Pg::V15, &tables_here, &rules, &tables, "[[table]]\nname = \"Far.*\"\n");
    let mut s = site.node.client();
    for from in here {
        let (t, bare) = (quoted(from), from);
        s.ok(&format!(
            "insert into {t} (id, \"t\") values (1, 't'), (2, '{}') /* {} */",
            bare.replace('\'', "''"),
            bare.replace("*/", "")
        ));
        s.ok(&format!("insert into public.{t} as t (id, t) values (1, 'x') on conflict (id) do update set \"Select\" = t.\"Select\" + 1"));
        s.ok(&format!(
            "insert into {t} (id, t) values (1, 'x') on conflict (id) do update set \"Select\" = {t}.\"Select\" + 1"
        ));
        s.ok(&format!("update {t} set t_id = 'public.t' where {t}.id = 2"));
        s.ok(&format!("update only {t} as \"x\" set \"t\" = \"x\".\"t\" || '{{t}}' where \"x\".id = 2 -- t"));
        s.ok(&format!("insert into {t} (id, t) select i, now()::text from generate_series(3, 9) i"));
        s.ok(&format!("delete from {t} where id = 9"));
        assert_eq!(s.copy(format!("copy {t} (id, t) from stdin"), &[b"20\tcopied\n21\tt\n"]).failure(), None);
        s.ok(&format!("update {t} set id = id + 1000 where id > 19"));
    }
    s.ok(&format!("truncate {}", quoted("select")));
    run_on(&site);
    for (from, to) in here.iter().zip(there) {
        let all = |table: String| format!("select count(*), sum(hashtext(x::text)) from {table} x");
        assert_eq!(
            site.peer.sql(&all(format!("\"Far\".{}", quoted(to)))),
            site.node.sql(&all(quoted(from))),
            "{from} as {to}"
        );
        assert_eq!(site.peer.sql(&format!("select count(*) from public.{}", quoted(from))), "0");
    }
}

#[test]
fn a_column_list_and_columns_the_peer_fills_itself() {
    let here = "create table t (id int primary key, a text, b text, secret text);
        create table g (id bigint generated always as identity primary key, n bigint generated always as identity, a text)";
    let there = "create table t (id bigint primary key, a varchar(50), b text default 'own', more int default 7);
        create table g (id bigint generated always as identity primary key, n bigint generated always as identity, a text)";
    let rules = "[[table]]\nname = \"public.t\"\ncolumns = [\"a\"]\n\n[[table]]\nname = \"public.*\"\nwhere = \"a is not null\"\n";
    let site = Site::unlike(Pg::V15, here, rules, there, "[[table]]\nname = \"public.*\"\n");
    let mut s = site.node.client();
    s.ok("insert into t select i, 'a' || i, 'b', 'secret' from generate_series(1, 5) i");
    s.ok("update t set a = a || '!', secret = 'more' where id < 4");
    s.ok("update t set b = 'only here'");
    s.ok("delete from t where id = 5");
    s.ok("insert into g (a) select nullif('g' || i, 'g2') from generate_series(1, 4) i");
    s.ok("update g set a = coalesce(a, 'in') || random()::text");
    run_on(&site);
    assert_eq!(site.peer.sql("select * from t order by id"), "1|a1!|own|7\n2|a2!|own|7\n3|a3!|own|7\n4|a4|own|7");
    let all = "select id, n, a from g order by 1";
    assert_eq!(site.peer.sql(all), site.node.sql(all));
}

#[test]
fn every_encoding_arrives_in_every_lane() {
    let tables = "create table \"täble\" (id int primary key, \"wért\" text, tags text[])";
    let site = Site::new(Pg::V15, tables, PUBLIC);
    let mut s = site.node.client();
    s.ok("set client_encoding = 'LATIN1'");
    let latin = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin 1")).collect::<Vec<u8>>();
    let t = "\"täble\"";
    for sql in [
        format!("insert into {t} (id, \"wért\") values (1, 'Müller')"),
        format!("update {t} set \"wért\" = \"wért\" || 'ß' where id = 1"),
        format!("insert into {t} select i, 'größe' || now(), array['é'] from generate_series(2, 5) i"),
        format!("update {t} set tags = array['ñ', \"wért\"] where id > 3 and random() >= 0"),
        format!("update {t} set id = id + 100 where \"wért\" like 'M%'"),
    ] {
        assert_eq!(s.run(latin(&sql)).failure(), None, "{sql}");
    }
    use crate::common::msg;
    let bind = msg::bind("", "", &[Some(&latin("für")), Some(b"101")]);
    let sql = latin("update \"täble\" set \"wért\" = \"wért\" || $1 where id = $2");
    let answer = s.send(&[msg::parse("", &sql, &[25, 23]), bind, msg::execute("", 0), msg::sync()]);
    assert_eq!(answer.failure(), None);
    assert_eq!(s.copy(latin("copy \"täble\" (id, \"wért\") from stdin"), &[&latin("50\tÄrger\n")]).failure(), None);
    let mut utf8 = site.node.client();
    utf8.ok("insert into \"täble\" values (60, '€', array['€'])");
    let names: Vec<String> = site.node.journal().iter().map(|e| e.lane.clone()).collect();
    // What COPY brings in another encoding than the catalog's travels as rows.
    for lane in ["statement", "row", "locked"] {
        assert!(names.iter().any(|n| n == lane), "{lane}: {names:?}");
    }
    site.assert_follows();
    assert_eq!(site.peer.sql("select \"wért\" from \"täble\" where id = 101"), "Müllerßfür");
}

#[test]
fn user_triggers_fire_or_not_as_the_rule_says() {
    let tables = "create table t (id int primary key, v text); create table seen (what text);
        create function see() returns trigger language plpgsql as $$ begin insert into public.seen values (tg_op || new.id); return null; end $$;
        create trigger see after insert or update on t for each row execute function see()";
    for (how, expected) in [("fire", "INSERT1\nINSERT2\nINSERT3"), ("skip", "")] {
        // The node's own trigger writes a table without a rule.
        let rules = format!("[[table]]\nname = \"public.t\"\ntriggers = \"{how}\"\n");
        let mut site = Site::new(Pg::V15, tables, &rules);
        site.peer
            .session()
            .ok("grant insert on seen to applier; grant set on parameter session_replication_role to applier");
        site.node.client().ok("insert into t select i, now()::text from generate_series(1, 3) i");
        run_on(&site);
        assert_eq!(site.peer.sql("select count(*) from t"), "3");
        assert_eq!(site.peer.sql("select what from seen order by 1"), expected, "{how}");
        if how == "skip" {
            site.peer.session().ok("revoke set on parameter session_replication_role from applier");
            site.node.client().ok("insert into t values (4, 'x')");
            let denied = crate::site::run(async {
                let mut applier = site.applier().await;
                site.forward(&mut applier, 1, pgcanon::apply::Mode::default()).await
            });
            let denied = denied.expect_err("the role may not switch triggers off").to_string();
            assert!(denied.contains("GRANT SET ON PARAMETER session_replication_role TO \"applier\""), "{denied}");
            site.peer.user = "postgres";
            run_on(&site);
            assert_eq!(site.peer.sql("select count(*) from t"), "4");
        }
    }
}
