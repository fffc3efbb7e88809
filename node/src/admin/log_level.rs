//! What is logged, to be changed while the node runs.
//!
//! The body is `{"filter": "info,triggers_store=debug"}` in both directions. Invariants: `LOG-LEVEL-1` a filter that is
//! not understood is a 400 and changes nothing; `LOG-LEVEL-2` a change lasts until the next start, which takes the
//! configured filter again.

use crate::http::error::ApiError;
use crate::telemetry::Telemetry;
use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use triggers_protocol::ErrorCode;

/// The filter of log lines.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LogLevel {
    filter: String,
}

/// The filter in effect.
pub(super) async fn get_log_level(State(telemetry): State<Telemetry>) -> Json<LogLevel> {
    Json(LogLevel { filter: telemetry.log.filter() })
}

/// Puts another filter into effect.
pub(super) async fn put_log_level(
    State(telemetry): State<Telemetry>,
    body: Bytes,
) -> Result<Json<LogLevel>, ApiError> {
    let wanted: LogLevel = serde_json::from_slice(&body).map_err(|error| {
        if error.is_data() {
            ApiError::validation("filter", "must be a string")
        } else {
            ApiError::new(ErrorCode::InvalidJson, "the body must be JSON")
        }
    })?;
    telemetry
        .log
        .set_filter(&wanted.filter)
        .map_err(|error| ApiError::validation("filter", error.to_string()))?;
    tracing::info!(filter = wanted.filter, "log filter changed");
    Ok(Json(wanted))
}
