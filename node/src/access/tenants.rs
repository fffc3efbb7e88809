//! Creates, reads, lists and changes tenants.
//!
//! - `TENANTS-1`: a transaction that runs again after an unknown outcome gives the same answer.
//! - `TENANTS-2`: an answered change is in effect for the next request of the tenant on this node.
//!
//! Erasing a tenant also erases its events, so it is not done here.

use super::Access;
use tokio::time::Instant;
use triggers_actors::model::TableError;
use triggers_actors::model::access::{self, Created};
use triggers_actors::model::rows::TenantRow;
use triggers_protocol::TenantId;
use triggers_store::kv::Run;

impl Access {
    /// Stores a new tenant.
    pub async fn create_tenant(
        &self,
        row: TenantRow,
        deadline: Instant,
    ) -> Result<Created, TableError> {
        self.store.run(Run::once(deadline), |tx| Box::pin(access::create_tenant(tx, &row))).await
    }

    /// The tenant with this id.
    pub async fn get_tenant(
        &self,
        id: &TenantId,
        deadline: Instant,
    ) -> Result<Option<TenantRow>, TableError> {
        self.store.run(Run::idempotent(deadline), |tx| Box::pin(access::get_tenant(tx, id))).await
    }

    /// Up to `limit` tenants after `after` in the order of ids, and whether there are more.
    pub async fn list_tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
        deadline: Instant,
    ) -> Result<(Vec<TenantRow>, bool), TableError> {
        let list = self
            .store
            .run(Run::idempotent(deadline), |tx| Box::pin(access::list_tenants(tx, after, limit)));
        list.await
    }

    /// Applies `change` to the row of a tenant and returns the new row; `None` if the tenant does
    /// not exist. `change` may run several times, so it must set fields rather than add to them.
    pub async fn update_tenant(
        &self,
        id: &TenantId,
        change: impl Fn(&mut TenantRow) + Send + Sync,
        deadline: Instant,
    ) -> Result<Option<TenantRow>, TableError> {
        let change = &change;
        let update = self.store.run(Run::idempotent(deadline), |tx| {
            Box::pin(async move {
                let mut row = access::get_tenant(tx, id).await?;
                if let Some(row) = &mut row {
                    change(row);
                    access::put_tenant(tx, row);
                }
                Ok(row)
            })
        });
        let row = update.await;
        self.forget_tenant(id);
        row
    }
}
