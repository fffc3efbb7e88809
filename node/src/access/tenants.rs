//! Making, reading, listing and changing tenants.
//!
//! Invariants: `TENANTS-1` every transaction can run again after an unknown outcome and gives the same answer;
//! `TENANTS-2` an answered change of tier or settings is in effect for the tenant's next request on this node.
//! Erasing a tenant is not here: that takes its events along and is the broker's.

use super::Access;
use std::sync::Arc;
use tokio::time::Instant;
use triggers_protocol::TenantId;
use triggers_store::kv::{Run, Transaction};
use triggers_store::tables::TableError;
use triggers_store::tables::access::{self, Created};
use triggers_store::tables::rows::TenantRow;

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

    /// A tenant.
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

    /// Up to `limit` tenants behind `after`, in the order of their ids, and whether there are more.
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

    /// Applies `change` to a tenant's row and gives the row as it is then; none if there is no such tenant.
    /// `change` may be applied to several readings of the row, so it must set fields rather than add to them.
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
