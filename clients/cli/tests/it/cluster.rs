//! Tests of clusters: three node processes that share a PostgreSQL server, under constant load.
//!
//! - CLUSTERS-T-1: no request fails during a planned change: the stop of a node, an additional
//!   node, a restart of all nodes.
//! - CLUSTERS-T-2: if nodes die, freeze or are cut off, every event that was answered with 201
//!   exists once, ids increase, and acknowledged events do not reappear.
//! - CLUSTERS-T-3: no epoch of a partition is served by two nodes.
//!
//! Without an installed PostgreSQL the tests are skipped with a message.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod fleet;
mod gate;
mod links;
mod load;
mod routes;

use crate::harness::{STATE_DEADLINE_MS, wait_until};
use fleet::Fleet;
use load::Running;
use std::time::Duration;

const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
const TENANTS: usize = 6;
const FREEZE: Duration = Duration::from_secs(30);

/// Starts three nodes with equal shares of the partitions, and load on them.
async fn loaded() -> Option<(Fleet, Running)> {
    let fleet = Fleet::start(&NODES).await?;
    fleet.balanced().await;
    let running = Running::start(&fleet, TENANTS).await;
    running.load.answers(100).await;
    Some((fleet, running))
}

fn nothing_failed(running: &Running, during: &str) {
    let failures = running.load.take_failures();
    assert!(
        failures.is_empty(),
        "CLUSTERS-T-1: {} requests failed during {during}: {:?}",
        failures.len(),
        &failures[0]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_during_planned_transfers() {
    let Some((mut fleet, running)) = loaded().await else { return };
    nothing_failed(&running, "the start");
    assert_eq!(fleet.terminate("node-1").await, 0);
    running.load.follow(&fleet);
    running.load.answers(100).await;
    nothing_failed(&running, "a drain");
    fleet.add("node-1").await;
    fleet.add("node-4").await;
    running.load.follow(&fleet);
    fleet.balanced().await;
    running.load.answers(100).await;
    nothing_failed(&running, "the coming of two nodes");
    for name in ["node-1", "node-2", "node-3", "node-4"] {
        assert_eq!(fleet.terminate(name).await, 0);
        running.load.follow(&fleet);
        fleet.add(name).await;
        running.load.follow(&fleet);
        fleet.balanced().await;
        running.load.answers(50).await;
        nothing_failed(&running, "a rolling restart");
    }
    running.finish(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_when_nodes_die_or_freeze() {
    let Some((mut fleet, running)) = loaded().await else { return };
    // The partition of the tenant with the highest load.
    let partition = partition_of("t-0");
    let owner = fleet.owner(partition).await;
    let another = NODES.into_iter().find(|name| *name != owner).unwrap();
    for name in [another, &owner] {
        fleet.kill(name);
        running.load.follow(&fleet);
        fleet.balanced().await;
        running.load.answers(300).await;
        fleet.add(name).await;
        running.load.follow(&fleet);
        fleet.balanced().await;
    }

    let frozen = fleet.owner(partition).await;
    fleet.node(&frozen).signal("STOP");
    let others: Vec<&str> = NODES.into_iter().filter(|name| *name != frozen).collect();
    wait_until(STATE_DEADLINE_MS, "the others take over from a node that is frozen", || async {
        let Some(view) = fleet.node(others[0]).view().await else { return false };
        let owners = view["partitions"]["owners"].as_array().unwrap();
        owners.iter().all(|owner| owner["owner"] != frozen.as_str())
    })
    .await;
    running.load.answers(300).await;
    // This does not wait for a state: the node is frozen longer than every database timeout.
    tokio::time::sleep(FREEZE).await;
    fleet.node(&frozen).signal("CONT");
    wait_until(STATE_DEADLINE_MS, "the frozen node notices and restarts its actors", || async {
        fleet.node(&frozen).has_logged("no heartbeat could be written")
    })
    .await;
    fleet.balanced().await;
    running.load.answers(300).await;
    running.finish(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_when_the_database_restarts_or_a_node_is_cut_off() {
    let Some((fleet, running)) = loaded().await else { return };
    let server = fleet.server.clone();
    tokio::task::spawn_blocking(move || server.crash()).await.unwrap();
    fleet.balanced().await;
    running.load.answers(300).await;

    let cut_off = fleet.node("node-3");
    cut_off.database.shut();
    cut_off.peers.shut();
    wait_until(STATE_DEADLINE_MS, "the others take over from a node that is cut off", || async {
        let Some(view) = fleet.node("node-1").view().await else { return false };
        let owners = view["partitions"]["owners"].as_array().unwrap();
        owners.iter().all(|owner| owner["owner"] != "node-3")
    })
    .await;
    running.load.answers(300).await;
    cut_off.database.open();
    cut_off.peers.open();
    fleet.balanced().await;
    running.load.answers(300).await;
    tokio::time::timeout(Duration::from_millis(STATE_DEADLINE_MS), running.finish(&fleet))
        .await
        .expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_with_one_name_the_later_stays() {
    let Some(mut fleet) = Fleet::start(&["node-1"]).await else { return };
    let mut earlier = fleet.nodes.remove("node-1").unwrap();
    fleet.add("node-1").await;
    assert_eq!(earlier.exit_code().await, 5);
    fleet.balanced().await;
}

/// The partition of a tenant: the first eight bytes of SHA-256 modulo the number of partitions.
fn partition_of(tenant: &str) -> u64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(tenant.as_bytes());
    u64::from_be_bytes(digest[..8].try_into().unwrap()) % 256
}
