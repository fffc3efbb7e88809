//! Checks the rows in the store, during the run and after the cluster has quiesced.
//!
//! | rule | what must hold |
//! |---|---|
//! | `ROWS-QUEUE` | every event has exactly one queue row, that of its status |
//! | `ROWS-COUNT` | the counters equal a recount |
//! | `ROWS-DUE` | a queued event has a due row; a delivered or failed event has none |
//! | `ROWS-DELIVERY` | every delivery row belongs to an event, and does not say `received` |
//! | `ROWS-WAKE` | the wake-up pointer of a tenant is not later than its first due row |
//! | `ROWS-OVERDUE` | after quiescing, no work is overdue |
//! | `ROWS-EXPIRED` | after quiescing, no expired event is left |

use super::Violation;
use super::commits::{partition_of, parts};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use triggers_protocol::{EventId, EventStatus, PartitionId, TenantId, Timestamp};
use triggers_store::kv::decode_counter;
use triggers_store::tables::keys::{self, TenantKeys};
use triggers_store::tables::rows::{Delivery, EventRow, Row};

/// The rows of one tenant.
#[derive(Default)]
struct TenantRows {
    partition: Option<PartitionId>,
    events: BTreeMap<EventId, EventRow>,
    deliveries: BTreeMap<EventId, Delivery>,
    queue_keys: BTreeSet<Vec<u8>>,
    counters: BTreeMap<Vec<u8>, Bytes>,
    due: BTreeSet<EventId>,
    /// Time in seconds at which the first lease or webhook is due.
    first_due: Option<u64>,
}

/// `ROWS-OVERDUE`: no lease and no webhook was due before this time and is still there. Tenants in
/// `busy` may have a backlog of webhooks.
pub fn overdue(
    dump: &[(Bytes, Bytes)],
    before: Timestamp,
    busy: &BTreeSet<String>,
) -> Vec<Violation> {
    let is_due = |key: &&Bytes| {
        parts(key).is_some_and(|parts| match parts.table {
            b'r' => true,
            b'd' => !std::str::from_utf8(parts.tenant).is_ok_and(|tenant| busy.contains(tenant)),
            _ => false,
        })
    };
    let times = dump
        .iter()
        .map(|(key, _)| key)
        .filter(is_due)
        .filter_map(|key| Some((key, keys::time_of_due_key(key)?)));
    let overdue = times.filter(|(_, time)| *time < before);
    overdue
        .map(|(key, time)| {
            let tenant = parts(key).map_or_else(String::new, |parts| {
                String::from_utf8_lossy(parts.tenant).into_owned()
            });
            let id = keys::id_of_key(key).unwrap_or(EventId::ZERO);
            Violation::new(
                "ROWS-OVERDUE",
                format!("{tenant}: {id} was due at {time}, which is before {before}"),
            )
        })
        .collect()
}

/// `ROWS-EXPIRED`: no event is left that was created before `horizon`.
pub fn expired(dump: &[(Bytes, Bytes)], horizon: Timestamp) -> Vec<Violation> {
    let events = dump
        .iter()
        .map(|(key, _)| key)
        .filter(|key| parts(key).is_some_and(|parts| parts.table == b'e'));
    let old = events.filter_map(|key| keys::id_of_key(key)).filter(|id| id.created_at() < horizon);
    old.map(|id| {
        Violation::new(
            "ROWS-EXPIRED",
            format!(
                "{id} was created at {}, events before {horizon} have expired",
                id.created_at()
            ),
        )
    })
    .collect()
}

