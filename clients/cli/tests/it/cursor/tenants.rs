//! Tests of the isolation of two tenants.
//!
//! - TENANTS-T-1: a listing contains only events of the key's tenant while both tenants write.
//! - TENANTS-T-2: another tenant's event is answered with 404 on every path, like an event that
//!   never existed.
//! - TENANTS-T-3: another tenant's cursor is rejected as an invalid cursor.
//! - TENANTS-T-4: the same idempotency key of another tenant has no effect.

use crate::harness::{Call, Client, Node, listing};
use serde_json::json;

/// Creates a tenant and a key; `name` must be unique within the node.
pub async fn tenant(node: &Node, name: &str) -> (String, Client) {
    let admin = node.admin();
    let made = admin.post("/v1/tenants", &json!({ "name": name })).await.expect(201).json();
    let id =
        made["id"].as_str().or(made["tenant_id"].as_str()).expect("a tenant has an id").to_owned();
    let key = admin
        .post("/v1/keys", &json!({ "name": name, "tenant_id": id }))
        .await
        .expect(201)
        .string("/key");
    (id, node.client().with_key(&key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_in_parallel_never_see_each_other() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let (_, left) = tenant(&node, "left").await;
    let (_, right) = tenant(&node, "right").await;
    let writing = [("left", left.clone()), ("right", right.clone())].map(|(name, client)| {
        tokio::spawn(async move {
            for number in 0..80 {
                client.accepted(&format!("{name}.event"), &format!("{{\"n\":{number}}}")).await;
                let own = format!("{name}.event");
                let page = listing::page(&client, "limit=200", None).await;
                assert!(
                    page.events.iter().all(|event| event.event_type == own),
                    "TENANTS-T-1: {name} sees its own"
                );
            }
        })
    });
    for task in writing {
        task.await.expect("a writer does not panic");
    }
    for client in [left, right] {
        assert_eq!(listing::all(&client, "limit=7").await.total_count, 80, "TENANTS-T-1");
    }
    assert_eq!(
        listing::received_count(&node.client()).await,
        0,
        "TENANTS-T-1: a third tenant sees nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_another_tenant_does_not_exist() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let (_, owner) = tenant(&node, "owner").await;
    let (_, stranger) = tenant(&node, "stranger").await;
    let id = owner.accepted("private.event", "{\"secret\":1}").await;
    let event = format!("/v1/events/{id}");
    let calls = [
        Call::get(&event),
        Call::get(format!("{event}/status")),
        Call::post(format!("{event}/ack"), ""),
        Call::post(format!("{event}/nack"), "{}"),
        Call::post(format!("{event}/replay"), ""),
        Call::delete(&event),
    ];
    for call in calls {
        let answer = stranger.send(call.clone()).await;
        assert_eq!(answer.status, 404, "TENANTS-T-2: {call:?}: {}", answer.text());
        assert_eq!(answer.string("/error/code"), "NOT_FOUND", "TENANTS-T-2: {call:?}");
    }
    let together = stranger
        .post("/v1/events/acknowledge/batch", &json!({ "event_ids": [id] }))
        .await
        .expect(200);
    assert_eq!(together.json()["success_count"], 0, "TENANTS-T-2: {}", together.text());
    let after = owner.get(&event).await.expect(200);
    assert_eq!(after.string("/status"), "received", "TENANTS-T-2: nothing was changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_and_idempotency_keys_belong_to_their_tenant() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let (_, owner) = tenant(&node, "owner").await;
    let (_, stranger) = tenant(&node, "stranger").await;
    super::fill(&owner, 5).await;
    super::fill(&stranger, 5).await;
    let cursor = listing::page(&owner, "limit=2", None).await.cursor.expect("there is more");
    let answer = stranger.get(&format!("/v1/inbox?cursor={cursor}")).await.expect(400);
    assert_eq!(answer.string("/error/code"), "INVALID_CURSOR", "TENANTS-T-3");

    let call = Call::event("same.key", "{\"a\":1}").header("x-idempotency-key", "shared");
    let first = owner.send(call.clone()).await.expect(201);
    let second = stranger.send(call).await.expect(201);
    assert_ne!(first.string("/event_id"), second.string("/event_id"), "TENANTS-T-4");
    assert_eq!(second.header("idempotent-replayed"), "", "TENANTS-T-4");
}
