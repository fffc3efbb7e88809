//! Tests of the filters of the inbox: type, time of acceptance, status.
//!
//! A filter selects events but changes neither order nor paging; `total_count` stays the number of
//! all events in that status. A type matches exactly or, with a trailing `.*`, by prefix; repeated
//! types are alternatives.

use crate::harness::{Call, Client, Node, listing};
use std::time::Duration;

const TYPES: [&str; 7] = [
    "order.created",
    "order.paid",
    "orderly.created",
    "user.created",
    "order.created",
    "user.removed",
    "Order.created",
];

async fn types(client: &Client, query: &str) -> Vec<String> {
    let listing = listing::all(client, query).await;
    listing.events.into_iter().map(|event| event.event_type).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_are_matched_exactly_or_by_prefix() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let client = node.client();
    for event_type in TYPES {
        client.accepted(event_type, "{}").await;
    }
    let cases: [(&str, &[&str]); 8] = [
        ("event_type=order.created", &["order.created", "order.created"]),
        ("event_type=order.*", &["order.created", "order.paid", "order.created"]),
        ("event_type=order.%2A&limit=1", &["order.created", "order.paid", "order.created"]),
        ("event_type=order.paid&event_type=user.removed", &["order.paid", "user.removed"]),
        (
            "event_type=user.*&event_type=order.paid&limit=2",
            &["order.paid", "user.created", "user.removed"],
        ),
        ("event_type=orderly.*", &["orderly.created"]),
        ("event_type=nothing.like.it", &[]),
        ("unknown=parameter", &TYPES),
    ];
    for (query, expected) in cases {
        assert_eq!(types(&client, query).await, expected, "{query}");
    }
    let page = listing::page(&client, "event_type=user.*", None).await;
    assert_eq!(
        page.pagination.total_count,
        TYPES.len() as u64,
        "the count is the tenant's, not the filter's"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rare_type_is_found_behind_many_others() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    // After this many rows a page is returned, even if empty, with a cursor to continue.
    let node = Node::start(directory.path(), &[("TRIGGERS__BROKER__SCAN_ROWS_MAX", "200")]).await;
    let client = node.client();
    let first = client.accepted("rare.one", "{}").await;
    super::fill(&client, 700).await;
    let last = client.accepted("rare.two", "{}").await;
    let listing = listing::all(&client, "event_type=rare.*&limit=1").await;
    assert_eq!(super::ids(&listing.events), [first, last]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_acceptance_filters_the_listing() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let client = node.client();
    for number in 0..3 {
        client.accepted("timed.event", &format!("{{\"number\":{number}}}")).await;
        // This does not wait for a state: a bound must fit between the times of two events.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let listed = listing::all(&client, "").await.events;
    let created_ms: Vec<i64> = listed
        .iter()
        .map(|event| {
            event.created_at.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond()
        })
        .collect();
    let between = |index: usize| {
        let bound_ms = i64::midpoint(created_ms[index], created_ms[index + 1]);
        jiff::Timestamp::from_millisecond(bound_ms).expect("a time of today").to_string()
    };
    let count = async |query: String| listing::all(&client, &query).await.events.len();
    assert_eq!(count(format!("from_timestamp={}", between(0))).await, 2);
    assert_eq!(count(format!("to_timestamp={}", between(0))).await, 1);
    assert_eq!(
        count(format!("from_timestamp={}&to_timestamp={}&limit=1", between(0), between(1))).await,
        1
    );
    assert_eq!(
        count(format!("from_timestamp={}&to_timestamp={}", between(1), between(0))).await,
        0
    );
    assert_eq!(count("from_timestamp=2020-01-01T00:00:00%2B02:00".to_owned()).await, 3);
    assert_eq!(count("to_timestamp=2020-01-01T00:00:00Z".to_owned()).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_is_listed_under_its_status() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let client = node.client();
    let ids = super::fill(&client, 6).await;
    client.post(&format!("/v1/events/{}/ack", ids[1]), &serde_json::json!({})).await.expect(200);
    client.post(&format!("/v1/events/{}/ack", ids[4]), &serde_json::json!({})).await.expect(200);
    let policy = serde_json::json!({ "retry_policy": { "delays_seconds": [] } });
    let tenant =
        Call::new("PATCH", format!("/v1/tenants/{}", node.dev.tenant_id)).body(policy.to_string());
    node.admin().send(tenant).await.expect(200);
    client.post("/v1/inbox/lease", &serde_json::json!({ "limit": 2 })).await.expect(200);
    client.post(&format!("/v1/events/{}/nack", ids[0]), &serde_json::json!({})).await.expect(200);
    for (status, expected) in [("delivered", 2), ("queued", 1), ("received", 2), ("failed", 1)] {
        let listing = listing::all(&client, &format!("status={status}&limit=2")).await;
        assert_eq!(listing.events.len(), expected, "{status}");
        assert_eq!(listing.total_count, expected as u64, "{status}");
        assert!(listing.events.iter().all(|event| event.status == status), "{status}");
    }
}
