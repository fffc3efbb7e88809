//! A small client of the Triggers HTTP API, as the command line uses it.
//!
//! One `Client` is one base address and one key. A command describes a `Call`, `Client::execute` carries it out and gives
//! back a `Reply` (any 2xx) or a `ClientError` that says in plain words what went wrong. Bodies are kept as they came:
//! decoding is the caller's choice, so `--json` prints exactly what the node answered.
//!
//! Invariants:
//! - CLIENT-1: every call ends within `request_timeout_ms`, connecting within `connect_timeout_ms`.
//! - CLIENT-2: an answer larger than `BODY_BYTES_MAX` is refused, not gathered.
//! - CLIENT-3: nothing is repeated: whether to send again is the caller's decision, who knows if that is safe.
//!
//! It follows no redirects and reads no proxy settings. It is not the load generator's client; see `bench::connection`.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client as PooledClient, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

pub use call::Call;
pub use error::{ApiFailure, ClientError, FieldFault};
pub use reply::Reply;

use address::BaseAddress;

pub mod address;
pub mod call;
pub mod error;
pub mod reply;
pub mod resources;

#[cfg(test)]
mod tests;

/// Largest answer that is taken into memory: a full page of largest events, with room for their envelopes.
pub const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How this client names itself to the node.
pub const USER_AGENT_TEXT: &str = concat!("triggers-cli/", env!("CARGO_PKG_VERSION"));

/// The connector both this client and the load generator open connections with: plain or TLS, by the scheme.
pub type Connector = HttpsConnector<HttpConnector>;

/// Where to send calls, as whom, and how long to wait.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `http://` or `https://`, host, optional port and path prefix.
    pub base_url: String,
    /// The API key; without one only the public paths answer.
    pub api_key: Option<String>,
    /// Longest wait for the TCP connection, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest wait for the whole call, in milliseconds.
    pub request_timeout_ms: u64,
}

impl ClientOptions {
    /// The given address and key with the usual waits: 5 s to connect, 30 s in all.
    pub fn new(base_url: impl Into<String>, api_key: Option<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key,
            connect_timeout_ms: 5_000,
            request_timeout_ms: 30_000,
        }
    }
}

/// A client of one node (or of the balancer in front of many).
#[derive(Debug, Clone)]
pub struct Client {
    pool: PooledClient<Connector, Full<Bytes>>,
    address: BaseAddress,
    headers: HeaderMap,
    request_timeout_ms: u64,
}

impl Client {
    /// Checks the address and the key; opens no connection yet.
    ///
    /// # Errors
    /// `ClientError::Address`, `ClientError::Key` or `ClientError::Tls`.
    pub fn new(options: &ClientOptions) -> Result<Self, ClientError> {
        let address = BaseAddress::parse(&options.base_url)?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_TEXT));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(key) = &options.api_key {
            headers.insert(AUTHORIZATION, authorization(key)?);
        }
        let connector = connector(options.connect_timeout_ms)?;
        let pool =
            PooledClient::builder(TokioExecutor::new()).pool_max_idle_per_host(4).build(connector);
        Ok(Self { pool, address, headers, request_timeout_ms: options.request_timeout_ms })
    }

    /// The address calls go to, without a trailing slash.
    pub fn base_url(&self) -> &str {
        self.address.as_str()
    }

    /// Carries out one call.
    ///
    /// # Errors
    /// `ClientError::Api` for any answer of the node outside 2xx, otherwise the transport's error.
    pub async fn execute(&self, call: Call) -> Result<Reply, ClientError> {
        let wait = Duration::from_millis(self.request_timeout_ms);
        match tokio::time::timeout(wait, self.exchange(call)).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::TimedOut {
                url: self.base_url().to_owned(),
                timeout_ms: self.request_timeout_ms,
            }),
        }
    }

    async fn exchange(&self, call: Call) -> Result<Reply, ClientError> {
        let request = self.request(call)?;
        let response =
            self.pool.request(request).await.map_err(|error| self.transport_error(&error))?;
        self.reply(response).await
    }

    fn request(&self, call: Call) -> Result<Request<Full<Bytes>>, ClientError> {
        let uri = self.address.uri(&call.path_and_query())?;
        let mut request = Request::new(Full::new(call.body.clone().unwrap_or_default()));
        *request.method_mut() = call.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        if call.body.is_some() {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in call.headers {
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }

    async fn reply(&self, response: Response<hyper::body::Incoming>) -> Result<Reply, ClientError> {
        let (parts, body) = response.into_parts();
        let collected = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
            ClientError::Interrupted { url: self.base_url().to_owned(), reason: error.to_string() }
        })?;
        let reply = Reply {
            url: self.base_url().to_owned(),
            status: parts.status.as_u16(),
            request_id: header_text(&parts.headers, "x-request-id"),
            retry_after_seconds: header_text(&parts.headers, "retry-after")
                .and_then(|text| text.parse().ok()),
            replayed: header_text(&parts.headers, "idempotent-replayed").as_deref() == Some("true"),
            body: collected.to_bytes(),
        };
        if parts.status.is_success() { Ok(reply) } else { Err(reply.into_error()) }
    }

    fn transport_error(&self, error: &hyper_util::client::legacy::Error) -> ClientError {
        let url = self.base_url().to_owned();
        let reason = error.source().map_or_else(|| error.to_string(), error::transport_reason);
        if error.is_connect() {
            ClientError::Unreachable { url, reason }
        } else {
            ClientError::Interrupted { url, reason }
        }
    }
}

/// A connector for `http` and `https`, with the public roots that are compiled in and Nagle's algorithm off.
///
/// # Errors
/// `ClientError::Tls` when the TLS provider refuses its own defaults.
pub fn connector(connect_timeout_ms: u64) -> Result<Connector, ClientError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_millis(connect_timeout_ms)));
    let provider = rustls::crypto::ring::default_provider();
    let builder = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(provider)
        .map_err(|error| ClientError::Tls { reason: error.to_string() })?;
    Ok(builder.https_or_http().enable_http1().wrap_connector(tcp))
}

/// The `Authorization` value of a key, marked sensitive so that it is never printed by a debug format.
///
/// # Errors
/// `ClientError::Key` when the key is empty or could not be in a header.
pub fn authorization(key: &str) -> Result<HeaderValue, ClientError> {
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ClientError::Key);
    }
    let mut value =
        HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| ClientError::Key)?;
    value.set_sensitive(true);
    Ok(value)
}

fn header_text(headers: &HeaderMap, name: &'static str) -> Option<String> {
    headers
        .get(HeaderName::from_static(name))
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}
