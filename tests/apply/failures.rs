//! What a peer does not take: it is named, nothing of its transaction stays, and what comes next is not in its way.

use pgcanon::apply::{ApplyError, At, CONFLICT, MALFORMED, Mode, NOT_ROUTED, Rejection};
use pgcanon::journal::entry::{Extra, Lane, Op};
use pgcanon::journal::{Entry, TickId};

use crate::common::Pg;
use crate::common::node::PUBLIC;
use crate::made::{apply, flag, int, place, rows, str, text, with_body};
use crate::site::{Peer, run};

const TABLES: &str = "create table t (id int primary key, n int not null default 0, u int unique);
    create table late (id int primary key, t int references t deferrable initially immediate);
    insert into t select i, 0, i from generate_series(1, 5) i";

fn rejection(result: Result<(), ApplyError>) -> Rejection {
    match result.expect_err("this must fail") {
        ApplyError::Rejected(rejection) => *rejection,
        other => panic!("rejected expected, not {other:?}"),
    }
}

fn add(id: i32) -> Entry {
    text(Lane::Statement, Op::Update, "t", &format!("update <t> set n = n + 1 where id = {id}"), Some(1))
}

fn updates(ids: &[i32]) -> Entry {
    let images: Vec<_> = ids.iter().map(|id| vec![int(*id), int(100)]).collect();
    rows(Op::Update, Extra::None, "t", "id:integer* n:integer", &images)
}

#[test]
fn a_failure_is_named_and_leaves_nothing() {
    for pg in [Pg::V15, Pg::V18] {
        let peer = Peer::shared(pg, TABLES, PUBLIC);
        let before = peer.sql("select * from t order by id");
        run(async {
            let mut applier = peer.applier(PUBLIC).await;
            let inserts = |ids: &[i32]| {
                let images: Vec<_> = ids.iter().map(|id| vec![int(*id)]).collect();
                rows(Op::Insert, Extra::None, "t", "id:integer*", &images)
            };
            let missing = text(Lane::Statement, Op::Delete, "t", "delete from <t> where id = 99", Some(1));
            let nonsense = text(Lane::Statement, Op::Update, "t", "update <t> set nonsense = 1 where id = 1", Some(1));
            let other_type = rows(Op::Insert, Extra::None, "t", "id:nosuch*", &[vec![int(1)]]);
            let short = rows(Op::Insert, Extra::None, "t", "id:integer* n:integer", &[vec![int(9)]]);
            let no_filter = rows(Op::Update, Extra::Filter, "t", "id:integer*", &[vec![None, int(9)]]);
            let elsewhere = text(Lane::Locked, Op::Update, "t", "update t set n = 1 from <x> where t.id = 1", Some(1));
            let mut elsewhere_named = elsewhere.clone();
            elsewhere_named.head.text.as_mut().expect("a text").names[0].schema = "private".into();
            let begun = with_body(text(Lane::Copy, Op::Copy, "t", "copy <t> (id) from stdin", None), b"77\n");
            let bad_copy = with_body(text(Lane::Copy, Op::Copy, "t", "copy <t> (id) from stdin", Some(2)), b"78\nx\n");
            let short_copy =
                with_body(text(Lane::Copy, Op::Copy, "t", "copy <t> (id) from stdin", Some(3)), b"78\n79\n");
            // What fails, with which SQLSTATE, and which entry it is.
            let cases: Vec<(Vec<Entry>, &str, u32)> = vec![
                (vec![add(1), inserts(&[6, 7, 3])], "23505", 1),
                (vec![inserts(&[3])], "23505", 0),
                (vec![add(1), missing.clone(), add(2)], CONFLICT, 1),
                (vec![add(1), updates(&[1, 2, 66])], CONFLICT, 1),
                (vec![nonsense, add(1)], "42703", 0),
                (vec![add(1), other_type], "42704", 1),
                (vec![short], MALFORMED, 0),
                (vec![add(1), no_filter], MALFORMED, 1),
                (vec![elsewhere_named], NOT_ROUTED, 0),
                (vec![begun.clone(), add(1)], MALFORMED, 1),
                (vec![begun], MALFORMED, 1),
                (vec![add(1), bad_copy], "22P02", 1),
                (vec![short_copy, add(1)], CONFLICT, 0),
            ];
            for (entries, state, at) in cases {
                let failed = rejection(apply(&mut applier, Mode::default(), place(1, 1), &entries).await);
                let expected = Some(At { tick: TickId(1), ord: 1, entry: at, row: 0 });
                assert_eq!((failed.sqlstate.as_str(), failed.at), (state, expected), "{failed} of {entries:#?}");
                // The failure stays until it is dealt with.
                assert!(applier.settle().await.is_err());
                assert_eq!(applier.rollback().await.expect("roll back"), None);
                assert_eq!(peer.sql("select * from t order by id"), before, "{failed}");
            }
            let by_row = Mode { row_by_row: true, ..Mode::default() };
            let failed = rejection(apply(&mut applier, by_row, place(1, 1), &[updates(&[1, 2, 66, 4])]).await);
            assert_eq!(failed.at.map(|at| at.row), Some(2), "row by row it is known which one");
            applier.rollback().await.expect("roll back");
            apply(&mut applier, Mode::default(), place(1, 1), &[add(1), updates(&[2, 3])]).await.expect("all is well");
            assert_eq!(applier.progress(), Some(place(1, 1)));
        });
        assert_eq!(peer.sql("select n from t order by id"), "1\n100\n100\n0\n0");
    }
}

