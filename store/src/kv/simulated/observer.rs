//! What looks at commits as they take effect, late ones too: how a simulation checks what must hold at every step.
//!
//! Invariants: `OBSERVER-1` it sees each commit that takes effect once, in their order, and no other; `OBSERVER-2` looking
//! changes nothing and draws no random numbers.

use super::versions::Versions;
use bytes::Bytes;
use std::time::Duration;

/// Looks at commits.
pub trait Observer: Send {
    /// This commit has taken effect.
    fn committed(&mut self, commit: &Commit<'_>);
}

/// A commit that has taken effect.
pub struct Commit<'a> {
    /// The name of the handle that it came by.
    pub writer: &'a str,
    /// When it took effect, on the store's clock.
    pub at: Duration,
    /// The keys that it has set, cleared one by one, or added to, in their order.
    pub keys: &'a [Bytes],
    pub(super) versions: &'a Versions,
}

impl Commit<'_> {
    /// The value of a key before.
    pub fn before(&self, key: &[u8]) -> Option<Bytes> {
        self.versions.value_at(self.versions.newest().saturating_sub(1), key)
    }

    /// The value of a key now.
    pub fn after(&self, key: &[u8]) -> Option<Bytes> {
        self.versions.value_at(self.versions.newest(), key)
    }
}
