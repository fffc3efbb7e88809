//! Tests of draining a node, as load balancers, operators and browsers see it.
//!
//! - DRAIN-1: after a signal readiness fails at once; the node accepts requests for another
//!   `listen.drain_delay_ms`.
//! - DRAIN-2: the admin listener answers throughout the drain.
//! - DRAIN-3: a second signal ends the node with exit code 5.
//! - DRAIN-4: a web page cannot drain a node.

use crate::harness::{Call, Client, Node, STATE_DEADLINE_MS, wait_until};

fn admin(node: &Node) -> Client {
    Client::new(&node.dev.admin_url, &node.dev.admin_key)
}

#[tokio::test]
async fn readiness_fails_before_accepting_ends() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut node =
        Node::start(directory.path(), &[("TRIGGERS__LISTEN__DRAIN_DELAY_MS", "600000")]).await;
    node.client().get("/readyz").await.expect(200);
    node.signal_termination();
    let client = node.client();
    wait_until(STATE_DEADLINE_MS, "readiness fails", || async {
        client.get("/readyz").await.status == 503
    })
    .await;
    // A new client opens a new connection, which the node accepts after the signal.
    node.client().accepted("late.event", "{}").await;
    let cluster = admin(&node).get("/v1/cluster").await.expect(200).json();
    assert_eq!(cluster["members"][0]["state"], "draining", "DRAIN-2: {cluster}");
    node.signal_termination();
    assert_eq!(node.exit_code().await, 5, "DRAIN-3");
}

#[tokio::test]
async fn a_page_cannot_drain_a_node() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        let answer = admin(&node)
            .send(Call::post("/v1/cluster/drain", "").header(name, value))
            .await
            .expect(403);
        assert_eq!(answer.json()["error"]["code"], "FORBIDDEN", "DRAIN-4");
        let filter =
            Call::new("PUT", "/v1/log-level").body("{\"filter\":\"off\"}").header(name, value);
        admin(&node).send(filter).await.expect(403);
    }
    node.client().get("/readyz").await.expect(200);
    admin(&node).send(Call::post("/v1/cluster/drain", "")).await.expect(202);
    node.client().get("/readyz").await.expect(503);
}
