//! Ending leases that have run out: each is a failed attempt.
//!
//! Invariant: `EXPIRE-1` the failure counts from the lease's end, however late it is noticed, so that the schedule does not
//! depend on who looks when; `EXPIRE-2` one command ends at most [`ENDS_MAX`] leases, so that its transaction stays small.

use super::lease::Failure;
use super::{Batch, Outcome, TableError};
use crate::kv::{RangeRead, Transaction};
use crate::tables::keys::{id_of_key, time_of_due_key};
use crate::tables::rows::Claim;
use triggers_protocol::Timestamp;

/// Leases ended in one transaction.
const ENDS_MAX: usize = 200;

impl Batch<'_> {
    pub(super) async fn expire(
        &mut self,
        tx: &mut dyn Transaction,
        at: Timestamp,
        seed: u64,
    ) -> Result<Outcome, TableError> {
        let policy = self.policy(tx).await?;
        let ends = tx.range_snapshot(RangeRead::first(self.keys.lease_ends(), ENDS_MAX)).await?;
        let mut ended = 0;
        for (key, _) in ends.pairs {
            let (Some(id), Some(end)) = (id_of_key(&key), time_of_due_key(&key)) else { continue };
            if end > at {
                break;
            }
            match self.read_row(tx, id).await? {
                Some((row, delivery)) if delivery.claim == (Claim::Leased { until: end }) => {
                    let draw =
                        seed.wrapping_add(ended as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7;
                    let reason = "the lease ended without an acknowledgement".to_owned();
                    let failure = Failure { at: end, reason, retry_after: None, draw };
                    self.fail_attempt(tx, row, delivery, &policy, failure, seed);
                    ended += 1;
                }
                // The event was settled or leased again; its index entry went with that.
                _ => tx.clear(&key),
            }
        }
        self.leases_expired = true;
        Ok(Outcome::Expired(ended))
    }
}
