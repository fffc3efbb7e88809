//! Changes while webhooks wait or are in flight: of subscriptions, endpoints, clocks and inboxes.

use super::{Bench, OTHER_URL, URL};
use crate::fixture::{append, event, in_seconds, tenant};
use crate::receivers::Behaviour;
use std::time::Duration;
use triggers_actors::BrokerOptions;
use triggers_protocol::EventStatus;
use triggers_store::tables::operations::SubscriptionChange;

fn active(active: bool) -> SubscriptionChange {
    SubscriptionChange { active: Some(active), ..SubscriptionChange::default() }
}

#[tokio::test(start_paused = true)]
async fn webhooks_in_flight_end_normally_when_their_subscription_is_deleted() {
    for (seed, is_deleted) in [(100, false), (101, true)] {
        let bench = Bench::start(seed).await;
        bench.receivers.set(URL, Behaviour::AnswerAfter(Duration::from_secs(8), 200));
        let id = bench.subscribe(URL, &[600]).await;
        let sent = bench.append(3).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        if is_deleted {
            assert!(bench.unsubscribe(id).await);
        } else {
            bench.change(id, active(false)).await;
        }
        assert_eq!(
            bench.status(EventStatus::Queued).await,
            sent,
            "PUSH-4: nothing is failed before its end"
        );
        assert_eq!(
            bench.reaches(EventStatus::Delivered, 3).await,
            sent,
            "PUSH-4: the answer was a good one"
        );
        tokio::time::sleep(Duration::from_secs(2_000)).await;
        assert_eq!(bench.receivers.seen(URL).len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_accepted_during_the_deletion_of_its_subscription_is_not_stuck() {
    for seed in 110..130 {
        let bench = Bench::start(seed).await;
        bench.receivers.set(URL, Behaviour::Refuse);
        let id = bench.subscribe(URL, &[5]).await;
        let accept = async || {
            for _ in 0..10 {
                bench.append(2).await;
            }
        };
        let disable = async || {
            tokio::time::sleep(Duration::from_micros(400 * (seed - 110))).await;
            bench.change(id, active(false)).await;
        };
        tokio::join!(accept(), disable());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(bench.status(EventStatus::Queued).await.is_empty(), "seed {seed}");
        let failed = bench.status(EventStatus::Failed).await.len();
        assert_eq!(failed + bench.status(EventStatus::Received).await.len(), 20, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_wait_that_the_endpoint_asks_for_uses_no_attempt() {
    let bench = Bench::start(130).await;
    bench.receivers.set(URL, Behaviour::Busy(503, Duration::from_secs(2)));
    bench.subscribe(URL, &[600]).await;
    let id = bench.append(1).await[0];
    tokio::time::sleep(Duration::from_secs(15)).await;
    let asked = bench.receivers.seen(URL).len();
    assert!((4..=8).contains(&asked), "COMPLETE-2: it came back {asked} times");
    bench.receivers.set(URL, Behaviour::Answer(200));
    assert_eq!(bench.reaches(EventStatus::Delivered, 1).await, [id]);
    // This happens twenty times; then the policy applies.
    bench.receivers.set(URL, Behaviour::Busy(503, Duration::from_secs(2)));
    let id = bench.append(1).await[0];
    assert_eq!(bench.reaches(EventStatus::Failed, 1).await, [id]);
    let tries = bench.receivers.seen(URL).iter().filter(|seen| seen.id == id).count();
    assert_eq!(tries, 20 + 2, "COMPLETE-2");
}

#[tokio::test(start_paused = true)]
async fn a_new_target_does_not_wait_for_the_pause_of_the_old_one() {
    let bench = Bench::start(131).await;
    bench.receivers.set(URL, Behaviour::Busy(429, Duration::from_secs(5_000)));
    let id = bench.subscribe(URL, &[1, 1]).await;
    bench.append(1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(bench.subscription(id).await.unwrap().held_until.is_some());
    bench
        .change(
            id,
            SubscriptionChange {
                target_url: Some(OTHER_URL.into()),
                ..SubscriptionChange::default()
            },
        )
        .await;
    let later = bench.append(1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.status(EventStatus::Delivered).await, later);
    assert_eq!(bench.receivers.seen(OTHER_URL).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_delays_no_new_event() {
    let bench = Bench::start(132).await;
    bench.clock.jump(Duration::from_secs(7_200));
    bench.subscribe(URL, &[60]).await;
    let mut ids = bench.append(1).await;
    bench.reaches(EventStatus::Delivered, 1).await;
    let keyed = async || {
        let sent = bench
            .router()
            .append(&bench.tenant, append(vec![event("{}", Some("key"))]), in_seconds(5))
            .await;
        sent.unwrap().remove(0).unwrap()
    };
    ids.push(keyed().await.event.id);
    bench.clock.set_back(Duration::from_secs(7_000));
    ids.extend(bench.append(2).await);
    assert!(ids.is_sorted(), "ids never go back");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(bench.status(EventStatus::Delivered).await, ids);
    assert!(keyed().await.replayed, "the idempotency key still holds");
}

#[tokio::test(start_paused = true)]
async fn an_inbox_closed_to_make_room_opens_again_when_something_is_due() {
    let bench =
        Bench::with(133, BrokerOptions { inboxes_max: 1, ..BrokerOptions::default() }).await;
    bench.receivers.set(URL, Behaviour::Answer(500));
    bench.subscribe(URL, &[100]).await;
    let id = bench.append(1).await[0];
    tokio::time::sleep(Duration::from_secs(5)).await;
    bench.receivers.set(URL, Behaviour::Answer(200));
    // These tenants take the place of every open inbox.
    for other in 0..20 {
        let other = tenant(&format!("other-{other}"));
        bench
            .router()
            .append(&other, append(vec![event("{}", None)]), in_seconds(5))
            .await
            .unwrap();
    }
    tokio::time::sleep(Duration::from_secs(140)).await;
    assert_eq!(bench.receivers.seen(URL).len(), 2, "no request opened the inbox");
    assert_eq!(bench.status(EventStatus::Delivered).await, [id]);
}
