//! Tests of limits that are reached: rates, quotas, and a full store.
//!
//! - LIMITS-1: a request over a rate or quota gets 429 with a `Retry-After` of at least a second,
//!   and changes nothing.
//! - LIMITS-2: a full store answers 503; events that were answered with 201 stay intact and
//!   readable.
//!
//! The precision of rates is tested by the limiter with its own clock.

use super::probe::{Probe, check_rejection};
use crate::cursor::tenants::tenant;
use crate::harness::{Answer, Call, Node, listing};
use serde_json::json;

/// Bound on the number of events, each of at least 64 KiB, that fit in the smallest store.
const FILLING_EVENTS_MAX: usize = 1_000;

fn check_rate_headers(answer: &Answer, limit: u64) {
    let number = |name: &str| {
        answer
            .header(name)
            .parse::<u64>()
            .unwrap_or_else(|_| panic!("{name}: {:?}", answer.headers))
    };
    assert_eq!(number("x-ratelimit-limit"), limit);
    assert!(number("x-ratelimit-remaining") <= limit);
    assert!(number("x-ratelimit-reset") > 1_700_000_000, "Unix seconds");
    assert!(
        !answer.header("ratelimit").is_empty() && !answer.header("ratelimit-policy").is_empty()
    );
}

fn check_retry_after(answer: &Answer) {
    let seconds: u64 = answer.header("retry-after").parse().expect("whole seconds");
    assert!(seconds >= 1, "LIMITS-1: at least a second");
}

async fn limited_key(probe: &Probe, per_minute: u64) -> String {
    let body = json!({
        "name": "limited",
        "tenant_id": probe.node.dev.tenant_id,
        "rate_limit_per_minute": per_minute,
    });
    probe.node.admin().post("/v1/keys", &body).await.expect(201).string("/key")
}

