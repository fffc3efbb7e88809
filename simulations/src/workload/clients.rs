//! Clients: they do what the plan says, with what they know by then.
//!
//! Invariants: `CLIENTS-1` every operation is remembered, whatever became of it; `CLIENTS-2` a client that gives up has sent
//! its request, or a part of it.

use super::history::{Asked, Entry, History};
use super::receivers;
use super::setup::Tenant;
use crate::plan::{Operation, OperationKind, Status};
use crate::trace::{Digest, Trace};
use crate::world::HostId;
use crate::world::http::{self, Answer};
use crate::world::network::{Network, address_of};
use crate::world::node;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A client waits for so long: longer than a node takes for the longest request.
const LIMIT: Duration = Duration::from_millis(5_500);
/// Pages of one walk at most.
const PAGES_MAX: usize = 200;
/// Between two tries of the last look.
const AGAIN: Duration = Duration::from_millis(100);

/// All clients; cheap to clone.
#[derive(Clone)]
pub struct Clients(Arc<Inner>);

struct Inner {
    network: Network,
    host: HostId,
    nodes: Vec<HostId>,
    tenants: Vec<Tenant>,
    history: History,
    trace: Trace,
    base: Instant,
}

impl Clients {
    /// Clients on a host; it is called in its runtime.
    pub fn new(
        (network, host): (Network, HostId),
        nodes: Vec<HostId>,
        tenants: Vec<Tenant>,
        history: History,
        trace: Trace,
    ) -> Self {
        Self(Arc::new(Inner {
            network,
            host,
            nodes,
            tenants,
            history,
            trace,
            base: Instant::now(),
        }))
    }

    /// The same clients, who know of these nodes.
    pub fn with_nodes(&self, nodes: Vec<HostId>) -> Self {
        let Inner { network, host, tenants, history, trace, base, .. } = &*self.0;
        let (network, tenants, history, trace) =
            (network.clone(), tenants.clone(), history.clone(), trace.clone());
        Self(Arc::new(Inner { network, host: *host, nodes, tenants, history, trace, base: *base }))
    }

    /// When the run began.
    pub fn base(&self) -> Instant {
        self.0.base
    }

    /// Subscribes a tenant's receiver.
    pub async fn subscribe(self, tenant: usize, receiver: usize) {
        let port = receivers::port(tenant, receiver);
        for (number, node) in (0..self.0.nodes.len()).cycle().take(40).enumerate() {
            // One that was given up may have been made all the same: its path tells its webhooks from those of the next.
            let body = json!({ "target_url": format!("http://{}/{number}", address_of(self.0.host, port)) });
            let request =
                self.request(&self.0.tenants[tenant].key, "POST", "/v1/subscriptions", Some(&body));
            let answer = self.call(node, request, AGAIN).await;
            if answer.is_some_and(|answer| answer.status == 201) {
                return;
            }
            sleep(AGAIN / 5).await;
        }
    }

