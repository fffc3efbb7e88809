//! Memtables: the logged pairs that are not in the base store yet, with values readers still need.
//!
//! ```text
//! view: active memtable ─ sealed memtables, newest first; one memtable per segment of the log
//! ```
//! Invariants:
//! - `MEMORY-1`: a read at a sequence returns the newest value at or before it, from the newest
//!   memtable that has one.
//! - `MEMORY-2`: a value is dropped when no reader is between it and the next value.
//! - `MEMORY-3`: a sealed memtable never changes.

mod empty_spans;
mod filter;
mod newest_values;

pub(super) use newest_values::LockedMemtables;

use super::record::Pair;
use crate::kv::KeyRange;
use crate::kv::range::after;
use bytes::Bytes;
use empty_spans::EmptySpans;
use filter::{Filter, Probe};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[derive(Debug)]
struct Version {
    sequence: u64,
    value: Option<Bytes>,
}

/// The values of a key; most keys have one.
#[derive(Debug)]
struct Entry {
    newest: Version,
    older: Vec<Version>,
}

impl Entry {
    fn at(&self, sequence: u64) -> Option<&Option<Bytes>> {
        if self.newest.sequence <= sequence {
            return Some(&self.newest.value);
        }
        self.older
            .iter()
            .rev()
            .find(|version| version.sequence <= sequence)
            .map(|version| &version.value)
    }

    /// Whether the key had a value after `since`.
    fn had_value_after(&self, since: u64) -> bool {
        let mut versions = std::iter::once(&self.newest).chain(&self.older);
        versions.any(|version| version.sequence > since && version.value.is_some())
    }

    /// Adds a value, and drops the older ones that no reader in `readers` can see.
    fn push(&mut self, version: Version, readers: &[u64]) {
        let before = std::mem::replace(&mut self.newest, version);
        self.older.push(before);
        let mut next = self.newest.sequence;
        for at in (0..self.older.len()).rev() {
            let sequence = self.older[at].sequence;
            let reader = readers.partition_point(|reader| *reader < sequence);
            if readers.get(reader).is_none_or(|reader| *reader >= next) {
                drop(self.older.remove(at));
            }
            next = sequence;
        }
    }
}

type Entries = BTreeMap<Bytes, Entry>;

/// The pairs logged in one segment.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    entries: RwLock<Entries>,
    /// Bloom filter of all keys.
    filter: Filter,
    empty_spans: EmptySpans,
    /// Sequence of the last record, or 0 if there is none.
    last: AtomicU64,
    /// Approximate bytes of pages that the pairs will take in the base store.
    page_bytes: AtomicU64,
}

