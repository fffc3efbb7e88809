//! Steps of the wall clock in virtual time: what is due is not delayed, events are dated right, and
//! a clock that is wrong by years does no lasting harm.

use crate::fixture::{append, event, in_seconds, query, start_with, store_on};
use crate::push::{Bench, OTHER_URL, URL, subscription};
use crate::receivers::Behaviour;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use triggers_actors::{BrokerError, BrokerOptions};
use triggers_protocol::{EventId, EventStatus, Timestamp};
use triggers_store::tables::inbox::PageQuery;
use triggers_store::tables::operations::{Lease, Leased, Nack};

const HOUR: Duration = Duration::from_secs(3_600);
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Longer than a node distrusts a clock that runs evenly.
const LONG: Duration = Duration::from_secs(700);

async fn lease(bench: &Bench, seconds: u64) -> Option<Leased> {
    let visibility = Duration::from_secs(seconds);
    let lease = Lease { limit: 1, event_types: Vec::new(), visibility, after: None };
    bench.router().execute(&bench.tenant, lease, in_seconds(5)).await.unwrap().events.pop()
}

/// The time until an event can be leased.
async fn waits(bench: &Bench) -> Duration {
    let began = Instant::now();
    while lease(bench, 10).await.is_none() {
        assert!(began.elapsed() < HOUR / 2, "nothing can be leased");
        sleep(Duration::from_millis(500)).await;
    }
    began.elapsed()
}

/// Received events whose time of acceptance is in these bounds.
async fn received(bench: &Bench, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<EventId> {
    let all = query(EventStatus::Received, EventId::ZERO, 100);
    let query = PageQuery { from, to, ..all };
    let page = bench.router().list(&bench.tenant, query, in_seconds(5)).await.unwrap();
    page.events.iter().map(|event| event.id).collect()
}

impl Bench {
    fn wall(&self) -> Timestamp {
        self.store.environment().now()
    }

    /// Starts another node on the same data, which has seen no step, and stops the first one.
    async fn restart(&mut self, incarnation: &str) {
        self.store = store_on(&self.engine, 7, self.clock.clone());
        let node =
            start_with(&self.store, &self.receivers, BrokerOptions::default(), incarnation).await;
        std::mem::replace(&mut self.node, node).stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_back_delays_no_webhook_and_no_pause_of_an_endpoint() {
    let bench = Bench::start(140).await;
    bench.clock.jump(2 * HOUR);
    bench.receivers.set(URL, Behaviour::Busy(503, Duration::from_secs(30)));
    bench.receivers.set(OTHER_URL, Behaviour::Answer(500));
    bench.subscribe(URL, &[60, 60]).await;
    bench.subscribe(OTHER_URL, &[60, 60]).await;
    let mut ids = bench.append(3).await;
    sleep(Duration::from_secs(5)).await;
    for url in [URL, OTHER_URL] {
        bench.receivers.set(url, Behaviour::Answer(200));
    }
    bench.clock.set_back(HOUR);
    ids.extend(bench.append(1).await);
    sleep(Duration::from_secs(90)).await;
    assert_eq!(bench.status(EventStatus::Delivered).await, ids);
}

#[tokio::test(start_paused = true)]
async fn an_hour_back_delays_no_end_of_a_lease_and_no_retry_of_a_consumer() {
    let bench = Bench::start(141).await;
    bench.clock.jump(2 * HOUR);
    bench.append(1).await;
    let leased = lease(&bench, 30).await.unwrap();
    bench.clock.set_back(HOUR);
    let nack = Nack {
        id: leased.event.id,
        token: Some(leased.token),
        reason: None,
        retry_after: Some(Duration::from_secs(20)),
    };
    bench.router().change(&bench.tenant, nack, in_seconds(5)).await.unwrap().unwrap();
    bench.clock.set_back(HOUR / 2);
    let waited = waits(&bench).await;
    assert!((20..22).contains(&waited.as_secs()), "the retry came after {waited:?}");
    bench.clock.set_back(HOUR / 4);
    // The lease of ten seconds ends, then the second delay of the default policy passes.
    let waited = waits(&bench).await;
    assert!((250..372).contains(&waited.as_secs()), "it came back after {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_between_two_nodes_delays_little_and_keeps_the_order() {
    let mut bench = Bench::start(142).await;
    bench.clock.jump(2 * HOUR);
    bench.receivers.set(URL, Behaviour::Answer(500));
    let mut row = subscription(&bench.store, URL, &[20, 20, 20, 20, 20]);
    row.max_in_flight = 1;
    bench.subscribe_as(row).await;
    let mut ids = bench.append(3).await;
    sleep(Duration::from_secs(4)).await;
    // A node that starts knows no more than the store.
    bench.clock.set_back(HOUR);
    bench.restart("n@2").await;
    bench.receivers.set(URL, Behaviour::Answer(200));
    ids.extend(bench.append(3).await);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.status(EventStatus::Delivered).await, ids);
    let mut first: Vec<EventId> = Vec::new();
    for seen in bench.receivers.seen(URL).iter().filter(|seen| seen.attempts == 1) {
        first.push(seen.id);
    }
    assert!(first.is_sorted(), "first attempts go in the order of acceptance: {first:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_ten_years_ahead_for_minutes_leaves_no_trace() {
    let bench = Bench::start(143).await;
    let mut ids = bench.append(1).await;
    bench.clock.jump(TEN_YEARS);
    ids.extend(bench.append(2).await);
    sleep(Duration::from_secs(300)).await;
    let leased = lease(&bench, 10).await.unwrap();
    assert_eq!(leased.event.id, ids[0]);
    bench.clock.set_back(TEN_YEARS);
    ids.extend(bench.append(1).await);
    assert!(ids.is_sorted());
    assert_eq!(received(&bench, None, Some(bench.wall())).await, ids[1..]);
    let day = Duration::from_secs(86_400);
    assert!(ids.iter().all(|id| id.created_at() < bench.wall().plus(day)), "{ids:?}");
    for _ in 0..31 {
        bench.clock.jump(day);
        sleep(Duration::from_secs(3)).await;
    }
    sleep(2 * LONG).await;
    assert!(received(&bench, None, None).await.is_empty(), "SWEEP-1");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_ten_years_ahead_for_long_is_accepted_again_by_itself() {
    let bench = Bench::start(144).await;
    bench.clock.jump(TEN_YEARS);
    bench.append(1).await;
    sleep(LONG).await;
    let late = bench.append(1).await;
    bench.clock.set_back(TEN_YEARS);
    let refused = async || {
        let request = append(vec![event("{}", None)]);
        bench.router().append(&bench.tenant, request, in_seconds(5)).await.err()
    };
    let begin = bench.wall();
    assert_eq!(refused().await, Some(BrokerError::ClockSuspect));
    sleep(LONG).await;
    assert_eq!(refused().await, None);
    let now = bench.append(1).await;
    assert!(now > late, "ids never go back");
    assert_eq!(received(&bench, Some(begin), Some(bench.wall())).await.last(), now.last());
    assert_eq!(received(&bench, Some(begin), Some(bench.wall())).await.len(), 2);
    // Webhooks are due at once although their ids are ahead.
    bench.subscribe(URL, &[60]).await;
    let sent = bench.append(1).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.status(EventStatus::Delivered).await, sent);
    let found = bench.router().find(&bench.tenant, sent[0], in_seconds(5)).await.unwrap().unwrap();
    assert!(found.received_at <= bench.wall() && found.timestamp == found.received_at, "EVENT-3");
}
