//! Extensions of the requests and responses that travel between nodes.

use std::time::Duration;

/// Extension of a request that another node forwarded.
#[derive(Debug, Clone)]
pub(crate) struct Forwarded {
    /// Time left until the request must be answered.
    pub(crate) time_left: Duration,
}

/// Extension of a response: the request had no effect, because another node owns the tenant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NotOwner;

/// Extension of a response that the owner of the tenant has completed, headers and body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CompletedByOwner;
