//! Nodes that share a store: several engines on one, as each node has its own.

use crate::conformance::{serializability, within_deadline};
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
pub async fn are_serialized<E: Engine>(engines: Vec<E>) {
    let subject = Subject::new(Arc::new(InTurn(engines, AtomicUsize::new(0))), None);
    within_deadline(serializability::random_transactions(&subject)).await;
}