    /// Does one operation at its time.
    pub async fn operate(self, operation: Operation) {
        sleep(Duration::from_millis(operation.at_ms).saturating_sub(self.0.base.elapsed())).await;
        let Operation { tenant, number, pick, kind, .. } = operation;
        let turn = Turn { clients: &self, operation: &operation };
        match kind {
            OperationKind::Send { has_key, bytes } => {
                let key = has_key.then(|| format!("key-{number}"));
                if let Some(key) = &key {
                    let mut history = self.0.history.lock();
                    history.known.entry(tenant).or_default().keyed.push((
                        number,
                        key.clone(),
                        bytes,
                    ));
                }
                turn.send(number, key, bytes).await;
            }
            OperationKind::SendAgain {} => {
                let keyed = self.known(tenant, pick, |known| &known.keyed);
                if let Some((number, key, bytes)) = keyed {
                    turn.send(number, Some(key), bytes).await;
                }
            }
            OperationKind::SendOther {} => {
                let keyed = self.known(tenant, pick, |known| &known.keyed);
                if let Some((_, key, _)) = keyed {
                    let body = event(tenant, number, 3);
                    turn.ask(Asked::SendOther { number, key }, "POST", "/v1/events", Some(body))
                        .await;
                }
            }
            OperationKind::ListKeys {} => {
                turn.ask(Asked::ListKeys, "GET", "/v1/keys", None).await;
            }
            OperationKind::SendBatch { count } => {
                let numbers: Vec<u64> =
                    (0..count as u64).map(|index| number * 100 + 100_000 + index).collect();
                let events: Vec<Value> =
                    numbers.iter().map(|number| event(tenant, *number, 10)).collect();
                let body = json!({ "events": events });
                turn.ask(Asked::SendBatch { numbers }, "POST", "/v1/events/batch", Some(body))
                    .await;
            }
            OperationKind::RevokeKey {} => turn.revoke().await,
            OperationKind::Walk { status } => drop(turn.walk(status).await),
            OperationKind::ReplayFailed {} => {
                turn.ask(
                    Asked::ReplayFailed,
                    "POST",
                    "/v1/inbox/replay",
                    Some(json!({ "status": "failed" })),
                )
                .await;
            }
            OperationKind::Statistics {} => {
                turn.ask(Asked::Statistics, "GET", "/v1/stats", None).await;
            }
            OperationKind::Lease { limit, visibility_s } => {
                let body = json!({ "limit": limit, "visibility_timeout_seconds": visibility_s });
                turn.ask(Asked::Lease { visibility_s }, "POST", "/v1/inbox/lease", Some(body))
                    .await;
            }
            _ => turn.on_an_event(kind).await,
        }
    }

    /// Looks at everything that a tenant has in the end, and tries whether it is served. It asks until there is an answer.
    pub async fn look_at_last(self, tenant: usize, first_node: usize) {
        let mut node = first_node;
        // As behind a load balancer: by a node that serves.
        loop {
            let request = self.request("", "GET", "/readyz", None);
            if self.call(node, request, AGAIN).await.is_some_and(|answer| answer.status == 200) {
                break;
            }
            node += 1;
            sleep(AGAIN / 10).await;
        }
        let operation = Operation {
            at_ms: 0,
            number: 10_000_000 + tenant as u64,
            tenant,
            node,
            pick: 0,
            disconnects_after_ms: None,
            kind: OperationKind::Read {},
        };
        let turn = Turn { clients: &self, operation: &operation };
        while !turn
            .send(operation.number, None, 1)
            .await
            .is_some_and(|status| status == 201 || status == 429)
        {
            sleep(AGAIN).await;
        }
        for status in Status::ALL {
            turn.walk_for_sure(status).await;
        }
        while turn
            .ask(Asked::Statistics, "GET", "/v1/stats", None)
            .await
            .is_none_or(|status| status != 200)
        {
            sleep(AGAIN).await;
        }
        turn.use_revoked_key().await;
        let mut ids = self
            .0
            .history
            .lock()
            .known
            .get(&tenant)
            .map(|known| known.ids.clone())
            .unwrap_or_default();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let path = format!("/v1/events/{id}");
            while turn
                .ask(Asked::Read { id: id.clone() }, "GET", &path, None)
                .await
                .is_none_or(|s| s >= 500)
            {
                sleep(AGAIN).await;
            }
        }
    }

    fn known<T: Clone>(
        &self,
        tenant: usize,
        pick: u64,
        list: impl Fn(&super::history::Known) -> &Vec<T>,
    ) -> Option<T> {
        let history = self.0.history.lock();
        let list = list(history.known.get(&tenant)?);
        // The newest ones more often than the others.
        let recent = list.len().min(if pick.is_multiple_of(3) { list.len() } else { 6 });
        let at = usize::try_from(pick / 3).unwrap_or(0).checked_rem(recent)?;
        list.get(list.len() - 1 - at).cloned()
    }

    fn request(
        &self,
        key: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Request<Full<Bytes>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "triggers")
            .header("x-api-key", key);
        let (request, bytes) = match body {
            Some(body) => {
                (request.header("content-type", "application/json"), Bytes::from(body.to_string()))
            }
            None => (request, Bytes::new()),
        };
        request
            .body(Full::new(bytes))
            .expect("methods, paths and keys of a plan fit into a request")
    }

    async fn call(
        &self,
        node: usize,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Option<Answer> {
        let node = self.0.nodes[node % self.0.nodes.len()];
        http::call(&self.0.network, self.0.host, address_of(node, node::PORT), request, limit).await
    }
}

