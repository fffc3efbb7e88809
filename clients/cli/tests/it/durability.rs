//! Tests of durability: load, SIGKILL at random moments, restarts, then a check of all events.
//!
//! - DURABILITY-1: an event answered with 201 exists exactly once, with its id and unchanged
//!   payload.
//! - DURABILITY-2: an event whose POST was not answered exists at most once.
//! - DURABILITY-3: if a POST with an idempotency key is not answered and repeated after the
//!   restart, there is exactly one event.
//! - DURABILITY-4: if a POST starts after another was answered, its event has the greater id, also
//!   across restarts.
//! - DURABILITY-5: an event whose acknowledgement was answered is `delivered`; an event that was
//!   never acknowledged is `received`.
//! - DURABILITY-6: `total_count` is the number of listed events, in each status.
//!
//! Damage to files beyond what SIGKILL causes is tested in `torn_files.rs`.

mod load;
mod verdict;

use crate::harness::random::Seed;
use crate::harness::{Client, Node, STATE_DEADLINE_MS, wait_until};
use load::{Ledger, Progress};
use std::sync::Arc;
use std::time::Duration;

const ROUNDS: u64 = 22;
const WRITERS: u64 = 24;
const ACKNOWLEDGERS: u64 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answered_event_is_lost_over_many_kills() {
    let seed = Seed::choose();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let progress = Arc::new(Progress::default());
    let mut ledger = Ledger::default();
    let mut node = Node::start(directory.path(), &[]).await;
    for round in 0..ROUNDS {
        let written = load_until_killed(&mut node, &seed, round, &progress).await;
        node = Node::start(directory.path(), &[]).await;
        let client = node.client();
        ledger.retried += written.unanswered.iter().filter(|post| post.key.is_some()).count();
        let written = retry_unanswered(&client, written, &progress).await;
        verdict::read_back(&client, &written).await;
        ledger.extend(written);
    }
    // The test is only meaningful if every kind of request was interrupted.
    let struck = [ledger.answered.len(), ledger.retried, ledger.acknowledged.len()];
    assert!(struck.iter().all(|count| *count > 0), "answered, retried, acknowledged: {struck:?}");
    verdict::ids_grow(&ledger);
    verdict::ledger_matches_listing(&node.client(), &ledger).await;
}

/// Sends requests over many connections and kills the node after a random number of answers.
async fn load_until_killed(
    node: &mut Node,
    seed: &Seed,
    round: u64,
    progress: &Arc<Progress>,
) -> Ledger {
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        // Each writer has its own connections.
        let client = node.client();
        let random = seed.stream(round * 1_000 + writer);
        tasks.push(tokio::spawn(load::write(
            client,
            random,
            format!("{round}-{writer}"),
            progress.clone(),
        )));
    }
    for acknowledger in 0..ACKNOWLEDGERS {
        let random = seed.stream(round * 1_000 + 500 + acknowledger);
        tasks.push(tokio::spawn(load::acknowledge(node.client(), random)));
    }
    let mut random = seed.stream(round * 1_000 + 900);
    let goal = progress.answered() + random.between(30, 500);
    wait_until(STATE_DEADLINE_MS, "the load makes progress", || async {
        progress.answered() >= goal
    })
    .await;
    // This does not wait for a state: it varies the moment of the kill.
    tokio::time::sleep(Duration::from_micros(random.below(5_000))).await;
    node.kill_hard();
    let mut ledger = Ledger::default();
    for task in tasks {
        ledger.extend(task.await.expect("a load task does not panic"));
    }
    ledger
}

/// Repeats the posts with an idempotency key that got no answer; now they must be accepted.
async fn retry_unanswered(client: &Client, mut ledger: Ledger, progress: &Progress) -> Ledger {
    let unanswered = std::mem::take(&mut ledger.unanswered);
    for post in unanswered {
        if post.key.is_none() {
            ledger.unanswered.push(post);
            continue;
        }
        let answer = client.send(post.call()).await.expect(201);
        ledger.answered.push(post.answered(answer.string("/event_id"), progress.next_step()));
    }
    let keyed: Vec<_> =
        ledger.answered.iter().filter(|answered| answered.post.key.is_some()).take(10).collect();
    for answered in keyed {
        let again = client.send(answered.post.call()).await.expect(201);
        assert_eq!(
            again.string("/event_id"),
            answered.event_id,
            "DURABILITY-3: a key keeps its event"
        );
        assert_eq!(again.header("idempotent-replayed"), "true", "the header marks a replay");
    }
    ledger
}
