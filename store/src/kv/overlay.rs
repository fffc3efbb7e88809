//! The uncommitted writes of one transaction over the "base": the pairs that the engine stores.
//!
//! Invariants:
//! - `OVERLAY-1`: applying the cleared ranges first and the writes second has the same effect as
//!   the calls in their original order.
//! - `OVERLAY-2`: a range read through the overlay equals the same read after commit.

use super::range::covered_by;
use super::{KeyRange, Page, RangeRead, StoreError, add_to_counter, limits};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Own writes that a range read looks at to choose the limit of its base page.
const OWN_WRITES_MAX: usize = 1_000;

/// A write to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    Set(Bytes),
    Clear,
    Add(i64),
}

/// All writes of one transaction.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    cleared: Vec<KeyRange>,
    writes: BTreeMap<Bytes, Write>,
    bytes: usize,
    violation: Option<StoreError>,
}

/// What the overlay knows about the value of one key.
pub(super) enum OverlayRead {
    /// The value does not depend on the base.
    Known(Option<Bytes>),
    /// The value is that of the base.
    Base,
    /// The value is the base's counter plus this delta.
    BasePlus(i64),
}

impl Overlay {
    pub(super) fn is_empty(&self) -> bool {
        self.cleared.is_empty() && self.writes.is_empty() && self.violation.is_none()
    }

    pub(super) fn approximate_size(&self) -> usize {
        self.bytes
    }

    pub(super) fn set(&mut self, key: Bytes, value: Bytes) {
        self.record_violation(limits::check_key(&key).and_then(|()| limits::check_value(&value)));
        self.bytes += key.len() + value.len();
        self.writes.insert(key, Write::Set(value));
    }

    pub(super) fn clear(&mut self, key: &[u8]) {
        self.record_violation(limits::check_key(key));
        self.bytes += key.len();
        self.writes.insert(Bytes::copy_from_slice(key), Write::Clear);
    }

    pub(super) fn clear_range(&mut self, range: KeyRange) {
        self.bytes += range.begin.len() + range.end.len();
        if range.is_empty() {
            return;
        }
        let inside: Vec<Bytes> = self.between(&range).map(|(key, _)| key.clone()).collect();
        for key in inside {
            self.writes.remove(&key);
        }
        self.cleared.push(range);
    }

    pub(super) fn add(&mut self, key: &[u8], delta: i64) {
        self.record_violation(limits::check_key(key));
        self.bytes += key.len() + 8;
        let write = match self.read(key) {
            OverlayRead::Base => Write::Add(delta),
            OverlayRead::BasePlus(before) => Write::Add(before.wrapping_add(delta)),
            OverlayRead::Known(value) => match add_to_counter(value.as_deref(), delta) {
                Ok(sum) => Write::Set(sum),
                Err(error) => return self.record_violation(Err(error)),
            },
        };
        self.writes.insert(Bytes::copy_from_slice(key), write);
    }

    /// Reads `key` as far as the overlay determines its value.
    pub(super) fn read(&self, key: &[u8]) -> OverlayRead {
        match self.writes.get(key) {
            Some(Write::Set(value)) => OverlayRead::Known(Some(value.clone())),
            Some(Write::Clear) => OverlayRead::Known(None),
            Some(Write::Add(delta)) => OverlayRead::BasePlus(*delta),
            None if self.cleared.iter().any(|range| range.contains(key)) => {
                OverlayRead::Known(None)
            }
            None => OverlayRead::Base,
        }
    }

    /// Computes the value of a key from its value in the base.
    pub(super) fn resolve(
        &self,
        key: &[u8],
        base: Option<Bytes>,
    ) -> Result<Option<Bytes>, StoreError> {
        match self.read(key) {
            OverlayRead::Known(value) => Ok(value),
            OverlayRead::Base => Ok(base),
            OverlayRead::BasePlus(delta) => add_to_counter(base.as_deref(), delta).map(Some),
        }
    }

