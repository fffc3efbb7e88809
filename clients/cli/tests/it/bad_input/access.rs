//! Tests of API keys that are missing, invalid, revoked or without the required scope.
//!
//! - ACCESS-T-1: without a valid key the answer is 401, whatever else is wrong with the request.
//! - ACCESS-T-2: a valid key without the scope gets 403 and changes nothing.
//! - ACCESS-T-3: a revoked or expired key stops working soon.

use super::probe::{Probe, check_rejection};
use crate::harness::{Call, Client, STATE_DEADLINE_MS, wait_until};
use serde_json::{Value, json};

/// Creates a key of the development tenant; returns its id and a client with the key.
async fn key(probe: &Probe, more: Value) -> (String, Client) {
    let mut body = json!({ "name": "made by a test", "tenant_id": probe.node.dev.tenant_id });
    let more = more.as_object().expect("the test gives an object").clone();
    body.as_object_mut().expect("an object").extend(more);
    let made = probe.node.admin().post("/v1/keys", &body).await.expect(201);
    (made.string("/id"), probe.client.with_key(&made.string("/key")))
}

#[tokio::test]
async fn without_a_valid_key_the_answer_is_always_401() {
    let mut probe = Probe::start(&[]).await;
    let mut altered = probe.node.dev.api_key.clone();
    let last = altered.pop().expect("a key has characters");
    altered.push(if last == '0' { '1' } else { '0' });
    let no_such = "trg_test_0000000000000000000000000000000000000000000";
    let headers = [
        ("x-request-id", "no-key-at-all"),
        ("x-api-key", ""),
        ("x-api-key", "nonsense"),
        ("x-api-key", no_such),
        ("x-api-key", &altered),
        ("authorization", "Bearer"),
        ("authorization", "Bearer nonsense"),
        ("authorization", "Basic dXNlcjpwYXNz"),
        ("authorization", &format!("Basic {}", probe.node.dev.api_key)),
    ];
    let anonymous = probe.client.anonymous();
    for (name, value) in headers {
        for call in [
            Call::event("good.event", "{}"),
            Call::get("/v1/inbox?limit=abc"),
            Call::post("/v1/events", "nonsense"),
        ] {
            let answer = anonymous.send(call.header(name, value)).await;
            check_rejection(&answer, 401, &["UNAUTHORIZED"], &format!("{name}: {value}"));
            assert!(!answer.header("www-authenticate").is_empty(), "401 names the scheme");
            assert!(!answer.text().contains(&probe.node.dev.api_key), "no key is repeated");
        }
    }
    probe.goes_on("requests without a valid key").await;
}

#[tokio::test]
async fn both_ways_to_send_a_key_work() {
    let probe = Probe::start(&[]).await;
    let key = &probe.node.dev.api_key;
    let anonymous = probe.client.anonymous();
    let ways = [
        ("X-API-Key", key.clone()),
        ("Authorization", format!("Bearer {key}")),
        ("authorization", format!("bearer {key}")),
    ];
    for (name, value) in ways {
        anonymous.send(Call::get("/v1/inbox").header(name, &value)).await.expect(200);
    }
}

