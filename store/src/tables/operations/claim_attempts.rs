//! Claims attempts to a subscription: they begin in a transaction, before webhooks are sent.
//!
//! - `ATTEMPT-1`: an attempt is stored as begun before its webhook is sent, with the time at which
//!   it counts as interrupted if no result is stored.
//! - `ATTEMPT-2`: an interrupted attempt ends as failed, and the next one begins at once. The retry
//!   policy does not count it, but a webhook is given up after [`INTERRUPTIONS_MAX`] of them.
//! - `ATTEMPT-3`: attempts begin in the order in which they are due.
//! - `ATTEMPT-4`: a second run finds the attempts of the first run by the command's nonce.
//! - `ATTEMPT-5`: an attempt begins only if the subscription selects the event now; otherwise its
//!   webhook is skipped.

use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::{Prefetch, Transaction};
use crate::tables::batch::{
    AttemptEnd, Batch, Claimed, INTERRUPTED, Notice, OperationLimits, TRANSACTION_BYTES_AIMED,
    end_attempt,
};
use crate::tables::keys::{TenantKeys, id_of_key, time_of_due_key};
use crate::tables::rows::{AttemptOutcome, Push, PushState, SubscriptionRow};
use crate::tables::webhook_marks::{DuePosition, WebhookMark, read_due};
use crate::tables::{TableError, inbox};
use triggers_protocol::{Event, EventId, SubscriptionId, Timestamp};

/// Interrupted attempts to send one webhook.
const INTERRUPTIONS_MAX: u32 = 10;
/// Reason for skipping a webhook.
const NOT_SELECTED: &str = "the subscription does not select events of this type any more";
/// Payload bytes at which a batch claims no more attempts.
const CLAIM_BYTES_MAX: usize = 4 << 20;

/// Begins due attempts to a subscription. The inbox gets them in a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimAttempts {
    /// Target of the attempts.
    pub subscription: SubscriptionId,
    /// Maximum number of attempts.
    pub limit: usize,
}

/// Parameters of one run of a claim.
struct Claim<'a> {
    subscription: &'a SubscriptionRow,
    at: Timestamp,
    until: Timestamp,
    nonce: u64,
    limit: usize,
}

impl Operation for ClaimAttempts {
    type Reply = ();

    fn footprint(&self) -> Footprint {
        // A claim works on events that no lease touches, and skips those that its batch names.
        Footprint { has_notices: true, ..Footprint::new(Selection::New, self.limit) }
    }

    fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        _limits: &OperationLimits,
        stamp: &Stamp,
    ) {
        reads.key(keys.subscription(self.subscription));
        reads.key(keys.recent_leases());
        // The claimed ones, those that the batch completes, and the next one.
        let mark = stamp.webhook_mark.unwrap_or(WebhookMark::UNKNOWN);
        mark.prefetch(reads, keys, self.subscription, 2 * self.limit + 1);
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<(), TableError> {
        let Stamp { at, nonce, .. } = *stamp;
        let until = at.plus(batch.limits.attempt_time);
        let subscription = self.subscription;
        let (mut attempts, mut next) = (Vec::new(), None);
        let stored = batch.attempted(tx, subscription).await?;
        if let Some(row) = stored.filter(|row| row.is_active()) {
            let claim = Claim { subscription: &row, at, until, nonce, limit: self.limit };
            attempts = match batch.leased_before(tx, nonce).await? {
                Some(ids) => claim.repeat(batch, tx, ids).await?,
                None => claim.begin_due(batch, tx).await?,
            };
            if !attempts.is_empty() {
                let ids = attempts.iter().map(|claimed| claimed.event.id).collect();
                batch.leased.push((nonce, ids));
            }
            next = batch.first_due(tx, subscription).await?;
        }
        batch.notify(Notice::Claimed { subscription, attempts, next, until });
        Ok(())
    }
}

