//! The model of the crash tests: what a commit does to a sorted map of pairs.

use super::super::super::committer::{CheckedRead, QueuedCommit};
use super::SimulatedSnapshot;
use crate::kv::overlay::Write;
use crate::kv::{KeyRange, RangeRead, decode_counter};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Pairs that a snapshot must have.
pub(super) type Model = BTreeMap<Bytes, Bytes>;

/// Reads and writes of a commit, for the model.
#[derive(Debug)]
pub(super) struct ModelCommit {
    pub(super) reads: Vec<KeyRange>,
    pub(super) cleared: Vec<KeyRange>,
    pub(super) writes: BTreeMap<Bytes, Write>,
}

pub(super) fn model_of(commit: &QueuedCommit) -> ModelCommit {
    let range = |read: &CheckedRead| match read {
        CheckedRead::Key(key) => KeyRange::key(key),
        CheckedRead::Range(range) => range.clone(),
    };
    ModelCommit {
        reads: commit.reads.iter().map(range).collect(),
        cleared: commit.cleared.clone(),
        writes: commit.writes.clone(),
    }
}

/// Applies a commit to the model; returns the keys that it wrote.
pub(super) fn apply(effects: &ModelCommit, model: &mut Model) -> Vec<Bytes> {
    let cleared: Vec<Bytes> = model
        .keys()
        .filter(|key| effects.cleared.iter().any(|range| range.contains(key)))
        .cloned()
        .collect();
    for key in &cleared {
        model.remove(key);
    }
    for (key, write) in &effects.writes {
        match write {
            Write::Set(value) => drop(model.insert(key.clone(), value.clone())),
            Write::Clear => drop(model.remove(key)),
            Write::Add(delta) => {
                let sum = decode_counter(model.get(key).map(|value| &value[..]))
                    .unwrap()
                    .wrapping_add(*delta);
                model.insert(key.clone(), sum.to_le_bytes().to_vec().into());
            }
        }
    }
    cleared.into_iter().chain(effects.writes.keys().cloned()).collect()
}

pub(super) fn key(number: usize) -> Bytes {
    format!("key/{number:02}").into()
}

pub(super) fn is_counter(number: usize) -> bool {
    number.is_multiple_of(8)
}

/// Reads all pairs of a snapshot in pages, and checks that the reverse order agrees.
pub(super) fn read_all(snapshot: &SimulatedSnapshot) -> Model {
    let whole = KeyRange::new("", "z");
    let mut next = Some(RangeRead::first(whole.clone(), 5));
    let mut pairs = Vec::new();
    while let Some(read) = next {
        let page = snapshot.page(&read).unwrap();
        next = read.after(&page);
        pairs.extend(page.pairs);
    }
    let mut reversed = snapshot.page(&RangeRead::last(whole, 1_000)).unwrap().pairs;
    reversed.reverse();
    assert_eq!(pairs, reversed);
    pairs.into_iter().collect()
}
