//! The outcome of sending a webhook.

use crate::node_faults::NodeFault;
use std::time::Duration;

/// The outcome of sending a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The endpoint answered.
    Answered {
        /// HTTP status of the answer.
        status: u16,
        /// Wait that the endpoint asks for with a valid `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// There was no complete answer.
    Failed {
        /// HTTP status, if the head of an answer arrived.
        status: Option<u16>,
        /// The kind of failure.
        failure: SendFailure,
        /// Explanation for the partner; it reveals nothing about this node.
        reason: String,
    },
}

/// The kind of failure when there was no complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFailure {
    /// The target may not be called.
    Forbidden,
    /// The host name has no address.
    Dns,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The attempt timeout has passed.
    Timeout,
    /// The answer was not HTTP, or ended before its status.
    Protocol,
    /// It is not known whether the endpoint or this node is at fault, or whether the event arrived.
    Unclear,
    /// This node could not make the attempt; nothing has reached the endpoint.
    Node(NodeFault),
}

impl SendFailure {
    /// The label of the failure in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Unclear => "unclear",
            Self::Node(_) => "node",
        }
    }
}
