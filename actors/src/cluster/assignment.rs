//! Who should own which partition: rendezvous hashing over the names of the live nodes, with a bound on what each gets.
//!
//! Every node computes the same from the same names. Rendezvous hashing (Thaler and Ravishankar, 1998) alone leaves a node
//! of ten with up to 1.6 times its share of 256 partitions; with the bound (as in "consistent hashing with bounded loads",
//! Mirrokni et al., 2016) a partition whose first choice is full goes to its next one.
//! Invariants: `ASSIGNMENT-1` no node gets more than 1.1 times its share, rounded up; `ASSIGNMENT-2` the result depends on
//! the set of names only; `ASSIGNMENT-3` a node that comes or goes moves little more than its own share.

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use triggers_protocol::PartitionId;

/// The name of the node that should own each partition; empty without nodes.
pub(crate) fn assign(partitions: u16, nodes: &BTreeSet<String>) -> Vec<String> {
    let share_max = (usize::from(partitions) * 11).div_ceil(10 * nodes.len().max(1)).max(1);
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    let owner_of = |partition: u16| {
        let mut ranked: Vec<_> =
            nodes.iter().map(|name| (score(name, partition), name.as_str())).collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        let room = |name: &&str| shares.get(name).copied().unwrap_or(0) < share_max;
        let name = ranked.iter().map(|(_, name)| *name).find(room)?;
        *shares.entry(name).or_default() += 1;
        Some(name.to_owned())
    };
    (0..partitions).map_while(owner_of).collect()
}

/// The node that should own a partition.
pub(crate) fn assigned(assignment: &[String], partition: PartitionId) -> Option<&str> {
    assignment.get(usize::from(partition.0)).map(String::as_str)
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
            prop_assert!(shares.values().all(|&owned| owned <= bound.max(1)), "ASSIGNMENT-1: {:?}", shares);
        }

        #[test]
        fn a_node_that_comes_moves_little(count in 2usize..20, salt: u32) {
            let before = assign(256, &names(count, salt));
            let after = assign(256, &names(count + 1, salt));
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let share = 256 / (count + 1);
            prop_assert!(moved <= 2 * share + 16, "ASSIGNMENT-3: {} of 256 moved with {} nodes", moved, count);
        }
    }

    #[test]
    fn without_nodes_nobody_is_assigned() {
        assert!(assign(8, &BTreeSet::new()).is_empty());
    }
}
