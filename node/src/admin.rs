//! The admin listener for operators and their tools. It has its own address, loopback by default.
//!
//! `GET /metrics`, `GET /v1/cluster`, `POST /v1/cluster/drain`, `GET` and `PUT /v1/log-level`,
//! `GET` and `POST /v1/store/backup`, `GET /livez`.
//!
//! - `ADMIN-1`: no route asks for a key. Every client that reaches the listener may use it, so it
//!   must not be reachable from outside. Web pages in a browser are rejected (`cross_site`).
//! - `ADMIN-2`: no route shows events, keys or tenants.
//! - `ADMIN-3`: the listener stays open while the public one drains, so a drain can be watched.
//! - `LOG-LEVEL-1`: an invalid log filter is a 400 and changes nothing.
//! - `LOG-LEVEL-2`: a changed filter lasts until the node restarts with the configured one.
//!
//! Errors have the same body as those of the public listener.

mod backup;
mod cluster;
mod cross_site;

pub use backup::{Backup, BackupRequest, Backups};

use crate::http::edge::EdgeState;
use crate::http::error::ApiError;
use crate::http::respond::{self, Responder};
use crate::telemetry::Telemetry;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use cluster::ClusterView;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use triggers_actors::NodeWatch;
use triggers_cluster_config::{ListenOptions, NodeOptions};
use triggers_protocol::ErrorCode;

/// Content type of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const BODY_BYTES_MAX: usize = 16 * 1024;

/// State of the admin routes; cheap to clone.
#[derive(Clone)]
pub struct AdminState {
    /// Handles to change logs and render metrics.
    pub telemetry: Telemetry,
    /// State of the public listener.
    pub edge: EdgeState,
    /// Observes the cluster and the partitions that this node serves.
    pub watch: NodeWatch,
    /// Name and boot id of this node.
    pub incarnation: String,
    /// Address of the public listener.
    pub address: SocketAddr,
    /// The running or latest backup.
    pub backups: Backups,
}

/// The routes of the admin listener.
pub fn router(state: AdminState) -> Router {
    let listen = ListenOptions {
        tls_certificate_file: None,
        tls_key_file: None,
        is_behind_tls_proxy: false,
        cors_origins: Vec::new(),
        ..state.edge.options.listen.clone()
    };
    let options = NodeOptions { listen, ..state.edge.options.clone() };
    let responder = Responder::new(state.edge.environment.clone(), &options);
    let router = Router::new()
        .route("/livez", get(async || Json(serde_json::json!({ "status": "alive" }))))
        .route("/metrics", get(get_metrics))
        .route("/v1/cluster", get(get_cluster))
        .route("/v1/cluster/drain", post(post_drain))
        .route("/v1/log-level", get(get_log_level).put(put_log_level))
        .route("/v1/store/backup", get(get_backup).post(post_backup))
        .fallback(respond::no_such_route)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn(cross_site::reject));
    respond::around(router, responder).with_state(state)
}

async fn get_metrics(State(state): State<AdminState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS_TYPE)], state.telemetry.metrics.render())
}

async fn get_cluster(State(state): State<AdminState>) -> Json<ClusterView> {
    Json(cluster::view(&state.edge, &state.watch, &state.incarnation, state.address))
}

/// Marks the node as draining: it still serves but is not ready, so that load balancers stop using
/// it. In a cluster it transfers its partitions and forwards the requests that still arrive.
async fn post_drain(State(state): State<AdminState>) -> impl IntoResponse {
    state.edge.draining.store(true, Ordering::SeqCst);
    state.watch.drain();
    tracing::info!("drain requested");
    (StatusCode::ACCEPTED, Json(serde_json::json!({ "status": "draining" })))
}

async fn get_backup(State(state): State<AdminState>) -> Json<Backup> {
    Json(state.backups.latest())
}

async fn post_backup(
    State(state): State<AdminState>,
    body: Bytes,
) -> Result<(StatusCode, Json<Backup>), ApiError> {
    let BackupRequest { directory } = parse(&body, "directory")?;
    let started = state.backups.start(state.edge.store.clone(), directory)?;
    Ok((StatusCode::ACCEPTED, Json(started)))
}

/// Body of the requests and responses of `/v1/log-level`.
#[derive(Debug, Serialize, Deserialize)]
struct LogLevel {
    filter: String,
}

async fn get_log_level(State(state): State<AdminState>) -> Json<LogLevel> {
    Json(LogLevel { filter: state.telemetry.log.filter() })
}

async fn put_log_level(
    State(state): State<AdminState>,
    body: Bytes,
) -> Result<Json<LogLevel>, ApiError> {
    let requested: LogLevel = parse(&body, "filter")?;
    let log = &state.telemetry.log;
    log.set_filter(&requested.filter)
        .map_err(|error| ApiError::validation("filter", error.to_string()))?;
    tracing::info!(filter = requested.filter, "log filter changed");
    Ok(Json(requested))
}

/// Parses a JSON body whose only field is the text `field`.
fn parse<T: DeserializeOwned>(body: &[u8], field: &str) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            ApiError::validation(field, "must be a string")
        } else {
            ApiError::new(ErrorCode::InvalidJson, "the body must be JSON")
        }
    })
}
