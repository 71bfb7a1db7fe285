//! One row or many, with arrays or without, in one statement or one by one: it comes to the same.

use pgcanon::apply::{ApplyError, Mode};
use pgcanon::journal::entry::{Extra, Lane, Op};

use crate::common::Pg;
use crate::common::node::PUBLIC;
use crate::made::{apply, int, place, rows, str, text, with_body, with_params};
use crate::site::{Peer, Site, run};

const BY_ROW: Mode = Mode { row_by_row: true, lock_timeout: None, durable: false };

#[test]
fn row_by_row_gives_what_arrays_give() {
    let tables = "create table t (id int primary key, v text, a int[], n numeric)";
    let site = Site::new(Pg::V15, tables, PUBLIC);
    let mut s = site.node.client();
    s.ok("insert into t select i, now()::text || i, case when i % 2 = 0 then array[i] end, random() from generate_series(1, 60) i");
    s.ok("update t set v = v || random(), n = null where id % 3 = 0");
    s.ok("insert into t select i, random()::text from generate_series(50, 70) i on conflict (id) do update set v = excluded.v");
    s.ok("delete from t where id % 5 = 0 and random() >= 0");
    run(async {
        let mut applier = site.applier().await;
        site.forward(&mut applier, 1, BY_ROW).await.expect("apply the journal");
    });
    site.assert_equal();
    // The same again, as arrays.
    site.peer.session().ok("truncate t; delete from pgcanon.progress");
    site.assert_follows();
}

#[test]
fn values_of_a_unique_key_change_places_in_the_order_of_the_node() {
    let tables = "create table t (id int primary key, u int unique, v text);
        insert into t select i, i, 'v' || i from generate_series(1, 5) i";
    let peer = Peer::shared(Pg::V15, tables, PUBLIC);
    // Upwards, the last one first; and keys in place of each other.
    let shifted: Vec<_> = (1..=5).rev().map(|i| vec![int(i), int(i + 1)]).collect();
    let moved: Vec<_> = (1..=5).map(|i| vec![int(i), int(i - 1), int(i)]).collect();
    let entries = [
        rows(Op::Update, Extra::None, "t", "id:integer* u:integer", &shifted),
        rows(Op::Update, Extra::None, "t", "id:integer- id:integer u:integer", &moved),
    ];
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        apply(&mut applier, BY_ROW, place(1, 1), &entries).await.expect("row by row");
        assert_eq!(peer.sql("select id, u from t order by id"), "0|1\n1|2\n2|3\n3|4\n4|5");
        // Round and round only a deferrable key can go.
        peer.session().ok("alter table t drop constraint t_u_key, add unique (u) deferrable");
        let round: Vec<_> = (0..5).map(|i| vec![int(i), int(i % 5 + 2)]).collect();
        let round = rows(Op::Update, Extra::None, "t", "id:integer* u:integer", &round);
        apply(&mut applier, Mode::default(), place(1, 2), &[round]).await.expect("together");
    });
    assert_eq!(peer.sql("select id, u from t order by id"), "0|2\n1|3\n2|4\n3|5\n4|6");
}

#[test]
fn an_upsert_that_may_give_another_key_finds_its_row_by_the_old_one() {
    let tables = "create table t (id int primary key, v text); insert into t values (1, 'old'), (2, 'old')";
    let peer = Peer::shared(Pg::V15, tables, PUBLIC);
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        let images = [vec![int(1), int(11), str("moved")], vec![None, int(3), str("new")]];
        let entry = rows(Op::Upsert, Extra::None, "t", "id:integer- id:integer v:text", &images);
        apply(&mut applier, Mode::default(), place(1, 1), &[entry]).await.expect("all is well");
    });
    assert_eq!(peer.sql("select id, v from t order by id"), "2|old\n3|new\n11|moved");
}

