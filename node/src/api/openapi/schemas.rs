//! What requests look like, for the OpenAPI document.
//!
//! Handlers read bodies member by member, without these types, so that they can name every fault and keep payloads as
//! sent. Invariant: `SCHEMAS-1` the example of each type is accepted by the parser of its handler, which tests check. They
//! are not used at run time.

pub(crate) mod leases;
pub(crate) mod subscriptions;

use std::collections::BTreeMap;
use utoipa::ToSchema;

/// An event to accept.
#[derive(ToSchema)]
#[schema(example = json!({"event_type": "order.created", "payload": {"order_id": 17, "total": "12.50"}, "timestamp": "2026-01-01T00:00:00.000Z"}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct NewEvent {
    /// 1 to 128 characters, dot-separated segments.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$")]
    event_type: String,
    /// A JSON object of at most 1 MiB, kept byte for byte. It must be I-JSON (RFC 7493).
    #[schema(value_type = Object)]
    payload: BTreeMap<String, String>,
    /// The sender's time; the time of acceptance if absent.
    #[schema(format = "date-time", nullable = false)]
    timestamp: Option<String>,
}

/// Events to accept.
#[derive(ToSchema)]
#[schema(example = json!({"events": [{"event_type": "order.created", "payload": {"order_id": 17}}, {"event_type": "order.paid", "payload": {"order_id": 17}}]}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct NewBatch {
    /// 1 to 1,000 events.
    #[schema(min_items = 1, max_items = 1_000)]
    events: Vec<NewEvent>,
}

/// A CloudEvent 1.0 whose data is a JSON object.
#[derive(ToSchema)]
#[schema(example = json!({"specversion": "1.0", "id": "17", "source": "/shop", "type": "order.created", "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json", "data": {"order_id": 17}}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct CloudEvent {
    /// `1.0`
    specversion: String,
    /// With `source`, the idempotency key if no other is sent.
    #[schema(min_length = 1, max_length = 1024)]
    id: String,
    /// Where it comes from.
    #[schema(min_length = 1, max_length = 1024)]
    source: String,
    /// The event type.
    #[schema(min_length = 1, max_length = 128)]
    r#type: String,
    /// The sender's time.
    #[schema(format = "date-time", nullable = false)]
    time: Option<String>,
    /// `application/json` if present.
    #[schema(nullable = false)]
    datacontenttype: Option<String>,
    /// The payload.
    #[schema(value_type = Object)]
    data: BTreeMap<String, String>,
}

/// An acknowledgement.
#[derive(ToSchema)]
#[schema(example = json!({}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct Acknowledgement {
    /// The token of the lease under which the event was pulled, if it was leased.
    lease_token: Option<String>,
}

/// Events to acknowledge.
#[derive(ToSchema)]
#[schema(example = json!({"event_ids": ["019b76da-a800-7000-8000-000000000001"]}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct Acknowledgements {
    /// 1 to 1,000 ids.
    #[schema(min_items = 1, max_items = 1_000)]
    event_ids: Vec<String>,
}

/// A key to make.
#[derive(ToSchema)]
#[schema(example = json!({"name": "shop backend", "scopes": ["events:write"]}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct NewKey {
    /// A name for people.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Another tenant, for an admin.
    tenant_id: Option<String>,
    /// What it may do; those of the key that makes it, without `admin`, if absent.
    scopes: Option<Vec<ScopeSchema>>,
    /// Requests a minute; the tenant's tier decides if absent.
    #[schema(minimum = 1, maximum = 100_000_000)]
    rate_limit_per_minute: Option<u32>,
    /// From when on it is refused; never if absent.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
}

/// A permission.
#[derive(ToSchema)]
#[schema(as = Scope)]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) enum ScopeSchema {
    /// Post events.
    #[schema(rename = "events:write")]
    EventsWrite,
    /// List and follow the inbox, read events and statistics.
    #[schema(rename = "inbox:read")]
    InboxRead,
    /// Lease, acknowledge, replay and delete events.
    #[schema(rename = "inbox:ack")]
    InboxAck,
    /// Manage subscriptions.
    #[schema(rename = "subscriptions:manage")]
    SubscriptionsManage,
    /// Manage the tenant's keys.
    #[schema(rename = "keys:manage")]
    KeysManage,
    /// Everything, for all tenants.
    #[schema(rename = "admin")]
    Admin,
}

/// How a key is rotated.
#[derive(ToSchema)]
#[schema(example = json!({"grace_seconds": 3600}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct KeyRotation {
    /// How long the old key works on; 0 if absent.
    #[schema(minimum = 0, maximum = 604_800)]
    grace_seconds: Option<u32>,
}

/// A tenant to make.
#[derive(ToSchema)]
#[schema(example = json!({"id": "acme", "name": "Acme Ltd", "tier": "beta", "retention_days": 90}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct NewTenant {
    /// 1 to 63 characters; made if absent.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{0,62}$")]
    id: Option<String>,
    /// A name for people.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// What sets the request rate of its keys; the default rate if absent.
    tier: Option<TierSchema>,
    /// How long events are kept, in days; 30 if absent.
    #[schema(minimum = 1, maximum = 365)]
    retention_days: Option<u16>,
    /// Events that may wait at most; no limit if absent.
    #[schema(minimum = 1)]
    max_inbox_events: Option<u64>,
    /// When a failed delivery is tried again; after 1 min, 5 min, 30 min and 2 h if absent.
    retry_policy: Option<RetryPolicySchema>,
    /// Feature flags.
    flags: Option<BTreeMap<String, bool>>,
}

/// A change of a tenant.
#[derive(ToSchema)]
#[schema(example = json!({"max_inbox_events": 5_000_000}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct TenantPatch {
    /// A name for people.
    #[schema(min_length = 1, max_length = 200, nullable = false)]
    name: Option<String>,
    /// What sets the request rate of its keys.
    tier: Option<TierSchema>,
    /// How long events are kept, in days.
    #[schema(minimum = 1, maximum = 365)]
    retention_days: Option<u16>,
    /// Events that may wait at most.
    #[schema(minimum = 1)]
    max_inbox_events: Option<u64>,
    /// When a failed delivery is tried again.
    retry_policy: Option<RetryPolicySchema>,
    /// Feature flags; all of them are replaced.
    flags: Option<BTreeMap<String, bool>>,
}

/// `standard`: 10 requests a second; `beta`: 100.
#[derive(ToSchema)]
#[schema(as = Tier, rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) enum TierSchema {
    /// 10 requests a second.
    Standard,
    /// 100 requests a second.
    Beta,
}

/// When a failed delivery is tried again, in seconds. The delays sum to at most 30 days.
#[derive(ToSchema)]
#[schema(as = RetryPolicy)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) enum RetryPolicySchema {
    /// One delay after each failed attempt.
    Delays {
        /// Up to 20 delays.
        #[schema(max_items = 20)]
        delays_seconds: Vec<u32>,
    },
    /// Delays that grow by a factor up to a maximum.
    Exponential {
        /// Before the second attempt.
        initial: u32,
        /// At least 1.
        #[schema(minimum = 1, maximum = 1000)]
        factor: f64,
        /// No delay exceeds it.
        max: u32,
        /// The first one included.
        #[schema(minimum = 1, maximum = 21)]
        max_attempts: u32,
    },
}

/// An error as RFC 9457 has it, for clients that accept `application/problem+json`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct Problem {
    /// Names the error's code.
    r#type: String,
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// A sentence for people.
    detail: String,
    /// Names this occurrence.
    instance: String,
    /// The same as in the other form.
    error: crate::http::error::ErrorMember,
}
