//! A Bloom filter (Bloom 1970) per memtable, with two bits per key, so that lookups skip memtables.
//!
//! Invariant: `FILTER-1`: the filter never denies a key that was added. With as many keys as a
//! segment of 1 KiB events has, fewer than one in a hundred absent keys passes.
//!
//! Relaxed ordering suffices, because the record of a bit is published afterwards.

use std::sync::atomic::{AtomicU64, Ordering};

const BITS: u32 = 20;
const WORD_BITS: usize = u64::BITS as usize;

/// The two bits of a key, the same in every filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe([usize; 2]);

impl Probe {
    pub(super) fn of(key: &[u8]) -> Self {
        // Fibonacci hashing (Knuth): the upper bits depend on all bits of the product.
        let hash = u64::from(crc32fast::hash(key)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bit = |shift: u32| (hash >> shift) as usize % (1 << BITS);
        Self([bit(u64::BITS - BITS), bit(u64::BITS - 2 * BITS)])
    }
}

/// The bits of one memtable.
#[derive(Debug)]
pub(super) struct Filter(Box<[AtomicU64]>);

impl Default for Filter {
    fn default() -> Self {
        Self((0..(1 << BITS) / WORD_BITS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Filter {
    pub(super) fn add(&self, key: &[u8]) {
        for bit in Probe::of(key).0 {
            let word = &self.0[bit / WORD_BITS];
            // Only the committer adds keys, so this is not a race.
            word.store(word.load(Ordering::Relaxed) | 1 << (bit % WORD_BITS), Ordering::Relaxed);
        }
    }

    pub(super) fn may_have(&self, probe: Probe) -> bool {
        probe.0.into_iter().all(|bit| {
            self.0[bit / WORD_BITS].load(Ordering::Relaxed) >> (bit % WORD_BITS) & 1 == 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_keys_pass_and_few_others() {
        let filter = Filter::default();
        let key = |number: u32| format!("p/0017/t/tenant/e/{number:032x}").into_bytes();
        (0..24_000).for_each(|number| filter.add(&key(number)));
        assert!((0..24_000).all(|number| filter.may_have(Probe::of(&key(number)))), "FILTER-1");
        let mistaken =
            (24_000..124_000).filter(|number| filter.may_have(Probe::of(&key(*number)))).count();
        assert!(mistaken < 1_000, "{mistaken} of 100,000");
    }
}
