//! Reads the request bodies about tenants.
//!
//! - `TENANT-REQUEST-1`: every fault of a body is named at once.
//! - `TENANT-REQUEST-2`: in a change, an absent member leaves the setting as it is, and `null` sets
//!   the default, for each setting that has one.

use crate::api::read;
use crate::http::body::members::Member;
use crate::http::error::{ApiError, Faults};
use std::collections::BTreeMap;
use triggers_actors::model::rows::TenantRow;
use triggers_protocol::api::{NewTenant, TenantPatch};
use triggers_protocol::{Environment, TenantId};

/// The greatest integer that every JSON reader represents exactly.
const EVENTS_MAX: u64 = (1 << 53) - 1;
const RETENTION_DAYS_DEFAULT: u16 = 30;
const RETENTION_DAYS_MAX: u64 = 365;
const FLAGS_MAX: usize = 64;
const FLAG_NAME_BYTES_MAX: usize = 64;

/// The row of a new tenant.
pub(super) fn row(tenant: NewTenant, environment: &Environment) -> TenantRow {
    let now = environment.now();
    TenantRow {
        id: tenant.id.unwrap_or_else(|| TenantId::from_random(environment.bytes())),
        name: tenant.name,
        tier: tenant.tier,
        retention_days: tenant.retention_days.unwrap_or(RETENTION_DAYS_DEFAULT),
        max_inbox_events: tenant.max_inbox_events,
        retry_policy: tenant.retry_policy,
        flags: tenant.flags.unwrap_or_default(),
        created_at: now,
        updated_at: now,
    }
}

/// Makes the change to the row.
pub(super) fn apply(patch: &TenantPatch, row: &mut TenantRow) {
    let TenantPatch { name, tier, retention_days, max_inbox_events, retry_policy, flags } = patch;
    set(&mut row.name, name.as_ref());
    set(&mut row.tier, tier.as_ref());
    let days = retention_days.map(|days| days.unwrap_or(RETENTION_DAYS_DEFAULT));
    set(&mut row.retention_days, days.as_ref());
    set(&mut row.max_inbox_events, max_inbox_events.as_ref());
    set(&mut row.retry_policy, retry_policy.as_ref());
    set(&mut row.flags, flags.clone().map(Option::unwrap_or_default).as_ref());
}

fn set<T: Clone>(field: &mut T, asked: Option<&T>) {
    if let Some(asked) = asked {
        field.clone_from(asked);
    }
}

const NAMES: [&str; 7] =
    ["id", "name", "tier", "retention_days", "max_inbox_events", "retry_policy", "flags"];

/// Reads the body that asks for a tenant.
pub(in crate::api) fn new_tenant(body: &[u8]) -> Result<NewTenant, ApiError> {
    read::object(body, NAMES, |[id, name, settings @ ..], faults| {
        let id = id.parsed(faults, TenantId::parse);
        let name = name.required_name(faults).unwrap_or_default();
        let settings = settings_of(settings, faults);
        NewTenant {
            id,
            name,
            tier: settings.tier.flatten(),
            retention_days: settings.retention_days.flatten(),
            max_inbox_events: settings.max_inbox_events.flatten(),
            retry_policy: settings.retry_policy.flatten(),
            flags: settings.flags.flatten(),
        }
    })
}

/// Reads the body that asks for a change.
pub(in crate::api) fn tenant_patch(body: &[u8]) -> Result<TenantPatch, ApiError> {
    read::object(body, NAMES, |[_, name, settings @ ..], faults| {
        let name = name.raw.and_then(|_| name.required_name(faults));
        TenantPatch { name, ..settings_of(settings, faults) }
    })
}

fn settings_of(
    [tier, retention_days, events, policy, flags]: [Member<'_>; 5],
    faults: &mut Faults,
) -> TenantPatch {
    TenantPatch {
        name: None,
        tier: tier.patch(tier.decoded(faults, "must be standard, beta or null")),
        retention_days: retention_days
            .patch(retention_days.whole_number(faults, 1..=RETENTION_DAYS_MAX)),
        max_inbox_events: events.patch(events.whole_number(faults, 1..=EVENTS_MAX)),
        retry_policy: policy.patch(policy.retry_policy(faults, true)),
        flags: flags.patch(parsed_flags(flags, faults)),
    }
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
    use triggers_protocol::api::Tier;
    use triggers_protocol::{RetryPolicy, Timestamp};

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
        apply(&tenant_patch(b"{}").unwrap(), &mut changed);
        assert_eq!(changed, row());
        let five = br#"{"id":"ignored","max_inbox_events":5}"#;
        apply(&tenant_patch(five).unwrap(), &mut changed);
        assert_eq!(changed, TenantRow { max_inbox_events: Some(5), ..row() });
        let nulls = br#"{"tier":null,"retention_days":null,"max_inbox_events":null,
            "retry_policy":null,"flags":null}"#;
        apply(&tenant_patch(nulls).unwrap(), &mut changed);
        let none =
            (changed.tier, changed.retention_days, changed.max_inbox_events, changed.retry_policy);
        assert_eq!(none, (None, RETENTION_DAYS_DEFAULT, None, None));
        assert!(changed.flags.is_empty());
    }

    #[test]
    fn every_fault_is_named() {
        let body = br#"{"id":"A","name":"","tier":"gold","retention_days":366,
            "max_inbox_events":0,"retry_policy":{},"flags":{"a":1}}"#;
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
        let asked = new_tenant(body).unwrap();
        assert_eq!(asked.id, TenantId::parse("acme").ok());
        assert!(asked.retry_policy.is_some() && asked.tier == Some(Tier::Standard));
    }
}
