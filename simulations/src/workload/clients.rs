//! Clients run the operations of the plan, with what they know by then.
//!
//! Invariants: `CLIENTS-1` every request is recorded, with or without an answer; `CLIENTS-2` a
//! client that disconnects has sent its request or a part of it.

use super::history::{CallRecord, ClientCall, ClientKnowledge, KeyedEvent, SharedHistory};
use super::receivers;
use super::setup::{SecondKey, SimulatedTenant};
use crate::plan::{LeaseAction, Operation, OperationKind};
use crate::trace::{BytesDigest, Trace};
use crate::world::HostId;
use crate::world::http::{self, HttpAnswer};
use crate::world::network::{Network, address_of};
use crate::world::node;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use triggers_protocol::EventStatus;

/// Time that a client waits for an answer: longer than any request may take.
const CALL_TIME_MAX: Duration = Duration::from_millis(5_500);
const PAGES_MAX: usize = 200;
/// Pause between two tries of the same request.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const SUBSCRIBE_TRIES_MAX: usize = 40;
/// Time that a client gives a subscription, of which a tenant may have few.
const SUBSCRIBE_TIME_MAX: Duration = Duration::from_secs(1);
/// Time after which all nodes must reject a revoked key.
const REVOKED_AFTER: Duration = Duration::from_millis(1_050);
/// Number of the event that the final check sends for tenant 0.
const FINAL_CHECK_NUMBER: u64 = 10_000_000;

/// All clients; cheap to clone.
#[derive(Clone)]
pub struct Clients(Arc<ClientContext>);

#[derive(Clone)]
struct ClientContext {
    network: Network,
    host: HostId,
    nodes: Vec<HostId>,
    tenants: Vec<SimulatedTenant>,
    history: SharedHistory,
    trace: Trace,
    base: Instant,
}

impl Clients {
    /// Creates clients on a host. Must be called within the runtime of that host.
    pub fn new(
        network: Network,
        host: HostId,
        nodes: Vec<HostId>,
        tenants: Vec<SimulatedTenant>,
        history: SharedHistory,
        trace: Trace,
    ) -> Self {
        let base = Instant::now();
        Self(Arc::new(ClientContext { network, host, nodes, tenants, history, trace, base }))
    }

    /// The same clients with another list of nodes to call.
    pub fn with_nodes(&self, nodes: Vec<HostId>) -> Self {
        Self(Arc::new(ClientContext { nodes, ..(*self.0).clone() }))
    }

    /// Start of the run on the clock of the clients' host.
    pub fn base(&self) -> Instant {
        self.0.base
    }

