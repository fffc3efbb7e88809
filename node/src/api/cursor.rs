//! Cursors: opaque texts that say where the next page begins.
//!
//! A cursor is base64url over version | position | first 16 bytes of
//! HMAC-SHA256(secret, version | owner | 0 | position). The secret is in the store, so that every
//! node opens the cursors of every other.
//!
//! - `CURSOR-1`: a cursor opens to the position that it was made of.
//! - `CURSOR-2`: it does not open with another secret, owner, text or kind of list: 400
//!   `INVALID_CURSOR`.
//!
//! A cursor is not encrypted: its holder has seen the entry at its position.

use crate::http::error::ApiError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use triggers_protocol::{ErrorCode, EventId, SubscriptionId, TenantId, Timestamp};

const VERSION_INBOX: u8 = 1;
const VERSION_TENANTS: u8 = 2;
const VERSION_ATTEMPTS: u8 = 3;
const VERSION_AUDIT: u8 = 4;
const VERSION_REPLAY: u8 = 5;
const VERSION_RECOVERY: u8 = 6;
const TAG_BYTES: usize = 16;
/// Maximum characters of a cursor. Its longest position is a tenant id of 63 bytes.
const TEXT_LENGTH_MAX: usize = (1 + 63 + TAG_BYTES).div_ceil(3) * 4;

/// A list of a tenant's events in the order of their ids.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EventList {
    /// The pages of the inbox.
    Inbox,
    /// The events that are still to be replayed.
    Replay,
    /// The events that a subscription may have missed.
    Recovery,
}

impl EventList {
    fn version(self) -> u8 {
        match self {
            Self::Inbox => VERSION_INBOX,
            Self::Replay => VERSION_REPLAY,
            Self::Recovery => VERSION_RECOVERY,
        }
    }
}

/// Makes a cursor of a list of events, which continues after an event.
pub(crate) fn seal_event(
    secret: &[u8; 32],
    list: EventList,
    tenant: &TenantId,
    after: EventId,
) -> String {
    seal(secret, list.version(), tenant.as_str(), &after.to_bytes())
}

/// The event after which a cursor of this list continues.
pub(crate) fn open_event(
    secret: &[u8; 32],
    list: EventList,
    tenant: &TenantId,
    text: &str,
) -> Result<EventId, ApiError> {
    let position = open(secret, list.version(), tenant.as_str(), text)?;
    position.try_into().map(EventId::from_bytes).map_err(|_| invalid())
}

/// Makes a cursor of the list of tenants, which continues after a tenant.
pub(crate) fn seal_tenant(secret: &[u8; 32], after: &TenantId) -> String {
    seal(secret, VERSION_TENANTS, "", after.as_str().as_bytes())
}

/// The tenant after which a cursor of the list of tenants continues.
pub(crate) fn open_tenant(secret: &[u8; 32], text: &str) -> Result<TenantId, ApiError> {
    let position = open(secret, VERSION_TENANTS, "", text)?;
    let name = std::str::from_utf8(&position).map_err(|_| invalid())?;
    TenantId::parse(name).map_err(|_| invalid())
}

/// Makes a cursor of a subscription's attempts, which continues before the attempt that began at
/// this time for this event.
pub(crate) fn seal_attempt(
    secret: &[u8; 32],
    tenant: &TenantId,
    subscription: SubscriptionId,
    position: (Timestamp, EventId),
) -> String {
    let (started_at, event) = position;
    let owner = attempts_owner(tenant, subscription);
    seal(secret, VERSION_ATTEMPTS, &owner, &timed(started_at, &event.to_bytes()))
}

/// The attempt before which a cursor of this subscription's attempts continues.
pub(crate) fn open_attempt(
    secret: &[u8; 32],
    tenant: &TenantId,
    subscription: SubscriptionId,
    text: &str,
) -> Result<(Timestamp, EventId), ApiError> {
    let position = open(secret, VERSION_ATTEMPTS, &attempts_owner(tenant, subscription), text)?;
    let (started_at, event) = split_timed(&position)?;
    Ok((started_at, EventId::from_bytes(event)))
}

fn attempts_owner(tenant: &TenantId, subscription: SubscriptionId) -> String {
    format!("{}/{subscription}", tenant.as_str())
}

/// Makes a cursor of a tenant's audit, which continues before the entry of this time and number.
pub(crate) fn seal_audit(
    secret: &[u8; 32],
    tenant: &TenantId,
    position: (Timestamp, u64),
) -> String {
    let (at, number) = position;
    seal(secret, VERSION_AUDIT, tenant.as_str(), &timed(at, &number.to_be_bytes()))
}

/// The entry before which a cursor of this tenant's audit continues.
pub(crate) fn open_audit(
    secret: &[u8; 32],
    tenant: &TenantId,
    text: &str,
) -> Result<(Timestamp, u64), ApiError> {
    let (at, number) = split_timed(&open(secret, VERSION_AUDIT, tenant.as_str(), text)?)?;
    Ok((at, u64::from_be_bytes(number)))
}

/// A position in a list by time: the microseconds, then bytes that are unique among the entries of
/// one time.
fn timed(time: Timestamp, rest: &[u8]) -> Vec<u8> {
    [&time.as_micros().to_be_bytes()[..], rest].concat()
}

fn split_timed<const N: usize>(position: &[u8]) -> Result<(Timestamp, [u8; N]), ApiError> {
    let (micros, rest) = position.split_first_chunk().ok_or_else(invalid)?;
    let time = Timestamp::from_micros(i64::from_be_bytes(*micros));
    Ok((time, rest.try_into().map_err(|_| invalid())?))
}

