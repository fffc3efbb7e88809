//! Ends leases that have run out: each is a failed attempt.
//!
//! - `EXPIRE-1`: the failure counts from the lease's end, so retries do not depend on the time of
//!   this command.
//! - `EXPIRE-2`: one command ends at most [`ENDS_MAX`] leases, so its transaction stays small.

use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::{Prefetch, RangeRead, Transaction};
use crate::tables::batch::{Batch, Failure, OperationLimits};
use crate::tables::keys::{self, TenantKeys, id_of_key, time_of_due_key};
use crate::tables::lease_rows::LeaseRows;
use crate::tables::rows::Claim;
use crate::tables::{TableError, inbox};
use triggers_protocol::{EventId, Timestamp};

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
        LeaseRows::prefetch(reads, keys);
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<(), TableError> {
        let policy = batch.policy(tx).await?;
        let over: Vec<(Timestamp, EventId)> = over(batch, tx, stamp.at).await?;
        inbox::prefetch_rows(tx, batch.keys, over.iter().map(|(_, id)| *id)).await?;
        for (ended, (end, id)) in (0_u64..).zip(over) {
            match batch.read_row(tx, id).await? {
                Some((row, delivery)) if delivery.claim == (Claim::Leased { until: end }) => {
                    let draw = stamp.nonce.wrapping_add(ended);
                    let draw = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7;
                    let reason = "the lease ended without an acknowledgement".to_owned();
                    let nonce = stamp.nonce;
                    let failure = Failure { at: end, reason, retry_after: None, draw, nonce };
                    batch.fail_attempt(tx, row, delivery, &policy, failure);
                }
                // The event was completed or leased again, and its index row is outdated; or this
                // is the end of a lease with members.
                _ => {
                    tx.clear(&batch.keys.lease_end(end, id));
                    tx.clear(&batch.keys.lease_members(id.to_bytes()));
                }
            }
        }
        batch.leases_expired = true;
        Ok(())
    }
}

/// Leases that have run out at `at`, each with its end.
async fn over(
    batch: &mut Batch<'_>,
    tx: &mut dyn Transaction,
    at: Timestamp,
) -> Result<Vec<(Timestamp, EventId)>, TableError> {
    let in_rows = batch.lease_rows(tx).await?.iter().filter(|row| row.until <= at);
    let mut over: Vec<_> =
        in_rows.flat_map(|row| row.events.iter().map(|id| (row.until, *id))).collect();
    let ends = RangeRead::first(batch.keys.lease_ends(), ENDS_MAX);
    for (key, _) in tx.range_snapshot(ends).await?.pairs {
        let (Some(id), Some(end)) = (id_of_key(&key), time_of_due_key(&key)) else { continue };
        if end > at {
            break;
        }
        over.push((end, id));
    }
    over.sort_unstable();
    over.truncate(ENDS_MAX);
    Ok(over)
}
