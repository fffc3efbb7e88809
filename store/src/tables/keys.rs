//! Every key of the store. No other file builds one.
//!
//! ```text
//! sys/partitions          number of partitions, fixed when the store is created
//! sys/cursor              secret that signs cursors
//! n/ <incarnation>        node of the cluster                     rows::NodeRow
//! map/ <p:2>              routing mirror of the fence, never trusted for safety   rows::Fence
//! p <p:2> o               fence of partition p                    rows::Fence
//! p <p:2> a <second:8> <T>  wake-up pointer: the tenant has a deadline then   nothing
//! p <p:2> t <T> 0 …       everything of tenant T
//!     h                   head                                    rows::Head
//!     e <id:16>           envelope with the state at first, payload ≤ 8 KiB   rows::EventRow
//!     b <id:16> <n:2>     payload chunk n                         raw bytes
//!     q <status:1> <id>   inbox order by status                   event type, raw
//!     i <day:4> <hash:16> idempotency, by the day of its event    rows::Idempotency
//!     c <status:1>        events in that status                   little-endian i64
//!     g <day:4> <id:16>   tombstone, by the day of the deletion   rows::Tombstone
//!     v <id:16>           state since something became of it, lease or wait, attempts   rows::Delivery
//!     r <micros:8> <id>   leases by the time they run out         nothing
//!     w <micros:8> <id>   events that wait for their next attempt, by when it is due   nothing
//!     l                   what the leases of the last batch took  rows::RecentLeases
//!     s <sub:16>          subscription                            rows::SubscriptionRow
//!     d <sub> <micros:8> <id>  webhooks by when they are due, or are looked after if nothing is heard   nothing
//!     x <sub> <micros:8> <id>  attempts of a subscription, by when they began   rows::LoggedAttempt
//!     u <micros:8> <n:8>  audit                                   rows::AuditRow
//! key/ <hash:32>          API key                                 rows::KeyRow
//! kid/ <key id:16>        where a key's row is                    key hash, raw
//! tk/ <T> 0 <key id:16>   keys of a tenant                        key hash, raw
//! ten/ <T>                tenant                                  rows::TenantRow
//! ```
//! Invariants: `KEYS-1` numbers are big-endian, so keys order as they do; `KEYS-2` a tenant id has no zero byte, so no
//! tenant's prefix is part of another's; `KEYS-3` what is kept for a number of days is keyed by the day first, so that what
//! is older can be removed without an index by time.

use crate::kv::KeyRange;
use bytes::Bytes;
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{
    EventId, EventStatus, KeyHash, PartitionId, SubscriptionId, TenantId, Timestamp,
};

/// The number of partitions.
pub const PARTITIONS: &[u8] = b"sys/partitions";
/// The secret that signs cursors.
pub const CURSOR_SECRET: &[u8] = b"sys/cursor";

/// The fence of a partition.
pub fn fence(partition: PartitionId) -> Vec<u8> {
    let mut key = partition_prefix(partition);
    key.push(b'o');
    key
}

/// The mirror of a partition's fence, beside all others.
pub fn route(partition: PartitionId) -> Vec<u8> {
    [b"map/", &partition.0.to_be_bytes()[..]].concat()
}

/// All mirrors.
pub fn routes() -> KeyRange {
    KeyRange::prefix(&b"map/"[..])
}

/// The partition of a mirror.
pub fn parse_route(key: &[u8]) -> Option<PartitionId> {
    let number = key.strip_prefix(b"map/")?.try_into().ok()?;
    Some(PartitionId(u16::from_be_bytes(number)))
}

/// The row of a node of the cluster.
pub fn node(incarnation: &str) -> Vec<u8> {
    [b"n/", incarnation.as_bytes()].concat()
}

/// The rows of all nodes.
pub fn nodes() -> KeyRange {
    KeyRange::prefix(&b"n/"[..])
}

/// The incarnation in the key of a node's row.
pub fn parse_node(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(b"n/")?).ok()
}

/// The row of an API key.
pub fn api_key(hash: KeyHash) -> Vec<u8> {
    [b"key/", &hash.0[..]].concat()
}

/// Where the row of a key with this id is.
pub fn api_key_by_id(id: [u8; 16]) -> Vec<u8> {
    [b"kid/", &id[..]].concat()
}

/// One key of a tenant.
pub fn tenant_api_key(tenant: &TenantId, id: [u8; 16]) -> Vec<u8> {
    [b"tk/", tenant.as_str().as_bytes(), &[0], &id[..]].concat()
}

/// All keys of a tenant.
pub fn tenant_api_keys(tenant: &TenantId) -> KeyRange {
    let end: &[u8] = if is_planted(Bug::WrongTenantPage) { &[] } else { &[0] };
    KeyRange::prefix([b"tk/", tenant.as_str().as_bytes(), end].concat())
}

