//! Tests tenants through the HTTP API: create, list in pages, change.

use crate::api::openapi::tests::live::LiveEdge;
use serde_json::json;
use triggers_protocol::{Scope, Scopes};

#[tokio::test]
async fn tenants_are_made_once_listed_and_changed() {
    let live = LiveEdge::start().await;
    let admin = live.key("root", [Scope::Admin].into_iter().collect()).await;
    for id in ["a", "b", "c"] {
        let body = json!({"id": id, "name": "one", "tier": "beta"}).to_string();
        assert_eq!(live.send("POST", "/v1/tenants", &admin, &body).await.status, 201);
        let other = body.replace("one", "two");
        assert_eq!(
            live.send("POST", "/v1/tenants", &admin, &other).await.status,
            409,
            "TENANTS-EDGE-2"
        );
    }
    let first = live.send("GET", "/v1/tenants?limit=2", &admin, "").await.json;
    let cursor = first["cursor"].as_str().unwrap();
    let second =
        live.send("GET", &format!("/v1/tenants?limit=2&cursor={cursor}"), &admin, "").await.json;
    let ids = |page: &serde_json::Value| {
        page["tenants"].as_array().unwrap().iter().map(|t| t["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!([ids(&first), ids(&second)].concat(), ["a", "b", "c", "root"]);
    assert_eq!((&second["has_more"], &second["cursor"]), (&json!(false), &json!(null)));

    let patched =
        live.send("PATCH", "/v1/tenants/b", &admin, r#"{"max_inbox_events":7}"#).await.json;
    let read = live.send("GET", "/v1/tenants/b", &admin, "").await.json;
    assert_eq!(patched, read);
    assert_eq!(
        (&read["max_inbox_events"], &read["tier"]),
        (&json!(7), &json!("beta")),
        "TENANTS-EDGE-1"
    );
    assert_eq!(live.send("PATCH", "/v1/tenants/nobody", &admin, "{}").await.status, 404);
    let tenant = live.key("a", Scopes::tenant_default()).await;
    assert_eq!(live.send("GET", "/v1/tenants", &tenant, "").await.status, 403);
}
