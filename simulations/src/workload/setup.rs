//! Writes the tenants and their API keys before the first node starts, with the product's own
//! operations.

use crate::plan::{OperationKind, Plan};
use crate::world::node;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::Instant;
use triggers_protocol::api_key::KeyKind;
use triggers_protocol::{ApiKey, Environment, EventId, RetryPolicy, Scope, Scopes, TenantId};
use triggers_store::kv::simulated::{SimulatedEngine, Stream};
use triggers_store::kv::{Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::access;
use triggers_store::tables::rows::{KeyRow, TenantRow};

/// Tenants written in one transaction.
const TENANTS_PER_TRANSACTION: usize = 200;
const REVOCATION: OperationKind = OperationKind::RevokeKey {};
const RATE_LIMIT_PER_MINUTE: u32 = 10_000_000;
/// Seconds between the attempts to send a webhook.
pub const RETRY_DELAYS_SECONDS: [u32; 3] = [1, 1, 2];

/// A tenant and its API keys, as its clients know them.
#[derive(Debug, Clone)]
pub struct SimulatedTenant {
    pub key: String,
    /// Second API key, if the plan revokes one.
    pub second: Option<SecondKey>,
}

#[derive(Debug, Clone)]
pub struct SecondKey {
    pub key: String,
    pub id: String,
}

/// Writes the tenants of a plan.
pub fn tenants(plan: &Plan, engine: &SimulatedEngine) -> Result<Vec<SimulatedTenant>, String> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let environment =
        node::environment(Duration::ZERO, Arc::default(), 1, Stream::new(plan.seed, 301));
    let store = Store::new(Arc::new(engine.named("setup")), environment);
    runtime.block_on(write(plan, &store)).map_err(|error| error.to_string())
}

async fn write(plan: &Plan, store: &Store) -> Result<Vec<SimulatedTenant>, TableError> {
    let has_second = plan.operations.iter().any(|operation| operation.kind == REVOCATION);
    let has_expiry = plan.has_expiry();
    let mut tenants = Vec::with_capacity(plan.tenants);
    let numbers: Vec<usize> = (0..plan.tenants).collect();
    for chunk in numbers.chunks(TENANTS_PER_TRANSACTION) {
        let mut rows = Vec::new();
        for number in chunk {
            let id =
                TenantId::parse(&format!("t-{number}")).expect("t-<number> is a valid tenant id");
            let (key, first) = key(&id, store.environment());
            let mut keys = vec![first];
            let second = has_second.then(|| {
                let (key, row) = self::key(&id, store.environment());
                let id = EventId::from_bytes(row.id).to_string();
                keys.push(row);
                SecondKey { key, id }
            });
            rows.push((tenant(&id, plan, has_expiry, store.environment()), keys));
            tenants.push(SimulatedTenant { key, second });
        }
        let run = Run::idempotent(Instant::now() + Duration::from_secs(60));
        let rows = &rows;
        store
            .run(run, |tx| {
                Box::pin(async move {
                    for (tenant, keys) in rows {
                        access::put_tenant(tx, tenant);
                        for key in keys {
                            access::create_key(tx, key).await?;
                        }
                    }
                    Ok::<_, TableError>(())
                })
            })
            .await?;
    }
    Ok(tenants)
}

fn tenant(id: &TenantId, plan: &Plan, has_expiry: bool, environment: &Environment) -> TenantRow {
    let now = environment.now();
    TenantRow {
        id: id.clone(),
        name: id.to_string(),
        tier: None,
        retention_days: if has_expiry { 1 } else { 30 },
        max_inbox_events: plan.quota,
        retry_policy: Some(RetryPolicy::Delays { delays_seconds: RETRY_DELAYS_SECONDS.to_vec() }),
        flags: Default::default(),
        created_at: now,
        updated_at: now,
    }
}

fn key(tenant: &TenantId, environment: &Environment) -> (String, KeyRow) {
    let key = ApiKey::generate(KeyKind::Test, environment);
    let now = environment.now();
    use Scope::{EventsWrite, InboxAck, InboxRead, KeysManage, SubscriptionsManage};
    let scopes: Scopes =
        [EventsWrite, InboxRead, InboxAck, SubscriptionsManage, KeysManage].into_iter().collect();
    let row = KeyRow {
        id: EventId::mint(EventId::ZERO, now, environment.bytes()).to_bytes(),
        hash: key.hash(),
        tenant: tenant.clone(),
        name: "simulated".to_owned(),
        kind: key.kind(),
        hint: key.hint(),
        scopes,
        rate_limit_per_minute: Some(RATE_LIMIT_PER_MINUTE),
        created_at: now,
        expires_at: None,
        replaced_at: None,
    };
    (key.reveal().to_owned(), row)
}
