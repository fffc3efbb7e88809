//! Case: many tasks run random transactions on few keys, and the resulting history is strictly
//! serializable.
//!
//! Each key has a list of its writers' ids and a counter that is only added to; they agree in every
//! snapshot. `history.rs` checks the history. The case also runs on faulty engines: the history
//! records outcomes that are unknown.

use crate::chance::Chance;
use crate::history::{Id, Record, check};
use crate::subject::Subject;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use triggers_store::kv::{RangeRead, StoreError, Transaction, decode_counter};

const KEYS: usize = 6;
const TASKS: u64 = 8;
const COMMITS: usize = 40;
const ATTEMPTS: u32 = 1_000;

pub async fn random_transactions(subject: &Subject) {
    let records = concurrent(subject, 1).await;
    let lists = final_lists(subject).await;
    check(&records, &lists).unwrap();
    let written: usize = lists.iter().map(Vec::len).sum();
    assert!(written >= 50, "only {written} appends: the history shows nothing");
}

/// Runs all tasks to their end; returns what they saw.
pub async fn concurrent(subject: &Subject, seed: u64) -> Vec<Record> {
    let order = Arc::new(AtomicU64::new(0));
    let tasks = (0..TASKS).map(|task| {
        let client = Client {
            engine: subject.engine.clone(),
            keys: (0..KEYS).map(|key| names(subject, key)).collect(),
            lists: subject.range("list/", "list0"),
            chance: Chance::new(seed * TASKS + task),
            order: order.clone(),
            first: Id::try_from(task).unwrap() * ATTEMPTS,
        };
        tokio::spawn(client.work())
    });
    let mut records = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        records.extend(task.await.unwrap());
    }
    records
}

/// Reads the lists of all keys.
pub async fn final_lists(subject: &Subject) -> Vec<Vec<Id>> {
    let mut lists = Vec::new();
    for key in 0..KEYS {
        let value = subject.value(format!("list/{key}")).await;
        lists.push(decode(value.as_deref()));
    }
    lists
}

fn names(subject: &Subject, key: usize) -> (Vec<u8>, Vec<u8>) {
    (subject.key(format!("list/{key}")), subject.key(format!("count/{key}")))
}

fn decode(value: Option<&[u8]>) -> Vec<Id> {
    let chunks = value.unwrap_or_default().chunks(4);
    chunks.map(|id| Id::from_le_bytes(id.try_into().unwrap())).collect()
}

fn encode(list: &[Id]) -> Vec<u8> {
    list.iter().flat_map(|id| id.to_le_bytes()).collect()
}

struct Client {
    engine: Arc<dyn triggers_store::kv::Engine>,
    /// Names of each key's list and counter.
    keys: Vec<(Vec<u8>, Vec<u8>)>,
    lists: triggers_store::kv::KeyRange,
    chance: Chance,
    order: Arc<AtomicU64>,
    first: Id,
}

impl Client {
    async fn work(self) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        for attempt in 0..ATTEMPTS {
            let began = self.order.fetch_add(1, Ordering::SeqCst);
            let mut record = Record {
                id: self.first + attempt,
                began,
                ended: None,
                reads: Vec::new(),
                appended: Vec::new(),
            };
            match self.transact(&mut record).await {
                Ok(true) => {
                    record.ended = Some(self.order.fetch_add(1, Ordering::SeqCst));
                    records.push(record);
                }
                Ok(false) | Err(StoreError::Retryable(_)) => {}
                Err(StoreError::MaybeCommitted(_)) => records.push(record),
                Err(error) => panic!("{error}"),
            }
            if records.len() == COMMITS {
                return records;
            }
        }
        panic!("{} of {COMMITS} commits in {ATTEMPTS} attempts", records.len());
    }

    /// Makes one attempt; returns false if it was abandoned on purpose.
    async fn transact(&self, record: &mut Record) -> Result<bool, StoreError> {
        let mut open = self.engine.begin().await?;
        if self.chance.percent(25) {
            self.read_all(&mut *open, record).await?;
        } else {
            self.read_some(&mut *open, record).await?;
        }
        tokio::task::yield_now().await;
        for (key, seen) in &record.reads {
            let count = open.get_snapshot(&self.keys[*key].1).await?;
            let count = decode_counter(count.as_deref())?;
            assert_eq!(count, i64::try_from(seen.len()).unwrap(), "{seen:?}");
        }
        for (key, seen) in &record.reads {
            if record.appended.len() < 2 && self.chance.percent(40) {
                let list = [&seen[..], &[record.id]].concat();
                open.set(&self.keys[*key].0, &encode(&list));
                open.add(&self.keys[*key].1, 1);
                record.appended.push(*key);
            }
        }
        tokio::task::yield_now().await;
        if self.chance.percent(5) {
            return Ok(false);
        }
        open.commit().await.map(|()| true)
    }

    async fn read_all(
        &self,
        open: &mut dyn Transaction,
        record: &mut Record,
    ) -> Result<(), StoreError> {
        let read = RangeRead::first(self.lists.clone(), KEYS);
        let page = open.range(read).await?;
        for (key, (name, _)) in self.keys.iter().enumerate() {
            let found = page.pairs.iter().find(|(found, _)| found == name);
            let list = decode(found.map(|(_, value)| &value[..]));
            record.reads.push((key, list));
        }
        Ok(())
    }

    async fn read_some(
        &self,
        open: &mut dyn Transaction,
        record: &mut Record,
    ) -> Result<(), StoreError> {
        for (key, (name, _)) in self.keys.iter().enumerate() {
            if self.chance.percent(40) {
                let value = open.get(name).await?;
                record.reads.push((key, decode(value.as_deref())));
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}

#[cfg(any(feature = "postgres", feature = "foundationdb"))]
pub mod shared_store {
    //! Several engines on one store, as the nodes of a cluster have.

    use super::random_transactions;
    use crate::conformance::within_deadline;
    use crate::subject::Subject;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use triggers_store::kv::{BoxFuture, Engine, StoreError, Transaction};

    /// Begins transactions on several engines in turn.
    struct InTurn<E>(Vec<E>, AtomicUsize);

    impl<E: Engine> Engine for InTurn<E> {
        fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
            self.0[self.1.fetch_add(1, Ordering::Relaxed) % self.0.len()].begin()
        }

        fn health(&self) -> Result<(), StoreError> {
            self.0.iter().try_for_each(Engine::health)
        }
    }

    /// Panics unless transactions that begin on these engines in turn are serialized.
    pub async fn assert_serialized<E: Engine>(engines: Vec<E>) {
        let subject = Subject::new(Arc::new(InTurn(engines, AtomicUsize::new(0))), None);
        within_deadline(random_transactions(&subject)).await;
    }
}
