//! Subscriptions through the router: reads of their rows, attempts and audit, and pings.
//!
//! Invariants: `ROUTER-SUB-1` a change is durable before it is answered, and holds for every event
//! that is accepted after that; `ROUTER-SUB-2` a ping takes a delivery permit like every webhook, a
//! tenant has one at a time, and it leaves no trace, because it is no event.

use super::{Router, TenantData};
use crate::admission::count_rejection;
use crate::delivery::{SendFailure, SendOutcome, Webhook};
use crate::error::BrokerError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use triggers_protocol::event::EventState;
use triggers_protocol::{Event, EventId, EventType, SubscriptionId, TenantId, Timestamp};
use triggers_store::tables::rows::SubscriptionRow;
use triggers_store::tables::subscriptions::{
    self, AttemptPage, AttemptPosition, AuditPage, HistoryQuery, MissedPage,
};

/// The event type of a ping.
const PING: &str = "ping";

/// Result of a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// Answer of the endpoint, or the failure.
    pub outcome: SendOutcome,
    /// Time from the start to the outcome.
    pub took: Duration,
}

impl Router {
    /// The tenant's subscriptions, oldest first.
    pub async fn subscriptions(
        &self,
        tenant: &TenantId,
        deadline: Instant,
    ) -> Result<Vec<SubscriptionRow>, BrokerError> {
        let TenantData { guard, keys, .. } = &self.data(tenant, deadline).await?;
        self.read(deadline, |tx| Box::pin(subscriptions::list(tx, guard, keys))).await
    }

    /// Finds one subscription.
    pub async fn find_subscription(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        deadline: Instant,
    ) -> Result<Option<SubscriptionRow>, BrokerError> {
        let TenantData { guard, keys, .. } = &self.data(tenant, deadline).await?;
        self.read(deadline, |tx| Box::pin(subscriptions::find(tx, guard, keys, id))).await
    }

    /// The attempts of a subscription, the newest first; none if there is no such subscription.
    pub async fn subscription_attempts(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        before: Option<AttemptPosition>,
        limit: usize,
        deadline: Instant,
    ) -> Result<Option<AttemptPage>, BrokerError> {
        let TenantData { guard, keys, .. } = &self.data(tenant, deadline).await?;
        let query = HistoryQuery { before, limit };
        self.read(deadline, |tx| Box::pin(subscriptions::attempts(tx, guard, keys, id, query)))
            .await
    }

    /// Events after `after` that a subscription selects and has missed, oldest first; none if there
    /// is no such subscription.
    pub async fn missed_events(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        after: EventId,
        limit: usize,
        deadline: Instant,
    ) -> Result<Option<MissedPage>, BrokerError> {
        let TenantData { guard, keys, .. } = &self.data(tenant, deadline).await?;
        self.read(deadline, |tx| Box::pin(subscriptions::missed(tx, guard, keys, id, after, limit)))
            .await
    }

    /// The tenant's audit, the newest first, before an entry.
    pub async fn audit(
        &self,
        tenant: &TenantId,
        before: Option<(Timestamp, u64)>,
        limit: usize,
        deadline: Instant,
    ) -> Result<AuditPage, BrokerError> {
        let TenantData { guard, keys, .. } = &self.data(tenant, deadline).await?;
        let query = HistoryQuery { before, limit };
        self.read(deadline, |tx| Box::pin(subscriptions::audit(tx, guard, keys, query))).await
    }

    /// Sends a webhook that stands for no event, and waits for the outcome.
    ///
    /// # Errors
    /// [`BrokerError::TenantBusy`] if the tenant has a ping in flight; [`BrokerError::NodeBusy`] if
    /// there is no permit before the deadline, and
    /// [`BrokerError::NodeExhausted`] if the node cannot send.
    pub async fn ping(
        &self,
        tenant: &TenantId,
        row: &SubscriptionRow,
        deadline: Instant,
    ) -> Result<Ping, BrokerError> {
        let Some(_permit) = self.0.pings.acquire(tenant.clone(), 1, 1) else {
            count_rejection("pings");
            return Err(BrokerError::TenantBusy);
        };
        let permit = timeout_at(deadline, self.0.delivery.permits.acquire(tenant)).await;
        let Ok(Some(_permit)) = permit else { return Err(BrokerError::NodeBusy) };
        let environment = self.0.store.environment();
        let (at, began) = (environment.now(), environment.monotonic());
        let id = EventId::mint(EventId::ZERO, at, environment.bytes());
        let event = Event {
            id,
            received_at: at,
            event_type: EventType::parse(PING).expect("it is a valid event type"),
            timestamp: at,
            payload: format!("{{\"subscription_id\":\"{}\"}}", row.id).into(),
            metadata: Arc::default(),
            state: EventState { attempts: 1, last_attempt_at: Some(at), ..EventState::ACCEPTED },
        };
        let webhook =
            Webhook { event, target_url: row.target_url.clone(), keys: row.signing_keys(at), at };
        let sending = timeout_at(deadline, self.0.delivery.sender.send(webhook)).await;
        let outcome = sending.unwrap_or_else(|_| SendOutcome::Failed {
            status: None,
            failure: SendFailure::Timeout,
            reason: "no answer within the time of this request".to_owned(),
        });
        if let SendOutcome::Failed { failure: SendFailure::Node(fault), .. } = outcome {
            self.0.delivery.faults.note(fault, environment.monotonic());
            return Err(BrokerError::NodeExhausted);
        }
        Ok(Ping { outcome, took: environment.monotonic().saturating_sub(began) })
    }
}
