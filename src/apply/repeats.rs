//! Texts that come again are prepared: which they are, in bounded memory (I7).

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// Prepared texts of one generation; two are kept.
const PREPARED: usize = 256;
/// Longer texts are not kept.
const LONGEST: usize = 8 << 10;
/// Texts seen once, of which no more than a hash is kept.
const SEEN: usize = 4096;

/// What becomes of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It may never come again.
    Once,
    /// It is prepared under this name.
    Prepared(u32),
    /// It is to be prepared under this name.
    Prepare(u32),
}

#[derive(Debug, Default)]
pub(super) struct Repeats {
    seen: HashSet<u64>,
    hasher: RandomState,
    young: HashMap<Vec<u8>, u32>,
    old: HashMap<Vec<u8>, u32>,
}

impl Repeats {
    /// What to do with a text that `key` stands for. Names that are needed no longer are added to `dropped`.
    pub(super) fn use_of(&mut self, key: Vec<u8>, new: impl FnOnce() -> u32, dropped: &mut Vec<u32>) -> Use {
        if let Some(id) = self.young.get(&key) {
            return Use::Prepared(*id);
        }
        if let Some(id) = self.old.remove(&key) {
            self.keep(key, id, dropped);
            return Use::Prepared(id);
        }
        if key.len() > LONGEST {
            return Use::Once;
        }
        let hash = self.hasher.hash_one(&key);
        if !self.seen.remove(&hash) {
            if self.seen.len() >= SEEN {
                self.seen.clear();
            }
            self.seen.insert(hash);
            return Use::Once;
        }
        let id = new();
        self.keep(key, id, dropped);
        Use::Prepare(id)
    }

    fn keep(&mut self, key: Vec<u8>, id: u32, dropped: &mut Vec<u32>) {
        if self.young.len() >= PREPARED {
            dropped.extend(self.old.drain().map(|(_, id)| id));
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, id);
    }

    /// Nothing is prepared any more.
    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_prepared_and_what_does_not_is_dropped() {
        let (mut repeats, mut dropped, mut next) = (Repeats::default(), Vec::new(), 0);
        let mut of = |key: &str, dropped: &mut Vec<u32>| {
            repeats.use_of(
                key.into(),
                || {
                    next += 1;
                    next
                },
                dropped,
            )
        };
        assert_eq!(of("hot", &mut dropped), Use::Once);
        assert_eq!(of("hot", &mut dropped), Use::Prepare(1));
        for n in 0..2000 {
            let text = n.to_string();
            assert_eq!(of("hot", &mut dropped), Use::Prepared(1), "{n}");
            assert_eq!(of(&text, &mut dropped), Use::Once);
            assert!(matches!(of(&text, &mut dropped), Use::Prepare(_)));
        }
        assert!(!dropped.contains(&1) && dropped.len() >= 2000 - 2 * PREPARED, "{}", dropped.len());
        assert_eq!(of(&"x".repeat(LONGEST + 1), &mut dropped), Use::Once);
        assert_eq!(of(&"x".repeat(LONGEST + 1), &mut dropped), Use::Once);
    }
}
