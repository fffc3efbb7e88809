//! The HTTP API: one file or folder for each resource, and the router of the public listener.
//!
//! Each resource (`ingest`, `inbox`, …) has a `routes()` that returns its routes with their part of
//! the OpenAPI document.
//!
//! `EDGE-3`: every handler passes on `Edge::deadline`.

pub mod audit;
pub mod cursor;
pub mod docs;
mod event;
pub mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod health;
pub mod inbox;
pub mod ingest;
pub mod keys;
pub mod openapi;
mod prelude;
mod read;
pub mod stats;
pub mod subscriptions;
pub mod tenants;

use crate::forward;
use crate::http::edge::EdgeState;
use crate::http::respond::{self, Responder};
use utoipa_axum::router::OpenApiRouter;

/// The routes that a node forwards if another node owns the request's tenant.
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

/// The OpenAPI document of the public listener, as JSON.
pub fn document_json() -> String {
    openapi::json_of(tenant_resources().merge(health::routes()).split_for_parts().1)
}

/// Everything that the public listener serves.
pub fn router(state: EdgeState) -> axum::Router {
    let mut resources = tenant_resources();
    if state.cluster.is_some() {
        resources = resources
            .route_layer(axum::middleware::from_fn_with_state(state.clone(), forward::to_owner));
    }
    let (resources, document) = resources.merge(health::routes()).split_for_parts();
    let responder = Responder::new(state.environment.clone(), &state.options);
    let router = resources
        .merge(openapi::routes(document))
        .merge(docs::routes())
        .fallback(respond::no_such_route);
    respond::around(router, responder).with_state(state)
}
