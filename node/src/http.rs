//! HTTP below the resources: listener, connections, TLS, middleware, authentication, limits and bodies.
//!
//! ```text
//! server ─ connections, TLS, header timeouts
//!   └ respond ─ request id, address, limits of the head, deadline, error bodies, common headers, log line, metrics
//!       └ forward ─ in a cluster: the request goes to the node that owns the key's tenant
//!           └ route ─ authenticate (key, rate, scope) ─ handler: parse, ask one thing, map the reply
//! ```
//! Invariants: `EDGE-1` every error reaches the client through [`error::ApiError`] and has the one error body; `EDGE-2`
//! a request is authenticated, counted and checked for its scope before its body is read. Nothing here keeps state but
//! caches and counters that may be lost.

pub mod authenticate;
pub mod body;
pub mod client_address;
pub mod counters;
pub(crate) mod deadline;
pub mod edge;
pub mod error;
pub mod flood;
pub(crate) mod forwarded;
pub(crate) mod json;
pub mod rate_limit;
pub mod request_context;
pub mod respond;
pub(crate) mod sending;
pub mod server;
pub mod tls;

use axum::http::HeaderName;

/// The headers that carry an idempotency key.
pub(crate) static IDEMPOTENCY_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("idempotency-key"), HeaderName::from_static("x-idempotency-key")];