    fn caller(&self, tenant: usize, node: usize, call_time_max: Duration) -> Caller<'_> {
        Caller { clients: self, tenant, node, call_time_max }
    }

    /// Subscribes a tenant's receiver; tries again until a node answers with 201.
    pub async fn subscribe(self, tenant: usize, receiver: usize) {
        let address = address_of(self.0.host, receivers::port(tenant, receiver));
        for try_number in 0..SUBSCRIBE_TRIES_MAX {
            // A try without an answer may have succeeded, so each try has a URL of its own.
            let target_url = format!("http://{address}/{try_number}");
            let caller = self.caller(tenant, try_number, SUBSCRIBE_TIME_MAX);
            if caller.call(ClientCall::Subscribe { target_url }).await.status == Some(201) {
                return;
            }
            sleep(RETRY_AFTER / 5).await;
        }
    }

    pub async fn run_operation(self, operation: Operation) {
        sleep(Duration::from_millis(operation.at_ms).saturating_sub(self.0.base.elapsed())).await;
        let call_time_max = operation.disconnects_after_ms.map(Duration::from_millis);
        let call_time_max = call_time_max.unwrap_or(CALL_TIME_MAX);
        let caller = self.caller(operation.tenant, operation.node, call_time_max);
        match operation.kind {
            OperationKind::RevokeKey {} => caller.revoke_key().await,
            OperationKind::Recover {} => caller.recover(operation.pick).await,
            OperationKind::Walk { status } => drop(caller.walk(status).await),
            _ => {
                let Some(call) = self.choose_call(&operation) else { return };
                // Without a key, two requests would rightly make two events of one number.
                if operation.is_doubled && !call.has_no_key() {
                    tokio::join!(caller.call(call.clone()), caller.call(call));
                } else {
                    caller.call(call).await;
                }
            }
        }
    }

    /// The request of an operation that consists of one; none if the client does not know a
    /// suitable event yet.
    fn choose_call(&self, operation: &Operation) -> Option<ClientCall> {
        let Operation { tenant, number, pick, .. } = *operation;
        let id = |pick| self.pick(tenant, pick, |known| &known.ids);
        let lease = || self.pick(tenant, pick, |known| &known.leases);
        let keyed = || self.pick(tenant, pick, |known| &known.keyed);
        Some(match operation.kind {
            OperationKind::Send { has_key, bytes } => {
                let key = has_key.then(|| format!("key-{number}"));
                if let Some(key) = key.clone() {
                    let mut history = self.0.history.lock();
                    let known = history.known.entry(tenant).or_default();
                    known.keyed.push(KeyedEvent { number, key, bytes });
                }
                ClientCall::Send { number, key, bytes }
            }
            OperationKind::SendAgain {} => {
                let KeyedEvent { number, key, bytes } = keyed()?;
                ClientCall::Send { number, key: Some(key), bytes }
            }
            OperationKind::SendOther {} => ClientCall::SendOther { number, key: keyed()?.key },
            OperationKind::SendBatch { count } => {
                let first = number * 100 + 100_000;
                ClientCall::SendBatch { numbers: (first..first + count as u64).collect() }
            }
            OperationKind::Acknowledge { is_leased } => match lease().filter(|_| is_leased) {
                Some((id, token)) => ClientCall::Acknowledge { id, token: Some(token) },
                None => ClientCall::Acknowledge { id: id(pick)?, token: None },
            },
            OperationKind::AcknowledgeBatch { count } => {
                let picks = (0..count as u32).map(|index| pick.rotate_left(7 * index));
                let mut ids: Vec<String> = picks.filter_map(id).collect();
                ids.sort_unstable();
                ids.dedup();
                if ids.is_empty() {
                    return None;
                }
                ClientCall::AcknowledgeBatch { ids }
            }
            OperationKind::Lease { limit, visibility_seconds } => {
                ClientCall::Lease { limit, visibility_seconds, event_type: None }
            }
            OperationKind::FilteredLease { event_type, visibility_seconds } => {
                ClientCall::Lease { limit: 1, visibility_seconds, event_type: Some(event_type) }
            }
            OperationKind::Extend { visibility_seconds } => {
                let (id, token) = lease()?;
                ClientCall::Extend { id, token, visibility_seconds }
            }
            OperationKind::ChangeLease { action, is_named, visibility_seconds } => {
                let lease = self.pick(tenant, pick, |known| &known.whole_leases)?;
                ClientCall::ChangeLease { lease, action, is_named, visibility_seconds }
            }
            OperationKind::WrongToken {} => {
                let id = lease().map(|(id, _)| id).or_else(|| id(pick))?;
                let action = ["ack", "nack", "lease"][usize::try_from(pick % 3).unwrap_or(0)];
                ClientCall::WrongToken { id, action }
            }
            OperationKind::Nack {} => {
                let (id, token) = lease()?;
                ClientCall::Nack { id, token }
            }
            OperationKind::Delete {} => ClientCall::Delete { id: id(pick)? },
            OperationKind::Replay {} => ClientCall::Replay { id: id(pick)? },
            OperationKind::ReplayFailed {} => ClientCall::ReplayFailed,
            OperationKind::Read {} => ClientCall::Read { id: id(pick)? },
            OperationKind::ListKeys {} => ClientCall::ListKeys,
            OperationKind::Statistics {} => ClientCall::Statistics,
            // These consist of several requests.
            OperationKind::RevokeKey {}
            | OperationKind::Walk { .. }
            | OperationKind::Recover {} => return None,
        })
    }

    /// Picks something that the tenant's clients know, recent things more often.
    fn pick<T: Clone>(
        &self,
        tenant: usize,
        pick: u64,
        list: impl Fn(&ClientKnowledge) -> &Vec<T>,
    ) -> Option<T> {
        let history = self.0.history.lock();
        let list = list(history.known.get(&tenant)?);
        let recent = list.len().min(if pick.is_multiple_of(3) { list.len() } else { 6 });
        let at = usize::try_from(pick / 3).unwrap_or(0).checked_rem(recent)?;
        list.get(list.len() - 1 - at).cloned()
    }

    /// Reads everything that a tenant has at the end of the run. Repeats each request until it is
    /// answered.
    pub async fn final_check(self, tenant: usize, first_node: usize) {
        let mut node = first_node;
        // A load balancer would pick a node that is ready as well.
        while !self.is_ready(node).await {
            node += 1;
            sleep(RETRY_AFTER / 10).await;
        }
        let caller = self.caller(tenant, node, CALL_TIME_MAX);
        let number = FINAL_CHECK_NUMBER + tenant as u64;
        let send = ClientCall::Send { number, key: None, bytes: 1 };
        caller.call_until(send, |status| matches!(status, 201 | 429)).await;
        for status in EventStatus::ALL {
            while !caller.walk(status).await {
                sleep(RETRY_AFTER).await;
            }
        }
        caller.call_until(ClientCall::Statistics, |status| status == 200).await;
        caller.use_revoked_key().await;
        let known = self.0.history.lock().known.get(&tenant).map(|known| known.ids.clone());
        let mut ids = known.unwrap_or_default();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            caller.call_until(ClientCall::Read { id }, |status| status < 500).await;
        }
        caller.call_until(ClientCall::ListSubscriptions, |status| status == 200).await;
    }

    async fn is_ready(&self, node: usize) -> bool {
        let request = http_request("", "GET", "/readyz", None);
        self.send(node, request, RETRY_AFTER).await.is_some_and(|answer| answer.status == 200)
    }

    async fn send(
        &self,
        node: usize,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Option<HttpAnswer> {
        let node = self.0.nodes[node % self.0.nodes.len()];
        http::call(&self.0.network, self.0.host, address_of(node, node::PORT), request, limit).await
    }
}

