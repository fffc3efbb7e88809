//! Delivery of webhooks: what a webhook is, who sends it, and how many are in flight.
//!
//! ```text
//! Inbox ── acquires permits, claims webhooks ──▶ DeliveryWorker ──▶ WebhookSender ──▶ endpoint
//! ```
//! The node sends webhooks over HTTP; tests and simulations have simulated receivers. [`verdict`]
//! interprets outcomes, [`breaker`] pauses deliveries to a failing endpoint, [`in_flight_limit`]
//! adapts to how fast an endpoint is, [`permits`] bounds what is in flight, in the shares of
//! [`fair_shares`], and [`workers`] has the actors that make the attempts. This module stores
//! nothing and knows no HTTP.

pub(crate) mod breaker;
pub(crate) mod fair_shares;
pub(crate) mod in_flight_limit;
mod outcome;
pub(crate) mod permits;
pub(crate) mod verdict;
pub(crate) mod workers;

pub use outcome::{SendFailure, SendOutcome};

use crate::node_faults::NodeFaults;
use permits::DeliveryPermits;
use std::sync::Arc;
use triggers_protocol::webhook::SigningKey;
use triggers_protocol::{Event, Timestamp};
use triggers_store::kv::BoxFuture;
use workers::DeliveryWorkers;

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

/// The sender of webhooks, the bound on how many are in flight, and the actors that send them.
pub(crate) struct Delivery {
    pub(crate) sender: Arc<dyn WebhookSender>,
    pub(crate) permits: DeliveryPermits,
    pub(crate) workers: DeliveryWorkers,
    pub(crate) faults: NodeFaults,
}
