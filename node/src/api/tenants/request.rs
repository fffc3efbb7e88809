//! What requests about tenants may contain.
//!
//! Invariants: `TENANT-REQUEST-1` every fault of a body is named at once; `TENANT-REQUEST-2` absent means unchanged, `null`
//! means the default, for every setting that has one. It does not know which tenants there are.

use super::RETENTION_DAYS_DEFAULT;
use crate::http::body;
use crate::http::body::faults::Faults;
use crate::http::body::members::{Member, members};
use crate::http::error::ApiError;
use std::collections::BTreeMap;
use triggers_protocol::{RetryPolicy, TenantId};
use triggers_store::tables::rows::{TenantRow, Tier};

/// The greatest whole number that every JSON reader keeps.
const EVENTS_MAX: u64 = (1 << 53) - 1;
const RETENTION_DAYS_MAX: u64 = 365;
const FLAGS_MAX: usize = 64;
const FLAG_NAME_BYTES_MAX: usize = 64;

/// Settings to change; none leaves one as it is.
#[derive(Debug, Default)]
pub(super) struct AskedSettings {
    name: Option<String>,
    tier: Option<Option<Tier>>,
    retention_days: Option<u16>,
    max_inbox_events: Option<Option<u64>>,
    retry_policy: Option<Option<RetryPolicy>>,
    flags: Option<BTreeMap<String, bool>>,
}

impl AskedSettings {
    /// Sets what was asked for.
    pub(super) fn apply(&self, row: &mut TenantRow) {
        let Self { name, tier, retention_days, max_inbox_events, retry_policy, flags } = self;
        set(&mut row.name, name.as_ref());
        set(&mut row.tier, tier.as_ref());
        set(&mut row.retention_days, retention_days.as_ref());
        set(&mut row.max_inbox_events, max_inbox_events.as_ref());
        set(&mut row.retry_policy, retry_policy.as_ref());
        set(&mut row.flags, flags.as_ref());
    }
}

fn set<T: Clone>(field: &mut T, asked: Option<&T>) {
    if let Some(asked) = asked {
        field.clone_from(asked);
    }
}

const NAMES: [&str; 7] =
    ["id", "name", "tier", "retention_days", "max_inbox_events", "retry_policy", "flags"];

/// Reads the body that asks for a tenant; the id is none if one shall be made.
///
/// # Errors
/// 400 that names every fault.
pub(super) fn new_tenant(body: &[u8]) -> Result<(Option<TenantId>, AskedSettings), ApiError> {
    let mut faults = Faults::default();
    let [id, name, settings @ ..] = members(body::text(body)?, NAMES, &mut faults)?;
    let id = id.parsed(&mut faults, TenantId::parse);
    let name = name.required_name(&mut faults);
    let asked = settings_of(name, settings, &mut faults);
    faults.check().map(|()| (id, asked))
}

/// Reads the body that asks for a change.
///
/// # Errors
/// 400 that names every fault.
pub(super) fn tenant_patch(body: &[u8]) -> Result<AskedSettings, ApiError> {
    let mut faults = Faults::default();
    let [_, name, settings @ ..] = members(body::text(body)?, NAMES, &mut faults)?;
    let name = name.raw.and_then(|_| name.required_name(&mut faults));
    let asked = settings_of(name, settings, &mut faults);
    faults.check().map(|()| asked)
}

