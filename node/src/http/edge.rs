//! [`Edge`]: everything handlers and extractors use of their node.

use super::deadline::deadline;
use crate::access::Access;
use crate::webhook::TargetPolicy;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::admission::Admission;
use triggers_actors::cluster::PeerTransport;
use triggers_actors::cluster::directory::Directory;
use triggers_cluster_config::NodeOptions;
use triggers_protocol::Environment;
use triggers_store::kv::Store;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct EdgeState(pub Arc<Edge>);

impl Deref for EdgeState {
    type Target = Edge;

    fn deref(&self) -> &Edge {
        &self.0
    }
}

/// Everything that the edge needs of its node.
pub struct Edge {
    /// Time and randomness.
    pub environment: Environment,
    /// The way to the tenants' inboxes.
    pub router: triggers_actors::Router,
    /// The store; the edge asks it for its health only.
    pub store: Store,
    /// Keys and tenants.
    pub access: Access,
    /// Where webhooks may go.
    pub targets: Arc<TargetPolicy>,
    /// What cursors are signed with; the same on every node of a cluster.
    pub cursor_secret: [u8; 32],
    /// The node's options.
    pub options: NodeOptions,
    /// The node's name, for the health answer.
    pub node_name: String,
    /// Bytes of bodies that are being gathered.
    pub gathering: Arc<Admission>,
    /// The node's part in a cluster; none if it stands alone.
    pub cluster: Option<EdgeCluster>,
    /// Whether the node is about to stop: it serves on, but is not ready.
    pub draining: AtomicBool,
}

impl Edge {
    /// When the request that is being handled must be answered, shortly before its time is up; outside of a request, as
    /// if one began now.
    pub fn deadline(&self) -> Instant {
        deadline(Duration::from_millis(self.options.listen.request_timeout_ms))
    }

    /// When a request that waits or does one thing after another begins nothing more, so that there is time left for
    /// what it began.
    pub fn last_start(&self) -> Instant {
        self.deadline() - Duration::from_millis(self.options.listen.request_timeout_ms) / 4
    }

    /// Whether the node is about to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}

/// The edge's part in a cluster.
pub struct EdgeCluster {
    /// Who owns what.
    pub directory: Directory,
    /// The way to the others.
    pub transport: Arc<dyn PeerTransport>,
    /// This process, as the others know it.
    pub peer: String,
}
