//! What is in the log and not yet in the base: ordered tables of keys with those of their values that somebody may still read.
//!
//! ```text
//! View: table being written ─ sealed tables, the newest first        one table for each segment of the log
//! ```
//! Invariants: `MEMORY-1` a read at a sequence sees the newest value at or before it, in the newest table that has one; `MEMORY-2`
//! a value goes when a newer one is at or before everything that is read; `MEMORY-3` a sealed table never changes.
//! It knows neither log nor base; what is in no table is in the base.

use super::record::Pair;
use crate::kv::KeyRange;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[derive(Debug)]
struct Version {
    sequence: u64,
    value: Option<Bytes>,
}

/// The values of a key: most have one.
#[derive(Debug)]
pub(super) struct Entry {
    newest: Version,
    older: Vec<Version>,
}

impl Entry {
    fn at(&self, sequence: u64) -> Option<&Option<Bytes>> {
        if self.newest.sequence <= sequence {
            return Some(&self.newest.value);
        }
        self.older.iter().rev().find(|version| version.sequence <= sequence).map(|version| &version.value)
    }

    fn push(&mut self, version: Version, oldest_read: u64) {
        let before = std::mem::replace(&mut self.newest, version);
        self.older.push(before);
        if self.newest.sequence <= oldest_read {
            self.older.clear();
        } else if let Some(seen) = self.older.iter().rposition(|version| version.sequence <= oldest_read) {
            self.older.drain(..seen);
        }
    }
}

pub(super) type Entries = BTreeMap<Bytes, Entry>;

/// The keys of one segment.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: RwLock<Entries>,
    /// The sequence of the last record; 0 if there is none.
    last: AtomicU64,
    /// What its pages in the base will take, about.
    page_bytes: AtomicU64,
}

impl Table {
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last() == 0
    }

    pub(super) fn page_bytes(&self) -> u64 {
        self.page_bytes.load(Ordering::Relaxed)
    }

    /// Adds what a record says. Nobody reads below `oldest_read` any more.
    pub(super) fn apply(&self, sequence: u64, pairs: impl IntoIterator<Item = Pair>, oldest_read: u64) {
        let mut entries = self.write();
        let mut bytes = 0;
        for (key, value) in pairs {
            bytes += page_bytes(key.len(), value.as_ref().map(Bytes::len));
            let version = Version { sequence, value };
            match entries.entry(key) {
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(Entry { newest: version, older: Vec::new() });
                }
                std::collections::btree_map::Entry::Occupied(mut occupied) => {
                    occupied.get_mut().push(version, oldest_read);
                }
            }
        }
        self.page_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last.store(sequence, Ordering::Release);
    }

    /// The value at a sequence: nothing if this table does not know, `Some(None)` if the key was cleared.
    pub(super) fn get(&self, key: &[u8], sequence: u64) -> Option<Option<Bytes>> {
        self.read().get(key)?.at(sequence).cloned()
    }

    /// Whether a key of a range was written after a sequence.
    pub(super) fn is_changed(&self, range: &KeyRange, since: u64) -> bool {
        if self.last() <= since || range.is_empty() {
            return false;
        }
        self.read().range::<[u8], _>(bounds(range)).any(|(_, entry)| entry.newest.sequence > since)
    }

    /// Whether a key was written after a sequence.
    pub(super) fn is_key_changed(&self, key: &[u8], since: u64) -> bool {
        self.last() > since && self.read().get(key).is_some_and(|entry| entry.newest.sequence > since)
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a pair takes in the base, about: half-full pages, or whole ones for a long value.
pub(super) fn page_bytes(key: usize, value: Option<usize>) -> u64 {
    const PAGE: usize = 4_096;
    let bytes = match value {
        None => 0,
        Some(value) if key + value > PAGE / 2 - 64 => (value + 16).next_multiple_of(PAGE) + 2 * (key + 32),
        Some(value) => 2 * (key + value + 16),
    };
    bytes as u64
}

pub(super) fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Included(&range.begin[..]), Bound::Excluded(&range.end[..]))
}

/// The tables that there are at a moment, the newest first.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) tables: Vec<Arc<Table>>,
}

impl View {
    /// The value at a sequence, as far as it is not in the base.
    pub(super) fn get(&self, key: &[u8], sequence: u64) -> Option<Option<Bytes>> {
        self.tables.iter().filter(|table| !table.is_empty()).find_map(|table| table.get(key, sequence))
    }

    pub(super) fn page_bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.page_bytes()).sum()
    }
}

/// The pairs of a range of a table as they were at a sequence.
pub(super) struct TableRange<'a> {
    entries: Range<'a, Bytes, Entry>,
    sequence: u64,
    reverse: bool,
}

impl<'a> TableRange<'a> {
    pub(super) fn new(entries: &'a Entries, range: &KeyRange, sequence: u64, reverse: bool) -> Self {
        Self { entries: entries.range::<[u8], _>(bounds(range)), sequence, reverse }
    }
}

impl<'a> Iterator for TableRange<'a> {
    type Item = (&'a Bytes, &'a Option<Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (key, entry) = if self.reverse { self.entries.next_back()? } else { self.entries.next()? };
            if let Some(value) = entry.at(self.sequence) {
                return Some((key, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// `MEMORY-1`, `MEMORY-2`: against all that was ever written.
        #[test]
        fn reads_at_what_may_be_read_are_right(
            writes in prop::collection::vec((0u8..4, prop::option::of(any::<u8>()), 0u64..4), 1..40),
        ) {
            let table = Table::default();
            let mut all: Vec<(u64, u8, Option<u8>)> = Vec::new();
            let mut oldest = 0;
            for (number, (key, value, back)) in writes.into_iter().enumerate() {
                let sequence = number as u64 + 1;
                oldest = oldest.max((sequence - 1).saturating_sub(back));
                let bytes = value.map(|value| Bytes::from(vec![value]));
                table.apply(sequence, [(Bytes::from(vec![key]), bytes)], oldest);
                all.push((sequence, key, value));
                for at in oldest..=sequence {
                    for key in 0..4 {
                        let expected = all.iter().rev().find(|(s, k, _)| *s <= at && *k == key).map(|(_, _, v)| *v);
                        let found = table.get(&[key], at).map(|value| value.map(|value| value[0]));
                        prop_assert_eq!(found, expected, "key {} at {}", key, at);
                    }
                }
            }
            let most = table.read().values().map(|entry| entry.older.len()).max();
            prop_assert!(most <= Some(4), "MEMORY-2: {:?}", most);
        }
    }
}
