//! What settled conflicts leave behind (§8) does not grow with how often they come: a version is told again to those who may
//! have written over it, and of the deletions of a row the strongest is kept.

use pgcanon::journal::TickId;
use pgcanon::journal::entry::Extra;

use crate::site::{Peer, run};
use crate::versions::{self, From, LAST, gone, peer, row};

/// How many versions are to be told again, or were.
fn told(peer: &Peer) -> String {
    peer.sql("select count(*) from pgcanon.echo")
}

/// Makes a tick of the peer's, and its number known to the node.
fn sees_all(peer: &Peer, node: &mut From) {
    let id = peer.sql(
        "insert into pgcanon.tick (id, system, timeline, snapshot) \
         select count(*) + 1, 0, 0, pg_current_snapshot() from pgcanon.tick returning id",
    );
    node.seen = Some(TickId(id.parse().expect("a number")));
}

fn send(peer: &Peer) {
    peer.sql("update pgcanon.echo set sent = pg_current_xact_id() where sent is null");
}

#[test]
fn what_is_on_its_way_is_not_told_once_more() {
    let peer = peer("", LAST);
    run(async {
        let mut a = From::node(&peer, "a", LAST).await;
        let mut time = 0;
        // All are older than what is there.
        let mut loses = async |a: &mut From| {
            for _ in 0..3 {
                time += 1;
                a.brings(time, &[row(1, "a", None)]).await.expect("a row that loses");
                a.brings(time, &[row(2, "a", None)]).await.expect("a row that is dead");
            }
        };
        sees_all(&peer, &mut a);
        peer.sql(
            "insert into t values (1, 'b'); insert into pgcanon.tombstone (nsp_name, table_name, key) \
             values ('public', 't', '\\x0000001700000004'::bytea || int4send(2))",
        );
        loses(&mut a).await;
        assert_eq!(told(&peer), "0", "the peer's own changes come by themselves");
        sees_all(&peer, &mut a);
        loses(&mut a).await;
        assert_eq!(told(&peer), "2", "who had seen them has written over them, and gets them once");
        send(&peer);
        loses(&mut a).await;
        assert_eq!(told(&peer), "2", "they are on their way");
        sees_all(&peer, &mut a);
        loses(&mut a).await;
        assert_eq!(told(&peer), "4", "they had arrived");
        send(&peer);
        // Of a third node's nobody knows where they are.
        let mut c = From::node(&peer, "c", LAST).await;
        c.brings(1000, &[row(3, "c", None)]).await.expect("a row");
        a.brings(900, &[row(3, "a", None)]).await.expect("a row that loses");
        assert_eq!(told(&peer), "5");
        send(&peer);
        a.seen = None;
        loses(&mut a).await;
        assert_eq!(told(&peer), "7", "it is not known what was seen");
    });
}

#[test]
fn what_is_told_and_new_here_is_told_on_as_who_told_it_may_have_it_no_more() {
    const BY_NUMBER: &str = "{ resolve = \"last\", by = \"column:n\" }";
    let by_number = peer("", BY_NUMBER);
    by_number.sql("insert into t values (1, 'here', -1)");
    run(async {
        let mut a = From::node(&by_number, "a", BY_NUMBER).await;
        let again = |n| {
            let mut entry = row(1, "again", Some(n));
            entry.head.extra = Extra::Told;
            entry
        };
        for _ in 0..2 {
            a.brings(1, &[again(0)]).await.expect("a row that wins");
            assert_eq!(told(&by_number), "1");
            send(&by_number);
        }
        a.brings(2, &[row(1, "anew", Some(1))]).await.expect("another row that wins");
        assert_eq!(told(&by_number), "1", "it comes to all from where it was made");
    });
    let by_time = peer("", LAST);
    run(async {
        let mut a = From::node(&by_time, "a", LAST).await;
        for (writer, time, all) in [("b", 100, "1"), ("c", 200, "1"), ("a", 300, "2")] {
            for _ in 0..2 {
                a.brings(900, &[versions::told(row(1, "again", None), writer, time)]).await.expect("a row that wins");
                assert_eq!(told(&by_time), all, "by {writer}: a third node has it, or has told what is stronger");
                send(&by_time);
            }
        }
    });
}

/// The only deletion that is kept of a row that nodes delete again and again.
fn kept(conflict: &str, deletions: &[(&str, i64, Option<i32>)]) -> String {
    let peer = peer("", LAST);
    run(async {
        for node in ["a", "c"] {
            let mut from = From::node(&peer, node, conflict).await;
            for (_, time, n) in deletions.iter().filter(|(of, ..)| *of == node) {
                from.brings(*time, &[gone(1, *n)]).await.expect("a deletion");
                from.brings(*time, &[gone(1, *n)]).await.expect("the same");
            }
        }
    });
    peer.sql(
        "select string_agg(concat_ws(' ', v.origin, extract(epoch from v.at - '2000-01-01 00:00:00+00')::float8 * 1000000, d.number), \
         ', ') from pgcanon.tombstone as d, pgcanon.version(d.xmin, 'b') as v",
    )
}

#[test]
fn of_a_rows_deletions_the_strongest_is_kept() {
    let times = [("a", 30, None), ("a", 10, None), ("a", 50, None), ("c", 20, None), ("c", 60, None)];
    assert_eq!(kept(LAST, &times), "c 60");
    assert_eq!(kept("{ resolve = \"node\", prefer = \"a\" }", &times), "a 50");
    let numbers = [("a", 30, Some(7)), ("a", 40, Some(5)), ("c", 20, Some(9)), ("c", 50, None)];
    let by_number = kept("{ resolve = \"last\", by = \"column:n\" }", &numbers);
    assert!(by_number.ends_with(" 9") && !by_number.contains(','), "{by_number}");
}
