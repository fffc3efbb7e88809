//! Creates, reads, lists and changes tenants.
//!
//! - `TENANTS-1`: a transaction that runs again after an unknown outcome gives the same answer.
//! - `TENANTS-2`: an answered change is in effect for the next request of the tenant on this node.
//!
//! Erasing a tenant also erases its events, so it is not done here.

use super::Access;
use std::sync::Arc;
use tokio::time::Instant;
use triggers_actors::model::TableError;
use triggers_actors::model::access::{self, Created};
use triggers_actors::model::rows::TenantRow;
use triggers_protocol::TenantId;
use triggers_store::kv::{Run, Transaction};

impl Access {
    /// Stores a new tenant.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn create_tenant(
        &self,
        row: TenantRow,
        deadline: Instant,
    ) -> Result<Created, TableError> {
        let row = Arc::new(row);
        let create = self.0.store.run(Run::once(deadline), move |tx| {
            let row = row.clone();
            Box::pin(async move { access::create_tenant(tx, &row).await })
        });
        create.await
    }

    /// The tenant with this id.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn get_tenant(
        &self,
        id: &TenantId,
        deadline: Instant,
    ) -> Result<Option<TenantRow>, TableError> {
        let id = id.clone();
        let get = self.0.store.run(Run::idempotent(deadline), move |tx| {
            let id = id.clone();
            Box::pin(async move { access::get_tenant(tx, &id).await })
        });
        get.await
    }

    /// Up to `limit` tenants after `after` in the order of ids, and whether there are more.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn list_tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
        deadline: Instant,
    ) -> Result<(Vec<TenantRow>, bool), TableError> {
        let after = after.cloned();
        let list = self.0.store.run(Run::idempotent(deadline), move |tx| {
            let after = after.clone();
            Box::pin(async move { access::list_tenants(tx, after.as_ref(), limit).await })
        });
        list.await
    }

    /// Applies `change` to the row of a tenant and returns the new row; `None` if the tenant does
    /// not exist. `change` may run several times, so it must set fields rather than add to them.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn update_tenant<F>(
        &self,
        id: &TenantId,
        change: F,
        deadline: Instant,
    ) -> Result<Option<TenantRow>, TableError>
    where
        F: Fn(&mut TenantRow) + Send + Sync + 'static,
    {
        let (tenant, change) = (id.clone(), Arc::new(change));
        let update = self.0.store.run(Run::idempotent(deadline), move |tx| {
            let (tenant, change) = (tenant.clone(), change.clone());
            Box::pin(async move { update(tx, &tenant, &*change).await })
        });
        let row = update.await;
        self.forget_tenant(id);
        row
    }
}

async fn update<F: Fn(&mut TenantRow) + Send + Sync>(
    tx: &mut dyn Transaction,
    id: &TenantId,
    change: &F,
) -> Result<Option<TenantRow>, TableError> {
    let Some(mut row) = access::get_tenant(tx, id).await? else { return Ok(None) };
    change(&mut row);
    access::put_tenant(tx, &row);
    Ok(Some(row))
}
