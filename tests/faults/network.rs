//! Networks that are cut, one way or both, or slow, under load: clients go on, and all is equal when the network is there again.

use std::time::{Duration, Instant};

use crate::common::eventually;
use crate::common::relay::{Cut, Flow, Way, What};
use crate::common::rng::{Rng, seed};
use crate::ledger;
use crate::load::{a_while, under_load};
use crate::site::{Layout, Site};

#[test]
fn a_network_that_holds_or_loses_what_goes_one_way_or_both() {
    let seed = Rng::new(seed("partitions"));
    let site = Site::start(Layout::wired(&ledger::tables()));
    let mut rng = seed.fork(99);
    let [a, b] = &site.sides;
    under_load(&site, &seed, |at_work| {
        for flow in [Flow::Held, Flow::Lost] {
            for ways in [&[Way::Up][..], &[Way::Down], &[Way::Up, Way::Down]] {
                at_work();
                a_while(&mut rng, 100);
                for way in ways {
                    a.to_peer().flow(*way, flow);
                    if rng.one_in(2) {
                        b.to_peer().flow(*way, flow);
                    }
                }
                at_work();
                a_while(&mut rng, 300);
                for side in [a, b] {
                    side.to_peer().heal();
                }
            }
        }
        at_work();
    });
}

#[test]
fn a_peer_that_is_cut_off_for_long_is_queued_for() {
    let seed = Rng::new(seed("long partition"));
    let site = Site::start(Layout::wired(&ledger::tables()));
    let [a, b] = &site.sides;
    under_load(&site, &seed, |at_work| {
        for way in [Way::Up, Way::Down] {
            at_work();
            a.to_peer().flow(way, Flow::Lost);
            eventually("the changes to go to the queue", || (a.peer_state() == "spilling").then_some(()));
            at_work();
            assert_eq!(b.peer_state(), "live", "the other way there is nothing wrong");
            a.to_peer().heal();
        }
        at_work();
    });
}

#[test]
fn a_node_that_its_proxy_is_cut_off_from_for_a_while() {
    let seed = Rng::new(seed("node leg"));
    let site = Site::start(Layout::wired(&ledger::tables()));
    let mut rng = seed.fork(99);
    under_load(&site, &seed, |at_work| {
        for n in 0..6 {
            at_work();
            a_while(&mut rng, 100);
            let wire = site.sides[n % 2].to_server();
            match n / 2 {
                0 => wire.flow(Way::Down, Flow::Held),
                1 => wire.flow(Way::Up, Flow::Lost),
                _ => wire.cut(),
            }
            a_while(&mut rng, 300);
            wire.heal();
        }
        at_work();
    });
}

#[test]
fn a_peer_that_never_hears_of_the_end_of_a_connection() {
    let seed = Rng::new(seed("half-open"));
    let site = Site::start(Layout::wired(&ledger::tables()));
    under_load(&site, &seed, |at_work| {
        for side in &site.sides {
            at_work();
            side.to_peer().cut_near();
            at_work();
        }
    });
}

#[test]
fn who_falls_silent_in_a_transaction_holds_up_no_client() {
    let site =
        Site::start(Layout::wired("create table t (id int primary key, n int not null); insert into t values (1, 0)"));
    let [a, b] = &site.sides;
    let (mut here, mut there) = (a.client(), b.client());
    const ADD: &str = "update t set n = n + 1 where id = 1";
    here.ok(ADD);
    site.settle();
    a.to_peer().arm("pgcanon:a", What::Commit, Cut::Silence);
    here.ok(ADD);
    eventually("the silence", || a.to_peer().outcome());
    let began = Instant::now();
    there.ok("set lock_timeout = '25s'");
    there.ok(ADD);
    eprintln!("a client has waited for {:?}", began.elapsed());
    a.to_peer().heal();
    assert_eq!(site.assert_same("select n from t"), [[Some("3".to_owned())]]);
}

#[test]
fn a_slow_network_slows_no_client() {
    const DELAY: Duration = Duration::from_millis(100);
    let site =
        Site::start(Layout::wired("create table t (id int primary key, n int not null); insert into t values (1, 0)"));
    let [a, b] = &site.sides;
    let mut c = a.client();
    c.ok("update t set n = n + 1 where id = 1");
    site.settle();
    a.to_peer().delay(DELAY);
    let began = Instant::now();
    for n in 2..=150 {
        c.ok("update t set n = n + 1 where id = 1");
        c.ok(&format!("begin; insert into t values ({n}, random()); commit"));
        let took = began.elapsed();
        assert!(took < DELAY * 150, "{} transactions took {took:?}: they wait for the network", 2 * (n - 1));
    }
    let took = began.elapsed();
    let there = b.sql("select count(*) from t");
    assert_eq!(site.assert_same("table t order by id").len(), 150);
    eprintln!("298 transactions took {took:?}; then the peer had {there} rows");
}