fn invalid() -> ApiError {
    ApiError::new(
        ErrorCode::InvalidCursor,
        "cursor is not one that this list gave; start again without one",
    )
}

fn seal(secret: &[u8; 32], version: u8, owner: &str, position: &[u8]) -> String {
    let tag = mac(secret, version, owner, position).finalize().into_bytes();
    URL_SAFE_NO_PAD.encode([&[version], position, &tag[..TAG_BYTES]].concat())
}

/// The position in a cursor with this version and owner.
fn open(secret: &[u8; 32], version: u8, owner: &str, text: &str) -> Result<Vec<u8>, ApiError> {
    let decoded =
        if text.len() <= TEXT_LENGTH_MAX { URL_SAFE_NO_PAD.decode(text).ok() } else { None };
    let bytes = decoded.unwrap_or_default();
    let (signed, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or_else(invalid)?;
    match signed.split_first() {
        Some((&found, position))
            if found == version
                && mac(secret, version, owner, position).verify_truncated_left(tag).is_ok() =>
        {
            Ok(position.to_vec())
        }
        Some(_) | None => Err(invalid()),
    }
}

fn mac(secret: &[u8; 32], version: u8, owner: &str, position: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of every length");
    mac.update(&[version]);
    mac.update(owner.as_bytes());
    mac.update(&[0]);
    mac.update(position);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tenant(text: &str) -> TenantId {
        TenantId::parse(text).unwrap()
    }

    proptest! {
        #[test]
        fn a_cursor_opens_for_its_owner_only(
            secret: [u8; 32], other: [u8; 32], id: [u8; 16], name in "[a-z][a-z0-9_-]{0,62}",
        ) {
            let (owner, id) = (tenant(&name), EventId::from_bytes(id));
            let text = seal_event(&secret, EventList::Inbox, &owner, id);
            prop_assert_eq!(open_event(&secret, EventList::Inbox, &owner, &text).unwrap(), id);
            prop_assert!(open_event(&secret, EventList::Inbox, &tenant("0"), &text).is_err());
            let by_other = open_event(&other, EventList::Inbox, &owner, &text);
            prop_assert_eq!(by_other.is_ok(), secret == other);
            prop_assert!(open_tenant(&secret, &text).is_err());
            prop_assert!(open_event(&secret, EventList::Replay, &owner, &text).is_err());
            let replay = seal_event(&secret, EventList::Replay, &owner, id);
            prop_assert_eq!(open_event(&secret, EventList::Replay, &owner, &replay).unwrap(), id);
            prop_assert!(open_event(&secret, EventList::Inbox, &owner, &replay).is_err());
            let list = seal_tenant(&secret, &owner);
            prop_assert_eq!(open_tenant(&secret, &list).unwrap(), owner.clone());
            prop_assert!(open_event(&secret, EventList::Inbox, &owner, &list).is_err());
        }

        #[test]
        fn a_cursor_by_time_opens_for_its_list_only(
            id: [u8; 16], other: [u8; 16], micros: i64, number: u64,
        ) {
            let (secret, owner, time) = ([7; 32], tenant("acme"), Timestamp::from_micros(micros));
            let subscription = SubscriptionId::from_bytes(id);
            let event = EventId::from_bytes(other);
            let text = seal_attempt(&secret, &owner, subscription, (time, event));
            let opened = open_attempt(&secret, &owner, subscription, &text);
            prop_assert_eq!(opened.unwrap(), (time, event));
            let another = SubscriptionId::from_bytes(other);
            let of_another = open_attempt(&secret, &owner, another, &text);
            prop_assert_eq!(of_another.is_ok(), id == other, "CURSOR-2");
            let of_another = open_attempt(&secret, &tenant("acm"), subscription, &text);
            prop_assert!(of_another.is_err(), "CURSOR-2");
            let audit = seal_audit(&secret, &owner, (time, number));
            prop_assert_eq!(open_audit(&secret, &owner, &audit).unwrap(), (time, number));
            prop_assert!(open_audit(&secret, &tenant("acm"), &audit).is_err(), "CURSOR-2");
            prop_assert!(open_audit(&secret, &owner, &text).is_err(), "CURSOR-2");
            prop_assert!(open_event(&secret, EventList::Inbox, &owner, &text).is_err(), "CURSOR-2");
        }

        #[test]
        fn no_changed_character_opens(
            id: [u8; 16], at in 0usize..44, replacement in "[A-Za-z0-9_-]",
        ) {
            let (secret, owner) = ([7; 32], tenant("acme"));
            let text = seal_event(&secret, EventList::Inbox, &owner, EventId::from_bytes(id));
            let mut changed = text.clone();
            changed.replace_range(at..=at, &replacement);
            let opened = open_event(&secret, EventList::Inbox, &owner, &changed);
            prop_assert_eq!(opened.is_ok(), changed == text);
            prop_assert!(open_event(&secret, EventList::Inbox, &owner, &text[..at]).is_err());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,120}") {
            let opened = open_event(&[7; 32], EventList::Inbox, &tenant("acme"), &text);
            prop_assert_eq!(opened.unwrap_err().code, ErrorCode::InvalidCursor);
            prop_assert!(open_tenant(&[7; 32], &text).is_err());
            prop_assert!(open_audit(&[7; 32], &tenant("acme"), &text).is_err());
        }
    }
}
