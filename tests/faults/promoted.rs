//! A peer whose standby is promoted: what clients were told of is there, and of what was applied nothing is lost or doubled,
//! though the standby had less of it than the server that is gone.

use std::time::Duration;

use crate::common::relay::{Flow, Relay, Way};
use crate::common::rng::{Rng, seed};
use crate::common::{eventually, within};
use crate::ledger;
use crate::load::{a_while, under_load};
use crate::site::{CONF, Layout, Site};

#[test]
fn exactly_once_after_a_standby_of_the_peer_is_promoted() {
    let seed = Rng::new(seed("promoted"));
    let site = Site::start(Layout::wired(&ledger::tables()));
    let [a, b] = &site.sides;
    let primary = b.cluster();
    let stream = Relay::start(primary.port());
    let standby = primary.standby(CONF, stream.port());
    primary.psql("alter system set synchronous_standby_names = '*'");
    primary.reload();
    let sync = "select count(*) from pg_stat_replication where sync_state = 'sync'";
    eventually("the standby to be synchronous", || (primary.psql(sync) == "1").then_some(()));
    let mut rng = seed.fork(99);
    under_load(&site, &seed, |at_work| {
        at_work();
        a_while(&mut rng, 200);
        let applied = || a.sql("select tick from pgcanon.peer").parse::<i64>().expect("a number");
        // Clients of b wait for the standby from now on; what comes from a does not, until it meets a row that one of them has
        // locked meanwhile. Where that comes too soon, they go on for a moment.
        let ahead = |hold: bool| {
            stream.flow(Way::Down, if hold { Flow::Held } else { Flow::Open });
            let before = applied();
            within(Duration::from_secs(2), || (applied() > before + 3).then_some(()))
        };
        eventually("b to have more than its standby", || ahead(true).or_else(|| ahead(false).and(None)));
        primary.crash();
        stream.flow(Way::Down, Flow::Lost);
        stream.refuse();
        standby.promote();
        let port = standby.port();
        b.moves_to(standby);
        a.to_peer().point_to(port);
        at_work();
    });
}
