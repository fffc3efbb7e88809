//! The test harness: a node as a process, an HTTP client, and checks of responses.
//!
//! `Node` owns the process and kills it when dropped. `Client` sends HTTP requests over kept
//! connections. `Wire` is a plain TCP connection for malformed requests. `Receiver` is an endpoint
//! for webhooks, and `RawReceiver` one that breaks HTTP. `listing` reads the inbox page by page.
//! `random` and `payload` generate repeatable input. A failing test prints the end of the node's
//! log.

pub mod client;
pub mod listing;
pub mod node;
pub mod payload;
pub mod process;
pub mod random;
pub mod raw_receiver;
pub mod receiver;
pub mod wire;

pub use client::{Answer, Call, Client};
pub use node::Node;
pub use wire::Wire;

use std::time::Duration;

/// Deadline for a state to appear, in milliseconds; long enough for a heavily loaded machine.
pub const STATE_DEADLINE_MS: u64 = 30_000;

const POLL_INTERVAL_MS: u64 = 10;

/// Waits until `probe` returns true; panics with `what` if that takes longer than `deadline_ms`.
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
