//! Delivery of webhooks: what a webhook is, who sends it, and how many are in flight.
//!
//! ```text
//! Inbox ── acquires permits, claims webhooks ──▶ DeliveryAttempt ──▶ WebhookSender ──▶ endpoint
//! ```
//! The node sends webhooks over HTTP; tests and simulations have simulated receivers. [`verdict`]
//! interprets outcomes, [`breaker`] pauses deliveries to a failing endpoint, [`in_flight_limit`]
//! adapts to how fast an endpoint is, [`permits`] bounds what is in flight, in the shares of
//! [`fair_shares`]. This module stores nothing and knows no HTTP.

pub(crate) mod breaker;
pub(crate) mod fair_shares;
pub(crate) mod in_flight_limit;
pub(crate) mod permits;
pub(crate) mod verdict;

use crate::node_faults::{NodeFault, NodeFaults};
use permits::DeliveryPermits;
use std::sync::Arc;
use std::time::Duration;
use triggers_protocol::webhook::SigningKey;
use triggers_protocol::{Event, Timestamp};
use triggers_store::kv::BoxFuture;

/// Sends webhooks to their endpoints.
pub trait WebhookSender: Send + Sync + 'static {
    /// Sends one webhook and returns its outcome. The sender bounds the time itself.
    fn send(&self, webhook: Webhook) -> BoxFuture<'_, SendOutcome>;
}

/// One webhook to send.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The event as the receiver gets it.
    pub event: Event,
    /// URL of the endpoint.
    pub target_url: String,
    /// Keys that sign it, the newest first.
    pub keys: Vec<SigningKey>,
    /// Time at which the attempt began.
    pub at: Timestamp,
}

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

/// The sender of webhooks and the bound on how many are in flight.
pub(crate) struct Delivery {
    pub(crate) sender: Arc<dyn WebhookSender>,
    pub(crate) permits: DeliveryPermits,
    pub(crate) faults: NodeFaults,
}
