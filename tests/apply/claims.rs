//! Rows that share a value of a further unique key (§8): as long as none of them gives it up, the strongest of all their
//! versions stays, in whatever order they come.

use pgcanon::apply::ApplyError;

use crate::site::run;
use crate::versions::{From, LAST, SECOND, meanwhile, now, orders, peer, row};

/// Who wrote them: the first, the second and the third version, each a second later, with its number for `n`.
const WRITERS: [&str; 3] = ["c", "a", "d"];

/// Every way in which one row or two have three versions that share a value, in all orders; which of the versions is to stay.
fn the_strongest_has_it(conflict: &str, strongest: usize) {
    let peer = peer("", conflict);
    peer.sql("alter table t add unique (info)");
    let orders = orders(WRITERS.len());
    let mut expected: Vec<String> = Vec::new();
    let brought: Result<(), ApplyError> = run(async {
        let mut nodes = Vec::new();
        for writer in WRITERS {
            nodes.push(From::node(&peer, writer, conflict).await);
        }
        for (set, order) in (0..8).flat_map(|set| orders.iter().map(move |order| (set, order))) {
            let case = expected.len();
            let id = |at: usize| i32::try_from(2 * case + (set >> at & 1)).expect("not so many");
            for at in order {
                let n = i32::try_from(*at).expect("few");
                let version = row(id(*at), &format!("value {case}"), Some(n));
                nodes[*at].brings(SECOND * (i64::from(n) + 1), &[version]).await?;
            }
            expected.push(format!("{}:{strongest}", id(strongest)));
        }
        Ok(())
    });
    brought.expect("apply");
    assert_eq!(peer.sql("select string_agg(id || ':' || n, ' ' order by id) from t"), expected.join(" "));
}

#[test]
fn the_last_who_takes_a_value_has_it() {
    the_strongest_has_it(LAST, 2);
}

#[test]
fn the_first_who_takes_a_value_has_it() {
    the_strongest_has_it("{ resolve = \"first\" }", 0);
}

#[test]
fn a_column_says_who_has_a_value() {
    the_strongest_has_it("{ resolve = \"last\", by = \"column:n\" }", 2);
}

#[test]
fn a_column_says_who_has_had_a_value_first() {
    the_strongest_has_it("{ resolve = \"first\", by = \"column:n\" }", 0);
}

#[test]
fn a_row_that_is_written_anew_while_another_waits_to_take_its_value_keeps_it() {
    let peer = peer("", LAST);
    peer.sql("alter table t add unique (info)");
    run(async {
        let mut a = From::node(&peer, "a", LAST).await;
        let before = now();
        a.brings(before - 2 * SECOND, &[row(1, "x", Some(1))]).await.expect("a row");
        let mut client = peer.session();
        client.ok("begin; update t set n = 2 where id = 1");
        meanwhile(&peer, &mut a, before - SECOND, &[row(2, "x", Some(3))], async || drop(client.ok("commit"))).await;
    });
    assert_eq!(peer.sql("select string_agg(id || ':' || n, ' ' order by id) from t"), "1:2");
}
