//! The delivery attempt: what a delivery worker does for one webhook, from its claim to its
//! completion.
//!
//! It sends the webhook through the [`crate::WebhookSender`] and submits the outcome to the inbox.
//! An attempt that panics ends with its worker ([`crate::delivery::workers`]) and reports its end
//! like any other. The attempts of an inbox that stops end too. A webhook that waits for a later
//! attempt is a row, so a million of them cost nothing here
//! (`docs/adr/0006-retries-are-rows.md`). After a crash the claim expires and the webhook is sent
//! again under the same webhook id.
//! Invariants: `RETRY-A-1` an attempt sends once, and only if its claim leaves enough time;
//! `RETRY-A-2` an attempt ends once its outcome is stored or not wanted any more, or its claim has
//! expired; `RETRY-A-3` an attempt holds its permit until it ends; `RETRY-A-4` the inbox gets
//! exactly one report of the end of each attempt, after its permit is free; `RETRY-A-5` the
//! attempts of an inbox end when it stops, and no other begins.

use super::message::InboxMessage;
use super::request::{Request, receive};
use crate::delivery::in_flight_limit::MeasuredAttempt;
use crate::delivery::permits::DeliveryPermit;
use crate::delivery::verdict::verdict;
use crate::delivery::workers::WorkerAttempt;
use crate::delivery::{Delivery, SendFailure, SendOutcome, Webhook};
use ractor::ActorRef;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use triggers_protocol::lock::lock;
use triggers_protocol::{Environment, SubscriptionId, Timestamp};
use triggers_store::kv::BoxFuture;
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

/// What a delivery attempt needs.
pub(crate) struct DeliveryAttempt {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) environment: Environment,
    pub(crate) subscription: Arc<SubscriptionRow>,
    pub(crate) claimed: Claimed,
    /// Time at which the claim expires.
    pub(crate) until: Timestamp,
    /// Time for sending the webhook.
    pub(crate) send_timeout: Duration,
    pub(crate) end: EndReport,
}

/// The end of an attempt.
#[derive(Debug)]
pub(crate) struct EndedAttempt {
    pub(crate) subscription: SubscriptionId,
    /// What the attempt says about the endpoint, if it was sent.
    pub(crate) measured: Option<MeasuredAttempt>,
    /// The attempt panicked.
    pub(crate) has_panicked: bool,
}

/// Reports of the attempts of an inbox, which is notified of the first one only and drains all of
/// them. The permits of the attempts bound it.
pub(crate) struct AttemptReports {
    inbox: ActorRef<InboxMessage>,
    reported: Mutex<Reported>,
    is_closed: AtomicBool,
    closed: Notify,
}

/// What attempts have reported.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    /// Outcomes to store.
    pub(crate) requests: Vec<Request>,
    pub(crate) ended: Vec<EndedAttempt>,
}

impl AttemptReports {
    pub(crate) fn new(inbox: ActorRef<InboxMessage>) -> Self {
        let (is_closed, closed) = (AtomicBool::new(false), Notify::new());
        Self { inbox, reported: Mutex::default(), is_closed, closed }
    }

    /// Ends the attempts of the inbox, which has stopped.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.closed.notify_waiters();
    }

    /// Waits until the inbox has stopped.
    async fn closed(&self) {
        // Registered before the check, so that no notification in between is missed.
        let closed = self.closed.notified();
        if !self.is_closed.load(Ordering::SeqCst) {
            closed.await;
        }
    }

    /// Removes and returns everything reported since the last call.
    pub(crate) fn drain(&self) -> Reported {
        std::mem::take(&mut lock(&self.reported))
    }

    /// Adds a report and notifies the inbox of the first one. Returns false if the inbox is gone.
    fn add(&self, add: impl FnOnce(&mut Reported)) -> bool {
        let is_first = {
            let mut reported = lock(&self.reported);
            let is_first = reported.requests.is_empty() && reported.ended.is_empty();
            add(&mut reported);
            is_first
        };
        let is_open = !is_first || self.inbox.cast(InboxMessage::AttemptsReported).is_ok();
        if !is_open {
            drop(self.drain());
        }
        is_open
    }
}

/// Reports the end of an attempt when it is dropped (`RETRY-A-4`).
pub(crate) struct EndReport {
    reports: Arc<AttemptReports>,
    subscription: SubscriptionId,
    measured: Option<MeasuredAttempt>,
    permit: Option<DeliveryPermit>,
}

