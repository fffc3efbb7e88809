//! Rules: validation that the bounds of a single field cannot express.
//!
//! A rule names the fields it reads, starting with the one that its fault is reported for. Each
//! rule is in the file of that field's section; the rules that compare listeners are here.
//!
//! Invariant `RULE-1`: a rule is skipped if one of its fields was already rejected. It would see
//! the default instead of the rejected value and report a misleading second fault.

use std::collections::BTreeSet;

use crate::options::NodeOptions;

/// A check over one or more fields.
pub(crate) struct Rule {
    /// Dotted names of the fields it reads; a fault is reported for the first.
    pub(crate) fields: &'static [&'static str],
    /// Describes what is wrong with the options, if the rule is broken.
    pub(crate) broken: fn(&NodeOptions) -> Option<String>,
}

const RULES: &[Rule] = &[
    Rule {
        fields: &["admin.address", "listen.address"],
        broken: |options| {
            let address = options.admin.address;
            (address == options.listen.address && address.port() != 0)
                .then(|| "must differ from listen.address: each listener needs its own".to_owned())
        },
    },
    Rule {
        fields: &["cluster.address", "listen.address", "admin.address", "store.engine"],
        broken: |options| {
            let address = options.cluster.address;
            let is_taken = [options.listen.address, options.admin.address].contains(&address);
            (options.store.engine.is_shared() && is_taken && address.port() != 0).then(|| {
                "must differ from listen.address and admin.address: each listener needs its own"
                    .to_owned()
            })
        },
    },
];

/// The rules that the options break, except those that read a rejected field (`RULE-1`).
pub(crate) fn broken(
    options: &NodeOptions,
    rejected: &BTreeSet<&'static str>,
) -> Vec<(&'static Rule, String)> {
    all()
        .filter(|rule| rule.fields.iter().all(|field| !rejected.contains(field)))
        .filter_map(|rule| Some((rule, (rule.broken)(options)?)))
        .collect()
}

/// All rules: those of the sections, then those of this file.
pub(crate) fn all() -> impl Iterator<Item = &'static Rule> {
    crate::options::RULES.into_iter().chain([RULES]).flatten()
}
