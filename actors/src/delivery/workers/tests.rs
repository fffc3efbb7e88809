//! Attempts of an inbox that has gone, so that they store no outcome, to an endpoint that answers
//! when it is told to.

use super::*;
use crate::delivery::permits::{DeliveryPermits, TenantPermits};
use crate::delivery::{Delivery, SendOutcome, Webhook, WebhookSender};
use crate::inbox::delivery_attempt::{AttemptReports, DeliveryAttempt, EndReport};
use crate::inbox::message::InboxMessage;
use crate::node_faults::NodeFaults;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use triggers_protocol::event::EventState;
use triggers_protocol::{
    Environment, Event, EventId, EventType, SubscriptionId, TenantId, Timestamp,
};
use triggers_store::kv::BoxFuture;
use triggers_store::tables::batch::Claimed;
use triggers_store::tables::rows::{SubscriptionRow, SubscriptionStatus};

/// Permits that a tenant which is alone gets.
const IN_FLIGHT: usize = 3;

/// An actor that ignores its messages: the root, and an inbox.
struct Silent;

impl Actor for Silent {
    type Msg = InboxMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<InboxMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// Answers a webhook for each permit of the semaphore, or panics.
struct Endpoint {
    answers: Semaphore,
    arrived: AtomicUsize,
    is_panicking: AtomicBool,
}

impl WebhookSender for Endpoint {
    fn send(&self, _: Webhook) -> BoxFuture<'_, SendOutcome> {
        Box::pin(async move {
            self.arrived.fetch_add(1, Ordering::Relaxed);
            assert!(!self.is_panicking.load(Ordering::Relaxed), "a planned failure");
            self.answers.acquire().await.unwrap().forget();
            SendOutcome::Answered { status: 200, retry_after: None }
        })
    }
}

struct Bench {
    root: ActorRef<InboxMessage>,
    endpoint: Arc<Endpoint>,
    delivery: Arc<Delivery>,
    permits: TenantPermits,
    reports: Arc<AttemptReports>,
}

impl Bench {
    async fn start() -> Self {
        let (root, _) = Actor::spawn(None, Silent, ()).await.unwrap();
        let (inbox, stopped) = Actor::spawn(None, Silent, ()).await.unwrap();
        inbox.stop(None);
        stopped.await.unwrap();
        let endpoint = Arc::new(Endpoint {
            answers: Semaphore::new(0),
            arrived: AtomicUsize::default(),
            is_panicking: AtomicBool::default(),
        });
        let delivery = Delivery {
            sender: endpoint.clone(),
            permits: DeliveryPermits::new(IN_FLIGHT + 1, usize::MAX),
            workers: DeliveryWorkers::start(root.get_cell()).await.unwrap(),
            faults: NodeFaults::default(),
        };
        let permits = delivery.permits.of(TenantId::parse("acme").unwrap(), Arc::default());
        let reports = Arc::new(AttemptReports::new(inbox));
        Self { root, endpoint, delivery: Arc::new(delivery), permits, reports }
    }

    /// Begins as many attempts as there are permits.
    fn begin(&self) {
        let subscription = Arc::new(subscription());
        for permit in self.permits.try_acquire(IN_FLIGHT) {
            let environment = Environment::system();
            self.delivery.workers.make(Box::new(DeliveryAttempt {
                delivery: self.delivery.clone(),
                until: environment.steady().plus(Duration::from_secs(3_600)),
                environment,
                subscription: subscription.clone(),
                claimed: Claimed { event: event(), token: 1 },
                send_timeout: Duration::from_secs(10),
                end: EndReport::new(self.reports.clone(), subscription.id, permit),
            }));
        }
    }

    fn arrived(&self) -> usize {
        self.endpoint.arrived.load(Ordering::Relaxed)
    }

    /// Number of workers, idle ones included.
    fn workers(&self) -> usize {
        self.delivery.workers.supervisor.get_children().len()
    }

    fn idle(&self) -> usize {
        lock(&self.delivery.workers.idle).workers.len()
    }

