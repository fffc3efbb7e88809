//! Spans of keys that a reader has found empty after it had passed many cleared keys.
//!
//! A queue loses rows at its beginning, and the memtables keep the cleared keys until they are
//! flushed. Later readers jump over the spans instead of passing these keys again.
//!
//! - `SPANS-1`: for readers at the sequence of a span or a later one, its memtable and everything
//!   below it have no pair in the span. A value that is written there takes its key out.
//! - `SPANS-2`: a memtable has at most [`SPANS_MAX`] spans; the ones with the lowest sequence are
//!   forgotten first.

use crate::kv::range::after;
use bytes::Bytes;
use std::sync::{Mutex, MutexGuard};
use triggers_protocol::lock::lock;

/// Spans of one memtable.
const SPANS_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
struct EmptySpan {
    begin: Bytes,
    /// First key behind the span.
    end: Bytes,
    sequence: u64,
}

/// The spans of a memtable, in order and apart from each other.
#[derive(Debug, Default)]
pub(super) struct EmptySpans(Mutex<Vec<EmptySpan>>);

impl EmptySpans {
    /// The first key behind the span that has `key`, for a reader at `sequence`.
    pub(super) fn end_of(&self, key: &[u8], sequence: u64) -> Option<Bytes> {
        let spans = lock(&self.0);
        let span = spans[..spans.partition_point(|span| span.begin <= key)].last()?;
        (key < span.end && span.sequence <= sequence).then(|| span.end.clone())
    }

    /// Adds a span that is empty for readers at `sequence` and later ones.
    pub(super) fn add(&self, begin: Bytes, end: Bytes, sequence: u64) {
        let mut added = EmptySpan { begin, end, sequence };
        let mut spans = lock(&self.0);
        let first = spans.partition_point(|span| span.end < added.begin);
        let behind = spans.partition_point(|span| span.begin <= added.end);
        for met in spans.drain(first..behind.max(first)) {
            added.begin = added.begin.min(met.begin);
            added.end = added.end.max(met.end);
            added.sequence = added.sequence.max(met.sequence);
        }
        spans.insert(first, added);
        forget_some(&mut spans);
    }

    /// Locks the spans while a commit adds its pairs.
    pub(super) fn write(&self) -> SpanWriter<'_> {
        SpanWriter(lock(&self.0))
    }
}

/// The locked spans.
pub(super) struct SpanWriter<'a>(MutexGuard<'a, Vec<EmptySpan>>);

impl SpanWriter<'_> {
    /// Takes a key that gets a value out of its span.
    pub(super) fn take_out(&mut self, key: &Bytes) {
        let spans = &mut *self.0;
        let at = spans.partition_point(|span| span.begin <= *key);
        let Some(at) = at.checked_sub(1).filter(|at| *key < spans[*at].end) else { return };
        let rest = EmptySpan { begin: after(key), ..spans[at].clone() };
        spans[at].end = key.clone();
        if rest.begin < rest.end {
            spans.insert(at + 1, rest);
        }
        if spans[at].begin >= spans[at].end {
            drop(spans.remove(at));
        }
        forget_some(spans);
    }
}

fn forget_some(spans: &mut Vec<EmptySpan>) {
    while spans.len() > SPANS_MAX {
        let lowest = spans.iter().enumerate().min_by_key(|(_, span)| span.sequence);
        let Some(at) = lowest.map(|(at, _)| at) else { return };
        drop(spans.remove(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn key(number: u8) -> Bytes {
        Bytes::from(vec![number])
    }

    proptest! {
        #[test]
        fn no_span_has_a_key_that_got_a_value(
            steps in prop::collection::vec((any::<bool>(), 0u8..250, 1u8..40), 0..300),
        ) {
            let (spans, mut known) = (EmptySpans::default(), BTreeSet::new());
            for (sequence, (is_span, begin, length)) in steps.into_iter().enumerate() {
                let keys = begin..begin.saturating_add(length);
                if is_span {
                    spans.add(key(keys.start), key(keys.end), sequence as u64);
                    known.extend(keys);
                } else {
                    spans.write().take_out(&key(begin));
                    known.remove(&begin);
                }
                for number in 0..=u8::MAX {
                    let end = spans.end_of(&key(number), sequence as u64);
                    let reaches = end.map(|end| number..end[0]);
                    let is_known = |number| known.contains(&number);
                    prop_assert!(reaches.is_none_or(|mut keys| keys.all(is_known)), "SPANS-1");
                }
                prop_assert!(lock(&spans.0).len() <= SPANS_MAX, "SPANS-2");
            }
        }
    }

    #[test]
    fn a_span_is_for_readers_that_see_it() {
        let spans = EmptySpans::default();
        spans.add(key(1), key(5), 10);
        assert_eq!(spans.end_of(&key(2), 9), None, "SPANS-1");
        assert_eq!(spans.end_of(&key(2), 10), Some(key(5)));
        spans.add(key(5), key(9), 12);
        assert_eq!(spans.end_of(&key(2), 11), None, "SPANS-1");
        assert_eq!(spans.end_of(&key(2), 12), Some(key(9)));
        spans.write().take_out(&key(4));
        assert_eq!(spans.end_of(&key(2), 12), Some(key(4)));
        assert_eq!(spans.end_of(&key(4), 12), None);
        assert_eq!(spans.end_of(&key(5), 12), Some(key(9)));
    }
}
