//! The URIs, headers and bodies of requests, made before the load begins and shared by all workers.

use super::BenchError;
use super::bodies::{batch_bodies, single_bodies};
use super::plan::Plan;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use std::sync::Arc;
use triggers_client::{BaseAddress, ClientError, authorization};

const USER_AGENT_TEXT: &str = concat!("triggers-bench/", env!("CARGO_PKG_VERSION"));

/// The parts that requests are made of.
#[derive(Debug)]
pub struct RequestParts {
    base: BaseAddress,
    /// Target that accepts one event.
    pub single_uri: Uri,
    /// Target that accepts a batch.
    pub batch_uri: Uri,
    /// Target that acknowledges events by their ids.
    pub acknowledge_uri: Uri,
    /// Target that leases events.
    pub lease_uri: Uri,
    heads: Vec<HeaderMap>,
    /// Bodies with one event.
    pub singles: Vec<Bytes>,
    /// Bodies with a batch.
    pub batches: Vec<Bytes>,
}

impl RequestParts {
    /// Prepares the load of a plan.
    ///
    /// # Errors
    /// `ClientError::Key` if a key is malformed.
    pub fn new(plan: &Plan, address: &BaseAddress) -> Result<Arc<Self>, BenchError> {
        let heads = if plan.keys.is_empty() {
            vec![head(address, None)?]
        } else {
            plan.keys.iter().map(|key| head(address, Some(key))).collect::<Result<_, _>>()?
        };
        Ok(Arc::new(Self {
            base: address.clone(),
            single_uri: target(address, "/v1/events")?,
            batch_uri: target(address, "/v1/events/batch")?,
            acknowledge_uri: target(address, "/v1/events/acknowledge/batch")?,
            lease_uri: target(address, "/v1/inbox/lease")?,
            heads,
            singles: single_bodies(plan.payload_bytes),
            batches: batch_bodies(plan.payload_bytes, plan.batch_events()),
        }))
    }

    /// Number of keys, at least 1.
    pub fn keys(&self) -> usize {
        self.heads.len()
    }

    /// The target of a path.
    ///
    /// # Errors
    /// If it does not fit into a URI.
    pub fn target(&self, path: &str) -> Result<Uri, ClientError> {
        target(&self.base, path)
    }

    /// A request without a body. `key` counts the keys, beginning anew behind the last.
    pub fn get(&self, uri: Uri, key: usize) -> Request<Full<Bytes>> {
        self.request(Method::GET, uri, key, Bytes::new())
    }

    /// A request with a body. `key` counts the keys, beginning anew behind the last.
    pub fn post(&self, uri: Uri, key: usize, body: Bytes) -> Request<Full<Bytes>> {
        self.request(Method::POST, uri, key, body)
    }

    fn request(&self, method: Method, uri: Uri, key: usize, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.heads[key % self.heads.len()].clone();
        request
    }
}

fn head(address: &BaseAddress, key: Option<&str>) -> Result<HeaderMap, ClientError> {
    let mut head = HeaderMap::with_capacity(4);
    let host = HeaderValue::from_str(address.authority())
        .map_err(|_| ClientError::Header { name: "host" })?;
    head.insert(HOST, host);
    head.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_TEXT));
    head.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = key {
        head.insert(AUTHORIZATION, authorization(key)?);
    }
    Ok(head)
}

fn target(address: &BaseAddress, path: &str) -> Result<Uri, ClientError> {
    let text = address.target(path);
    text.parse()
        .map_err(|_| ClientError::Address { url: text, reason: "it is not a URL".to_owned() })
}
