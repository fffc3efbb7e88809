//! Crash tests of the log on a simulated disk, compared with a model: answered commits survive,
//! rejected ones leave nothing, and commits with an unknown outcome are present completely or not
//! at all.
//!
//! A seed is a sequence of lives. Each life opens the log (and may crash while opening), compares
//! it with the model, commits groups, reads through long-lived snapshots, seals, flushes, and ends
//! by a clean close, a kill or a power loss. At the end, damage before the end of the log must make
//! the start fail.
//!
//! ```sh
//! TRIGGERS_STORE_CRASH_SEEDS=0..500000 \
//!   cargo test --release -p triggers-store --lib crashes -- --nocapture
//! ```

mod base_store;
mod disk;
mod model;

use super::super::base_store::BaseStore;
use super::super::committer::{CheckedRead, Committer, QueuedCommit};
use super::super::disk::Disk;
use super::super::engine_core::{self, LogOptions};
use super::super::record;
use super::super::recovery::{self, OpenedLog, RecoveryError};
use super::super::snapshot::{self, Visibility};
use crate::kv::overlay::Write;
use crate::kv::{Fault, KeyRange, Ordered, StoreError};
use base_store::{MAXIMUM, SimulatedBaseStore};
use bytes::Bytes;
use disk::{Chance, Fired, SimulatedDisk};
use model::{Model, ModelCommit, apply, is_counter, key, model_of, read_all};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

type SimulatedCore = engine_core::EngineCore<SimulatedDisk, SimulatedBaseStore>;
type SimulatedSnapshot = snapshot::EmbeddedSnapshot<SimulatedDisk, SimulatedBaseStore>;

const SECRET: u32 = 0x005e_c2e7;
const KEYS: usize = 24;
/// Seeds of an ordinary test run.
const SEEDS: Range<u64> = 0..5_000;

/// Outcome of one commit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Committed,
    Rejected,
    Unknown,
}

struct Machine {
    chance: Chance,
    disk: SimulatedDisk,
    base: SimulatedBaseStore,
    options: LogOptions,
    /// Pairs that must be present.
    model: Model,
    /// Alternative state: the model plus the group whose outcome is unknown.
    alternative: Option<Model>,
    /// Number of committed groups; `written` has the group that last wrote each key.
    groups: u64,
    written: BTreeMap<Bytes, u64>,
    /// The last life ended with a clean close.
    is_clean: bool,
    /// Number of commits that were rejected because the disk is full.
    named: u64,
}

