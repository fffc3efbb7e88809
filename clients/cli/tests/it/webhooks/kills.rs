//! Test with repeated SIGKILL at random moments of deliveries.

use super::subscribe;
use crate::harness::random::Seed;
use crate::harness::receiver::{Reaction, Receiver};
use crate::harness::{Client, Node, STATE_DEADLINE_MS, listing, wait_until};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const ROUNDS: u64 = 12;
/// The claims of a killed node expire after the attempt timeout plus two commit timeouts.
const QUICK: [(&str, &str); 4] = [
    ("TRIGGERS__DELIVERY__ATTEMPT_TIMEOUT_MS", "1000"),
    ("TRIGGERS__DELIVERY__READ_TIMEOUT_MS", "1000"),
    ("TRIGGERS__DELIVERY__CONNECT_TIMEOUT_MS", "1000"),
    ("TRIGGERS__BROKER__COMMIT_TIMEOUT_MS", "500"),
];

/// Posts events until the node is killed; returns the ids of the accepted events.
async fn write(client: Client) -> Vec<String> {
    let mut accepted = Vec::new();
    loop {
        let body =
            json!({ "events": vec![json!({ "event_type": "order.created", "payload": {} }); 5] });
        let call = crate::harness::Call::post("/v1/events/batch", body.to_string());
        match client.try_send(call).await {
            Ok(answer) if answer.status == 201 => {
                let results = answer.json()["results"].as_array().cloned().unwrap_or_default();
                accepted.extend(
                    results
                        .iter()
                        .filter_map(|result| result["event_id"].as_str().map(str::to_owned)),
                );
            }
            Ok(answer) => assert!(matches!(answer.status, 429 | 503), "{}", answer.text()),
            Err(_) => return accepted,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_stuck_over_many_kills() {
    let seed = Seed::choose();
    let mut random = seed.stream(1);
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (good, flapping) = (
        Receiver::start(Reaction::Answer(200)).await,
        Receiver::start(Reaction::Answer(200)).await,
    );
    let mut node = Node::start(directory.path(), &QUICK).await;
    subscribe(&node.client(), &good.url(), &[1, 1, 1, 1, 1, 1, 1, 1]).await;
    subscribe(&node.client(), &flapping.url(), &[1, 1, 1, 1, 1, 1, 1, 1]).await;
    let mut accepted = BTreeSet::new();
    for round in 0..ROUNDS {
        let manners = [Reaction::Answer(200), Reaction::Answer(500), Reaction::Hang];
        flapping.set(random.pick(&manners).clone());
        let writer = tokio::spawn(write(node.client()));
        let goal = good.count() + random.between(5, 150) as usize;
        wait_until(STATE_DEADLINE_MS, &format!("round {round}: webhooks arrive"), || async {
            good.count() >= goal
        })
        .await;
        // This does not wait for a state: it varies the moment of the kill.
        tokio::time::sleep(Duration::from_micros(random.below(20_000))).await;
        node.kill_hard();
        accepted.extend(writer.await.expect("a writer does not panic"));
        node = Node::start(directory.path(), &QUICK).await;
    }
    flapping.set(Reaction::Answer(200));
    let client = node.client();
    for status in ["received", "queued"] {
        wait_until(4 * STATE_DEADLINE_MS, &format!("nothing is left in {status}"), || async {
            listing::page(&client, &format!("limit=1&status={status}"), None)
                .await
                .pagination
                .total_count
                == 0
        })
        .await;
    }
    assert!(accepted.len() > 100, "too few events for a meaningful test: {}", accepted.len());
    let delivered: BTreeSet<String> = listing::all(&client, "limit=200&status=delivered")
        .await
        .events
        .into_iter()
        .map(|event| event.event_id)
        .collect();
    assert!(accepted.is_subset(&delivered), "WEBHOOKS-5: an event was not delivered");
    let arrived = good.ids();
    assert!(
        delivered.iter().all(|id| arrived.contains_key(id)),
        "WEBHOOKS-5: delivered without a webhook"
    );
    assert!(arrived.keys().all(|id| delivered.contains(id)), "WEBHOOKS-5: a webhook of no event");
    assert!(
        flapping.ids().keys().all(|id| delivered.contains(id)),
        "WEBHOOKS-5: a webhook of no event"
    );
    let repeats: usize = arrived.values().map(|count| count - 1).sum();
    assert!(
        repeats < delivered.len(),
        "repeated webhooks are the exception: {repeats} of {}",
        delivered.len()
    );
}