/// An event to send. Its payload names its tenant and its number.
fn event(tenant: usize, number: u64, bytes: usize) -> Value {
    let payload =
        json!({ "tenant": format!("t-{tenant}"), "number": number, "pad": "x".repeat(bytes) });
    json!({ "event_type": type_name(number), "payload": payload })
}

/// The type of the event with this number.
pub(crate) fn type_name(number: u64) -> String {
    format!("kind.{}", number % 3)
}

/// Method, path and JSON body of a request.
fn route(call: &ClientCall, tenant: usize) -> (&'static str, String, Option<Value>) {
    let post = |path: &str, body: Value| ("POST", path.to_owned(), Some(body));
    let get = |path: &str| ("GET", path.to_owned(), None);
    match call {
        ClientCall::Send { number, bytes, .. } => {
            post("/v1/events", event(tenant, *number, *bytes))
        }
        ClientCall::SendOther { number, .. } => post("/v1/events", event(tenant, *number, 3)),
        ClientCall::SendBatch { numbers } => {
            let events: Vec<_> = numbers.iter().map(|number| event(tenant, *number, 10)).collect();
            post("/v1/events/batch", json!({ "events": events }))
        }
        ClientCall::Acknowledge { id, token } => {
            let body = token.as_ref().map(|token| json!({ "lease_token": token }));
            ("POST", format!("/v1/events/{id}/ack"), body)
        }
        ClientCall::AcknowledgeBatch { ids } => {
            post("/v1/events/acknowledge/batch", json!({ "event_ids": ids }))
        }
        ClientCall::Lease { limit, visibility_seconds: seconds, event_type } => {
            let event_types: Vec<_> = event_type.iter().map(|kind| type_name(*kind)).collect();
            let mut body = json!({ "limit": limit, "visibility_timeout_seconds": seconds });
            if !event_types.is_empty() {
                body["event_types"] = event_types.into();
            }
            post("/v1/inbox/lease", body)
        }
        ClientCall::Extend { id, token, visibility_seconds: seconds } => {
            let body = json!({ "lease_token": token, "visibility_timeout_seconds": seconds });
            post(&format!("/v1/events/{id}/lease"), body)
        }
        ClientCall::WrongToken { id, action } => {
            let mut body = json!({ "lease_token": "0".repeat(32) });
            if *action == "lease" {
                body["visibility_timeout_seconds"] = 1.into();
            }
            post(&format!("/v1/events/{id}/{action}"), body)
        }
        ClientCall::Nack { id, token } => {
            let body = json!({ "lease_token": token, "retry_after_seconds": 1 });
            post(&format!("/v1/events/{id}/nack"), body)
        }
        ClientCall::ChangeLease { lease, action, is_named, visibility_seconds } => {
            let mut body = json!({});
            match action {
                LeaseAction::Ack => {}
                LeaseAction::Nack => body["retry_after_seconds"] = 1.into(),
                LeaseAction::Extend => {
                    body["visibility_timeout_seconds"] = (*visibility_seconds).into();
                }
            }
            if *is_named {
                body["event_ids"] = lease.events.clone().into();
            }
            post(&format!("/v1/inbox/leases/{}/{}", lease.id, action.path()), body)
        }
        ClientCall::Delete { id } => ("DELETE", format!("/v1/events/{id}"), None),
        ClientCall::Replay { id } => ("POST", format!("/v1/events/{id}/replay"), None),
        ClientCall::ReplayFailed => post("/v1/inbox/replay", json!({ "status": "failed" })),
        ClientCall::Read { id } => get(&format!("/v1/events/{id}")),
        ClientCall::Page { status, cursor, .. } => {
            let cursor = cursor.as_ref().map(|cursor| format!("&cursor={cursor}"));
            get(&format!("/v1/inbox?status={status}&limit=5{}", cursor.unwrap_or_default()))
        }
        ClientCall::Statistics => get("/v1/stats"),
        ClientCall::ListKeys => get("/v1/keys"),
        ClientCall::RevokeKey { id } => ("DELETE", format!("/v1/keys/{id}"), None),
        ClientCall::UseRevokedKey => get("/v1/inbox?limit=1"),
        ClientCall::Subscribe { target_url } => {
            post("/v1/subscriptions", json!({ "target_url": target_url }))
        }
        ClientCall::ListSubscriptions => get("/v1/subscriptions"),
        ClientCall::Recover { id } => {
            let body = json!({ "since": "2020-01-01T00:00:00Z" });
            post(&format!("/v1/subscriptions/{id}/recover"), body)
        }
    }
}

