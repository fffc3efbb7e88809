//! What handlers and extractors use of their node, and the deadline of the request they handle.
//!
//! - `DEADLINE-1`: the deadline is fixed when the request begins; a late call does not extend it.
//! - `DEADLINE-2`: it lies before the timeout of the middleware, so that a handler can still report
//!   a write whose outcome is unknown.
//!
//! Outside a request's task (the body of a stream, a background task) it counts from the call.

use crate::access::Access;
use crate::webhook::TargetPolicy;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::futures::TaskLocalFuture;
use tokio::time::Instant;
use triggers_actors::admission::Admission;
use triggers_actors::cluster::PeerTransport;
use triggers_actors::cluster::directory::Directory;
use triggers_cluster_config::NodeOptions;
use triggers_protocol::Environment;
use triggers_store::kv::Store;

/// Time left for the response after a handler's deadline, at most.
const MARGIN_MAX: Duration = Duration::from_millis(100);

tokio::task_local! {
    static DEADLINE: Instant;
}

/// Runs the handler of a request that ends at `end`, `timeout` after it began.
pub(crate) fn with_deadline<F: Future>(
    end: Instant,
    timeout: Duration,
    handler: F,
) -> TaskLocalFuture<Instant, F> {
    DEADLINE.scope(end - MARGIN_MAX.min(timeout / 10), handler)
}

/// Deadline of the request that this task handles. Outside a request: `timeout` from now.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    DEADLINE.try_with(|deadline| *deadline).unwrap_or_else(|_| Instant::now() + timeout)
}

/// The state of the routes; cheap to clone.
#[derive(Clone)]
pub struct EdgeState(pub Arc<Edge>);

impl Deref for EdgeState {
    type Target = Edge;

    fn deref(&self) -> &Edge {
        &self.0
    }
}

/// The parts of a node that the HTTP server uses.
pub struct Edge {
    /// Source of time and randomness.
    pub environment: Environment,
    /// Sends requests to the inboxes of the tenants.
    pub router: triggers_actors::Router,
    /// The store, used only for its health.
    pub store: Store,
    /// Looks up keys and tenants.
    pub access: Access,
    /// Decides which URLs webhooks may call.
    pub targets: Arc<TargetPolicy>,
    /// Signing key of cursors; the same on every node of a cluster.
    pub cursor_secret: [u8; 32],
    /// Options of the node.
    pub options: NodeOptions,
    /// Name of the node in the health response.
    pub node_name: String,
    /// Permits for the bytes of request bodies that are being received.
    pub body_gate: Arc<Admission>,
    /// The node's cluster; `None` for a single node.
    pub cluster: Option<EdgeCluster>,
    /// The node is about to stop: it still serves requests, but reports that it is not ready.
    pub draining: AtomicBool,
}

impl Edge {
    /// Time by which the handler of the current request must answer (`DEADLINE-1`).
    pub fn deadline(&self) -> Instant {
        deadline(Duration::from_millis(self.options.listen.request_timeout_ms))
    }

    /// Time after which a handler with several steps must not begin another one: a quarter of the
    /// request timeout before its deadline.
    pub fn last_start(&self) -> Instant {
        self.deadline() - Duration::from_millis(self.options.listen.request_timeout_ms) / 4
    }

    /// Whether the node is about to stop (see [`Edge::draining`]).
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}

/// The cluster as the HTTP server uses it.
pub struct EdgeCluster {
    /// Knows the owner of each partition.
    pub directory: Directory,
    /// Sends requests to the other nodes.
    pub transport: Arc<dyn PeerTransport>,
    /// Identity of this process among its peers.
    pub peer: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_deadline_does_not_move_while_a_request_is_handled() {
        let timeout = Duration::from_secs(1_000);
        let end = Instant::now() + timeout;
        with_deadline(end, timeout, async {
            let first = deadline(timeout);
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert_eq!(deadline(timeout), first, "DEADLINE-1");
            assert!(first < end, "DEADLINE-2");
        })
        .await;
        assert!(deadline(timeout) >= end, "outside a request it counts from the call");
        with_deadline(end, Duration::from_millis(100), async {
            let margin = end - deadline(timeout);
            assert_eq!(margin, Duration::from_millis(10), "a tenth of a short timeout");
        })
        .await;
    }
}
