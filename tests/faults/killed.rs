//! Proxies and servers killed at random moments under load (scenario B8): what clients were told is what both nodes hold.

use crate::common::cluster::Stop;
use crate::common::rng::{Rng, seed};
use crate::ledger;
use crate::load::{a_while, under_load};
use crate::site::{Layout, Site};

/// How often something is killed; `FAULT_KILLS` says otherwise.
fn kills(few: u64) -> u64 {
    std::env::var("FAULT_KILLS").map_or(few, |text| text.parse().expect("FAULT_KILLS is a number"))
}

#[test]
fn b8_anything_killed_at_any_moment() {
    let seed = Rng::new(seed("b8"));
    let site = Site::start(Layout::new(&ledger::tables()));
    let mut rng = seed.fork(99);
    under_load(&site, &seed, |at_work| {
        for _ in 0..kills(12) {
            at_work();
            a_while(&mut rng, 150);
            let side = &site.sides[rng.below(2) as usize];
            let what = rng.below(5);
            if what < 3 {
                match rng.below(3) {
                    0 => side.cluster().stop(Stop::Immediate),
                    _ => side.cluster().crash(),
                }
            }
            if what > 1 {
                side.kill_proxy(0);
            }
            a_while(&mut rng, 400);
            if what < 3 {
                side.cluster().restart();
            }
            if what > 1 {
                side.start_proxy(0);
            }
        }
        at_work();
    });
}

#[test]
fn exactly_once_with_two_proxies_of_which_one_is_killed() {
    let seed = Rng::new(seed("two proxies"));
    let tables = ledger::tables();
    let site = Site::start(Layout { proxies: 2, ..Layout::new(&tables) });
    let mut rng = seed.fork(99);
    under_load(&site, &seed, |at_work| {
        for _ in 0..kills(12) {
            at_work();
            a_while(&mut rng, 200);
            let (side, n) = (&site.sides[rng.below(2) as usize], rng.below(2) as usize);
            side.kill_proxy(n);
            // The other one takes over.
            at_work();
            a_while(&mut rng, 200);
            side.start_proxy(n);
        }
        at_work();
    });
}