#[test]
fn a_commit_that_fails_takes_back_what_was_sent_behind_it() {
    let peer = Peer::shared(Pg::V15, TABLES, PUBLIC);
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        apply(&mut applier, Mode::default(), place(1, 1), &[add(1)]).await.expect("all is well");
        let orphan = rows(Op::Insert, Extra::None, "late", "id:integer* t:integer", &[vec![int(1), int(99)]]);
        // Constraints are deferred: the parent may come behind its child.
        let parent = rows(Op::Insert, Extra::None, "t", "id:integer*", &[vec![int(50)]]);
        let child = rows(Op::Insert, Extra::None, "late", "id:integer* t:integer", &[vec![int(2), int(50)]]);
        apply(&mut applier, Mode::default(), place(1, 2), &[child, parent]).await.expect("a child before its parent");

        applier.begin(Mode::default()).expect("begin");
        applier.source(place(1, 3)).expect("a source transaction");
        let to = applier.destination(&orphan.head).expect("a destination");
        applier.entry(&to, &orphan).await.expect("sent");
        applier.commit().await.expect("sent");
        // Nobody has looked at the answer yet.
        let next = apply(&mut applier, Mode::default(), place(1, 4), &[add(1)]).await;
        let failed = rejection(next);
        assert_eq!((failed.sqlstate.as_str(), failed.at), ("23503", None), "{failed}");
        assert_eq!(applier.rollback().await.expect("roll back"), Some(place(1, 2)));
        assert_eq!(peer.sql("select tick, ord from pgcanon.progress"), "1|2");
        assert_eq!(peer.sql("select n from t where id = 1"), "1");
        apply(&mut applier, Mode::default(), place(1, 4), &[add(1)]).await.expect("all is well");
        assert_eq!(peer.sql("select n, (select count(*) from late) from t where id = 1"), "2|1");
    });
}

#[test]
fn transactions_that_go_out_without_waiting_come_to_nothing_behind_one_that_fails() {
    let tables = "create table parent (id int primary key);
        create table late (id int primary key, n int references parent deferrable initially immediate);
        create table small (id int primary key, n int check (n < 100))";
    let rules = "[[table]]\nname = \"public.*\"\nconflict = { resolve = \"last\", by = \"column:n\" }\n";
    let peer = Peer::shared(Pg::V15, tables, rules);
    let row =
        |table: &str, id, n| rows(Op::Insert, Extra::None, table, "id:integer* n:integer", &[vec![int(id), int(n)]]);
    run(async {
        let mut applier = peer.applier(rules).await;
        // One fails when it commits, one before.
        for (failing, state) in [(row("late", 1, 99), "23503"), (row("small", 1, 1000), "23514")] {
            let had = applier.progress();
            let first = had.map_or(1, |progress| progress.tick.0 + 1);
            for (tick, entry) in (first..).zip([row("small", 2, 1), failing, row("small", 3, 1), row("small", 4, 1)]) {
                applier.begin(Mode::default()).expect("begin");
                applier.source(place(tick, 1)).expect("a source transaction");
                let to = applier.destination(&entry.head).expect("a destination");
                applier.entry(&to, &entry).await.expect("sent");
                applier.commit().await.expect("sent, and nobody has looked at an answer yet");
            }
            let failed = rejection(applier.settle().await.map(drop));
            assert_eq!(failed.sqlstate, state, "{failed}");
            assert_eq!(applier.rollback().await.expect("roll back"), Some(place(first, 1)));
            assert_eq!(peer.sql("select string_agg(id::text, ' ') from small"), "2");
            assert_eq!(peer.sql("select count(*) from late"), "0");
        }
    });
}

#[test]
fn a_missing_row_is_no_conflict_where_it_may_be_missing() {
    let peer = Peer::shared(Pg::V15, TABLES, PUBLIC);
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        let images = [
            vec![str("DELETE"), flag(false), int(91), None],
            vec![str("UPDATE"), flag(false), int(92), int(1)],
            vec![str("UPDATE"), flag(true), int(93), int(3)],
            vec![str("UPDATE"), flag(true), int(1), int(4)],
            vec![str("INSERT"), flag(false), int(94), int(1)],
            vec![str("INSERT"), flag(true), int(95), int(5)],
            vec![str("DELETE"), flag(true), int(2), None],
        ];
        let merge = rows(Op::Merge, Extra::ActionAndFilter, "t", "id:integer* n:integer", &images);
        apply(&mut applier, Mode::default(), place(1, 1), &[merge]).await.expect("all is well");
    });
    assert_eq!(peer.sql("select id, n from t order by id"), "1|4\n3|0\n4|0\n5|0\n93|3\n95|5");
}

#[test]
fn calls_that_do_not_fit_are_refused_and_a_peer_without_schema_is_explained() {
    let peer = Peer::shared(Pg::V15, TABLES, PUBLIC);
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        assert!(matches!(applier.commit().await, Err(ApplyError::Misuse(_))));
        assert!(matches!(applier.source(place(1, 1)), Err(ApplyError::Misuse(_))));
        applier.begin(Mode::default()).expect("begin");
        assert!(matches!(applier.begin(Mode::default()), Err(ApplyError::Misuse(_))));
        assert!(matches!(applier.flushed().await, Err(ApplyError::Misuse(_))));
        let (entry, to) = (add(1), applier.destination(&add(1).head).expect("a destination"));
        assert!(matches!(applier.entry(&to, &entry).await, Err(ApplyError::Misuse(_))));
        applier.rollback().await.expect("roll back");
        apply(&mut applier, Mode::default(), place(1, 1), &[entry]).await.expect("all is well");
        drop(applier);
        peer.session().ok("drop schema pgcanon cascade");
        let gone = loop {
            match peer.try_applier(PUBLIC).await {
                Err(ApplyError::Taken(_)) => tokio::task::yield_now().await, // the old session is still ending
                other => break other.err().expect("no schema"),
            }
        };
        assert!(gone.to_string().contains("pgcanon init"), "{gone}");
    });
}
