//! Tests subscriptions through the HTTP API: who can create, read and change them, and which parts
//! of their keys responses contain. `webhooks` tests what endpoints receive; `request` has its own
//! tests.

mod webhooks;

use crate::api::openapi::tests::live::{LiveEdge, SUBSCRIPTIONS_MAX};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use triggers_protocol::webhook::SigningKey;
use triggers_protocol::{Scope, Scopes};

const PATH: &str = "/v1/subscriptions";
/// A target that no test sends anything to.
const TARGET: &str = "http://127.0.0.1:9/webhooks";
const MEMBERS: [&str; 16] = [
    "id",
    "target_url",
    "event_types",
    "description",
    "status",
    "disabled_reason",
    "disabled_at",
    "failing_since",
    "held_until",
    "signature_scheme",
    "public_key",
    "retry_policy",
    "max_in_flight",
    "created_at",
    "updated_at",
    "secret",
];

/// Makes a subscription; returns its JSON and its path.
async fn made(live: &LiveEdge, key: &str, body: Value) -> (Value, String) {
    let answer = live.send("POST", PATH, key, &body.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.json);
    let path = format!("{PATH}/{}", answer.json["id"].as_str().unwrap());
    assert_eq!(answer.headers["location"].to_str().unwrap(), path);
    (answer.json, path)
}

fn without_secret(subscription: &Value) -> Value {
    let mut subscription = subscription.clone();
    subscription.as_object_mut().unwrap().remove("secret");
    subscription
}

#[tokio::test]
async fn a_subscription_is_made_read_changed_and_removed() {
    let live = LiveEdge::start().await;
    let key = live.key("acme", Scopes::tenant_default()).await;
    let policy = json!({"delays_seconds": [1, 2]});
    let body = json!({
        "target_url": TARGET,
        "event_types": ["order.*", "*", "a"],
        "description": "d",
        "retry_policy": policy,
    });
    let (first, path) = made(&live, &key, body).await;
    let (second, _) = made(&live, &key, json!({"targetUrl": TARGET})).await;
    let members: BTreeSet<_> = first.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(MEMBERS), "SUBSCRIPTION-JSON-3");
    assert_eq!(
        (&first["event_types"], &first["retry_policy"]),
        (&json!(["order.*", "*", "a"]), &policy)
    );
    assert_eq!((&second["target_url"], &second["event_types"]), (&json!(TARGET), &json!([])));
    assert_eq!((&second["status"], &second["max_in_flight"]), (&json!("active"), &json!(32)));
    for null in [
        "description",
        "disabled_reason",
        "disabled_at",
        "failing_since",
        "public_key",
        "retry_policy",
    ] {
        assert!(second[null].is_null(), "{null}: {second}");
    }
    // The list is in the order of ids, which is random within a millisecond.
    let mut both = [without_secret(&first), without_secret(&second)];
    both.sort_by_key(|subscription| subscription["id"].to_string());
    assert_eq!(live.send("GET", PATH, &key, "").await.json, json!({"subscriptions": both}));
    assert_eq!(
        live.send("GET", &path, &key, "").await.json,
        without_secret(&first),
        "SUBSCRIPTIONS-EDGE-2"
    );

    let body =
        json!({"max_in_flight": 7, "event_types": null, "targetUrl": "http://127.0.0.1:10/"});
    let changed = live.send("PATCH", &path, &key, &body.to_string()).await.json;
    assert_eq!(live.send("GET", &path, &key, "").await.json, changed);
    let mut expected = without_secret(&first);
    expected["updated_at"] = changed["updated_at"].clone();
    (expected["max_in_flight"], expected["event_types"]) = (json!(7), json!([]));
    expected["target_url"] = json!("http://127.0.0.1:10/");
    assert_eq!(changed, expected);

    assert_eq!(live.send("DELETE", &path, &key, "").await.status, 204);
    for (method, body) in [("GET", ""), ("DELETE", ""), ("PATCH", "{}")] {
        assert_eq!(live.send(method, &path, &key, body).await.status, 404, "{method}");
    }
    let listed = live.send("GET", PATH, &key, "").await.json;
    assert_eq!(listed, json!({"subscriptions": [without_secret(&second)]}));
}

