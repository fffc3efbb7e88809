//! The rows of subscriptions, of their attempts, and of the audit. What changes them is in `tables::subscriptions`.

use super::{Attempt, Row};
use bincode::{Decode, Encode};
use triggers_protocol::api::{AuditAction, DisabledReason};
use triggers_protocol::webhook::SigningKey;
use triggers_protocol::{EventType, EventTypePattern, RetryPolicy, SubscriptionId, Timestamp};

/// Whether a subscription is delivered to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SubscriptionStatus {
    /// It is.
    Active,
    /// It is not, and what waited for it has been given up.
    Disabled {
        /// Why.
        reason: DisabledReason,
        /// Since when.
        at: Timestamp,
    },
    /// It is about to be removed, as soon as nothing waits for it any more.
    Deleted,
}

/// A key that signs a subscription's webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SubscriptionKey {
    /// The key.
    pub key: SigningKey,
    /// From when on it signs no more, because another one has taken its place.
    pub ends_at: Option<Timestamp>,
}

/// A subscription: events of some types are sent to a URL.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct SubscriptionRow {
    /// The id.
    pub id: SubscriptionId,
    /// Where to.
    pub target_url: String,
    /// Any of these; empty selects everything.
    pub event_types: Vec<EventTypePattern>,
    /// A note for people.
    pub description: Option<String>,
    /// What signs, the newest first.
    pub keys: Vec<SubscriptionKey>,
    /// The subscription's own retry policy; the tenant's decides if absent.
    pub retry_policy: Option<RetryPolicy>,
    /// Webhooks on their way to it at the same time.
    pub max_in_flight: u32,
    /// Whether it is delivered to.
    pub status: SubscriptionStatus,
    /// Since when every attempt has failed.
    pub failing_since: Option<Timestamp>,
    /// Until when its endpoint has asked to be left alone.
    pub held_until: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When whoever manages it changed it last.
    pub updated_at: Timestamp,
    /// The command that changed it last.
    pub changed_by: u64,
}
impl Row for SubscriptionRow {}

impl SubscriptionRow {
    /// Whether it is delivered to.
    pub fn is_active(&self) -> bool {
        self.status == SubscriptionStatus::Active
    }

    /// Whether it selects events of this type.
    pub fn selects(&self, event_type: &str) -> bool {
        self.event_types.is_empty()
            || self.event_types.iter().any(|pattern| pattern.matches(event_type))
    }

    /// The keys that sign at `now`, the newest first.
    pub fn signing_keys(&self, now: Timestamp) -> Vec<SigningKey> {
        let signs = |key: &&SubscriptionKey| key.ends_at.is_none_or(|end| end > now);
        self.keys.iter().filter(signs).map(|key| key.key.clone()).collect()
    }
}

/// An attempt as a subscription lists it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LoggedAttempt {
    /// The event's type.
    pub event_type: EventType,
    /// The attempt.
    pub attempt: Attempt,
}
impl Row for LoggedAttempt {}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Actor {
    /// The holder of the key with this id.
    Key([u8; 16]),
    /// The broker itself.
    Broker,
}

/// Who did what to what, when, from where.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuditRow {
    /// Who.
    pub actor: Actor,
    /// What.
    pub action: AuditAction,
    /// To what: an id.
    pub target: String,
    /// Why, or how, in words.
    pub detail: String,
    /// The sender's address; empty if the broker did it.
    pub source_ip: String,
    /// The request's id; empty if the broker did it.
    pub request_id: String,
}
impl Row for AuditRow {}