impl Memtable {
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last() == 0
    }

    pub(super) fn page_bytes(&self) -> u64 {
        self.page_bytes.load(Ordering::Relaxed)
    }

    /// Adds the pairs of a record. `readers` are the sorted sequences of all possible readers.
    pub(super) fn apply(
        &self,
        sequence: u64,
        pairs: impl IntoIterator<Item = Pair>,
        readers: &[u64],
    ) {
        let mut entries = self.write();
        let mut bytes = 0;
        let mut empty_spans = self.empty_spans.write();
        for (key, value) in pairs {
            self.filter.add(&key);
            if value.is_some() {
                empty_spans.take_out(&key);
            }
            bytes += page_bytes(key.len(), value.as_ref().map(Bytes::len));
            let version = Version { sequence, value };
            match entries.entry(key) {
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(Entry { newest: version, older: Vec::new() });
                }
                std::collections::btree_map::Entry::Occupied(mut occupied) => {
                    occupied.get_mut().push(version, readers);
                }
            }
        }
        self.page_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last.store(sequence, Ordering::Release);
    }

    /// The value at a sequence: `None` if unknown here, `Some(None)` if the key was cleared.
    fn get(&self, key: &[u8], probe: Probe, sequence: u64) -> Option<Option<Bytes>> {
        if !self.filter.may_have(probe) {
            return None;
        }
        self.read().get(key)?.at(sequence).cloned()
    }

    /// Whether a key of a range was written after `since`.
    pub(super) fn is_changed(&self, range: &KeyRange, since: u64) -> bool {
        let is_new = |(_, entry): (_, &Entry)| entry.newest.sequence > since;
        self.last() > since && self.read().range::<[u8], _>(range.bounds()).any(is_new)
    }

    /// Whether a key of a range had a value after `since`.
    fn had_value_after(&self, entries: &Entries, range: &KeyRange, since: u64) -> bool {
        let mut entries = entries.range::<[u8], _>(range.bounds());
        self.last() > since && entries.any(|(_, entry)| entry.had_value_after(since))
    }

    /// Whether a key was written after `since`.
    pub(super) fn is_key_changed(&self, key: &[u8], since: u64) -> bool {
        self.last() > since
            && self.filter.may_have(Probe::of(key))
            && self.read().get(key).is_some_and(|entry| entry.newest.sequence > since)
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Approximate bytes of a pair in the base store: half-full pages, whole ones for a long value.
pub(super) fn page_bytes(key: usize, value: Option<usize>) -> u64 {
    const PAGE: usize = 4_096;
    let bytes = match value {
        None => 0,
        Some(value) if key + value > PAGE / 2 - 64 => {
            (value + 16).next_multiple_of(PAGE) + 2 * (key + 32)
        }
        Some(value) => 2 * (key + value + 16),
    };
    bytes as u64
}

/// The memtables at one moment, newest first.
#[derive(Debug, Default)]
pub(super) struct MemtableView {
    pub(super) memtables: Vec<Arc<Memtable>>,
}

impl MemtableView {
    /// The value at a sequence: `None` if the base store has to be read.
    pub(super) fn get(&self, key: &[u8], sequence: u64) -> Option<Option<Bytes>> {
        let probe = Probe::of(key);
        self.memtables.iter().find_map(|memtable| memtable.get(key, probe, sequence))
    }

    /// The end of a known span without pairs that has `key`, and the number of its memtable: the
    /// span is empty in this memtable and in everything below it.
    pub(super) fn end_of_span(&self, key: &[u8], sequence: u64) -> Option<(usize, Bytes)> {
        self.memtables.iter().enumerate().find_map(|(number, memtable)| {
            memtable.empty_spans.end_of(key, sequence).map(|end| (number, end))
        })
    }

    /// Remembers a span in which a reader at `sequence` found no pair, unless a later commit may
    /// have added one.
    pub(super) fn remember_empty(&self, span: KeyRange, sequence: u64) {
        let Some((newest, sealed)) = self.memtables.split_first() else { return };
        let is_empty =
            |memtable: &Memtable| !memtable.had_value_after(&memtable.read(), &span, sequence);
        if !sealed.iter().all(|memtable| is_empty(memtable)) {
            return;
        }
        // While it is locked, no commit can add a pair.
        let entries = newest.read();
        if !newest.had_value_after(&entries, &span, sequence) {
            newest.empty_spans.add(span.begin, span.end, sequence);
        }
    }

    pub(super) fn page_bytes(&self) -> u64 {
        self.memtables.iter().map(|memtable| memtable.page_bytes()).sum()
    }
}

/// The pairs of a memtable in a range as of a sequence. It locks the memtable for a chunk at a
/// time, so that the committer does not wait long; values at `sequence` do not change in between.
pub(super) struct MemtableRange<'a> {
    memtable: &'a Memtable,
    rest: Option<KeyRange>,
    sequence: u64,
    is_reverse: bool,
    read: VecDeque<Pair>,
    /// Keys to read under the next lock.
    chunk: usize,
}

/// Keys read under the first lock: most reads are of few pairs.
const CHUNK_FIRST: usize = 4;
/// Most keys read under one lock.
const CHUNK_MAX: usize = 128;

impl<'a> MemtableRange<'a> {
    pub(super) fn new(
        memtable: &'a Memtable,
        range: &KeyRange,
        sequence: u64,
        is_reverse: bool,
    ) -> Self {
        let rest = (!range.is_empty() && !memtable.is_empty()).then(|| range.clone());
        Self { memtable, rest, sequence, is_reverse, read: VecDeque::new(), chunk: CHUNK_FIRST }
    }