/// The body of an event: who it is of, and its number.
fn event(tenant: usize, number: u64, bytes: usize) -> Value {
    let payload =
        json!({ "tenant": format!("t-{tenant}"), "number": number, "pad": "x".repeat(bytes) });
    json!({ "event_type": format!("kind.{}", number % 3), "payload": payload })
}

/// One operation on its way.
struct Turn<'a> {
    clients: &'a Clients,
    operation: &'a Operation,
}

impl Turn<'_> {
    async fn send(&self, number: u64, key: Option<String>, bytes: usize) -> Option<u16> {
        let body = event(self.operation.tenant, number, bytes);
        self.ask(Asked::Send { number, key }, "POST", "/v1/events", Some(body)).await
    }

    /// Operations on one event that the client knows.
    async fn on_an_event(&self, kind: OperationKind) {
        let Operation { tenant, pick, .. } = *self.operation;
        let id = self.clients.known(tenant, pick, |known| &known.ids);
        let lease = self.clients.known(tenant, pick, |known| &known.leases);
        match kind {
            OperationKind::Acknowledge { is_leased } => {
                let leased = lease.filter(|_| is_leased).map(|(id, token)| (id, Some(token)));
                let Some((id, token)) = leased.or(id.map(|id| (id, None))) else { return };
                let body = token.as_ref().map(|token| json!({ "lease_token": token }));
                let path = format!("/v1/events/{id}/ack");
                self.ask(Asked::Acknowledge { id, token }, "POST", &path, body).await;
            }
            OperationKind::AcknowledgeBatch { count } => {
                let mut ids: Vec<String> = (0..count as u64)
                    .filter_map(|turn| {
                        self.clients
                            .known(tenant, pick.rotate_left(7 * turn as u32), |known| &known.ids)
                    })
                    .collect();
                ids.sort_unstable();
                ids.dedup();
                let body = json!({ "event_ids": ids });
                if !ids.is_empty() {
                    let asked = Asked::AcknowledgeBatch { ids };
                    self.ask(asked, "POST", "/v1/events/acknowledge/batch", Some(body)).await;
                }
            }
            OperationKind::Extend { visibility_s } => {
                let Some((id, token)) = lease else { return };
                let body =
                    json!({ "lease_token": token, "visibility_timeout_seconds": visibility_s });
                let path = format!("/v1/events/{id}/lease");
                self.ask(Asked::Extend { id, token, visibility_s }, "POST", &path, Some(body))
                    .await;
            }
            OperationKind::WrongToken {} => {
                let Some(id) = lease.map(|(id, _)| id).or(id) else { return };
                let body =
                    json!({ "lease_token": "0".repeat(32), "visibility_timeout_seconds": 1 });
                let action = ["ack", "nack", "lease"][usize::try_from(pick % 3).unwrap_or(0)];
                let path = format!("/v1/events/{id}/{action}");
                self.ask(Asked::WrongToken { id }, "POST", &path, Some(body)).await;
            }
            OperationKind::Refuse {} => {
                let Some((id, token)) = lease else { return };
                let body = json!({ "lease_token": token, "retry_after_seconds": 1 });
                let path = format!("/v1/events/{id}/nack");
                self.ask(Asked::Refuse { id, token }, "POST", &path, Some(body)).await;
            }
            OperationKind::Delete {} => {
                let Some(id) = id else { return };
                let path = format!("/v1/events/{id}");
                self.ask(Asked::Delete { id }, "DELETE", &path, None).await;
            }
            OperationKind::Replay {} => {
                let Some(id) = id else { return };
                let path = format!("/v1/events/{id}/replay");
                self.ask(Asked::Replay { id }, "POST", &path, None).await;
            }
            _ => {
                let Some(id) = id else { return };
                let path = format!("/v1/events/{id}");
                self.ask(Asked::Read { id }, "GET", &path, None).await;
            }
        }
    }

    /// Revokes the second key, and uses it a little more than a second later at each node.
    async fn revoke(&self) {
        let Some((key, id)) = self.clients.0.tenants[self.operation.tenant].second.clone() else {
            return;
        };
        // Used before, so that nodes know it.
        for node in 0..self.clients.0.nodes.len() {
            let operation =
                Operation { node, disconnects_after_ms: None, ..self.operation.clone() };
            let turn = Turn { clients: self.clients, operation: &operation };
            turn.ask_with(&key, Asked::Statistics, "GET", "/v1/stats", None).await;
        }
        let is_revoked =
            self.ask(Asked::RevokeKey, "DELETE", &format!("/v1/keys/{id}"), None).await
                == Some(204);
        if !is_revoked {
            return;
        }
        sleep(Duration::from_millis(1_050)).await;
        for node in 0..self.clients.0.nodes.len() {
            let operation =
                Operation { node, disconnects_after_ms: None, ..self.operation.clone() };
            let turn = Turn { clients: self.clients, operation: &operation };
            turn.ask_with(&key, Asked::UseRevokedKey, "GET", "/v1/inbox?limit=1", None).await;
        }
    }

    /// Uses the second key, if it was revoked: whoever owns the tenant by now must not know it.
    async fn use_revoked_key(&self) {
        let tenant = self.operation.tenant;
        let is_revocation = |entry: &Entry| {
            entry.tenant == tenant && entry.asked == Asked::RevokeKey && entry.is_done()
        };
        let is_revoked = self.clients.0.history.lock().entries.iter().any(is_revocation);
        if let Some((key, _)) = self.clients.0.tenants[tenant].second.clone().filter(|_| is_revoked)
        {
            self.ask_with(&key, Asked::UseRevokedKey, "GET", "/v1/inbox?limit=1", None).await;
        }
    }

    /// Follows the pages of a status; whether to their end.
    async fn walk(&self, status: Status) -> bool {
        let walk = {
            let mut history = self.clients.0.history.lock();
            history.walks += 1;
            history.walks
        };
        let first = format!("/v1/inbox?status={}&limit=5", status.as_str());
        let mut path = first.clone();
        for page in 0..PAGES_MAX {
            let asked = Asked::Page { status, walk, is_first: page == 0 };
            let entry = self.exchange(&self.key(), asked, "GET", &path, None).await;
            if entry.status != Some(200) {
                return false;
            }
            match entry.body["cursor"].as_str() {
                Some(cursor) if entry.body["has_more"] == true => {
                    path = format!("{first}&cursor={cursor}")
                }
                _ => return true,
            }
        }
        false
    }

    async fn walk_for_sure(&self, status: Status) {
        while !self.walk(status).await {
            sleep(AGAIN).await;
        }
    }

    fn key(&self) -> String {
        self.clients.0.tenants[self.operation.tenant].key.clone()
    }

    async fn ask(
        &self,
        asked: Asked,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Option<u16> {
        self.ask_with(&self.key(), asked, method, path, body).await
    }

    async fn ask_with(
        &self,
        key: &str,
        asked: Asked,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Option<u16> {
        self.exchange(key, asked, method, path, body).await.status
    }

    async fn exchange(
        &self,
        key: &str,
        asked: Asked,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Entry {
        let Inner { history, trace, base, .. } = &*self.clients.0;
        let Operation { tenant, disconnects_after_ms, .. } = *self.operation;
        let node = self.operation.node % self.clients.0.nodes.len();
        let mut request = self.clients.request(key, method, path, body.as_ref());
        if let Asked::Send { key: Some(key), .. } | Asked::SendOther { key, .. } = &asked
            && let Ok(value) = key.parse()
        {
            request.headers_mut().insert("idempotency-key", value);
        }
        let limit = disconnects_after_ms.map_or(LIMIT, Duration::from_millis);
        let entry = history.lock().begin(base.elapsed(), (tenant, node), asked);
        let answer = self.clients.call(node, request, limit).await;
        let end = base.elapsed();
        let said = answer.as_ref().map(|answer| answer.body.clone()).unwrap_or_default();
        let mut history = history.lock();
        let entry = history.end(entry, end, answer);
        trace.note(end, "client", format_args!("{entry} {}", Digest(&said)));
        entry.clone()
    }
}
