//! The cluster view of this node: nodes, links and the owners of the partitions.
//!
//! `CLUSTER-VIEW-1`: the view is informational and may be outdated. No decision depends on it; the
//! fences in the store guarantee safety.

use crate::http::edge::Edge;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use triggers_actors::NodeWatch;
use triggers_actors::cluster::{LinkState, name_of};
use triggers_actors::membership::{NodeCondition, NodeSnapshot};
use triggers_actors::model::rows::Fence;
use triggers_protocol::PartitionId;

/// The cluster as this node sees it. `address` is the address of its public listener.
pub(super) fn view(
    edge: &Edge,
    watch: &NodeWatch,
    incarnation: &str,
    address: SocketAddr,
) -> ClusterView {
    let served = watch.served();
    let is_draining = edge.is_draining();
    let name = edge.options.node.name.clone();
    let (incarnation, nodes, owners) = match watch.snapshot() {
        Some(snapshot) => {
            let view = |node| NodeView::of_peer(node, &snapshot.owners, is_draining);
            let nodes = snapshot.nodes.iter().map(view).collect();
            (snapshot.incarnation.clone(), nodes, snapshot.owners.clone())
        }
        // A node without a cluster owns everything that it serves.
        None => {
            let fence = |epoch| Fence { epoch, incarnation: incarnation.to_owned() };
            let owners = served.iter().map(|(partition, epoch)| (*partition, fence(*epoch)));
            let owners = owners.collect();
            let node = NodeView {
                name: name.clone(),
                incarnation: incarnation.to_owned(),
                address: address.to_string(),
                peer_address: None,
                state: if is_draining { NodeState::Draining } else { NodeState::Up },
                heartbeat: None,
                heartbeat_age_ms: None,
                partitions_owned: owned_by(incarnation, &owners),
                link: Link::Own,
                version: env!("CARGO_PKG_VERSION").to_owned(),
            };
            (incarnation.to_owned(), vec![node], owners)
        }
    };
    let served = served
        .into_iter()
        .map(|(partition, epoch)| ServedView { partition: partition.0, epoch })
        .collect();
    let partitions = PartitionsView::new(edge.options.node.partitions.into(), &nodes, &owners);
    ClusterView { node: name, incarnation, nodes, partitions, served }
}

/// Response body of `GET /v1/cluster`, as seen by the node that answers.
#[derive(Serialize)]
pub(super) struct ClusterView {
    node: String,
    incarnation: String,
    #[serde(rename = "members")]
    nodes: Vec<NodeView>,
    partitions: PartitionsView,
    served: Vec<ServedView>,
}

/// One node of the cluster.
#[derive(Serialize)]
struct NodeView {
    name: String,
    /// Name and boot id, different after each start.
    incarnation: String,
    /// Address for clients.
    address: String,
    /// Address for other nodes; null without a cluster.
    peer_address: Option<String>,
    state: NodeState,
    /// Number of its latest known heartbeat.
    #[serde(rename = "beat")]
    heartbeat: Option<u64>,
    /// Milliseconds since that heartbeat changed.
    #[serde(rename = "beat_age_ms")]
    heartbeat_age_ms: Option<u64>,
    partitions_owned: u32,
    /// State of the link from the answering node.
    link: Link,
    /// Version of its binary.
    version: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum NodeState {
    Up,
    /// The node serves and is about to stop.
    Draining,
    /// Its heartbeat has not changed for too long.
    Silent,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Link {
    /// The answering node itself.
    #[serde(rename = "self")]
    Own,
    /// The other node answers pings.
    Up,
    /// The other node does not answer pings.
    Down,
}

/// Counts and owners of the partitions.
#[derive(Serialize)]
struct PartitionsView {
    count: u32,
    /// Partitions owned by a known node.
    owned: u32,
    epoch_min: u64,
    epoch_max: u64,
    owners: Vec<OwnerView>,
}

/// The owner of a partition.
#[derive(Serialize)]
struct OwnerView {
    partition: u16,
    /// Name of the owner.
    owner: String,
    incarnation: String,
    epoch: u64,
}

/// A partition that the answering node serves, and the epoch of its fence.
#[derive(Serialize)]
struct ServedView {
    partition: u16,
    epoch: u64,
}

impl NodeView {
    /// A node of a cluster. `is_draining` says whether the answering node drains.
    fn of_peer(
        node: &NodeSnapshot,
        owners: &BTreeMap<PartitionId, Fence>,
        is_draining: bool,
    ) -> Self {
        Self {
            name: node.row.name.clone(),
            incarnation: node.incarnation.clone(),
            address: node.row.address.clone(),
            peer_address: Some(node.row.peer_address.clone()),
            state: match node.condition {
                // The answering node has no link to itself.
                NodeCondition::Up if is_draining && node.link.is_none() => NodeState::Draining,
                NodeCondition::Up => NodeState::Up,
                NodeCondition::Draining => NodeState::Draining,
                NodeCondition::Silent => NodeState::Silent,
            },
            heartbeat: Some(node.row.heartbeat),
            heartbeat_age_ms: u64::try_from(node.heartbeat_age.as_millis()).ok(),
            partitions_owned: owned_by(&node.incarnation, owners),
            link: match node.link {
                None => Link::Own,
                Some(LinkState::Up) => Link::Up,
                Some(LinkState::Down) => Link::Down,
            },
            version: node.row.version.clone(),
        }
    }
}

impl PartitionsView {
    fn new(count: u32, nodes: &[NodeView], owners: &BTreeMap<PartitionId, Fence>) -> Self {
        let epochs = owners.values().map(|fence| fence.epoch);
        let owner = |(partition, fence): (&PartitionId, &Fence)| OwnerView {
            partition: partition.0,
            owner: name_of(&fence.incarnation).to_owned(),
            incarnation: fence.incarnation.clone(),
            epoch: fence.epoch,
        };
        Self {
            count,
            owned: nodes.iter().map(|node| node.partitions_owned).sum(),
            epoch_min: epochs.clone().min().unwrap_or(0),
            epoch_max: epochs.max().unwrap_or(0),
            owners: owners.iter().map(owner).collect(),
        }
    }
}

fn owned_by(incarnation: &str, owners: &BTreeMap<PartitionId, Fence>) -> u32 {
    let count = owners.values().filter(|fence| fence.incarnation == incarnation).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}
