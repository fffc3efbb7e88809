//! Decides which node should own which partition.
//!
//! Every node computes the same assignment from the same set of node names. Rendezvous hashing
//! (Thaler and Ravishankar, 1998) alone gives one of ten nodes up to 1.6 times its share of 256
//! partitions, so each node has a bound ("consistent hashing with bounded loads", Mirrokni et al.,
//! 2016): a partition whose first choice is full goes to its next choice.
//! Invariants: `ASSIGNMENT-1` no node gets more than 1.1 times its share, rounded up;
//! `ASSIGNMENT-2` the result depends only on the set of names; `ASSIGNMENT-3` when a node joins or
//! leaves, little more than its own share moves.

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use triggers_protocol::PartitionId;

/// The node that should own each partition.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    nodes: BTreeSet<String>,
    /// Node names, indexed by partition.
    owners: Vec<String>,
}

impl Assignment {
    /// Computes the assignment again if the set of nodes has changed.
    pub(super) fn update(&mut self, partitions: u16, nodes: BTreeSet<String>) {
        if self.nodes != nodes {
            self.owners = assign(partitions, &nodes);
            self.nodes = nodes;
        }
    }

    /// The name of the node that should own a partition; none if there are no nodes.
    pub(super) fn owner(&self, partition: PartitionId) -> Option<&str> {
        self.owners.get(usize::from(partition.0)).map(String::as_str)
    }
}

/// The name of the node that should own each partition; empty if there are no nodes.
fn assign(partitions: u16, nodes: &BTreeSet<String>) -> Vec<String> {
    let share_max = (usize::from(partitions) * 11).div_ceil(10 * nodes.len().max(1)).max(1);
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    let owner_of = |partition: u16| {
        let mut ranked: Vec<_> =
            nodes.iter().map(|name| (score(name, partition), name.as_str())).collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        let has_room = |name: &&str| shares.get(name).copied().unwrap_or(0) < share_max;
        let name = ranked.iter().map(|(_, name)| *name).find(has_room)?;
        *shares.entry(name).or_default() += 1;
        Some(name.to_owned())
    };
    (0..partitions).map_while(owner_of).collect()
}

fn score(name: &str, partition: u16) -> [u8; 8] {
    let digest = Sha256::new().chain_update(partition.to_be_bytes()).chain_update(name).finalize();
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(count: usize, salt: u32) -> BTreeSet<String> {
        (0..count).map(|n| format!("node-{salt}-{n}")).collect()
    }

    proptest! {
        #[test]
        fn shares_are_even(count in 1usize..40, salt: u32, bits in 4u32..11) {
            let partitions = 1u16 << bits;
            let assignment = assign(partitions, &names(count, salt));
            prop_assert_eq!(assignment.len(), usize::from(partitions));
            let mut shares: BTreeMap<&String, usize> = BTreeMap::new();
            assignment.iter().for_each(|name| *shares.entry(name).or_default() += 1);
            let share = f64::from(partitions) / count as f64;
            let bound = (share * 1.1).ceil() as usize;
            let is_bounded = shares.values().all(|&owned| owned <= bound.max(1));
            prop_assert!(is_bounded, "ASSIGNMENT-1: {:?}", shares);
        }

        #[test]
        fn a_new_node_moves_few_partitions(count in 2usize..20, salt: u32) {
            let before = assign(256, &names(count, salt));
            let after = assign(256, &names(count + 1, salt));
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let share = 256 / (count + 1);
            prop_assert!(moved <= 2 * share + 16, "ASSIGNMENT-3: {moved} moved, {count} nodes");
        }
    }

    #[test]
    fn without_nodes_no_partition_is_assigned() {
        assert!(assign(8, &BTreeSet::new()).is_empty());
    }
}
