//! Ingest: everything a sender can post becomes drafts, drafts become new events, and the tenant's inbox takes them.
//!
//! ```text
//! JSON · CloudEvents (structured, binary, batch) · NDJSON  →  Draft  →  NewEvent  →  Router::append  →  201
//! ```
//! Invariants: `INGEST-1` a 201 is sent only for what the router said is durable; `INGEST-2` a payload is checked once and
//! kept as sent; `INGEST-3` a fault of one item of a batch leaves the others alone. Authentication, scope and the rate of
//! requests were checked before a byte of the body is read; the rate of events is charged before anything is stored.

mod append;
pub(crate) mod batch;
pub(crate) mod batch_answer;
mod cloud_events;
mod draft;
mod envelope;
mod form;
mod idempotency;
mod ndjson;
pub(crate) mod single;

use crate::http::edge::EdgeState;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new().routes(routes!(single::create_event)).routes(routes!(batch::create_events))
}

/// Panics unless the parsers accept these bodies.
#[cfg(test)]
pub(crate) fn accepts_examples(event: &str, batch: &str, cloud_event: &str) {
    envelope::parse(event, 1_000).unwrap();
    cloud_events::structured(cloud_event, 1_000).unwrap();
    batch::accepts(batch);
}