fn settings_of(
    name: Option<String>,
    [tier, retention_days, events, policy, flags]: [Member<'_>; 5],
    faults: &mut Faults,
) -> AskedSettings {
    let days = retention_days
        .whole_number(faults, 1..=RETENTION_DAYS_MAX)
        .and_then(|days| u16::try_from(days).ok());
    AskedSettings {
        name,
        tier: asked(tier, parsed_tier(tier, faults)),
        retention_days: asked(retention_days, days)
            .map(|days| days.unwrap_or(RETENTION_DAYS_DEFAULT)),
        max_inbox_events: asked(events, events.whole_number(faults, 1..=EVENTS_MAX)),
        retry_policy: asked(policy, parsed_policy(policy, faults)),
        flags: asked(flags, parsed_flags(flags, faults)).map(Option::unwrap_or_default),
    }
}

/// Nothing if the member is absent, the default if it is `null`, else the value.
fn asked<T>(member: Member<'_>, value: Option<T>) -> Option<Option<T>> {
    if member.is_null() { Some(None) } else { value.map(Some) }
}

fn parsed_tier(member: Member<'_>, faults: &mut Faults) -> Option<Tier> {
    let text = member.text(faults)?;
    match &*text {
        "standard" => Some(Tier::Standard),
        "beta" => Some(Tier::Beta),
        _ => {
            faults.add(member.name, "must be standard, beta or null");
            None
        }
    }
}

fn parsed_policy(member: Member<'_>, faults: &mut Faults) -> Option<RetryPolicy> {
    let message = "must have delays_seconds, or initial, factor, max and max_attempts";
    let policy: RetryPolicy = member.decoded(faults, message)?;
    policy.validate(true).map_err(|reason| faults.add(member.name, reason.0)).ok().map(|()| policy)
}

fn parsed_flags(member: Member<'_>, faults: &mut Faults) -> Option<BTreeMap<String, bool>> {
    let flags: BTreeMap<String, bool> = member.decoded(faults, "must be an object of booleans")?;
    let named = flags.keys().all(|name| (1..=FLAG_NAME_BYTES_MAX).contains(&name.len()));
    if flags.len() > FLAGS_MAX || !named {
        let message = format!(
            "must have at most {FLAGS_MAX} flags with names of 1 to {FLAG_NAME_BYTES_MAX} bytes"
        );
        faults.add(member.name, message);
    }
    Some(flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_protocol::Timestamp;

    fn row() -> TenantRow {
        TenantRow {
            id: TenantId::parse("acme").unwrap(),
            name: "Acme".into(),
            tier: Some(Tier::Beta),
            retention_days: 7,
            max_inbox_events: Some(3),
            retry_policy: Some(RetryPolicy::default()),
            flags: BTreeMap::from([("a".to_owned(), true)]),
            created_at: Timestamp::from_millis(0),
            updated_at: Timestamp::from_millis(0),
        }
    }

    #[test]
    fn a_change_touches_what_it_names() {
        let mut changed = row();
        tenant_patch(b"{}").unwrap().apply(&mut changed);
        assert_eq!(changed, row());
        tenant_patch(br#"{"id":"ignored","max_inbox_events":5}"#).unwrap().apply(&mut changed);
        assert_eq!(changed, TenantRow { max_inbox_events: Some(5), ..row() });
        let nulls = br#"{"tier":null,"retention_days":null,"max_inbox_events":null,"retry_policy":null,"flags":null}"#;
        tenant_patch(nulls).unwrap().apply(&mut changed);
        let none =
            (changed.tier, changed.retention_days, changed.max_inbox_events, changed.retry_policy);
        assert_eq!(none, (None, RETENTION_DAYS_DEFAULT, None, None));
        assert!(changed.flags.is_empty());
    }

    #[test]
    fn every_fault_is_named() {
        let body = br#"{"id":"A","name":"","tier":"gold","retention_days":366,"max_inbox_events":0,"retry_policy":{},"flags":{"a":1}}"#;
        let fields = |error: ApiError| {
            error.details.into_iter().map(|detail| detail.field).collect::<Vec<_>>()
        };
        let mut found = fields(new_tenant(body).unwrap_err());
        found.sort();
        let mut all = NAMES.to_vec();
        all.sort_unstable();
        assert_eq!(found, all);
        assert_eq!(fields(new_tenant(b"{}").unwrap_err()), ["name"]);
        assert_eq!(fields(tenant_patch(br#"{"name":null}"#).unwrap_err()), ["name"]);
        let long = format!(r#"{{"retry_policy":{{"delays_seconds":[{}]}}}}"#, 40 * 86_400);
        assert_eq!(fields(tenant_patch(long.as_bytes()).unwrap_err()), ["retry_policy"]);
    }

    #[test]
    fn a_new_tenant_may_have_everything() {
        let body =
            br#"{"id":"acme","name":"Acme","tier":"standard","retention_days":1,"flags":{"x":true},
            "retry_policy":{"initial":1,"factor":2.0,"max":60,"max_attempts":5}}"#;
        let (id, asked) = new_tenant(body).unwrap();
        assert_eq!(id, TenantId::parse("acme").ok());
        assert!(asked.retry_policy.is_some() && asked.tier == Some(Some(Tier::Standard)));
    }
}
