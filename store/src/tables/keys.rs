//! Every key of the store. No other file builds one.
//!
//! ```text
//! sys/partitions          number of partitions, fixed when the store is created
//! sys/cursor              secret that signs cursors
//! sys/clock               time by which due times are kept        micros, big-endian i64
//! n/ <incarnation>        node of the cluster                     rows::NodeRow
//! map/ <p:2>              mirror of the fence, for routing only   rows::Fence
//! p <p:2> o               fence of partition p                    rows::Fence
//! p <p:2> a <second:8> <T>  wake-up pointer of tenant T           empty
//! p <p:2> t <T> 0 …       data of tenant T:
//!     h                   head                                    rows::Head
//!     e <id:16>           event; payload if at most 8 KiB         rows::EventRow
//!     b <id:16> <n:2>     payload chunk n                         raw bytes
//!     q <status:1> <id>   inbox order by status                   rows::QueueRow
//!     i <day:4> <hash:16> idempotency record, by day of its event rows::Idempotency
//!     c <status:1>        number of events in that status         little-endian i64
//!     g <day:4> <id:16>   tombstone, by day of the deletion       rows::Tombstone
//!     v <id:16>           delivery: state, lease, attempts        rows::Delivery
//!     y <id> <sub or 0>   attempts that no longer fit there       rows::OlderAttempts
//!     k <number:1>        events leased together, see lease_rows  rows::LeaseRow
//!     n                       version of the lease rows               little-endian i64
//!     m <lease:16>        other events of a lease                 rows::LeaseMembers
//!     r <micros:8> <id>   index of other leases by their end      empty
//!     w <micros:8> <id>   index of consumers' retries by due time empty
//!     l                   events that the last batch chose        rows::RecentLeases
//!     s <sub:16>          subscription                            rows::SubscriptionRow
//!     d <sub> <micros:8> <id>  index of webhooks by due time      empty
//!     x <sub> <micros:8> <id>  attempts by subscription and start rows::LoggedAttempt
//!     u <micros:8> <n:8>  audit                                   rows::AuditRow
//! key/ <hash:32>          API key                                 rows::KeyRow
//! kid/ <key id:16>        index of API keys by id                 key hash, raw
//! tk/ <T> 0 <key id:16>   index of API keys by tenant             key hash, raw
//! rev/ <T>                last revocations of the tenant          rows::Revocations
//! ten/ <T>                tenant                                  rows::TenantRow
//! ```
//! - `KEYS-1`: numbers are big-endian, so keys sort like their numbers.
//! - `KEYS-2`: a tenant id has no zero byte, so no tenant's prefix is a prefix of another's.
//! - `KEYS-3`: rows that are kept for some days are keyed by day first, so old ones are one range.

use super::rows::LeaseId;
use crate::kv::KeyRange;
use bytes::Bytes;
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{
    EventId, EventStatus, KeyHash, PartitionId, SubscriptionId, TenantId, Timestamp,
};

/// Key of the number of partitions.
pub const PARTITIONS: &[u8] = b"sys/partitions";
/// Key of the secret that signs cursors.
pub const CURSOR_SECRET: &[u8] = b"sys/cursor";
/// Key of the time by which due times are kept.
pub const CLOCK: &[u8] = b"sys/clock";

/// Key of a partition's fence.
pub fn fence(partition: PartitionId) -> Vec<u8> {
    let mut key = partition_prefix(partition);
    key.push(b'o');
    key
}

/// Key of the mirror of a partition's fence.
pub fn route(partition: PartitionId) -> Vec<u8> {
    [b"map/", &partition.0.to_be_bytes()[..]].concat()
}

/// Range of all mirrors of fences.
pub fn routes() -> KeyRange {
    KeyRange::prefix(&b"map/"[..])
}

/// Partition in the key of a mirror.
pub fn parse_route(key: &[u8]) -> Option<PartitionId> {
    let number = key.strip_prefix(b"map/")?.try_into().ok()?;
    Some(PartitionId(u16::from_be_bytes(number)))
}

/// Key of a node's row.
pub fn node(incarnation: &str) -> Vec<u8> {
    [b"n/", incarnation.as_bytes()].concat()
}

/// Range of all nodes.
pub fn nodes() -> KeyRange {
    KeyRange::prefix(&b"n/"[..])
}

/// Incarnation in the key of a node's row.
pub fn parse_node(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(b"n/")?).ok()
}

/// Key of an API key's row.
pub fn api_key(hash: KeyHash) -> Vec<u8> {
    [b"key/", &hash.0[..]].concat()
}

