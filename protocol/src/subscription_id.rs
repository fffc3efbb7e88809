//! The id of a subscription: a UUIDv7 that says nothing but when it was made.
//!
//! Invariant: `SUBSCRIPTION-1` the big-endian bytes order as the ids do, so that a list in key order is oldest first.

use crate::{EventId, Malformed, Timestamp};
use bincode::{Decode, Encode};

/// A subscription's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SubscriptionId(EventId);

impl SubscriptionId {
    /// A new id at time `now` out of 16 random bytes.
    pub fn mint(now: Timestamp, random: [u8; 16]) -> Self {
        Self(EventId::mint(EventId::ZERO, now, random))
    }

    /// Sixteen bytes, big-endian, ordered as the ids are.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    /// From sixteen big-endian bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(EventId::from_bytes(bytes))
    }

    /// Parses the hyphenated form.
    ///
    /// # Errors
    /// [`Malformed`] if the text is no hyphenated UUID.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        EventId::parse(text).map(Self)
    }
}

impl std::fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for SubscriptionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