#[tokio::test]
async fn a_key_permits_exactly_its_scopes() {
    let mut probe = Probe::start(&[]).await;
    let id = probe.accepts(Call::event("good.event", "{}"), 1).await.string("/event_id");
    let (_, writer) = key(&probe, json!({ "scopes": ["events:write"] })).await;
    let (_, reader) = key(&probe, json!({ "scopes": ["inbox:read"] })).await;
    let event = format!("/v1/events/{id}");
    let rejected = [
        (&reader, Call::event("good.event", "{}")),
        (
            &reader,
            Call::post("/v1/events/batch", r#"{"events":[{"event_type":"a.b","payload":{}}]}"#),
        ),
        (&reader, Call::post(format!("{event}/ack"), "")),
        (&reader, Call::delete(&event)),
        (&reader, Call::get("/v1/keys")),
        (&writer, Call::get("/v1/inbox")),
        (&writer, Call::get(&event)),
        (&writer, Call::get(format!("{event}/status"))),
        (&writer, Call::post(format!("{event}/ack"), "")),
        (&writer, Call::get("/v1/tenants")),
        (&writer, Call::post("/v1/tenants", r#"{"name":"mine"}"#)),
        (&writer, Call::post("/v1/keys", r#"{"name":"more","scopes":["admin"]}"#)),
    ];
    for (client, call) in rejected {
        let what = format!("{call:?}");
        check_rejection(&client.send(call).await, 403, &["FORBIDDEN"], &what);
    }
    reader.get(&event).await.expect(200);
    probe.goes_on("requests without the scope").await;
    writer.accepted("good.event", "{}").await;
}

#[tokio::test]
async fn no_key_creates_a_key_with_more_scopes() {
    let probe = Probe::start(&[]).await;
    let (_, client) = key(&probe, json!({ "scopes": ["keys:manage", "inbox:read"] })).await;
    for scopes in [json!(["admin"]), json!(["events:write"])] {
        let answer = client.post("/v1/keys", &json!({ "name": "more", "scopes": scopes })).await;
        check_rejection(&answer, 403, &["FORBIDDEN"], &scopes.to_string());
    }
    let bad = [
        json!({}),
        json!({ "name": 1 }),
        json!({ "name": "x", "scopes": ["nonsense"] }),
        json!({ "name": "x", "scopes": 1 }),
    ];
    for body in bad {
        let answer = client.post("/v1/keys", &body).await;
        check_rejection(&answer, 400, &["VALIDATION_ERROR"], &body.to_string());
    }
}

async fn is_rejected(client: &Client) -> bool {
    client.get("/v1/inbox").await.status == 401
}

#[tokio::test]
async fn revoked_and_expired_keys_stop_working() {
    let mut probe = Probe::start(&[]).await;
    let (id, revoked) = key(&probe, json!({})).await;
    revoked.get("/v1/inbox").await.expect(200);
    probe.node.admin().delete(&format!("/v1/keys/{id}")).await.expect(204);
    wait_until(STATE_DEADLINE_MS, "a revoked key is rejected", || is_rejected(&revoked)).await;
    check_rejection(
        &revoked.send(Call::event("a.b", "{}")).await,
        401,
        &["UNAUTHORIZED"],
        "a revoked key",
    );

    let now: jiff::Timestamp = probe
        .client
        .get("/v1/health")
        .await
        .expect(200)
        .string("/timestamp")
        .parse()
        .expect("a time");
    let soon =
        jiff::Timestamp::from_second(now.as_second() + 3).expect("a time of today").to_string();
    let (_, expiring) = key(&probe, json!({ "expires_at": soon })).await;
    wait_until(STATE_DEADLINE_MS, "an expired key is rejected", || is_rejected(&expiring)).await;
    check_rejection(
        &expiring.send(Call::event("a.b", "{}")).await,
        401,
        &["UNAUTHORIZED"],
        "an expired key",
    );
    probe.goes_on("withdrawn keys").await;
}

#[tokio::test]
async fn a_rotated_key_is_replaced_by_its_successor() {
    let probe = Probe::start(&[]).await;
    let (id, old) = key(&probe, json!({})).await;
    let rotated = probe
        .node
        .admin()
        .post(&format!("/v1/keys/{id}/rotate"), &json!({ "grace_seconds": 0 }))
        .await;
    assert!((200..300).contains(&rotated.status), "{}", rotated.text());
    let new = probe.client.with_key(&rotated.string("/key"));
    new.get("/v1/inbox").await.expect(200);
    wait_until(STATE_DEADLINE_MS, "the rotated key is rejected", || is_rejected(&old)).await;
    new.get("/v1/inbox").await.expect(200);
    let listed = probe.node.admin().get("/v1/keys").await.expect(200).text();
    assert!(!listed.contains(&rotated.string("/key")), "a listing never shows a key");
}