impl EndReport {
    pub(crate) fn new(
        reports: Arc<AttemptReports>,
        subscription: SubscriptionId,
        permit: DeliveryPermit,
    ) -> Self {
        Self { reports, subscription, measured: None, permit: Some(permit) }
    }
}

impl Drop for EndReport {
    fn drop(&mut self) {
        drop(self.permit.take());
        let (subscription, measured) = (self.subscription, self.measured.take());
        let has_panicked = std::thread::panicking();
        let ended = EndedAttempt { subscription, measured, has_panicked };
        self.reports.add(|reported| reported.ended.push(ended));
    }
}

impl WorkerAttempt for DeliveryAttempt {
    /// Sends the webhook and stores the outcome; returns early if the inbox stops.
    fn run(&mut self) -> BoxFuture<'_, ()> {
        let reports = self.end.reports.clone();
        Box::pin(async move {
            tokio::select! {
                biased;
                () = reports.closed() => {}
                () = self.send_and_store() => {}
            }
        })
    }
}

impl DeliveryAttempt {
    async fn send_and_store(&mut self) {
        let began = self.environment.monotonic();
        if let Some((result, health)) = self.send().await {
            let took = self.environment.monotonic().saturating_sub(began);
            self.end.measured = Some(MeasuredAttempt { began, took, health });
            self.store(result, health).await;
        }
    }

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
            let is_open = self.end.reports.add(|reported| reported.requests.push(request));
            if !is_open || receive(reply, deadline).await.is_ok() {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(STORE_WAIT_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::permits::DeliveryPermits;
    use ractor::{Actor, ActorProcessingErr};
    use std::sync::atomic::AtomicUsize;
    use triggers_protocol::TenantId;

    /// An inbox that only counts its messages.
    struct Counter;

    impl Actor for Counter {
        type Msg = InboxMessage;
        type State = Arc<AtomicUsize>;
        type Arguments = Arc<AtomicUsize>;

        async fn pre_start(
            &self,
            _: ActorRef<InboxMessage>,
            count: Arc<AtomicUsize>,
        ) -> Result<Arc<AtomicUsize>, ActorProcessingErr> {
            Ok(count)
        }

        async fn handle(
            &self,
            _: ActorRef<InboxMessage>,
            _: InboxMessage,
            count: &mut Arc<AtomicUsize>,
        ) -> Result<(), ActorProcessingErr> {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_attempt_reports_one_end_after_its_permit_is_free() {
        let count = Arc::new(AtomicUsize::new(0));
        let (inbox, stopped) = Actor::spawn(None, Counter, count.clone()).await.unwrap();
        let reports = Arc::new(AttemptReports::new(inbox.clone()));
        let permits = DeliveryPermits::new(4, usize::MAX);
        let permits = permits.of(TenantId::parse("acme").unwrap(), Arc::default());
        let id = SubscriptionId::from_bytes([1; 16]);
        let mut ends: Vec<_> = permits
            .try_acquire(3)
            .into_iter()
            .map(|permit| EndReport::new(reports.clone(), id, permit))
            .collect();
        assert!(ends.len() == 3 && permits.try_acquire(1).is_empty());
        let [first, second, third] = [(); 3].map(|()| ends.pop().unwrap());
        drop(first);
        let panicking = tokio::spawn(async move {
            let _end = second;
            panic!("an attempt that fails");
        });
        assert!(panicking.await.unwrap_err().is_panic());
        let hanging = tokio::spawn(async move {
            let _end = third;
            std::future::pending::<()>().await;
        });
        hanging.abort();
        assert!(hanging.await.unwrap_err().is_cancelled());
        assert_eq!(permits.try_acquire(3).len(), 3);
        let ended = reports.drain().ended;
        let panicked = ended.iter().filter(|ended| ended.has_panicked).count();
        assert_eq!((ended.len(), panicked), (3, 1), "RETRY-A-4");
        assert!(reports.drain().ended.is_empty(), "RETRY-A-4");

        inbox.drain().unwrap();
        stopped.await.unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 1, "the inbox hears of the first report only");
        let ended = EndedAttempt { subscription: id, measured: None, has_panicked: false };
        assert!(!reports.add(|reported| reported.ended.push(ended)), "the inbox is gone");
        assert!(reports.drain().ended.is_empty());
    }
}
