//! `GET /v1/audit`: who did what to a tenant's subscriptions, newest first.
//!
//! - `AUDIT-EDGE-1`: another tenant's audit is 404, except to an admin.
//! - `AUDIT-EDGE-2`: following the cursor neither skips nor repeats an entry.
//! - `AUDIT-EDGE-3`: `cursor` is null exactly when `has_more` is false.
//!
//! The tenant's inbox writes each entry in the transaction that makes the change.

use super::{cursor, read, tenants};
use crate::api::prelude::*;
use triggers_actors::model::rows::{Actor, AuditRow};
use triggers_protocol::api::{AuditActor, AuditEntry, AuditList};
use triggers_protocol::{EventId, Timestamp};

/// Approximate bytes of one entry's JSON.
const ENTRY_BYTES: usize = 384;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new().routes(routes!(list_audit))
}

fn entry(at: Timestamp, row: &AuditRow) -> AuditEntry {
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let actor = match &row.actor {
        Actor::Key(id) => AuditActor::Key { id: EventId::from_bytes(*id).to_string() },
        Actor::Broker => AuditActor::Broker,
    };
    AuditEntry {
        at,
        actor,
        action: row.action,
        target: row.target.clone(),
        detail: row.detail.clone(),
        source_ip: given(&row.source_ip),
        request_id: given(&row.request_id),
    }
}

/// List the audit
///
/// Who did what to the tenant's subscriptions. Entries are never changed.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit", operation_id = "listAudit",
    params(
        ("limit" = Option<u32>, Query, description = "Entries of the page; 50 if absent",
         minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "Where to begin, from the page before"),
        ("tenant_id" = Option<String>, Query, description = "Another tenant's audit, for an admin"),
    ),
    responses(
        (status = 200, description = "The page", body = AuditList),
        (status = 404, description = "There is no such tenant"),
    ),
    security(("api_key" = ["keys:manage"]), ("bearer" = ["keys:manage"])),
)]
async fn list_audit(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<KeysManage>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let [limit, cursor, tenant] =
        query::parameters(query.as_deref(), ["limit", "cursor", "tenant_id"]);
    let mut faults = Faults::default();
    let limit = read::page_limit(&limit, &edge.options.limits, &mut faults);
    let cursor = query::once("cursor", &cursor, &mut faults);
    let named = query::once("tenant_id", &tenant, &mut faults);
    faults.check()?;
    let tenant = tenants::visible(&edge, &caller, named).await?;
    let before =
        cursor.map(|text| cursor::open_audit(&edge.cursor_secret, &tenant, text)).transpose()?;
    let page = edge.router.audit(&tenant, before, limit, edge.deadline()).await?;
    let last = page.entries.last().filter(|_| page.has_more);
    let cursor = last
        .map(|(at, number, _)| cursor::seal_audit(&edge.cursor_secret, &tenant, (*at, *number)));
    let entries: Vec<_> = page.entries.iter().map(|(at, _, row)| entry(*at, row)).collect();
    let bytes_hint = ENTRY_BYTES * entries.len() + 128;
    respond(StatusCode::OK, &AuditList { entries, has_more: cursor.is_some(), cursor }, bytes_hint)
}

#[cfg(test)]
mod tests {
    use crate::api::openapi::tests::live::LiveEdge;
    use serde_json::{Value, json};
    use triggers_protocol::{Scope, Scopes};

    const PATH: &str = "/v1/subscriptions";

