//! A commit, from the moment when it can no longer be cancelled to its outcome.
//!
//! ```text
//! set, clear, add ──▶ commit ──▶ committed, or certainly not
//!                       └─ unknown ──▶ fence: a conflicting commit ──▶ MaybeCommitted
//! ```
//! Invariants:
//! - `FOUNDATION-COMMIT-1`: a commit ends in bounded time, even if the caller stops waiting.
//! - `FOUNDATION-COMMIT-2`: a commit reads its fence key, which only its own fence writes.
//! - `FOUNDATION-COMMIT-3`: an unknown outcome is answered after the fence has committed: the
//!   commit has taken effect by then, or never will. If the cluster accepts no fence in time, the
//!   commit can still arrive for the five seconds that its reads are valid.
//!
//! The client does the same before it reports `commit_unknown_result`, but not after a timeout.

use super::{ClusterClient, error, millis};
use crate::kv::overlay::Write;
use crate::kv::range::after;
use crate::kv::{KeyRange, StoreError};
use bytes::Bytes;
use foundationdb::options::{ConflictRangeType, MutationType, TransactionOption};
use foundationdb::{FdbResult, Transaction};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum wait for a fence, in milliseconds.
const FENCE_MS_MAX: u64 = 5_000;

static FENCES: AtomicU64 = AtomicU64::new(0);

/// The commit of one transaction: ranges to clear first, then writes.
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
        // Before the fence: the client may send the commit as long as the transaction exists.
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

    /// Passes all writes to the client.
    fn write(self, fence: &[u8]) -> FdbResult<(Arc<ClusterClient>, Transaction)> {
        let Self { client, transaction, cleared, writes } = self;
        transaction.set_option(TransactionOption::Timeout(millis(client.options.commit_ms_max)))?;
        transaction.add_conflict_range(fence, &after(fence), ConflictRangeType::Read)?;
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
    /// Commits a write to a fence key, which makes every commit fail that read the key before.
    async fn fence(&self, fence: &[u8]) -> FdbResult<()> {
        let mut transaction = self.database.create_trx()?;
        transaction.set_option(TransactionOption::Timeout(millis(FENCE_MS_MAX)))?;
        loop {
            // It reads what it writes, so that the client needs no key of its own.
            for kind in [ConflictRangeType::Read, ConflictRangeType::Write] {
                transaction.add_conflict_range(fence, &after(fence), kind)?;
            }
            match transaction.commit().await {
                Ok(_) => return Ok(()),
                Err(failed) => transaction = failed.on_error().await?,
            }
        }
    }
}