/// The row of a tenant.
pub fn tenant(tenant: &TenantId) -> Vec<u8> {
    [b"ten/", tenant.as_str().as_bytes()].concat()
}

/// All tenants whose id is greater than `after`, or all.
pub fn tenants_after(after: Option<&TenantId>) -> KeyRange {
    let all = KeyRange::prefix(&b"ten/"[..]);
    match after {
        Some(last) => KeyRange::new([&tenant(last)[..], &[0]].concat(), all.end),
        None => all,
    }
}

/// The wake-up pointer of a tenant.
pub fn wake(partition: PartitionId, second: u64, tenant: &TenantId) -> Vec<u8> {
    let mut key = partition_prefix(partition);
    key.push(b'a');
    key.extend_from_slice(&second.to_be_bytes());
    key.extend_from_slice(tenant.as_str().as_bytes());
    key
}

/// All wake-up pointers of a partition, the earliest first.
pub fn wakes(partition: PartitionId) -> KeyRange {
    let mut prefix = partition_prefix(partition);
    prefix.push(b'a');
    KeyRange::prefix(prefix)
}

/// The second and the tenant of a wake-up pointer.
pub fn parse_wake(key: &[u8]) -> Option<(u64, TenantId)> {
    let rest = key.get(4..)?;
    let (second, tenant) = rest.split_at_checked(8)?;
    let tenant = TenantId::parse(std::str::from_utf8(tenant).ok()?).ok()?;
    Some((u64::from_be_bytes(second.try_into().ok()?), tenant))
}

/// A time as eight bytes that order as it does; times before 1970 count as 1970.
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
    /// The keys of `tenant`, which lives in `partition`.
    pub fn new(partition: PartitionId, tenant: &TenantId) -> Self {
        let mut prefix = partition_prefix(partition);
        prefix.push(b't');
        prefix.extend_from_slice(tenant.as_str().as_bytes());
        prefix.push(0);
        Self { partition, tenant: tenant.clone(), prefix: prefix.into() }
    }

    /// The partition that holds the tenant.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The head.
    pub fn head(&self) -> Vec<u8> {
        self.key(b'h', &[])
    }

    /// An event's row.
    pub fn event(&self, id: EventId) -> Vec<u8> {
        self.key(b'e', &id.to_bytes())
    }

    /// A chunk of a large payload.
    pub fn chunk(&self, id: EventId, number: u16) -> Vec<u8> {
        let mut key = self.key(b'b', &id.to_bytes());
        key.extend_from_slice(&number.to_be_bytes());
        key
    }

    /// All chunks of a payload.
    pub fn chunks(&self, id: EventId) -> KeyRange {
        KeyRange::prefix(self.key(b'b', &id.to_bytes()))
    }

    /// An event's place in the order of its status.
    pub fn queue(&self, status: EventStatus, id: EventId) -> Vec<u8> {
        let mut key = self.key(b'q', &[status_byte(status)]);
        key.extend_from_slice(&id.to_bytes());
        key
    }

    /// The places of events behind `after` (not included) that were minted before `until` (not included; none: no end).
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

    /// The record of an idempotency key whose event is of this day.
    pub fn idempotency(&self, day: u32, hash: [u8; 16]) -> Vec<u8> {
        self.key(b'i', &[&day.to_be_bytes()[..], &hash].concat())
    }

    /// All records of days before this one.
    pub fn idempotency_before(&self, day: u32) -> KeyRange {
        self.days_before(b'i', day)
    }

    /// What is left of events that were deleted on days before this one.
    pub fn tombstones_before(&self, day: u32) -> KeyRange {
        self.days_before(b'g', day)
    }

    fn days_before(&self, table: u8, day: u32) -> KeyRange {
        KeyRange::new(self.key(table, &[]), self.key(table, &day.to_be_bytes()))
    }

    /// The count of events in a status.
    pub fn counter(&self, status: EventStatus) -> Vec<u8> {
        self.key(b'c', &[status_byte(status)])
    }

    /// What is left of an event that was deleted on this day.
    pub fn tombstone(&self, day: u32, id: EventId) -> Vec<u8> {
        self.key(b'g', &[&day.to_be_bytes()[..], &id.to_bytes()].concat())
    }

    /// The delivery of an event.
    pub fn delivery(&self, id: EventId) -> Vec<u8> {
        self.key(b'v', &id.to_bytes())
    }

    /// The end of a lease.
    pub fn lease_end(&self, at: Timestamp, id: EventId) -> Vec<u8> {
        self.key(b'r', &[&micros(at)[..], &id.to_bytes()].concat())
    }

    /// The ends of all leases, the earliest first.
    pub fn lease_ends(&self) -> KeyRange {
        KeyRange::prefix(self.key(b'r', &[]))
    }

    /// The place of an event that waits for its next attempt.
    pub fn waiting(&self, due: Timestamp, id: EventId) -> Vec<u8> {
        self.key(b'w', &[&micros(due)[..], &id.to_bytes()].concat())
    }

    /// Events whose next attempt is due at `now` or was before.
    pub fn waiting_until(&self, now: Timestamp) -> KeyRange {
        let end = self.key(b'w', &micros(now.plus(Duration::from_micros(1))));
        KeyRange::new(self.key(b'w', &[]), end)
    }

    /// A subscription.
    pub fn subscription(&self, id: SubscriptionId) -> Vec<u8> {
        self.key(b's', &id.to_bytes())
    }

    /// All subscriptions, oldest first.
    pub fn subscriptions(&self) -> KeyRange {
        KeyRange::prefix(self.key(b's', &[]))
    }

    /// A webhook's place in the order of its subscription.
    pub fn push_due(&self, subscription: SubscriptionId, due: Timestamp, id: EventId) -> Vec<u8> {
        self.key(b'd', &[&subscription.to_bytes()[..], &micros(due), &id.to_bytes()].concat())
    }

    /// Everything that waits for a subscription, the earliest first.
    pub fn pushes(&self, subscription: SubscriptionId) -> KeyRange {
        KeyRange::prefix(self.key(b'd', &subscription.to_bytes()))
    }

    /// What is due for a subscription at `now` or was before.
    pub fn pushes_until(&self, subscription: SubscriptionId, now: Timestamp) -> KeyRange {
        let end =
            [&subscription.to_bytes()[..], &micros(now.plus(Duration::from_micros(1)))].concat();
        KeyRange::new(self.key(b'd', &subscription.to_bytes()), self.key(b'd', &end))
    }

    /// An attempt in the list of its subscription.
    pub fn logged_attempt(
        &self,
        subscription: SubscriptionId,
        began: Timestamp,
        id: EventId,
    ) -> Vec<u8> {
        self.key(b'x', &[&subscription.to_bytes()[..], &micros(began), &id.to_bytes()].concat())
    }

    /// The attempts of a subscription, oldest first.
    pub fn logged_attempts(&self, subscription: SubscriptionId) -> KeyRange {
        KeyRange::prefix(self.key(b'x', &subscription.to_bytes()))
    }

    /// An entry of the audit; `number` grows from one to the next.
    pub fn audit(&self, at: Timestamp, number: u64) -> Vec<u8> {
        self.key(b'u', &[micros(at), number.to_be_bytes()].concat())
    }

    /// The whole audit, oldest first.
    pub fn audits(&self) -> KeyRange {
        KeyRange::prefix(self.key(b'u', &[]))
    }

    /// What the leases of the last batch took.
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

