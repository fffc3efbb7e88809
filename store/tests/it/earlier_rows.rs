//! What was stored before an event's state had its place in the row of its delivery is read, and goes on, as it stands.

use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use triggers_protocol::event::EventState;
use triggers_protocol::{
    Environment, Event, EventId, EventStatus, EventType, PartitionId, TenantId, Timestamp,
};
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::kv::{Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{self, Command, Counts, Outcome};
use triggers_store::tables::fence::{self, Guard};
use triggers_store::tables::inbox::{self, PageQuery, newest_first};
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::rows::{Claim, Delivery, EventRow, Row};

const TOKEN: [u8; 16] = [5; 16];

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000).plus(Duration::from_secs(seconds))
}

fn run() -> Run {
    Run::idempotent(Instant::now() + Duration::from_secs(60))
}

struct Inbox {
    store: Store,
    guard: Guard,
    keys: TenantKeys,
}

impl Inbox {
    async fn open() -> Self {
        let store = Store::new(
            Arc::new(SimulatedEngine::new(SimulatedOptions::new(7))),
            Environment::system(),
        );
        let tenant = TenantId::parse("acme").unwrap();
        let partition = PartitionId::of(&tenant, 16);
        let own = [partition];
        let guards =
            store.run(run(), |tx| Box::pin(fence::take(tx, &own, "node@1"))).await.unwrap();
        Self {
            store,
            guard: guards.into_iter().next().unwrap(),
            keys: TenantKeys::new(partition, &tenant),
        }
    }

    /// Stores an event as version 1 did: its state in its own row, wherever it stands.
    async fn store(&self, id: EventId, state: EventState, delivery: Option<Delivery>) {
        let event = Event {
            id,
            event_type: EventType::parse("order.created").unwrap(),
            timestamp: at(0),
            payload: Bytes::from_static(b"{}"),
            metadata: Arc::default(),
            state,
        };
        let stored = self.store.run(run(), |tx| {
            let (keys, event, delivery) = (&self.keys, &event, delivery.as_ref());
            Box::pin(async move {
                let mut row = EventRow::encode(event, 2);
                assert_eq!(std::mem::replace(&mut row[0], 1), 2);
                tx.set(&keys.event(id), &row);
                tx.set(&keys.queue(event.state.status, id), b"order.created");
                tx.add(&keys.counter(event.state.status), 1);
                if let Some(delivery) = delivery {
                    tx.set(&keys.delivery(id), &of_version_1(delivery));
                }
                if let Some(Claim::Leased { until }) = delivery.map(|delivery| delivery.claim) {
                    tx.set(&keys.lease_end(until, id), &[]);
                }
                Ok::<_, TableError>(())
            })
        });
        stored.await.unwrap();
    }

    async fn apply(&self, command: Command) -> (Outcome, Counts) {
        let commands = [command];
        let applied = self.store.run(run(), |tx| {
            Box::pin(batch::apply(tx, &self.guard, &self.keys, EventId::ZERO, &commands))
        });
        let mut applied = applied.await.unwrap();
        (applied.outcomes.remove(0), applied.counts)
    }

    async fn list(&self, status: EventStatus) -> Vec<Event> {
        let query = PageQuery {
            status,
            after: newest_first(),
            limit: 10,
            event_types: Vec::new(),
            from: None,
            to: None,
            scan_rows_max: 100,
            page_bytes_max: 1 << 20,
        };
        let page =
            self.store.run(run(), |tx| Box::pin(inbox::list(tx, &self.guard, &self.keys, &query)));
        page.await.unwrap().events
    }

    async fn own_row(&self, id: EventId) -> Bytes {
        let key = self.keys.event(id);
        let row = self.store.run(run(), |tx| {
            let key = &key;
            Box::pin(async move { Ok::<_, TableError>(tx.get_snapshot(key).await?) })
        });
        row.await.unwrap().unwrap()
    }
}

/// Version 1 ended before the state, of which a row without one is a last byte.
fn of_version_1(delivery: &Delivery) -> Vec<u8> {
    assert_eq!(delivery.state, None);
    let mut bytes = delivery.to_bytes();
    assert_eq!((bytes[0], bytes.pop()), (2, Some(0)));
    bytes[0] = 1;
    bytes
}

