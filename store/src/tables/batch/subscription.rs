//! Making, changing and removing subscriptions. Each command goes alone in its batch.
//!
//! Invariants: `SUBSCRIBE-1` a tenant has no more subscriptions than it may; `SUBSCRIBE-2` a repeated command finds its nonce
//! on the row and changes nothing more; `SUBSCRIBE-3` every change has an entry in the audit; `SUBSCRIBE-4` a subscription
//! that is removed is gone at once for whoever asks, and its row goes when nothing waits for it any more.

use super::{Batch, Outcome, TableError};
use crate::kv::{RangeRead, Transaction};
use crate::tables::keys::number_of_audit;
use crate::tables::rows::{
    Actor, AuditAction, AuditRow, DisabledReason, Row, SubscriptionKey, SubscriptionRow,
    SubscriptionStatus,
};
use crate::tables::subscriptions;
use triggers_protocol::webhook::SigningKey;
use triggers_protocol::{EventTypePattern, RetryPolicy, SubscriptionId, Timestamp};

/// Keys of a subscription that sign at the same time.
const KEYS_MAX: usize = 5;

/// Who changes something, for the audit, and what tells the change from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// The sender's address.
    pub source_ip: String,
    /// The request's id.
    pub request_id: String,
    /// Tells this command from others.
    pub nonce: u64,
}

/// What is to change; none leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscriptionChange {
    /// Where to.
    pub target_url: Option<String>,
    /// Which events.
    pub event_types: Option<Vec<EventTypePattern>>,
    /// A note for people.
    pub description: Option<Option<String>>,
    /// Its own retry policy.
    pub retry_policy: Option<Option<RetryPolicy>>,
    /// Webhooks on their way at the same time.
    pub max_in_flight: Option<u32>,
    /// Whether it is delivered to.
    pub active: Option<bool>,
    /// A new key, and until when the older ones sign as well.
    pub key: Option<(SigningKey, Timestamp)>,
}

impl SubscriptionChange {
    fn apply(&self, row: &mut SubscriptionRow, at: Timestamp) {
        let Self { target_url, event_types, description, retry_policy, max_in_flight, active, key } =
            self.clone();
        if target_url.as_ref().is_some_and(|url| *url != row.target_url) {
            // What is known of the endpoint is not true of another one.
            (row.failing_since, row.held_until) = (None, None);
        }
        row.target_url = target_url.unwrap_or_else(|| std::mem::take(&mut row.target_url));
        row.event_types = event_types.unwrap_or_else(|| std::mem::take(&mut row.event_types));
        row.description = description.unwrap_or_else(|| row.description.take());
        row.retry_policy = retry_policy.unwrap_or_else(|| row.retry_policy.take());
        row.max_in_flight = max_in_flight.unwrap_or(row.max_in_flight);
        match active {
            Some(true) => {
                (row.status, row.failing_since, row.held_until) =
                    (SubscriptionStatus::Active, None, None);
            }
            Some(false) if row.is_active() => {
                row.status = SubscriptionStatus::Disabled { reason: DisabledReason::Requested, at };
            }
            _ => {}
        }
        if let Some((new, older_end)) = key {
            row.keys.retain(|key| key.ends_at.is_none_or(|end| end > at));
            for key in &mut row.keys {
                key.ends_at = Some(key.ends_at.map_or(older_end, |end| end.min(older_end)));
            }
            row.keys.insert(0, SubscriptionKey { key: new, ends_at: None });
            row.keys.truncate(KEYS_MAX);
        }
    }

