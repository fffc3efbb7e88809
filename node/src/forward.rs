//! Forwards a request to the node that owns its tenant, whichever node the client has connected to.
//!
//! ```text
//! to_owner ─ served here ────────────▶ the handlers ── NotOwner? ─┐
//!      │                                                          ├─▶ try again, at most ATTEMPTS_MAX times
//!      └ served elsewhere ─ forward ═▶ the owner's serve ═▶ its own to_owner ─▶ its handlers, rates and streams
//! ```
//! The complete request travels, so the owner applies its own rates, deadlines and stream limits.
//! Invariants: `OWNER-1` a request is forwarded once: a node answers a forwarded request itself or not at all; `OWNER-2`
//! a request is repeated only if the owner said that it did nothing, or if repeating it changes nothing; `OWNER-3` the
//! body is kept until the answer arrives, so that a transfer of the partition meanwhile does not fail the request.
//! A node without a cluster forwards nothing.

mod kept_body;
mod pending_request;
mod route;
mod send;
mod serve;

pub(crate) use route::to_owner;
pub use serve::PeerRequests;
