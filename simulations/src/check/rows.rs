//! Checks the rows in the store, during the run and after the cluster has quiesced.
//!
//! | rule | what must hold |
//! |---|---|
//! | `ROWS-QUEUE` | every event has exactly one queue row, that of its stored status |
//! | `ROWS-COUNT` | the counters equal a recount |
//! | `ROWS-DUE` | a queued event has a due row; a delivered or failed event has none |
//! | `ROWS-DELIVERY` | every delivery row belongs to an event, and does not say `received` |
//! | `ROWS-LEASE` | an event in a lease row is in one alone, and otherwise as it was accepted |
//! | `ROWS-ATTEMPTS` | every attempt that began is listed, with its end unless it runs |
//! | `ROWS-WAKE` | the wake-up pointer of a tenant is not later than its first due row |
//! | `ROWS-OVERDUE` | after quiescing, no work is overdue |
//! | `ROWS-EXPIRED` | after quiescing, no expired event is left |

use super::Violation;
use super::commits::{partition_of, parts};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use triggers_protocol::event::EventState;
use triggers_protocol::{EventId, EventStatus, PartitionId, TenantId, Timestamp};
use triggers_store::kv::decode_counter;
use triggers_store::tables::keys::{self, TenantKeys};
use triggers_store::tables::rows::{
    ATTEMPTS_KEPT_MAX, Claim, Delivery, EventRow, LeaseRow, PushState, Row,
};

/// All rows of the store: keys and values.
type Dump = [(Bytes, Bytes)];

/// The rows of one tenant.
#[derive(Default)]
struct TenantRows {
    partition: Option<PartitionId>,
    events: BTreeMap<EventId, EventRow>,
    deliveries: BTreeMap<EventId, Delivery>,
    /// Events in lease rows, each with the number of rows that name it.
    leased: BTreeMap<EventId, usize>,
    queue_keys: BTreeSet<Vec<u8>>,
    counters: BTreeMap<Vec<u8>, Bytes>,
    due: BTreeSet<EventId>,
    /// Keys of the attempts in the lists of subscriptions.
    logged: BTreeSet<Vec<u8>>,
    /// Time in seconds at which the first lease or webhook is due.
    first_due: Option<u64>,
}

/// `ROWS-OVERDUE`: no lease and no webhook was due before this time and is still there. Tenants in
/// `busy` may have a backlog of webhooks.
pub fn overdue(dump: &Dump, before: Timestamp, busy: &BTreeSet<String>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (key, value) in dump {
        let Some(parts) = parts(key) else { continue };
        let tenant = String::from_utf8_lossy(parts.tenant);
        if let (b'k', Ok(row)) = (parts.table, LeaseRow::from_bytes(value))
            && row.until < before
        {
            let details = format!("{tenant}: a lease ended at {}, before {before}", row.until);
            found.push(Violation::new("ROWS-OVERDUE", details));
        }
        let is_due = parts.table == b'r' || (parts.table == b'd' && !busy.contains(&*tenant));
        if let Some(time) = keys::time_of_due_key(key).filter(|time| is_due && *time < before) {
            let id = keys::id_of_key(key).unwrap_or(EventId::ZERO);
            let details = format!("{tenant}: {id} was due at {time}, which is before {before}");
            found.push(Violation::new("ROWS-OVERDUE", details));
        }
    }
    found
}

/// `ROWS-EXPIRED`: no event is left that was created before `horizon`.
pub fn expired(dump: &Dump, horizon: Timestamp) -> Vec<Violation> {
    let keys = dump.iter().map(|(key, _)| key);
    let of_events = keys.filter(|key| parts(key).is_some_and(|parts| parts.table == b'e'));
    let ids = of_events.filter_map(|key| keys::id_of_key(key));
    let report = |id: EventId| {
        let created = id.created_at();
        let details = format!("{id} was created at {created}, before {horizon}");
        (created < horizon).then(|| Violation::new("ROWS-EXPIRED", details))
    };
    ids.filter_map(report).collect()
}

/// Checks a dump of the store against the rules that hold at every moment.
pub fn check(dump: &Dump) -> Vec<Violation> {
    let mut tenants: BTreeMap<Vec<u8>, TenantRows> = BTreeMap::new();
    let mut pointers: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut found = Vec::new();
    for (key, value) in dump {
        let Some(partition) = partition_of(key) else { continue };
        let wake = keys::parse_wake(key).filter(|_| key.get(3) == Some(&b'a'));
        pointers.extend(wake.map(|(second, id)| (id.as_str().as_bytes().to_vec(), second)));
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
                    found.push(Violation::new("ROWS-QUEUE", format!("{id}, delivery: {error}")));
                }
            },
            (b'q', _) => drop(tenant.queue_keys.insert(key.to_vec())),
            (b'c', _) => drop(tenant.counters.insert(key.to_vec(), value.clone())),
            (b'x', _) => drop(tenant.logged.insert(key.to_vec())),
            (b'k', _) => match LeaseRow::from_bytes(value) {
                Ok(row) => {
                    let second = u64::try_from(row.until.as_seconds()).unwrap_or(0);
                    tenant.first_due = tenant.first_due.into_iter().chain([second]).min();
                    tenant.due.extend(&row.events);
                    for id in row.events {
                        *tenant.leased.entry(id).or_default() += 1;
                    }
                }
                Err(error) => found.push(Violation::new("ROWS-LEASE", error.to_string())),
            },
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
        let pointed = pointers.get(&name);
        if let Some(due) = tenant.first_due.filter(|due| pointed.is_none_or(|at| at > due)) {
            let details =
                format!("{text} has work due at {due} s, its wake-up pointer is {pointed:?}");
            found.push(Violation::new("ROWS-WAKE", details));
        }
    }
    found
}

