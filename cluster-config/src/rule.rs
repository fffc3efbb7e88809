//! Rules: validation that the bounds of a single field cannot express.
//!
//! A rule names the fields it reads, starting with the one that its fault is reported for. Each
//! rule is declared in the file of that field's section.
//!
//! Invariant `RULE-1`: a rule is skipped if one of its fields was already rejected. It would see
//! the default instead of the rejected value and report a misleading second fault.

use crate::options::NodeOptions;
use std::collections::BTreeSet;

/// Items of a list option. A request or a webhook is compared with all of them.
const LIST_ITEMS_MAX: usize = 64;

/// A check over one or more fields.
pub(crate) struct Rule {
    /// Dotted names of the fields it reads; a fault is reported for the first.
    pub(crate) fields: &'static [&'static str],
    /// Describes what is wrong with the options, if the rule is broken.
    pub(crate) broken: fn(&NodeOptions) -> Option<String>,
}

/// Declares `RULES`: the fields, then a condition that breaks the rule and the fault message, or
/// an expression that returns the message (`Option<String>`).
macro_rules! rules {
    (@broken $fault:expr) => { $fault };
    (@broken $is_broken:expr, $message:expr) => { ($is_broken).then(|| String::from($message)) };
    ($(
        [$($field:literal),+] |$options:ident| $broken:expr $(=> $message:expr)?;
    )+) => {
        pub(crate) const RULES: &[$crate::rule::Rule] = &[$($crate::rule::Rule {
            fields: &[$($field),+],
            broken: |$options| rules!(@broken $broken $(, $message)?),
        }),+];
    };
}

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

/// All rules, in the order of the sections.
pub(crate) fn all() -> impl Iterator<Item = &'static Rule> {
    crate::options::RULES.iter().copied().flatten()
}

/// Describes what is wrong with a list: too many items, or items that `item_fault` describes.
pub(crate) fn list_fault(
    items: &[String],
    plural: &str,
    item_fault: impl Fn(&str) -> Option<&'static str>,
) -> Option<String> {
    if items.len() > LIST_ITEMS_MAX {
        return Some(format!("must be at most {LIST_ITEMS_MAX} {plural}, but are {}", items.len()));
    }
    let faults: Vec<String> =
        items.iter().filter_map(|item| Some(format!("{item:?} {}", item_fault(item)?))).collect();
    (!faults.is_empty()).then(|| faults.join("; "))
}
