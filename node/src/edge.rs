//! The HTTP edge: what partners and consumers talk to.
//!
//! ```text
//! server ─ connections, TLS, header timeouts
//!   └ respond ─ request id, address, limits of the head, deadline, error bodies, common headers, log line, metrics
//!       └ owner ─ in a cluster: the request goes to the node that owns the key's tenant
//!           └ route ─ authenticate (key, rate, scope) ─ handler: parse, ask one thing, map the reply
//! ```
//! Invariants: `EDGE-1` every error reaches the client through [`error::ApiError`] and has the one error body; `EDGE-2`
//! a request is authenticated, counted and checked for its scope before its body is read; `EDGE-3` every handler hands
//! on [`Edge::deadline`]. Each resource file (`ingest`, `inbox`, …) has a `routes()` that gives its routes with their
//! part of the OpenAPI document. The edge keeps no state but caches and counters that may be lost.

pub mod audit;
pub mod authenticate;
pub mod body;
pub mod client_address;
pub mod cursor;
pub mod docs;
pub mod error;
pub mod event_json;
pub mod events;
pub mod health;
pub mod inbox;
pub mod ingest;
pub mod keys;
pub(crate) mod lease_token;
pub mod openapi;
pub mod owner;
pub mod rate_limit;
pub mod respond;
pub mod server;
pub mod stats;
pub mod subscriptions;
pub mod tenants;
pub mod tls;

use crate::access::Access;
use crate::webhook::TargetPolicy;
use owner::EdgeCluster;
use respond::Responder;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::admission::Admission;
use triggers_cluster_config::NodeOptions;
use triggers_protocol::Environment;
use triggers_store::kv::Store;
use utoipa_axum::router::OpenApiRouter;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct EdgeState(pub Arc<Edge>);

impl Deref for EdgeState {
    type Target = Edge;

    fn deref(&self) -> &Edge {
        &self.0
    }
}

/// Everything that the edge needs of its node.
pub struct Edge {
    /// Time and randomness.
    pub environment: Environment,
    /// The way to the tenants' inboxes.
    pub router: triggers_actors::Router,
    /// The store; the edge asks it for its health only.
    pub store: Store,
    /// Keys and tenants.
    pub access: Access,
    /// Where webhooks may go.
    pub targets: Arc<TargetPolicy>,
    /// What cursors are signed with; the same on every node of a cluster.
    pub cursor_secret: [u8; 32],
    /// The node's options.
    pub options: NodeOptions,
    /// The node's name, for the health answer.
    pub node_name: String,
    /// Bytes of bodies that are being gathered.
    pub gathering: Arc<Admission>,
    /// The node's part in a cluster; none if it stands alone.
    pub cluster: Option<EdgeCluster>,
    /// Whether the node is about to stop: it serves on, but is not ready.
    pub draining: AtomicBool,
}

impl Edge {
    /// When the request that is being handled must be answered, shortly before its time is up; outside of a request, as
    /// if one began now.
    pub fn deadline(&self) -> Instant {
        respond::deadline(Duration::from_millis(self.options.listen.request_timeout_ms))
    }

    /// When a request that waits or does one thing after another begins nothing more, so that there is time left for
    /// what it began.
    pub fn last_start(&self) -> Instant {
        self.deadline() - Duration::from_millis(self.options.listen.request_timeout_ms) / 4
    }

    /// Whether the node is about to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}

/// Every route that is part of the OpenAPI document, with that document: those of tenants, and the node's own.
fn resources() -> OpenApiRouter<EdgeState> {
    tenant_resources().merge(health::routes())
}

fn tenant_resources() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::with_openapi(openapi::base())
        .merge(ingest::routes())
        .merge(inbox::routes())
        .merge(events::routes())
        .merge(subscriptions::routes())
        .merge(keys::routes())
        .merge(tenants::routes())
        .merge(audit::routes())
        .merge(stats::routes())
}

/// The OpenAPI document of the public listener.
pub fn document() -> utoipa::openapi::OpenApi {
    resources().split_for_parts().1
}

/// Everything that the public listener serves.
pub fn router(state: EdgeState) -> axum::Router {
    let mut resources = tenant_resources();
    if state.cluster.is_some() {
        resources = resources
            .route_layer(axum::middleware::from_fn_with_state(state.clone(), owner::to_owner));
    }
    let (resources, document) = resources.merge(health::routes()).split_for_parts();
    let responder = Responder::new(state.environment.clone(), &state.options);
    let router = resources
        .merge(openapi::routes(document))
        .merge(docs::routes())
        .fallback(respond::no_such_route);
    respond::around(router, responder).with_state(state)
}