#[tokio::test]
async fn a_lease_goes_on() {
    let inbox = Inbox::open().await;
    let id = EventId::mint(EventId::ZERO, at(0), [3; 16]);
    let state = EventState {
        status: EventStatus::Queued,
        attempts: 1,
        last_attempt_at: Some(at(1)),
        ..EventState::ACCEPTED
    };
    let claim = Claim::Leased { until: at(60) };
    inbox
        .store(id, state.clone(), Some(Delivery { claim, token: Some(TOKEN), ..Delivery::NEW }))
        .await;
    assert_eq!(inbox.list(EventStatus::Queued).await[0].state, state);

    let other = Command::Acknowledge { id, at: at(2), token: Some([6; 16]) };
    assert_eq!(inbox.apply(other).await.0, Outcome::Conflict);
    let (outcome, counts) =
        inbox.apply(Command::Acknowledge { id, at: at(2), token: Some(TOKEN) }).await;
    let Outcome::Acknowledged(row) = outcome else { panic!("{outcome:?}") };
    let delivered =
        EventState { status: EventStatus::Delivered, delivered_at: Some(at(2)), ..state };
    assert_eq!(row.event.state, delivered);
    assert_eq!((counts.get(EventStatus::Queued), counts.get(EventStatus::Delivered)), (0, 1));
    assert_eq!(inbox.list(EventStatus::Delivered).await[0].state, delivered);
    let row = inbox.own_row(id).await;
    assert_eq!(row[0], 2, "whoever writes version 1 refuses it from now on");
    inbox.apply(Command::Replay { id, at: at(3), nonce: 8 }).await;
    inbox.apply(Command::Acknowledge { id, at: at(4), token: None }).await;
    let replayed = inbox.own_row(id).await;
    assert_ne!(replayed, row, "a received event's state is in its own row");
    inbox.apply(Command::Acknowledge { id, at: at(5), token: None }).await;
    assert_eq!(inbox.own_row(id).await, replayed, "the payload is not written again");
}

#[tokio::test]
async fn what_was_acknowledged_is_and_can_be_replayed() {
    let inbox = Inbox::open().await;
    let id = EventId::mint(EventId::ZERO, at(0), [3; 16]);
    let state = EventState {
        status: EventStatus::Delivered,
        delivered_at: Some(at(1)),
        ..EventState::ACCEPTED
    };
    inbox.store(id, state.clone(), None).await;
    let (outcome, _) = inbox.apply(Command::Acknowledge { id, at: at(2), token: None }).await;
    let Outcome::Acknowledged(row) = outcome else { panic!("{outcome:?}") };
    assert_eq!(row.event.state, state);

    let (outcome, _) = inbox.apply(Command::Replay { id, at: at(3), nonce: 8 }).await;
    assert!(matches!(outcome, Outcome::Changed(_)), "{outcome:?}");
    assert_eq!(inbox.list(EventStatus::Received).await[0].state, EventState::ACCEPTED);
    let (outcome, counts) = inbox.apply(Command::Delete { id, at: at(4) }).await;
    assert_eq!((outcome, counts), (Outcome::Deleted, Counts::default()));
}

#[tokio::test]
async fn an_event_replayed_after_an_attempt_is_received_with_its_attempts() {
    let inbox = Inbox::open().await;
    let id = EventId::mint(EventId::ZERO, at(0), [3; 16]);
    let failed = EventState {
        status: EventStatus::Failed,
        attempts: 3,
        last_attempt_at: Some(at(1)),
        failed_at: Some(at(2)),
        last_error: Some("refused".to_owned()),
        ..EventState::ACCEPTED
    };
    inbox.store(id, failed.clone(), Some(Delivery::NEW)).await;
    inbox.apply(Command::Replay { id, at: at(3), nonce: 8 }).await;
    let replayed =
        EventState { status: EventStatus::Received, failed_at: None, last_error: None, ..failed };
    assert_eq!(inbox.list(EventStatus::Received).await[0].state, replayed);
    let (outcome, _) = inbox.apply(Command::Acknowledge { id, at: at(4), token: None }).await;
    let Outcome::Acknowledged(row) = outcome else { panic!("{outcome:?}") };
    let delivered =
        EventState { status: EventStatus::Delivered, delivered_at: Some(at(4)), ..replayed };
    assert_eq!(row.event.state, delivered);
    assert_eq!(inbox.list(EventStatus::Delivered).await[0].state, delivered);
}
