//! Tests of `triggers bench` with a real node: what it leaves behind, and what its line says.
//!
//! Counts are compared, never rates.

use crate::harness::{Node, process};
use serde_json::Value;

async fn started() -> (tempfile::TempDir, Node) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    (directory, node)
}

async fn bench(node: &Node, arguments: &str) -> process::Finished {
    let envs =
        [("TRIGGERS_URL", node.dev.url.as_str()), ("TRIGGERS_API_KEY", node.dev.api_key.as_str())];
    let arguments: Vec<&str> =
        ["bench", "--json"].into_iter().chain(arguments.split(' ')).collect();
    process::run(&arguments, &envs).await
}

/// The machine line of a load that succeeded without an error.
async fn measured(node: &Node, arguments: &str) -> Value {
    let finished = bench(node, arguments).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    let line: Value = serde_json::from_str(&finished.stdout).expect("one line of JSON");
    assert_eq!(line["errors"], serde_json::json!({}), "{finished:?}");
    line
}

/// Number of events with a status.
async fn count(node: &Node, status: &str) -> i64 {
    let path = format!("/v1/inbox?limit=1&status={status}");
    let page = node.client().get(&path).await.expect(200).json();
    page["pagination"]["total_count"].as_i64().expect("a number")
}

fn is_positive(line: &Value, member: &str) -> bool {
    line[member].as_f64().is_some_and(|value| value > 0.0)
}

#[tokio::test]
async fn a_backlog_is_consumed_to_its_last_event() {
    let (_directory, node) = started().await;
    let options = "--mode consume --payload-bytes 64 --duration 60 --connections 3";
    let line = measured(&node, &format!("{options} --backlog 250 --batch-size 40")).await;
    assert_eq!((&line["mode"], &line["connections"]), (&"consume".into(), &3.into()));
    assert!(is_positive(&line, "first_tenth_per_second"), "{line}");
    assert!(is_positive(&line, "last_tenth_per_second"), "{line}");
    assert_eq!((count(&node, "delivered").await, count(&node, "received").await), (250, 0));

    let single = format!("{options} --backlog 30 --ack single --lease-limit 1");
    measured(&node, &single).await;
    assert_eq!((count(&node, "delivered").await, count(&node, "queued").await), (280, 0));

    let whole = format!("{options} --backlog 40 --ack lease --lease-limit 15");
    measured(&node, &whole).await;
    assert_eq!((count(&node, "delivered").await, count(&node, "queued").await), (320, 0));
}

#[tokio::test]
async fn a_backlog_is_pushed_to_its_last_webhook_and_no_subscription_is_left() {
    let (_directory, node) = started().await;
    let options = "--mode push --payload-bytes 64 --duration 60 --connections 2";
    let line = measured(&node, &format!("{options} --backlog 120 --receivers 2")).await;
    assert_eq!((&line["mode"], &line["duplicates"]), (&"push".into(), &0.into()));
    assert!(is_positive(&line, "last_tenth_per_second"), "{line}");
    assert_eq!(count(&node, "delivered").await, 120, "PUSH-LOAD-1");
    let left = node.client().get("/v1/subscriptions").await.expect(200).json();
    assert_eq!(left["subscriptions"], serde_json::json!([]), "PUSH-LOAD-1");
}

#[tokio::test]
async fn webhooks_of_events_on_schedule_have_a_latency() {
    let (_directory, node) = started().await;
    let options = "--mode push --rate 40 --duration 1 --warmup 0 --connections 2";
    let line = measured(&node, options).await;
    let rate = line["events_per_second"].as_f64().expect("a rate");
    assert!(rate > 0.0 && rate <= 40.0, "{line}");
    assert!(line["latency_ms"]["p50"].as_f64().is_some_and(|p50| p50 > 0.0), "{line}");
    assert_eq!(line.get("first_tenth_per_second"), None);
    let left = node.client().get("/v1/subscriptions").await.expect(200).json();
    assert_eq!(left["subscriptions"], serde_json::json!([]));
}

#[tokio::test]
async fn modes_without_what_they_need_are_usage_errors() {
    let (_directory, node) = started().await;
    for (arguments, option) in [
        ("--mode consume", "--backlog"),
        ("--mode consume --backlog 10 --rate 5", "--rate"),
        ("--mode push", "--rate or --backlog"),
        ("--mode push --backlog 10 --rate 5", "--rate or --backlog"),
        ("--mode push --rate 5 --payload-bytes 16", "--payload-bytes"),
        ("--mode single --backlog 10", "--backlog"),
    ] {
        let finished = bench(&node, arguments).await;
        assert_eq!(finished.code, 2, "{arguments}: {finished:?}");
        assert!(finished.stderr.contains(option), "{arguments}: {finished:?}");
    }
}
