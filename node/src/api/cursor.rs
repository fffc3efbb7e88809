//! Cursors: opaque texts that say where the next page begins.
//!
//! A cursor is base64url over version | position | first 16 bytes of
//! HMAC-SHA256(secret, version | owner | 0 | position). The secret is in the store, so that every
//! node opens the cursors of every other.
//!
//! - `CURSOR-1`: a cursor opens to the position that it was made of.
//! - `CURSOR-2`: it does not open with another secret, owner, text or kind of list.
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
const TAG_BYTES: usize = 16;
/// The longest position is a tenant id.
const TEXT_LENGTH_MAX: usize = (1 + 63 + TAG_BYTES).div_ceil(3) * 4;

/// Makes a cursor of a tenant's inbox, which continues after an event.
pub(crate) fn seal_event(secret: &[u8; 32], tenant: &TenantId, after: EventId) -> String {
    seal(secret, VERSION_INBOX, tenant.as_str(), &after.to_bytes())
}

/// The event after which a cursor of this tenant's inbox continues.
///
/// # Errors
/// 400 `INVALID_CURSOR`.
pub(crate) fn open_event(
    secret: &[u8; 32],
    tenant: &TenantId,
    text: &str,
) -> Result<EventId, ApiError> {
    let position = open(secret, VERSION_INBOX, tenant.as_str(), text);
    position.and_then(|bytes| bytes.try_into().ok()).map(EventId::from_bytes).ok_or_else(invalid)
}

/// Makes a cursor of a replay of a tenant's events, which continues after an event.
pub(crate) fn seal_replay(secret: &[u8; 32], tenant: &TenantId, after: EventId) -> String {
    seal(secret, VERSION_REPLAY, tenant.as_str(), &after.to_bytes())
}

/// The event after which a replay of this tenant's events continues.
///
/// # Errors
/// 400 `INVALID_CURSOR`.
pub(crate) fn open_replay(
    secret: &[u8; 32],
    tenant: &TenantId,
    text: &str,
) -> Result<EventId, ApiError> {
    let position = open(secret, VERSION_REPLAY, tenant.as_str(), text);
    position.and_then(|bytes| bytes.try_into().ok()).map(EventId::from_bytes).ok_or_else(invalid)
}

/// Makes a cursor of the list of tenants, which continues after a tenant.
pub(crate) fn seal_tenant(secret: &[u8; 32], after: &TenantId) -> String {
    seal(secret, VERSION_TENANTS, "", after.as_str().as_bytes())
}

/// The tenant after which a cursor of the list of tenants continues.
///
/// # Errors
/// 400 `INVALID_CURSOR`.
pub(crate) fn open_tenant(secret: &[u8; 32], text: &str) -> Result<TenantId, ApiError> {
    let position = open(secret, VERSION_TENANTS, "", text);
    let name = position.and_then(|bytes| String::from_utf8(bytes).ok());
    name.and_then(|name| TenantId::parse(&name).ok()).ok_or_else(invalid)
}

/// Makes a cursor of a subscription's attempts, which continues before the attempt that began at
/// this time for this event.
pub(crate) fn seal_attempt(
    secret: &[u8; 32],
    (tenant, subscription): (&TenantId, SubscriptionId),
    (began, event): (Timestamp, EventId),
) -> String {
    let owner = attempts_owner(tenant, subscription);
    seal(secret, VERSION_ATTEMPTS, &owner, &timed(began, &event.to_bytes()))
}

/// The attempt before which a cursor of this subscription's attempts continues.
///
/// # Errors
/// 400 `INVALID_CURSOR`.
pub(crate) fn open_attempt(
    secret: &[u8; 32],
    (tenant, subscription): (&TenantId, SubscriptionId),
    text: &str,
) -> Result<(Timestamp, EventId), ApiError> {
    let position = open(secret, VERSION_ATTEMPTS, &attempts_owner(tenant, subscription), text);
    let (began, event) = position.and_then(|bytes| split_timed(&bytes)).ok_or_else(invalid)?;
    Ok((began, EventId::from_bytes(event)))
}

fn attempts_owner(tenant: &TenantId, subscription: SubscriptionId) -> String {
    format!("{}/{subscription}", tenant.as_str())
}

/// Makes a cursor of a tenant's audit, which continues before the entry of this time and number.
pub(crate) fn seal_audit(
    secret: &[u8; 32],
    tenant: &TenantId,
    (at, number): (Timestamp, u64),
) -> String {
    seal(secret, VERSION_AUDIT, tenant.as_str(), &timed(at, &number.to_be_bytes()))
}

/// The entry before which a cursor of this tenant's audit continues.
///
/// # Errors
/// 400 `INVALID_CURSOR`.
pub(crate) fn open_audit(
    secret: &[u8; 32],
    tenant: &TenantId,
    text: &str,
) -> Result<(Timestamp, u64), ApiError> {
    let position = open(secret, VERSION_AUDIT, tenant.as_str(), text);
    let (at, number) = position.and_then(|bytes| split_timed(&bytes)).ok_or_else(invalid)?;
    Ok((at, u64::from_be_bytes(number)))
}

