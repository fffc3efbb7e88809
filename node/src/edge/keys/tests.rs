//! Keys through the whole edge: what a key may give, to whom, and what it may take away.

use crate::edge::openapi::live::LiveEdge;
use serde_json::{Value, json};
use triggers_protocol::{Scope, Scopes};

fn scopes(scopes: &[Scope]) -> Scopes {
    scopes.iter().copied().collect()
}

async fn made(live: &LiveEdge, key: &str, body: Value) -> (u16, Value) {
    let answer = live.send("POST", "/v1/keys", key, &body.to_string()).await;
    (answer.status.as_u16(), answer.json)
}

#[tokio::test]
async fn no_key_gives_more_than_it_has() {
    let live = LiveEdge::start().await;
    let manager = live.key("acme", scopes(&[Scope::KeysManage, Scope::InboxRead])).await;
    let admin = live.key("acme", scopes(&[Scope::Admin])).await;
    live.key("other", scopes(&[Scope::InboxRead])).await;
    let (status, json) = made(&live, &manager, json!({"name": "own"})).await;
    assert_eq!((status, &json["scopes"]), (201, &json!(["inbox:read", "keys:manage"])), "KEYS-EDGE-1: {json}");
    let refused = [
        (json!({"name": "x", "scopes": ["admin"]}), 403),
        (json!({"name": "x", "scopes": ["events:write"]}), 403),
        (json!({"name": "x", "rate_limit_per_minute": 1_001}), 403),
        (json!({"name": "x", "tenant_id": "other"}), 404),
        (json!({"name": "x", "tenant_id": "nobody"}), 404),
    ];
    for (body, expected) in refused {
        assert_eq!(made(&live, &manager, body.clone()).await.0, expected, "KEYS-EDGE-1: {body}");
    }
    let allowed = [
        (json!({"name": "x", "scopes": ["admin"], "tenant_id": "other"}), 201),
        (json!({"name": "x", "rate_limit_per_minute": 90_000}), 201),
        (json!({"name": "x", "tenant_id": "nobody"}), 404),
    ];
    for (body, expected) in allowed {
        assert_eq!(made(&live, &admin, body.clone()).await.0, expected, "{body}");
    }
}

#[tokio::test]
async fn an_admin_s_key_is_beyond_a_manager() {
    let live = LiveEdge::start().await;
    let manager = live.key("acme", scopes(&[Scope::KeysManage])).await;
    let admin = live.key("acme", scopes(&[Scope::Admin])).await;
    let foreign = live.key("other", scopes(&[Scope::KeysManage])).await;
    let (_, greater) = made(&live, &admin, json!({"name": "greater", "scopes": ["admin"]})).await;
    let path = format!("/v1/keys/{}", greater["id"].as_str().unwrap());
    let rotate = format!("{path}/rotate");
    for (method, path) in [("POST", &rotate), ("DELETE", &path)] {
        assert_eq!(live.send(method, path, &manager, "").await.status, 403, "KEYS-EDGE-1: {method}");
        assert_eq!(live.send(method, path, &foreign, "").await.status, 404, "KEYS-EDGE-3: {method}");
    }
    assert_eq!(live.send("DELETE", &path, &admin, "").await.status, 204);
    assert_eq!(live.send("DELETE", &path, &admin, "").await.status, 404);
}

#[tokio::test]
async fn a_rotated_key_works_on_for_its_grace_alone() {
    let live = LiveEdge::start().await;
    let manager = live.key("acme", Scopes::tenant_default()).await;
    let (_, old) = made(&live, &manager, json!({"name": "old", "scopes": ["inbox:read"]})).await;
    let path = format!("/v1/keys/{}/rotate", old["id"].as_str().unwrap());
    let answer = live.send("POST", &path, &manager, r#"{"grace_seconds":3600}"#).await;
    assert_eq!((answer.status.as_u16(), &answer.json["scopes"]), (201, &old["scopes"]), "{}", answer.json);
    let works = async |key: &Value| live.send("GET", "/v1/stats", key.as_str().unwrap(), "").await.status.as_u16();
    assert_eq!((works(&old["key"]).await, works(&answer.json["key"]).await), (200, 200));
    let again = live.send("POST", &path, &manager, "").await;
    assert_eq!(again.status, 201, "{}", again.json);
    assert_eq!((works(&old["key"]).await, works(&again.json["key"]).await), (401, 200));
    let listed = live.send("GET", "/v1/keys", &manager, "").await.json;
    assert_eq!(listed["keys"].as_array().unwrap().len(), 3, "{listed}");
    assert!(listed["keys"].as_array().unwrap().iter().all(|key| key.get("key").is_none()), "KEYS-EDGE-2");
}
