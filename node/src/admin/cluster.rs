//! The cluster as this node sees it: members, and what is known of the partitions.
//!
//! Invariant: `CLUSTER-VIEW-1` it is a view, true when it was made: nothing may be decided by it. Safety is in the
//! fences, which the store keeps.

use super::AdminState;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

/// The answer of `GET /v1/cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterView {
    /// Every member that is known.
    pub members: Vec<MemberView>,
    /// The partitions.
    pub partitions: PartitionsView,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// Its name and boot id: another one after each start.
    pub incarnation: String,
    /// Where it serves clients.
    pub address: SocketAddr,
    /// How it is.
    pub state: MemberState,
    /// Partitions that it owns.
    pub partitions_owned: u32,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It serves.
    Up,
    /// It serves and is about to stop.
    Draining,
}

/// The partitions in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PartitionsView {
    /// How many there are.
    pub count: u32,
    /// The lowest epoch among them.
    pub epoch_min: u64,
    /// The highest epoch among them.
    pub epoch_max: u64,
}

/// The cluster as this node sees it; how this node itself is, it knows best.
pub(super) async fn get_cluster(State(state): State<AdminState>) -> Json<ClusterView> {
    let mut view = state.cluster.clone();
    let is_draining = state.edge.draining.load(Ordering::SeqCst);
    if let Some(own) = view.members.iter_mut().find(|member| member.name == state.edge.node_name) {
        own.state = if is_draining { MemberState::Draining } else { MemberState::Up };
    }
    Json(view)
}
