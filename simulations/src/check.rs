//! What must hold: at every commit (`commits`), in what clients and receivers saw (`answers`), and in what is in the store in
//! the end (`rows`).

pub mod answers;
pub mod commits;
pub mod rows;

use std::fmt;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule, as its check's header has it.
    pub rule: &'static str,
    /// What was found.
    pub account: String,
}

impl Violation {
    /// A violation.
    pub fn new(rule: &'static str, account: impl Into<String>) -> Self {
        Self { rule, account: account.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.account)
    }
}