fn check_tenant(keys: &TenantKeys, tenant: &TenantRows, found: &mut Vec<Violation>) {
    let name = keys.tenant();
    let mut report = |rule: &str, details: String| {
        found.push(Violation::new(rule, format!("{name}: {details}")));
    };
    let mut events: BTreeMap<EventId, EventStatus> =
        tenant.events.iter().map(|(id, row)| (*id, row.event.state.status)).collect();
    for (id, delivery) in &tenant.deliveries {
        let Some(status) = events.get_mut(id) else {
            report("ROWS-DELIVERY", format!("{id} has a delivery row and no event row"));
            continue;
        };
        let begun = delivery.state.as_ref().or(tenant.events.get(id).map(|row| &row.event.state));
        if let Some(why) = unlisted(keys, tenant, *id, delivery, begun.map_or(0, |is| is.attempts))
        {
            report("ROWS-ATTEMPTS", format!("{id}: {why}"));
        }
        if let Some(state) = &delivery.state {
            *status = state.status;
            if state.status == EventStatus::Received {
                report("ROWS-DELIVERY", format!("the delivery row of {id} says `received`"));
            }
        }
    }
    let expected: BTreeSet<Vec<u8>> =
        events.iter().map(|(id, status)| keys.queue(*status, *id)).collect();
    for (id, rows) in &tenant.leased {
        let has_delivery = tenant.deliveries.contains_key(id);
        let own = tenant.events.get(id).map(|row| &row.event.state);
        if *rows != 1 || has_delivery || own != Some(&EventState::ACCEPTED) {
            let details = format!("{id}: {rows} lease rows, delivery row: {has_delivery}, {own:?}");
            report("ROWS-LEASE", details);
        }
        events.insert(*id, EventStatus::Queued);
    }
    for key in expected.symmetric_difference(&tenant.queue_keys) {
        let id = keys::id_of_key(key).unwrap_or(EventId::ZERO);
        let status = events.get(&id);
        report("ROWS-QUEUE", format!("{id} is {status:?}, its queue rows say otherwise"));
    }
    for status in EventStatus::ALL {
        let recount = events.values().filter(|has| **has == status).count();
        let stored = tenant.counters.get(&keys.counter(status)).map(|bytes| &bytes[..]);
        let counted = decode_counter(stored).unwrap_or(i64::MIN);
        if i64::try_from(recount).unwrap_or(i64::MAX) != counted {
            let details =
                format!("the counter of {status} is {counted}, a recount gives {recount}");
            report("ROWS-COUNT", details);
        }
    }
    for (id, status) in &events {
        let is_due = tenant.due.contains(id);
        if is_due != (*status == EventStatus::Queued) {
            report("ROWS-DUE", format!("{id} is {status}, has a due row: {is_due}"));
        }
    }
}

/// What the lists of attempts of an event lack, of which `begun` attempts have begun.
fn unlisted(
    keys: &TenantKeys,
    tenant: &TenantRows,
    id: EventId,
    delivery: &Delivery,
    begun: u32,
) -> Option<String> {
    let numbers = delivery.attempts.iter().map(|attempt| attempt.number);
    if begun as usize <= ATTEMPTS_KEPT_MAX && !numbers.clone().eq(1..=begun) {
        let numbers: Vec<u32> = numbers.collect();
        return Some(format!("{begun} attempts have begun, {numbers:?} are listed"));
    }
    delivery.attempts.iter().find_map(|attempt| {
        let does_run = match attempt.subscription {
            None => matches!(delivery.claim, Claim::Leased { .. }),
            Some(to) => delivery.pushes.iter().any(|push| {
                push.subscription == to && matches!(push.state, PushState::Running { .. })
            }),
        };
        let has_ended = attempt.finished_at.is_some();
        let is_logged = attempt.subscription.is_none_or(|to| {
            tenant.logged.contains(&keys.logged_attempt(to, attempt.started_at, id))
        });
        if !has_ended && !does_run {
            Some(format!("attempt {} does not run and has no end", attempt.number))
        } else if has_ended && !is_logged {
            Some(format!("attempt {} is not in its subscription's list", attempt.number))
        } else {
            None
        }
    })
}
