//! All values of every key over time, and the keys of each commit, for reads and conflict checks.
//!
//! Invariants:
//! - `VERSIONS-1`: a version never changes, so that reads at it repeat.
//! - `VERSIONS-2`: a proposal conflicts exactly if a range that it read was written or cleared
//!   after the version that it reads at, even with the same values.
//! - `VERSIONS-3`: values that no open transaction can read are dropped.

use crate::kv::overlay::Write;
use crate::kv::{KeyRange, Page, RangeRead, StoreError, add_to_counter};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A transaction that asks to commit.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) writer: Arc<str>,
    pub(super) version: u64,
    pub(super) begun: Duration,
    pub(super) reads: Vec<KeyRange>,
    pub(super) cleared: Vec<KeyRange>,
    pub(super) writes: BTreeMap<Bytes, Write>,
}

/// Writes of one commit.
#[derive(Debug)]
struct Committed {
    version: u64,
    at: Duration,
    keys: BTreeSet<Bytes>,
    cleared: Vec<KeyRange>,
}

/// The values of one key, oldest first; `None` where it was absent.
type History = Vec<(u64, Option<Bytes>)>;

#[derive(Debug, Default)]
pub(super) struct Versions {
    newest: u64,
    pairs: BTreeMap<Bytes, History>,
    log: VecDeque<Committed>,
    /// Keys with a value to drop, and the version that superseded it.
    superseded: VecDeque<(u64, Bytes)>,
}

impl Versions {
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    pub(super) fn value_at(&self, version: u64, key: &[u8]) -> Option<Bytes> {
        self.pairs.get(key).and_then(|history| live_at(history, version))
    }

    /// The newest value of every key.
    pub(super) fn all(&self) -> Vec<(Bytes, Bytes)> {
        let newest = self
            .pairs
            .iter()
            .map(|(key, history)| Some((key.clone(), live_at(history, self.newest)?)));
        newest.flatten().collect()
    }

    /// Reads one page of a range, bounded by its limit and by its bytes.
    pub(super) fn page_at(&self, version: u64, read: &RangeRead) -> Result<Page, StoreError> {
        let found = self
            .pairs
            .range::<[u8], _>(read.range.bounds())
            .filter_map(|(key, history)| Some(Ok((key.clone(), live_at(history, version)?))));
        match read.is_reverse {
            true => Page::collect(found.rev(), read.limit),
            false => Page::collect(found, read.limit),
        }
    }

    /// Whether a range that the proposal read was written since.
    pub(super) fn conflicts(&self, proposal: &Proposal) -> bool {
        let first = self.log.partition_point(|committed| committed.version <= proposal.version);
        self.log
            .iter()
            .skip(first)
            .any(|committed| proposal.reads.iter().any(|range| committed.touches(range)))
    }

    /// Applies a proposal as the newest version.
    ///
    /// # Errors
    /// `Fatal(Corrupt)`, without any change, if it adds to a value that is not a counter.
    pub(super) fn apply(&mut self, proposal: Proposal, at: Duration) -> Result<(), StoreError> {
        let Proposal { cleared, writes, .. } = proposal;
        let mut values: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
        for range in &cleared {
            let inside = self.pairs.range::<[u8], _>(range.bounds());
            values.extend(inside.map(|(key, _)| (key.clone(), None)));
        }
        let mut keys = BTreeSet::new();
        for (key, write) in writes {
            let value = match write {
                Write::Set(value) => Some(value),
                Write::Clear => None,
                Write::Add(delta) => {
                    let before = self.value_at(self.newest, &key);
                    Some(add_to_counter(before.as_deref(), delta)?)
                }
            };
            keys.insert(key.clone());
            values.insert(key, value);
        }
        self.newest += 1;
        self.log.push_back(Committed { version: self.newest, at, keys, cleared });
        for (key, value) in values {
            self.put(key, value);
        }
        Ok(())
    }

    fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        let is_absent = value.is_none();
        let history = self.pairs.entry(key.clone()).or_default();
        history.push((self.newest, value));
        if is_absent || history.len() > 1 {
            self.superseded.push_back((self.newest, key));
        }
    }

    /// Drops values that no read at `version` or later sees, and write sets from before `since`.
    pub(super) fn trim(&mut self, version: u64, since: Duration) {
        while self.log.front().is_some_and(|first| first.at < since) {
            self.log.pop_front();
        }
        while let Some((_, key)) = self.superseded.pop_front_if(|(at, _)| *at <= version) {
            self.trim_key(version, &key);
        }
    }

    fn trim_key(&mut self, version: u64, key: &Bytes) {
        let Some(history) = self.pairs.get_mut(key) else { return };
        let visible = history.partition_point(|(written, _)| *written <= version);
        history.drain(..visible.saturating_sub(1));
        if matches!(history.as_slice(), [(written, None)] if *written <= version) {
            self.pairs.remove(key);
        }
    }
}

impl Committed {
    fn touches(&self, range: &KeyRange) -> bool {
        self.keys.range::<[u8], _>(range.bounds()).next().is_some()
            || self.cleared.iter().any(|cleared| cleared.overlaps(range))
    }
}

fn live_at(history: &History, version: u64) -> Option<Bytes> {
    let visible = history.partition_point(|(written, _)| *written <= version);
    visible.checked_sub(1).and_then(|last| history[last].1.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(versions: &mut Versions, key: &'static str, write: Write) {
        let proposal = Proposal {
            writer: "".into(),
            version: versions.newest(),
            begun: Duration::ZERO,
            reads: Vec::new(),
            cleared: Vec::new(),
            writes: BTreeMap::from([(key.into(), write)]),
        };
        let at = Duration::from_secs(versions.newest());
        versions.apply(proposal, at).unwrap();
    }

    #[test]
    fn unreadable_values_are_dropped() {
        let mut versions = Versions::default();
        for value in ["1", "2", "3"] {
            write(&mut versions, "a", Write::Set(value.into()));
            write(&mut versions, "b", Write::Set(value.into()));
        }
        write(&mut versions, "b", Write::Clear);
        versions.trim(3, Duration::from_secs(2));
        assert_eq!(versions.value_at(3, b"a").unwrap(), "2");
        assert_eq!(versions.value_at(3, b"b").unwrap(), "1");
        assert_eq!(versions.log.len(), 5);
        let newest = versions.newest();
        versions.trim(newest, Duration::from_secs(100));
        assert_eq!(versions.value_at(newest, b"a").unwrap(), "3");
        assert_eq!(versions.pairs.len(), 1, "a key that is gone leaves nothing");
        assert_eq!(versions.pairs[&b"a"[..]].len(), 1);
        assert!(versions.log.is_empty() && versions.superseded.is_empty());
    }

    #[test]
    fn a_malformed_addition_changes_nothing() {
        let mut versions = Versions::default();
        write(&mut versions, "b", Write::Set("no counter".into()));
        let proposal = Proposal {
            writer: "".into(),
            version: versions.newest(),
            begun: Duration::ZERO,
            reads: Vec::new(),
            cleared: vec![KeyRange::new("c", "d")],
            writes: BTreeMap::from([
                ("a".into(), Write::Set("1".into())),
                ("b".into(), Write::Add(1)),
            ]),
        };
        assert!(versions.apply(proposal, Duration::ZERO).is_err());
        assert_eq!((versions.newest(), versions.value_at(1, b"a")), (1, None));
    }
}
