//! Writers at both nodes, and faults while they write.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::common::rng::Rng;
use crate::common::{Stops, eventually};
use crate::ledger;
use crate::site::Site;
use crate::writer::{Record, write};

/// Writers at each node.
const WRITERS: u64 = 4;

/// Writers at both nodes, while `faults` happen; then what they were told is held against what is there.
///
/// `faults` is given a wait for both nodes to be at work again.
pub(crate) fn under_load(site: &Site, rng: &Rng, faults: impl FnOnce(&dyn Fn())) {
    let stop = AtomicBool::new(false);
    let done = [(); 2].map(|()| AtomicU64::new(0));
    let at_work = || {
        let before = done.each_ref().map(|done| done.load(Ordering::Relaxed));
        eventually("both nodes to be at work", || {
            let more = done.iter().zip(before).all(|(done, before)| done.load(Ordering::Relaxed) >= before + 10);
            more.then_some(())
        });
    };
    let records: Vec<Record> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2 * WRITERS)
            .map(|writer| {
                let n = writer as usize % 2;
                let (side, own, stop, done) = (&site.sides[n], rng.fork(writer + 1), &stop, &done[n]);
                scope.spawn(move || write(side, writer, own, stop, done))
            })
            .collect();
        let stops = Stops(&stop);
        faults(&at_work);
        drop(stops);
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
    });
    let summary = ledger::check(site, &records);
    eprintln!("{summary}");
    assert!(summary.done > 20 && summary.refused > 0, "there was load: {summary}");
}

/// Up to so many milliseconds, so that a fault meets the others anywhere.
pub(crate) fn a_while(rng: &mut Rng, most: u64) {
    std::thread::sleep(Duration::from_millis(rng.below(most)));
}
