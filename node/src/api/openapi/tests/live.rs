//! [`LiveEdge`]: the complete HTTP API over a store in memory, for tests.
//!
//! `LIVE-1`: its router answers as a node would. Middleware, authentication, actors and the sender
//! of webhooks are the real ones; the sender can reach only this machine.
//!
//! There is no disk, and no network between a test and the API. The tests here compare the OpenAPI
//! document with what the router serves.

use super::document;
use crate::access::Access;
use crate::api;
use crate::http::edge::{Edge, EdgeState};
use crate::webhook::HttpSender;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tower::ServiceExt;
use triggers_actors::admission::Admission;
use triggers_actors::model::rows::{KeyRow, TenantRow};
use triggers_actors::{BrokerOptions, Node, NodeArguments};
use triggers_cluster_config::NodeOptions;
use triggers_protocol::api_key::KeyKind;
use triggers_protocol::{ApiKey, Environment, EventId, Scopes, TenantId};
use triggers_store::kv::Store;
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};

/// Maximum subscriptions of a tenant.
pub(crate) const SUBSCRIPTIONS_MAX: u32 = 4;

/// The API and the actors that it uses.
pub(crate) struct LiveEdge {
    edge: EdgeState,
    router: axum::Router,
    _node: Node,
}

/// A response: status, headers, and the body, which is null if it is not JSON.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

impl LiveEdge {
    /// Starts the API without tenants.
    pub(crate) async fn start() -> Self {
        let environment = Environment::system();
        let engine = SimulatedEngine::new(SimulatedOptions::new(1));
        let store = Store::new(Arc::new(engine), environment.clone());
        let options = options();
        let broker = BrokerOptions::from(&options);
        let sender = HttpSender::new(&options.delivery, environment.clone()).unwrap();
        let targets = Arc::new(sender.policy().clone());
        let arguments = NodeArguments {
            store: store.clone(),
            sender: Arc::new(sender),
            options: broker,
            incarnation: "test@1".to_owned(),
        };
        let node = Node::start(arguments, 1).await.unwrap();
        let edge = EdgeState(Arc::new(Edge {
            environment,
            router: node.router(),
            access: Access::new(store.clone(), &options.limits),
            store,
            targets,
            cursor_secret: node.settings().cursor_secret,
            body_gate: Admission::new(usize::MAX, options.broker.node_bytes_max),
            options,
            node_name: "test".to_owned(),
            cluster: None,
            draining: AtomicBool::new(false),
        }));
        Self { router: api::router(edge.clone()), edge, _node: node }
    }

    /// Creates a key with these scopes, and its tenant if it does not exist.
    pub(crate) async fn key(&self, tenant: &str, scopes: Scopes) -> String {
        let environment = &self.edge.environment;
        let (now, deadline) = (environment.now(), self.edge.deadline());
        let tenant = TenantId::parse(tenant).unwrap();
        let row = TenantRow {
            id: tenant.clone(),
            name: "test".to_owned(),
            tier: None,
            retention_days: 30,
            max_inbox_events: None,
            retry_policy: None,
            flags: BTreeMap::new(),
            created_at: now,
            updated_at: now,
        };
        self.edge.access.create_tenant(row, deadline).await.unwrap();
        let key = ApiKey::generate(KeyKind::Test, environment);
        let row = KeyRow {
            id: EventId::mint(EventId::ZERO, now, environment.bytes()).to_bytes(),
            hash: key.hash(),
            tenant,
            name: "test".to_owned(),
            kind: KeyKind::Test,
            hint: key.hint(),
            scopes,
            rate_limit_per_minute: None,
            created_at: now,
            expires_at: None,
            replaced_at: None,
        };
        self.edge.access.create_key(row, deadline).await.unwrap();
        key.reveal().to_owned()
    }

    /// Sends a request, without a key if `key` is empty.
    pub(crate) async fn send(&self, method: &str, path: &str, key: &str, body: &str) -> Answer {
        let header = [("x-api-key", key)];
        self.send_with(method, path, if key.is_empty() { &[] } else { &header }, body).await
    }

    /// Sends a request with these headers.
    pub(crate) async fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request =
            Request::builder().method(method).uri(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = axum::body::to_bytes(body, 16 << 20).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status: head.status, headers: head.headers, json }
    }
}

/// Options of a node that may send webhooks to this machine.
fn options() -> NodeOptions {
    let mut options = NodeOptions::default();
    options.delivery.is_https_required = false;
    options.delivery.allowed_targets = vec!["127.0.0.0/8".to_owned()];
    options.delivery.subscriptions_max = SUBSCRIPTIONS_MAX as usize;
    options
}

#[tokio::test]
async fn the_router_serves_what_the_document_says_and_no_other_method() {
    let live = LiveEdge::start().await;
    for (path, item) in document()["paths"].as_object().unwrap() {
        let documented: BTreeSet<_> =
            item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        let path = path.replace("{id}", "019b76da-a800-7000-8000-000000000001");
        for method in &documented {
            let status = live.send(method, &path, "", "{}").await.status;
            assert!(status == 401 || status == 200, "{method} {path}: {status}");
        }
        let other = live.send(Method::TRACE.as_str(), &path, "", "").await;
        assert_eq!(other.status, 405, "{path}");
        let allowed = other.headers["allow"]
            .to_str()
            .unwrap()
            .split(',')
            .map(|method| method.trim().to_owned());
        let allowed: BTreeSet<_> = allowed.filter(|method| method != "HEAD").collect();
        assert_eq!(allowed, documented, "{path}");
    }
}

#[tokio::test]
async fn the_document_and_the_page_are_served() {
    let live = LiveEdge::start().await;
    let served = live.send("GET", "/openapi.json", "", "").await;
    assert_eq!((served.status, served.json), (StatusCode::OK, document()));
    for (path, media_type) in [
        ("/docs", "text/html"),
        ("/docs/app.js", "text/javascript"),
        ("/docs/style.css", "text/css"),
    ] {
        let answer = live.send("GET", path, "", "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.headers["content-type"].to_str().unwrap().starts_with(media_type), "{path}");
        assert!(
            answer.headers["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("script-src 'self'"),
            "{path}"
        );
    }
}
