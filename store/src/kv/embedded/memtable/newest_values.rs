//! What sealed tables come to together: the newest value of every key, in the order of the keys, where it is.
//!
//! Invariants: `NEWEST-1` keys come once; of a key that several tables have, the first table has the last word; `NEWEST-2` nothing is
//! copied: sealed tables do not change, so nobody waits for whoever holds on to them.

use super::{Entries, Entry, Memtable};
use bytes::Bytes;
use std::collections::btree_map;
use std::iter::Peekable;
use std::sync::{Arc, RwLockReadGuard};

/// Sealed tables, held.
pub(in super::super) struct LockedMemtables<'a>(Vec<RwLockReadGuard<'a, Entries>>);

impl<'a> LockedMemtables<'a> {
    /// Of tables, the newest first.
    pub(in super::super) fn of(memtables: impl Iterator<Item = &'a Arc<Memtable>>) -> Self {
        Self(memtables.map(|memtable| memtable.read()).collect())
    }

    /// Each key with its value; without one if it was cleared.
    pub(in super::super) fn newest(&self) -> NewestValues<'_> {
        NewestValues(self.0.iter().map(|entries| entries.iter().peekable()).collect())
    }
}

pub(in super::super) struct NewestValues<'a>(Vec<Peekable<btree_map::Iter<'a, Bytes, Entry>>>);

impl<'a> Iterator for NewestValues<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let key =
            self.0.iter_mut().filter_map(|source| source.peek().map(|(key, _)| *key)).min()?;
        let mut found = None;
        for source in &mut self.0 {
            if let Some((_, entry)) = source.next_if(|(next, _)| *next == key) {
                found = found.or(Some(entry));
            }
        }
        Some((key, found?.newest.value.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::embedded::merge::tests::{Changes, some};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_table_has_the_last_word(all in prop::collection::vec((some(), some()), 0..4)) {
            let mut expected = Changes::new();
            for (earlier, later) in all.iter().rev() {
                expected.extend(earlier.clone());
                expected.extend(later.clone());
            }
            let memtable = |(earlier, later): (Changes, Changes)| {
                let memtable = Memtable::default();
                for (sequence, pairs) in [(1, earlier), (2, later)] {
                    memtable.apply(sequence, pairs.into_iter().map(|(k, v)| (k.into(), v.map(Into::into))), &[1]);
                }
                Arc::new(memtable)
            };
            let memtables: Vec<_> = all.into_iter().map(memtable).collect();
            let held = LockedMemtables::of(memtables.iter());
            let found: Vec<_> =
                held.newest().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
