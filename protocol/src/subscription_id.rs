//! Subscription ids: UUIDv7 with the time of creation.
//!
//! Invariant `SUBSCRIPTION-1`: the order of the big-endian bytes is the order of the ids, so a list
//! in key order starts with the oldest subscription.

use crate::{EventId, Malformed, Timestamp};
use bincode::{Decode, Encode};

/// The id of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SubscriptionId(EventId);

impl SubscriptionId {
    /// Creates an id from the time `now` and 16 random bytes.
    pub fn mint(now: Timestamp, random: [u8; 16]) -> Self {
        Self(EventId::mint(EventId::ZERO, now, random))
    }

    /// The id as 16 big-endian bytes, which have the order of the ids.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    /// Creates an id from 16 big-endian bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(EventId::from_bytes(bytes))
    }

    /// Parses the hyphenated form.
    ///
    /// # Errors
    /// [`Malformed`] if the text is not a hyphenated UUID.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        EventId::parse(text).map(Self)
    }
}

crate::text_form::text_form!(SubscriptionId, |id| id.0.write_to(&mut [0; EventId::TEXT_BYTES]));
