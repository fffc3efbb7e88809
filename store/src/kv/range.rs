//! Half-open ranges of keys, and the pages that range reads return.
//!
//! Invariant: `RANGE-1`: a range contains `begin` but not `end`; it is empty if `begin >= end`.

use super::{StoreError, limits};
use bytes::Bytes;
use std::ops::Bound;

/// The keys from `begin` (included) to `end` (not included).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range.
    pub begin: Bytes,
    /// First key after the range.
    pub end: Bytes,
}

impl KeyRange {
    /// Makes a range from `begin` up to, but not including, `end`.
    pub fn new(begin: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { begin: begin.into(), end: end.into() }
    }

    /// The range of all keys that start with `prefix`; empty if all of its bytes are `0xff`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let begin = prefix.into();
        let mut end = begin.to_vec();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Self { begin, end: end.into() }
    }

    /// The range of exactly one key.
    pub fn key(key: &[u8]) -> Self {
        Self { begin: Bytes::copy_from_slice(key), end: after(key) }
    }

    /// The range as bounds for a map of keys, which panics if the end is before the beginning.
    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(&self.begin[..]), Bound::Excluded(&(&self.end).max(&self.begin)[..]))
    }

    /// Whether both ranges contain a common key.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        (&self.begin).max(&other.begin) < (&self.end).min(&other.end)
    }

    /// Whether the range contains `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.begin[..] && key < &self.end[..]
    }

    /// Whether the range contains no key.
    pub fn is_empty(&self) -> bool {
        self.begin >= self.end
    }
}

/// Returns the smallest key greater than `key`.
pub(super) fn after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// A request for one page of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRead {
    /// Range to read from.
    pub range: KeyRange,
    /// Maximum number of pairs, at least 1.
    pub limit: usize,
    /// Read from the end towards the beginning.
    pub is_reverse: bool,
}

impl RangeRead {
    /// The first `limit` pairs of a range.
    pub fn first(range: KeyRange, limit: usize) -> Self {
        Self { range, limit: limit.max(1), is_reverse: false }
    }

    /// The last `limit` pairs of a range, in reverse order.
    pub fn last(range: KeyRange, limit: usize) -> Self {
        Self { range, limit: limit.max(1), is_reverse: true }
    }

    /// Continues after `page`; returns `None` if that was the last page.
    pub fn after(mut self, page: &Page) -> Option<Self> {
        let (last, _) = page.pairs.last().filter(|_| page.has_more)?;
        if self.is_reverse {
            self.range.end = last.clone();
        } else {
            self.range.begin = after(last);
        }
        Some(self)
    }
}

/// Pairs of a range, in the requested order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys with their values.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// The page is not the last one: more pairs may follow.
    pub has_more: bool,
}

impl Page {
    /// Collects pairs until there are `limit`, or [`limits::PAGE_BYTES_MAX`] bytes.
    pub(super) fn collect(
        pairs: impl Iterator<Item = Result<(Bytes, Bytes), StoreError>>,
        limit: usize,
    ) -> Result<Self, StoreError> {
        let (mut page, mut bytes) = (Self::default(), 0);
        for pair in pairs {
            let (key, value) = pair?;
            if page.pairs.len() == limit || bytes >= limits::PAGE_BYTES_MAX {
                page.has_more = true;
                break;
            }
            bytes += key.len() + value.len();
            page.pairs.push((key, value));
        }
        Ok(page)
    }
}

/// The part of a range that a page of it covers completely.
pub(crate) fn covered_by(page: &Page, range: KeyRange, is_reverse: bool) -> KeyRange {
    match page.pairs.last() {
        Some((last, _)) if page.has_more && is_reverse => KeyRange::new(last.clone(), range.end),
        Some((last, _)) if page.has_more => KeyRange::new(range.begin, after(last)),
        _ => range,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keys made mostly of the lowest and highest bytes, so that ranges meet at their edges.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(1), Just(0xfe), Just(0xff), any::<u8>()];
        proptest::collection::vec(byte, 0..5)
    }

    proptest! {
        #[test]
        fn a_prefix_range_contains_the_keys_with_that_prefix(
            prefix in bytes(), key in bytes(), rest in bytes(),
        ) {
            let range = KeyRange::prefix(prefix.clone());
            let endless = prefix.iter().all(|byte| *byte == 0xff);
            prop_assert_eq!(range.is_empty(), endless);
            prop_assert_eq!(range.contains(&key), key.starts_with(&prefix) && !endless);
            let inside = [prefix, rest].concat();
            prop_assert_eq!(range.contains(&inside), !endless);
        }

        #[test]
        fn a_key_range_contains_just_its_key(key in bytes(), other in bytes()) {
            let range = KeyRange::key(&key);
            prop_assert!(range.contains(&key) && !range.is_empty());
            prop_assert_eq!(range.contains(&other), key == other);
        }

        #[test]
        fn an_empty_range_contains_nothing(begin in bytes(), end in bytes(), key in bytes()) {
            let range = KeyRange::new(begin.clone(), end.clone());
            prop_assert_eq!(range.is_empty(), begin >= end);
            prop_assert!(!range.is_empty() || !range.contains(&key));
        }
    }
}
