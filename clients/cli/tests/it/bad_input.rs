//! Tests of every error of the API, caused by invalid requests.
//!
//! - BAD-1: a rejection has the documented status, code and body; see `bad_input/probe.rs`.
//! - BAD-2: a rejected request changes nothing: the event count stays, and a valid request
//!   succeeds.
//! - BAD-3: no request is answered with a 5xx status, except 503 if the store is full.
//!
//! There is one file per kind of input.

mod access;
mod batch;
mod bodies;
mod cloud_events;
mod codings;
mod connections;
mod envelope;
mod headers;
mod idempotency;
mod limits;
pub mod probe;
mod query;
mod resources;
mod timeouts;
