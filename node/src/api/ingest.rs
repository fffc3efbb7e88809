//! Ingest: reads every form in which an event can be posted, and hands it to the tenant's inbox.
//!
//! ```text
//! JSON, CloudEvents (structured, binary, batch), NDJSON ─▶ Draft ─▶ NewEvent ─▶ Router ─▶ 201
//! ```
//! - `INGEST-1`: a 201 is sent only for events that the router reported as durable.
//! - `INGEST-2`: a payload is checked once and kept as it was sent.
//! - `INGEST-3`: a fault of one item of a batch does not affect the others.
//!
//! Authentication, scope and request rate are checked before the body is read. The event rate is
//! charged before anything is stored.

mod append;
use crate::api::prelude::*;
pub(super) mod batch;
pub(super) mod batch_answer;
mod cloud_event_data;
pub(super) mod cloud_events;
pub(super) mod envelope;
mod form;
mod idempotency;
mod single;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new().routes(routes!(single::create_event)).routes(routes!(batch::create_events))
}
