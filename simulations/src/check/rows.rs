//! Looks at what is in the store when everything has come to rest.
//!
//! Rules: `ROWS-QUEUE` every event has its place in the order of its status, and there is no other place; `ROWS-COUNT` the
//! counters are what a recount gives; `ROWS-DUE` an event that is leased, pushed or waits for its next attempt has an entry
//! for when that is due; `ROWS-WAKE` a tenant with such an entry has a wake-up pointer.

use super::Violation;
use super::commits::{parts, partition_of};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use triggers_protocol::{EventId, EventStatus, PartitionId, TenantId};
use triggers_store::kv::decode_counter;
use triggers_store::tables::keys::{self, TenantKeys};
use triggers_store::tables::rows::EventRow;

/// The rows of one tenant.
#[derive(Default)]
struct Tenant {
    partition: Option<PartitionId>,
    events: BTreeMap<EventId, EventStatus>,
    places: BTreeSet<Vec<u8>>,
    counters: BTreeMap<Vec<u8>, Bytes>,
    due: BTreeSet<EventId>,
}

/// Checks a dump of the store.
pub fn check(dump: &[(Bytes, Bytes)]) -> Vec<Violation> {
    let mut tenants: BTreeMap<Vec<u8>, Tenant> = BTreeMap::new();
    let mut awake: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut found = Vec::new();
    for (key, value) in dump {
        let Some(partition) = partition_of(key) else { continue };
        if let Some((_, tenant)) = keys::parse_wake(key).filter(|_| key.get(3) == Some(&b'a')) {
            awake.insert(tenant.as_str().as_bytes().to_vec());
        }
        let Some(parts) = parts(key) else { continue };
        let tenant = tenants.entry(parts.tenant.to_vec()).or_default();
        tenant.partition = Some(partition);
        let id = keys::id_of_key(key);
        match (parts.table, id) {
            (b'e', Some(id)) => match EventRow::decode(id, value) {
                Ok(row) => drop(tenant.events.insert(id, row.event.state.status)),
                Err(error) => found.push(Violation::new("ROWS-QUEUE", format!("{id}: {error}"))),
            },
            (b'q', _) => drop(tenant.places.insert(key.to_vec())),
            (b'c', _) => drop(tenant.counters.insert(key.to_vec(), value.clone())),
            (b'r' | b'w' | b'd', Some(id)) if parts.rest.len() >= 24 => drop(tenant.due.insert(id)),
            _ => {}
        }
    }
    for (name, tenant) in tenants {
        let text = String::from_utf8_lossy(&name).into_owned();
        if let (Some(partition), Ok(id)) = (tenant.partition, TenantId::parse(&text)) {
            check_tenant(&TenantKeys::new(partition, &id), &tenant, &mut found);
        }
        if !tenant.due.is_empty() && !awake.contains(&name) {
            found.push(Violation::new("ROWS-WAKE", format!("{text} has {} entries and no pointer", tenant.due.len())));
        }
    }
    found
}

fn check_tenant(keys: &TenantKeys, tenant: &Tenant, found: &mut Vec<Violation>) {
    let name = keys.tenant();
    let expected: BTreeSet<Vec<u8>> = tenant.events.iter().map(|(id, status)| keys.queue(*status, *id)).collect();
    for key in expected.symmetric_difference(&tenant.places) {
        let id = keys::id_of_key(key).unwrap_or(EventId::ZERO);
        let status = tenant.events.get(&id);
        found.push(Violation::new("ROWS-QUEUE", format!("{name}: {id} is {status:?}, its places say otherwise")));
    }
    for status in EventStatus::ALL {
        let recount = tenant.events.values().filter(|has| **has == status).count();
        let stored = tenant.counters.get(&keys.counter(status)).map(|bytes| &bytes[..]);
        let counted = decode_counter(stored).unwrap_or(i64::MIN);
        if i64::try_from(recount).unwrap_or(i64::MAX) != counted {
            found.push(Violation::new("ROWS-COUNT", format!("{name}: {counted} are {status}, a recount gives {recount}")));
        }
    }
    for (id, _) in tenant.events.iter().filter(|(_, status)| **status == EventStatus::Queued) {
        if !tenant.due.contains(id) {
            found.push(Violation::new("ROWS-DUE", format!("{name}: {id} is queued and nothing is due for it")));
        }
    }
}