fn http_request(key: &str, method: &str, path: &str, body: Option<Value>) -> Request<Full<Bytes>> {
    let bytes = body.as_ref().map(Value::to_string).unwrap_or_default();
    let mut request = Request::builder().method(method).uri(path);
    request = request.header("host", "triggers").header("x-api-key", key);
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let request = request.body(Full::new(Bytes::from(bytes)));
    request.expect("methods, paths and keys of a plan fit into a request")
}

/// A client of one tenant that calls one node.
#[derive(Clone, Copy)]
struct Caller<'a> {
    clients: &'a Clients,
    tenant: usize,
    node: usize,
    call_time_max: Duration,
}

impl Caller<'_> {
    /// Revokes the second key, with two requests at the same time. A little more than a second
    /// later, tries to use it at each node.
    async fn revoke_key(self) {
        let Some(SecondKey { key, id }) = self.second_key() else { return };
        // These clients do not disconnect early.
        let at_node = |node| self.clients.caller(self.tenant, node, CALL_TIME_MAX);
        let at_each_node = || (0..self.clients.0.nodes.len()).map(at_node);
        // Every node has the key in its cache before.
        for caller in at_each_node() {
            caller.call_with_key(&key, ClientCall::Statistics).await;
        }
        let revoke = ClientCall::RevokeKey { id };
        let (one, other) = tokio::join!(self.call(revoke.clone()), self.call(revoke));
        if ![one.status, other.status].contains(&Some(204)) {
            return;
        }
        sleep(REVOKED_AFTER).await;
        for caller in at_each_node() {
            caller.call_with_key(&key, ClientCall::UseRevokedKey).await;
        }
    }

    /// Tries to use the second key if it was revoked. The tenant may have another owner by now.
    async fn use_revoked_key(self) {
        let is_revocation = |record: &CallRecord| {
            record.tenant == self.tenant
                && matches!(record.call, ClientCall::RevokeKey { .. })
                && record.is_done()
        };
        let is_revoked = self.clients.0.history.lock().calls.iter().any(is_revocation);
        if let Some(second) = self.second_key().filter(|_| is_revoked) {
            self.call_with_key(&second.key, ClientCall::UseRevokedKey).await;
        }
    }

    fn second_key(self) -> Option<SecondKey> {
        self.clients.0.tenants[self.tenant].second.clone()
    }

    /// Recovers all that one of the tenant's subscriptions has missed.
    async fn recover(self, pick: u64) {
        let list = self.call(ClientCall::ListSubscriptions).await;
        let rows = list.body["subscriptions"].as_array().map_or(&[][..], Vec::as_slice);
        let at = usize::try_from(pick).unwrap_or(0).checked_rem(rows.len());
        let Some(id) = at.and_then(|at| rows[at]["id"].as_str()) else { return };
        for _ in 0..2 {
            self.call(ClientCall::Recover { id: id.to_owned() }).await;
        }
    }

    /// Reads all pages of a status. Returns whether it reached the last one.
    async fn walk(self, status: EventStatus) -> bool {
        let walk = self.clients.0.history.lock().next_walk();
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let record = self.call(ClientCall::Page { status, walk, cursor }).await;
            if record.status != Some(200) {
                return false;
            }
            cursor = record.body["cursor"].as_str().map(str::to_owned);
            if cursor.is_none() || record.body["has_more"] != true {
                return true;
            }
        }
        false
    }

    /// Repeats a request until it has a status that is accepted.
    async fn call_until(self, call: ClientCall, is_accepted: impl Fn(u16) -> bool) {
        while !self.call(call.clone()).await.status.is_some_and(&is_accepted) {
            sleep(RETRY_AFTER).await;
        }
    }

    async fn call(self, call: ClientCall) -> CallRecord {
        self.call_with_key(&self.clients.0.tenants[self.tenant].key, call).await
    }

    async fn call_with_key(self, key: &str, call: ClientCall) -> CallRecord {
        let ClientContext { history, trace, base, nodes, .. } = &*self.clients.0;
        let node = self.node % nodes.len();
        let (method, path, body) = route(&call, self.tenant);
        let mut request = http_request(key, method, &path, body);
        if let Some(Ok(value)) = call.key_and_number().map(|(key, _)| key.parse()) {
            request.headers_mut().insert("idempotency-key", value);
        }
        let index = history.lock().begin(base.elapsed(), self.tenant, node, call);
        let answer = self.clients.send(node, request, self.call_time_max).await;
        let end = base.elapsed();
        let body = answer.as_ref().map(|answer| answer.body.clone()).unwrap_or_default();
        let mut history = history.lock();
        let record = history.end(index, end, answer);
        trace.note(end, "client", format_args!("{record} {}", BytesDigest(&body)));
        record.clone()
    }
}
