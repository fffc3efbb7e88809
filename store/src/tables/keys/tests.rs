//! Tests of the keys: their order, their ranges and their length.

use super::*;
use proptest::prelude::*;

fn tenant_id() -> impl Strategy<Value = TenantId> {
    "[a-z0-9][a-z0-9_-]{0,62}".prop_map(|text| TenantId::parse(&text).unwrap())
}

proptest! {
    #[test]
    fn a_tenants_range_has_no_key_of_another(a in tenant_id(), b in tenant_id(), id: [u8; 16]) {
        prop_assume!(a != b);
        let (a, b) = (TenantKeys::new(PartitionId(1), &a), TenantKeys::new(PartitionId(1), &b));
        let all_of_a = KeyRange::prefix(a.prefix.clone());
        let (id, status) = (EventId::from_bytes(id), EventStatus::Failed);
        let (tombstone, chunk) = (b.tombstone(7, id), b.chunk(id, 7));
        for key in [b.head(), b.event(id), b.queue(status, id), tombstone, chunk] {
            prop_assert!(!all_of_a.contains(&key));
        }
        prop_assert!(all_of_a.contains(&a.event(id)));
    }

    #[test]
    fn queue_rows_sort_by_id(one: [u8; 16], two: [u8; 16], tenant in tenant_id()) {
        let keys = TenantKeys::new(PartitionId(0), &tenant);
        let (one, two) = (EventId::from_bytes(one), EventId::from_bytes(two));
        let [first, second] = [one, two].map(|id| keys.queue(EventStatus::Received, id));
        prop_assert_eq!(first.cmp(&second), one.cmp(&two));
        prop_assert_eq!(id_of_key(&first), Some(one));
        let after = keys.queue_range(EventStatus::Received, one, None);
        prop_assert_eq!(after.contains(&second), two > one);
        let until = keys.queue_range(EventStatus::Received, EventId::ZERO, Some(two));
        prop_assert_eq!(until.contains(&first), one > EventId::ZERO && one < two);
    }
}

#[test]
fn the_longest_key_is_within_the_limit() {
    let keys = TenantKeys::new(PartitionId(u16::MAX), &TenantId::parse(&"a".repeat(63)).unwrap());
    let subscription = SubscriptionId::from_bytes([255; 16]);
    let due = keys.push_due(subscription, Timestamp::from_micros(i64::MAX), EventId::ZERO);
    assert!(due.len() <= crate::kv::limits::KEY_BYTES_MAX);
}

proptest! {
    #[test]
    fn webhooks_sort_by_due_time(
        sub: [u8; 16], one in 0i64..1 << 50, two in 0i64..1 << 50, id: [u8; 16],
    ) {
        let keys = TenantKeys::new(PartitionId(0), &TenantId::parse("acme").unwrap());
        let (sub, id) = (SubscriptionId::from_bytes(sub), EventId::from_bytes(id));
        let [one, two] = [one, two].map(Timestamp::from_micros);
        let key = keys.push_due(sub, one, id);
        prop_assert_eq!((time_of_due_key(&key), id_of_key(&key)), (Some(one), Some(id)));
        prop_assert_eq!(keys.push_due(sub, two, id) >= key, two >= one);
        prop_assert!(keys.pushes(sub).contains(&key));
    }

    #[test]
    fn reading_the_tenants_of_a_partition_gives_each_once(
        mut names in prop::collection::btree_set("[a-z0-9][a-z0-9_-]{0,8}", 1..8),
    ) {
        let keys = names.iter().flat_map(|name| {
            let keys = TenantKeys::new(PartitionId(3), &TenantId::parse(name).unwrap());
            [keys.head(), keys.event(EventId::ZERO), keys.counter(EventStatus::Failed)]
        });
        let stored: std::collections::BTreeSet<Vec<u8>> = keys.collect();
        let mut after: Option<TenantId> = None;
        loop {
            let range = tenants_of(PartitionId(3), after.as_ref());
            let Some(key) = stored.iter().find(|key| range.contains(key)) else { break };
            let tenant = tenant_of_key(key).unwrap();
            prop_assert!(names.remove(tenant.as_str()), "{} is read twice", tenant);
            after = Some(tenant);
        }
        prop_assert!(names.is_empty(), "{:?} are not read", names);
    }
}

#[test]
fn idempotency_records_are_removed_by_day() {
    let keys = TenantKeys::new(PartitionId(0), &TenantId::parse("acme").unwrap());
    let range = keys.idempotency_before(20_000);
    assert!(range.contains(&keys.idempotency(19_999, [255; 16])));
    assert!(!range.contains(&keys.idempotency(20_000, [0; 16])));
    let days = [86_399_999, 86_400_000].map(|millis| day(Timestamp::from_millis(millis)));
    assert_eq!(days, [0, 1]);
}
