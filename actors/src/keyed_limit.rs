//! A limit on what each key (a tenant, an address) has in flight.
//!
//! - `KEYED-LIMIT-1`: the permits of a key never exceed its maximum in total.
//! - `KEYED-LIMIT-2`: a dropped permit is free again, and only keys with permits take memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use triggers_protocol::lock::lock;

/// Counts what each key has in flight; clones share the counts.
#[derive(Debug, Clone)]
pub struct KeyedLimit<K>(Arc<Mutex<BTreeMap<K, usize>>>);

/// An amount that a key has in flight; dropping it frees the amount.
#[derive(Debug)]
pub struct KeyedPermit<K: Ord> {
    limit: KeyedLimit<K>,
    key: K,
    amount: usize,
}

impl<K> Default for KeyedLimit<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> KeyedLimit<K> {
    /// Whether no key has anything in flight.
    pub fn is_idle(&self) -> bool {
        lock(&self.0).is_empty()
    }
}

impl<K: Ord + Clone> KeyedLimit<K> {
    /// A permit for `amount` more of a key; `None` if the key would then exceed `max`.
    pub fn acquire(&self, key: K, amount: usize, max: usize) -> Option<KeyedPermit<K>> {
        let mut counts = lock(&self.0);
        let total = counts.get(&key).copied().unwrap_or(0).saturating_add(amount);
        if total > max {
            return None;
        }
        counts.insert(key.clone(), total);
        Some(KeyedPermit { limit: self.clone(), key, amount })
    }
}

impl<K: Ord> Drop for KeyedPermit<K> {
    fn drop(&mut self) {
        let mut counts = lock(&self.limit.0);
        if let Some(total) = counts.get_mut(&self.key) {
            *total -= self.amount;
            if *total == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn limits_hold_for_each_key(
            steps in prop::collection::vec((0u8..3, 1usize..6, any::<bool>()), 0..100),
        ) {
            let limit = KeyedLimit::default();
            let mut permits: Vec<KeyedPermit<u8>> = Vec::new();
            for (key, amount, is_release) in steps {
                if is_release && !permits.is_empty() {
                    permits.remove(0);
                }
                let held = |key: u8| -> usize {
                    permits.iter().filter(|permit| permit.key == key).map(|it| it.amount).sum()
                };
                let fits = held(key) + amount <= 10;
                let permit = limit.acquire(key, amount, 10);
                prop_assert_eq!(permit.is_some(), fits, "KEYED-LIMIT-1");
                permits.extend(permit);
            }
            permits.clear();
            prop_assert!(limit.is_idle(), "KEYED-LIMIT-2");
        }
    }
}
