//! The pairs of a snapshot in a range, without the keys that were cleared.
//!
//! - `PRESENT-1`: the result is that of the merge. Cleared keys between two pairs are passed once:
//!   if there were many, the memtables remember the span, and later readers jump over it.

use super::memtable::MemtableView;
use super::merge::{Merge, MergedPair};
use crate::kv::range::after;
use crate::kv::{KeyRange, StoreError};
use bytes::Bytes;

/// Cleared keys that are worth remembering; few in tests, so that they come across spans.
const CLEARED_MIN: usize = if cfg!(test) { 2 } else { 64 };
/// Cleared keys between two questions whether the rest is in a span.
const CLEARED_PER_LOOK: usize = if cfg!(test) { 2 } else { 16 };

/// Iterates over the pairs.
pub(super) struct PresentPairs<'a> {
    merge: Merge<'a>,
    view: &'a MemtableView,
    sequence: u64,
    is_reverse: bool,
    /// From behind the last pair, or the last span, to the end of the range.
    rest: KeyRange,
    /// Cleared keys that were passed since then.
    cleared: usize,
}

impl<'a> PresentPairs<'a> {
    /// The pairs of a merge over the memtables of a view, at a sequence.
    pub(super) fn new(
        merge: Merge<'a>,
        view: &'a MemtableView,
        sequence: u64,
        range: KeyRange,
        is_reverse: bool,
    ) -> Self {
        Self { merge, view, sequence, is_reverse, rest: range, cleared: 0 }
    }

    /// The next pair.
    pub(super) fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, StoreError> {
        loop {
            let Some(found) = self.merge.next()? else {
                self.remember(self.rest.end.clone());
                return Ok(None);
            };
            if let MergedPair::Memtable(key, None) = &found {
                self.pass(key)?;
                continue;
            }
            let pair = found.pair();
            if let Some((key, _)) = &pair {
                self.remember(key.clone());
                self.rest.begin = after(key);
                self.cleared = 0;
            }
            return Ok(pair);
        }
    }

    /// Passes a cleared key, and the others of its span.
    fn pass(&mut self, key: &[u8]) -> Result<(), StoreError> {
        let may_look = !self.is_reverse && self.cleared.is_multiple_of(CLEARED_PER_LOOK);
        self.cleared += 1;
        if may_look && let Some((memtable, end)) = self.view.end_of_span(key, self.sequence) {
            self.merge.skip(memtable, &end)?;
            // The span is remembered already; what comes behind it will extend it.
            (self.rest.begin, self.cleared) = (end, 0);
        }
        Ok(())
    }

