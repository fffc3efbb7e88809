//! The answer of `GET /v1/cluster`, as far as `status` and `drain` read it.
//!
//! - `VIEW-1`: each member may be missing, since older nodes say less. It is then shown as unknown.
//! - `VIEW-2`: the answer decides only what is printed and how long `drain` waits.

use serde::Deserialize;
use std::collections::BTreeSet;
use triggers_client::{Call, Client, ClientError, Reply};

/// The complete answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct View {
    pub node: Option<String>,
    pub incarnation: Option<String>,
    pub members: Vec<Member>,
    pub partitions: Partitions,
}

/// One node of the cluster.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Member {
    pub name: String,
    /// The node's name and start. A restarted node may be shown twice for a while.
    pub incarnation: String,
    /// `up`, `draining` or `silent`.
    pub state: String,
    /// `self`, `up` or `down`: whether the node that answered reaches it.
    pub link: Option<String>,
    /// Time since its last heartbeat was seen, in milliseconds.
    pub beat_age_ms: Option<u64>,
    pub partitions_owned: u64,
    /// Address at which it serves clients.
    pub address: Option<String>,
    /// Address at which it serves the other nodes.
    pub peer_address: Option<String>,
    pub version: Option<String>,
}

/// The partitions in numbers, and their owners one by one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Partitions {
    pub count: u64,
    /// Number of partitions with an owner.
    pub owned: Option<u64>,
    pub epoch_min: u64,
    pub epoch_max: u64,
    pub owners: Vec<Ownership>,
}

/// The owner of one partition. The store remembers the last owner, even if that node has left.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ownership {
    pub partition: u64,
    /// The name of its owner, if it has one.
    pub owner: Option<String>,
    /// The start of the owner that owns it.
    pub incarnation: Option<String>,
    /// Number of times the partition has changed its owner.
    pub epoch: u64,
}

impl View {
    /// Asks a node, and returns its answer decoded and as it came.
    ///
    /// # Errors
    /// As `Client::send`, and `ClientError::Unexpected`.
    pub async fn ask(client: &Client) -> Result<(Self, Reply<Self>), ClientError> {
        let reply = client.send(Call::get(&["cluster"])).await?;
        Ok((reply.decode()?, reply))
    }

    /// Number of partitions that the answering node owns; none if the answer does not say which
    /// node it is.
    ///
    /// A node that has transferred all partitions may have left the list of nodes already.
    pub fn owned_by_node(&self) -> Option<u64> {
        let of = |member: &Member| member.partitions_owned;
        match (&self.incarnation, self.members.as_slice()) {
            (Some(own), members) => {
                let is_own = |one: &&Ownership| one.incarnation.as_ref() == Some(own);
                let owned = self.partitions.owners.iter().filter(is_own);
                let member = members.iter().find(|member| member.incarnation == *own);
                Some(member.map_or_else(|| owned.count() as u64, of))
            }
            (None, [only]) => Some(of(only)),
            (None, _) => None,
        }
    }

    /// Number of nodes that could take over partitions from the one that answered.
    pub fn others_up(&self) -> usize {
        let is_other = |member: &&Member| Some(&member.incarnation) != self.incarnation.as_ref();
        self.members.iter().filter(is_other).filter(|member| member.state == "up").count()
    }

    /// Number of partitions that have an owner.
    pub fn owned(&self) -> u64 {
        let by_members = || self.members.iter().map(|member| member.partitions_owned).sum();
        self.partitions.owned.unwrap_or_else(by_members)
    }

    /// The partitions that no node owns, if the answer names the owners.
    pub fn unowned(&self) -> Vec<u64> {
        let Partitions { count, owners, .. } = &self.partitions;
        if owners.is_empty() {
            return Vec::new();
        }
        let members: BTreeSet<&str> =
            self.members.iter().map(|member| member.incarnation.as_str()).collect();
        let has_owner =
            |one: &&Ownership| one.incarnation.as_deref().is_some_and(|own| members.contains(own));
        let owned: BTreeSet<u64> =
            owners.iter().filter(has_owner).map(|one| one.partition).collect();
        // The number comes from elsewhere, so bound it; no cluster has more partitions.
        (0..(*count).min(65_536)).filter(|partition| !owned.contains(partition)).collect()
    }
}
