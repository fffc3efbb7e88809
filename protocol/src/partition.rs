//! Partitions: each node owns a set of partitions, and each tenant belongs to one partition.
//!
//! Invariant `PARTITION-1`: the partition of a tenant depends only on its id and on the number of
//! partitions, which is fixed when a store is created. The hash is the first eight bytes of
//! SHA-256, so that it does not depend on a library.

use crate::TenantId;
use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};

/// The number of a partition, from 0 to one less than the number of partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PartitionId(pub u16);

impl PartitionId {
    /// The partition of `tenant` among `partitions`, which must be at least 1.
    pub fn of(tenant: &TenantId, partitions: u16) -> Self {
        let digest = Sha256::digest(tenant.as_str().as_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(&digest[..8]);
        let number = u64::from_be_bytes(head) % u64::from(partitions.max(1));
        Self(u16::try_from(number).expect("a remainder of a u16 fits a u16"))
    }
}

impl std::fmt::Display for PartitionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_never_changes() {
        let of = |name: &str| PartitionId::of(&TenantId::parse(name).unwrap(), 256).0;
        assert_eq!((of("dev"), of("acme"), of("system")), (175, 160, 220));
    }

    #[test]
    fn tenants_are_distributed_evenly() {
        let mut counts = [0u32; 256];
        for n in 0..25_600 {
            let tenant = TenantId::parse(&format!("tenant-{n}")).unwrap();
            counts[usize::from(PartitionId::of(&tenant, 256).0)] += 1;
        }
        assert!(counts.iter().all(|&c| (50..=160).contains(&c)), "{counts:?}");
    }
}