#[tokio::test]
async fn requests_over_the_rate_are_rejected() {
    let mut probe = Probe::start(&[]).await;
    let client = probe.client.with_key(&limited_key(&probe, 5).await);
    let mut rejected = None;
    for number in 0..50 {
        let answer = client.get("/v1/inbox").await;
        check_rate_headers(&answer, 5);
        if answer.status == 429 {
            assert!(number >= 5, "the whole rate can be used: rejected after {number}");
            rejected = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let rejected = rejected.expect("LIMITS-1: fifty at once are over five a minute");
    check_rejection(&rejected, 429, &["RATE_LIMIT_EXCEEDED"], "over the rate");
    check_retry_after(&rejected);
    let post = client.send(Call::event("over.rate", "{}")).await;
    check_rejection(&post, 429, &["RATE_LIMIT_EXCEEDED"], "a post over the rate");
    probe.goes_on("requests over the rate of another key").await;
}

#[tokio::test]
async fn the_events_of_a_batch_count_one_by_one() {
    let probe = Probe::start(&[]).await;
    let client = probe.client.with_key(&limited_key(&probe, 20).await);
    let batch = |count: usize| {
        let events = vec![json!({ "event_type": "a.b", "payload": {} }); count];
        Call::post("/v1/events/batch", json!({ "events": events }).to_string())
    };
    // A batch larger than the rate must pass once; then the bucket is in debt.
    client.send(batch(100)).await.expect(201);
    for call in [batch(1), Call::event("a.b", "{}")] {
        let rejected = client.send(call).await;
        check_rejection(&rejected, 429, &["RATE_LIMIT_EXCEEDED"], "events that are owed");
        check_retry_after(&rejected);
    }
    client.get("/v1/inbox").await.expect(200);
    assert_eq!(listing::received_count(&probe.client).await, 100, "LIMITS-1: nothing happened");
}

#[tokio::test]
async fn every_authenticated_answer_has_the_rate_headers() {
    let probe = Probe::start(&[]).await;
    let client = probe.client.with_key(&limited_key(&probe, 1_000).await);
    let calls = [
        Call::get("/v1/inbox"),
        Call::event("a.b", "{}"),
        Call::event("a..b", "{}"),
        Call::get("/v1/events/none"),
    ];
    for call in calls {
        check_rate_headers(&client.send(call).await, 1_000);
    }
}

#[tokio::test]
async fn a_flood_of_invalid_keys_is_rejected() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node =
        Node::start(directory.path(), &[("TRIGGERS__LIMITS__UNAUTHENTICATED_REQUESTS_MAX", "50")])
            .await;
    let mut rejected = None;
    for number in 0..200 {
        let client = node.client().with_key(&format!("trg_test_bad{number}"));
        let answer = client.send(Call::event("a.b", "{}")).await;
        if answer.status == 429 {
            assert!(number >= 50, "rejected after {number}");
            rejected = Some(answer);
            break;
        }
        check_rejection(&answer, 401, &["UNAUTHORIZED"], "a bad key");
    }
    let rejected = rejected.expect("LIMITS-1: two hundred are over fifty");
    check_rejection(&rejected, 429, &["RATE_LIMIT_EXCEEDED"], "a flood of bad keys");
    check_retry_after(&rejected);
    let health = node.client().anonymous().get("/v1/health").await;
    assert_eq!(
        health.status,
        200,
        "the health check needs no key and is not cut off: {}",
        health.text()
    );
}

#[tokio::test]
async fn a_full_inbox_rejects_events_until_some_are_removed() {
    let probe = Probe::start(&[]).await;
    let (id, client) = tenant(&probe.node, "small").await;
    let changed = Call::new("PATCH", format!("/v1/tenants/{id}")).body("{\"max_inbox_events\":3}");
    probe.node.admin().send(changed).await.expect(200);
    let first = client.accepted("a.b", "{}").await;
    for _ in 0..2 {
        client.accepted("a.b", "{}").await;
    }
    let rejected = client.send(Call::event("a.b", "{}")).await;
    check_rejection(&rejected, 429, &["TENANT_QUOTA_EXCEEDED"], "a full inbox");
    check_retry_after(&rejected);
    let batch = client
        .post("/v1/events/batch", &json!({ "events": [{ "event_type": "a.b", "payload": {} }] }))
        .await;
    assert_eq!(batch.status, 429, "{}", batch.text());
    assert_eq!(listing::received_count(&client).await, 3, "LIMITS-1: nothing happened");
    client.delete(&format!("/v1/events/{first}")).await.expect(204);
    client.accepted("a.b", "{}").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_keeps_its_events() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let small = [("TRIGGERS__STORE__MAP_BYTES_MAX", "16777216")];
    let mut node = Node::start(directory.path(), &small).await;
    let client = node.client();
    let padding = "p".repeat(64 * 1_024);
    let mut answered = Vec::new();
    let mut rejected = None;
    for number in 0..FILLING_EVENTS_MAX {
        let payload = format!("{{ \"number\" : {number}, \"padding\":\"{padding}\"}}");
        let answer = client.send(Call::event("filling.event", &payload)).await;
        if answer.status != 201 {
            rejected = Some(answer);
            break;
        }
        answered.push((answer.string("/event_id"), payload));
    }
    let rejected = rejected.expect("LIMITS-2: sixteen mebibytes are full by now");
    check_rejection(&rejected, 503, &["UNAVAILABLE"], "a full store");
    check_retry_after(&rejected);
    assert!(answered.len() > 20, "LIMITS-2: a good part of the store was used: {}", answered.len());
    check_kept(&node, &answered).await;
    node.kill_hard();
    let node = Node::start(directory.path(), &small).await;
    check_kept(&node, &answered).await;
}

/// LIMITS-2: checks that exactly the accepted events exist, with unchanged payloads.
async fn check_kept(node: &Node, answered: &[(String, String)]) {
    let listing = listing::all(&node.client(), "limit=50").await;
    assert_eq!(listing.total_count, answered.len() as u64, "LIMITS-2: the count");
    assert_eq!(listing.events.len(), answered.len(), "LIMITS-2: as many as were answered");
    for (event, (id, payload)) in listing.events.iter().zip(answered) {
        assert!(
            event.event_id == *id && event.payload.get() == payload,
            "LIMITS-2: {id} byte for byte"
        );
        node.client().get(&format!("/v1/events/{id}")).await.expect(200);
    }
}
