//! What a response tells about a key's rate.
//!
//! RATES-1: the fields of a response agree with each other: a 429 for events tells of the bucket of events, which is
//! what `Retry-After` waits for. RATES-2: what was accepted is told as well.
//!
//! Not here: the arithmetic of the buckets, which has its tests beside it.

use crate::harness::{Answer, Node};
use serde_json::json;

fn number(answer: &Answer, name: &str) -> u64 {
    answer
        .header(name)
        .parse()
        .unwrap_or_else(|_| panic!("{name} is no number: {}", answer.header(name)))
}

#[tokio::test]
async fn a_refusal_of_events_tells_of_events() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    // Slow enough that nothing of note comes back during the test.
    let wanted = json!({
        "name": "slow", "tenant_id": node.dev.tenant_id, "scopes": ["events:write"], "rate_limit_per_minute": 10,
    });
    let made = node.admin().post("/v1/keys", &wanted).await.expect(201);
    let client = node.client().with_key(&made.string("/key"));
    let batch = |count| json!({ "events": vec![json!({ "event_type": "counted.event", "payload": {} }); count] });
    let accepted = client.post("/v1/events/batch", &batch(10)).await.expect(201);
    let remaining = number(&accepted, "x-ratelimit-remaining");
    assert!(
        remaining < 8,
        "RATES-2: {remaining} are said to be left, which is true of requests only"
    );
    let refused = client.post("/v1/events/batch", &batch(10)).await.expect(429);
    assert_eq!(refused.json()["error"]["code"], "RATE_LIMIT_EXCEEDED");
    let remaining = number(&refused, "x-ratelimit-remaining");
    assert!(remaining < 8, "RATES-1: {remaining} are said to be left");
    let ietf = refused.header("ratelimit").to_owned();
    let full_in_s: u64 =
        ietf.rsplit("t=").next().and_then(|text| text.parse().ok()).expect("RateLimit has a time");
    assert!(
        full_in_s >= number(&refused, "retry-after"),
        "RATES-1: {ietf}, {}",
        refused.header("retry-after")
    );
}
