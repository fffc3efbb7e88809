//! Every error of the wire contract, reached by real bad input, and that it leaves no trace.
//!
//! BAD-1: a refusal has the status and code of the contract, and always the same body; see `bad_input/probe.rs`.
//! BAD-2: it changes nothing: the tenant's count stays, and the next good request works.
//! BAD-3: nothing a client sends is answered with a 5xx, except 503 when the store is full.
//!
//! One file a kind of input. Not here: what good requests do, beyond showing that the node still takes them.

mod access;
mod batch;
mod bodies;
mod cloud_events;
mod connections;
mod envelope;
mod headers;
mod idempotency;
mod limits;
pub mod probe;
mod query;
mod resources;
mod timeouts;
