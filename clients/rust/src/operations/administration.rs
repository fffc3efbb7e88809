//! Operations on keys, tenants, the audit, statistics and health.

use std::fmt::Display;

use triggers_protocol::api::{
    AuditList, Health, Key, KeyList, KeyRotation, NewKey, NewTenant, Probe, Stats, Tenant,
    TenantList, TenantPatch,
};

use crate::call::Call;
use crate::client::Client;
use crate::error::ClientError;
use crate::reply::Reply;

/// Which page of a list to read. The default is the first page.
#[derive(Debug, Clone, Default)]
pub struct PageQuery {
    /// Entries on the page, 1 to 200.
    pub limit: Option<u32>,
    /// The cursor of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    pub(super) fn add_to(&self, call: Call) -> Call {
        call.query_optional("limit", self.limit).query_optional("cursor", self.cursor.as_deref())
    }
}

/// Which entries of the audit to read.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// The page of the list.
    pub page: PageQuery,
    /// The tenant; the key's own if absent. Another tenant needs an admin key.
    pub tenant_id: Option<String>,
}

impl Client {
    /// Lists the keys of a tenant, without their secrets. Another tenant than the key's own needs
    /// an admin key.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn list_keys(&self, tenant_id: Option<&str>) -> Result<Reply<KeyList>, ClientError> {
        self.send(Call::get(&["keys"]).query_optional("tenant_id", tenant_id)).await
    }

    /// Creates a key. The answer has the plain key, this once.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn create_key(&self, body: &NewKey) -> Result<Reply<Key>, ClientError> {
        self.send(Call::post(&["keys"]).json(body)?).await
    }

    /// Replaces a key by a new one. The old key works until the grace period ends.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn rotate_key(
        &self,
        id: impl Display,
        body: &KeyRotation,
    ) -> Result<Reply<Key>, ClientError> {
        self.send(Call::post(&["keys", &id.to_string(), "rotate"]).json(body)?).await
    }

    /// Revokes a key. Every node rejects it within a second.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn revoke_key(&self, id: impl Display) -> Result<Reply<()>, ClientError> {
        self.send(Call::delete(&["keys", &id.to_string()])).await
    }

    /// Lists the tenants. Needs an admin key.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn list_tenants(&self, query: &PageQuery) -> Result<Reply<TenantList>, ClientError> {
        self.send(query.add_to(Call::get(&["tenants"]))).await
    }

    /// Creates a tenant. Needs an admin key.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn create_tenant(&self, body: &NewTenant) -> Result<Reply<Tenant>, ClientError> {
        self.send(Call::post(&["tenants"]).json(body)?).await
    }

    /// Reads a tenant. Needs an admin key.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get_tenant(&self, id: impl Display) -> Result<Reply<Tenant>, ClientError> {
        self.send(Call::get(&["tenants", &id.to_string()])).await
    }

    /// Changes the settings of a tenant that `body` names. Needs an admin key.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn update_tenant(
        &self,
        id: impl Display,
        body: &TenantPatch,
    ) -> Result<Reply<Tenant>, ClientError> {
        self.send(Call::patch(&["tenants", &id.to_string()]).json(body)?).await
    }

    /// Lists the changes of a tenant's subscriptions, newest first.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn list_audit(&self, query: &AuditQuery) -> Result<Reply<AuditList>, ClientError> {
        let call = query.page.add_to(Call::get(&["audit"]));
        self.send(call.query_optional("tenant_id", query.tenant_id.as_deref())).await
    }

    /// Reads the tenant's counts and rates.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get_stats(&self) -> Result<Reply<Stats>, ClientError> {
        self.send(Call::get(&["stats"])).await
    }

    /// Reads the node's health. Needs no key.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get_health(&self) -> Result<Reply<Health>, ClientError> {
        self.send(Call::get(&["health"])).await
    }

    /// Asks whether the process answers. Needs no key.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get_livez(&self) -> Result<Reply<Probe>, ClientError> {
        self.send(Call::get_root("livez")).await
    }

    /// Asks whether the node is ready for traffic. Needs no key.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get_readyz(&self) -> Result<Reply<Probe>, ClientError> {
        self.send(Call::get_root("readyz")).await
    }
}
