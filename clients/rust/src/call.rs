//! One call to the API, described before it is made: method, path, query, headers, JSON body.
//!
//! Invariants: a path is put together from encoded segments, so an id typed by a person cannot address something else;
//! query values are encoded; the body is JSON text made once.
//!
//! It knows no resource: the commands say which path and which body. It performs nothing; see `Client::execute`.

use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde::Serialize;

use super::ClientError;
use super::address::percent_encoded;

/// A request that has not been sent yet.
#[derive(Debug, Clone)]
pub struct Call {
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Option<Bytes>,
    path: String,
    query: String,
}

impl Call {
    /// `GET` of the path made of these segments behind `/v1`.
    pub fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// `POST` to the path made of these segments behind `/v1`.
    pub fn post(segments: &[&str]) -> Self {
        Self::new(Method::POST, segments)
    }

    /// `PATCH` of the path made of these segments behind `/v1`.
    pub fn patch(segments: &[&str]) -> Self {
        Self::new(Method::PATCH, segments)
    }

    /// `DELETE` of the path made of these segments behind `/v1`.
    pub fn delete(segments: &[&str]) -> Self {
        Self::new(Method::DELETE, segments)
    }

    fn new(method: Method, segments: &[&str]) -> Self {
        let mut path = String::from("/v1");
        for segment in segments {
            path.push('/');
            path.push_str(&percent_encoded(segment));
        }
        Self { method, path, query: String::new(), headers: Vec::new(), body: None }
    }

    /// Adds one query parameter; the same name may be added again.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(name);
        self.query.push('=');
        self.query.push_str(&percent_encoded(value));
        self
    }

    /// Adds one query parameter when there is a value.
    #[must_use]
    pub fn query_optional(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Adds a header.
    ///
    /// # Errors
    /// `ClientError::Header` when the value has characters a header cannot carry.
    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self, ClientError> {
        let value = HeaderValue::from_str(value).map_err(|_| ClientError::Header { name })?;
        self.headers.push((HeaderName::from_static(name), value));
        Ok(self)
    }

    /// Sets the body.
    ///
    /// # Errors
    /// `ClientError::Encode` when the value cannot be written as JSON.
    pub fn json(mut self, body: &impl Serialize) -> Result<Self, ClientError> {
        let text = serde_json::to_vec(body)
            .map_err(|error| ClientError::Encode { reason: error.to_string() })?;
        self.body = Some(Bytes::from(text));
        Ok(self)
    }

    /// The path with its query, as it stands on the request line.
    pub fn path_and_query(&self) -> String {
        format!("{}{}", self.path, self.query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_values_are_encoded() {
        let call = Call::get(&["events", "../keys", "status"])
            .query("event_type", "order.*")
            .query("limit", "5");
        assert_eq!(
            call.path_and_query(),
            "/v1/events/..%2Fkeys/status?event_type=order.%2A&limit=5"
        );
    }

    #[test]
    fn a_header_with_a_line_break_is_refused() {
        let error = Call::get(&["inbox"]).header("x-idempotency-key", "a\r\nb").unwrap_err();
        assert!(error.to_string().contains("x-idempotency-key"));
    }
}
