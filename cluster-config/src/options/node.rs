//! Options of section `node`: who this node is.
//!
//! The name appears in log lines, metrics and the health answer; in a cluster it also tells nodes apart, and the other
//! nodes look for it in the certificate of this one. The number of partitions belongs to the data rather
//! than to the process: the store remembers the number it was created with, and a node with another one is refused
//! at start by the store, not here.
//!
//! It is not the incarnation: that is made anew at each start.

use crate::field::Bounds;
use crate::rule::Rule;

section! {
    /// Who this node is.
    "node" => NodeIdentityOptions {
        /// Name of this node in log lines, metrics and the cluster view. In a cluster each node needs a name of its own.
        name: String = "node-1".to_owned(), Bounds::Described("1 to 63 characters of a-z, 0-9 and -");
        /// Partitions that tenants are spread over: a power of two. Fixed when the store is created: it cannot be changed afterwards.
        partitions: u16 = 256, Bounds::Whole(1, 4_096);
    }
}

/// What the declarations above cannot say.
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
                "must begin with a letter and not end with -, since the certificate of a node in a cluster bears it"
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
