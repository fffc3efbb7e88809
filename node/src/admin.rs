//! The admin listener for operators and their tools. It has its own address, loopback by default.
//!
//! `GET /metrics`, `GET /v1/cluster`, `POST /v1/cluster/drain`, `GET` and `PUT /v1/log-level`,
//! `GET` and `POST /v1/store/backup`, `GET /livez`.
//!
//! - `ADMIN-1`: no route asks for a key. Whoever reaches the listener may use it, so it must not be
//!   reachable from outside. Web pages in a browser are rejected (`cross_site`).
//! - `ADMIN-2`: no route shows events, keys or tenants.
//! - `ADMIN-3`: the listener stays open while the public one drains, so a drain can be watched.
//!
//! Errors have the same body as those of the public listener.

mod backup;
mod cluster;
mod cross_site;
mod log_level;

pub use backup::{Backup, BackupRequest, Backups};
pub use cluster::ClusterSource;

use crate::http::edge::EdgeState;
use crate::http::respond::{self, Responder};
use crate::telemetry::Telemetry;
use axum::extract::{DefaultBodyLimit, FromRef, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use std::sync::atomic::Ordering;
use triggers_cluster_config::{ListenOptions, NodeOptions};

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
    /// Source of the cluster view.
    pub cluster: ClusterSource,
    /// The running or latest backup.
    pub backups: Backups,
}

macro_rules! part_of_admin_state {
    ($($part:ty: $field:ident),*) => {$(
        impl FromRef<AdminState> for $part {
            fn from_ref(state: &AdminState) -> Self {
                state.$field.clone()
            }
        }
    )*};
}

part_of_admin_state!(
    Telemetry: telemetry, EdgeState: edge, ClusterSource: cluster, Backups: backups
);

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
        .route("/v1/cluster", get(cluster::get_cluster))
        .route("/v1/cluster/drain", post(post_drain))
        .route("/v1/log-level", get(log_level::get_log_level).put(log_level::put_log_level))
        .route("/v1/store/backup", get(backup::get_backup).post(backup::post_backup))
        .fallback(respond::no_such_route)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn(cross_site::reject));
    respond::around(router, responder).with_state(state)
}

async fn get_metrics(State(state): State<AdminState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS_TYPE)], state.telemetry.metrics.render())
}

/// Marks the node as draining: it still serves but is not ready, so that load balancers stop using
/// it. In a cluster it transfers its partitions and forwards the requests that still arrive.
async fn post_drain(State(state): State<AdminState>) -> impl IntoResponse {
    state.edge.draining.store(true, Ordering::SeqCst);
    state.cluster.drain();
    tracing::info!("drain requested");
    (StatusCode::ACCEPTED, Json(serde_json::json!({ "status": "draining" })))
}
