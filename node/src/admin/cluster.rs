//! The cluster view of this node: nodes, links and the owners of the partitions.
//!
//! `CLUSTER-VIEW-1`: the view is informational and may be outdated. No decision depends on it; the
//! fences in the store guarantee safety.

use crate::http::edge::EdgeState;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use triggers_actors::NodeWatch;
use triggers_actors::cluster::LinkState;
use triggers_actors::cluster::name_of;
use triggers_actors::membership::NodeCondition;
use triggers_actors::membership::{ClusterSnapshot, NodeSnapshot};
use triggers_actors::model::rows::Fence;
use triggers_cluster_config::NodeOptions;
use triggers_protocol::PartitionId;

/// Produces cluster views; cheap to clone.
#[derive(Clone)]
pub struct ClusterSource {
    watch: NodeWatch,
    name: String,
    incarnation: String,
    address: SocketAddr,
    partitions: u16,
}

impl ClusterSource {
    /// A source for the node that serves clients at `address`.
    pub fn new(
        watch: NodeWatch,
        options: &NodeOptions,
        incarnation: String,
        address: SocketAddr,
    ) -> Self {
        Self {
            watch,
            name: options.node.name.clone(),
            incarnation,
            address,
            partitions: options.node.partitions,
        }
    }

    /// Starts transferring all partitions to other nodes.
    pub(super) fn drain(&self) {
        self.watch.drain();
    }

    fn view(&self, is_draining: bool) -> ClusterView {
        match self.watch.snapshot() {
            Some(snapshot) => self.cluster(&snapshot, is_draining),
            None => self.single_node(is_draining),
        }
    }

