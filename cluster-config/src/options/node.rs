//! Options of section `node`: the node's identity.
//!
//! The name appears in log lines, metrics and the health response. In a cluster it identifies the
//! node, and the other nodes verify that its certificate is issued for this name.
//!
//! The number of partitions is a property of the data: the store records it when it is created,
//! and a node with another number fails to start.

use super::listen::label_fits;
use crate::field::Bounds;

section! {
    /// Identity of this node.
    "node" => NodeIdentityOptions {
        /// Name of this node in log lines, metrics and the cluster view; unique in a cluster.
        name: String = "node-1".to_owned(),
            Bounds::Described("1 to 63 characters of a-z, 0-9 and -");
        /// Number of partitions that tenants are distributed over: a power of two. It is fixed
        /// when the store is created and cannot be changed afterwards.
        partitions: u16 = 256, Bounds::Range(1, 4_096);
    }
}

rules! {
    ["node.name"]
        |options| !label_fits(&options.node.name)
        => "must be 1 to 63 characters of a-z, 0-9 and -";
    ["node.name", "store.engine"]
        |options| options.store.engine.is_shared()
            && (options.node.name.starts_with(|first: char| first.is_ascii_digit() || first == '-')
                || options.node.name.ends_with('-'))
        => "must begin with a letter and not end with -, \
            since the certificate of a clustered node is issued for it";
    ["node.partitions"]
        |options| !options.node.partitions.is_power_of_two()
        => format!("must be a power of two, but is {}", options.node.partitions);
}
