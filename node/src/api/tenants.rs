//! Tenants, for admins: create, list, read, change.
//!
//! - `TENANTS-EDGE-1`: a change sets the settings that it names and no others.
//! - `TENANTS-EDGE-2`: creating a tenant under an id that exists is a conflict, never a change.
//!
//! Creating a tenant creates no key.

pub(super) mod request;
#[cfg(test)]
mod tests;

use super::{cursor, read};
use crate::access::Created;
use crate::api::prelude::*;
use triggers_actors::model::rows::TenantRow;
use triggers_protocol::api::{NewTenant, Tenant, TenantList, TenantPatch};
use triggers_protocol::{ErrorCode, TenantId};

/// Approximate bytes of one tenant's JSON.
const TENANT_BYTES: usize = 512;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(create_tenant, list_tenants))
        .routes(routes!(get_tenant, update_tenant))
}

fn tenant_json(row: &TenantRow) -> Tenant {
    Tenant {
        id: row.id.clone(),
        name: row.name.clone(),
        tier: row.tier,
        retention_days: row.retention_days,
        max_inbox_events: row.max_inbox_events,
        retry_policy: row.retry_policy.clone(),
        flags: row.flags.clone(),
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

/// Make a tenant
#[utoipa::path(
    post, path = "/v1/tenants", tag = "tenants", operation_id = "createTenant",
    request_body(content = NewTenant, content_type = "application/json"),
    responses(
        (status = 201, description = "The tenant", body = Tenant),
        (status = 409, description = "There is a tenant with that id"),
    ),
    security(("api_key" = ["admin"]), ("bearer" = ["admin"])),
)]
async fn create_tenant(
    State(edge): State<EdgeState>,
    _: Authorized<Admin>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = JsonBody::read(request, &edge).await?;
    let tenant = request::new_tenant(body.required())?;
    let row = request::row(tenant, &edge.environment);
    match edge.access.create_tenant(row.clone(), edge.deadline()).await? {
        Created::Yes => respond(StatusCode::CREATED, &tenant_json(&row), TENANT_BYTES),
        Created::Exists => Err(ApiError::new(
            ErrorCode::Conflict,
            format!("there is a tenant with the id {}", row.id),
        )),
        Created::NoTenant | Created::TooMany => {
            Err(ApiError::internal("a new tenant was rejected like a new key"))
        }
    }
}

/// List the tenants
#[utoipa::path(
    get, path = "/v1/tenants", tag = "tenants", operation_id = "listTenants",
    params(
        ("limit" = Option<u32>, Query, description = "Tenants of the page; 50 if absent",
         minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "Where to begin, from the page before"),
    ),
    responses((status = 200, description = "The page", body = TenantList)),
    security(("api_key" = ["admin"]), ("bearer" = ["admin"])),
)]
async fn list_tenants(
    State(edge): State<EdgeState>,
    _: Authorized<Admin>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let [limit, cursor] = query::parameters(query.as_deref(), ["limit", "cursor"]);
    let mut faults = Faults::default();
    let limit = read::page_limit(&limit, &edge.options.limits, &mut faults);
    let cursor = query::once("cursor", &cursor, &mut faults);
    faults.check()?;
    let after = cursor.map(|text| cursor::open_tenant(&edge.cursor_secret, text)).transpose()?;
    let (rows, has_more) = edge.access.list_tenants(after.as_ref(), limit, edge.deadline()).await?;
    let last = rows.last().filter(|_| has_more);
    let cursor = last.map(|row| cursor::seal_tenant(&edge.cursor_secret, &row.id));
    let tenants = rows.iter().map(tenant_json).collect();
    let list = TenantList { tenants, cursor, has_more };
    respond(StatusCode::OK, &list, TENANT_BYTES * rows.len() + 128)
}

/// The tenant that a query names: the caller's own if it names none. Only an admin can name
/// another.
///
/// # Errors
/// 404 if there is no such tenant or the caller cannot name it.
pub(super) async fn visible(
    edge: &Edge,
    caller: &Caller,
    named: Option<&str>,
) -> Result<TenantId, ApiError> {
    let Some(named) = named else { return Ok(caller.tenant.clone()) };
    let tenant = TenantId::parse(named).map_err(|_| not_found())?;
    let is_visible = tenant == caller.tenant
        || caller.is_admin() && edge.access.get_tenant(&tenant, edge.deadline()).await?.is_some();
    if is_visible { Ok(tenant) } else { Err(not_found()) }
}

/// The tenant id in a path; 404 if it is malformed.
fn tenant_id(PathId(text): &PathId) -> Result<TenantId, ApiError> {
    TenantId::parse(text).map_err(|_| not_found())
}

fn not_found() -> ApiError {
    ApiError::not_found("tenant")
}

/// Read a tenant
#[utoipa::path(
    get, path = "/v1/tenants/{id}", tag = "tenants", operation_id = "getTenant",
    params(("id" = String, Path, description = "The tenant's id")),
    responses((status = 200, description = "The tenant", body = Tenant)),
    security(("api_key" = ["admin"]), ("bearer" = ["admin"])),
)]
async fn get_tenant(
    State(edge): State<EdgeState>,
    _: Authorized<Admin>,
    id: PathId,
) -> Result<Response, ApiError> {
    let row =
        edge.access.get_tenant(&tenant_id(&id)?, edge.deadline()).await?.ok_or_else(not_found)?;
    respond(StatusCode::OK, &tenant_json(&row), TENANT_BYTES)
}

/// Change a tenant
///
/// Members that are absent stay as they are; `null` sets one back to its default.
#[utoipa::path(
    patch, path = "/v1/tenants/{id}", tag = "tenants", operation_id = "updateTenant",
    params(("id" = String, Path, description = "The tenant's id")),
    request_body(content = TenantPatch, content_type = "application/json"),
    responses((status = 200, description = "The tenant as it is now", body = Tenant)),
    security(("api_key" = ["admin"]), ("bearer" = ["admin"])),
)]
async fn update_tenant(
    State(edge): State<EdgeState>,
    _: Authorized<Admin>,
    id: PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let id = tenant_id(&id)?;
    let body = JsonBody::read(request, &edge).await?;
    let patch = request::tenant_patch(body.required())?;
    let now = edge.environment.now();
    let change = move |row: &mut TenantRow| {
        request::apply(&patch, row);
        row.updated_at = now;
    };
    let row =
        edge.access.update_tenant(&id, change, edge.deadline()).await?.ok_or_else(not_found)?;
    respond(StatusCode::OK, &tenant_json(&row), TENANT_BYTES)
}
