//! An engine under test with a key prefix of its own, and helpers to read and write under it.
//!
//! Invariant: `SUBJECT-1`: no two tests share a key prefix, so that the suite can run on a shared
//! store. Dropping a subject removes its data directory.

use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;
use triggers_protocol::Environment;
use triggers_store::kv::embedded::{EmbeddedEngine, EmbeddedOptions};
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::kv::{Engine, KeyRange, RangeRead, Run, Store, StoreError, Transaction};

static SUBJECTS: AtomicU64 = AtomicU64::new(0);

pub struct Subject {
    pub engine: Arc<dyn Engine>,
    prefix: Vec<u8>,
    _directory: Option<TempDir>,
}

/// Options of an embedded engine with ample limits, for tests to reduce.
pub fn embedded_options(directory: &Path) -> EmbeddedOptions {
    EmbeddedOptions {
        directory: directory.to_owned(),
        map_bytes_max: 1 << 30,
        log_bytes_max: 384 << 20,
        commit_queue_max: 1_024,
        group_transactions_max: 1_024,
        group_bytes_max: 8 << 20,
        readers_max: 1_024,
    }
}

pub async fn embedded() -> Subject {
    let directory = TempDir::new().unwrap();
    let engine = EmbeddedEngine::open(&embedded_options(directory.path())).unwrap();
    Subject::new(Arc::new(engine), Some(directory))
}

pub async fn simulated() -> Subject {
    let options = SimulatedOptions::new(1);
    Subject::new(Arc::new(SimulatedEngine::new(options)), None)
}

pub async fn simulated_with_latency() -> Subject {
    let options = SimulatedOptions { latency_us_max: 100, ..SimulatedOptions::new(2) };
    Subject::new(Arc::new(SimulatedEngine::new(options)), None)
}

/// A deadline that only a hanging test reaches.
pub fn far() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

impl Subject {
    pub fn new(engine: Arc<dyn Engine>, directory: Option<TempDir>) -> Self {
        let number = SUBJECTS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("test/{}/{number}/", std::process::id()).into_bytes();
        Self { engine, prefix, _directory: directory }
    }

    pub fn store(&self) -> Store {
        Store::new(self.engine.clone(), Environment::system())
    }

    pub fn key(&self, name: impl AsRef<[u8]>) -> Vec<u8> {
        [&self.prefix[..], name.as_ref()].concat()
    }

    /// A key of exactly `bytes` bytes.
    pub fn key_of_bytes(&self, bytes: usize) -> Vec<u8> {
        let mut key = self.prefix.clone();
        key.resize(bytes, b'k');
        key
    }

    pub fn range(&self, begin: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> KeyRange {
        KeyRange::new(self.key(begin), self.key(end))
    }

    /// The range of all keys of this test.
    pub fn all(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.clone())
    }

    pub async fn begin(&self) -> Box<dyn Transaction> {
        self.engine.begin().await.unwrap()
    }

    pub async fn put(&self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let mut open = self.begin().await;
        open.set(&self.key(name), value.as_ref());
        open.commit().await.unwrap();
    }

    /// Commits one transaction once.
    pub async fn commit<F>(&self, writes: F) -> Result<(), StoreError>
    where
        F: AsyncFnOnce(&mut dyn Transaction),
    {
        let mut open = self.begin().await;
        writes(&mut *open).await;
        open.commit().await
    }

    pub async fn value(&self, name: impl AsRef<[u8]>) -> Option<Bytes> {
        let mut open = self.begin().await;
        open.get(&self.key(name)).await.unwrap()
    }

    /// Reads all pairs of this test, by name.
    pub async fn pairs(&self) -> Vec<(Vec<u8>, Bytes)> {
        let mut open = self.begin().await;
        let mut next = Some(RangeRead::first(self.all(), 1_000));
        let mut pairs = Vec::new();
        while let Some(read) = next {
            let page = open.range_snapshot(read.clone()).await.unwrap();
            next = read.after(&page);
            pairs.extend(self.names(page.pairs));
        }
        pairs
    }

    /// Removes the prefix of this test from the keys.
    pub fn names(&self, pairs: Vec<(Bytes, Bytes)>) -> Vec<(Vec<u8>, Bytes)> {
        let name = |key: Bytes| key.strip_prefix(&self.prefix[..]).unwrap().to_vec();
        pairs.into_iter().map(|(key, value)| (name(key), value)).collect()
    }
}

/// An idempotent run with a deadline that only a hanging test reaches.
pub fn patient() -> Run {
    Run::idempotent(far())
}
