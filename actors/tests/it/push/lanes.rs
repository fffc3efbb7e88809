//! One endpoint beside others: permits, turns and the breaker.

use super::{Bench, OTHER_URL, URL, subscription};
use crate::fixture::{append, event, in_seconds, tenant};
use crate::receivers::Behaviour;
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::BrokerOptions;
use triggers_protocol::{EventStatus, TenantId};
use triggers_store::tables::operations::CreateSubscription;

#[tokio::test(start_paused = true)]
async fn the_webhooks_in_flight_of_a_subscription_are_bounded() {
    let bench = Bench::start(40).await;
    bench.receivers.set(URL, Behaviour::AnswerAfter(Duration::from_secs(1), 200));
    let mut row = subscription(&bench.store, URL, &[]);
    row.max_in_flight = 3;
    bench.subscribe_as(row).await;
    bench.append(30).await;
    let began = Instant::now();
    bench.reaches(EventStatus::Delivered, 30).await;
    assert_eq!(bench.receivers.in_flight_max(URL), 3, "DISPATCH-2");
    assert!(
        began.elapsed() < Duration::from_secs(13),
        "three at a time take ten seconds: {:?}",
        began.elapsed()
    );
}

/// Time to deliver `count` events of another tenant.
async fn delivered_elsewhere(bench: &Bench, count: usize) -> Duration {
    let other = tenant("other");
    let row = subscription(&bench.store, OTHER_URL, &[]);
    let create = CreateSubscription { row, by: super::by() };
    bench.router().execute(&other, create, in_seconds(5)).await.unwrap().unwrap();
    let began = Instant::now();
    bench
        .router()
        .append(&other, append(vec![event("{}", None); count]), in_seconds(5))
        .await
        .unwrap();
    while bench.receivers.seen(OTHER_URL).len() < count {
        assert!(began.elapsed() < Duration::from_secs(600), "another tenant gets no webhooks");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_hangs_does_not_delay_others() {
    let quiet = delivered_elsewhere(&Bench::start(41).await, 20).await;
    let bench = Bench::start(41).await;
    bench.receivers.set(URL, Behaviour::Hang);
    bench.subscribe(URL, &[1, 1]).await;
    bench.append(5_000).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let beside = delivered_elsewhere(&bench, 20).await;
    assert!(
        beside < 2 * quiet + Duration::from_millis(20),
        "{quiet:?} without, {beside:?} beside it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_tenant_with_nothing_in_flight_gets_the_last_place() {
    let mut options = BrokerOptions::default();
    options.delivery.in_flight_max = 4;
    options.delivery.tenant_in_flight_max = 4;
    let bench = Bench::with(42, options).await;
    bench.receivers.set(URL, Behaviour::Hang);
    bench.subscribe(URL, &[0; 20]).await;
    bench.append(100).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.receivers.in_flight_max(URL), 2, "one is left to its tenant, one to others");
    let waited = delivered_elsewhere(&bench, 1).await;
    assert!(waited < Duration::from_secs(1), "DELIVERY-A-2: {waited:?}");
}

/// Subscriptions of a tenant to endpoints that answer after `wait`; they have many webhooks due.
async fn hog(bench: &Bench, tenant: &TenantId, count: usize, wait: Duration) {
    for number in 0..count {
        let url = format!("https://hog-{number}.example/{tenant}");
        bench.receivers.set(&url, Behaviour::AnswerAfter(wait, 200));
        let mut row = subscription(&bench.store, &url, &[]);
        row.max_in_flight = 1_000;
        let create = CreateSubscription { row, by: super::by() };
        bench.router().execute(tenant, create, in_seconds(5)).await.unwrap().unwrap();
    }
    for _ in 0..5 {
        let events = append(vec![event("{}", None); 400]);
        bench.router().append(tenant, events, in_seconds(30)).await.unwrap();
    }
}

/// An endpoint that had many webhooks in flight and hangs now; the number of those that hang.
async fn dead_endpoint(bench: &Bench, tenant: &TenantId) -> (String, usize) {
    hog(bench, tenant, 1, Duration::from_millis(20)).await;
    let url = format!("https://hog-0.example/{tenant}");
    while bench.receivers.seen(&url).len() < 2_000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.receivers.set(&url, Behaviour::Hang);
    let events = append(vec![event("{}", None); 500]);
    bench.router().append(tenant, events, in_seconds(30)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let hanging = bench.receivers.in_flight(&url);
    assert!((150..=224).contains(&hanging), "{hanging} of 256");
    (url, hanging)
}

/// Waits until an endpoint has got its webhooks: before an attempt that hangs, for 15 s, has ended.
async fn gets(bench: &Bench, url: &str, count: usize) {
    let began = Instant::now();
    while bench.receivers.seen(url).len() < count {
        assert!(began.elapsed() < Duration::from_secs(3), "DISPATCH-5, DELIVERY-A-2");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_leaves_places_to_the_others_of_its_tenant() {
    let bench = Bench::start(45).await;
    let (url, hanging) = dead_endpoint(&bench, &bench.tenant).await;
    bench.subscribe(OTHER_URL, &[]).await;
    bench.append(20).await;
    gets(&bench, OTHER_URL, 20).await;
    assert_eq!(bench.receivers.in_flight(&url), hanging, "no attempt has ended");
}

#[tokio::test(start_paused = true)]
async fn four_tenants_with_dead_endpoints_leave_places_to_a_fifth_and_to_their_own() {
    let bench = Bench::start(46).await;
    let hogs: Vec<_> = (0..4).map(|number| tenant(&format!("hog-{number}"))).collect();
    for hog in &hogs {
        dead_endpoint(&bench, hog).await;
    }
    bench.subscribe(OTHER_URL, &[]).await;
    bench.append(20).await;
    gets(&bench, OTHER_URL, 20).await;
    let row = subscription(&bench.store, URL, &[]);
    let create = CreateSubscription { row, by: super::by() };
    bench.router().execute(&hogs[3], create, in_seconds(5)).await.unwrap().unwrap();
    let events = append(vec![event("{}", None); 20]);
    bench.router().append(&hogs[3], events, in_seconds(5)).await.unwrap();
    gets(&bench, URL, 20).await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_answers_after_14_seconds_keeps_few_places() {
    let bench = Bench::start(47).await;
    hog(&bench, &bench.tenant, 1, Duration::from_secs(14)).await;
    let url = format!("https://hog-0.example/{}", bench.tenant);
    while bench.receivers.seen(&url).len() < 60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(bench.receivers.in_flight(&url) <= 16, "IN-FLIGHT-1");
    }
    assert_eq!(bench.receivers.in_flight(&url), 8);
    bench.receivers.set(&url, Behaviour::AnswerAfter(Duration::from_millis(20), 200));
    let back = Instant::now();
    bench.reaches(EventStatus::Delivered, 2_000).await;
    assert!(back.elapsed() < Duration::from_secs(60), "IN-FLIGHT-2: {:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn deliveries_to_a_dead_endpoint_pause_and_resume() {
    let bench = Bench::start(43).await;
    bench.receivers.set(URL, Behaviour::Refuse);
    bench.subscribe(URL, &[600, 600, 600]).await;
    bench.append(500).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let tried = bench.receivers.seen(URL).len();
    assert!((10..100).contains(&tried), "BREAKER-1: {tried} of 500 were tried within two minutes");
    bench.receivers.set(URL, Behaviour::Answer(200));
    let back = Instant::now();
    bench.reaches(EventStatus::Delivered, 500 - tried).await;
    assert!(back.elapsed() < Duration::from_secs(60), "BREAKER-2: {:?}", back.elapsed());
    bench.reaches(EventStatus::Delivered, 500).await;
}

#[tokio::test(start_paused = true)]
async fn due_webhooks_that_may_not_be_claimed_hide_no_others() {
    let bench = Bench::start(45).await;
    bench.receivers.set(URL, Behaviour::Hang);
    let mut full = subscription(&bench.store, URL, &[0; 20]);
    full.max_in_flight = 1;
    bench.subscribe_as(full).await;
    bench.append(300).await;
    bench.subscribe(OTHER_URL, &[]).await;
    let began = Instant::now();
    bench.append(300).await;
    while bench.receivers.seen(OTHER_URL).len() < 300 {
        assert!(began.elapsed() < Duration::from_secs(60), "they wait behind those of the other");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.receivers.in_flight_max(URL), 1, "DISPATCH-2");
}

#[tokio::test(start_paused = true)]
async fn subscriptions_of_a_tenant_take_turns() {
    let mut options = BrokerOptions::default();
    options.delivery.tenant_in_flight_max = 8;
    let bench = Bench::with(44, options).await;
    for url in [URL, OTHER_URL] {
        bench.receivers.set(url, Behaviour::AnswerAfter(Duration::from_millis(100), 200));
        bench.subscribe(url, &[]).await;
    }
    bench.append(200).await;
    while bench.receivers.seen(URL).len() + bench.receivers.seen(OTHER_URL).len() < 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let halves = [URL, OTHER_URL].map(|url| bench.receivers.seen(url).len());
    assert!(halves.iter().all(|count| *count >= 60), "DISPATCH-4: {halves:?}");
    bench.reaches(EventStatus::Delivered, 200).await;
}
