//! The rows of subscriptions, of their attempts, and of the audit.

use super::{Attempt, Row};
use bincode::{Decode, Encode};
use triggers_protocol::api::{AuditAction, DisabledReason};
use triggers_protocol::webhook::SigningKey;
use triggers_protocol::{EventType, EventTypePattern, RetryPolicy, SubscriptionId, Timestamp};

/// Status of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SubscriptionStatus {
    /// Webhooks are sent to it.
    Active,
    /// No webhooks are sent to it, and its waiting ones are given up.
    Disabled {
        /// Reason for disabling it.
        reason: DisabledReason,
        /// Time at which it was disabled.
        at: Timestamp,
    },
    /// It is invisible, and its row is removed once its webhooks are given up.
    Deleted,
}

/// A key that signs a subscription's webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SubscriptionKey {
    /// Secret of the key.
    pub key: SigningKey,
    /// Time from which the key does not sign, because a newer one replaced it.
    pub ends_at: Option<Timestamp>,
}

/// A subscription: events of some types are sent to a URL.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct SubscriptionRow {
    /// Id of the subscription.
    pub id: SubscriptionId,
    /// URL of the endpoint.
    pub target_url: String,
    /// Patterns of the selected types; empty selects every type.
    pub event_types: Vec<EventTypePattern>,
    /// Description for people.
    pub description: Option<String>,
    /// Keys that sign its webhooks, newest first.
    pub keys: Vec<SubscriptionKey>,
    /// Retry policy of the subscription; the tenant's decides if absent.
    pub retry_policy: Option<RetryPolicy>,
    /// Maximum number of its webhooks in flight.
    pub max_in_flight: u32,
    /// Status of the subscription.
    pub status: SubscriptionStatus,
    /// Time since which every attempt has failed.
    pub failing_since: Option<Timestamp>,
    /// Time until which no attempt begins, because the endpoint asked for a pause.
    pub held_until: Option<Timestamp>,
    /// Time at which it was created.
    pub created_at: Timestamp,
    /// Time of the last change by a request.
    pub updated_at: Timestamp,
    /// Nonce of the last command by which a request changed it.
    pub changed_by: u64,
}
impl Row for SubscriptionRow {}

impl SubscriptionRow {
    /// Whether webhooks are sent to it.
    pub fn is_active(&self) -> bool {
        self.status == SubscriptionStatus::Active
    }

    /// Whether it selects events of this type.
    pub fn selects(&self, event_type: &str) -> bool {
        EventTypePattern::selects(&self.event_types, event_type)
    }

    /// Keys that sign at `now`, newest first.
    pub fn signing_keys(&self, now: Timestamp) -> Vec<SigningKey> {
        let signs = |key: &&SubscriptionKey| key.ends_at.is_none_or(|end| end > now);
        self.keys.iter().filter(signs).map(|key| key.key.clone()).collect()
    }
}

/// An entry in a subscription's list of attempts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LoggedAttempt {
    /// Type of the event.
    pub event_type: EventType,
    /// The finished attempt.
    pub attempt: Attempt,
}
impl Row for LoggedAttempt {}

/// Author of a change in the audit.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Actor {
    /// Holder of the API key with this id.
    Key([u8; 16]),
    /// The broker itself.
    Broker,
}

/// An entry of the audit; its time is in its key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuditRow {
    /// Author of the change.
    pub actor: Actor,
    /// Kind of the change.
    pub action: AuditAction,
    /// Id of the changed subscription.
    pub target: String,
    /// Details or reason of the change, for people.
    pub detail: String,
    /// Address of the client; empty if the actor is the broker.
    pub source_ip: String,
    /// Id of the request; empty if the actor is the broker.
    pub request_id: String,
}
impl Row for AuditRow {}
