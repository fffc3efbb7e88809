//! Tests of the key cache on an embedded store: what is cached, for how long, and what invalidates
//! it.
//!
//! The tests move the clock.

use super::*;
use std::sync::Mutex;
use triggers_actors::model::rows::{KeyRow, TenantRow, Tier};
use triggers_protocol::api_key::KeyKind;
use triggers_protocol::environment::{Clock, Random};
use triggers_protocol::{ApiKey, Environment, Scopes, Timestamp};
use triggers_store::kv::embedded::{EmbeddedEngine, EmbeddedOptions};

#[derive(Default)]
struct ManualClock(Mutex<Duration>);

impl ManualClock {
    fn advance_ms(&self, millis: u64) {
        *self.0.lock().unwrap() += Duration::from_millis(millis);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000).plus(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

/// Counts up, so that every key differs.
#[derive(Default)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let next = self.0.fetch_add(1, Ordering::Relaxed).to_le_bytes();
            chunk.copy_from_slice(&next[..chunk.len()]);
        }
    }
}

struct Directory {
    access: Access,
    environment: Environment,
    clock: Arc<ManualClock>,
    _files: tempfile::TempDir,
}

impl Directory {
    async fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let environment = Environment::new(clock.clone(), Arc::new(Counting::default()));
        let options = EmbeddedOptions {
            directory: files.path().to_owned(),
            map_bytes_max: 16 << 20,
            log_bytes_max: 384 << 20,
            commit_queue_max: 64,
            group_transactions_max: 64,
            group_bytes_max: 1 << 20,
            readers_max: 64,
        };
        let store =
            Store::new(Arc::new(EmbeddedEngine::open(&options).unwrap()), environment.clone());
        let access = Access::new(store, &LimitOptions::default());
        let directory = Self { access, environment, clock, _files: files };
        for id in ["one", "two"] {
            let made = directory.access.create_tenant(directory.tenant(id), deadline()).await;
            assert_eq!(made, Ok(Created::Yes));
        }
        directory
    }

    fn tenant(&self, id: &str) -> TenantRow {
        let now = self.environment.now();
        TenantRow {
            id: TenantId::parse(id).unwrap(),
            name: id.to_owned(),
            tier: None,
            retention_days: 30,
            max_inbox_events: None,
            retry_policy: None,
            flags: Default::default(),
            created_at: now,
            updated_at: now,
        }
    }

    fn key(&self, tenant: &str) -> KeyRow {
        let key = ApiKey::generate(KeyKind::Test, &self.environment);
        KeyRow {
            id: self.environment.bytes(),
            hash: key.hash(),
            tenant: TenantId::parse(tenant).unwrap(),
            name: "a key".to_owned(),
            kind: KeyKind::Test,
            hint: key.hint(),
            scopes: Scopes::tenant_default(),
            rate_limit_per_minute: None,
            created_at: self.environment.now(),
            expires_at: None,
            replaced_at: None,
        }
    }

    async fn stored(&self, tenant: &str) -> KeyRow {
        let row = self.key(tenant);
        assert_eq!(self.access.create_key(row.clone(), deadline()).await, Ok(Created::Yes));
        row
    }

    async fn is_known(&self, row: &KeyRow) -> bool {
        self.access.lookup(row.hash, deadline()).await.unwrap().is_some()
    }

    fn successor(&self) -> Successor {
        let KeyRow { id, hash, hint, created_at, .. } = self.key("one");
        Successor { id, hash, hint, created_at }
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test]
async fn a_change_through_this_node_is_in_effect_at_once() {
    let directory = Directory::new().await;
    let row = directory.key("one");
    assert!(!directory.is_known(&row).await);
    directory.access.create_key(row.clone(), deadline()).await.unwrap();
    assert!(directory.is_known(&row).await, "ACCESS-CACHE-2");
    assert!(directory.access.is_remembered(row.hash));
    let changed = directory
        .access
        .update_tenant(&row.tenant, |row| row.tier = Some(Tier::Beta), deadline())
        .await;
    assert_eq!(changed.unwrap().unwrap().tier, Some(Tier::Beta));
    let found = directory.access.lookup(row.hash, deadline()).await.unwrap().unwrap();
    assert_eq!(found.tenant.tier, Some(Tier::Beta), "ACCESS-CACHE-2");
    let revoked = directory.access.revoke_key(row.id, None, deadline()).await.unwrap();
    assert_eq!(revoked.unwrap().id, row.id);
    assert!(!directory.is_known(&row).await, "ACCESS-CACHE-2");
    assert_eq!(directory.access.revoke_key(row.id, None, deadline()).await, Ok(None));
}

#[tokio::test]
async fn a_repeated_revocation_does_not_take_the_revocation_of_another_request_for_its_own() {
    let directory = Directory::new().await;
    for is_own_committed in [true, false] {
        let row = directory.stored("one").await;
        let nonce = directory.environment.bytes();
        let revoke = keys::Revoke { id: row.id, tenant: None, nonce, seen: Default::default() };
        let attempt = async |is_committed: bool| {
            let result: Result<bool, TableError> = directory
                .access
                .store
                .run(Run::idempotent(deadline()), |tx| {
                    Box::pin(async {
                        let is_removed = revoke.run(tx).await?;
                        let abort = StoreError::fatal(Fault::DeadlinePassed, "not committed");
                        if is_committed { Ok(is_removed) } else { Err(abort.into()) }
                    })
                })
                .await;
            result
        };
        assert_eq!(attempt(is_own_committed).await.is_ok(), is_own_committed);
        let other = directory.access.revoke_key(row.id, None, deadline()).await.unwrap();
        assert_eq!(other.is_none(), is_own_committed);
        assert_eq!(attempt(true).await, Ok(is_own_committed), "ACCESS-4");
    }
}

