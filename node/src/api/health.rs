//! Liveness, readiness and health of the node. No key is needed.
//!
//! - `HEALTH-1`: `/livez` succeeds whenever the process answers, because a restart cures nothing
//!   else.
//! - `HEALTH-2`: `/readyz` fails while the node drains or its store cannot write, so that a load
//!   balancer sends requests elsewhere. The node goes on serving meanwhile.
//! - `HEALTH-3`: responses do not contain the reason of a failure; it is in the log.

use crate::api::prelude::*;
use axum::Json;
use triggers_protocol::api::{Health, Probe};

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(get_health))
        .routes(routes!(get_livez))
        .routes(routes!(get_readyz))
}

/// Health of the node
///
/// 200 if the node can take and keep events.
#[utoipa::path(
    get, path = "/v1/health", tag = "operations",
    security(()),
    responses(
        (status = 200, description = "The node is healthy", body = Health),
        (status = 503, description = "The store cannot take events now"),
    ),
)]
async fn get_health(State(state): State<EdgeState>) -> Result<Json<Health>, ApiError> {
    state.store.health()?;
    Ok(Json(Health {
        status: "healthy".to_owned(),
        timestamp: state.environment.now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: state.node_name.clone(),
    }))
}

/// Liveness
///
/// 200 as long as the process answers.
#[utoipa::path(
    get, path = "/livez", tag = "operations",
    security(()),
    responses((status = 200, description = "The process answers", body = Probe)),
)]
async fn get_livez() -> Json<Probe> {
    Json(Probe { status: "alive".to_owned() })
}

/// Readiness
///
/// 200 if the node should be sent requests.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    security(()),
    responses(
        (status = 200, description = "The node takes requests", body = Probe),
        (status = 503, description = "The node drains, or its store cannot take events"),
    ),
)]
async fn get_readyz(State(state): State<EdgeState>) -> Result<Json<Probe>, ApiError> {
    if state.is_draining() {
        return Err(ApiError::unavailable("the node drains"));
    }
    state.store.health()?;
    Ok(Json(Probe { status: "ready".to_owned() }))
}
