//! Reads in advance: several keys and pages in one round trip, and what they returned.
//!
//! Invariant: `PREFETCH-1`: fetched values are those of the base at the transaction's read version,
//! so serving a read from them changes its cost and not its result.

use super::range::covered_by;
use super::{KeyRange, Page, RangeRead};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Keys and pages that a transaction is going to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefetch {
    pub(super) keys: BTreeSet<Vec<u8>>,
    pub(super) pages: Vec<RangeRead>,
}

impl Prefetch {
    /// Adds a key.
    pub fn key(&mut self, key: Vec<u8>) {
        self.keys.insert(key);
    }

    /// Adds the first pairs of a range, in addition to those that were added before.
    pub fn first(&mut self, range: KeyRange, limit: usize) {
        match self.pages.iter_mut().find(|page| page.range == range) {
            Some(page) => page.limit += limit,
            None => self.pages.push(RangeRead::first(range, limit)),
        }
    }

    /// Adds a page, unless it is in reverse order: such a page is only read when it is needed.
    pub fn page(&mut self, page: RangeRead) {
        if !page.is_reverse {
            self.first(page.range, page.limit);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.pages.is_empty()
    }
}

/// Values and sections of the base that were read in advance.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub(super) values: BTreeMap<Bytes, Option<Bytes>>,
    pub(super) sections: Vec<(KeyRange, Vec<(Bytes, Bytes)>)>,
}

impl Fetched {
    /// Adds what a page says about its range.
    pub(super) fn add_page(&mut self, read: RangeRead, page: Page) {
        self.sections.push((covered_by(&page, read.range, read.is_reverse), page.pairs));
    }

    pub(super) fn add(&mut self, other: Self) {
        self.values.extend(other.values);
        self.sections.extend(other.sections);
    }

    /// The value of a key, if it was fetched.
    pub(super) fn value(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.values.get(key).cloned()
    }

    /// A page for a read, as far as a fetched section goes. It may be short.
    pub(super) fn page(&self, read: &RangeRead) -> Option<Page> {
        let RangeRead { range, limit, is_reverse: false } = read else { return None };
        if range.is_empty() {
            return None;
        }
        let (section, pairs) =
            self.sections.iter().find(|(section, _)| section.contains(&range.begin))?;
        let from = pairs.partition_point(|(key, _)| key < &range.begin);
        let inside = pairs[from..].iter().take_while(|(key, _)| key < &range.end);
        let mut pairs: Vec<_> = inside.take(limit.saturating_add(1)).cloned().collect();
        let has_more = pairs.len() > *limit || section.end < range.end;
        pairs.truncate(*limit);
        // An empty page would say that the range is empty.
        (!has_more || !pairs.is_empty()).then_some(Page { pairs, has_more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0u8..4, 1..3).prop_map(Bytes::from)
    }

    fn page_of(base: &BTreeMap<Bytes, Bytes>, read: &RangeRead) -> Page {
        let inside = base.iter().filter(|(key, _)| read.range.contains(key));
        let mut pairs: Vec<_> = inside.map(|(key, value)| (key.clone(), value.clone())).collect();
        let has_more = pairs.len() > read.limit;
        pairs.truncate(read.limit);
        Page { pairs, has_more }
    }

    proptest! {
        #[test]
        fn a_fetched_page_is_a_page_of_the_base(
            base in proptest::collection::btree_map(key(), key(), 0..12),
            sections in proptest::collection::vec((key(), key(), 1usize..6), 0..3),
            begin in key(), end in key(), limit in 1usize..6,
        ) {
            let mut fetched = Fetched::default();
            for (begin, end, limit) in sections {
                let read = RangeRead::first(KeyRange::new(begin, end), limit);
                fetched.add_page(read.clone(), page_of(&base, &read));
            }
            let read = RangeRead::first(KeyRange::new(begin, end), limit);
            let Some(page) = fetched.page(&read) else { return Ok(()) };
            let expected = page_of(&base, &read);
            prop_assert!(expected.pairs.starts_with(&page.pairs));
            prop_assert!(page.has_more || page == expected);
            prop_assert!(!page.has_more || !page.pairs.is_empty());
        }
    }
}
