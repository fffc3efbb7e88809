//! The newest value of every key over several sealed memtables, in key order, without copying.
//!
//! Invariants:
//! - `NEWEST-1`: each key appears once; an earlier memtable overrides a later one.
//! - `NEWEST-2`: nothing is copied. Sealed memtables do not change, so the read locks make nobody
//!   wait.

use super::{Entries, Entry, Memtable};
use bytes::Bytes;
use std::collections::btree_map;
use std::iter::Peekable;
use std::sync::{Arc, RwLockReadGuard};

/// Read locks on sealed memtables.
pub(in super::super) struct LockedMemtables<'a>(Vec<RwLockReadGuard<'a, Entries>>);

impl<'a> LockedMemtables<'a> {
    /// Locks memtables, newest first.
    pub(in super::super) fn lock(memtables: impl Iterator<Item = &'a Arc<Memtable>>) -> Self {
        Self(memtables.map(|memtable| memtable.read()).collect())
    }

    /// Iterates over each key with its newest value, `None` if it was cleared.
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
        fn an_earlier_memtable_overrides_a_later_one(
            all in prop::collection::vec((some(), some()), 0..4),
        ) {
            let mut expected = Changes::new();
            for (earlier, later) in all.iter().rev() {
                expected.extend(earlier.clone());
                expected.extend(later.clone());
            }
            let memtable = |(earlier, later): (Changes, Changes)| {
                let memtable = Memtable::default();
                for (sequence, pairs) in [(1, earlier), (2, later)] {
                    let pairs = pairs.into_iter().map(|(k, v)| (k.into(), v.map(Into::into)));
                    memtable.apply(sequence, pairs, &[1]);
                }
                Arc::new(memtable)
            };
            let memtables: Vec<_> = all.into_iter().map(memtable).collect();
            let held = LockedMemtables::lock(memtables.iter());
            let owned = |(key, value): (&[u8], Option<&[u8]>)| {
                (key.to_vec(), value.map(<[u8]>::to_vec))
            };
            let found: Vec<_> = held.newest().map(owned).collect();
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