/// An open log and the snapshots on it.
struct Life {
    core: Arc<SimulatedCore>,
    committer: Committer<SimulatedDisk, SimulatedBaseStore>,
    snapshots: Vec<(SimulatedSnapshot, Model, u64)>,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let disk = SimulatedDisk::new(seed);
        let options = LogOptions {
            segment_bytes: record::BLOCK_BYTES as u64 * (2 + chance.below(6) as u64),
            segments_max: 3 + chance.below(4),
            flush_segments: 1 + chance.below(2),
            readers_max: usize::MAX,
        };
        let base = SimulatedBaseStore::new(seed, disk.clone());
        let (model, written) = (Model::new(), BTreeMap::new());
        Self {
            chance,
            disk,
            base,
            options,
            model,
            alternative: None,
            groups: 0,
            written,
            is_clean: true,
            named: 0,
        }
    }

    fn live(&mut self) {
        for _ in 0..2 + self.chance.below(4) {
            let mut life = self.open();
            let dies_in = (!self.chance.one_in(4)).then(|| self.chance.below(80));
            let sync_fails = self.chance.one_in(4).then(|| 2 + self.chance.below(10));
            self.disk.set(dies_in, sync_fails, self.chance.one_in(6));
            self.base.set(self.chance.one_in(5).then(|| 2 + self.chance.below(4)));
            for _ in 0..5 + self.chance.below(40) {
                if self.disk.is_dead() {
                    break;
                }
                self.step(&mut life);
            }
            self.end(life);
        }
        drop(self.open());
        self.damage();
    }

    /// Opens the log, despite crashes while opening, and compares it with the model.
    fn open(&mut self) -> Life {
        for attempt in 0.. {
            // At most two crashes in a row.
            let dies_in = (attempt < 2 && self.chance.one_in(3)).then(|| self.chance.below(30));
            self.disk.set(dies_in, None, false);
            match recovery::open(self.disk.clone(), self.base.clone(), self.options, SECRET) {
                Ok(OpenedLog { core, committer, recovered }) if !self.disk.is_dead() => {
                    self.disk.set(None, None, false);
                    assert!(
                        !self.is_clean || recovered.records == 0,
                        "closed cleanly, but recovered {recovered:?}"
                    );
                    self.is_clean = false;
                    let life = Life { core, committer, snapshots: Vec::new() };
                    self.compare(&life);
                    return life;
                }
                Ok(_) => self.disk.end(self.chance.one_in(2)),
                Err(error) => {
                    assert!(self.disk.is_dead(), "failed without a crash: {error}");
                    self.disk.end(self.chance.one_in(2));
                }
            }
        }
        unreachable!("without a crash the log opens")
    }

    fn compare(&mut self, life: &Life) {
        let found = read_all(&SimulatedSnapshot::open(&life.core).unwrap());
        match self.alternative.take() {
            Some(alternative) if found == alternative => self.model = alternative,
            _ => assert_eq!(found, self.model, "the content differs from the answered commits"),
        }
    }

    fn step(&mut self, life: &mut Life) {
        match self.chance.below(20) {
            0..=10 => self.commit(life),
            11..=13 => self.flush(life),
            14 => drop(life.committer.seal()),
            15..=16 => {
                let snapshot = SimulatedSnapshot::open(&life.core).unwrap();
                life.snapshots.push((snapshot, self.model.clone(), self.groups));
            }
            17 if !life.snapshots.is_empty() => {
                drop(life.snapshots.swap_remove(self.chance.below(life.snapshots.len())));
            }
            _ => {
                for (snapshot, model, _) in &life.snapshots {
                    assert_eq!(read_all(snapshot), *model, "a snapshot has changed");
                    let key = key(self.chance.below(KEYS));
                    assert_eq!(snapshot.get(&key).unwrap(), model.get(&key).cloned());
                }
            }
        }
    }

    fn flush(&mut self, life: &Life) {
        match life.core.flush_oldest() {
            Ok(_) => {}
            Err(error) if error.fault() == Some(Fault::Full) => {}
            Err(error) => {
                let is_stopped = life.core.check_writable().is_err();
                assert!(
                    is_stopped || self.disk.is_dead(),
                    "the store is writable after a failed flush: {error}"
                );
            }
        }
    }

    fn commit(&mut self, life: &mut Life) {
        let was_stopped = life.core.check_writable().is_err();
        let count = 1 + self.chance.below(4);
        let commits: Vec<_> = (0..count).map(|_| self.draw_commit(life)).collect();
        let (mut group, mut answers) = (Vec::new(), Vec::new());
        let (seen, observes) = (Seen::default(), self.chance.one_in(4));
        for (mut commit, answer, since) in commits {
            let effects = (model_of(&commit), since);
            commit.ordered = observes.then(|| observe(&life.core, &seen));
            group.push(commit);
            answers.push((effects, answer));
        }
        life.committer.commit_group(group);
        self.groups += 1;
        let seen = seen.lock().unwrap().take();
        let (before, mut alternative) = (self.model.clone(), self.model.clone());
        let (mut is_unknown, mut staged) = (false, Vec::new());
        for ((effects, since), mut answer) in answers {
            let answer = answer.try_recv().expect("every commit is answered");
            let verdict = match &answer {
                Ok(()) => Verdict::Committed,
                Err(StoreError::MaybeCommitted(_)) => Verdict::Unknown,
                Err(_) => Verdict::Rejected,
            };
            assert!(
                !was_stopped || verdict == Verdict::Rejected,
                "a stopped store accepted a commit: {answer:?}"
            );
            if verdict == Verdict::Rejected {
                self.named += u64::from(is_room_named(&answer));
                continue;
            }
            let conflict = self.conflict(&effects, since, &staged);
            assert_eq!(
                conflict, None,
                "a conflict was missed: {effects:?} read at {since:?} of {}",
                self.groups
            );
            staged.extend(apply(&effects, &mut alternative));
            is_unknown |= verdict == Verdict::Unknown;
        }
        for key in staged {
            self.written.insert(key, self.groups);
        }
        if is_unknown {
            assert!(life.core.check_writable().is_err(), "an unknown outcome stops the store");
            self.alternative = Some(alternative);
        } else if !was_stopped {
            self.model = alternative;
        }
        // A group becomes visible exactly when it is durable.
        if !self.disk.is_dead() {
            assert_eq!(read_all(&SimulatedSnapshot::open(&life.core).unwrap()), self.model);
        }
        if let Some((durable, ordered)) = seen {
            assert_eq!(read_all(&durable), before, "the group was visible before it was durable");
            let after = self.alternative.as_ref().unwrap_or(&self.model);
            assert_eq!(read_all(&ordered), *after, "an ordered group is visible completely");
            if self.alternative.is_none() && life.snapshots.len() < 3 {
                life.snapshots.push((ordered, self.model.clone(), self.groups));
            }
        }
    }

    /// Returns a key that was written after the commit read it.
    fn conflict(
        &self,
        effects: &ModelCommit,
        since: Option<u64>,
        staged: &[Bytes],
    ) -> Option<Bytes> {
        let since = since?;
        let is_read = |key: &Bytes| effects.reads.iter().any(|range| range.contains(key));
        let newer = self.written.iter().filter(|(_, group)| **group > since).map(|(key, _)| key);
        newer.chain(staged).find(|key| is_read(key)).cloned()
    }

    /// Draws a commit; also returns the number of groups at its snapshot.
    fn draw_commit(
        &mut self,
        life: &Life,
    ) -> (QueuedCommit, oneshot::Receiver<Result<(), StoreError>>, Option<u64>) {
        let (answer, answered) = oneshot::channel();
        let mut commit = QueuedCommit {
            read_at: None,
            reads: Vec::new(),
            cleared: Vec::new(),
            writes: BTreeMap::new(),
            bytes: 0,
            ordered: None,
            answer,
        };
        let mut since = None;
        if self.chance.one_in(2) {
            let old = life.snapshots.len();
            let (sequence, groups) = match self.chance.below(old + 1) {
                at if at < old => (life.snapshots[at].0.sequence(), life.snapshots[at].2),
                _ => (life.core.visible(), self.groups),
            };
            (commit.read_at, since) = (Some(sequence), Some(groups));
            for _ in 0..1 + self.chance.below(2) {
                let read = if self.chance.one_in(3) {
                    CheckedRead::Range(self.range())
                } else {
                    CheckedRead::Key(key(self.chance.below(KEYS)))
                };
                commit.reads.push(read);
            }
        }
        if self.chance.one_in(10) {
            commit.cleared.push(self.range());
        }
        // A commit without writes only waits until its reads are durable.
        for _ in 0..self.chance.below(6) {
            let at = self.chance.below(KEYS);
            let is_cleared = commit.cleared.iter().any(|range| range.contains(&key(at)));
            let write = match self.chance.below(10) {
                // An overlay turns an addition to a cleared key into a set.
                _ if is_counter(at) && !is_cleared => {
                    Write::Add(self.chance.below(100) as i64 - 50)
                }
                _ if is_counter(at) => Write::Clear,
                0..=2 => Write::Clear,
                3 => {
                    Write::Set(vec![self.chance.below(256) as u8; self.chance.below(9_000)].into())
                }
                _ => Write::Set(self.chance.next().to_le_bytes().to_vec().into()),
            };
            commit.writes.insert(key(at), write);
        }
        if self.chance.one_in(60) {
            // A value longer than any segment.
            let bytes = self.options.segment_bytes as usize + self.chance.below(20_000);
            commit.writes.insert(key(1), Write::Set(vec![7; bytes].into()));
        }
        (commit, answered, since)
    }

    fn range(&mut self) -> KeyRange {
        let begin = self.chance.below(KEYS);
        KeyRange::new(key(begin), key(begin + self.chance.below(6)))
    }

    fn end(&mut self, life: Life) {
        let Life { core, committer, snapshots } = life;
        drop(snapshots);
        self.base.set(None);
        if !self.disk.is_dead() && self.chance.one_in(3) {
            self.disk.set(None, None, false);
            let is_stopped = core.check_writable().is_err();
            committer.close();
            while let Ok(true) = core.flush_oldest() {}
            self.is_clean = !is_stopped && core.check_writable().is_ok();
        }
        drop(core);
        self.disk.end(self.chance.one_in(2));
    }

    /// Damages a record before the last one; the start must fail and name the place.
    fn damage(&mut self) {
        let marks = self.base.marks().unwrap();
        let names = self.disk.names().unwrap();
        let mut records = Vec::new();
        for name in &names {
            let bytes = self.disk.with_file(name, |bytes| bytes.clone());
            for at in (0..bytes.len()).step_by(record::BLOCK_BYTES) {
                if let Some(header) = record::decode(&bytes[at..], SECRET)
                    .filter(|header| header.sequence > marks.done)
                {
                    records.push((header.sequence, name.clone(), at, header.record_bytes()));
                }
            }
        }
        records.sort();
        records.pop();
        if records.is_empty() {
            return;
        }
        let (_, name, at, bytes) = records.swap_remove(self.chance.below(records.len()));
        let is_removed = self.chance.one_in(5);
        if is_removed {
            self.disk.lose(&name);
        } else {
            let (byte, by) = (at + self.chance.below(bytes), 1 + self.chance.below(255) as u8);
            self.disk.with_file(&name, |contents| contents[byte] ^= by);
        }
        match recovery::read(&self.disk, marks, SECRET) {
            Err(RecoveryError::Damaged { reason, .. }) => {
                let is_named =
                    reason.contains(&format!("offset {at} ")) || reason.contains("are missing");
                assert!(is_removed || is_named, "{at} was damaged: {reason}");
            }
            Err(other) => panic!("{other}"),
            Ok(log) => {
                // The removed file may have held the end of the log.
                assert!(
                    is_removed && log.is_shorter_than(self.groups),
                    "damage at {name} {at} was not detected"
                );
            }
        }
    }
}