    /// The view of a node without a cluster: it owns everything it serves.
    fn single_node(&self, is_draining: bool) -> ClusterView {
        let fence = |epoch| Fence { epoch, incarnation: self.incarnation.clone() };
        let owners = self
            .watch
            .served()
            .into_iter()
            .map(|(partition, epoch)| (partition, fence(epoch)))
            .collect();
        let own = MemberView {
            name: self.name.clone(),
            incarnation: self.incarnation.clone(),
            address: self.address.to_string(),
            peer_address: None,
            state: if is_draining { MemberState::Draining } else { MemberState::Up },
            beat: None,
            beat_age_ms: None,
            partitions_owned: owned(&owners, &self.incarnation),
            link: Link::Own,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.complete(self.incarnation.clone(), vec![own], owners)
    }

    fn cluster(&self, snapshot: &ClusterSnapshot, is_draining: bool) -> ClusterView {
        let member = |member: &NodeSnapshot| {
            let is_own = member.incarnation == snapshot.incarnation;
            MemberView {
                name: member.row.name.clone(),
                incarnation: member.incarnation.clone(),
                address: member.row.address.clone(),
                peer_address: Some(member.row.peer_address.clone()),
                state: match member.condition {
                    NodeCondition::Up if is_own && is_draining => MemberState::Draining,
                    NodeCondition::Up => MemberState::Up,
                    NodeCondition::Draining => MemberState::Draining,
                    NodeCondition::Silent => MemberState::Silent,
                },
                beat: Some(member.row.heartbeat),
                beat_age_ms: Some(
                    u64::try_from(member.heartbeat_age.as_millis()).unwrap_or(u64::MAX),
                ),
                partitions_owned: owned(&snapshot.owners, &member.incarnation),
                link: match member.link {
                    None => Link::Own,
                    Some(LinkState::Up) => Link::Up,
                    Some(LinkState::Down) => Link::Down,
                },
                version: member.row.version.clone(),
            }
        };
        let members = snapshot.nodes.iter().map(member).collect();
        self.complete(snapshot.incarnation.clone(), members, snapshot.owners.clone())
    }

    fn complete(
        &self,
        incarnation: String,
        members: Vec<MemberView>,
        owners: BTreeMap<PartitionId, Fence>,
    ) -> ClusterView {
        let is_member =
            |fence: &&Fence| members.iter().any(|member| member.incarnation == fence.incarnation);
        let epochs = owners.values().map(|fence| fence.epoch);
        let partitions = PartitionsView {
            count: self.partitions.into(),
            owned: u32::try_from(owners.values().filter(is_member).count()).unwrap_or(u32::MAX),
            epoch_min: epochs.clone().min().unwrap_or(0),
            epoch_max: epochs.max().unwrap_or(0),
            owners: owners
                .iter()
                .map(|(partition, fence)| OwnerView::new(*partition, fence))
                .collect(),
        };
        let served = self.watch.served();
        let served = served
            .into_iter()
            .map(|(partition, epoch)| ServedView { partition: partition.0, epoch });
        ClusterView {
            node: self.name.clone(),
            incarnation,
            members,
            partitions,
            served: served.collect(),
        }
    }
}

fn owned(owners: &BTreeMap<PartitionId, Fence>, incarnation: &str) -> u32 {
    let count = owners.values().filter(|fence| fence.incarnation == incarnation).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Response body of `GET /v1/cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterView {
    /// Name of the answering node.
    pub node: String,
    /// Incarnation of the answering node.
    pub incarnation: String,
    /// Every known node of the cluster.
    pub members: Vec<MemberView>,
    /// Counts and owners of the partitions.
    pub partitions: PartitionsView,
    /// Partitions that the answering node serves.
    pub served: Vec<ServedView>,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Name of the node.
    pub name: String,
    /// Name and boot id, different after each start.
    pub incarnation: String,
    /// Address for clients.
    pub address: String,
    /// Address for other nodes; null without a cluster.
    pub peer_address: Option<String>,
    /// State of the node.
    pub state: MemberState,
    /// Number of its latest known heartbeat.
    pub beat: Option<u64>,
    /// Milliseconds since that heartbeat changed.
    pub beat_age_ms: Option<u64>,
    /// Number of partitions that it owns.
    pub partitions_owned: u32,
    /// State of the link from the answering node.
    pub link: Link,
    /// Version of its binary.
    pub version: String,
}

/// State of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// The node serves.
    Up,
    /// The node serves and is about to stop.
    Draining,
    /// Its heartbeat has not changed for too long.
    Silent,
}

/// State of the link to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// The answering node itself.
    #[serde(rename = "self")]
    Own,
    /// The other node answers pings.
    Up,
    /// The other node does not answer pings.
    Down,
}

/// Counts and owners of the partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionsView {
    /// Number of partitions.
    pub count: u32,
    /// Partitions owned by a known node.
    pub owned: u32,
    /// Lowest epoch of all partitions.
    pub epoch_min: u64,
    /// Highest epoch of all partitions.
    pub epoch_max: u64,
    /// Owner of each partition.
    pub owners: Vec<OwnerView>,
}

/// The owner of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnerView {
    /// Number of the partition.
    pub partition: u16,
    /// Name of the owner.
    pub owner: String,
    /// Incarnation of the owner.
    pub incarnation: String,
    /// Epoch of the ownership.
    pub epoch: u64,
}

impl OwnerView {
    fn new(partition: PartitionId, fence: &Fence) -> Self {
        let owner = name_of(&fence.incarnation).to_owned();
        Self {
            partition: partition.0,
            owner,
            incarnation: fence.incarnation.clone(),
            epoch: fence.epoch,
        }
    }
}

/// A partition that a node serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ServedView {
    /// Number of the partition.
    pub partition: u16,
    /// Epoch under which the node serves it.
    pub epoch: u64,
}

/// Returns the cluster view of this node.
pub(super) async fn get_cluster(
    State(source): State<ClusterSource>,
    State(edge): State<EdgeState>,
) -> Json<ClusterView> {
    Json(source.view(edge.draining.load(Ordering::SeqCst)))
}