#[tokio::test]
async fn a_subscription_is_disabled_and_enabled() {
    let live = LiveEdge::start().await;
    let key = live.key("acme", Scopes::tenant_default()).await;
    let (_, path) = made(&live, &key, json!({"target_url": TARGET})).await;
    let disabled = live.send("PATCH", &path, &key, r#"{"status":"disabled"}"#).await.json;
    assert_eq!(
        (&disabled["status"], &disabled["disabled_reason"]),
        (&json!("disabled"), &json!("requested"))
    );
    assert!(disabled["disabled_at"].is_string(), "{disabled}");
    let enabled = live.send("PATCH", &path, &key, r#"{"status":"active"}"#).await.json;
    assert_eq!(enabled["status"], "active");
    assert!(enabled["disabled_reason"].is_null() && enabled["disabled_at"].is_null(), "{enabled}");
}

#[tokio::test]
async fn a_receiver_is_shown_what_it_needs_and_no_private_key() {
    let live = LiveEdge::start().await;
    let key = live.key("acme", Scopes::tenant_default()).await;
    let pair = SigningKey::Ed25519([7; 32]);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let (given, _) = made(&live, &key, json!({"target_url": TARGET, "secret": secret})).await;
    assert_eq!((&given["secret"], &given["public_key"]), (&json!(secret), &Value::Null));
    let (given, path) =
        made(&live, &key, json!({"target_url": TARGET, "secret": pair.reveal()})).await;
    assert_eq!(
        (&given["signature_scheme"], &given["public_key"]),
        (&json!("ed25519"), &json!(pair.public()))
    );
    assert!(given.get("secret").is_none(), "SUBSCRIPTION-JSON-2");
    let rotated = live.send("POST", &format!("{path}/rotate"), &key, "").await.json;
    assert_eq!(rotated["signature_scheme"], "ed25519", "ROTATE-SECRET-1");
    assert!(
        rotated["public_key"].is_string() && rotated["public_key"] != given["public_key"],
        "{rotated}"
    );
    let body = json!({"secret": secret}).to_string();
    let rotated = live.send("POST", &format!("{path}/rotate"), &key, &body).await.json;
    assert_eq!(
        (&rotated["signature_scheme"], &rotated["secret"]),
        (&json!("hmac-sha256"), &json!(secret))
    );
    let again = live.send("POST", &format!("{path}/rotate"), &key, "").await.json;
    assert!(
        again["secret"].as_str().unwrap().starts_with("whsec_") && again["secret"] != secret,
        "{again}"
    );
    assert!(
        live.send("GET", &path, &key, "").await.json.get("secret").is_none(),
        "SUBSCRIPTIONS-EDGE-2"
    );
}

#[tokio::test]
async fn a_target_that_may_not_be_called_is_rejected() {
    let live = LiveEdge::start().await;
    let key = live.key("acme", Scopes::tenant_default()).await;
    let (_, path) = made(&live, &key, json!({"target_url": TARGET})).await;
    let rejected = [
        ("target_url", "POST", PATH),
        ("targetUrl", "POST", PATH),
        ("target_url", "PATCH", path.as_str()),
    ];
    for (member, method, path) in rejected {
        for host in ["10.0.0.1", "0x0a000001", "167772161", "10.1", "0x0a.1", "%31%30.0.0.1."] {
            let body = json!({member: format!("http://{host}/")}).to_string();
            let rejected = live.send(method, path, &key, &body).await;
            assert_eq!(rejected.status, 400, "SUBSCRIPTIONS-EDGE-4: {method} {member} {host}");
            let details = rejected.json["error"]["details"].as_array().unwrap();
            assert_eq!(details.len(), 1, "{}", rejected.json);
            assert_eq!(details[0]["field"], member, "{}", rejected.json);
        }
    }
    let (normalised, _) = made(&live, &key, json!({"target_url": "http://127.1:9/é"})).await;
    assert_eq!(normalised["target_url"], "http://127.0.0.1:9/%C3%A9");
}

#[tokio::test]
async fn longer_retries_are_for_admins() {
    let live = LiveEdge::start().await;
    let key = live.key("acme", Scopes::tenant_default()).await;
    let admin = live.key("acme", [Scope::Admin].into_iter().collect()).await;
    let body = json!({"target_url": TARGET, "retry_policy": {"delays_seconds": [86_401]}});
    assert_eq!(live.send("POST", PATH, &key, &body.to_string()).await.status, 400);
    made(&live, &admin, body).await;
}

#[tokio::test]
async fn another_tenants_subscription_is_not_found() {
    let live = LiveEdge::start().await;
    let key = live.key("acme", Scopes::tenant_default()).await;
    let foreign = live.key("other", Scopes::tenant_default()).await;
    let weak =
        live.key("acme", [Scope::EventsWrite, Scope::KeysManage].into_iter().collect()).await;
    let (made, path) = made(&live, &key, json!({"target_url": TARGET})).await;
    let of_one = [
        ("GET", path.clone()),
        ("PATCH", path.clone()),
        ("DELETE", path.clone()),
        ("POST", format!("{path}/rotate")),
        ("POST", format!("{path}/test")),
        ("GET", format!("{path}/attempts")),
    ];
    let (recover, since) = (format!("{path}/recover"), r#"{"since":"2026-01-01T00:00:00Z"}"#);
    for (key, status) in [(&foreign, 404), (&weak, 403), (&key, 202)] {
        assert_eq!(live.send("POST", &recover, key, since).await.status, status);
    }
    for (method, path) in of_one {
        assert_eq!(
            live.send(method, &path, &foreign, "{}").await.status,
            404,
            "SUBSCRIPTIONS-EDGE-1: {method} {path}"
        );
        assert_eq!(live.send(method, &path, &weak, "{}").await.status, 403, "{method} {path}");
        let nonsense = path.replace(made["id"].as_str().unwrap(), "nonsense");
        assert_eq!(
            live.send(method, &nonsense, &key, "{}").await.status,
            404,
            "{method} {nonsense}"
        );
    }
    for method in ["GET", "POST"] {
        assert_eq!(live.send(method, PATH, &weak, "{}").await.status, 403, "{method}");
    }
    assert_eq!(
        live.send("GET", PATH, &foreign, "").await.json,
        json!({"subscriptions": []}),
        "SUBSCRIPTIONS-EDGE-1"
    );
    assert_eq!(
        live.send("GET", &path, &key, "").await.json,
        without_secret(&made),
        "nothing was changed"
    );
}

#[tokio::test]
async fn a_tenant_has_no_more_subscriptions_than_it_may() {
    let live = LiveEdge::start().await;
    let key = live.key("acme", Scopes::tenant_default()).await;
    for _ in 0..SUBSCRIPTIONS_MAX {
        made(&live, &key, json!({"target_url": TARGET})).await;
    }
    let rejected = live.send("POST", PATH, &key, &json!({"target_url": TARGET}).to_string()).await;
    assert_eq!(
        (rejected.status.as_u16(), &rejected.json["error"]["code"]),
        (409, &json!("CONFLICT")),
        "{}",
        rejected.json
    );
    let foreign = live.key("other", Scopes::tenant_default()).await;
    made(&live, &foreign, json!({"target_url": TARGET})).await;
}
