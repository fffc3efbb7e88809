//! The tenants and keys that exist before anybody can ask for them: those of `dev`, and the first admin key.
//!
//! Invariants: `FIRST-1` run again, nothing is made twice: a key that is stored stays as it is; `FIRST-2` a plain key is
//! written to one file only, which nobody but its owner can read.

use super::StartError;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;
use triggers_protocol::api_key::KeyKind;
use triggers_protocol::{ApiKey, Environment, EventId, Scope, Scopes, TenantId};
use triggers_store::kv::{Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::access::{self, Created};
use triggers_store::tables::rows::{KeyRow, TenantRow};

/// The tenant of `triggers dev`.
const DEV_TENANT: &str = "dev";
/// The tenant that the first admin key of a production node belongs to.
const SYSTEM_TENANT: &str = "system";
/// What the keys of `dev` may do a minute, so that nothing throttles a first try.
const DEV_RATE_LIMIT_PER_MINUTE: u32 = 10_000_000;
const RETENTION_DAYS: u16 = 30;
const TIMEOUT: Duration = Duration::from_secs(30);

/// What `dev.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DevFile {
    pub(super) url: String,
    pub(super) admin_url: String,
    pub(super) tenant_id: String,
    pub(super) api_key: String,
    pub(super) admin_key: String,
}

impl DevFile {
    /// Reads an earlier start's file; none if there is no usable one.
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Writes the file in one step, readable for its owner only.
    pub(super) fn write(&self, path: &Path) -> Result<(), StartError> {
        let failed = |source| StartError::File { path: path.to_owned(), source };
        let new = path.with_extension("json.new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)
    }
}

/// The keys of `dev`: those of the earlier start if they still work, new ones otherwise.
pub(super) async fn dev_keys(store: &Store, earlier: Option<&DevFile>) -> Result<(ApiKey, ApiKey), StartError> {
    let tenant = tenant(DEV_TENANT);
    ensure_tenant(store, &tenant, "Development").await?;
    let keep = |text: Option<&String>| text.and_then(|text| ApiKey::parse(text).ok());
    let environment = store.environment();
    let api_key =
        keep(earlier.map(|file| &file.api_key)).unwrap_or_else(|| ApiKey::generate(KeyKind::Test, environment));
    let admin_key =
        keep(earlier.map(|file| &file.admin_key)).unwrap_or_else(|| ApiKey::generate(KeyKind::Test, environment));
    ensure_key(store, &tenant, &api_key, "dev", Scopes::tenant_default()).await?;
    ensure_key(store, &tenant, &admin_key, "dev admin", admin_scope()).await?;
    Ok((api_key, admin_key))
}

/// The first admin key of a production node, from the environment or a file.
///
/// Without one the node starts only if an earlier start has stored one.
pub(super) async fn admin_key(store: &Store, given: Option<ApiKey>) -> Result<(), StartError> {
    let tenant = tenant(SYSTEM_TENANT);
    match given {
        Some(key) => {
            ensure_tenant(store, &tenant, "System").await?;
            ensure_key(store, &tenant, &key, "first admin key", admin_scope()).await?;
            Ok(())
        }
        None => {
            let keys = store.run(run(), |tx| Box::pin(access::list_keys(tx, &tenant))).await?;
            let now = store.environment().now();
            let usable = keys.iter().any(|key| key.scopes.allows(Scope::Admin) && !key.is_expired(now));
            if usable { Ok(()) } else { Err(StartError::NoAdminKey) }
        }
    }
}

/// Reads the admin key from `TRIGGERS_ADMIN_KEY`, or else from the file that the configuration names.
pub(super) fn read_admin_key(file: Option<&Path>) -> Result<Option<ApiKey>, StartError> {
    let (field, text) = match (std::env::var("TRIGGERS_ADMIN_KEY"), file) {
        (Ok(text), _) => ("TRIGGERS_ADMIN_KEY", text),
        (Err(_), Some(path)) => {
            let failed = |source| StartError::File { path: path.to_owned(), source };
            ("admin.key_file", std::fs::read_to_string(path).map_err(failed)?)
        }
        (Err(_), None) => return Ok(None),
    };
    let refused = |reason: triggers_protocol::Malformed| StartError::Option {
        field: field.to_owned(),
        reason: reason.to_string(),
    };
    ApiKey::parse(text.trim()).map(Some).map_err(refused)
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("the names above are valid tenant ids")
}

fn admin_scope() -> Scopes {
    [Scope::Admin].into_iter().collect()
}

fn run() -> Run {
    Run::idempotent(Instant::now() + TIMEOUT)
}

async fn ensure_tenant(store: &Store, id: &TenantId, name: &str) -> Result<(), TableError> {
    let now = store.environment().now();
    let row = TenantRow {
        id: id.clone(),
        name: name.to_owned(),
        tier: None,
        retention_days: RETENTION_DAYS,
        max_inbox_events: None,
        retry_policy: None,
        flags: Default::default(),
        created_at: now,
        updated_at: now,
    };
    // One that exists keeps its settings.
    store.run(run(), |tx| Box::pin(access::create_tenant(tx, &row))).await.map(drop)
}

async fn ensure_key(
    store: &Store,
    tenant: &TenantId,
    key: &ApiKey,
    name: &str,
    scopes: Scopes,
) -> Result<Created, TableError> {
    let environment: &Environment = store.environment();
    let now = environment.now();
    let row = KeyRow {
        id: EventId::mint(EventId::ZERO, now, environment.bytes()).to_bytes(),
        hash: key.hash(),
        tenant: tenant.clone(),
        name: name.to_owned(),
        kind: key.kind(),
        hint: key.hint(),
        scopes,
        rate_limit_per_minute: Some(DEV_RATE_LIMIT_PER_MINUTE),
        created_at: now,
        expires_at: None,
    };
    store.run(run(), |tx| Box::pin(access::create_key(tx, &row))).await
}
