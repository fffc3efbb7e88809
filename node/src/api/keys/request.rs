//! Reads the request bodies about keys.
//!
//! - `KEY-REQUEST-1`: every fault of a body is named at once.
//! - `KEY-REQUEST-2`: an expiry is in the future.
//!
//! The handlers decide whether the caller may have what it asks for.

use crate::api::read;
use crate::http::body::members::Member;
use crate::http::error::{ApiError, Faults};
use triggers_protocol::api::{KeyRotation, NewKey};
use triggers_protocol::{Scope, TenantId, Timestamp};

/// Maximum time that a rotated key goes on working: a week.
const GRACE_SECONDS_MAX: u64 = 604_800;
const RATE_MAX: u64 = 100_000_000;

/// Reads the body that asks for a key.
pub(in crate::api) fn new_key(body: &[u8], now: Timestamp) -> Result<NewKey, ApiError> {
    let names = ["name", "tenant_id", "scopes", "rate_limit_per_minute", "expires_at"];
    read::object(body, names, |[name, tenant_id, scopes, rate, expires_at], faults| {
        let key = NewKey {
            name: name.required_name(faults).unwrap_or_default(),
            tenant_id: tenant_id.parsed(faults, TenantId::parse),
            scopes: parsed_scopes(scopes, faults),
            rate_limit_per_minute: rate.whole_number(faults, 1..=RATE_MAX),
            expires_at: expires_at.parsed(faults, Timestamp::parse),
        };
        if key.expires_at.is_some_and(|expiry| expiry <= now) {
            faults.add(expires_at.name, "must be in the future");
        }
        key
    })
}

/// Reads the body that asks for a rotation.
pub(in crate::api) fn rotation(body: &[u8]) -> Result<KeyRotation, ApiError> {
    read::object(body, ["grace_seconds"], |[grace], faults| KeyRotation {
        grace_seconds: grace.whole_number(faults, 0..=GRACE_SECONDS_MAX),
    })
}

fn parsed_scopes(member: Member<'_>, faults: &mut Faults) -> Option<Vec<Scope>> {
    let names: Vec<String> = member.decoded(faults, "must be an array of strings")?;
    if names.is_empty() {
        faults.add(member.name, "must have at least one scope");
    }
    let parsed: Result<Vec<Scope>, _> = names.iter().map(|name| Scope::parse(name)).collect();
    parsed.map_err(|reason| faults.add(member.name, reason.0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Vec<String> {
        let error = new_key(body.as_bytes(), Timestamp::from_millis(0)).unwrap_err();
        error.details.into_iter().map(|detail| detail.field).collect()
    }

    #[test]
    fn a_key_needs_only_a_name() {
        let asked = new_key(br#"{"name":"shop"}"#, Timestamp::from_millis(0)).unwrap();
        assert_eq!((asked.name.as_str(), asked.tenant_id, asked.scopes), ("shop", None, None));
        let complete = r#"{"name":"s","tenant_id":"acme","scopes":["admin","admin"],
            "rate_limit_per_minute":5,
            "expires_at":"2026-01-01T00:00:00Z"}"#;
        let asked = new_key(complete.as_bytes(), Timestamp::from_millis(0)).unwrap();
        assert_eq!(asked.rate_limit_per_minute, Some(5));
        assert!(asked.scopes.unwrap().contains(&Scope::Admin) && asked.expires_at.is_some());
    }

    #[test]
    fn every_fault_is_named() {
        let body = r#"{"name":" ","tenant_id":"A","scopes":["root"],"rate_limit_per_minute":0,
            "expires_at":"1969-01-01T00:00:00Z"}"#;
        assert_eq!(
            fields(body),
            ["name", "tenant_id", "scopes", "rate_limit_per_minute", "expires_at"]
        );
        let body =
            r#"{"name":1,"tenant_id":1,"scopes":1,"rate_limit_per_minute":"1","expires_at":1}"#;
        assert_eq!(fields(body).len(), 5);
        assert_eq!(fields(r#"{"scopes":[]}"#), ["name", "scopes"]);
        assert_eq!(fields(r#"{"name":"a\u0000"}"#), ["name"]);
    }

    #[test]
    fn grace_is_none_unless_asked_for() {
        let grace = |body: &[u8]| rotation(body).map(|asked| asked.grace_seconds);
        assert_eq!(grace(b"{}").unwrap(), None);
        assert_eq!(grace(br#"{"grace_seconds":604800}"#).unwrap(), Some(604_800));
        assert!(grace(br#"{"grace_seconds":604801}"#).is_err());
        assert!(grace(br#"{"grace_seconds":-1}"#).is_err());
    }
}
