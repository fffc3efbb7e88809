//! A commit from the moment on when nobody can take it back, to an outcome.
//!
//! ```text
//! set, clear, add ──▶ commit ──▶ Ok, or for certain not
//!                       └─ not known ──▶ fence: a commit that conflicts with this one ──▶ MaybeCommitted
//! ```
//! Invariants: `FOUNDATION-COMMIT-1` it runs to its end whoever waits for it, and ends in bounded time; `FOUNDATION-COMMIT-2`
//! it reads its fence key, and nothing but its own fence writes there; `FOUNDATION-COMMIT-3` when its outcome is not known
//! it is answered after its fence is committed, and so has taken effect already or never will; only a cluster that takes
//! no fence in time leaves it on its way, at most for the five seconds that its reads are valid.
//! The client does the same by itself before it says `commit_unknown_result`; not so when the timeout cuts it short.

use super::{ClusterClient, error, millis};
use crate::kv::overlay::Write;
use crate::kv::{KeyRange, StoreError};
use bytes::Bytes;
use foundationdb::options::{ConflictRangeType, MutationType, TransactionOption};
use foundationdb::{FdbResult, Transaction};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest wait for a fence.
const FENCE_MS_MAX: u64 = 5_000;

static FENCES: AtomicU64 = AtomicU64::new(0);

/// What one transaction hands over: ranges to clear first, then keys.
pub(super) struct NativeCommit {
    pub(super) client: Arc<ClusterClient>,
    pub(super) transaction: Transaction,
    pub(super) cleared: Vec<KeyRange>,
    pub(super) writes: BTreeMap<Bytes, Write>,
}

impl NativeCommit {
    pub(super) async fn run(self) -> Result<(), StoreError> {
        let fence =
            self.client.keys.fence(std::process::id(), FENCES.fetch_add(1, Ordering::Relaxed));
        let (client, transaction) = self.write(&fence).map_err(error::of_read)?;
        let Err(failed) = transaction.commit().await else { return Ok(()) };
        let cause = *failed;
        // Before the fence: as long as the transaction is there, the client may still send it.
        drop(failed);
        let outcome = error::of_commit(cause);
        if matches!(outcome, StoreError::MaybeCommitted(_))
            && !error::is_fenced(cause)
            && let Err(unfenced) = client.fence(&fence).await
        {
            tracing::warn!(
                error = error::text(unfenced),
                "a commit with an unknown outcome may still arrive"
            );
        }
        Err(outcome)
    }

    /// Hands everything to the client, which keeps it until the commit.
    fn write(self, fence: &[u8]) -> FdbResult<(Arc<ClusterClient>, Transaction)> {
        let Self { client, transaction, cleared, writes } = self;
        transaction.set_option(TransactionOption::Timeout(millis(client.options.commit_ms_max)))?;
        transaction.add_conflict_range(fence, &behind(fence), ConflictRangeType::Read)?;
        for range in cleared {
            let (begin, end) = client.keys.range(&range);
            transaction.clear_range(&begin, &end);
        }
        for (key, write) in writes {
            let key = client.keys.pair(&key);
            match write {
                Write::Set(value) => transaction.set(&key, &value),
                Write::Clear => transaction.clear(&key),
                Write::Add(delta) => {
                    transaction.atomic_op(&key, &delta.to_le_bytes(), MutationType::Add)
                }
            }
        }
        Ok((client, transaction))
    }
}

impl ClusterClient {
    /// Commits a write to a fence key: whoever has read that key before cannot commit any more.
    async fn fence(&self, fence: &[u8]) -> FdbResult<()> {
        let mut transaction = self.database.create_trx()?;
        transaction.set_option(TransactionOption::Timeout(millis(FENCE_MS_MAX)))?;
        loop {
            // It reads what it writes, so that the client needs no key of its own to keep it from being sent twice.
            for kind in [ConflictRangeType::Read, ConflictRangeType::Write] {
                transaction.add_conflict_range(fence, &behind(fence), kind)?;
            }
            match transaction.commit().await {
                Ok(_) => return Ok(()),
                Err(failed) => transaction = failed.on_error().await?,
            }
        }
    }
}

/// The first key behind `key`.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
