//! The answers of a node about its own health.

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer of a healthy node.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `healthy`: any other state is an error.
    #[schema(example = "healthy")]
    pub status: String,
    /// The node's time.
    #[schema(value_type = String, format = "date-time", example = "2026-01-01T00:00:00.000Z")]
    pub timestamp: Timestamp,
    /// The version of the software.
    #[schema(example = "0.1.0")]
    pub version: String,
    /// The node's name.
    #[schema(example = "node-1")]
    pub node: String,
}

/// The answer of a probe.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// `alive` or `ready`.
    #[schema(example = "ready")]
    pub status: String,
}
