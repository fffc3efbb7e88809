//! Creates the tenants and keys that must exist before the API can be used: those of `triggers dev`
//! and the first admin key.
//!
//! - `FIRST-1`: running it again creates nothing twice; a stored key stays as it is.
//! - `FIRST-2`: a plain key is written to one file only, readable only by its owner.
//! - `FIRST-3`: a revoked or replaced key does not come back with a restart, unless no admin key of
//!   the system tenant would work without it.

use super::error::StartError;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::model::TableError;
use triggers_actors::model::access;
use triggers_actors::model::rows::{KeyRow, TenantRow};
use triggers_protocol::api_key::KeyKind;
use triggers_protocol::{ApiKey, EventId, Scope, Scopes, TenantId};
use triggers_store::kv::{Run, Store};

/// The tenant of `triggers dev`.
const DEV_TENANT: &str = "dev";
/// The tenant that the first admin key of a production node belongs to.
const SYSTEM_TENANT: &str = "system";
/// Rate limit of the first keys, high enough that nothing throttles a first try.
const RATE_LIMIT_PER_MINUTE: u32 = 10_000_000;
const RETENTION_DAYS: u16 = 30;
const TIMEOUT: Duration = Duration::from_secs(30);

/// The content of `dev.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DevFile {
    pub(super) url: String,
    pub(super) admin_url: String,
    pub(super) tenant_id: String,
    pub(super) api_key: String,
    pub(super) admin_key: String,
}

impl DevFile {
    /// Reads the file of an earlier start; `None` if it is missing or unusable.
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Writes the file atomically, readable by its owner only.
    pub(super) fn write(&self, path: &Path) -> Result<(), StartError> {
        let write = || -> io::Result<()> {
            let new = path.with_extension("json.new");
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            let text = serde_json::to_string_pretty(self)?;
            file.write_all(format!("{text}\n").as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, path)
        };
        write().map_err(|source| StartError::File { path: path.to_owned(), source })
    }
}

/// API key and admin key of `dev`: those of the earlier start if they still work, otherwise new
/// ones.
pub(super) async fn dev_keys(
    store: &Store,
    earlier: Option<&DevFile>,
) -> Result<(ApiKey, ApiKey), StartError> {
    let tenant = tenant(DEV_TENANT);
    ensure_tenant(store, &tenant, "Development").await?;
    let (api_key, admin_key) = earlier.map(|file| (&file.api_key, &file.admin_key)).unzip();
    let scopes = Scopes::tenant_default();
    let api_key = reuse_or_create(store, &tenant, api_key, "dev", scopes).await?;
    let admin_key = reuse_or_create(store, &tenant, admin_key, "dev admin", admin_scope()).await?;
    Ok((api_key, admin_key))
}

/// The key of an earlier start if it still works, otherwise a new one.
async fn reuse_or_create(
    store: &Store,
    tenant: &TenantId,
    earlier: Option<&String>,
    name: &str,
    scopes: Scopes,
) -> Result<ApiKey, StartError> {
    if let Some(key) = earlier.and_then(|text| ApiKey::parse(text).ok())
        && is_usable(store, &key).await?
    {
        return Ok(key);
    }
    let key = ApiKey::generate(KeyKind::Test, store.environment());
    ensure_key(store, tenant, &key, name, scopes).await?;
    Ok(key)
}

/// Whether a key is stored and has not expired.
async fn is_usable(store: &Store, key: &ApiKey) -> Result<bool, StartError> {
    let hash = key.hash();
    let found = store.run(run(), |tx| Box::pin(access::find(tx, hash))).await?;
    let now = store.environment().now();
    Ok(found.is_some_and(|found| !found.key.is_expired(now)))
}

/// Stores the first admin key of a production node, given by the environment or a file.
///
/// The key is stored only if the store has no usable admin key, so a revoked or replaced key does
/// not come back with a restart.
/// Errors: [`StartError::NoAdminKey`] if neither the caller nor the store has one.
pub(super) async fn admin_key(store: &Store, given: Option<ApiKey>) -> Result<(), StartError> {
    let tenant = tenant(SYSTEM_TENANT);
    let keys = store.run(run(), |tx| Box::pin(access::list_keys(tx, &tenant))).await?;
    let now = store.environment().now();
    let is_admin = |key: &KeyRow| key.scopes.allows(Scope::Admin) && !key.is_expired(now);
    match given {
        None if keys.iter().any(is_admin) => {}
        None => return Err(StartError::NoAdminKey),
        Some(key) if !keys.iter().any(is_admin) => {
            ensure_tenant(store, &tenant, "System").await?;
            ensure_key(store, &tenant, &key, "first admin key", admin_scope()).await?;
        }
        Some(key) => {
            if !is_usable(store, &key).await? {
                tracing::warn!(
                    "the given admin key does not work and is not stored again: another is in use"
                );
            }
        }
    }
    Ok(())
}

/// Reads the admin key from `TRIGGERS_ADMIN_KEY` or from the configured file.
pub(super) fn read_admin_key(file: Option<&Path>) -> Result<Option<ApiKey>, StartError> {
    let (field, text) = match (std::env::var("TRIGGERS_ADMIN_KEY"), file) {
        (Ok(text), _) => ("TRIGGERS_ADMIN_KEY", text),
        (Err(_), Some(path)) => {
            let failed = |source| StartError::File { path: path.to_owned(), source };
            ("admin.key_file", std::fs::read_to_string(path).map_err(failed)?)
        }
        (Err(_), None) => return Ok(None),
    };
    let key = ApiKey::parse(text.trim());
    key.map(Some).map_err(|error| StartError::Option { field, reason: error.to_string() })
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
    // An existing tenant keeps its settings.
    store.run(run(), |tx| Box::pin(access::create_tenant(tx, &row))).await.map(drop)
}

async fn ensure_key(
    store: &Store,
    tenant: &TenantId,
    key: &ApiKey,
    name: &str,
    scopes: Scopes,
) -> Result<(), TableError> {
    let environment = store.environment();
    let now = environment.now();
    let row = KeyRow {
        id: EventId::mint(EventId::ZERO, now, environment.bytes()).to_bytes(),
        hash: key.hash(),
        tenant: tenant.clone(),
        name: name.to_owned(),
        kind: key.kind(),
        hint: key.hint(),
        scopes,
        rate_limit_per_minute: Some(RATE_LIMIT_PER_MINUTE),
        created_at: now,
        expires_at: None,
        replaced_at: None,
    };
    store.run(run(), |tx| Box::pin(access::create_key(tx, &row))).await.map(drop)
}

#[cfg(test)]
mod tests;