/// Key of the index from an API key's id to its hash.
pub fn api_key_by_id(id: [u8; 16]) -> Vec<u8> {
    [b"kid/", &id[..]].concat()
}

/// Key of the index from a tenant to one of its API keys.
pub fn tenant_api_key(tenant: &TenantId, id: [u8; 16]) -> Vec<u8> {
    [b"tk/", tenant.as_str().as_bytes(), &[0], &id[..]].concat()
}

/// Range of a tenant's API keys.
pub fn tenant_api_keys(tenant: &TenantId) -> KeyRange {
    let end: &[u8] = if is_planted(Bug::WrongTenantPage) { &[] } else { &[0] };
    KeyRange::prefix([b"tk/", tenant.as_str().as_bytes(), end].concat())
}

/// Key of the last revocations of a tenant's API keys.
pub fn revocations(tenant: &TenantId) -> Vec<u8> {
    [b"rev/", tenant.as_str().as_bytes()].concat()
}

/// Key of a tenant's row.
pub fn tenant(tenant: &TenantId) -> Vec<u8> {
    [b"ten/", tenant.as_str().as_bytes()].concat()
}

/// Range of the tenants whose id is greater than `after`, or of all tenants.
pub fn tenants_after(after: Option<&TenantId>) -> KeyRange {
    let all = KeyRange::prefix(&b"ten/"[..]);
    match after {
        Some(last) => KeyRange::new([&tenant(last)[..], &[0]].concat(), all.end),
        None => all,
    }
}

/// Key of a tenant's wake-up pointer.
pub fn wake(partition: PartitionId, second: u64, tenant: &TenantId) -> Vec<u8> {
    let mut key = partition_prefix(partition);
    key.push(b'a');
    key.extend_from_slice(&second.to_be_bytes());
    key.extend_from_slice(tenant.as_str().as_bytes());
    key
}

/// Range of a partition's wake-up pointers after `after`, earliest first.
pub fn wakes(partition: PartitionId, after: Option<&(u64, TenantId)>) -> KeyRange {
    let mut prefix = partition_prefix(partition);
    prefix.push(b'a');
    let mut range = KeyRange::prefix(prefix);
    if let Some((second, tenant)) = after {
        range.begin = [&wake(partition, *second, tenant)[..], &[0]].concat().into();
    }
    range
}

/// Second and tenant in the key of a wake-up pointer.
pub fn parse_wake(key: &[u8]) -> Option<(u64, TenantId)> {
    let rest = key.get(4..)?;
    let (second, tenant) = rest.split_at_checked(8)?;
    let tenant = TenantId::parse(std::str::from_utf8(tenant).ok()?).ok()?;
    Some((u64::from_be_bytes(second.try_into().ok()?), tenant))
}

/// Eight bytes that sort like the time; times before 1970 count as 1970.
fn micros(time: Timestamp) -> [u8; 8] {
    u64::try_from(time.as_micros()).unwrap_or(0).to_be_bytes()
}

fn partition_prefix(partition: PartitionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(96);
    key.push(b'p');
    key.extend_from_slice(&partition.0.to_be_bytes());
    key
}

const fn status_byte(status: EventStatus) -> u8 {
    match status {
        EventStatus::Received => 1,
        EventStatus::Queued => 2,
        EventStatus::Delivered => 3,
        EventStatus::Failed => 4,
    }
}

/// Builds the keys of one tenant.
#[derive(Debug, Clone)]
pub struct TenantKeys {
    partition: PartitionId,
    tenant: TenantId,
    prefix: Bytes,
}

impl TenantKeys {
    /// Keys of `tenant`, whose partition is `partition`.
    pub fn new(partition: PartitionId, tenant: &TenantId) -> Self {
        let mut prefix = partition_prefix(partition);
        prefix.push(b't');
        prefix.extend_from_slice(tenant.as_str().as_bytes());
        prefix.push(0);
        Self { partition, tenant: tenant.clone(), prefix: prefix.into() }
    }

    /// Partition that the tenant belongs to.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Tenant whose keys these are.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Key of the tenant's head.
    pub fn head(&self) -> Vec<u8> {
        self.key(b'h', &[])
    }

    /// Key of an event's row.
    pub fn event(&self, id: EventId) -> Vec<u8> {
        self.key(b'e', &id.to_bytes())
    }

    /// Key of a chunk of a large payload.
    pub fn chunk(&self, id: EventId, number: u16) -> Vec<u8> {
        let mut key = self.key(b'b', &id.to_bytes());
        key.extend_from_slice(&number.to_be_bytes());
        key
    }

