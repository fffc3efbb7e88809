//! Leases events to a consumer for a time.
//!
//! - `LEASE-1`: an event is leased to at most one consumer, because its rows are read serializably.
//! - `LEASE-2`: a token is valid only until its lease ends, and not in the next lease.
//! - `LEASE-3`: every lease is an attempt, numbered without gaps.
//! - `LEASE-4`: due retries are leased before events that were never attempted.
//! - `LEASE-5`: a second run finds the events of the first run by the command's nonce.

use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::{RangeRead, Transaction};
use crate::tables::batch::Batch;
use crate::tables::keys::{id_of_key, time_of_due_key};
use crate::tables::rows::{Claim, Delivery, EventRow, LeaseToken};
use crate::tables::{TableError, inbox};
use sha2::{Digest, Sha256};
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{Event, EventId, EventStatus, EventTypePattern};

/// Rows that a lease scans to find events of the wanted types.
const SCAN_ROWS_MAX: usize = 2_000;
const SCAN_PAGE: usize = 250;
/// Payload bytes at which a lease takes no more events.
const LEASE_BYTES_MAX: usize = 4 << 20;

/// Leases events to a consumer; the reply is empty if none is available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Maximum number of events.
    pub limit: usize,
    /// Patterns of the wanted types; empty selects every type.
    pub event_types: Vec<EventTypePattern>,
    /// Time for which the consumer holds the events.
    pub visibility: Duration,
}

/// An event that a consumer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The event after the lease began.
    pub event: Event,
    /// Token of the lease.
    pub token: LeaseToken,
}

impl Lease {
    fn is_full(&self, leased: &[Leased]) -> bool {
        let bytes: usize = leased.iter().map(|leased| leased.event.payload.len()).sum();
        leased.len() >= self.limit || bytes >= LEASE_BYTES_MAX
    }
}

/// The token of an event in the lease with this stamp.
fn token(stamp: &Stamp, id: EventId) -> LeaseToken {
    let digest = Sha256::new().chain_update(stamp.secret).chain_update(id.to_bytes()).finalize();
    let mut token = [0; 16];
    token.copy_from_slice(&digest[..16]);
    token
}

impl Operation for Lease {
    type Reply = Vec<Leased>;

    fn footprint(&self) -> Footprint {
        Footprint::new(Selection::Lease, self.limit.max(1))
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Vec<Leased>, TableError> {
        let mut leased = Vec::new();
        if let Some(ids) = batch.leased_before(tx, stamp.nonce).await? {
            // The inbox got no reply of the first run, so it does not know when the leases end.
            batch.lease_ends_changed = true;
            for &id in &ids {
                if let Some((row, _)) = batch.read_row(tx, id).await? {
                    let event = inbox::load_payload(tx, batch.keys, row).await?;
                    leased.push(Leased { event, token: token(stamp, id) });
                }
            }
            // A third run needs them if this run leases more for another command.
            batch.leased.push((stamp.nonce, ids));
            return Ok(leased);
        }
        self.lease_due(batch, tx, stamp, &mut leased).await?;
        self.lease_new(batch, tx, stamp, &mut leased).await?;
        if !leased.is_empty() {
            let ids = leased.iter().map(|leased| leased.event.id).collect();
            batch.leased.push((stamp.nonce, ids));
        }
        Ok(leased)
    }
}

impl Lease {
    /// Leases events whose next attempt is due, the longest due first.
    async fn lease_due(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
        leased: &mut Vec<Leased>,
    ) -> Result<(), TableError> {
        let due = batch.keys.waiting_until(stamp.at);
        let due = RangeRead::first(due, SCAN_PAGE.max(self.limit));
        for (key, _) in tx.range_snapshot(due).await?.pairs {
            let (Some(id), Some(due)) = (id_of_key(&key), time_of_due_key(&key)) else { continue };
            if self.is_full(leased) {
                break;
            }
            let Some((row, mut delivery)) = batch.read_row(tx, id).await? else { continue };
            if delivery.claim == (Claim::Waiting { due })
                && EventTypePattern::selects(&self.event_types, row.event.event_type.as_str())
            {
                tx.clear(&key);
                delivery.claim = Claim::None;
                leased.push(self.hand_out(batch, tx, stamp, row, delivery).await?);
            }
        }
        Ok(())
    }

    /// Leases events that were never attempted, or were replayed, oldest first.
    async fn lease_new(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
        leased: &mut Vec<Leased>,
    ) -> Result<(), TableError> {
        let mut range = batch.keys.queue_range(EventStatus::Received, EventId::ZERO, None);
        if is_planted(Bug::LeasedTwice) && batch.stored_subscriptions == 0 {
            range.end = batch.keys.queue_range(EventStatus::Queued, EventId::ZERO, None).end;
        }
        let mut rows_read = 0;
        while rows_read < SCAN_ROWS_MAX && !self.is_full(leased) {
            let page = tx.range_snapshot(RangeRead::first(range.clone(), SCAN_PAGE)).await?;
            for (key, event_type) in &page.pairs {
                rows_read += 1;
                let is_selected = std::str::from_utf8(event_type)
                    .is_ok_and(|text| EventTypePattern::selects(&self.event_types, text));
                let Some(id) = id_of_key(key).filter(|_| is_selected) else { continue };
                if self.is_full(leased) {
                    return Ok(());
                }
                let Some((row, delivery)) = batch.read_row(tx, id).await? else { continue };
                leased.push(self.hand_out(batch, tx, stamp, row, delivery).await?);
            }
            match page.pairs.last() {
                Some((last, _)) if page.has_more => range.begin = [&last[..], &[0]].concat().into(),
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Leases one event: a new attempt begins.
    async fn hand_out(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
        mut row: EventRow,
        mut delivery: Delivery,
    ) -> Result<Leased, TableError> {
        let (id, state) = (row.event.id, &mut row.event.state);
        let before = std::mem::replace(&mut state.status, EventStatus::Queued);
        state.attempts += 1;
        state.last_attempt_at = Some(stamp.at);
        state.next_retry_at = None;
        let (token, until) = (token(stamp, id), stamp.at.plus(self.visibility));
        delivery.claim = Claim::Leased { until };
        delivery.token = Some(token);
        delivery.changed_by = stamp.nonce;
        batch.begin_attempt(tx, id, &mut delivery, state.attempts, stamp.at, None).await?;
        tx.set(&batch.keys.lease_end(until, id), &[]);
        batch.lease_ends_changed = true;
        batch.move_row(tx, &row, delivery, before);
        Ok(Leased { event: inbox::load_payload(tx, batch.keys, row).await?, token })
    }
}
