//! The retry actor: one for each attempt to deliver an event to a subscription, from its claim to its end.
//!
//! Told by: itself. Tells: the endpoint, through the [`WebhookSender`], and the inbox how the attempt ended. Supervised by
//! the inbox, which hears when it is over. What waits for a later attempt is no actor but a row: a million of them cost
//! nothing here (`docs/adr/0006-retries-are-rows.md`).
//! Invariants: `RETRY-A-1` it sends once, and only while its claim has time for that; `RETRY-A-2` it is over only when the
//! end of the attempt is stored, is not wanted any more, or its claim has run out; `RETRY-A-3` it holds a slot until then.
//! A crash leaves the claim to run out, after which the attempt is made again with the same webhook id.

use crate::delivery::verdict::verdict;
use crate::delivery::{DeliveryPermit, SendFailure, SendOutcome, Webhook, WebhookSender};
use crate::inbox::message::InboxMessage;
use crate::inbox::request::Request;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use triggers_protocol::{Environment, Timestamp};
use triggers_store::tables::batch::{Claimed, EndpointHealth};
use triggers_store::tables::operations::{AttemptResult, CompleteAttempt, Operation};
use triggers_store::tables::rows::SubscriptionRow;

/// How much longer than the sender's own timeout is waited for its outcome.
const SEND_MARGIN: Duration = Duration::from_secs(1);
/// How long storing the end waits after a failure, at first and at most.
const STORE_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long storing the end may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// The shell's type.
pub(crate) struct DeliveryAttempt;

/// A message to an attempt.
#[derive(ractor_cluster::RactorMessage)]
pub(crate) enum DeliveryAttemptMessage {
    /// Send, and store what comes of it.
    Run,
}

/// What an attempt needs.
pub(crate) struct DeliveryAttemptArguments {
    pub(crate) inbox: ActorRef<InboxMessage>,
    pub(crate) sender: Arc<dyn WebhookSender>,
    pub(crate) environment: Environment,
    pub(crate) subscription: Arc<SubscriptionRow>,
    pub(crate) claimed: Claimed,
    /// When the claim runs out.
    pub(crate) until: Timestamp,
    /// How long sending may take.
    pub(crate) send_timeout: Duration,
    /// Held to the end.
    pub(crate) _slot: DeliveryPermit,
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
            DeliveryAttemptMessage::Run => attempt.run().await,
        }
        myself.stop(None);
        Ok(())
    }
}

impl DeliveryAttemptArguments {
    async fn run(&self) {
        if let Some((result, health)) = self.send().await {
            self.store(result, health).await;
        }
    }

    /// What comes of sending; nothing if the claim has no time left for it.
    async fn send(&self) -> Option<(AttemptResult, EndpointHealth)> {
        let began = self.environment.now();
        if began.plus(self.send_timeout + SEND_MARGIN) > self.until {
            tracing::warn!(event = %self.claimed.event.id, "an attempt came too late to be sent; it comes due again");
            return None;
        }
        let webhook = Webhook {
            event: self.claimed.event.clone(),
            target_url: self.subscription.target_url.clone(),
            keys: self.subscription.signing_keys(began),
            at: began,
        };
        // The sender has this timeout as well, and knows better what time was lost on; this one is for one that has not.
        let outcome = timeout(self.send_timeout + SEND_MARGIN, self.sender.send(webhook)).await;
        let outcome = outcome.unwrap_or_else(|_| SendOutcome::Failed {
            status: None,
            failure: SendFailure::Timeout,
            reason: format!("no answer within {} ms", self.send_timeout.as_millis()),
        });
        let (result, health) = verdict(outcome);
        if matches!(result, AttemptResult::Delivered { .. }) {
            let age = self.environment.now().since(self.claimed.event.id.created_at());
            metrics::histogram!("triggers_delivery_age_seconds").record(age);
        }
        Some((result, health))
    }

    /// Stores the end of the attempt, again and again while the claim holds.
    async fn store(&self, result: AttemptResult, health: EndpointHealth) {
        let complete = CompleteAttempt {
            id: self.claimed.event.id,
            subscription: self.subscription.id,
            token: self.claimed.token,
            at: self.environment.now(),
            result,
            health,
            target_url: self.subscription.target_url.clone(),
        };
        let mut wait = STORE_WAIT.0;
        while self.environment.now() < self.until {
            let deadline = Instant::now() + STORE_TIMEOUT;
            let (request, reply) =
                Request::new(complete.clone(), complete.footprint(), deadline, None);
            if self.inbox.cast(InboxMessage::Submit(request)).is_err() {
                return;
            }
            // Nothing is left to do if the result is stored, or the attempt is no longer wanted.
            if matches!(timeout(STORE_TIMEOUT, reply).await, Ok(Ok(Ok(())))) {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(STORE_WAIT.1);
        }
    }
}
