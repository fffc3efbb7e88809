//! Ends leases that have run out: each is a failed attempt.
//!
//! - `EXPIRE-1`: the failure counts from the lease's end, so retries do not depend on the time of
//!   this command.
//! - `EXPIRE-2`: one command ends at most [`ENDS_MAX`] leases, so its transaction stays small.

use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::{Prefetch, RangeRead, Transaction};
use crate::tables::batch::{Batch, Failure, OperationLimits};
use crate::tables::keys::{self, TenantKeys, id_of_key, time_of_due_key};
use crate::tables::rows::Claim;
use crate::tables::{TableError, inbox};

/// Leases ended in one transaction.
const ENDS_MAX: usize = 200;

/// Ends leases that have run out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpireLeases;

impl Operation for ExpireLeases {
    type Reply = ();

    fn footprint(&self) -> Footprint {
        Footprint { has_notices: true, ..Footprint::new(Selection::Expire, 1) }
    }

    fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        _limits: &OperationLimits,
        _stamp: &Stamp,
    ) {
        reads.key(keys::tenant(keys.tenant()));
        reads.first(keys.lease_ends(), ENDS_MAX + 1);
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<(), TableError> {
        let policy = batch.policy(tx).await?;
        let ends = RangeRead::first(batch.keys.lease_ends(), ENDS_MAX);
        let mut ended = 0_u64;
        let pairs = tx.range_snapshot(ends).await?.pairs;
        let is_over = |key: &[u8]| time_of_due_key(key).is_some_and(|end| end <= stamp.at);
        let over = pairs.iter().filter(|(key, _)| is_over(key));
        inbox::prefetch_rows(tx, batch.keys, over.filter_map(|(key, _)| id_of_key(key))).await?;
        for (key, _) in pairs {
            let (Some(id), Some(end)) = (id_of_key(&key), time_of_due_key(&key)) else { continue };
            if end > stamp.at {
                break;
            }
            match batch.read_row(tx, id).await? {
                Some((row, delivery)) if delivery.claim == (Claim::Leased { until: end }) => {
                    let draw = stamp.nonce.wrapping_add(ended);
                    let draw = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7;
                    let reason = "the lease ended without an acknowledgement".to_owned();
                    let nonce = stamp.nonce;
                    let failure = Failure { at: end, reason, retry_after: None, draw, nonce };
                    batch.fail_attempt(tx, row, delivery, &policy, failure);
                    ended += 1;
                }
                // The event was completed or leased again, and its index row is outdated.
                _ => tx.clear(&key),
            }
        }
        batch.leases_expired = true;
        Ok(())
    }
}
