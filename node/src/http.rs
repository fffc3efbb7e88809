//! The HTTP server below the API: connections, TLS, middleware, authentication, limits and bodies.
//!
//! ```text
//! server ─ connections, TLS, header timeouts
//!   └ respond ─ request id, address, limits of the head, deadline, errors, headers, log, metrics
//!       └ forward ─ in a cluster: sends the request to the node that owns the key's tenant
//!           └ route ─ authenticate (key, rate, scope) ─ handler: parse, call, map the reply
//! ```
//! - `EDGE-1`: every error reaches the client as [`error::ApiError`], with the one error body.
//! - `EDGE-2`: the key, its rate and its scope are checked before the body is read.
//!
//! The only state is in caches and counters, which may be lost.

pub mod authenticate;
pub mod body;
pub mod client_address;
pub(crate) mod coding;
pub mod edge;
pub mod error;
pub mod flood;
pub(crate) mod forwarded;
pub(crate) mod json;
pub mod rate_limit;
pub mod request_context;
pub mod respond;
pub(crate) mod response_limits;
pub mod server;
pub mod tls;

use axum::http::HeaderName;

/// Names of the headers that carry an idempotency key.
pub(crate) static IDEMPOTENCY_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("idempotency-key"), HeaderName::from_static("x-idempotency-key")];