impl Claim<'_> {
    /// Attempts that an earlier run of this command began and that still run.
    async fn repeat(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        ids: Vec<EventId>,
    ) -> Result<Vec<Claimed>, TableError> {
        let own = PushState::Running { until: self.until, token: self.nonce };
        let mut attempts = Vec::with_capacity(ids.len());
        inbox::prefetch_rows(tx, batch.keys, ids.iter().copied()).await?;
        for id in ids {
            let Some((row, mut delivery)) = batch.read_pushed(tx, id).await? else { continue };
            if delivery.push_mut(self.subscription.id).is_some_and(|push| push.state == own) {
                let event = inbox::load_payload(tx, batch.keys, row).await?;
                attempts.push(Claimed { event, token: self.nonce });
            }
        }
        Ok(attempts)
    }

    async fn begin_due(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
    ) -> Result<Vec<Claimed>, TableError> {
        let subscription = self.subscription.id;
        let (mark, limit) = (batch.webhook_mark(subscription), self.limit + batch.completed.len());
        let (keys, at) = (batch.keys, Some(self.at));
        let pairs = read_due(tx, keys, subscription, &mark, at, limit).await?.pairs;
        let (mut attempts, mut searched, mut is_complete) = (Vec::new(), None, true);
        let ids = pairs.iter().filter_map(|(key, _)| id_of_key(key)).take(self.limit);
        inbox::prefetch_rows(tx, batch.keys, ids).await?;
        for (key, _) in pairs {
            let is_full = batch.claimed_bytes >= CLAIM_BYTES_MAX
                || tx.approximate_size() > TRANSACTION_BYTES_AIMED;
            if attempts.len() >= self.limit || is_full {
                break;
            }
            let (Some(id), Some(due)) = (id_of_key(&key), time_of_due_key(&key)) else { continue };
            if batch.completed.contains(&id) {
                is_complete = false;
                continue;
            }
            if is_complete {
                searched = Some(DuePosition::new(due, id));
            }
            match self.begin(batch, tx, id, due).await? {
                Some(event) => {
                    batch.claimed_bytes += event.payload.len();
                    attempts.push(Claimed { event, token: self.nonce });
                }
                // The webhook is finished, and its index row is outdated.
                None => tx.clear(&key),
            }
        }
        if let Some(searched) = searched {
            let mut mark = batch.webhook_mark(subscription);
            mark.searched(searched);
            batch.set_webhook_mark(subscription, mark);
        }
        Ok(attempts)
    }

    /// Begins an attempt to send a due webhook; none if there is no such webhook, the subscription
    /// does not select its event, or its attempts were interrupted too often.
    async fn begin(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        id: EventId,
        due: Timestamp,
    ) -> Result<Option<Event>, TableError> {
        let subscription = self.subscription.id;
        let Some((mut row, mut delivery)) = batch.read_pushed(tx, id).await? else {
            return Ok(None);
        };
        let is_here = |push: &&mut Push| push.state.due() == Some(due);
        let Some(push) = delivery.push_mut(subscription).filter(is_here) else { return Ok(None) };
        let was_interrupted = matches!(push.state, PushState::Running { .. });
        if push.failures == 0 && push.interruptions == 0 && !was_interrupted {
            // The total time of the retry policy starts with the first attempt.
            push.since = self.at;
        }
        push.interruptions += u32::from(was_interrupted);
        let is_selected = self.subscription.selects(row.event.event_type.as_str());
        let state = if !is_selected {
            PushState::Skipped
        } else if push.interruptions > INTERRUPTIONS_MAX {
            PushState::Dropped
        } else {
            PushState::Running { until: self.until, token: self.nonce }
        };
        let is_ended = state.due().is_none();
        batch.move_push(tx, id, push, state);
        if was_interrupted {
            let end = AttemptEnd { at: due, outcome: AttemptOutcome::Failed, http_status: None };
            if let Some(ended) = end_attempt(&mut delivery, subscription, end, Some(INTERRUPTED)) {
                batch.log_attempt(tx, id, &row.event.event_type, ended);
            }
            row.event.state.last_error = Some(INTERRUPTED.to_owned());
        }
        if !is_selected && delivery.pushes.iter().all(|push| push.state != PushState::Delivered) {
            row.event.state.last_error = Some(NOT_SELECTED.to_owned());
        }
        if !is_ended {
            row.event.state.attempts += 1;
            row.event.state.last_attempt_at = Some(self.at);
            let number = row.event.state.attempts;
            let subscription = Some(subscription);
            batch.begin_attempt(tx, id, &mut delivery, number, self.at, subscription).await?;
        }
        batch.put_pushed(tx, &mut row, delivery, self.at);
        if is_ended {
            return Ok(None);
        }
        Ok(Some(inbox::load_payload(tx, batch.keys, row).await?))
    }
}
