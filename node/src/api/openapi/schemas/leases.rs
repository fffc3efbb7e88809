//! What requests of consumers that lease look like, for the OpenAPI document.
//!
//! Invariant: `LEASE-SCHEMAS-1` the example of each type is accepted by the parser of its handler, which tests check. They are
//! not used at run time; handlers read bodies member by member.

use utoipa::ToSchema;

/// Events to lease.
#[derive(ToSchema)]
#[schema(example = json!({"limit": 10, "event_types": ["order.*"], "visibility_timeout_seconds": 60, "wait_seconds": 10}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct LeaseRequest {
    /// Events at most; 50 if absent.
    #[schema(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// Event types, or prefixes such as `order.*`; everything if absent or empty.
    #[schema(max_items = 100)]
    event_types: Option<Vec<String>>,
    /// How long the events are held, in seconds; 30 if absent.
    #[schema(minimum = 1, maximum = 43_200)]
    visibility_timeout_seconds: Option<u32>,
    /// How long to wait for a first event, in seconds; not at all if absent.
    #[schema(minimum = 0, maximum = 20)]
    wait_seconds: Option<u32>,
}

/// A lease to hold longer.
#[derive(ToSchema)]
#[schema(example = json!({"lease_token": "0123456789abcdef0123456789abcdef", "visibility_timeout_seconds": 60}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct LeaseExtension {
    /// The token of the lease.
    lease_token: String,
    /// How long the event is held from now on, in seconds.
    #[schema(minimum = 1, maximum = 43_200)]
    visibility_timeout_seconds: u32,
}

/// Why an event is given back.
#[derive(ToSchema)]
#[schema(as = Nack, example = json!({"reason": "the warehouse does not answer", "retry_after_seconds": 30}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct Refusal {
    /// What went wrong, for `last_error`.
    #[schema(max_length = 1024)]
    reason: Option<String>,
    /// When the next attempt is due, in seconds; the retry policy decides if absent.
    #[schema(minimum = 0, maximum = 86_400)]
    retry_after_seconds: Option<u32>,
    /// The token of the lease.
    lease_token: Option<String>,
}

/// Which events to deliver again.
#[derive(ToSchema)]
#[schema(example = json!({"status": "failed", "event_type": "order.*", "from_timestamp": "2026-01-01T00:00:00Z"}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct InboxReplay {
    /// Events in this status.
    status: ReplayedStatus,
    /// An event type, or a prefix such as `order.*`; everything if absent.
    event_type: Option<String>,
    /// Accepted at this time or later.
    #[schema(format = "date-time")]
    from_timestamp: Option<String>,
    /// Accepted at this time or earlier.
    #[schema(format = "date-time")]
    to_timestamp: Option<String>,
    /// Where to go on, from the answer before.
    cursor: Option<String>,
}

/// What can be delivered again.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) enum ReplayedStatus {
    /// Given up after the last attempt.
    Failed,
    /// Acknowledged.
    Delivered,
}
