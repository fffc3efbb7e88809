//! Tests of the rate limit headers of a response.
//!
//! - RATES-1: the headers of a response are consistent. If events exceeded the rate, the headers
//!   and `Retry-After` describe the bucket of events.
//! - RATES-2: the headers of an accepted batch describe the bucket of events, too.

use crate::harness::{Answer, Node};
use serde_json::json;

fn number(answer: &Answer, name: &str) -> u64 {
    answer
        .header(name)
        .parse()
        .unwrap_or_else(|_| panic!("{name} is no number: {}", answer.header(name)))
}

#[tokio::test]
async fn a_rejection_of_events_describes_the_bucket_of_events() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    // The rate is so low that the bucket hardly refills during the test.
    let wanted = json!({
        "name": "slow",
        "tenant_id": node.dev.tenant_id,
        "scopes": ["events:write"],
        "rate_limit_per_minute": 10,
    });
    let made = node.admin().post("/v1/keys", &wanted).await.expect(201);
    let client = node.client().with_key(&made.string("/key"));
    let event = json!({ "event_type": "counted.event", "payload": {} });
    let batch = |count| json!({ "events": vec![event.clone(); count] });
    let accepted = client.post("/v1/events/batch", &batch(10)).await.expect(201);
    let remaining = number(&accepted, "x-ratelimit-remaining");
    assert!(remaining < 8, "RATES-2: {remaining} remain, which is true of requests only");
    let rejected = client.post("/v1/events/batch", &batch(10)).await.expect(429);
    assert_eq!(rejected.json()["error"]["code"], "RATE_LIMIT_EXCEEDED");
    let remaining = number(&rejected, "x-ratelimit-remaining");
    assert!(remaining < 8, "RATES-1: {remaining} remain");
    let ietf = rejected.header("ratelimit").to_owned();
    let full_in_seconds: u64 =
        ietf.rsplit("t=").next().and_then(|text| text.parse().ok()).expect("RateLimit has a time");
    assert!(
        full_in_seconds >= number(&rejected, "retry-after"),
        "RATES-1: {ietf}, {}",
        rejected.header("retry-after")
    );
}
