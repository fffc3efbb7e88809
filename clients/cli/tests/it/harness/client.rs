//! An HTTP client for tests: kept connections, and one deadline per call.
//!
//! `Call` is a request under construction, `Answer` a response with its raw bytes. A body has the
//! content type `application/json` unless the call sets another. `try_send` returns a broken
//! connection as an error, which tests that kill nodes expect; `send` panics.
//!
//! 1. A call is sent at most once; the test decides what an unanswered call means.

use super::STATE_DEADLINE_MS;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full};
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Request};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::io::{Read, Write};
use std::time::Duration;

/// A request, without address and key.
#[derive(Clone, Debug)]
pub struct Call {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Call {
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path)
    }

    /// A POST with these bytes as its body.
    pub fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self::new("POST", path).body(body)
    }

    /// A POST of one event, with the payload as written.
    pub fn event(event_type: &str, payload: &str) -> Self {
        Self::post(
            "/v1/events",
            format!("{{\"event_type\":\"{event_type}\",\"payload\":{payload}}}"),
        )
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same request with its body compressed as gzip or zstd.
    pub fn coded(self, coding: &str) -> Self {
        let body = if coding == "zstd" {
            zstd::encode_all(&self.body[..], 3).expect("memory is written")
        } else {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&self.body).expect("memory is written");
            encoder.finish().expect("memory is written")
        };
        self.body(body).header("content-encoding", coding)
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name))
    }
}

/// A complete HTTP response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; panics with the body if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("not JSON ({error}), status {}: {}", self.status, self.text())
        })
    }

    /// The same answer with its body expanded, as its `Content-Encoding` says.
    pub fn expanded(mut self) -> Self {
        let mut body = Vec::new();
        match self.header("content-encoding") {
            "gzip" => drop(GzDecoder::new(&self.body[..]).read_to_end(&mut body).expect("gzip")),
            "zstd" => body = zstd::decode_all(&self.body[..]).expect("zstd"),
            other => panic!("content-encoding: {other:?}"),
        }
        self.body = body.into();
        self
    }

    /// The body as text, shortened for a failure message.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(2_000).collect()
    }

    /// A header as text; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Panics with the answer unless it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "unexpected answer: {}", self.text());
        self
    }

    /// The string at a JSON pointer in the body; panics if there is none.
    #[track_caller]
    pub fn string(&self, pointer: &str) -> String {
        let json = self.json();
        let value = json.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no string at {pointer}: {}", self.text())).to_owned()
    }
}

/// A client with one address and one key. Clones share connections.
#[derive(Clone)]
pub struct Client {
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    url: String,
    key: Option<String>,
}

impl Client {
    pub fn new(url: &str, key: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = legacy::Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .build(connector);
        Self { http, url: url.trim_end_matches('/').to_owned(), key: Some(key.to_owned()) }
    }

    /// The same address with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The same address with no key at all.
    pub fn anonymous(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    /// Sends the call once; the error describes the broken connection.
    pub async fn try_send(&self, call: Call) -> Result<Answer, String> {
        let request = self.request(call);
        let exchange = async {
            let response =
                self.http.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        tokio::time::timeout(Duration::from_millis(STATE_DEADLINE_MS), exchange)
            .await
            .unwrap_or_else(|_| Err("no answer before the deadline".to_owned()))
    }

    /// Sends the call once; panics if the connection breaks.
    pub async fn send(&self, call: Call) -> Answer {
        let what = format!("{} {}", call.method, call.path);
        self.try_send(call).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Call::get(path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Call::delete(path)).await
    }

    /// A POST of a JSON value.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Call::post(path, body.to_string())).await
    }

    /// Posts one event, which must be accepted, and returns its id.
    pub async fn accepted(&self, event_type: &str, payload: &str) -> String {
        self.send(Call::event(event_type, payload)).await.expect(201).string("/event_id")
    }

    fn request(&self, call: Call) -> Request<Full<Bytes>> {
        let mut request =
            Request::builder().method(call.method).uri(format!("{}{}", self.url, call.path));
        if !call.body.is_empty() && !call.has("content-type") {
            request = request.header("content-type", "application/json");
        }
        if let Some(key) =
            self.key.as_ref().filter(|_| !call.has("x-api-key") && !call.has("authorization"))
        {
            request = request.header("x-api-key", key);
        }
        for (name, value) in &call.headers {
            request = request.header(
                name,
                HeaderValue::from_bytes(value.as_bytes()).expect("a header without line breaks"),
            );
        }
        request.body(Full::new(call.body)).expect("a test's request is well formed")
    }
}