    /// Applies this transaction's writes to the base pairs of a section that was read completely.
    fn merged(
        &self,
        section: &KeyRange,
        base: Vec<(Bytes, Bytes)>,
        is_reverse: bool,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut own = self.between(section).peekable();
        if own.peek().is_none() && self.cleared.is_empty() {
            return Ok(base);
        }
        let mut merged: BTreeMap<Bytes, Option<Bytes>> =
            base.into_iter().map(|(k, v)| (k, Some(v))).collect();
        for (key, _) in own {
            merged.entry(key.clone()).or_insert(None);
        }
        let mut pairs = Vec::with_capacity(merged.len());
        for (key, base) in merged {
            if let Some(value) = self.resolve(&key, base)? {
                pairs.push((key, value));
            }
        }
        if is_reverse {
            pairs.reverse();
        }
        Ok(pairs)
    }

    fn between(&self, range: &KeyRange) -> impl Iterator<Item = (&Bytes, &Write)> {
        self.writes.range::<[u8], _>(range.bounds())
    }

    fn record_violation(&mut self, check: Result<(), StoreError>) {
        if let Err(error) = check {
            self.violation.get_or_insert(error);
        }
    }

    /// Returns the ranges to clear and then the writes to apply.
    pub(super) fn finish(self) -> Result<(Vec<KeyRange>, BTreeMap<Bytes, Write>), StoreError> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        limits::check_transaction(self.bytes)?;
        Ok((self.cleared, self.writes))
    }
}

/// Collects one page of a range from base pages until it is full or the range ends.
pub(super) struct RangeReader {
    range: KeyRange,
    rest: RangeRead,
    page: Page,
    bytes: usize,
}

impl RangeReader {
    pub(super) fn new(read: RangeRead) -> Self {
        let rest = RangeRead { limit: read.limit.max(1), ..read };
        Self { range: rest.range.clone(), rest, page: Page::default(), bytes: 0 }
    }

    /// The next base page to read. It has room for the pairs that the overlay removes from it.
    pub(super) fn next(&self, overlay: &Overlay) -> RangeRead {
        let own = overlay.between(&self.rest.range).take(OWN_WRITES_MAX);
        let removed = own.filter(|(_, write)| matches!(write, Write::Clear)).count();
        RangeRead { limit: self.rest.limit.saturating_add(removed), ..self.rest.clone() }
    }

    /// Adds a base page; returns true when the page is complete.
    pub(super) fn add_page(&mut self, overlay: &Overlay, base: Page) -> Result<bool, StoreError> {
        let section = covered_by(&base, self.rest.range.clone(), self.rest.is_reverse);
        for (key, value) in overlay.merged(&section, base.pairs, self.rest.is_reverse)? {
            self.bytes += key.len() + value.len();
            self.page.pairs.push((key, value));
            if self.page.pairs.len() == self.rest.limit || self.bytes >= limits::PAGE_BYTES_MAX {
                self.page.has_more = true;
                return Ok(true);
            }
        }
        let rest = &mut self.rest.range;
        if self.rest.is_reverse {
            rest.end = section.begin;
        } else {
            rest.begin = section.end;
        }
        Ok(!base.has_more)
    }

    /// Returns the page and the part of the range that it covers.
    pub(super) fn finish(self) -> (Page, KeyRange) {
        let covered = covered_by(&self.page, self.range, self.rest.is_reverse);
        (self.page, covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::decode_counter;
    use proptest::prelude::*;

    type Model = BTreeMap<Bytes, Bytes>;

    #[derive(Debug, Clone)]
    enum Call {
        Set(Bytes, i64),
        Clear(Bytes),
        ClearRange(Bytes, Bytes),
        Add(Bytes, i64),
    }

    fn key() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0u8..3, 1..3).prop_map(Bytes::from)
    }

    fn counter(value: i64) -> Bytes {
        Bytes::copy_from_slice(&value.to_le_bytes())
    }

    fn call() -> impl Strategy<Value = Call> {
        prop_oneof![
            (key(), any::<i64>()).prop_map(|(key, value)| Call::Set(key, value)),
            key().prop_map(Call::Clear),
            (key(), key()).prop_map(|(begin, end)| Call::ClearRange(begin, end)),
            (key(), any::<i64>()).prop_map(|(key, delta)| Call::Add(key, delta)),
        ]
    }

