//! Extensions that mark requests and responses which travel between nodes.

use std::time::Duration;

/// Among the extensions of a request: it came from a member.
#[derive(Debug, Clone)]
pub(crate) struct Forwarded {
    /// What is left of its time.
    pub(crate) time_left: Duration,
}

/// Among the extensions of a response: nothing was done, since another node owns the tenant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elsewhere;

/// Among the extensions of a response: the owner has made it, whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made;
