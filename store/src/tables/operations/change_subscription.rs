//! Changes a subscription.
//!
//! - `SUBSCRIBE-1`: a tenant has at most `subscriptions_max` subscriptions.
//! - `SUBSCRIBE-2`: a second run finds the command's nonce in the row and changes nothing more.
//! - `SUBSCRIBE-3`: every change has an entry in the audit.
//! - `SUBSCRIBE-5`: a rotation ends no older key before the end of its own grace period. If there
//!   is no place for one more key, the rotation is rejected.

use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::Transaction;
use crate::tables::batch::{Batch, Initiator, Notice};
use crate::tables::rows::{
    AuditAction, DisabledReason, Row, SubscriptionKey, SubscriptionRow, SubscriptionStatus,
};
use crate::tables::{TableError, subscriptions};
use triggers_protocol::webhook::SigningKey;
use triggers_protocol::{EventTypePattern, RetryPolicy, SubscriptionId, Timestamp};

/// Keys of a subscription that sign at the same time.
const KEYS_MAX: usize = 5;

/// Changes a subscription. The reply is its new row.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeSubscription {
    /// Subscription to change.
    pub id: SubscriptionId,
    /// New values of its fields.
    pub change: SubscriptionChange,
    /// Origin of the request.
    pub by: Initiator,
}

/// Why a subscription was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotChanged {
    /// The tenant has no such subscription.
    NotFound,
    /// As many keys sign as may; the first of them ends at `free_at`.
    KeysFull {
        /// Time from which there is a place for another key.
        free_at: Timestamp,
    },
}

/// New values of a subscription; absent ones stay as they are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscriptionChange {
    /// URL of the endpoint.
    pub target_url: Option<String>,
    /// Patterns of the selected event types.
    pub event_types: Option<Vec<EventTypePattern>>,
    /// Description for people.
    pub description: Option<Option<String>>,
    /// Retry policy; `Some(None)` makes the tenant's apply.
    pub retry_policy: Option<Option<RetryPolicy>>,
    /// Maximum number of webhooks in flight.
    pub max_in_flight: Option<u32>,
    /// Whether webhooks are sent to it.
    pub active: Option<bool>,
    /// New signing key, and the time until which the older ones sign as well.
    pub key: Option<(SigningKey, Timestamp)>,
}

impl SubscriptionChange {
    fn apply(&self, row: &mut SubscriptionRow, at: Timestamp) -> Result<(), NotChanged> {
        let change = self.clone();
        if change.target_url.as_ref().is_some_and(|url| *url != row.target_url) {
            // The failures and the pause belong to the old endpoint.
            (row.failing_since, row.held_until) = (None, None);
        }
        row.target_url = change.target_url.unwrap_or_else(|| std::mem::take(&mut row.target_url));
        row.event_types =
            change.event_types.unwrap_or_else(|| std::mem::take(&mut row.event_types));
        row.description = change.description.unwrap_or_else(|| row.description.take());
        row.retry_policy = change.retry_policy.unwrap_or_else(|| row.retry_policy.take());
        row.max_in_flight = change.max_in_flight.unwrap_or(row.max_in_flight);
        match change.active {
            Some(true) => {
                (row.status, row.failing_since, row.held_until) =
                    (SubscriptionStatus::Active, None, None);
            }
            Some(false) if row.is_active() => {
                row.status = SubscriptionStatus::Disabled { reason: DisabledReason::Requested, at };
            }
            _ => {}
        }
        if let Some((new, older_end)) = change.key {
            for key in &mut row.keys {
                key.ends_at = Some(key.ends_at.map_or(older_end, |end| end.min(older_end)));
            }
            row.keys.retain(|key| key.ends_at.is_none_or(|end| end > at));
            let first_end = row.keys.iter().filter_map(|key| key.ends_at).min();
            if let Some(free_at) = first_end.filter(|_| row.keys.len() >= KEYS_MAX) {
                return Err(NotChanged::KeysFull { free_at });
            }
            row.keys.insert(0, SubscriptionKey { key: new, ends_at: None });
        }
        Ok(())
    }

    /// Action and detail for the audit. It names the fields only: their values may be secret.
    fn action(&self) -> (AuditAction, String) {
        let fields = [
            ("target_url", self.target_url.is_some()),
            ("event_types", self.event_types.is_some()),
            ("description", self.description.is_some()),
            ("retry_policy", self.retry_policy.is_some()),
            ("max_in_flight", self.max_in_flight.is_some()),
            ("status", self.active.is_some()),
        ];
        let changed: Vec<_> =
            fields.iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| *name).collect();
        let action = match (&self.key, self.active) {
            (Some(_), _) => AuditAction::SubscriptionRotated,
            (None, Some(false)) => AuditAction::SubscriptionDisabled,
            _ => AuditAction::SubscriptionUpdated,
        };
        (action, changed.join(", "))
    }
}

impl Operation for ChangeSubscription {
    type Reply = Result<SubscriptionRow, NotChanged>;

    fn footprint(&self) -> Footprint {
        Footprint::new(Selection::Alone, 1)
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Self::Reply, TableError> {
        let (id, at) = (self.id, stamp.at);
        let stored = subscriptions::read(tx, batch.keys, id).await?;
        let visible = stored.filter(|row| row.status != SubscriptionStatus::Deleted);
        let Some(mut row) = visible else { return Ok(Err(NotChanged::NotFound)) };
        if row.changed_by != stamp.nonce {
            let before = row.clone();
            if let Err(full) = self.change.apply(&mut row, at) {
                return Ok(Err(full));
            }
            if row != before {
                (row.updated_at, row.changed_by) = (at, stamp.nonce);
                tx.set(&batch.keys.subscription(id), &row.to_bytes());
                let (action, detail) = self.change.action();
                batch.audit(tx, at, &self.by, id, action, detail).await?;
                if !row.is_active() {
                    batch.note_due(id, Timestamp::EPOCH);
                }
            }
        }
        batch.notify(Notice::SubscriptionChanged(Box::new(row.clone())));
        Ok(Ok(row))
    }
}
