//! What was answered survives: load, SIGKILL at a random moment, restart, again and again, then the reckoning.
//!
//! DURABILITY-1: an event answered 201 exists exactly once, under the answered id, its payload byte for byte.
//! DURABILITY-2: an event whose POST got no answer exists at most once.
//! DURABILITY-3: an idempotency key whose POST got no answer, retried after the restart, yields exactly one event.
//! DURABILITY-4: a POST that began after another was answered has the greater id, also across restarts.
//! DURABILITY-5: an event whose acknowledgement was answered is `delivered`; one nobody acknowledged is `received`.
//! DURABILITY-6: `total_count` is the number of events listed, in each status.
//!
//! The load is in `durability/load.rs`, the judgement in `durability/verdict.rs`. Not here: damaged files, which are
//! more than a killed process leaves; see `torn_files.rs`.

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
async fn nothing_answered_is_lost_over_many_kills() {
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
    // A fault that never struck proves nothing.
    let struck = [ledger.answered.len(), ledger.retried, ledger.acknowledged.len()];
    assert!(struck.iter().all(|count| *count > 0), "answered, retried, acknowledged: {struck:?}");
    verdict::ids_grow(&ledger);
    verdict::ledger_matches_listing(&node.client(), &ledger).await;
}

/// Loads the node from many connections and kills it once a random number of requests was answered.
async fn load_until_killed(
    node: &mut Node,
    seed: &Seed,
    round: u64,
    progress: &Arc<Progress>,
) -> Ledger {
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        // Each writer has connections of its own.
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
    // Not a wait for a state: it moves the kill to any point of a commit.
    tokio::time::sleep(Duration::from_micros(random.below(5_000))).await;
    node.kill_hard();
    let mut ledger = Ledger::default();
    for task in tasks {
        ledger.extend(task.await.expect("a load task does not panic"));
    }
    ledger
}

/// Sends again what had an idempotency key and no answer: it must be accepted now, and counts as answered.
async fn retry_unanswered(client: &Client, mut ledger: Ledger, progress: &Progress) -> Ledger {
    let unanswered = std::mem::take(&mut ledger.unanswered);
    for post in unanswered {
        if post.key.is_none() {
            ledger.unanswered.push(post);
            continue;
        }
        let answer = client.send(post.call()).await.expect(201);
        ledger.answered.push(post.answered(answer.string("/event_id"), progress.tick()));
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
        assert_eq!(again.header("idempotent-replayed"), "true", "a replay says that it is one");
    }
    ledger
}