    fn remember(&self, end: Bytes) {
        if !self.is_reverse && self.cleared >= CLEARED_MIN {
            let span = KeyRange::new(self.rest.begin.clone(), end);
            self.view.remember_empty(span, self.sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memtable::{Memtable, MemtableRange};
    use super::super::merge::{BaseRange, BaseSource, Source};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    type Base = BTreeMap<Vec<u8>, Vec<u8>>;

    /// A view of memtables at a sequence.
    #[derive(Clone)]
    struct Reader {
        memtables: Vec<Arc<Memtable>>,
        sequence: u64,
    }

    fn base_range<'a>(base: &'a Base, range: &KeyRange, is_reverse: bool) -> BaseRange<'a> {
        let found = base.range(range.begin.to_vec()..range.end.to_vec().max(range.begin.to_vec()));
        let found = found.map(|(key, value)| Ok((&key[..], &value[..])));
        if is_reverse { Box::new(found.rev()) } else { Box::new(found) }
    }

    impl Reader {
        /// The keys in a range, and how many cleared ones were passed behind them.
        fn keys(&self, base: &Base, range: &KeyRange, is_reverse: bool) -> (Vec<u8>, usize) {
            let view = MemtableView { memtables: self.memtables.clone() };
            let mut merge = Merge::new(is_reverse);
            for memtable in &view.memtables {
                let part = MemtableRange::new(memtable, range, self.sequence, is_reverse);
                merge.add(Source::Memtable(part)).unwrap();
            }
            let end = &range.end;
            let seek = Box::new(move |key: &Bytes| {
                Ok(base_range(base, &KeyRange::new(key.clone(), end.clone()), false))
            });
            let pairs = base_range(base, range, is_reverse);
            merge.add(Source::Base(BaseSource { pairs, seek })).unwrap();
            let range = range.clone();
            let mut present = PresentPairs::new(merge, &view, self.sequence, range, is_reverse);
            let mut keys = Vec::new();
            while let Some((key, _)) = present.next().unwrap() {
                keys.push(key[0]);
            }
            (keys, present.cleared)
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(Vec<(u8, bool)>),
        Seal,
        /// A reader that stays.
        Open,
        Read {
            reader: usize,
            begin: u8,
            length: u8,
            is_reverse: bool,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let keys = prop::collection::vec((0u8..30, prop::bool::weighted(0.4)), 1..12);
        let read = (any::<usize>(), 0u8..30, 0u8..30, prop::bool::weighted(0.2));
        prop_oneof![
            4 => keys.prop_map(Step::Write),
            1 => Just(Step::Seal),
            2 => Just(Step::Open),
            6 => read.prop_map(|(reader, begin, length, is_reverse)| {
                Step::Read { reader, begin, length, is_reverse }
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn reads_match_the_full_history(
            stored in prop::collection::btree_set(0u8..30, 0..30),
            steps in prop::collection::vec(step(), 1..80),
        ) {
            let base: Base = stored.iter().map(|key| (vec![*key], vec![1])).collect();
            let mut all: Vec<(u64, u8, bool)> = stored.iter().map(|key| (0, *key, true)).collect();
            let mut memtables = vec![Arc::new(Memtable::default())];
            let (mut sequence, mut readers) = (0, Vec::<Reader>::new());
            for step in steps {
                match step {
                    Step::Write(keys) => {
                        sequence += 1;
                        let keys: BTreeMap<_, _> = keys.into_iter().collect();
                        let pairs = keys.iter().map(|(key, is_set)| {
                            (Bytes::from(vec![*key]), is_set.then(|| Bytes::from(vec![2])))
                        });
                        let at = readers.iter().map(|reader| reader.sequence);
                        let mut at: Vec<u64> = at.chain([sequence - 1]).collect();
                        at.sort_unstable();
                        memtables[0].apply(sequence, pairs, &at);
                        all.extend(keys.into_iter().map(|(key, is_set)| (sequence, key, is_set)));
                    }
                    Step::Seal => memtables.insert(0, Arc::default()),
                    Step::Open => {
                        readers.push(Reader { memtables: memtables.clone(), sequence });
                    }
                    Step::Read { reader, begin, length, is_reverse } => {
                        let newest = Reader { memtables: memtables.clone(), sequence };
                        let count = readers.len() + 1;
                        let reader = readers.get(reader % count).unwrap_or(&newest);
                        let range = KeyRange::new(vec![begin], vec![begin + length]);
                        let is_there = |key: &u8| {
                            let mut known = all.iter().rev();
                            known
                                .find(|(at, of, _)| *at <= reader.sequence && of == key)
                                .is_some_and(|(.., is_set)| *is_set)
                        };
                        let expected: Vec<u8> =
                            (begin..begin + length).filter(is_there).collect();
                        let (mut found, _) = reader.keys(&base, &range, is_reverse);
                        if is_reverse {
                            found.reverse();
                        }
                        prop_assert_eq!(found, expected, "PRESENT-1 at {}", reader.sequence);
                    }
                }
            }
        }
    }

    #[test]
    fn cleared_keys_are_passed_once() {
        let key = |number: u32| Bytes::copy_from_slice(&number.to_be_bytes());
        let pairs = |value: Option<Bytes>| (0..100_000).map(move |n| (key(n), value.clone()));
        let memtables: Vec<Arc<Memtable>> = vec![Arc::default(), Arc::default()];
        memtables[1].apply(1, pairs(Some(Bytes::new())), &[]);
        memtables[0].apply(2, pairs(None), &[]);
        let mut reader = Reader { memtables, sequence: 2 };
        let range = KeyRange::new(key(0), key(100_000));
        let passed = |reader: &Reader| reader.keys(&Base::new(), &range, false).1;
        assert_eq!(passed(&reader), 100_000);
        assert!(passed(&reader) <= 2);
        // A newer memtable clears keys of the span once more.
        reader.memtables.insert(0, Arc::default());
        reader.memtables[0].apply(3, (0..10).map(|number| (key(number), None)), &[]);
        reader.sequence = 3;
        assert!(passed(&reader) <= 12);
        reader.memtables[0].apply(4, [(key(50_000), Some(Bytes::new()))], &[]);
        reader.sequence = 4;
        assert!(passed(&reader) <= 4);
    }
}
