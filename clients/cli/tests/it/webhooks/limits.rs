//! Tests of a node that has too few file descriptors for its webhooks.

use super::{reaches, subscribe};
use crate::harness::receiver::{Reaction, Receiver};
use crate::harness::{Call, Client, Node, STATE_DEADLINE_MS, wait_until};
use serde_json::json;

/// Endpoints whose kept connections are more than the node has descriptors.
const ENDPOINTS: usize = 36;
const EVENTS: usize = 2;
const OPEN_FILES_MAX: u32 = 64;

/// Sends an event until the node accepts it.
async fn accepted(client: &Client) -> String {
    loop {
        let answer = client.send(Call::event("order.created", "{}")).await;
        if answer.status == 201 {
            return answer.string("/event_id");
        }
        answer.expect(503);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_descriptors_dead_letters_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start_with_open_files(directory.path(), OPEN_FILES_MAX).await;
    let client = node.client();
    let mut receivers = Vec::new();
    for _ in 0..ENDPOINTS {
        let receiver = Receiver::start(Reaction::Answer(200)).await;
        // Without retries the first failure would be the last.
        subscribe(&client, &receiver.url(), &[]).await;
        receivers.push(receiver);
    }
    let mut ids = Vec::new();
    for _ in 0..EVENTS {
        ids.push(accepted(&client).await);
    }
    for id in &ids {
        // A kept connection is closed after ten seconds, and then its descriptor is free.
        wait_until(4 * STATE_DEADLINE_MS, "every endpoint has it", || async {
            receivers.iter().all(|receiver| receiver.ids().contains_key(id))
        })
        .await;
        let attempts = reaches(&client, id, "delivered").await;
        assert_eq!(attempts.len(), ENDPOINTS, "WEBHOOKS-7: {attempts:?}");
        for attempt in attempts {
            assert_eq!(attempt["outcome"], json!("succeeded"), "WEBHOOKS-7: {attempt}");
        }
    }
    assert!(receivers.iter().all(|receiver| receiver.count() == EVENTS), "WEBHOOKS-7");
    let log = node.log_text();
    assert!(log.contains("limit of open files"), "DESCRIPTORS-2");
    let exhausted = log.lines().filter(|line| line.contains("cannot send webhooks"));
    assert!(exhausted.count() <= 1, "NODE-FAULT-1");
}
