//! Tests of the first keys on an in-memory store: what a restart creates, keeps and does not
//! restore.

use super::*;
use std::sync::Arc;
use triggers_protocol::Environment;
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};

fn store() -> Store {
    Store::new(Arc::new(SimulatedEngine::new(SimulatedOptions::new(1))), Environment::system())
}

fn live_key(store: &Store) -> ApiKey {
    ApiKey::generate(KeyKind::Live, store.environment())
}

async fn works(store: &Store, key: &ApiKey) -> bool {
    is_usable(store, key).await.unwrap()
}

async fn revoke(store: &Store, key: &ApiKey) {
    let hash = key.hash();
    let found = store.run(run(), |tx| Box::pin(access::find(tx, hash))).await.unwrap().unwrap();
    let row = &found.key;
    let revoked = store.run(run(), |tx| {
        Box::pin(async move {
            access::delete_key(tx, row);
            Ok::<_, TableError>(())
        })
    });
    revoked.await.unwrap();
}

fn dev_file((api_key, admin_key): &(ApiKey, ApiKey)) -> DevFile {
    DevFile {
        url: String::new(),
        admin_url: String::new(),
        tenant_id: DEV_TENANT.to_owned(),
        api_key: api_key.reveal().to_owned(),
        admin_key: admin_key.reveal().to_owned(),
    }
}

#[tokio::test]
async fn a_node_without_an_admin_key_does_not_start() {
    let store = store();
    assert!(matches!(admin_key(&store, None).await, Err(StartError::NoAdminKey)));
    let first = live_key(&store);
    admin_key(&store, Some(first.clone())).await.unwrap();
    assert!(works(&store, &first).await);
    admin_key(&store, None).await.unwrap();
    admin_key(&store, Some(first.clone())).await.unwrap();
    assert!(works(&store, &first).await, "FIRST-1");
}

#[tokio::test]
async fn a_revoked_first_key_stays_revoked_while_another_admin_key_works() {
    let store = store();
    let (first, second) = (live_key(&store), live_key(&store));
    admin_key(&store, Some(first.clone())).await.unwrap();
    ensure_key(&store, &tenant(SYSTEM_TENANT), &second, "second", admin_scope()).await.unwrap();
    revoke(&store, &first).await;
    admin_key(&store, Some(first.clone())).await.unwrap();
    assert!(!works(&store, &first).await, "FIRST-3");
    assert!(works(&store, &second).await);
    revoke(&store, &second).await;
    admin_key(&store, Some(second.clone())).await.unwrap();
    assert!(works(&store, &second).await, "without any admin key nobody could use the node");
}

#[tokio::test]
async fn dev_keeps_working_keys_and_replaces_others() {
    let store = store();
    let first = dev_keys(&store, None).await.unwrap();
    let again = dev_keys(&store, Some(&dev_file(&first))).await.unwrap();
    assert_eq!(
        (again.0.reveal(), again.1.reveal()),
        (first.0.reveal(), first.1.reveal()),
        "FIRST-1"
    );
    revoke(&store, &first.0).await;
    let later = dev_keys(&store, Some(&dev_file(&first))).await.unwrap();
    assert_ne!(later.0.reveal(), first.0.reveal());
    assert_eq!(later.1.reveal(), first.1.reveal());
    assert!(works(&store, &later.0).await && !works(&store, &first.0).await, "FIRST-3");
}