/// A position in a list by time: the microseconds, then bytes that are unique among the entries of
/// one time.
fn timed(time: Timestamp, rest: &[u8]) -> Vec<u8> {
    [&time.as_micros().to_be_bytes()[..], rest].concat()
}

fn split_timed<const N: usize>(position: &[u8]) -> Option<(Timestamp, [u8; N])> {
    let (micros, rest) = position.split_first_chunk::<8>()?;
    Some((Timestamp::from_micros(i64::from_be_bytes(*micros)), rest.try_into().ok()?))
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

fn open(secret: &[u8; 32], version: u8, owner: &str, text: &str) -> Option<Vec<u8>> {
    if text.len() > TEXT_LENGTH_MAX {
        return None;
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let tag = bytes.split_off(bytes.len().checked_sub(TAG_BYTES)?);
    let (found, position) = bytes.split_first()?;
    let fits = *found == version
        && mac(secret, version, owner, position).verify_truncated_left(&tag).is_ok();
    fits.then(|| position.to_vec())
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
        fn a_cursor_opens_for_its_owner_alone(
            secret: [u8; 32], other: [u8; 32], id: [u8; 16], name in "[a-z][a-z0-9_-]{0,62}",
        ) {
            let (owner, id) = (tenant(&name), EventId::from_bytes(id));
            let text = seal_event(&secret, &owner, id);
            prop_assert_eq!(open_event(&secret, &owner, &text).unwrap(), id);
            prop_assert!(open_event(&secret, &tenant("0"), &text).is_err());
            prop_assert_eq!(open_event(&other, &owner, &text).is_ok(), secret == other);
            prop_assert!(open_tenant(&secret, &text).is_err());
            prop_assert!(open_replay(&secret, &owner, &text).is_err());
            let replay = seal_replay(&secret, &owner, id);
            prop_assert_eq!(open_replay(&secret, &owner, &replay).unwrap(), id);
            prop_assert!(open_event(&secret, &owner, &replay).is_err());
            let list = seal_tenant(&secret, &owner);
            prop_assert_eq!(open_tenant(&secret, &list).unwrap(), owner.clone());
            prop_assert!(open_event(&secret, &owner, &list).is_err());
        }

        #[test]
        fn a_cursor_by_time_opens_for_its_list_alone(
            id: [u8; 16], other: [u8; 16], micros: i64, number: u64,
        ) {
            let (secret, owner, time) = ([7; 32], tenant("acme"), Timestamp::from_micros(micros));
            let subscription = SubscriptionId::from_bytes(id);
            let event = EventId::from_bytes(other);
            let text = seal_attempt(&secret, (&owner, subscription), (time, event));
            let opened = open_attempt(&secret, (&owner, subscription), &text);
            prop_assert_eq!(opened.unwrap(), (time, event));
            let another = SubscriptionId::from_bytes(other);
            let elsewhere = open_attempt(&secret, (&owner, another), &text);
            prop_assert_eq!(elsewhere.is_ok(), id == other, "CURSOR-2");
            let elsewhere = open_attempt(&secret, (&tenant("acm"), subscription), &text);
            prop_assert!(elsewhere.is_err(), "CURSOR-2");
            let audit = seal_audit(&secret, &owner, (time, number));
            prop_assert_eq!(open_audit(&secret, &owner, &audit).unwrap(), (time, number));
            prop_assert!(open_audit(&secret, &tenant("acm"), &audit).is_err(), "CURSOR-2");
            prop_assert!(open_audit(&secret, &owner, &text).is_err(), "CURSOR-2");
            prop_assert!(open_event(&secret, &owner, &text).is_err(), "CURSOR-2");
        }

        #[test]
        fn no_changed_character_opens(
            id: [u8; 16], at in 0usize..44, replacement in "[A-Za-z0-9_-]",
        ) {
            let (secret, owner) = ([7; 32], tenant("acme"));
            let text = seal_event(&secret, &owner, EventId::from_bytes(id));
            let mut changed = text.clone();
            changed.replace_range(at..=at, &replacement);
            prop_assert_eq!(open_event(&secret, &owner, &changed).is_ok(), changed == text);
            prop_assert!(open_event(&secret, &owner, &text[..at]).is_err());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,120}") {
            let opened = open_event(&[7; 32], &tenant("acme"), &text);
            prop_assert_eq!(opened.unwrap_err().code, ErrorCode::InvalidCursor);
            prop_assert!(open_tenant(&[7; 32], &text).is_err());
            prop_assert!(open_audit(&[7; 32], &tenant("acme"), &text).is_err());
        }
    }
}
