//! Many events, or many acknowledgements, in one request, with a result for each item.

use super::error::Detail;
use super::event::NewEvent;
use crate::{EventId, EventStatus, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Events to accept.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({"events": [
    {"event_type": "order.created", "payload": {"order_id": 17}},
    {"event_type": "order.paid", "payload": {"order_id": 17}},
]}))]
pub struct NewBatch<'a> {
    /// 1 to 1,000 events.
    #[schema(value_type = Vec<NewEvent<'static>>, min_items = 1, max_items = 1_000)]
    pub events: Vec<NewEvent<'a>>,
}

/// The results of a batch.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    /// Number of accepted items.
    pub success_count: usize,
    /// Number of rejected items.
    pub failure_count: usize,
    /// One result for each item, in order.
    pub results: Vec<BatchResult>,
}

/// The result of one item.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum BatchResult {
    /// The event is durable.
    Accepted {
        /// The item's place in the batch, from 0.
        index: usize,
        /// The event's id.
        #[schema(value_type = String, format = "uuid")]
        event_id: EventId,
        /// The status at acceptance: `received`.
        status: EventStatus,
        /// The event's time.
        #[schema(value_type = String, format = "date-time")]
        timestamp: Timestamp,
    },
    /// The item was rejected.
    Rejected {
        /// The item's place in the batch, from 0.
        index: usize,
        /// Why it was rejected.
        error: ItemError,
    },
}

/// Why one item failed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ItemError {
    /// One of the documented codes.
    #[schema(example = "VALIDATION_ERROR")]
    pub code: String,
    /// A sentence for people; it may change.
    pub message: String,
    /// The invalid members; only with validation errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub details: Vec<Detail>,
}

/// Events to acknowledge.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({"event_ids": ["019b76da-a800-7000-8000-000000000001"]}))]
pub struct Acknowledgements {
    /// 1 to 1,000 ids.
    #[schema(min_items = 1, max_items = 1_000)]
    pub event_ids: Vec<String>,
}

/// The results of acknowledgements.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AcknowledgeAnswer {
    /// Number of acknowledged events.
    pub success_count: usize,
    /// Number of rejected ids.
    pub failure_count: usize,
    /// One result for each id, in order.
    pub results: Vec<AcknowledgeResult>,
}

/// The result of one acknowledgement.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AcknowledgeResult {
    /// The event was changed, by this request or an earlier one.
    Delivered {
        /// The id as it was sent.
        #[schema(format = "uuid")]
        event_id: String,
        /// The status now; `delivered` after an acknowledgement.
        status: EventStatus,
    },
    /// The event does not exist, was deleted, or is not in the lease.
    Rejected {
        /// The id as it was sent.
        event_id: String,
        /// Why it was rejected.
        error: ItemError,
    },
}
