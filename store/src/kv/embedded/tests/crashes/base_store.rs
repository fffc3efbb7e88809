//! A base store in memory. It can be full; when the machine crashes during an `apply`, that is done
//! completely or not at all.

use super::super::super::base_store::{BaseStore, Change, FlushMark, FlushMarks, Headroom};
use super::super::super::merge::BaseRange;
use super::disk::{Chance, SimulatedDisk};
use crate::kv::{Fault, KeyRange, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// Reason of a base store at its maximum.
pub(super) const MAXIMUM: &str = "the simulated maximum is reached";

fn disk_full() -> StoreError {
    super::super::super::disk_full("simulated", &io::ErrorKind::StorageFull.into())
}

struct BaseState {
    chance: Chance,
    pairs: Arc<BTreeMap<Bytes, Bytes>>,
    marks: FlushMarks,
    full_one_in: Option<usize>,
}

#[derive(Clone)]
pub(super) struct SimulatedBaseStore {
    disk: SimulatedDisk,
    state: Arc<Mutex<BaseState>>,
}

impl SimulatedBaseStore {
    pub(super) fn new(seed: u64, disk: SimulatedDisk) -> Self {
        let chance = Chance::new(seed ^ 0xba5e);
        let state = BaseState {
            chance,
            pairs: Arc::default(),
            marks: FlushMarks::default(),
            full_one_in: None,
        };
        Self { disk, state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn set(&self, full_one_in: Option<usize>) {
        self.state.lock().unwrap().full_one_in = full_one_in;
    }
}

impl BaseStore for SimulatedBaseStore {
    type Snapshot = Arc<BTreeMap<Bytes, Bytes>>;

    fn snapshot(&self) -> Result<Self::Snapshot, StoreError> {
        Ok(self.state.lock().unwrap().pairs.clone())
    }

    fn get(&self, snapshot: &Self::Snapshot, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(snapshot.get(key).cloned())
    }

    fn range<'a>(
        &'a self,
        snapshot: &'a Self::Snapshot,
        range: &KeyRange,
        is_reverse: bool,
    ) -> Result<BaseRange<'a>, StoreError> {
        let found = snapshot
            .range::<[u8], _>(range.bounds())
            .map(|(key, value)| Ok((&key[..], &value[..])));
        Ok(if is_reverse { Box::new(found.rev()) } else { Box::new(found) })
    }

    fn apply(&self, pairs: &[Change<'_>], mark: FlushMark) -> Result<(), StoreError> {
        let dead = || StoreError::fatal(Fault::Stopped, "the machine is dead");
        let dies = self.disk.step().ok_or_else(dead)?;
        let mut state = self.state.lock().unwrap();
        if let Some(bound) = state.full_one_in
            && state.chance.one_in(bound)
        {
            return Err(disk_full());
        }
        if !dies || state.chance.one_in(2) {
            let mut all = (*state.pairs).clone();
            for (key, value) in pairs {
                match value {
                    Some(value) => {
                        drop(all.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
                    }
                    None => drop(all.remove(*key)),
                }
            }
            state.pairs = Arc::new(all);
            state.marks = state.marks.with(mark);
        }
        if dies { Err(dead()) } else { Ok(()) }
    }

    fn marks(&self) -> Result<FlushMarks, StoreError> {
        Ok(self.state.lock().unwrap().marks)
    }

    fn room(&self, _: u64) -> Result<Headroom, StoreError> {
        let mut state = self.state.lock().unwrap();
        let is_full = match state.full_one_in {
            Some(bound) => state.chance.one_in(bound),
            None => false,
        };
        // Either the disk has no room for the file to grow, or the file has reached its maximum.
        match is_full {
            true if state.chance.one_in(2) => Err(disk_full()),
            true => Ok(Headroom::OnlyForShrinking(MAXIMUM.to_owned())),
            false => Ok(Headroom::Enough),
        }
    }
}
