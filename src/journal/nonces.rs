//! Which nonces a reader has met: in memory bounded by gaps, not by rows (I7); it may forget one, but never invents one.

use std::collections::{BTreeMap, HashMap};

use super::meta::{AuthorId, Nonce};

/// Gaps come from transactions that rolled back, or that are still to come.
const RUNS: usize = 4096;
/// One for each start of a proxy within the journal's time.
const AUTHORS: usize = 1024;

/// The nonces met so far.
#[derive(Debug, Default)]
pub(super) struct Nonces(HashMap<AuthorId, Runs>);

/// Runs of counters without a gap, from first to last.
#[derive(Debug, Default)]
struct Runs(BTreeMap<u64, u64>);

// === impl Nonces ===

impl Nonces {
    /// Remembers a nonce; false if it was met before.
    pub(super) fn insert(&mut self, nonce: Nonce) -> bool {
        if self.0.len() >= AUTHORS && !self.0.contains_key(&nonce.author) {
            // Only whoever has the key makes authors; forgetting lets a repetition pass, a false alarm would lose a change.
            self.0.clear();
        }
        self.0.entry(nonce.author).or_default().insert(nonce.counter)
    }
}

// === impl Runs ===

impl Runs {
    fn insert(&mut self, counter: u64) -> bool {
        let before = self.0.range(..=counter).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= counter) {
            return false;
        }
        let first = match before {
            Some((first, last)) if last.checked_add(1) == Some(counter) => first,
            _ => counter,
        };
        let last = counter.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(counter);
        self.0.insert(first, last);
        if self.0.len() > RUNS {
            self.0.pop_first();
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn nonce(counter: u64) -> Nonce {
        Nonce { author: AuthorId([1; 8]), counter }
    }

    proptest! {
        #[test]
        fn it_is_a_set(counters in prop::collection::vec(0_u64..60, 0..200)) {
            let (mut nonces, mut plain) = (Nonces::default(), HashSet::new());
            for counter in counters {
                prop_assert_eq!(nonces.insert(nonce(counter)), plain.insert(counter));
            }
        }
    }

    #[test]
    fn runs_grow_together() {
        let mut nonces = Nonces::default();
        for counter in (0..1000).step_by(2).chain((1..1000).step_by(2)).chain([u64::MAX, u64::MAX - 1]) {
            assert!(nonces.insert(nonce(counter)));
        }
        assert_eq!(nonces.0.get(&AuthorId([1; 8])).unwrap().0.len(), 2);
        assert!(nonces.insert(Nonce { author: AuthorId([2; 8]), counter: 5 }), "another author counts for itself");
    }

    #[test]
    fn many_gaps_are_forgotten_from_the_oldest_on() {
        let mut nonces = Nonces::default();
        for counter in 0..=RUNS as u64 {
            assert!(nonces.insert(nonce(counter * 2)));
        }
        assert!(nonces.insert(nonce(0)), "forgotten");
        assert!(!nonces.insert(nonce(2 * RUNS as u64)));
    }
}