/// Checks that a commit without room is told what is full; returns whether that is the disk.
fn is_room_named(answer: &Result<(), StoreError>) -> bool {
    let Err(StoreError::Fatal { fault: Fault::Full, reason }) = answer else { return false };
    let is_disk = reason.starts_with("the disk is full");
    let is_other = reason == MAXIMUM || reason.starts_with("the log has no free segment");
    assert!(is_disk || is_other, "no cause is named: {reason}");
    is_disk
}

/// Snapshots taken when a group is ordered: the durable state, and the one that pipelined
/// transactions see.
type Seen = Arc<Mutex<Option<(SimulatedSnapshot, SimulatedSnapshot)>>>;

fn observe(core: &Arc<SimulatedCore>, seen: &Seen) -> Ordered {
    let (core, seen) = (core.clone(), seen.clone());
    Box::new(move || {
        let states = [Visibility::Durable, Visibility::Ordered]
            .map(|visibility| SimulatedSnapshot::open_with(&core, visibility).unwrap());
        *seen.lock().unwrap() = Some(states.into());
    })
}

fn seeds() -> Range<u64> {
    let parse = |text: String| -> Option<Range<u64>> {
        let (first, end) = text.split_once("..")?;
        Some(first.parse().ok()?..end.parse().ok()?)
    };
    match std::env::var("TRIGGERS_STORE_CRASH_SEEDS") {
        Ok(text) => parse(text).expect("TRIGGERS_STORE_CRASH_SEEDS is like 0..5000"),
        Err(_) => SEEDS,
    }
}

#[test]
fn answered_commits_survive_crashes() {
    let seeds = seeds();
    let middle = seeds.start.midpoint(seeds.end);
    let run = |seeds: Range<u64>| {
        let mut fired = Fired::default();
        for seed in seeds {
            let lived = std::panic::catch_unwind(|| {
                let mut machine = Machine::new(seed);
                machine.live();
                Fired { named: machine.named, ..machine.disk.fired() }
            });
            fired.add(lived.unwrap_or_else(|_| {
                panic!("seed {seed}: TRIGGERS_STORE_CRASH_SEEDS={seed}..{}", seed + 1)
            }));
        }
        fired
    };
    let mut fired = Fired::default();
    std::thread::scope(|scope| {
        let halves = [seeds.start..middle, middle..seeds.end].map(|half| scope.spawn(|| run(half)));
        for half in halves {
            fired.add(half.join().unwrap());
        }
    });
    eprintln!("{} seeds, {fired:?}", seeds.end - seeds.start);
    if seeds.end - seeds.start >= 1_000 {
        let Fired { short, sync_failed, full, torn, died, named } = fired;
        assert!(
            [short, sync_failed, full, torn, died, named].iter().all(|count| *count > 100),
            "{fired:?}"
        );
    }
}