    /// Goes on at `key`, if it has not yet come so far. The range is not reversed.
    pub(super) fn seek(&mut self, key: &Bytes) {
        while self.read.front().is_some_and(|(next, _)| next < key) {
            drop(self.read.pop_front());
        }
        if let Some(rest) = &mut self.rest
            && rest.begin < *key
        {
            rest.begin = key.clone();
        }
    }

    fn read_more(&mut self, mut rest: KeyRange) {
        let entries = self.memtable.read();
        let mut found = entries.range::<[u8], _>(rest.bounds());
        let mut last = None;
        let chunk = self.chunk;
        self.chunk = (2 * chunk).min(CHUNK_MAX);
        for _ in 0..chunk {
            let next = if self.is_reverse { found.next_back() } else { found.next() };
            let Some((key, entry)) = next else { return };
            self.read.extend(entry.at(self.sequence).map(|value| (key.clone(), value.clone())));
            last = Some(key.clone());
        }
        if let Some(last) = last {
            if self.is_reverse {
                rest.end = last;
            } else {
                rest.begin = after(&last);
            }
            self.rest = (!rest.is_empty()).then_some(rest);
        }
    }
}

impl Iterator for MemtableRange<'_> {
    type Item = Pair;

    fn next(&mut self) -> Option<Pair> {
        while self.read.is_empty() {
            let rest = self.rest.take()?;
            self.read_more(rest);
        }
        self.read.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Compares reads with the full history (`MEMORY-1`, `MEMORY-2`).
        #[test]
        fn reads_match_the_full_history(
            writes in prop::collection::vec(
                (0u8..4, prop::option::of(any::<u8>()), 0usize..6),
                1..40,
            ),
        ) {
            let memtable = Memtable::default();
            let mut all: Vec<(u64, u8, Option<u8>)> = Vec::new();
            let mut readers: Vec<u64> = Vec::new();
            for (number, (key, value, ended)) in writes.into_iter().enumerate() {
                let sequence = number as u64 + 1;
                if ended < readers.len() {
                    readers.remove(ended);
                }
                // A reader may begin now.
                readers.push(sequence - 1);
                let bytes = value.map(|value| Bytes::from(vec![value]));
                memtable.apply(sequence, [(Bytes::from(vec![key]), bytes)], &readers);
                all.push((sequence, key, value));
                for at in readers.iter().copied().chain([sequence]) {
                    for key in 0..4 {
                        let mut newest_first = all.iter().rev();
                        let expected = newest_first.find(|(s, k, _)| *s <= at && *k == key);
                        let expected = expected.map(|(_, _, value)| *value);
                        let found = memtable.get(&[key], Probe::of(&[key]), at);
                        let found = found.map(|value| value.map(|value| value[0]));
                        prop_assert_eq!(found, expected, "key {} at {}", key, at);
                    }
                }
            }
            let most = memtable.read().values().map(|entry| entry.older.len()).max();
            prop_assert!(most <= Some(readers.len()), "MEMORY-2: {:?} for {:?}", most, readers);
        }

        #[test]
        fn a_range_is_complete_in_both_directions(
            count in 0usize..400, begin in 0usize..400, length in 0usize..400,
        ) {
            let memtable = Memtable::default();
            let key = |number: usize| Bytes::from(format!("{number:05}"));
            memtable.apply(1, (0..count).map(|number| (key(number), Some(Bytes::new()))), &[]);
            memtable.apply(2, (0..count).map(|number| (key(number), None)), &[1]);
            let range = KeyRange::new(key(begin), key(begin + length));
            let numbers = (begin..begin + length).filter(|number| *number < count);
            let expected: Vec<Bytes> = numbers.map(key).collect();
            for sequence in [1, 2] {
                let read = |is_reverse| MemtableRange::new(&memtable, &range, sequence, is_reverse);
                let found: Vec<Pair> = read(false).collect();
                prop_assert!(found.iter().all(|(_, value)| value.is_some() == (sequence == 1)));
                let mut reversed: Vec<Pair> = read(true).collect();
                reversed.reverse();
                prop_assert_eq!(&found, &reversed);
                let keys: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
                prop_assert_eq!(&keys, &expected);
            }
        }
    }
}
