//! What the black-box tests share: a node as a process, a client, and the judgement of its answers.
//!
//! `Node` owns the process and kills it when dropped; `Client` speaks HTTP with kept connections; `Wire` is a bare TCP
//! stream for what no well-behaved client would send; `Receiver` takes webhooks; `listing` walks the inbox by its cursors; `random` and `payload`
//! make repeatable input. A failing test prints the end of the node's log.
//!
//! Not here: assertions about a single feature. Those stay with the tests of the feature.

pub mod client;
pub mod listing;
pub mod node;
pub mod payload;
pub mod process;
pub mod random;
pub mod receiver;
pub mod wire;

pub use client::{Answer, Call, Client};
pub use node::Node;
pub use wire::Wire;

use std::time::Duration;

/// How long a state may take to appear before a test gives up, in milliseconds. Far above what is ever needed: a
/// loaded machine must not fail a test.
pub const STATE_DEADLINE_MS: u64 = 30_000;

const POLL_INTERVAL_MS: u64 = 10;

/// Waits until `probe` answers true, and panics with `what` when `deadline_ms` have passed before it does.
pub async fn wait_until<Probe, Answer>(deadline_ms: u64, what: &str, mut probe: Probe)
where
    Probe: FnMut() -> Answer,
    Answer: Future<Output = bool>,
{
    let waiting = async {
        while !probe().await {
            tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_millis(deadline_ms), waiting).await;
    assert!(outcome.is_ok(), "not seen within {deadline_ms} ms: {what}");
}
