//! Rules: what a range of one field cannot say.
//!
//! A rule names the fields it looks at, the one to blame first, and says what is wrong. Rules of a section are in the file of
//! the section that is to blame; those that belong to no section, because listeners must differ, are here.
//!
//! Invariant RULE-1: a rule is not asked if one of its fields was refused already, since it would judge a default that
//! nobody chose and report a fault that goes away with the first one.

use std::collections::BTreeSet;

use crate::options::NodeOptions;

/// One rule.
pub(crate) struct Rule {
    /// Dotted fields it looks at; the first is the one at fault.
    pub(crate) fields: &'static [&'static str],
    /// What is wrong, or nothing.
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

/// The rules that the options break, without those that look at a refused field.
pub(crate) fn broken(
    options: &NodeOptions,
    refused: &BTreeSet<&'static str>,
) -> Vec<(&'static Rule, String)> {
    all()
        .filter(|rule| rule.fields.iter().all(|field| !refused.contains(field)))
        .filter_map(|rule| Some((rule, (rule.broken)(options)?)))
        .collect()
}

/// Every rule of every section.
pub(crate) fn all() -> impl Iterator<Item = &'static Rule> {
    crate::options::RULES.into_iter().chain([RULES]).flatten()
}
