//! What `status` prints and when `drain --wait` ends, for answers of healthy, older and broken
//! clusters.

use super::view::View;
use super::{drain, status};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use triggers_client::Client;

fn view(answer: Value) -> View {
    serde_json::from_value(answer).unwrap()
}

fn three_nodes() -> Value {
    json!({
        "node": "node-1",
        "incarnation": "node-1@b.1",
        "members": [
            {"name": "node-2", "incarnation": "node-2@a.1", "address": "10.0.0.2:8080",
             "peer_address": "10.0.0.2:7400",
             "state": "silent", "beat": 12, "beat_age_ms": 9_870, "partitions_owned": 2,
             "link": "down",
             "version": "0.1.0"},
            {"name": "node-1", "incarnation": "node-1@b.1", "address": "10.0.0.1:8080",
             "peer_address": "10.0.0.1:7400",
             "state": "up", "beat": 123, "beat_age_ms": 812, "partitions_owned": 3,
             "link": "self", "version": "0.1.0"},
        ],
        "partitions": {"count": 8, "owned": 5, "epoch_min": 1, "epoch_max": 7, "owners": [
            {"partition": 0, "owner": "node-1", "incarnation": "node-1@b.1", "epoch": 3},
            {"partition": 2, "owner": "node-3", "incarnation": "node-3@c.1", "epoch": 7},
            {"partition": 3, "owner": null, "incarnation": null, "epoch": 1},
            {"partition": 4, "owner": "node-2", "incarnation": "node-2@a.1", "epoch": 1},
            {"partition": 5, "owner": "node-2", "incarnation": "node-2@a.1", "epoch": 1},
            {"partition": 6, "owner": "node-1", "incarnation": "node-1@b.1", "epoch": 1},
            {"partition": 7, "owner": "node-1", "incarnation": "node-1@b.1", "epoch": 1},
        ]},
    })
}

#[test]
fn members_and_partitions_are_shown() {
    let view = view(three_nodes());
    let expected = "\
NAME    STATE   LINK  BEAT-AGE  PARTITIONS  SHARE   ADDRESS        VERSION
node-1  up      self  0.8 s     3           37.5 %  10.0.0.1:8080  0.1.0
node-2  silent  down  9.9 s     2           25.0 %  10.0.0.2:8080  0.1.0";
    assert_eq!(status::members(&view).to_string(), expected);
    let expected = "partitions: 5 of 8 owned, epochs 1 to 7\nwithout owner: 1-3";
    assert_eq!(status::summary(&view), expected);
    let owners = status::owners(&view).to_string();
    assert!(
        owners.starts_with(
            "PARTITION  OWNER   EPOCH  INCARNATION\n0          node-1  3      node-1@b.1\n"
        ),
        "{owners}"
    );
    assert_eq!((view.owned_by_node(), view.others_up()), (Some(3), 0));
    assert!(owners.contains("\n3          -       1\n"), "{owners}");
}

#[test]
fn a_node_that_says_less_is_understood() {
    let view = view(json!({
        "members": [{"name": "node-1", "incarnation": "i", "address": "127.0.0.1:8080",
         "state": "up",
                     "partitions_owned": 256, "of_a_later_version": {}}],
        "partitions": {"count": 256, "epoch_min": 1, "epoch_max": 1},
    }));
    let shown = status::members(&view).to_string();
    assert!(
        shown.ends_with("node-1  up     -     -         256         100.0 %  127.0.0.1:8080  -"),
        "{shown}"
    );
    assert_eq!(status::summary(&view), "partitions: 256 of 256 owned, epochs 1 to 1");
    assert_eq!(view.owned_by_node(), Some(256));
}

#[test]
fn a_node_that_has_left_owns_what_the_store_says() {
    let mut answer = three_nodes();
    answer["incarnation"] = json!("node-3@c.1");
    assert_eq!(view(answer.clone()).owned_by_node(), Some(1));
    answer["incarnation"] = json!("node-3@d.1");
    assert_eq!(view(answer).owned_by_node(), Some(0));
}

#[test]
fn an_empty_answer_is_no_failure() {
    let view = view(json!({}));
    assert_eq!(status::summary(&view), "partitions: 0 of 0 owned, epochs 0 to 0");
    assert_eq!(view.owned_by_node(), None);
}

#[test]
fn partitions_that_nobody_owns_are_counted_if_the_owners_are_not_named() {
    let view =
        view(json!({"partitions": {"count": 256, "owned": 250, "epoch_min": 1, "epoch_max": 2}}));
    assert_eq!(
        status::summary(&view),
        "partitions: 250 of 256 owned, epochs 1 to 2\nwithout owner: 6"
    );
}

/// A node that owns a partition less at each answer, from `owned` on; every third time it is too
/// busy to answer.
async fn node_that_owns(owned: u64, stays_at: u64) -> Client {
    let asked = Arc::new(AtomicU64::new(0));
    let answer = move || async move {
        let count = asked.fetch_add(1, Ordering::Relaxed);
        if count % 3 == 1 {
            let busy = json!({"error": {"code": "UNAVAILABLE", "message": "busy",
                              "timestamp": "2026-01-01T00:00:00.000Z", "request_id": "1"}});
            return (StatusCode::SERVICE_UNAVAILABLE, Json(busy)).into_response();
        }
        let owned = owned.saturating_sub(count).max(stays_at);
        let members = json!([{"name": "a", "incarnation": "a@1", "state": "silent",
                              "partitions_owned": 1},
                             {"name": "a", "incarnation": "a@2", "state": "draining",
                              "partitions_owned": owned},
                             {"name": "b", "incarnation": "b@1", "state": "silent",
                              "partitions_owned": 1}]);
        let partitions = json!({"count": 8});
        let view = json!({"node": "a", "incarnation": "a@2", "members": members,
                          "partitions": partitions});
        Json(view).into_response()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/cluster", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Client::builder(url).build().unwrap()
}

#[tokio::test]
async fn a_drain_ends_when_the_node_owns_nothing() {
    let client = node_that_owns(5, 0).await;
    drain::wait(&client, Duration::from_secs(60), Duration::from_millis(1)).await.unwrap();
}

#[tokio::test]
async fn a_drain_that_does_not_end_in_time_fails_and_says_why() {
    let client = node_that_owns(5, 2).await;
    let error =
        drain::wait(&client, Duration::from_secs(1), Duration::from_millis(400)).await.unwrap_err();
    assert_eq!(error.exit_code(), super::super::exit::FAILED);
    let text = error.to_string();
    assert!(text.starts_with("not drained within 1 s: "), "{text}");
}