    /// What was done, for the audit; the fields are named, their values may be secret.
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

/// A URL without its path and query, which may be secret.
fn host(target_url: &str) -> String {
    let begin = target_url.find("://").map_or(0, |at| at + 3);
    let end = target_url[begin..].find(['/', '?', '#']).map_or(target_url.len(), |at| begin + at);
    target_url[..end].to_owned()
}

impl Batch<'_> {
    pub(super) async fn subscribe(
        &mut self,
        tx: &mut dyn Transaction,
        row: &SubscriptionRow,
        subscriptions_max: u32,
        by: &By,
    ) -> Result<Outcome, TableError> {
        if let Some(stored) = subscriptions::read(tx, self.keys, row.id).await? {
            return Ok(Outcome::Subscribed(Box::new(stored)));
        }
        if self.stored_subscriptions >= subscriptions_max {
            return Ok(Outcome::TooMany);
        }
        let row = SubscriptionRow { changed_by: by.nonce, ..row.clone() };
        self.stored_subscriptions += 1;
        tx.set(&self.keys.subscription(row.id), &row.to_bytes());
        self.audit_change(
            tx,
            row.created_at,
            (AuditAction::SubscriptionCreated, host(&row.target_url)),
            row.id,
            by,
        )
        .await?;
        Ok(Outcome::Subscribed(Box::new(row)))
    }

    pub(super) async fn change_subscription(
        &mut self,
        tx: &mut dyn Transaction,
        id: SubscriptionId,
        change: &SubscriptionChange,
        at: Timestamp,
        by: &By,
    ) -> Result<Outcome, TableError> {
        let Some(mut row) = self.visible(tx, id).await? else { return Ok(Outcome::NotFound) };
        if row.changed_by != by.nonce {
            let before = row.clone();
            change.apply(&mut row, at);
            if row != before {
                (row.updated_at, row.changed_by) = (at, by.nonce);
                tx.set(&self.keys.subscription(id), &row.to_bytes());
                self.audit_change(tx, at, change.action(), id, by).await?;
                if !row.is_active() {
                    self.note_due(id, Timestamp::EPOCH);
                }
            }
        }
        Ok(Outcome::Subscribed(Box::new(row)))
    }

    pub(super) async fn unsubscribe(
        &mut self,
        tx: &mut dyn Transaction,
        id: SubscriptionId,
        at: Timestamp,
        by: &By,
    ) -> Result<Outcome, TableError> {
        let stored = subscriptions::read(tx, self.keys, id).await?;
        let Some(mut row) = stored else { return Ok(Outcome::NotFound) };
        if row.status == SubscriptionStatus::Deleted {
            return Ok(if row.changed_by == by.nonce {
                Outcome::Deleted
            } else {
                Outcome::NotFound
            });
        }
        (row.status, row.changed_by) = (SubscriptionStatus::Deleted, by.nonce);
        // Whoever reads the store from now on has no use for the secrets.
        row.keys.clear();
        tx.set(&self.keys.subscription(id), &row.to_bytes());
        self.note_due(id, Timestamp::EPOCH);
        self.audit_change(
            tx,
            at,
            (AuditAction::SubscriptionDeleted, host(&row.target_url)),
            id,
            by,
        )
        .await?;
        Ok(Outcome::Deleted)
    }

    async fn visible(
        &self,
        tx: &mut dyn Transaction,
        id: SubscriptionId,
    ) -> Result<Option<SubscriptionRow>, TableError> {
        let row = subscriptions::read(tx, self.keys, id).await?;
        Ok(row.filter(|row| row.status != SubscriptionStatus::Deleted))
    }

    async fn audit_change(
        &self,
        tx: &mut dyn Transaction,
        at: Timestamp,
        (action, detail): (AuditAction, String),
        target: SubscriptionId,
        by: &By,
    ) -> Result<(), TableError> {
        let By { actor, source_ip, request_id, .. } = by.clone();
        let row =
            AuditRow { actor, action, target: target.to_string(), detail, source_ip, request_id };
        self.audit(tx, at, &row).await
    }

    /// Adds an entry to the audit, numbered on from the last one: entries of one moment stay in their order.
    pub(super) async fn audit(
        &self,
        tx: &mut dyn Transaction,
        at: Timestamp,
        row: &AuditRow,
    ) -> Result<(), TableError> {
        let last = RangeRead { range: self.keys.audits(), limit: 1, is_reverse: true };
        let last = tx.range_snapshot(last).await?;
        let number = last
            .pairs
            .first()
            .and_then(|(key, _)| number_of_audit(key))
            .map_or(0, |number| number + 1);
        tx.set(&self.keys.audit(at, number), &row.to_bytes());
        Ok(())
    }
}