#[test]
fn types_go_by_name_and_widen() {
    let tables = "create domain small as smallint; create schema far; create type far.\"Mood\" as enum ('a', 'b');
        create table t (id bigint primary key, d small, m far.\"Mood\", ds small[], c varchar(3));
        grant usage on schema far to public";
    let peer = Peer::shared(Pg::V15, tables, PUBLIC);
    let columns = "id:integer* d:public.small m:far.\"Mood\" c:text";
    let row = |id: i32, c: &str| vec![int(id), Some(vec![0, 7]), str("b"), str(c)];
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        let many: Vec<_> = (1..4).map(|id| row(id, "abc")).collect();
        let entries = [
            rows(Op::Insert, Extra::None, "t", columns, &many),
            rows(Op::Insert, Extra::None, "t", columns, &[row(9, "abc")]),
            rows(Op::Delete, Extra::None, "t", "id:integer-", &[vec![int(2)]]),
        ];
        apply(&mut applier, Mode::default(), place(1, 1), &entries).await.expect("all is well");
        let long = rows(Op::Insert, Extra::None, "t", columns, &[row(10, "abcd")]);
        let failed = apply(&mut applier, Mode::default(), place(1, 2), &[long]).await.expect_err("too long");
        assert!(matches!(&failed, ApplyError::Rejected(r) if r.sqlstate == "22001"), "{failed}");
        applier.rollback().await.expect("roll back");
        // The table changes under what was prepared for it.
        peer.session().ok("alter table t drop column c, add column c text, alter column id type numeric");
        let again = rows(Op::Insert, Extra::None, "t", columns, &[row(10, "abcd")]);
        apply(&mut applier, Mode::default(), place(1, 2), &[again]).await.expect("all is well");
    });
    assert_eq!(peer.sql("select id, d, m, c from t order by id"), "1|7|b|\n3|7|b|\n9|7|b|\n10|7|b|abcd");
}

#[test]
fn settings_of_a_text_end_with_it() {
    let tables = "create table t (id int primary key, at timestamptz, d date, v text)";
    let peer = Peer::shared(Pg::V15, tables, PUBLIC);
    let with = |sql: &str, zone: &str, style: &str| {
        let mut entry = text(Lane::Locked, Op::Insert, "t", sql, Some(1));
        let settings = vec![("TimeZone".into(), zone.into()), ("DateStyle".into(), style.into())];
        entry.head.text.as_mut().expect("a text").settings = settings;
        entry
    };
    let plain = |id: i32| {
        text(
            Lane::Statement,
            Op::Insert,
            "t",
            &format!("insert into <t> values ({id}, '2024-01-01', '01/02/2024')"),
            Some(1),
        )
    };
    let copy = |rows, body: &[u8]| {
        let mut entry = text(Lane::Copy, Op::Copy, "t", "copy <t> (id, at, d) from stdin", rows);
        entry.head.text.as_mut().expect("a text").settings = vec![("DateStyle".into(), "SQL, DMY".into())];
        with_body(entry, body)
    };
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        let entries = [
            with("insert into <t> values (1, '2024-01-01', '01/02/2024')", "America/New_York", "ISO, DMY"),
            plain(2),
            copy(None, b"3\t2024-01-"),
            copy(None, b"01\t01/02/2024\n"),
            copy(Some(2), b"4\t2024-01-01\t01/02/2024\n"),
            plain(5),
        ];
        apply(&mut applier, Mode::default(), place(1, 1), &entries).await.expect("all is well");
        let mut odd = with("insert into <t> values (6)", "UTC", "ISO");
        odd.head.text.as_mut().expect("a text").settings.push(("role".into(), "postgres".into()));
        assert!(apply(&mut applier, Mode::default(), place(1, 2), &[odd]).await.is_err());
    });
    let sql = "set timezone = 'UTC'; select id, to_char(at, 'HH24'), to_char(d, 'Mon') from t order by id";
    assert_eq!(peer.sql(sql), "1|05|Feb\n2|00|Jan\n3|00|Feb\n4|00|Feb\n5|00|Jan");
}

#[test]
fn truncates_that_follow_each_other_are_one() {
    let tables =
        "create table a (id int primary key); create table b (id int references a); create table s (id serial);
        insert into a values (1); insert into b values (1); insert into s default values";
    let mut peer = Peer::shared(Pg::V15, tables, PUBLIC);
    peer.user = "postgres"; // only who owns a sequence restarts it
    let truncate = |table: &str, sql: &str| text(Lane::Statement, Op::Truncate, table, sql, None);
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        let entries = [
            truncate("a", "TRUNCATE TABLE <a>"),
            truncate("b", "TRUNCATE TABLE ONLY <b>"),
            truncate("s", "TRUNCATE TABLE <s> RESTART IDENTITY"),
            text(Lane::Statement, Op::Insert, "s", "insert into <s> default values", Some(1)),
        ];
        apply(&mut applier, Mode::default(), place(1, 1), &entries).await.expect("all is well");
        let alone = truncate("a", "TRUNCATE TABLE <a>");
        let failed = apply(&mut applier, Mode::default(), place(1, 2), &[alone]).await.expect_err("b references a");
        assert!(matches!(&failed, ApplyError::Rejected(r) if r.sqlstate == "0A000"), "{failed}");
    });
    assert_eq!(peer.sql("select (select count(*) from a), (select count(*) from b), id from s"), "0|0|1");
}

