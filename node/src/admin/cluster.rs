//! The cluster as this node sees it: members, links, and the owners of the partitions.
//!
//! Invariant: `CLUSTER-VIEW-1` it is a view, true when it was made: nothing may be decided by it. Safety is in the
//! fences, which the store keeps.

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
use triggers_cluster_config::NodeOptions;
use triggers_protocol::PartitionId;
use triggers_store::tables::rows::Fence;

/// Where the view comes from.
#[derive(Clone)]
pub struct ClusterSource {
    watch: NodeWatch,
    name: String,
    incarnation: String,
    address: SocketAddr,
    partitions: u16,
}

impl ClusterSource {
    /// The view of a node that serves clients at `address`.
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

    /// Begins to give all partitions to the other members.
    pub(super) fn drain(&self) {
        self.watch.drain();
    }

    fn view(&self, is_draining: bool) -> ClusterView {
        match self.watch.snapshot() {
            Some(snapshot) => self.of_members(&snapshot, is_draining),
            None => self.alone(is_draining),
        }
    }

    /// One member, this node, which owns everything.
    fn alone(&self, is_draining: bool) -> ClusterView {
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
        self.whole(self.incarnation.clone(), vec![own], owners)
    }

    fn of_members(&self, snapshot: &ClusterSnapshot, is_draining: bool) -> ClusterView {
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
        self.whole(snapshot.incarnation.clone(), members, snapshot.owners.clone())
    }

    fn whole(
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

/// The answer of `GET /v1/cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterView {
    /// The node that answers.
    pub node: String,
    /// Its incarnation.
    pub incarnation: String,
    /// Every member that is known.
    pub members: Vec<MemberView>,
    /// The partitions.
    pub partitions: PartitionsView,
    /// What this node serves.
    pub served: Vec<ServedView>,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// Its name and boot id: another one after each start.
    pub incarnation: String,
    /// Where it serves clients.
    pub address: String,
    /// Where it listens for other members; null if it stands alone.
    pub peer_address: Option<String>,
    /// How it is.
    pub state: MemberState,
    /// Its beat as last seen.
    pub beat: Option<u64>,
    /// For how long that beat has been the same.
    pub beat_age_ms: Option<u64>,
    /// Partitions that it owns.
    pub partitions_owned: u32,
    /// The link from the node that answers.
    pub link: Link,
    /// The version of its program.
    pub version: String,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It serves.
    Up,
    /// It serves and is about to stop.
    Draining,
    /// Nothing was heard of it for long.
    Silent,
}

/// How the link to a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// It is the node that answers.
    #[serde(rename = "self")]
    Own,
    /// The member answers.
    Up,
    /// It does not.
    Down,
}

/// The partitions in numbers, and their owners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionsView {
    /// How many there are.
    pub count: u32,
    /// How many are owned by a member that is known.
    pub owned: u32,
    /// The lowest epoch among them.
    pub epoch_min: u64,
    /// The highest epoch among them.
    pub epoch_max: u64,
    /// The owner of each.
    pub owners: Vec<OwnerView>,
}

/// The owner of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnerView {
    /// The partition's number.
    pub partition: u16,
    /// The owner's name.
    pub owner: String,
    /// The owner's incarnation.
    pub incarnation: String,
    /// The epoch of its ownership.
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
    /// The partition's number.
    pub partition: u16,
    /// The epoch under which it is served.
    pub epoch: u64,
}

/// The cluster as this node sees it; how this node itself is, it knows best.
pub(super) async fn get_cluster(
    State(source): State<ClusterSource>,
    State(edge): State<EdgeState>,
) -> Json<ClusterView> {
    Json(source.view(edge.draining.load(Ordering::SeqCst)))
}
