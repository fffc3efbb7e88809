//! Tests what endpoints receive and what the tenant can read about it: pings, signatures of old and
//! new keys, attempts.
//!
//! The endpoints are real servers on this machine, reached by the production sender.

use super::{PATH, made};
use crate::api::openapi::tests::live::LiveEdge;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use triggers_protocol::webhook::{
    ID_HEADER, SIGNATURE_HEADER, SignedHeaders, TIMESTAMP_HEADER, VerifyingKey, verify,
};
use triggers_protocol::{Environment, Scopes};

/// A webhook that an endpoint received.
type Received = (HeaderMap, Bytes);

/// Starts an endpoint that answers everything with one status; returns its URL and its webhooks.
async fn endpoint(status: StatusCode) -> (String, UnboundedReceiver<Received>) {
    let (sender, received) = unbounded_channel();
    let answer = move |headers: HeaderMap, body: Bytes| {
        let sender = sender.clone();
        async move {
            // A test that has seen enough does not listen any more.
            let _ = sender.send((headers, body));
            status
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhooks", listener.local_addr().unwrap());
    let routes = Router::new().route("/webhooks", post(answer));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, received)
}

/// The next webhook of an endpoint.
async fn next(received: &mut UnboundedReceiver<Received>) -> Received {
    let webhook = tokio::time::timeout(Duration::from_secs(30), received.recv()).await;
    webhook.expect("no webhook came").unwrap()
}

/// Whether a signature of the webhook was made with this key.
fn is_signed((headers, body): &Received, key: &Value) -> bool {
    let key = VerifyingKey::parse(key.as_str().unwrap()).unwrap();
    let [id, timestamp, signatures] =
        [ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER].map(|name| headers[name].to_str().unwrap());
    verify(&key, SignedHeaders { id, timestamp, signatures }, body, Environment::system().now())
        .is_ok()
}

/// The attempts of a subscription, once there are so many.
async fn attempts(live: &LiveEdge, key: &str, path: &str, count: usize) -> Vec<Value> {
    for _ in 0..300 {
        let page = live.send("GET", &format!("{path}/attempts"), key, "").await.json;
        let attempts = page["attempts"].as_array().unwrap();
        if attempts.len() >= count {
            assert_eq!(
                (&page["cursor"], &page["has_more"]),
                (&Value::Null, &json!(false)),
                "ATTEMPT-LIST-2"
            );
            return attempts.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} has not {count} attempts");
}

#[tokio::test]
async fn a_ping_is_signed_and_its_outcome_is_in_the_response() {
    let live = LiveEdge::start().await;
    let key = live.key("acme", Scopes::tenant_default()).await;
    let (url, mut received) = endpoint(StatusCode::NO_CONTENT).await;
    let (subscription, path) = made(&live, &key, json!({"target_url": url})).await;
    live.send("PATCH", &path, &key, r#"{"status":"disabled"}"#).await;
    let answer = live.send("POST", &format!("{path}/test"), &key, "").await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert!(answer.json["duration_ms"].is_u64(), "{}", answer.json);
    let expected = json!({
        "delivered": true,
        "http_status": 204,
        "error": null,
        "duration_ms": answer.json["duration_ms"],
    });
    assert_eq!(answer.json, expected, "TEST-SUBSCRIPTION-2");
    let webhook = next(&mut received).await;
    assert!(is_signed(&webhook, &subscription["secret"]), "{webhook:?}");
    let ping: Value = serde_json::from_slice(&webhook.1).unwrap();
    assert_eq!(
        (&ping["event_type"], &ping["payload"]["subscription_id"]),
        (&json!("ping"), &subscription["id"])
    );
    assert!(attempts(&live, &key, &path, 0).await.is_empty(), "a ping is no attempt");
}

#[tokio::test]
async fn a_ping_that_fails_or_does_not_arrive_says_why() {
    let live = LiveEdge::start().await;
    let key = live.key("acme", Scopes::tenant_default()).await;
    let (url, _received) = endpoint(StatusCode::INTERNAL_SERVER_ERROR).await;
    let (_, path) = made(&live, &key, json!({"target_url": url})).await;
    let failed = live.send("POST", &format!("{path}/test"), &key, "").await.json;
    assert_eq!(
        (&failed["delivered"], &failed["http_status"]),
        (&json!(false), &json!(500)),
        "TEST-SUBSCRIPTION-1"
    );
    assert_eq!(failed["error"], "the endpoint answered 500");
    // Bound but not listening, so that the port is nobody else's meanwhile.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let free = socket.local_addr().unwrap();
    let (_, path) = made(&live, &key, json!({"target_url": format!("http://{free}/")})).await;
    let nobody = live.send("POST", &format!("{path}/test"), &key, "").await.json;
    assert_eq!(
        (&nobody["delivered"], &nobody["http_status"]),
        (&json!(false), &Value::Null),
        "TEST-SUBSCRIPTION-1"
    );
    assert!(nobody["error"].is_string(), "{nobody}");
}

#[tokio::test]
async fn a_rotated_secret_signs_only_until_its_grace_ends() {
    let live = LiveEdge::start().await;
    let key = live.key("acme", Scopes::tenant_default()).await;
    let (url, mut received) = endpoint(StatusCode::OK).await;
    let (first, path) = made(&live, &key, json!({"target_url": url})).await;
    let (rotate, test) = (format!("{path}/rotate"), format!("{path}/test"));
    let second = live.send("POST", &rotate, &key, "").await.json;
    assert_eq!(
        (&second["id"], &second["signature_scheme"]),
        (&first["id"], &first["signature_scheme"])
    );
    assert_ne!(second["secret"], first["secret"]);
    live.send("POST", &test, &key, "").await;
    let webhook = next(&mut received).await;
    assert!(
        [&first, &second].iter().all(|signer| is_signed(&webhook, &signer["secret"])),
        "ROTATE-SECRET-2"
    );
    let third = live.send("POST", &rotate, &key, r#"{"grace_seconds":0}"#).await.json;
    live.send("POST", &test, &key, "").await;
    let webhook = next(&mut received).await;
    let signed = [&first, &second, &third].map(|signer| is_signed(&webhook, &signer["secret"]));
    assert_eq!(signed, [false, false, true], "ROTATE-SECRET-2");
}

#[tokio::test]
async fn attempts_are_listed_newest_first() {
    let live = LiveEdge::start().await;
    let key = live.key("acme", Scopes::tenant_default()).await;
    let (good_url, mut received) = endpoint(StatusCode::OK).await;
    let (bad_url, _failed) = endpoint(StatusCode::INTERNAL_SERVER_ERROR).await;
    let (good, good_path) =
        made(&live, &key, json!({"target_url": good_url, "event_types": ["order.*"]})).await;
    let (bad, bad_path) =
        made(&live, &key, json!({"target_url": bad_url, "event_types": ["order.paid"]})).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("x-api-key", key.as_str()), ("traceparent", trace)];
    let mut ids = Vec::new();
    for event_type in ["order.created", "order.paid", "order.sent"] {
        let body = json!({"event_type": event_type, "payload": {}}).to_string();
        let accepted = live.send_with("POST", "/v1/events", &headers, &body).await;
        assert_eq!(accepted.status, 201, "{}", accepted.json);
        ids.push(accepted.json["event_id"].clone());
        let webhook = next(&mut received).await;
        assert_eq!(webhook.0["traceparent"], trace);
        assert!(is_signed(&webhook, &good["secret"]), "{webhook:?}");
    }
    let listed = attempts(&live, &key, &good_path, 3).await;
    let listed_ids: Vec<_> =
        listed.iter().rev().map(|attempt| attempt["event_id"].clone()).collect();
    assert_eq!(listed_ids, ids, "newest first");
    for attempt in &listed {
        assert_eq!(
            (&attempt["outcome"], &attempt["http_status"]),
            (&json!("succeeded"), &json!(200)),
            "{attempt}"
        );
        assert!(attempt["finished_at"].is_string() && attempt["error"].is_null(), "{attempt}");
    }
    let failed = attempts(&live, &key, &bad_path, 1).await;
    assert_eq!((&failed[0]["event_id"], &failed[0]["event_type"]), (&ids[1], &json!("order.paid")));
    assert_eq!((&failed[0]["outcome"], &failed[0]["http_status"]), (&json!("failed"), &json!(500)));
    assert_eq!(failed[0]["error"], "the endpoint answered 500");
    let status = live
        .send("GET", &format!("/v1/events/{}/status", ids[1].as_str().unwrap()), &key, "")
        .await
        .json;
    let status = status["attempts"].as_array().unwrap();
    for (subscription, http_status) in [(&good, 200), (&bad, 500)] {
        let attempt =
            status.iter().find(|attempt| attempt["subscription_id"] == subscription["id"]).unwrap();
        assert_eq!(attempt["http_status"], http_status, "{attempt}");
    }
    follow(&live, &key, &good_path, &listed).await;
    let page = live.send("GET", &format!("{good_path}/attempts?limit=1"), &key, "").await.json;
    let path = format!("{bad_path}/attempts?cursor={}", page["cursor"].as_str().unwrap());
    assert_eq!(
        live.send("GET", &path, &key, "").await.json["error"]["code"],
        "INVALID_CURSOR",
        "ATTEMPT-LIST-3"
    );
}

/// Reads the list in pages of one, and compares it with the list in one page.
async fn follow(live: &LiveEdge, key: &str, path: &str, listed: &[Value]) {
    let (mut walked, mut query) = (Vec::new(), "limit=1".to_owned());
    loop {
        let page = live.send("GET", &format!("{path}/attempts?{query}"), key, "").await.json;
        walked.extend(page["attempts"].as_array().unwrap().iter().cloned());
        assert_eq!(page["has_more"], page["cursor"].is_string(), "ATTEMPT-LIST-2");
        let Some(cursor) = page["cursor"].as_str() else { break };
        query = format!("limit=1&cursor={cursor}");
    }
    assert_eq!(walked, listed, "ATTEMPT-LIST-1");
}

#[tokio::test]
async fn an_event_that_no_subscription_selects_waits_to_be_pulled() {
    let live = LiveEdge::start().await;
    let key = live.key("acme", Scopes::tenant_default()).await;
    let (url, mut received) = endpoint(StatusCode::OK).await;
    made(&live, &key, json!({"target_url": url, "event_types": ["order.*"]})).await;
    live.send("POST", "/v1/events", &key, r#"{"event_type":"user.created","payload":{}}"#).await;
    live.send("POST", "/v1/events", &key, r#"{"event_type":"order.created","payload":{}}"#).await;
    let pushed: Value = serde_json::from_slice(&next(&mut received).await.1).unwrap();
    assert_eq!(pushed["event_type"], "order.created");
    let inbox = live.send("GET", "/v1/inbox", &key, "").await.json;
    let types: Vec<_> = inbox["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event_type"].clone())
        .collect();
    assert_eq!(types, ["user.created"]);
    assert_eq!(
        live.send("GET", PATH, &key, "").await.json["subscriptions"].as_array().unwrap().len(),
        1
    );
}