/// Checks a dump of the store against the rules that hold at every moment.
pub fn check(dump: &[(Bytes, Bytes)]) -> Vec<Violation> {
    let mut tenants: BTreeMap<Vec<u8>, TenantRows> = BTreeMap::new();
    let mut pointers: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut found = Vec::new();
    for (key, value) in dump {
        let Some(partition) = partition_of(key) else { continue };
        if let Some((second, tenant)) = keys::parse_wake(key).filter(|_| key.get(3) == Some(&b'a'))
        {
            pointers.insert(tenant.as_str().as_bytes().to_vec(), second);
        }
        let Some(parts) = parts(key) else { continue };
        let tenant = tenants.entry(parts.tenant.to_vec()).or_default();
        tenant.partition = Some(partition);
        let id = keys::id_of_key(key);
        match (parts.table, id) {
            (b'e', Some(id)) => match EventRow::decode(id, value) {
                Ok(row) => drop(tenant.events.insert(id, row)),
                Err(error) => found.push(Violation::new("ROWS-QUEUE", format!("{id}: {error}"))),
            },
            (b'v', Some(id)) => match Delivery::from_bytes(value) {
                Ok(delivery) => drop(tenant.deliveries.insert(id, delivery)),
                Err(error) => {
                    found.push(Violation::new("ROWS-QUEUE", format!("{id}, delivery: {error}")))
                }
            },
            (b'q', _) => drop(tenant.queue_keys.insert(key.to_vec())),
            (b'c', _) => drop(tenant.counters.insert(key.to_vec(), value.clone())),
            (b'w', Some(id)) => drop(tenant.due.insert(id)),
            (b'r' | b'd', Some(id)) => {
                tenant.due.insert(id);
                let second = keys::time_of_due_key(key)
                    .map(|time| u64::try_from(time.as_seconds()).unwrap_or(0));
                tenant.first_due = tenant.first_due.into_iter().chain(second).min();
            }
            _ => {}
        }
    }
    for (name, tenant) in tenants {
        let text = String::from_utf8_lossy(&name).into_owned();
        if let (Some(partition), Ok(id)) = (tenant.partition, TenantId::parse(&text)) {
            check_tenant(&TenantKeys::new(partition, &id), &tenant, &mut found);
        }
        if let Some(due) = tenant.first_due
            && pointers.get(&name).is_none_or(|pointed| *pointed > due)
        {
            let pointed = pointers.get(&name);
            found.push(Violation::new(
                "ROWS-WAKE",
                format!("{text} has work due at {due} s, its wake-up pointer is {pointed:?}"),
            ));
        }
    }
    found
}

fn check_tenant(keys: &TenantKeys, tenant: &TenantRows, found: &mut Vec<Violation>) {
    let name = keys.tenant();
    let mut events: BTreeMap<EventId, EventStatus> =
        tenant.events.iter().map(|(id, row)| (*id, row.event.state.status)).collect();
    for (id, delivery) in &tenant.deliveries {
        let Some(status) = events.get_mut(id) else {
            found.push(Violation::new(
                "ROWS-DELIVERY",
                format!("{name}: {id} has a delivery row and no event row"),
            ));
            continue;
        };
        if let Some(state) = &delivery.state {
            *status = state.status;
            if state.status == EventStatus::Received {
                let details = format!("{name}: the delivery row of {id} says that it is received");
                found.push(Violation::new("ROWS-DELIVERY", details));
            }
        }
    }
    let expected: BTreeSet<Vec<u8>> =
        events.iter().map(|(id, status)| keys.queue(*status, *id)).collect();
    for key in expected.symmetric_difference(&tenant.queue_keys) {
        let id = keys::id_of_key(key).unwrap_or(EventId::ZERO);
        let status = events.get(&id);
        found.push(Violation::new(
            "ROWS-QUEUE",
            format!("{name}: {id} is {status:?}, its queue rows say otherwise"),
        ));
    }
    for status in EventStatus::ALL {
        let recount = events.values().filter(|has| **has == status).count();
        let stored = tenant.counters.get(&keys.counter(status)).map(|bytes| &bytes[..]);
        let counted = decode_counter(stored).unwrap_or(i64::MIN);
        if i64::try_from(recount).unwrap_or(i64::MAX) != counted {
            found.push(Violation::new(
                "ROWS-COUNT",
                format!("{name}: the counter of {status} is {counted}, a recount gives {recount}"),
            ));
        }
    }
    for (id, status) in &events {
        let is_due = tenant.due.contains(id);
        if is_due != (*status == EventStatus::Queued) {
            let has = if is_due { "has a due row" } else { "has no due row" };
            found.push(Violation::new("ROWS-DUE", format!("{name}: {id} is {status} and {has}")));
        }
    }
}
