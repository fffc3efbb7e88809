//! The admin listener: what operators and their tools ask a node. It has its own address, on loopback unless set otherwise.
//!
//! `GET /metrics`, `GET /v1/cluster`, `POST /v1/cluster/drain`, `GET` and `PUT /v1/log-level`,
//! `GET` and `POST /v1/store/backup`, `GET /livez`.
//! Invariants: `ADMIN-1` nothing here asks for a key: who reaches the listener may use it, so it must not be reachable
//! from outside, and a browser's page may not (`cross_site`); `ADMIN-2` nothing here shows an event, a key or a tenant; `ADMIN-3` it goes on while the public listener
//! drains, so that a drain can be watched. Errors have the same body as those of the public listener.

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

/// The format of Prometheus's texts.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const BODY_BYTES_MAX: usize = 16 * 1024;

/// What the admin listener works with.
#[derive(Clone)]
pub struct AdminState {
    /// Logs and metrics.
    pub telemetry: Telemetry,
    /// The public listener's state.
    pub edge: EdgeState,
    /// Where the view of the cluster comes from.
    pub cluster: ClusterSource,
    /// The backup that runs.
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

part_of_admin_state!(Telemetry: telemetry, EdgeState: edge, ClusterSource: cluster, Backups: backups);

/// Everything that the admin listener serves.
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
        .layer(axum::middleware::from_fn(cross_site::refuse));
    respond::around(router, responder).with_state(state)
}

async fn get_metrics(State(state): State<AdminState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS_TYPE)], state.telemetry.metrics.render())
}

/// Marks the node as draining: it serves on, but is not ready, so that load balancers turn away before it is stopped. In a
/// cluster it gives its partitions to the others, and sends on what still comes.
async fn post_drain(State(state): State<AdminState>) -> impl IntoResponse {
    state.edge.draining.store(true, Ordering::SeqCst);
    state.cluster.drain();
    tracing::info!("drain requested");
    (StatusCode::ACCEPTED, Json(serde_json::json!({ "status": "draining" })))
}
