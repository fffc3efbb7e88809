//! The receiver over HTTP: what it answers, and how it judges the webhooks it passes on.

use super::*;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tower::Service as _;
use triggers_client::{Call, Client, ClientError, Reply};
use triggers_protocol::webhook::{SigningKey, signatures};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn start(key: Option<&str>, answer: StatusCode) -> (Receiver, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let key = key.map(|key| VerifyingKey::parse(key).unwrap());
    (Receiver::start(listener, key, answer), Client::builder(url).build().unwrap())
}

fn status(result: Result<Reply<()>, ClientError>) -> u16 {
    match result {
        Ok(reply) => reply.status,
        Err(ClientError::Unexpected { status, .. }) => status,
        Err(error) => panic!("{error}"),
    }
}

/// Sends `sent` with the signature of `signed`, and returns the status of the answer.
async fn send(client: &Client, id: &str, signed: &Value, sent: &Value) -> u16 {
    let now = Environment::system().now();
    let keys = [SigningKey::parse(KEY).unwrap()];
    let signature = signatures(&keys, id, now, &serde_json::to_vec(signed).unwrap());
    let call = Call::post(&["hook"]).json(sent).unwrap();
    let call = call.header(ID_HEADER, id).unwrap();
    let call = call.header(TIMESTAMP_HEADER, &now.as_seconds().to_string()).unwrap();
    status(client.send::<()>(call.header(SIGNATURE_HEADER, &signature).unwrap()).await)
}

fn bad(webhook: &Received) -> &str {
    match &webhook.verdict {
        Verdict::Bad(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_good_signature_is_answered_as_wished() {
    let (mut receiver, client) = start(Some(KEY), StatusCode::OK).await;
    let event = json!({ "event_type": "order.created", "n": 1 });
    assert_eq!(send(&client, "a", &event, &event).await, 200);
    let webhook = receiver.next().await.unwrap();
    assert_eq!((webhook.id.as_deref(), webhook.repeat), (Some("a"), false));
    assert_eq!(webhook.verdict, Verdict::Good);
    assert_eq!(webhook.body, serde_json::to_vec(&event).unwrap());
    assert!(webhook.timestamp.is_some());
}

#[tokio::test]
async fn a_changed_body_is_refused_and_its_id_not_remembered() {
    let (mut receiver, client) = start(Some(KEY), StatusCode::OK).await;
    let event = json!({ "n": 1 });
    assert_eq!(send(&client, "a", &event, &json!({ "n": 2 })).await, 400);
    assert!(bad(&receiver.next().await.unwrap()).contains("no signature is valid"));
    assert_eq!(send(&client, "a", &event, &event).await, 200);
    assert!(!receiver.next().await.unwrap().repeat, "RECEIVER-1");
}

#[tokio::test]
async fn a_missing_header_is_named() {
    let (mut receiver, client) = start(Some(KEY), StatusCode::OK).await;
    let call = Call::post(&["hook"]).json(&json!({})).unwrap().header(ID_HEADER, "a").unwrap();
    assert_eq!(status(client.send::<()>(call).await), 400);
    assert_eq!(bad(&receiver.next().await.unwrap()), "the header webhook-timestamp is missing");
}

#[tokio::test]
async fn a_repeat_is_noted_whatever_was_answered() {
    let (mut receiver, client) = start(Some(KEY), StatusCode::SERVICE_UNAVAILABLE).await;
    let event = json!({});
    for (id, repeat) in [("a", false), ("a", true), ("b", false), ("a", true)] {
        assert_eq!(send(&client, id, &event, &event).await, 503);
        assert_eq!(receiver.next().await.unwrap().repeat, repeat, "{id}");
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_checked() {
    let (mut receiver, client) = start(None, StatusCode::ACCEPTED).await;
    assert_eq!(
        status(client.send::<()>(Call::post(&["hook"]).json(&json!({})).unwrap()).await),
        202
    );
    let webhook = receiver.next().await.unwrap();
    assert_eq!((webhook.verdict, webhook.id, webhook.repeat), (Verdict::Unchecked, None, false));
}

#[tokio::test]
async fn other_methods_are_refused() {
    let (_receiver, client) = start(None, StatusCode::OK).await;
    assert_eq!(status(client.send::<()>(Call::get(&["hook"])).await), 405);
    assert_eq!(status(client.send::<()>(Call::delete(&["hook"])).await), 405);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let (taken, mut received) = mpsc::channel(WAITING_MAX);
    let environment = Environment::system();
    let judge =
        Judge { key: None, answer: StatusCode::OK, environment, seen: Mutex::default(), taken };
    let mut hooks = hooks(judge);
    for (bytes, status) in
        [(BODY_BYTES_MAX, StatusCode::OK), (BODY_BYTES_MAX + 1, StatusCode::PAYLOAD_TOO_LARGE)]
    {
        let request = Request::post("/").body(Body::from(vec![b'x'; bytes])).unwrap();
        assert_eq!(hooks.call(request).await.unwrap().status(), status, "{bytes}");
    }
    assert_eq!(received.recv().await.unwrap().body.len(), BODY_BYTES_MAX);
    assert!(received.try_recv().is_err());
}

#[tokio::test]
async fn what_came_before_the_end_is_given() {
    let (mut receiver, client) = start(None, StatusCode::OK).await;
    assert_eq!(
        status(client.send::<()>(Call::post(&["hook"]).json(&json!({})).unwrap()).await),
        200
    );
    receiver.stop();
    assert!(receiver.next().await.is_some());
    assert!(receiver.next().await.is_none());
}

#[test]
fn only_the_newest_ids_are_remembered() {
    let mut seen = Seen::default();
    for number in 0..=IDS_MAX {
        seen.remember(&number.to_string());
    }
    assert_eq!((seen.ids.len(), seen.order.len()), (IDS_MAX, IDS_MAX));
    assert!(!seen.ids.contains("0") && seen.ids.contains("1"));
    seen.remember(&"x".repeat(ID_BYTES_MAX + 1));
    assert_eq!(seen.order.len(), IDS_MAX);
}