    /// Waits until no attempt is in flight.
    async fn has_ended(&self) {
        until(|| self.permits.allowance() == IN_FLIGHT).await;
    }
}

fn subscription() -> SubscriptionRow {
    SubscriptionRow {
        id: SubscriptionId::from_bytes([1; 16]),
        target_url: "https://one.example/".to_owned(),
        event_types: Vec::new(),
        description: None,
        keys: Vec::new(),
        retry_policy: None,
        max_in_flight: 10,
        status: SubscriptionStatus::Active,
        failing_since: None,
        held_until: None,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        changed_by: 0,
    }
}

fn event() -> Event {
    Event {
        id: EventId::ZERO,
        received_at: Timestamp::EPOCH,
        event_type: EventType::parse("order.created").unwrap(),
        timestamp: Timestamp::EPOCH,
        payload: "{}".into(),
        metadata: Arc::default(),
        state: EventState::ACCEPTED,
    }
}

/// Lets the other tasks of the runtime run until a state is reached.
async fn until(is_reached: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if is_reached() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the state is not reached");
}

#[tokio::test(start_paused = true)]
async fn workers_are_reused_and_bounded_by_the_permits() {
    let bench = Bench::start().await;
    for round in 1..=5 {
        bench.begin();
        until(|| bench.arrived() == round * IN_FLIGHT).await;
        assert_eq!((bench.workers(), bench.idle()), (IN_FLIGHT, 0), "WORKERS-2");
        bench.begin();
        assert_eq!(bench.workers(), IN_FLIGHT, "no permit is free");
        bench.endpoint.answers.add_permits(IN_FLIGHT);
        bench.has_ended().await;
        assert_eq!((bench.workers(), bench.idle()), (IN_FLIGHT, IN_FLIGHT), "WORKERS-1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_one_worker_and_its_attempt() {
    let bench = Bench::start().await;
    bench.endpoint.answers.add_permits(IN_FLIGHT);
    bench.begin();
    bench.has_ended().await;
    bench.endpoint.is_panicking.store(true, Ordering::Relaxed);
    bench.begin();
    bench.has_ended().await;
    until(|| bench.workers() == 0).await;
    assert_eq!(bench.idle(), 0, "WORKERS-3");
    bench.endpoint.is_panicking.store(false, Ordering::Relaxed);
    bench.begin();
    until(|| bench.arrived() == 3 * IN_FLIGHT).await;
    assert_eq!(bench.workers(), IN_FLIGHT, "others took their place");
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_stops_ends_its_attempts() {
    let bench = Bench::start().await;
    bench.begin();
    until(|| bench.arrived() == IN_FLIGHT).await;
    bench.reports.close();
    bench.has_ended().await;
    assert_eq!((bench.workers(), bench.idle()), (IN_FLIGHT, IN_FLIGHT));
    bench.begin();
    bench.has_ended().await;
    assert_eq!(bench.arrived(), IN_FLIGHT, "RETRY-A-5: no attempt begins");
}

#[tokio::test(start_paused = true)]
async fn workers_that_are_not_needed_stop() {
    let bench = Bench::start().await;
    bench.begin();
    bench.endpoint.answers.add_permits(IN_FLIGHT);
    bench.has_ended().await;
    tokio::time::advance(UNUSED_PERIOD).await;
    until(|| lock(&bench.delivery.workers.idle).unused == IN_FLIGHT).await;
    assert_eq!(bench.workers(), IN_FLIGHT, "they were needed meanwhile");
    tokio::time::advance(UNUSED_PERIOD).await;
    until(|| bench.workers() == 0).await;
    assert_eq!(bench.idle(), 0, "WORKERS-4");
}

#[tokio::test(start_paused = true)]
async fn workers_and_their_attempts_end_with_the_node() {
    let bench = Bench::start().await;
    bench.begin();
    until(|| bench.arrived() == IN_FLIGHT).await;
    bench.root.stop(None);
    bench.has_ended().await;
    bench.begin();
    bench.has_ended().await;
    assert_eq!(bench.arrived(), IN_FLIGHT, "an attempt that finds no worker ends");
}
