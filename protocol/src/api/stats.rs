//! Statistics of a tenant.

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Statistics of a tenant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// Numbers of events by status.
    pub counts: StatsCounts,
    /// Events accepted per second, over the last minute.
    #[schema(example = 12.5)]
    pub ingested_per_second: f64,
    /// Events delivered per second, over the last minute.
    #[schema(example = 12.5)]
    pub delivered_per_second: f64,
    /// Time of acceptance of the oldest waiting event; null if there is none.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub oldest_undelivered_at: Option<Timestamp>,
    /// Age of that event; null if there is none.
    #[schema(required = true)]
    pub oldest_undelivered_age_seconds: Option<f64>,
}

/// Numbers of events by status.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StatsCounts {
    /// Waiting to be pulled or pushed.
    #[schema(minimum = 0)]
    pub received: i64,
    /// Leased, being pushed, or waiting for the next attempt.
    #[schema(minimum = 0)]
    pub queued: i64,
    /// Events that were acknowledged.
    #[schema(minimum = 0)]
    pub delivered: i64,
    /// Events that failed in their last attempt.
    #[schema(minimum = 0)]
    pub failed: i64,
}
