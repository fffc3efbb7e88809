//! A tenant in numbers.

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A tenant in numbers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// Events by status.
    pub counts: StatsCounts,
    /// Events accepted a second, over the last minute.
    #[schema(example = 12.5)]
    pub ingested_per_second: f64,
    /// Events acknowledged a second, over the last minute.
    #[schema(example = 12.5)]
    pub delivered_per_second: f64,
    /// When the oldest event that is not delivered was accepted.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub oldest_undelivered_at: Option<Timestamp>,
    /// How old that event is; null if there is none.
    #[schema(required = true)]
    pub oldest_undelivered_age_seconds: Option<f64>,
}

/// Events by status.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StatsCounts {
    /// Waiting to be pulled or pushed.
    #[schema(minimum = 0)]
    pub received: i64,
    /// Leased, being pushed, or waiting for the next attempt.
    #[schema(minimum = 0)]
    pub queued: i64,
    /// Acknowledged events.
    #[schema(minimum = 0)]
    pub delivered: i64,
    /// Events that failed in their last attempt.
    #[schema(minimum = 0)]
    pub failed: i64,
}
