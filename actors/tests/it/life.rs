//! Inboxes and nodes over time: idle stop and reload, bounds, restarts, lost ownership, rejection.

use crate::fixture::{self, PARTITIONS, event, in_seconds, list_all, start, store, tenant};
use crate::receivers::Receivers;
use std::sync::Arc;
use std::time::Duration;
use triggers_actors::{BrokerError, BrokerOptions, Node, NodeArguments, StartError};
use triggers_protocol::{EventId, EventStatus, PartitionId, TenantId};
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::kv::{Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::fence;
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::operations::{Append, DeleteEvent, Rejection};
use triggers_store::tables::rows::{Head, Row};

fn engine() -> SimulatedEngine {
    SimulatedEngine::new(SimulatedOptions {
        latency_us_min: 100,
        latency_us_max: 500,
        ..SimulatedOptions::new(1)
    })
}

async fn append(
    router: &triggers_actors::Router,
    tenant: &TenantId,
) -> Result<EventId, BrokerError> {
    let results =
        router.append(tenant, fixture::append(vec![event("{}", None)]), in_seconds(5)).await?;
    Ok(results[0].as_ref().expect("one event without a key is not rejected by itself").event.id)
}

/// Writes a tenant's head without its inbox.
async fn set_head(store: &Store, tenant: &TenantId, last_id: EventId) {
    let keys = TenantKeys::new(PartitionId::of(tenant, PARTITIONS), tenant);
    let (key, value) = (keys.head(), Head { last_id, ..Head::NEW }.to_bytes());
    let written: Result<(), TableError> = store
        .run(Run::idempotent(in_seconds(5)), |tx| {
            tx.set(&key, &value);
            Box::pin(std::future::ready(Ok(())))
        })
        .await;
    written.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_inbox_is_closed_and_continues_after_it_opens_again() {
    let (engine, tenant) = (engine(), tenant("acme"));
    let store = store(&engine, 1);
    let node = start(&store, BrokerOptions::default(), "n@1").await;
    let first = append(&node.router(), &tenant).await.unwrap();
    let statistics = node.router().statistics(&tenant, in_seconds(5)).await.unwrap();
    assert!(statistics.ingested_per_second > 0.0);
    tokio::time::sleep(Duration::from_secs(200)).await;
    let statistics = node.router().statistics(&tenant, in_seconds(5)).await.unwrap();
    assert_eq!(statistics.ingested_per_second, 0.0, "the inbox and its rates are gone");
    assert_eq!(statistics.counts.get(EventStatus::Received), 1);
    let second = append(&node.router(), &tenant).await.unwrap();
    assert!(second > first);
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_inbox_makes_room() {
    let engine = engine();
    let store = store(&engine, 2);
    let options = BrokerOptions { inboxes_max: 1, ..BrokerOptions::default() };
    let node = start(&store, options, "n@1").await;
    for round in 0..2 {
        for number in 0..60 {
            let tenant = tenant(&format!("tenant-{number}"));
            append(&node.router(), &tenant).await.unwrap();
            let (events, total) = list_all(&node.router(), &tenant, EventStatus::Received).await;
            assert_eq!((events.len(), total), (round + 1, round as i64 + 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_inbox_is_rebuilt_from_the_store_but_not_for_ever() {
    let (engine, tenant, other) = (engine(), tenant("acme"), tenant("other"));
    let store = store(&engine, 3);
    let node =
        start(&store, BrokerOptions { restarts_max: 2, ..BrokerOptions::default() }, "n@1").await;
    for _ in 0..3 {
        append(&node.router(), &tenant).await.unwrap();
        // An inbox must not continue from a head below the ids that it has minted.
        set_head(&store, &tenant, EventId::ZERO).await;
        assert_eq!(append(&node.router(), &tenant).await, Err(BrokerError::Unknown));
    }
    assert_eq!(append(&node.router(), &tenant).await, Err(BrokerError::NodeBusy));
    append(&node.router(), &other).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    append(&node.router(), &tenant).await.unwrap();
    let (events, total) = list_all(&node.router(), &tenant, EventStatus::Received).await;
    assert_eq!((events.len(), total), (4, 4));
    assert!(events.is_sorted_by_key(|event| event.id));
}

#[tokio::test(start_paused = true)]
async fn a_deposed_owner_neither_writes_nor_reads() {
    let (engine, tenant) = (engine(), tenant("acme"));
    let store = store(&engine, 4);
    let old = start(&store, BrokerOptions::default(), "old@1").await;
    let id = append(&old.router(), &tenant).await.unwrap();
    let new = start(&store, BrokerOptions::default(), "new@1").await;
    assert_eq!(append(&old.router(), &tenant).await, Err(BrokerError::NotOwner));
    assert_eq!(old.router().find(&tenant, id, in_seconds(5)).await, Err(BrokerError::NotOwner));
    assert!(append(&new.router(), &tenant).await.unwrap() > id);
    assert!(matches!(new.router().find(&tenant, id, in_seconds(5)).await, Ok(Ok(_))));
    let (new_epochs, old_epochs) = (new.watch().served(), old.watch().served());
    assert!(new_epochs.iter().all(|(partition, epoch)| old_epochs[partition] < *epoch));
}

#[tokio::test(start_paused = true)]
async fn an_incarnation_keeps_its_epoch_and_another_gets_the_next() {
    let engine = engine();
    let store = store(&engine, 5);
    let take = async |incarnation: &str| {
        let guards = store
            .run(Run::idempotent(in_seconds(5)), |tx| {
                Box::pin(fence::take(tx, &[PartitionId(3)], incarnation))
            })
            .await
            .unwrap();
        guards[0].fence.epoch
    };
    assert_eq!((take("a").await, take("a").await, take("b").await, take("a").await), (1, 1, 2, 3));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_partitions_never_changes() {
    let engine = engine();
    let store = store(&engine, 6);
    start(&store, BrokerOptions::default(), "n@1").await.stop().await;
    let arguments = NodeArguments {
        store,
        sender: Arc::new(Receivers::default()),
        options: BrokerOptions::default(),
        incarnation: "n@2".into(),
    };
    let rejected = Node::start(arguments, PARTITIONS * 2).await;
    assert!(matches!(rejected.err(), Some(StartError::Partitions { configured: 8, stored: 4 })));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_with_too_many_requests_is_rejected_and_others_are_not() {
    let (engine, busy, calm) = (engine(), tenant("busy"), tenant("calm"));
    engine.set_options(SimulatedOptions {
        latency_us_min: 50_000,
        latency_us_max: 50_000,
        ..SimulatedOptions::new(7)
    });
    let store = store(&engine, 7);
    let node =
        start(&store, BrokerOptions { tenant_requests_max: 10, ..BrokerOptions::default() }, "n@1")
            .await;
    let mut calls = Vec::new();
    for _ in 0..30 {
        let (router, busy) = (node.router(), busy.clone());
        calls.push(tokio::spawn(async move { append(&router, &busy).await }));
    }
    let mut rejected = 0;
    append(&node.router(), &calm).await.unwrap();
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => {}
            Err(BrokerError::TenantBusy) => rejected += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(rejected, 20);
    append(&node.router(), &busy).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_large_request_is_split_and_keeps_its_order() {
    let (engine, tenant) = (engine(), tenant("acme"));
    let store = store(&engine, 8);
    let node =
        start(&store, BrokerOptions { batch_events_max: 10, ..BrokerOptions::default() }, "n@1")
            .await;
    let events = (0..95).map(|n| event(&format!("{{\"n\":{n}}}"), None)).collect();
    let results =
        node.router().append(&tenant, fixture::append(events), in_seconds(30)).await.unwrap();
    let ids: Vec<EventId> =
        results.iter().map(|result| result.as_ref().unwrap().event.id).collect();
    assert!(ids.len() == 95 && ids.is_sorted());
    let acknowledged = node.router().acknowledge_all(&tenant, &ids, in_seconds(30)).await.unwrap();
    assert!(acknowledged.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn the_quota_ends_when_events_are_acknowledged() {
    let (engine, tenant) = (engine(), tenant("acme"));
    let store = store(&engine, 9);
    let node = start(&store, BrokerOptions::default(), "n@1").await;
    let append = async |n: usize| {
        let events = vec![event("{}", None); n];
        let append = Append { events, waiting_events_max: Some(3) };
        node.router().append(&tenant, append, in_seconds(5)).await.unwrap()
    };
    let results = append(5).await;
    assert_eq!(
        results.iter().filter(|result| matches!(result, Err(Rejection::QuotaExceeded))).count(),
        2
    );
    let id = results[0].as_ref().unwrap().event.id;
    node.router().acknowledge_all(&tenant, &[id], in_seconds(5)).await.unwrap();
    assert!(append(1).await[0].is_ok());
    assert_eq!(append(1).await[0], Err(Rejection::QuotaExceeded));
}

#[tokio::test(start_paused = true)]
async fn the_quota_holds_after_an_idle_stop_and_repeated_requests_are_still_answered() {
    let (engine, tenant) = (engine(), tenant("acme"));
    let store = store(&engine, 11);
    let node = start(&store, BrokerOptions::default(), "n@1").await;
    let append = async |key: Option<&str>| {
        let events = vec![event("{}", key)];
        let append = Append { events, waiting_events_max: Some(1) };
        node.router().append(&tenant, append, in_seconds(5)).await.unwrap().remove(0)
    };
    let first = append(Some("key")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(append(None).await, Err(Rejection::QuotaExceeded));
    assert_eq!(append(Some("other")).await, Err(Rejection::QuotaExceeded));
    let again = append(Some("key")).await.unwrap();
    assert!(again.replayed && again.event.id == first.event.id);
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_can_be_used_again_after_its_retention() {
    let (engine, tenant) = (engine(), tenant("acme"));
    let store = store(&engine, 10);
    let node = start(&store, BrokerOptions::default(), "n@1").await;
    let append = async |payload: &str, digest: u8| {
        let mut event = event(payload, Some("key"));
        event.idempotency.as_mut().unwrap().request_digest = [digest; 32];
        node.router()
            .append(&tenant, fixture::append(vec![event]), in_seconds(5))
            .await
            .unwrap()
            .remove(0)
    };
    let first = append("{\"n\":1}", 1).await.unwrap();
    let replayed = append("{\"n\":1}", 1).await.unwrap();
    assert!(replayed.replayed && replayed.event == first.event);
    assert_eq!(append("{\"n\":2}", 2).await, Err(Rejection::KeyReused));
    let delete = DeleteEvent { id: first.event.id };
    node.router().execute(&tenant, delete, in_seconds(5)).await.unwrap().unwrap();
    let after_deletion = append("{\"n\":1}", 1).await.unwrap();
    assert!(after_deletion.replayed && after_deletion.event == first.event);
    tokio::time::sleep(Duration::from_secs(86_401)).await;
    let fresh = append("{\"n\":2}", 2).await.unwrap();
    assert!(!fresh.replayed && fresh.event.id > first.event.id);
}
