//! The cluster as a node shows it at `GET /v1/cluster`, as far as `status` and `drain` read it.
//!
//! Invariants: `VIEW-1` everything may be missing: a node of an earlier version says less, and what it does not say is
//! shown as unknown rather than as nothing; `VIEW-2` nothing is decided by it but what to print and how long to wait.
//!
//! It is not the contract, which is the admin listener's.

use std::collections::BTreeSet;

use serde::Deserialize;

use triggers_client::{Call, Client, ClientError, Reply};

/// The whole answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct View {
    /// The name of the node that answered.
    pub node: Option<String>,
    /// Its incarnation.
    pub incarnation: Option<String>,
    /// Every member that it knows.
    pub members: Vec<Member>,
    /// The partitions.
    pub partitions: Partitions,
}

/// One member.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its name and start: a node that was started again may be shown twice for a while.
    pub incarnation: String,
    /// `up`, `draining` or `silent`.
    pub state: String,
    /// `self`, `up` or `down`: whether the node that answered reaches it.
    pub link: Option<String>,
    /// How long ago its last beat was seen.
    pub beat_age_ms: Option<u64>,
    /// Partitions that it owns.
    pub partitions_owned: u64,
    /// Where it serves clients.
    pub address: Option<String>,
    /// Where it serves the other nodes.
    pub peer_address: Option<String>,
    /// The version that it runs.
    pub version: Option<String>,
}

/// The partitions in numbers, and their owners one by one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Partitions {
    /// How many there are.
    pub count: u64,
    /// How many have an owner.
    pub owned: Option<u64>,
    /// The lowest epoch.
    pub epoch_min: u64,
    /// The highest epoch.
    pub epoch_max: u64,
    /// Who owns which.
    pub owners: Vec<Ownership>,
}

/// The owner of one partition. The store remembers the last one, also when it is no member any more.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ownership {
    /// The partition.
    pub partition: u64,
    /// The name of its owner, if it has one.
    pub owner: Option<String>,
    /// The start of the owner that owns it.
    pub incarnation: Option<String>,
    /// How often it changed hands.
    pub epoch: u64,
}

impl View {
    /// Asks a node, and gives what it answered as well.
    ///
    /// # Errors
    /// As `Client::execute`, and `ClientError::Unexpected`.
    pub async fn ask(client: &Client) -> Result<(Self, Reply), ClientError> {
        let reply = client.execute(Call::get(&["cluster"])).await?;
        Ok((reply.decode()?, reply))
    }

    /// How many partitions the node that answered owns; none if it says neither who it is nor is the only member.
    ///
    /// A node that has given everything away may have left the members already.
    pub fn owned_by_node(&self) -> Option<u64> {
        let of = |member: &Member| member.partitions_owned;
        match (&self.incarnation, self.members.as_slice()) {
            (Some(own), members) => {
                let owned = self
                    .partitions
                    .owners
                    .iter()
                    .filter(|one| one.incarnation.as_ref() == Some(own));
                let member = members.iter().find(|member| member.incarnation == *own);
                Some(member.map_or_else(|| owned.count() as u64, of))
            }
            (None, [only]) => Some(of(only)),
            (None, _) => None,
        }
    }

    /// How many nodes could take partitions over from the one that answered.
    pub fn others_up(&self) -> usize {
        let is_other = |member: &&Member| Some(&member.incarnation) != self.incarnation.as_ref();
        self.members.iter().filter(is_other).filter(|member| member.state == "up").count()
    }

    /// How many partitions have an owner.
    pub fn owned(&self) -> u64 {
        let by_members = || self.members.iter().map(|member| member.partitions_owned).sum();
        self.partitions.owned.unwrap_or_else(by_members)
    }

    /// The partitions that no member owns, if the answer names the owners.
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
        // The numbers are those of a stranger; no cluster has more partitions.
        (0..(*count).min(65_536)).filter(|partition| !owned.contains(partition)).collect()
    }
}
