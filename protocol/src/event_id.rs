//! Event ids: UUIDv7 (RFC 9562) that strictly increase within a tenant.
//!
//! Invariants:
//! - `ID-1`: a minted id is greater than its predecessor, even if the clock stands still or goes
//!   back.
//! - `ID-2`: an id is a valid UUIDv7. Its time is that of the clock, or that of the predecessor if
//!   the clock stands still or goes back.
//! - `ID-3`: the order of the big-endian bytes is the order of the ids.
//!
//! The order of events in an inbox is the order of their ids; there is no other sequence number.

use crate::{Malformed, Timestamp};
use bincode::{Decode, Encode};

/// Bits of a UUIDv7 besides time, version and variant.
const TAIL_BITS: u32 = 74;
const TAIL_MAX: u128 = (1 << TAIL_BITS) - 1;
const MILLIS_MAX: u64 = (1 << 48) - 1;
/// Largest tail of the first id in a millisecond: half the range, which leaves room to increase.
const FRESH_TAIL_MAX: u128 = TAIL_MAX >> 1;
/// Bound on the random step between ids of one millisecond, so that clients cannot count events.
const STEP_MASK: u128 = (1 << 32) - 1;

/// The id of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct EventId(u128);

impl EventId {
    /// The smallest id, before that of every event.
    pub const ZERO: EventId = EventId(0);

    /// Creates an id that is greater than `last`, from the time `now` and 16 random bytes.
    pub fn mint(last: EventId, now: Timestamp, random: [u8; 16]) -> Self {
        let random = u128::from_le_bytes(random);
        let millis = u64::try_from(now.as_millis()).unwrap_or(0).min(MILLIS_MAX);
        let (last_millis, last_tail) = (last.millis(), last.tail());
        if millis > last_millis {
            return Self::compose(millis, random & FRESH_TAIL_MAX);
        }
        let tail = last_tail + 1 + (random & STEP_MASK);
        if tail <= TAIL_MAX {
            Self::compose(last_millis, tail)
        } else {
            Self::compose(last_millis + 1, random & FRESH_TAIL_MAX)
        }
    }

    /// The time in the id, in whole milliseconds: that of acceptance, unless the clock was set back
    /// after the event before.
    pub fn created_at(self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.millis()).expect("48 bits fit an i64"))
    }

    /// The smallest id with this time or a later one.
    pub fn first_at(time: Timestamp) -> Self {
        Self(u128::from(u64::try_from(time.as_millis()).unwrap_or(0).min(MILLIS_MAX)) << 80)
    }

    /// The id just before this one, so that a range after it begins with this id.
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Length of the text form in bytes.
    pub const TEXT_BYTES: usize = uuid::fmt::Hyphenated::LENGTH;

    /// Writes the text form into a buffer and returns it.
    pub fn write_to(self, buffer: &mut [u8; Self::TEXT_BYTES]) -> &str {
        uuid::Uuid::from_u128(self.0).hyphenated().encode_lower(buffer)
    }

    /// The id as 16 big-endian bytes, which have the order of the ids.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Creates an id from 16 big-endian bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Parses the hyphenated form.
    ///
    /// # Errors
    /// [`Malformed`] if the text is not a hyphenated UUID.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let malformed =
            || Malformed("must be a UUID, like 019a8b3c-0000-7000-8000-000000000000".into());
        if text.len() != 36 {
            return Err(malformed());
        }
        uuid::Uuid::try_parse(text).map(|uuid| Self(uuid.as_u128())).map_err(|_| malformed())
    }

    fn millis(self) -> u64 {
        u64::try_from(self.0 >> 80).expect("48 bits fit a u64")
    }

    fn tail(self) -> u128 {
        let rand_a = (self.0 >> 64) & 0xfff;
        let rand_b = self.0 & ((1 << 62) - 1);
        (rand_a << 62) | rand_b
    }

    fn compose(millis: u64, tail: u128) -> Self {
        let rand_a = (tail >> 62) & 0xfff;
        let rand_b = tail & ((1 << 62) - 1);
        Self((u128::from(millis) << 80) | (0x7 << 76) | (rand_a << 64) | (0b10 << 62) | rand_b)
    }
}

crate::text_form::text_form!(EventId, |id| id.write_to(&mut [0; EventId::TEXT_BYTES]));

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn minted_ids_increase_and_are_version_7(
            steps in prop::collection::vec((0i64..5_000_000_000_000, any::<[u8; 16]>()), 1..50),
        ) {
            let mut last = EventId::ZERO;
            let mut clock_max = 0;
            for (millis, random) in steps {
                let id = EventId::mint(last, Timestamp::from_millis(millis), random);
                prop_assert!(id > last);
                let uuid = uuid::Uuid::from_bytes(id.to_bytes());
                prop_assert_eq!(uuid.get_version_num(), 7);
                prop_assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
                clock_max = clock_max.max(millis);
                prop_assert!(id.created_at().as_millis() <= clock_max + 1);
                prop_assert_eq!(EventId::parse(&id.to_string()).unwrap(), id);
                prop_assert_eq!(EventId::from_bytes(id.to_bytes()), id);
                prop_assert!(id >= EventId::first_at(id.created_at()));
                last = id;
            }
        }
    }

    #[test]
    fn an_exhausted_millisecond_is_followed_by_the_next() {
        let full = EventId::compose(1_000, TAIL_MAX);
        let next = EventId::mint(full, Timestamp::from_millis(900), [7; 16]);
        assert!(next > full);
        assert_eq!(next.created_at().as_millis(), 1_001);
    }

    #[test]
    fn other_text_forms_of_a_uuid_are_rejected() {
        for text in [
            "",
            "019a8b3c000070008000000000000000",
            "{019a8b3c-0000-7000-8000-000000000000}",
            "nope",
        ] {
            assert!(EventId::parse(text).is_err());
        }
    }
}