/// The day of a time, counted from 1970.
pub fn day(time: Timestamp) -> u32 {
    u32::try_from(time.as_seconds().div_euclid(86_400)).unwrap_or(0)
}

/// The heads of a partition's tenants behind `after`, among other keys: whoever reads one goes on behind its tenant.
pub fn tenants_of(partition: PartitionId, after: Option<&TenantId>) -> KeyRange {
    let mut prefix = partition_prefix(partition);
    prefix.push(b't');
    let all = KeyRange::prefix(prefix.clone());
    match after {
        // The zero byte ends an id, so that this is behind everything of that tenant.
        Some(last) => {
            KeyRange::new([&prefix[..], last.as_str().as_bytes(), &[1]].concat(), all.end)
        }
        None => all,
    }
}

/// The tenant that a key of [`tenants_of`] belongs to.
pub fn tenant_of_key(key: &[u8]) -> Option<TenantId> {
    let text = key.get(4..)?.split(|byte| *byte == 0).next()?;
    TenantId::parse(std::str::from_utf8(text).ok()?).ok()
}

/// The time in the key of a lease's end, of a waiting event, of a webhook or of an attempt.
pub fn time_of_due_key(key: &[u8]) -> Option<Timestamp> {
    let start = key.len().checked_sub(24)?;
    let micros = u64::from_be_bytes(key[start..start + 8].try_into().ok()?);
    Some(Timestamp::from_micros(i64::try_from(micros).ok()?))
}

/// The time of an audit entry's key.
pub fn time_of_audit(key: &[u8]) -> Option<Timestamp> {
    let (_, time) = key.get(..key.len().checked_sub(8)?)?.split_last_chunk()?;
    Some(Timestamp::from_micros(i64::try_from(u64::from_be_bytes(*time)).ok()?))
}

/// The number of an audit entry's key.
pub fn number_of_audit(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|number| u64::from_be_bytes(*number))
}

