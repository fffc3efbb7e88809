//! Rows that have reached their age are removed: events, idempotency keys, tombstones, attempts.

use super::{Bench, URL};
use crate::fixture::{append, event, in_seconds};
use crate::receivers::Behaviour;
use std::time::Duration;
use triggers_protocol::EventStatus;
use triggers_store::tables::inbox::Missing;
use triggers_store::tables::operations::DeleteEvent;

const DAY: Duration = Duration::from_secs(86_400);

/// Lets days pass, and then the time in which a node believes it, and that of a full sweep.
async fn pass(bench: &Bench, days: u32) {
    bench.clock.jump(days * DAY - Duration::from_secs(2_000));
    tokio::time::sleep(Duration::from_secs(2_000)).await;
}

#[tokio::test(start_paused = true)]
async fn events_are_removed_after_their_retention() {
    let bench = Bench::start(80).await;
    let old = bench.append(450).await;
    bench.router().acknowledge_all(&bench.tenant, &old[..200], in_seconds(5)).await.unwrap();
    // The tenant has no settings, so its events are kept for thirty days.
    pass(&bench, 29).await;
    assert_eq!(bench.status(EventStatus::Received).await, old[200..], "SWEEP-1: not before");
    bench.receivers.set(URL, Behaviour::Refuse);
    bench.subscribe(URL, &[86_000]).await;
    let pushed = bench.append(3).await;
    pass(&bench, 1).await;
    tokio::time::sleep(Duration::from_secs(1_300)).await;
    for status in [EventStatus::Received, EventStatus::Delivered] {
        assert!(bench.status(status).await.is_empty(), "SWEEP-1: {status}");
    }
    let gone = bench.router().find(&bench.tenant, old[0], in_seconds(5)).await.unwrap();
    assert_eq!(gone, Err(Missing::NotFound));
    pass(&bench, 31).await;
    for status in EventStatus::ALL {
        assert!(bench.status(status).await.is_empty(), "SWEEP-1: {status}");
    }
    let seen = bench.receivers.seen(URL).len();
    assert!(seen >= pushed.len(), "each was attempted");
    pass(&bench, 5).await;
    assert_eq!(bench.receivers.seen(URL).len(), seen, "removed events are not sent");
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_is_kept_for_its_retention_across_midnight() {
    let bench = Bench::start(81).await;
    let send = async || {
        let sent = bench
            .router()
            .append(&bench.tenant, append(vec![event("{}", Some("key"))]), in_seconds(5))
            .await;
        sent.unwrap().remove(0).unwrap()
    };
    // The clock of the tests starts at 08:00, so each step is in another part of the day.
    for _ in 0..4 {
        let first = send().await;
        assert!(!first.replayed);
        for hours in [10, 13] {
            bench.clock.jump(Duration::from_secs(hours * 3_600 - 700));
            tokio::time::sleep(Duration::from_secs(700)).await;
            let again = send().await;
            assert!(again.replayed && again.event.id == first.event.id, "after {hours} hours more");
        }
        bench.clock.jump(Duration::from_secs(3_700));
    }
    assert_eq!(bench.status(EventStatus::Received).await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_remembered_for_a_week() {
    let bench = Bench::start(82).await;
    let id = bench.append(1).await[0];
    let deletion = async || {
        let delete = DeleteEvent { id };
        bench.router().execute(&bench.tenant, delete, in_seconds(5)).await.unwrap()
    };
    assert_eq!(deletion().await, Ok(()));
    pass(&bench, 7).await;
    assert_eq!(deletion().await, Err(Missing::Gone));
    assert_eq!(
        bench.router().find(&bench.tenant, id, in_seconds(5)).await.unwrap(),
        Err(Missing::Gone)
    );
    pass(&bench, 2).await;
    assert_eq!(deletion().await, Err(Missing::NotFound));
}

#[tokio::test(start_paused = true)]
async fn attempts_are_listed_for_a_week() {
    let bench = Bench::start(83).await;
    let id = bench.subscribe(URL, &[]).await;
    bench.append(700).await;
    bench.reaches(EventStatus::Delivered, 700).await;
    let listed = async || {
        let page = bench
            .router()
            .subscription_attempts(&bench.tenant, id, None, 1_000, in_seconds(5))
            .await;
        page.unwrap().unwrap().attempts.len()
    };
    pass(&bench, 6).await;
    assert_eq!(listed().await, 700);
    pass(&bench, 1).await;
    tokio::time::sleep(Duration::from_secs(1_300)).await;
    assert_eq!(listed().await, 0, "SWEEP-2");
}
