//! Chance that can be repeated: a small generator, and where a test's seed comes from.

/// SplitMix64: every seed is a good one, and any number of clients get their own.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

/// The seed of `PGCANON_SEED`, or a new one; printed, so that a failure can be run again.
pub(crate) fn seed(test: &str) -> u64 {
    let given = std::env::var("PGCANON_SEED").ok();
    let seed = given.map_or_else(fresh, |text| text.parse().expect("PGCANON_SEED is a number"));
    eprintln!("{test}: PGCANON_SEED={seed}");
    seed
}

fn fresh() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    now.as_nanos() as u64 ^ u64::from(std::process::id()) << 40
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A generator of its own for the `n`th client.
    pub(crate) fn fork(&self, n: u64) -> Rng {
        let mut own = Rng(self.0 ^ n.wrapping_mul(0xd134_2543_de82_ef95));
        own.next();
        own
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to `n`, without it.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}