/// The event id at the end of a key of the inbox order, of a lease's end or of a waiting event.
pub fn id_of_key(key: &[u8]) -> Option<EventId> {
    let id = key.len().checked_sub(16).map(|start| &key[start..])?;
    Some(EventId::from_bytes(id.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tenant_id() -> impl Strategy<Value = TenantId> {
        "[a-z0-9][a-z0-9_-]{0,62}".prop_map(|text| TenantId::parse(&text).unwrap())
    }

    proptest! {
        #[test]
        fn tenants_never_reach_into_each_other(a in tenant_id(), b in tenant_id(), bytes: [u8; 16]) {
            prop_assume!(a != b);
            let (a, b) = (TenantKeys::new(PartitionId(1), &a), TenantKeys::new(PartitionId(1), &b));
            let everything = KeyRange::prefix(a.prefix.clone());
            let id = EventId::from_bytes(bytes);
            for key in [b.head(), b.event(id), b.queue(EventStatus::Failed, id), b.tombstone(7, id), b.chunk(id, 7)] {
                prop_assert!(!everything.contains(&key));
            }
            prop_assert!(everything.contains(&a.event(id)));
        }

        #[test]
        fn queue_order_is_id_order(one: [u8; 16], two: [u8; 16], tenant in tenant_id()) {
            let keys = TenantKeys::new(PartitionId(0), &tenant);
            let (one, two) = (EventId::from_bytes(one), EventId::from_bytes(two));
            let (first, second) = (keys.queue(EventStatus::Received, one), keys.queue(EventStatus::Received, two));
            prop_assert_eq!(first.cmp(&second), one.cmp(&two));
            prop_assert_eq!(id_of_key(&first), Some(one));
            let behind = keys.queue_range(EventStatus::Received, one, None);
            prop_assert_eq!(behind.contains(&second), two > one);
            let until = keys.queue_range(EventStatus::Received, EventId::ZERO, Some(two));
            prop_assert_eq!(until.contains(&first), one > EventId::ZERO && one < two);
        }
    }

    #[test]
    fn the_longest_key_is_within_every_engines_limit() {
        let keys =
            TenantKeys::new(PartitionId(u16::MAX), &TenantId::parse(&"a".repeat(63)).unwrap());
        let subscription = SubscriptionId::from_bytes([255; 16]);
        let due = keys.push_due(subscription, Timestamp::from_micros(i64::MAX), EventId::ZERO);
        assert!(due.len() <= crate::kv::limits::KEY_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn webhooks_order_by_their_due_time(sub: [u8; 16], one in 0i64..1 << 50, two in 0i64..1 << 50, id: [u8; 16]) {
            let keys = TenantKeys::new(PartitionId(0), &TenantId::parse("acme").unwrap());
            let (sub, id) = (SubscriptionId::from_bytes(sub), EventId::from_bytes(id));
            let [one, two] = [one, two].map(Timestamp::from_micros);
            let key = keys.push_due(sub, one, id);
            prop_assert_eq!((time_of_due_key(&key), id_of_key(&key)), (Some(one), Some(id)));
            prop_assert_eq!(keys.pushes_until(sub, two).contains(&key), one <= two);
            prop_assert!(keys.pushes(sub).contains(&key));
        }

        #[test]
        fn a_walk_over_tenants_meets_each_once(mut names in prop::collection::btree_set("[a-z0-9][a-z0-9_-]{0,8}", 1..8)) {
            let all: Vec<TenantId> = names.iter().map(|name| TenantId::parse(name).unwrap()).collect();
            let keys = all.iter().flat_map(|tenant| {
                let keys = TenantKeys::new(PartitionId(3), tenant);
                [keys.head(), keys.event(EventId::ZERO), keys.counter(EventStatus::Failed)]
            });
            let stored: std::collections::BTreeSet<Vec<u8>> = keys.collect();
            let mut after: Option<TenantId> = None;
            loop {
                let range = tenants_of(PartitionId(3), after.as_ref());
                let Some(key) = stored.iter().find(|key| range.contains(key)) else { break };
                let tenant = tenant_of_key(key).unwrap();
                prop_assert!(names.remove(tenant.as_str()), "{} came twice", tenant);
                after = Some(tenant);
            }
            prop_assert!(names.is_empty(), "{:?} never came", names);
        }
    }

    #[test]
    fn days_are_removed_up_to_one() {
        let keys = TenantKeys::new(PartitionId(0), &TenantId::parse("acme").unwrap());
        let range = keys.idempotency_before(20_000);
        assert!(
            range.contains(&keys.idempotency(19_999, [255; 16]))
                && !range.contains(&keys.idempotency(20_000, [0; 16]))
        );
        assert_eq!(
            (day(Timestamp::from_millis(86_399_999)), day(Timestamp::from_millis(86_400_000))),
            (0, 1)
        );
    }
}