    /// Range of a payload's chunks.
    pub fn chunks(&self, id: EventId) -> KeyRange {
        KeyRange::prefix(self.key(b'b', &id.to_bytes()))
    }

    /// Key of an event's queue row: its position among the events of its status.
    pub fn queue(&self, status: EventStatus, id: EventId) -> Vec<u8> {
        let mut key = self.key(b'q', &[status_byte(status)]);
        key.extend_from_slice(&id.to_bytes());
        key
    }

    /// Range of the queue rows with ids greater than `after` and less than `until`, if given.
    pub fn queue_range(
        &self,
        status: EventStatus,
        after: EventId,
        until: Option<EventId>,
    ) -> KeyRange {
        let mut begin = self.queue(status, after);
        begin.push(0);
        let end = match until {
            Some(until) => self.queue(status, until).into(),
            None => KeyRange::prefix(self.key(b'q', &[status_byte(status)])).end,
        };
        KeyRange::new(begin, end)
    }

    /// Key of the record of an idempotency key, by the day of its event.
    pub fn idempotency(&self, day: u32, hash: [u8; 16]) -> Vec<u8> {
        self.key(b'i', &[&day.to_be_bytes()[..], &hash].concat())
    }

    /// Range of the idempotency records of days before this one.
    pub fn idempotency_before(&self, day: u32) -> KeyRange {
        self.days_before(b'i', day)
    }

    /// Range of the tombstones of days before this one.
    pub fn tombstones_before(&self, day: u32) -> KeyRange {
        self.days_before(b'g', day)
    }

    fn days_before(&self, table: u8, day: u32) -> KeyRange {
        KeyRange::new(self.key(table, &[]), self.key(table, &day.to_be_bytes()))
    }

    /// Key of the count of events in a status.
    pub fn counter(&self, status: EventStatus) -> Vec<u8> {
        self.key(b'c', &[status_byte(status)])
    }

    /// Key of the tombstone of an event that was deleted on this day.
    pub fn tombstone(&self, day: u32, id: EventId) -> Vec<u8> {
        self.key(b'g', &[&day.to_be_bytes()[..], &id.to_bytes()].concat())
    }

    /// Key of an event's delivery.
    pub fn delivery(&self, id: EventId) -> Vec<u8> {
        self.key(b'v', &id.to_bytes())
    }

    /// Key of an event's older attempts by one consumer: a subscription, or those that pull.
    pub fn older_attempts(&self, id: EventId, consumer: Option<SubscriptionId>) -> Vec<u8> {
        let consumer = consumer.map_or([0; 16], SubscriptionId::to_bytes);
        self.key(b'y', &[id.to_bytes(), consumer].concat())
    }

    /// Range of an event's older attempts.
    pub fn all_older_attempts(&self, id: EventId) -> KeyRange {
        KeyRange::prefix(self.key(b'y', &id.to_bytes()))
    }

    /// Key of a lease row.
    pub fn lease_row(&self, number: u8) -> Vec<u8> {
        self.key(b'k', &[number])
    }

    /// Range of all lease rows.
    pub fn lease_rows(&self) -> KeyRange {
        KeyRange::prefix(self.key(b'k', &[]))
    }

    /// Key of the version of the lease rows.
    pub fn lease_rows_version(&self) -> Vec<u8> {
        self.key(b'n', &[])
    }

    /// Key of the events of a lease that are not in lease rows.
    pub fn lease_members(&self, lease: LeaseId) -> Vec<u8> {
        self.key(b'm', &lease)
    }

    /// Key of the end of a lease with members in the index of leases by end.
    pub fn members_end(&self, at: Timestamp, lease: LeaseId) -> Vec<u8> {
        self.lease_end(at, EventId::from_bytes(lease))
    }

    /// Key of an event's lease in the index of leases by end.
    pub fn lease_end(&self, at: Timestamp, id: EventId) -> Vec<u8> {
        self.key(b'r', &[&micros(at)[..], &id.to_bytes()].concat())
    }

    /// Range of the index of leases by end, the earliest first.
    pub fn lease_ends(&self) -> KeyRange {
        KeyRange::prefix(self.key(b'r', &[]))
    }

    /// Key of a consumer's retry in the index by due time.
    pub fn waiting(&self, due: Timestamp, id: EventId) -> Vec<u8> {
        self.key(b'w', &[&micros(due)[..], &id.to_bytes()].concat())
    }

