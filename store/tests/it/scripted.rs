//! An engine that wraps another one and ends commits as a script says.
//!
//! Each commit takes the next line of the script; the last line repeats. It wraps any engine.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use triggers_store::kv::{
    BoxFuture, Engine, Fault, KeyRange, Page, RangeRead, StoreError, Transaction,
};

/// How a commit ends.
#[derive(Debug, Clone, Copy)]
pub enum Ending {
    Pass,
    Conflict,
    UnknownCommitted,
    UnknownNotCommitted,
    Full,
    /// The commit never ends.
    Hang,
}

pub struct Scripted {
    inner: Arc<dyn Engine>,
    script: Arc<Mutex<VecDeque<Ending>>>,
    begins: AtomicUsize,
    begins_hang: bool,
}

impl Scripted {
    pub fn new(inner: Arc<dyn Engine>, script: impl IntoIterator<Item = Ending>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            begins: AtomicUsize::new(0),
            begins_hang: false,
        })
    }

    /// An engine whose transactions never begin.
    pub fn hanging(inner: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            script: Arc::default(),
            begins: AtomicUsize::new(0),
            begins_hang: true,
        })
    }

    /// Number of transactions begun.
    pub fn begins(&self) -> usize {
        self.begins.load(Ordering::Relaxed)
    }
}

impl Engine for Scripted {
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        Box::pin(async move {
            self.begins.fetch_add(1, Ordering::Relaxed);
            if self.begins_hang {
                std::future::pending::<()>().await;
            }
            let inner = self.inner.begin().await?;
            let script = self.script.clone();
            Ok(Box::new(ScriptedTransaction { inner, script }) as Box<dyn Transaction>)
        })
    }

    fn health(&self) -> Result<(), StoreError> {
        self.inner.health()
    }
}

struct ScriptedTransaction {
    inner: Box<dyn Transaction>,
    script: Arc<Mutex<VecDeque<Ending>>>,
}

impl Transaction for ScriptedTransaction {
    fn get<'a>(&'a mut self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.inner.get(key)
    }

    fn get_snapshot<'a>(
        &'a mut self,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.inner.get_snapshot(key)
    }

    fn range(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.inner.range(read)
    }

    fn range_snapshot(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.inner.range_snapshot(read)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.inner.set(key, value);
    }

    fn clear(&mut self, key: &[u8]) {
        self.inner.clear(key);
    }

    fn clear_range(&mut self, range: KeyRange) {
        self.inner.clear_range(range);
    }

    fn add(&mut self, key: &[u8], delta: i64) {
        self.inner.add(key, delta);
    }

    fn add_conflict(&mut self, range: KeyRange) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.add_conflict(range)
    }

    fn approximate_size(&self) -> usize {
        self.inner.approximate_size()
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        let ending = {
            let mut script = self.script.lock().unwrap();
            let last = script.back().copied().unwrap_or(Ending::Pass);
            if script.len() > 1 { script.pop_front().unwrap_or(last) } else { last }
        };
        let unknown = || Err(StoreError::MaybeCommitted("scripted".into()));
        Box::pin(async move {
            match ending {
                Ending::Pass => self.inner.commit().await,
                Ending::Conflict => Err(StoreError::Retryable("scripted".into())),
                Ending::UnknownCommitted => {
                    self.inner.commit().await?;
                    unknown()
                }
                Ending::UnknownNotCommitted => unknown(),
                Ending::Full => Err(StoreError::fatal(Fault::Full, "scripted")),
                Ending::Hang => std::future::pending().await,
            }
        })
    }
}
