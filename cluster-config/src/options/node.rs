//! Options of section `node`: the node's identity.
//!
//! The name appears in log lines, metrics and the health response. In a cluster it identifies the
//! node, and the other nodes verify that its certificate is issued for this name.
//!
//! The number of partitions is a property of the data: the store records it when it is created,
//! and a node with another number fails to start.

use crate::field::Bounds;
use crate::rule::Rule;

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

/// Checks that the bounds above cannot express.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        fields: &["node.name"],
        broken: |options| {
            let name = &options.node.name;
            let allowed =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            let fits = (1..=63).contains(&name.len()) && name.bytes().all(allowed);
            (!fits).then(|| "must be 1 to 63 characters of a-z, 0-9 and -".to_owned())
        },
    },
    Rule {
        fields: &["node.name", "store.engine"],
        broken: |options| {
            let name = options.node.name.as_bytes();
            let misfits = name.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-')
                || name.ends_with(b"-");
            (options.store.engine.is_shared() && misfits).then(|| {
                "must begin with a letter and not end with -, \
                 since the certificate of a clustered node is issued for it"
                    .to_owned()
            })
        },
    },
    Rule {
        fields: &["node.partitions"],
        broken: |options| {
            let partitions = options.node.partitions;
            (!partitions.is_power_of_two())
                .then(|| format!("must be a power of two, but is {partitions}"))
        },
    },
];
