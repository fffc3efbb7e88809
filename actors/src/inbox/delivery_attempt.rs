//! The delivery attempt: one actor for each webhook in flight, from its claim to its completion.
//!
//! It sends the webhook through the [`crate::WebhookSender`] and submits the outcome to the inbox,
//! which supervises it. A webhook that waits for a later attempt is a row, not an actor, so a
//! million of them cost nothing here
//! (`docs/adr/0006-retries-are-rows.md`). After a crash the claim expires and the webhook is sent
//! again under the same webhook id.
//! Invariants: `RETRY-A-1` an attempt sends once, and only if its claim leaves enough time;
//! `RETRY-A-2` an attempt ends once its outcome is stored or not wanted any more, or its claim has
//! expired; `RETRY-A-3` an attempt holds its permit until it ends.

use super::message::InboxMessage;
use super::request::{Request, receive};
use crate::delivery::in_flight_limit::MeasuredAttempt;
use crate::delivery::permits::DeliveryPermit;
use crate::delivery::verdict::verdict;
use crate::delivery::{Delivery, SendFailure, SendOutcome, Webhook};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use triggers_protocol::{Environment, Timestamp};
use triggers_store::tables::batch::{Claimed, EndpointHealth};
use triggers_store::tables::operations::{AttemptResult, CompleteAttempt, Operation};
use triggers_store::tables::rows::SubscriptionRow;

/// Time allowed beyond the sender's own timeout.
const SEND_MARGIN: Duration = Duration::from_secs(1);
/// Pause after a failure to store the outcome; it doubles up to [`STORE_WAIT_MAX`].
const STORE_WAIT_MIN: Duration = Duration::from_millis(100);
const STORE_WAIT_MAX: Duration = Duration::from_secs(2);
/// Time for one try to store the outcome.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// The type of the actor.
pub(crate) struct DeliveryAttempt;

/// A message to a delivery attempt.
#[derive(ractor_cluster::RactorMessage)]
pub(crate) enum DeliveryAttemptMessage {
    /// Send the webhook and store the outcome.
    Run,
}

/// What a delivery attempt needs.
pub(crate) struct DeliveryAttemptArguments {
    pub(crate) inbox: ActorRef<InboxMessage>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) environment: Environment,
    pub(crate) subscription: Arc<SubscriptionRow>,
    pub(crate) claimed: Claimed,
    /// Time at which the claim expires.
    pub(crate) until: Timestamp,
    /// Time for sending the webhook.
    pub(crate) send_timeout: Duration,
    /// What the attempt says about the endpoint, once it was sent.
    pub(crate) measured: Option<MeasuredAttempt>,
    /// Held until the attempt ends.
    pub(crate) _permit: DeliveryPermit,
}

impl Actor for DeliveryAttempt {
    type Msg = DeliveryAttemptMessage;
    type State = DeliveryAttemptArguments;
    type Arguments = DeliveryAttemptArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<DeliveryAttemptMessage>,
        arguments: DeliveryAttemptArguments,
    ) -> Result<DeliveryAttemptArguments, ActorProcessingErr> {
        myself.cast(DeliveryAttemptMessage::Run)?;
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: ActorRef<DeliveryAttemptMessage>,
        message: DeliveryAttemptMessage,
        attempt: &mut DeliveryAttemptArguments,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DeliveryAttemptMessage::Run => {
                let began = attempt.environment.monotonic();
                if let Some((result, health)) = attempt.send().await {
                    let took = attempt.environment.monotonic().saturating_sub(began);
                    attempt.measured = Some(MeasuredAttempt { began, took, health });
                    attempt.store(result, health).await;
                }
            }
        }
        myself.stop(None);
        Ok(())
    }
}

impl DeliveryAttemptArguments {
    /// Sends the webhook; none if the claim leaves too little time.
    async fn send(&self) -> Option<(AttemptResult, EndpointHealth)> {
        let began = self.environment.now();
        if self.environment.steady().plus(self.send_timeout + SEND_MARGIN) > self.until {
            let event = self.claimed.event.id;
            tracing::warn!(%event, "too late to send a webhook; it comes due again");
            return None;
        }
        let webhook = Webhook {
            event: self.claimed.event.clone(),
            target_url: self.subscription.target_url.clone(),
            keys: self.subscription.signing_keys(began),
            at: began,
        };
        // The sender reports its own timeouts in more detail; this one is a safeguard.
        let outcome =
            timeout(self.send_timeout + SEND_MARGIN, self.delivery.sender.send(webhook)).await;
        let outcome = outcome.unwrap_or_else(|_| SendOutcome::Failed {
            status: None,
            failure: SendFailure::Unclear,
            reason: format!("no answer within {} ms", self.send_timeout.as_millis()),
        });
        if let SendOutcome::Failed { failure: SendFailure::Node(fault), .. } = outcome {
            self.delivery.faults.note(fault, self.environment.monotonic());
        }
        let (result, health) = verdict(outcome);
        if matches!(result, AttemptResult::Delivered { .. }) {
            let age = self.environment.now().since(self.claimed.event.received_at);
            metrics::histogram!("triggers_delivery_age_seconds").record(age);
        }
        Some((result, health))
    }

    /// Stores the outcome; tries again until the claim expires.
    async fn store(&self, result: AttemptResult, health: EndpointHealth) {
        let complete = CompleteAttempt {
            id: self.claimed.event.id,
            subscription: self.subscription.id,
            token: self.claimed.token,
            at: self.environment.steady(),
            result,
            health,
            target_url: self.subscription.target_url.clone(),
        };
        let mut wait = STORE_WAIT_MIN;
        while self.environment.steady() < self.until {
            let deadline = Instant::now() + STORE_TIMEOUT;
            let footprint = complete.footprint();
            let (request, reply) = Request::new(complete.clone(), footprint, deadline, None);
            let has_stopped = self.inbox.cast(InboxMessage::Submit(request)).is_err();
            if has_stopped || receive(reply, deadline).await.is_ok() {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(STORE_WAIT_MAX);
        }
    }
}