    /// Range of the consumers' retries after `after` that are due at `now`.
    pub fn waiting_until(&self, after: (Timestamp, EventId), now: Timestamp) -> KeyRange {
        let mut begin = self.waiting(after.0, after.1);
        begin.push(0);
        KeyRange::new(begin, self.key(b'w', &micros(now.plus(Duration::from_micros(1)))))
    }

    /// Key of a subscription's row.
    pub fn subscription(&self, id: SubscriptionId) -> Vec<u8> {
        self.key(b's', &id.to_bytes())
    }

    /// Range of all subscriptions, oldest first.
    pub fn subscriptions(&self) -> KeyRange {
        KeyRange::prefix(self.key(b's', &[]))
    }

    /// Key of a webhook in its subscription's index by due time.
    pub fn push_due(&self, subscription: SubscriptionId, due: Timestamp, id: EventId) -> Vec<u8> {
        self.key(b'd', &[&subscription.to_bytes()[..], &micros(due), &id.to_bytes()].concat())
    }

    /// Range of a subscription's unfinished webhooks, earliest first.
    pub fn pushes(&self, subscription: SubscriptionId) -> KeyRange {
        KeyRange::prefix(self.key(b'd', &subscription.to_bytes()))
    }

    /// Key of an attempt in the list of its subscription.
    pub fn logged_attempt(
        &self,
        subscription: SubscriptionId,
        began: Timestamp,
        id: EventId,
    ) -> Vec<u8> {
        self.key(b'x', &[&subscription.to_bytes()[..], &micros(began), &id.to_bytes()].concat())
    }

    /// Range of a subscription's attempts, oldest first.
    pub fn logged_attempts(&self, subscription: SubscriptionId) -> KeyRange {
        KeyRange::prefix(self.key(b'x', &subscription.to_bytes()))
    }

    /// Key of an audit entry; `number` grows with each entry.
    pub fn audit(&self, at: Timestamp, number: u64) -> Vec<u8> {
        self.key(b'u', &[micros(at), number.to_be_bytes()].concat())
    }

    /// Range of the audit, oldest first.
    pub fn audits(&self) -> KeyRange {
        KeyRange::prefix(self.key(b'u', &[]))
    }

    /// Key of the events that the last batch leased.
    pub fn recent_leases(&self) -> Vec<u8> {
        self.key(b'l', &[])
    }

    fn key(&self, table: u8, rest: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix.len() + 1 + rest.len() + 16);
        key.extend_from_slice(&self.prefix);
        key.push(table);
        key.extend_from_slice(rest);
        key
    }
}

/// Number of days from 1970 to a time.
pub fn day(time: Timestamp) -> u32 {
    u32::try_from(time.as_seconds().div_euclid(86_400)).unwrap_or(0)
}

/// Range of all tenant data of a partition after the tenant `after`.
pub fn tenants_of(partition: PartitionId, after: Option<&TenantId>) -> KeyRange {
    let mut prefix = partition_prefix(partition);
    prefix.push(b't');
    let all = KeyRange::prefix(prefix.clone());
    match after {
        // A zero byte ends the id in each key of that tenant, so this sorts after all of them.
        Some(last) => {
            KeyRange::new([&prefix[..], last.as_str().as_bytes(), &[1]].concat(), all.end)
        }
        None => all,
    }
}

/// Tenant in a key of [`tenants_of`].
pub fn tenant_of_key(key: &[u8]) -> Option<TenantId> {
    let text = key.get(4..)?.split(|byte| *byte == 0).next()?;
    TenantId::parse(std::str::from_utf8(text).ok()?).ok()
}

/// Time in the key of a lease, a consumer's retry, a webhook or an attempt.
pub fn time_of_due_key(key: &[u8]) -> Option<Timestamp> {
    let start = key.len().checked_sub(24)?;
    let micros = u64::from_be_bytes(key[start..start + 8].try_into().ok()?);
    Some(Timestamp::from_micros(i64::try_from(micros).ok()?))
}

/// Time in the key of an audit entry.
pub fn time_of_audit(key: &[u8]) -> Option<Timestamp> {
    let (_, time) = key.get(..key.len().checked_sub(8)?)?.split_last_chunk()?;
    Some(Timestamp::from_micros(i64::try_from(u64::from_be_bytes(*time)).ok()?))
}

/// Number in the key of an audit entry.
pub fn number_of_audit(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|number| u64::from_be_bytes(*number))
}

/// Event id at the end of a key.
pub fn id_of_key(key: &[u8]) -> Option<EventId> {
    let id = key.len().checked_sub(16).map(|start| &key[start..])?;
    Some(EventId::from_bytes(id.try_into().ok()?))
}

#[cfg(test)]
mod tests;
