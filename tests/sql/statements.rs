//! Where statements end and what each of them does: as many command tags as statements, and each the one of its effect.

use pgcanon::sql::{Effect, Effects, LexOptions, Split, effects};

use crate::corpus::{CONFORMING, ESCAPING, TRICKY};
use crate::session::{OFF, ON, SERVERS, Session};

/// The tags of a statement with this effect; none where it has no effect.
fn tags_of(effect: Effect) -> &'static [&'static str] {
    match effect {
        // What EXECUTE runs decides its tag.
        Effect::None | Effect::ReadOnly | Effect::Execute(_) => &[],
        Effect::Begin => &["BEGIN", "START TRANSACTION"],
        Effect::Commit { .. } => &["COMMIT", "ROLLBACK"],
        Effect::Rollback { .. } | Effect::RollbackTo(_) => &["ROLLBACK"],
        Effect::PrepareTransaction => &["PREPARE TRANSACTION", "ROLLBACK"],
        Effect::Savepoint(_) => &["SAVEPOINT"],
        Effect::Release(_) => &["RELEASE"],
        Effect::Prepare(_) => &["PREPARE"],
        Effect::Deallocate(_) => &["DEALLOCATE"],
        Effect::DeallocateAll => &["DEALLOCATE ALL"],
        Effect::DiscardAll => &["DISCARD ALL"],
        Effect::Declare { .. } => &["DECLARE CURSOR"],
        Effect::CloseCursor(_) => &["CLOSE CURSOR"],
        Effect::CloseAll => &["CLOSE CURSOR ALL"],
    }
}

const ALL_TAGS: [&str; 15] = [
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "PREPARE TRANSACTION",
    "SAVEPOINT",
    "RELEASE",
    "PREPARE",
    "DEALLOCATE",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "DECLARE CURSOR",
    "CLOSE CURSOR",
    "CLOSE CURSOR ALL",
    "",
];

/// Runs a query and compares; whether the server ran all of it.
pub(crate) fn compare(session: &mut Session, sql: &[u8], opts: LexOptions) -> bool {
    let shown = sql.escape_ascii();
    let answer = session.query(sql);
    let found = effects(sql, opts);
    let count = found.count() as usize;
    assert_eq!(Split::new(sql, opts).statements().count(), count, "{shown}");
    match &answer.error {
        // The server refused the query or stopped within it.
        Some(_) if answer.tags.is_empty() => return false,
        Some(_) => assert!(answer.tags.len() < count, "{shown}: {found:?} {answer:?}"),
        None => {
            assert_eq!(answer.tags.len(), count, "{shown}: {found:?} {answer:?}");
            assert_eq!(answer.empty, usize::from(found == Effects::Empty), "{shown}: {answer:?}");
        }
    }
    for (index, tag) in (0..).zip(&answer.tags) {
        let expected = tags_of(found.get(index));
        let agrees =
            if expected.is_empty() { !ALL_TAGS.contains(&tag.as_str()) } else { expected.contains(&tag.as_str()) };
        assert!(agrees, "{shown}: statement {index} is {:?} and answers {tag}", found.get(index));
    }
    answer.error.is_none()
}

#[test]
fn the_server_agrees_on_where_statements_end() {
    for pg in SERVERS {
        let mut session = Session::start(pg);
        let mut refused = Vec::new(); // then the query is not what it should be
        for (opts, own) in [(ON, CONFORMING), (OFF, ESCAPING)] {
            session.settings(opts, "utf8");
            for sql in TRICKY.iter().chain(own) {
                let ran = compare(&mut session, sql.as_bytes(), opts);
                if !ran {
                    refused.push(format!("{sql}: {:?}", session.query(sql.as_bytes())));
                }
                session.reset();
                session.must("drop schema s cascade; create schema s; create table t (a int)");
            }
        }
        assert!(refused.is_empty(), "{refused:#?}");
    }
}
