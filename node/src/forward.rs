//! Forwards a request to the node that owns its tenant, whichever node the client has connected to.
//!
//! ```text
//! to_owner ─ served by this node ──────▶ the handlers ─ not the owner? ─┐
//!      │                                                               ├▶ try again
//!      └ served by another node ─ send ═▶ serve ▶ to_owner, as above ──┘
//! ```
//! The complete request is forwarded, so the owner applies its own rates, deadlines and stream
//! limits. A node without a cluster forwards nothing.
//!
//! - `OWNER-1`: a request is forwarded once. A node answers a forwarded request itself or not at
//!   all.
//! - `OWNER-2`: a request is repeated only if the owner reported that it did nothing, or if
//!   repeating it changes nothing.
//! - `OWNER-3`: the body is kept until the answer arrives, so that a partition transfer does not
//!   fail the request.

mod kept_body;
mod pending_request;
mod route;
mod send;
mod serve;

pub(crate) use route::to_owner;
pub use serve::PeerRequests;