#[tokio::test]
async fn a_change_elsewhere_is_in_effect_after_the_ttl() {
    let directory = Directory::new().await;
    let row = directory.stored("one").await;
    assert!(directory.is_known(&row).await);
    let other_node = Access::new(directory.access.store.clone(), &LimitOptions::default());
    other_node.revoke_key(row.id, None, deadline()).await.unwrap();
    directory.clock.advance_ms(999);
    assert!(directory.is_known(&row).await, "it is still cached");
    directory.clock.advance_ms(1);
    assert!(!directory.is_known(&row).await, "ACCESS-CACHE-1");
    other_node.create_key(row.clone(), deadline()).await.unwrap();
    assert!(!directory.is_known(&row).await, "unknown keys are cached as well");
    directory.clock.advance_ms(1_000);
    assert!(directory.is_known(&row).await, "ACCESS-CACHE-1");
}

#[tokio::test]
async fn the_key_of_another_tenant_is_not_found() {
    let directory = Directory::new().await;
    let row = directory.stored("one").await;
    let other = TenantId::parse("two").unwrap();
    assert_eq!(directory.access.revoke_key(row.id, Some(&other), deadline()).await, Ok(None));
    let rotated = directory
        .access
        .rotate_key(row.id, Some(&other), directory.successor(), Duration::ZERO, deadline())
        .await;
    assert_eq!(rotated, Ok(Rotation::NotFound));
    assert!(directory.is_known(&row).await);
}

#[tokio::test]
async fn a_rotated_key_works_for_its_grace() {
    let directory = Directory::new().await;
    let row = directory.stored("one").await;
    let successor = directory.successor();
    let grace = Duration::from_secs(60);
    let rotate = || directory.access.rotate_key(row.id, None, successor.clone(), grace, deadline());
    let Rotation::Rotated(new) = rotate().await.unwrap() else { panic!("the key is there") };
    assert_eq!((new.id, new.scopes, &new.name), (successor.id, row.scopes, &row.name));
    assert_eq!(rotate().await, Ok(Rotation::Rotated(new.clone())), "KEY-LOOKUP-1");
    let old = directory.access.get_key(row.id, deadline()).await.unwrap().unwrap();
    assert_eq!(old.ends_at(), Some(directory.environment.now().plus(grace)));
    assert_eq!(
        (old.expires_at, new.expires_at, new.ends_at()),
        (None, None, None),
        "the grace is not inherited"
    );
    let listed = directory.access.list_keys(&row.tenant, deadline()).await.unwrap();
    assert_eq!(listed.len(), 2);
    let next = directory.successor();
    directory.access.rotate_key(new.id, None, next, Duration::ZERO, deadline()).await.unwrap();
    assert!(!directory.is_known(&new).await, "without grace it stops at once");
}

#[tokio::test]
async fn a_successor_does_not_inherit_the_grace() {
    let directory = Directory::new().await;
    let wished = Some(directory.environment.now().plus(Duration::from_secs(3_600)));
    let row = KeyRow { expires_at: wished, ..directory.key("one") };
    directory.access.create_key(row.clone(), deadline()).await.unwrap();
    for grace_seconds in [60, 600] {
        let grace = Duration::from_secs(grace_seconds);
        let rotated = directory
            .access
            .rotate_key(row.id, None, directory.successor(), grace, deadline())
            .await;
        let Ok(Rotation::Rotated(new)) = rotated else { panic!("{rotated:?}") };
        assert_eq!((new.expires_at, new.ends_at()), (wished, wished));
        let old = directory.access.get_key(row.id, deadline()).await.unwrap().unwrap();
        let first_end = directory.environment.now().plus(Duration::from_secs(60));
        assert_eq!(old.ends_at(), Some(first_end), "a second grace does not extend the first");
    }
    directory.clock.advance_ms(60_000);
    let old = directory.access.get_key(row.id, deadline()).await.unwrap().unwrap();
    assert!(old.is_expired(directory.environment.now()));
}

#[tokio::test]
async fn expired_keys_make_room() {
    let directory = Directory::new().await;
    let expires_at = Some(directory.environment.now().plus(Duration::from_secs(1)));
    let expiring = KeyRow { expires_at, ..directory.key("one") };
    directory.access.create_key(expiring.clone(), deadline()).await.unwrap();
    for _ in 1..triggers_actors::model::access::KEYS_PER_TENANT_MAX {
        directory.stored("one").await;
    }
    assert_eq!(
        directory.access.create_key(directory.key("one"), deadline()).await,
        Ok(Created::TooMany)
    );
    directory.clock.advance_ms(1_000);
    directory.stored("one").await;
    assert_eq!(directory.access.get_key(expiring.id, deadline()).await, Ok(None), "KEY-LOOKUP-3");
}
