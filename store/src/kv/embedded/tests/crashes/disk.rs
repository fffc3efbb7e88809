//! A disk in memory that loses power, tears writes, fails, fills up, and makes short reads and
//! writes.
//!
//! Unsynced writes are kept apart. A power loss keeps a random part of their sectors; a killed
//! process keeps them all, still unsynced. A failed `sync` may have written some of its sectors,
//! and the next `sync` does not write the rest, as on real systems. One seed determines everything.

use super::super::super::disk::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

const SECTOR_BYTES: usize = 512;

/// Seeded random numbers: splitmix64.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(super) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// Number of faults, by kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fired {
    pub(super) short: u64,
    pub(super) sync_failed: u64,
    pub(super) full: u64,
    pub(super) torn: u64,
    pub(super) died: u64,
    /// Commits that were told that the disk is full.
    pub(super) named: u64,
}

impl Fired {
    pub(super) fn add(&mut self, other: Fired) {
        self.short += other.short;
        self.sync_failed += other.sync_failed;
        self.full += other.full;
        self.torn += other.torn;
        self.died += other.died;
        self.named += other.named;
    }
}

#[derive(Default)]
struct Contents {
    /// Content that reads return.
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

struct DiskState {
    chance: Chance,
    files: BTreeMap<String, Contents>,
    /// Number of calls until the machine crashes.
    dies_in: Option<usize>,
    is_dead: bool,
    sync_fails_one_in: Option<usize>,
    is_full: bool,
    fired: Fired,
}

/// The disk together with its machine.
#[derive(Clone)]
pub(super) struct SimulatedDisk(Arc<Mutex<DiskState>>);

fn dead() -> io::Error {
    io::Error::other("the machine is dead")
}

impl SimulatedDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(DiskState {
            chance: Chance::new(seed ^ 0x5eed_d15c),
            files: BTreeMap::new(),
            dies_in: None,
            is_dead: false,
            sync_fails_one_in: None,
            is_full: false,
            fired: Fired::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap()
    }

    /// Sets the faults from now on.
    pub(super) fn set(
        &self,
        dies_in: Option<usize>,
        sync_fails_one_in: Option<usize>,
        is_full: bool,
    ) {
        let mut state = self.state();
        (state.dies_in, state.sync_fails_one_in, state.is_full) =
            (dies_in, sync_fails_one_in, is_full);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    pub(super) fn fired(&self) -> Fired {
        self.state().fired
    }

    /// Counts a call: `None` if the machine is dead, `Some(true)` if it crashes in this call.
    pub(super) fn step(&self) -> Option<bool> {
        self.state().step()
    }

    /// Ends the process, with `power` also the machine, and restarts it.
    pub(super) fn end(&self, power: bool) {
        let mut state = self.state();
        let DiskState { chance, files, fired, .. } = &mut *state;
        for contents in files.values_mut().filter(|_| power) {
            for (offset, bytes) in std::mem::take(&mut contents.unsynced) {
                for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if chance.one_in(2) {
                        fired.torn += 1;
                        put(&mut contents.durable, offset + number * SECTOR_BYTES, sector);
                    }
                }
            }
            contents.now = contents.durable.clone();
        }
        state.is_dead = false;
        state.dies_in = None;
    }

    /// Gives access to a file's content, to read or damage it.
    pub(super) fn with_file<T>(&self, name: &str, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        work(&mut self.state().files.get_mut(name).unwrap().now)
    }

    pub(super) fn lose(&self, name: &str) {
        self.state().files.remove(name);
    }
}

impl DiskState {
    fn step(&mut self) -> Option<bool> {
        if self.is_dead {
            return None;
        }
        let Some(left) = &mut self.dies_in else { return Some(false) };
        if *left > 0 {
            *left -= 1;
            return Some(false);
        }
        self.is_dead = true;
        self.fired.died += 1;
        Some(true)
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, some: &[u8]) {
    let end = offset + some.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(some);
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;

    fn names(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        match state.step() {
            Some(false) => Ok(state.files.keys().cloned().collect()),
            _ => Err(dead()),
        }
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut state = self.state();
        match state.step() {
            Some(false) if state.files.contains_key(name) => {
                Ok(SimulatedFile(self.clone(), name.to_owned()))
            }
            Some(false) => Err(ErrorKind::NotFound.into()),
            _ => Err(dead()),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let step = state.step().ok_or_else(dead)?;
        if !step || state.chance.one_in(2) {
            state.files.remove(name);
        }
        if step { Err(dead()) } else { Ok(()) }
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<SimulatedFile> {
        let mut state = self.state();
        let step = state.step();
        if state.is_full {
            state.fired.full += 1;
            return Err(ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; bytes as usize];
        if step == Some(false) || (step == Some(true) && state.chance.one_in(2)) {
            assert!(!state.files.contains_key(name), "{name} is made a second time");
            let contents = Contents { now: zeros.clone(), durable: zeros, unsynced: Vec::new() };
            state.files.insert(name.to_owned(), contents);
        }
        match step {
            Some(false) => Ok(SimulatedFile(self.clone(), name.to_owned())),
            _ => Err(dead()),
        }
    }
}

pub(super) struct SimulatedFile(SimulatedDisk, String);

impl SimulatedFile {
    /// Draws how much of a call is done.
    fn part(state: &mut DiskState, bytes: usize) -> usize {
        if bytes > 1 && state.chance.one_in(8) {
            state.fired.short += 1;
            return 1 + state.chance.below(bytes - 1);
        }
        bytes
    }
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.state().files[&self.1].now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.0.state();
        if state.step() != Some(false) {
            return Err(dead());
        }
        if state.chance.one_in(20) {
            return Err(ErrorKind::Interrupted.into());
        }
        let part = Self::part(&mut state, buffer.len());
        let bytes = state.files[&self.1].now.get(offset as usize..).unwrap_or_default();
        let part = part.min(bytes.len());
        buffer[..part].copy_from_slice(&bytes[..part]);
        Ok(part)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.0.state();
        let step = state.step().ok_or_else(dead)?;
        let end = offset as usize + bytes.len();
        if state.is_full && end > state.files[&self.1].now.len() {
            state.fired.full += 1;
            return Err(ErrorKind::StorageFull.into());
        }
        let part = if step {
            state.chance.below(bytes.len() + 1)
        } else {
            Self::part(&mut state, bytes.len())
        };
        let contents = state.files.get_mut(&self.1).unwrap();
        put(&mut contents.now, offset as usize, &bytes[..part]);
        contents.unsynced.push((offset as usize, bytes[..part].to_vec()));
        if step { Err(dead()) } else { Ok(part) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.state();
        let step = state.step().ok_or_else(dead)?;
        let fails = match state.sync_fails_one_in {
            Some(bound) => state.chance.one_in(bound),
            None => false,
        };
        let DiskState { chance, files, fired, .. } = &mut *state;
        let contents = files.get_mut(&self.1).unwrap();
        for (offset, bytes) in std::mem::take(&mut contents.unsynced) {
            for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                if (!step && !fails) || chance.one_in(2) {
                    put(&mut contents.durable, offset + number * SECTOR_BYTES, sector);
                }
            }
        }
        if step {
            return Err(dead());
        }
        if fails {
            fired.sync_failed += 1;
            return Err(io::Error::other("input/output error"));
        }
        Ok(())
    }
}