    fn calls() -> impl Strategy<Value = Vec<Call>> {
        proptest::collection::vec(call(), 0..12)
    }

    fn base() -> impl Strategy<Value = Model> {
        proptest::collection::btree_map(key(), any::<i64>().prop_map(counter), 0..8)
    }

    fn call_overlay(overlay: &mut Overlay, call: &Call) {
        match call {
            Call::Set(key, value) => overlay.set(key.clone(), counter(*value)),
            Call::Clear(key) => overlay.clear(key),
            Call::ClearRange(begin, end) => {
                overlay.clear_range(KeyRange::new(begin.clone(), end.clone()))
            }
            Call::Add(key, delta) => overlay.add(key, *delta),
        }
    }

    fn call_model(model: &mut Model, call: &Call) {
        match call {
            Call::Set(key, value) => drop(model.insert(key.clone(), counter(*value))),
            Call::Clear(key) => drop(model.remove(key)),
            Call::ClearRange(begin, end) => model.retain(|key, _| !(begin..end).contains(&key)),
            Call::Add(key, delta) => add_to(model, key, *delta),
        }
    }

    fn add_to(model: &mut Model, key: &Bytes, delta: i64) {
        let before = decode_counter(model.get(key).map(|value| &value[..])).unwrap();
        model.insert(key.clone(), counter(before.wrapping_add(delta)));
    }

    /// One page of a model, with at most `pairs_max` pairs even if the limit is higher.
    fn page_of(model: &Model, read: &RangeRead, pairs_max: usize) -> Page {
        let mut pairs: Vec<(Bytes, Bytes)> = model
            .iter()
            .filter(|(key, _)| read.range.contains(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if read.is_reverse {
            pairs.reverse();
        }
        let more = pairs.len() > read.limit.min(pairs_max);
        pairs.truncate(read.limit.min(pairs_max));
        Page { pairs, has_more: more }
    }

    proptest! {
        #[test]
        fn reads_through_the_overlay_equal_reads_after_commit(
            base in base(), calls in calls(), begin in key(), end in key(),
            limit in 1usize..6, is_reverse: bool, pairs_max in 1usize..4,
        ) {
            let (mut overlay, mut model) = (Overlay::default(), base.clone());
            for call in &calls {
                call_overlay(&mut overlay, call);
                call_model(&mut model, call);
            }
            for key in base.keys().chain(model.keys()).chain([&begin, &end]) {
                let value = overlay.resolve(key, base.get(key).cloned()).unwrap();
                prop_assert_eq!(value.as_ref(), model.get(key));
            }
            let read = RangeRead { range: KeyRange::new(begin, end), limit, is_reverse };
            let mut reader = RangeReader::new(read.clone());
            loop {
                let page = page_of(&base, &reader.next(&overlay), pairs_max);
                if reader.add_page(&overlay, page).unwrap() {
                    break;
                }
            }
            let (page, covered) = reader.finish();
            let expected = page_of(&model, &read, usize::MAX);
            prop_assert_eq!(&page.pairs, &expected.pairs);
            prop_assert!(page.has_more || !expected.has_more);
            prop_assert!(page.pairs.iter().all(|(key, _)| covered.contains(key)));
            prop_assert!(page.has_more || covered == read.range);
        }

        #[test]
        fn clearing_first_and_writing_second_equals_the_calls(base in base(), calls in calls()) {
            let (mut overlay, mut model) = (Overlay::default(), base.clone());
            for call in &calls {
                call_overlay(&mut overlay, call);
                call_model(&mut model, call);
            }
            let (cleared, writes) = overlay.finish().unwrap();
            let mut applied = base;
            applied.retain(|key, _| !cleared.iter().any(|range| range.contains(key)));
            for (key, write) in writes {
                match write {
                    Write::Set(value) => drop(applied.insert(key, value)),
                    Write::Clear => drop(applied.remove(&key)),
                    Write::Add(delta) => add_to(&mut applied, &key, delta),
                }
            }
            prop_assert_eq!(applied, model);
        }
    }
}
