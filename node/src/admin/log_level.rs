//! Reads and changes the log filter of the running node.
//!
//! The body is `{"filter": "info,triggers_store=debug"}` in both directions.
//!
//! - `LOG-LEVEL-1`: an invalid filter is a 400 and changes nothing.
//! - `LOG-LEVEL-2`: a change lasts until the node restarts with the configured filter.

use crate::http::error::ApiError;
use crate::telemetry::Telemetry;
use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use triggers_protocol::ErrorCode;

/// Body of requests and responses.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LogLevel {
    filter: String,
}

/// Returns the current filter.
pub(super) async fn get_log_level(State(telemetry): State<Telemetry>) -> Json<LogLevel> {
    Json(LogLevel { filter: telemetry.log.filter() })
}

/// Replaces the filter.
pub(super) async fn put_log_level(
    State(telemetry): State<Telemetry>,
    body: Bytes,
) -> Result<Json<LogLevel>, ApiError> {
    let requested: LogLevel = serde_json::from_slice(&body).map_err(|error| {
        if error.is_data() {
            ApiError::validation("filter", "must be a string")
        } else {
            ApiError::new(ErrorCode::InvalidJson, "the body must be JSON")
        }
    })?;
    telemetry
        .log
        .set_filter(&requested.filter)
        .map_err(|error| ApiError::validation("filter", error.to_string()))?;
    tracing::info!(filter = requested.filter, "log filter changed");
    Ok(Json(requested))
}
