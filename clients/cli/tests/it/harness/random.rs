//! Repeatable randomness: a seed that is printed when a test fails, and streams derived from it.
//!
//! The seed comes from `TRIGGERS_TEST_SEED` or else from the random state of the standard library's
//! hash maps. Each stream is a separate xorshift generator, so that parallel tasks draw the same
//! numbers regardless of scheduling. The streams are not suitable for secrets.

use std::hash::BuildHasher;

/// The seed of one test. If the test panics, dropping the seed prints how to repeat it.
pub struct Seed(u64);

impl Seed {
    pub fn choose() -> Self {
        let chosen = std::env::var("TRIGGERS_TEST_SEED").ok().and_then(|text| text.parse().ok());
        Self(chosen.unwrap_or_else(|| std::hash::RandomState::new().hash_one("seed")))
    }

    /// Returns an independent stream; the same number returns the same stream.
    pub fn stream(&self, number: u64) -> Random {
        let mut random = Random((self.0 ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
        // The first outputs of similar states are similar.
        for _ in 0..16 {
            random.next();
        }
        random
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with TRIGGERS_TEST_SEED={}", self.0);
        }
    }
}

/// An xorshift generator (64 bits of state, never zero).
pub struct Random(u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number in `0..bound`; `bound` must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    /// A number in `from..=to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// Returns true with probability 1/`n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, Item>(&mut self, items: &'a [Item]) -> &'a Item {
        &items[self.below(items.len() as u64) as usize]
    }

    pub fn bytes(&mut self, length_bytes: usize) -> Vec<u8> {
        (0..length_bytes).map(|_| self.next() as u8).collect()
    }
}