#[test]
fn texts_that_come_again_keep_their_own_parameters() {
    let tables = "create table t (id int primary key, n bigint default 0, v text);
        insert into t (id) select i from generate_series(1, 20) i";
    let peer = Peer::shared(Pg::V15, tables, PUBLIC);
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        let mut entries = Vec::new();
        for n in 0..1500_i32 {
            let (id, add) = ((n % 20 + 1).to_string(), n.to_string());
            // Told types, types left open, and no parameters at all; more texts than are kept.
            let told: [u32; 2] = if n % 2 == 0 { [20, 23] } else { [0, 0] };
            let sql = "update <t> set n = n + $1 where id = $2";
            let hot = text(Lane::Statement, Op::Update, "t", sql, Some(1));
            entries.push(with_params(hot, &[(told[0], add.as_bytes()), (told[1], id.as_bytes())]));
            let sql = format!("update <t> set v = 'v{}' where id = {id}", n / 3);
            entries.push(text(Lane::Statement, Op::Update, "t", &sql, Some(1)));
        }
        for (ord, entries) in (1..).zip(entries.chunks(100)) {
            apply(&mut applier, Mode::default(), place(1, ord), entries).await.expect("all is well");
        }
    });
    assert_eq!(peer.sql("select sum(n), max(v) from t"), format!("{}|v499", 1500 * 1499 / 2));
}

#[test]
fn constants_mean_the_same_whether_they_are_prepared_or_not() {
    let tables = "create type mood as enum ('sad', 'ok');
        create table t (id bigint primary key, s smallint, v varchar(5), c char(3), j jsonb, b bytea, m mood, f real,
            n numeric(6,2), ok bool, u uuid, bits bit(3))";
    let (peer, oracle) = (Peer::shared(Pg::V15, tables, PUBLIC), Peer::shared(Pg::V15, tables, PUBLIC));
    let mut entries = Vec::new();
    for id in 1..=4 {
        for (op, sql) in [
            (
                Op::Insert,
                "insert into <t> values (ID, 3, 'a''b', 'x', '{\"k\": [1]}', '\\x00', 'ok', 1.5, 12.345, 't', \
                 '00000000-0000-0000-0000-000000000001', '101')",
            ),
            (Op::Update, "update <t> set s = - s * 2 + ID, v = upper('q') || v, n = n / 3, f = f * 2 where id = ID"),
            (
                Op::Update,
                "update <t> set j = jsonb_set(j, '{k,0}', '7'), v = replace(v, '''', 'ID'), n = -5 where id in (ID)",
            ),
            (
                Op::Update,
                "update <t> set v = coalesce(null, 'né'), ok = (s > 3), c = left('abcdef', 2) where id = ID and v <> ''",
            ),
        ] {
            let sql = sql.replace("ID", &id.to_string());
            entries.push(text(Lane::Statement, op, "t", &sql, Some(1)));
        }
    }
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        apply(&mut applier, Mode::default(), place(1, 1), &entries).await.expect("all is well");
        let long = text(Lane::Statement, Op::Update, "t", "update <t> set v = 'abcdef' where id = 1", Some(1));
        for _ in 0..3 {
            let failed = apply(&mut applier, Mode::default(), place(1, 2), std::slice::from_ref(&long)).await;
            assert!(matches!(&failed, Err(ApplyError::Rejected(r)) if r.sqlstate == "22001"), "{failed:?}");
            applier.rollback().await.expect("roll back");
        }
    });
    let mut session = oracle.session();
    for entry in &entries {
        session.ok(std::str::from_utf8(&entry.head.text.as_ref().expect("a text").sql).expect("UTF-8"));
    }
    assert_eq!(peer.sql("select * from t order by id"), oracle.sql("select * from t order by id"));
}
