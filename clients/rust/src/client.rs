//! Sends calls to one base address with one key.

use super::address::BaseAddress;
use super::call::Call;
use super::error::{ClientError, transport_reason};
use super::reply::Reply;
use bytes::BytesMut;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Response, Url};
use std::error::Error as _;
use std::time::Duration;

/// Largest answer that the client collects, in bytes: a full page of the largest events, with room
/// for envelopes.
pub const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

const USER_AGENT: &str = concat!("triggers-client/", env!("CARGO_PKG_VERSION"));
const IDLE_CONNECTIONS_MAX: usize = 4;

/// Settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    base_url: String,
    api_key: Option<String>,
    user_agent: String,
    connect_timeout: Duration,
    request_timeout: Duration,
}

impl ClientBuilder {
    /// Sets the API key. Without a key only the public paths answer.
    #[must_use]
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Sets the `User-Agent`.
    #[must_use]
    pub fn user_agent(mut self, text: impl Into<String>) -> Self {
        self.user_agent = text.into();
        self
    }

    /// Sets the longest wait for a connection. The default is 5 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the longest wait for a complete answer. The default is 30 seconds.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Checks the address and the key. Opens no connection.
    ///
    /// # Errors
    /// `ClientError::Address`, `ClientError::Key`, `ClientError::Header` or `ClientError::Tls`.
    pub fn build(self) -> Result<Client, ClientError> {
        let address = BaseAddress::parse(&self.base_url)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(key) = &self.api_key {
            headers.insert(AUTHORIZATION, authorization(key)?);
        }
        let user_agent = HeaderValue::from_str(&self.user_agent)
            .map_err(|_| ClientError::Header { name: "user-agent" })?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls()?)
            .default_headers(headers)
            .user_agent(user_agent)
            .connect_timeout(self.connect_timeout)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()
            .map_err(|error| ClientError::Tls { reason: error.to_string() })?;
        Ok(Client { http, address, request_timeout: self.request_timeout })
    }
}

/// A client of one node, or of the load balancer in front of many. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    address: BaseAddress,
    request_timeout: Duration,
}

impl Client {
    /// Begins a client of the node at `base_url`: `http://` or `https://`, a host, optionally a
    /// port and a path prefix.
    pub fn builder(base_url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            base_url: base_url.into(),
            api_key: None,
            user_agent: USER_AGENT.to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
        }
    }

    /// The base address, without a trailing slash.
    pub fn base_url(&self) -> &str {
        self.address.as_str()
    }

    /// Sends a call and waits for the complete answer, whose body is the JSON of a `T`.
    ///
    /// # Errors
    /// `ClientError::Api` for any answer of the node outside 2xx, otherwise why there is no answer.
    pub async fn send<T>(&self, call: Call) -> Result<Reply<T>, ClientError> {
        let request = self.request(call)?.timeout(self.request_timeout);
        let response = request.send().await.map_err(|error| self.transport_error(&error))?;
        self.reply(response).await
    }

    /// Sends a call whose answer is a stream. Only the connection has a timeout.
    pub(super) async fn open(&self, call: Call) -> Result<Response, ClientError> {
        let request = self.request(call)?;
        let response = request.send().await.map_err(|error| self.transport_error(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let reply: Reply<()> = self.reply(response).await?;
        Err(reply.into_error())
    }

    fn request(&self, call: Call) -> Result<reqwest::RequestBuilder, ClientError> {
        let uri = self.address.uri(&call.path_and_query())?;
        let url = Url::parse(&uri.to_string()).map_err(|error| ClientError::Address {
            url: self.base_url().to_owned(),
            reason: error.to_string(),
        })?;
        // A URL parser resolves `.` and `..`, so that the call would address something else.
        if url.path() != uri.path() {
            return Err(ClientError::Path { path: call.path_and_query() });
        }
        let mut request = self.http.request(call.method, url);
        if let Some(body) = call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        Ok(request.headers(call.headers))
    }

    async fn reply<T>(&self, mut response: Response) -> Result<Reply<T>, ClientError> {
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let mut reply = Reply::new(self.base_url().to_owned(), response.status().as_u16());
        reply.request_id = header("x-request-id").map(str::to_owned);
        reply.retry_after_seconds = header("retry-after").and_then(|text| text.parse().ok());
        reply.is_replayed = header("idempotent-replayed") == Some("true");
        let mut body = BytesMut::new();
        while let Some(piece) =
            response.chunk().await.map_err(|error| self.transport_error(&error))?
        {
            if body.len() + piece.len() > BODY_BYTES_MAX {
                return Err(ClientError::Interrupted {
                    url: self.base_url().to_owned(),
                    reason: format!("the answer is larger than {BODY_BYTES_MAX} bytes"),
                });
            }
            body.extend_from_slice(&piece);
        }
        reply.body = body.freeze();
        if (200..300).contains(&reply.status) { Ok(reply) } else { Err(reply.into_error()) }
    }

    /// Converts an error of the HTTP library.
    pub(super) fn transport_error(&self, error: &reqwest::Error) -> ClientError {
        let url = self.base_url().to_owned();
        let reason = error.source().map_or_else(|| error.to_string(), transport_reason);
        if error.is_connect() {
            ClientError::Unreachable { url, reason }
        } else if error.is_timeout() {
            let timeout_ms = u64::try_from(self.request_timeout.as_millis()).unwrap_or(u64::MAX);
            ClientError::TimedOut { url, timeout_ms }
        } else {
            ClientError::Interrupted { url, reason }
        }
    }
}

/// TLS with the public roots that are compiled in.
fn tls() -> Result<rustls::ClientConfig, ClientError> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = rustls::crypto::ring::default_provider().into();
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Tls { reason: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The `Authorization` value of a key, marked as sensitive so that no debug format prints it.
///
/// # Errors
/// `ClientError::Key` if the key is empty or has characters that a header cannot carry.
pub fn authorization(key: &str) -> Result<HeaderValue, ClientError> {
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ClientError::Key);
    }
    let mut value =
        HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| ClientError::Key)?;
    value.set_sensitive(true);
    Ok(value)
}
