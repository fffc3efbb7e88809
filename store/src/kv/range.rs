//! Half-open ranges of keys and the pages that reading them gives.
//!
//! Invariant: `RANGE-1` a range contains `begin` and not `end`; one whose `begin` is not below `end` is empty.

use bytes::Bytes;

/// The keys from `begin` (included) to `end` (not included).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub begin: Bytes,
    /// The first key behind the range.
    pub end: Bytes,
}

impl KeyRange {
    /// From `begin` to before `end`.
    pub fn new(begin: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { begin: begin.into(), end: end.into() }
    }

    /// Every key that starts with `prefix`. A prefix of nothing but `0xff` bytes has no end and gives an empty range.
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

    /// Just one key.
    pub fn key(key: &[u8]) -> Self {
        Self { begin: Bytes::copy_from_slice(key), end: after(key) }
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

/// The first key behind `key`.
pub(super) fn after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// What to read of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRead {
    /// The range.
    pub range: KeyRange,
    /// Pairs at most; at least one.
    pub limit: usize,
    /// From the end towards the beginning.
    pub reverse: bool,
}

impl RangeRead {
    /// The first `limit` pairs of a range.
    pub fn first(range: KeyRange, limit: usize) -> Self {
        Self { range, limit: limit.max(1), reverse: false }
    }

    /// The last `limit` pairs of a range, the last one first.
    pub fn last(range: KeyRange, limit: usize) -> Self {
        Self { range, limit: limit.max(1), reverse: true }
    }
}

/// Pairs of a range in the order they were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and values.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// Whether the page ended at its limit, so that there may be more behind it.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that are often at an edge.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(1), Just(0xfe), Just(0xff), any::<u8>()];
        proptest::collection::vec(byte, 0..5)
    }

    proptest! {
        #[test]
        fn a_prefix_range_contains_what_starts_with_it(prefix in bytes(), key in bytes(), rest in bytes()) {
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
