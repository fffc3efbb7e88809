//! Merges several sorted sources of pairs into one; an earlier source overrides a later one.
//!
//! Invariants:
//! - `MERGE-1`: each key appears once, in order or in reverse.
//! - `MERGE-2`: a key that an earlier source has cleared appears as cleared.
//! - `MERGE-3`: the sources before the one that a skip names lose no key, the others those before
//!   its end.

use super::memtable::MemtableRange;
use crate::kv::StoreError;
use bytes::Bytes;

/// A key with its value, borrowed from or shared with its source.
#[derive(Clone)]
pub(super) enum MergedPair<'a> {
    /// From a memtable; `None` if the key was cleared.
    Memtable(Bytes, Option<Bytes>),
    /// From the base store.
    Base(&'a [u8], &'a [u8]),
}

impl<'a> MergedPair<'a> {
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Memtable(key, _) => key,
            Self::Base(key, _) => key,
        }
    }

    /// The pair; `None` if the key was cleared.
    pub(super) fn pair(self) -> Option<(Bytes, Bytes)> {
        match self {
            Self::Memtable(key, value) => Some((key, value?)),
            Self::Base(key, value) => {
                Some((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
            }
        }
    }
}

/// Sorted pairs of the base store.
pub(super) type BaseRange<'a> =
    Box<dyn Iterator<Item = Result<(&'a [u8], &'a [u8]), StoreError>> + 'a>;

/// Reads the pairs of the base store from a key on.
pub(super) type BaseSeek<'a> = Box<dyn Fn(&Bytes) -> Result<BaseRange<'a>, StoreError> + 'a>;

/// The base store's part of a merge.
pub(super) struct BaseSource<'a> {
    pub(super) pairs: BaseRange<'a>,
    pub(super) seek: BaseSeek<'a>,
}

/// Sorted pairs to merge.
pub(super) enum Source<'a> {
    Memtable(MemtableRange<'a>),
    Base(BaseSource<'a>),
}

impl<'a> Source<'a> {
    /// Goes on at `key`, which is behind the pair that was read last.
    fn seek(&mut self, key: &Bytes) -> Result<(), StoreError> {
        match self {
            Self::Memtable(range) => range.seek(key),
            Self::Base(base) => base.pairs = (base.seek)(key)?,
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<MergedPair<'a>>, StoreError> {
        let next = match self {
            Self::Memtable(range) => {
                range.next().map(|(key, value)| Ok(MergedPair::Memtable(key, value)))
            }
            Self::Base(base) => {
                base.pairs.next().map(|pair| pair.map(|(key, value)| MergedPair::Base(key, value)))
            }
        };
        next.transpose()
    }
}

/// A source with its next pair.
struct OpenSource<'a> {
    head: MergedPair<'a>,
    source: Source<'a>,
    /// How many sources were added before it.
    number: usize,
}

/// The merge. Sources that have ended are dropped.
#[derive(Default)]
pub(super) struct Merge<'a> {
    sources: Vec<OpenSource<'a>>,
    added: usize,
    is_reverse: bool,
}

impl<'a> Merge<'a> {
    pub(super) fn new(is_reverse: bool) -> Self {
        Self { sources: Vec::new(), added: 0, is_reverse }
    }

    pub(super) fn add(&mut self, mut source: Source<'a>) -> Result<(), StoreError> {
        if let Some(head) = source.next()? {
            self.sources.push(OpenSource { head, source, number: self.added });
        }
        self.added += 1;
        Ok(())
    }

    /// Passes the pairs before `end` of the source `first` and of those added after it.
    pub(super) fn skip(&mut self, first: usize, end: &Bytes) -> Result<(), StoreError> {
        let mut at = 0;
        while at < self.sources.len() {
            let OpenSource { head, source, number } = &mut self.sources[at];
            if *number >= first && head.key() < &end[..] {
                source.seek(end)?;
                match source.next()? {
                    Some(next) => *head = next,
                    None => {
                        drop(self.sources.remove(at));
                        continue;
                    }
                }
            }
            at += 1;
        }
        Ok(())
    }

    /// The next key, cleared or not.
    pub(super) fn next(&mut self) -> Result<Option<MergedPair<'a>>, StoreError> {
        let mut first = 0;
        for at in 1..self.sources.len() {
            let (key, best) = (self.sources[at].head.key(), self.sources[first].head.key());
            if if self.is_reverse { key > best } else { key < best } {
                first = at;
            }
        }
        if first >= self.sources.len() {
            return Ok(None);
        }
        // Those before the first one have no such key.
        let mut at = self.sources.len() - 1;
        while at > first {
            if self.sources[at].head.key() == self.sources[first].head.key() {
                drop(self.advance(at)?);
            }
            at -= 1;
        }
        self.advance(first).map(Some)
    }

    /// Returns the next pair of a source, and reads the one after it.
    fn advance(&mut self, at: usize) -> Result<MergedPair<'a>, StoreError> {
        let OpenSource { head, source, .. } = &mut self.sources[at];
        Ok(match source.next()? {
            Some(next) => std::mem::replace(head, next),
            None => self.sources.remove(at).head,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::memtable::Memtable;
    use super::*;
    use crate::kv::KeyRange;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    pub(in super::super) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    /// Pairs of one source: few keys, so that sources overlap.
    pub(in super::super) fn some() -> impl Strategy<Value = Changes> {
        let bytes = || prop::collection::vec(0u8..3, 1..3);
        prop::collection::btree_map(bytes(), prop::option::of(bytes()), 0..10)
    }

    proptest! {
        #[test]
        fn an_earlier_source_overrides_a_later_one(
            all in prop::collection::vec(some(), 0..4), base in some(), is_reverse: bool,
        ) {
            let mut expected = base;
            expected.retain(|_, value| value.is_some());
            let present = expected.clone().into_iter();
            let base: Vec<_> = present.filter_map(|(key, value)| Some((key, value?))).collect();
            for pairs in all.iter().rev() {
                expected.extend(pairs.clone());
            }
            let memtables: Vec<Memtable> = all.into_iter().map(|pairs| {
                let memtable = Memtable::default();
                let pairs = pairs.into_iter().map(|(k, v)| (k.into(), v.map(Into::into)));
                memtable.apply(1, pairs, &[]);
                memtable
            }).collect();
            let mut merge = Merge::new(is_reverse);
            let whole = KeyRange::new("", vec![9]);
            for memtable in &memtables {
                let range = MemtableRange::new(memtable, &whole, 1, is_reverse);
                merge.add(Source::Memtable(range)).unwrap();
            }
            let in_order = base.iter().map(|(key, value)| Ok((&key[..], &value[..])));
            let base: BaseRange<'_> =
                if is_reverse { Box::new(in_order.rev()) } else { Box::new(in_order) };
            let seek = Box::new(|_: &Bytes| unreachable!("nothing is skipped"));
            merge.add(Source::Base(BaseSource { pairs: base, seek })).unwrap();
            let mut found = Vec::new();
            while let Some(next) = merge.next().unwrap() {
                found.push((next.key().to_vec(), next.pair().map(|(_, value)| value.to_vec())));
            }
            let mut expected: Vec<_> = expected.into_iter().collect();
            if is_reverse {
                expected.reverse();
            }
            prop_assert_eq!(found, expected);
        }
    }
}
