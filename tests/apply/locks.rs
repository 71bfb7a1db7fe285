//! Locks: it is the applier that gives way, and it may try again.

use std::thread;
use std::time::Duration;

use pgcanon::apply::{ApplyError, Mode};
use pgcanon::journal::Entry;
use pgcanon::journal::entry::{Lane, Op};

use crate::common::node::PUBLIC;
use crate::common::session::Session;
use crate::common::{Pg, eventually};
use crate::made::{apply, place, text};
use crate::site::{Peer, run};

const TABLES: &str = "create table t (id int primary key, n int not null default 0);
    insert into t select i, 0 from generate_series(1, 5) i";

fn add(id: i32) -> Entry {
    text(Lane::Statement, Op::Update, "t", &format!("update <t> set n = n + 1 where id = {id}"), Some(1))
}

/// Waits until the applier waits for a lock.
fn waits(watcher: &mut Session, who: &str) {
    let sql = format!(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name = '{who}' \
         and datname = current_database()"
    );
    eventually("a wait for a lock", || (watcher.ok(&sql).value() == "1").then_some(()));
}

#[test]
fn in_a_cycle_of_locks_the_client_wins() {
    let peer = Peer::shared(Pg::V15, TABLES, PUBLIC);
    let (mut client, mut watcher) = (peer.session(), peer.session());
    client.ok("set application_name = 'client'; begin; update t set n = n + 10 where id = 1");
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        let cycle = thread::spawn(move || {
            waits(&mut watcher, "pgcanon:a");
            // The client waits for the applier, which waits for the client.
            let answer = client.run("update t set n = n + 10 where id = 2");
            client.ok("commit");
            answer.failure()
        });
        let failed = apply(&mut applier, Mode::default(), place(1, 1), &[add(2), add(1)]).await;
        let Err(ApplyError::Retry(why)) = failed else { panic!("a retry expected, not {failed:?}") };
        assert_eq!(why.sqlstate, "55P03", "{why}");
        assert_eq!(why.at.map(|at| at.entry), Some(1));
        applier.rollback().await.expect("roll back");
        assert_eq!(cycle.join().expect("the client"), None, "the client lost");
        apply(&mut applier, Mode::default(), place(1, 1), &[add(2), add(1)]).await.expect("the second try");
    });
    assert_eq!(peer.sql("select n from t where id < 3"), "11\n11");
}

#[test]
fn alone_it_may_wait_as_long_as_it_is_told() {
    let peer = Peer::shared(Pg::V15, TABLES, PUBLIC);
    let (mut client, mut watcher) = (peer.session(), peer.session());
    client.ok("begin; update t set n = n + 10 where id = 1");
    run(async {
        let mut applier = peer.applier(PUBLIC).await;
        let within = |time| Mode { lock_timeout: Some(time), ..Mode::default() };
        let brief = apply(&mut applier, within(Duration::from_millis(1)), place(1, 1), &[add(1)]).await;
        assert!(matches!(brief, Err(ApplyError::Retry(_))), "{brief:?}");
        applier.rollback().await.expect("roll back");
        let ends = thread::spawn(move || {
            waits(&mut watcher, "pgcanon:a");
            // Longer than the server waits before it looks for a cycle.
            watcher.ok("select pg_sleep(1.2)");
            client.ok("commit");
        });
        let patient = within(Duration::from_secs(20));
        apply(&mut applier, patient, place(1, 1), &[add(1)]).await.expect("it has waited");
        ends.join().expect("the client");
    });
    assert_eq!(peer.sql("select n from t where id = 1"), "11");
}