    /// Makes, changes, disables, rotates and removes a subscription. Returns its id and the id of
    /// the last request.
    async fn change_in_every_way(live: &LiveEdge, key: &str) -> (String, String) {
        let made =
            live.send("POST", PATH, key, r#"{"target_url":"http://127.0.0.1:9/"}"#).await.json;
        let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
        let mut last = String::new();
        for (method, path, body) in [
            ("PATCH", path.clone(), r#"{"description":"d","max_in_flight":1}"#),
            ("PATCH", path.clone(), r#"{"status":"disabled"}"#),
            ("POST", format!("{path}/rotate"), ""),
            ("DELETE", path.clone(), ""),
        ] {
            let answer = live.send(method, &path, key, body).await;
            assert!(answer.status.is_success(), "{method} {path}: {}", answer.json);
            last = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        }
        (made["id"].as_str().unwrap().to_owned(), last)
    }

    #[tokio::test]
    async fn the_audit_lists_who_did_what() {
        let live = LiveEdge::start().await;
        let key = live.key("acme", Scopes::tenant_default()).await;
        let key_id = live.send("GET", "/v1/keys", &key, "").await.json["keys"][0]["id"].clone();
        let (id, request_id) = change_in_every_way(&live, &key).await;
        let audit = live.send("GET", "/v1/audit", &key, "").await.json;
        let entries = audit["entries"].as_array().unwrap();
        let actions: Vec<_> =
            entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        let expected = ["deleted", "rotated", "disabled", "updated", "created"]
            .map(|what| format!("subscription.{what}"));
        assert_eq!(actions, expected, "{audit}");
        for entry in entries {
            assert_eq!(
                (&entry["actor"], &entry["target"]),
                (&json!({"kind": "key", "id": key_id}), &json!(id)),
                "{entry}"
            );
            assert_eq!(entry["source_ip"], "0.0.0.0", "{entry}");
        }
        assert_eq!(
            (&entries[0]["request_id"], &entries[3]["detail"]),
            (&json!(request_id), &json!("description, max_in_flight"))
        );
        assert_eq!(
            (&audit["cursor"], &audit["has_more"]),
            (&Value::Null, &json!(false)),
            "AUDIT-EDGE-3"
        );

        let (mut walked, mut query) = (Vec::new(), "limit=2".to_owned());
        loop {
            let page = live.send("GET", &format!("/v1/audit?{query}"), &key, "").await.json;
            walked.extend(page["entries"].as_array().unwrap().iter().cloned());
            let Some(cursor) = page["cursor"].as_str() else { break };
            query = format!("limit=2&cursor={cursor}");
        }
        assert_eq!(&walked, entries, "AUDIT-EDGE-2");
    }

    #[tokio::test]
    async fn another_tenants_audit_is_for_admins() {
        let live = LiveEdge::start().await;
        let key = live.key("acme", Scopes::tenant_default()).await;
        let admin = live.key("root", [Scope::Admin].into_iter().collect()).await;
        let foreign = live.key("other", Scopes::tenant_default()).await;
        let weak = live.key("acme", [Scope::SubscriptionsManage].into_iter().collect()).await;
        change_in_every_way(&live, &key).await;
        let own = live.send("GET", "/v1/audit?limit=1", &key, "").await.json;
        let path = "/v1/audit?limit=1&tenant_id=acme";
        assert_eq!(live.send("GET", path, &key, "").await.json["entries"], own["entries"]);
        assert_eq!(live.send("GET", path, &admin, "").await.json["entries"], own["entries"]);
        assert_eq!(live.send("GET", path, &foreign, "").await.status, 404, "AUDIT-EDGE-1");
        assert_eq!(live.send("GET", "/v1/audit?tenant_id=nobody", &admin, "").await.status, 404);
        assert_eq!(live.send("GET", "/v1/audit", &weak, "").await.status, 403);
        assert_eq!(
            live.send("GET", "/v1/audit", &foreign, "").await.json["entries"],
            json!([]),
            "AUDIT-EDGE-1"
        );
        let path = format!("/v1/audit?cursor={}", own["cursor"].as_str().unwrap());
        assert_eq!(
            live.send("GET", &path, &foreign, "").await.json["error"]["code"],
            "INVALID_CURSOR"
        );
        let faulty = live
            .send("GET", "/v1/audit?limit=0&cursor=a&cursor=b&tenant_id=a&tenant_id=b", &key, "")
            .await
            .json;
        let fields: Vec<_> = faulty["error"]["details"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| d["field"].clone())
            .collect();
        assert_eq!(fields, ["limit", "cursor", "tenant_id"]);
    }
}
