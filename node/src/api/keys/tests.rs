//! Tests keys through the HTTP API: which keys a key can create, rotate and revoke.

use crate::api::openapi::tests::live::LiveEdge;
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
    assert_eq!(
        (status, &json["scopes"]),
        (201, &json!(["inbox:read", "keys:manage"])),
        "KEYS-EDGE-1: {json}"
    );
    let rejected = [
        (json!({"name": "x", "scopes": ["admin"]}), 403),
        (json!({"name": "x", "scopes": ["events:write"]}), 403),
        (json!({"name": "x", "rate_limit_per_minute": 1_001}), 403),
        (json!({"name": "x", "tenant_id": "other"}), 404),
        (json!({"name": "x", "tenant_id": "nobody"}), 404),
    ];
    for (body, expected) in rejected {
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
        assert_eq!(
            live.send(method, path, &manager, "").await.status,
            403,
            "KEYS-EDGE-1: {method}"
        );
        assert_eq!(
            live.send(method, path, &foreign, "").await.status,
            404,
            "KEYS-EDGE-3: {method}"
        );
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
    assert_eq!(
        (answer.status.as_u16(), &answer.json["scopes"]),
        (201, &old["scopes"]),
        "{}",
        answer.json
    );
    let works = async |key: &Value| {
        live.send("GET", "/v1/stats", key.as_str().unwrap(), "").await.status.as_u16()
    };
    assert_eq!((works(&old["key"]).await, works(&answer.json["key"]).await), (200, 200));
    let again = live.send("POST", &path, &manager, "").await;
    assert_eq!(again.status, 201, "{}", again.json);
    assert_eq!((works(&old["key"]).await, works(&again.json["key"]).await), (401, 200));
    assert!(
        again.json["expires_at"].is_null(),
        "the successor does not end with its predecessor's grace"
    );
    let listed = live.send("GET", "/v1/keys", &manager, "").await.json;
    assert_eq!(listed["keys"].as_array().unwrap().len(), 3, "{listed}");
    assert!(
        listed["keys"].as_array().unwrap().iter().all(|key| key.get("key").is_none()),
        "KEYS-EDGE-2"
    );
}

#[tokio::test]
async fn a_key_passes_on_no_more_than_it_has() {
    let live = LiveEdge::start().await;
    let manager = live.key("acme", Scopes::tenant_default()).await;
    let end = "2040-01-01T00:00:00.000Z";
    let body = json!({"name": "small", "rate_limit_per_minute": 50, "expires_at": end});
    let (_, small) = made(&live, &manager, body).await;
    let small = small["key"].as_str().unwrap();
    let (_, child) = made(&live, small, json!({"name": "child"})).await;
    assert_eq!((&child["rate_limit_per_minute"], &child["expires_at"]), (&json!(50), &json!(end)));
    let body = json!({"name": "longer", "expires_at": "2050-01-01T00:00:00Z"});
    let (_, longer) = made(&live, small, body).await;
    assert_eq!(longer["expires_at"], json!(end));
    let (status, _) =
        made(&live, small, json!({"name": "faster", "rate_limit_per_minute": 51})).await;
    assert_eq!(status, 403);
    let (_, sibling) =
        made(&live, &manager, json!({"name": "sibling", "rate_limit_per_minute": 900})).await;
    let path = format!("/v1/keys/{}/rotate", sibling["id"].as_str().unwrap());
    assert_eq!(
        live.send("POST", &path, small, "").await.status,
        403,
        "a faster key is not handed out by rotation"
    );
    let (_, tier) = made(&live, &manager, json!({"name": "as its tier", "expires_at": end})).await;
    let path = format!("/v1/keys/{}/rotate", tier["id"].as_str().unwrap());
    assert_eq!(
        live.send("POST", &path, small, "").await.status,
        403,
        "neither is one with the rate of its tier"
    );
    let body = json!({
        "name": "longer",
        "rate_limit_per_minute": 50,
        "expires_at": "2050-01-01T00:00:00Z",
    });
    let (_, longer) = made(&live, &manager, body).await;
    let path = format!("/v1/keys/{}/rotate", longer["id"].as_str().unwrap());
    assert_eq!(live.send("POST", &path, small, "").await.status, 403, "nor one that lasts longer");
}

#[tokio::test]
async fn a_key_renews_itself_but_not_in_its_grace() {
    let live = LiveEdge::start().await;
    let manager = live.key("acme", Scopes::tenant_default()).await;
    let (_, own) = made(&live, &manager, json!({"name": "own"})).await;
    let path = format!("/v1/keys/{}/rotate", own["id"].as_str().unwrap());
    let own = own["key"].as_str().unwrap();
    let renewed = live.send("POST", &path, own, r#"{"grace_seconds":3600}"#).await;
    assert_eq!((renewed.status.as_u16(), &renewed.json["expires_at"]), (201, &Value::Null));
    assert_eq!(live.send("POST", &path, own, "").await.status, 403, "KEYS-EDGE-1");
    let (_, child) = made(&live, own, json!({"name": "child"})).await;
    assert!(child["expires_at"].is_string(), "KEYS-EDGE-1: what it makes ends with it: {child}");
}
