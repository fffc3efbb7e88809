//! The rules that every run must keep: at every commit (`commits`), in what clients and webhook
//! receivers saw (`answers`), and in the stored rows (`rows`).

pub mod answers;
pub mod commits;
pub mod rows;

use serde::{Deserialize, Serialize};
use std::fmt;

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The rule's name, as the header of its check describes it.
    pub rule: String,
    /// The observations that break the rule.
    pub details: String,
}

impl Violation {
    pub fn new(rule: &str, details: impl Into<String>) -> Self {
        Self { rule: rule.to_owned(), details: details.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.details)
    }
}
