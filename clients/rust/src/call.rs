//! A call to the API before it is sent: method, path, query, headers, JSON body.
//!
//! `CALL-1`: each path segment and each query value is percent-encoded, so an id that a person
//! typed cannot address something else.

use super::error::ClientError;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Serialize;
use std::fmt::{Display, Write as _};

/// A request that has not been sent yet.
#[derive(Debug, Clone)]
pub struct Call {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    path: String,
    query: String,
}

impl Call {
    /// `GET` of `/v1` followed by these segments.
    pub fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// `POST` to `/v1` followed by these segments.
    pub fn post(segments: &[&str]) -> Self {
        Self::new(Method::POST, segments)
    }

    /// `PATCH` of `/v1` followed by these segments.
    pub fn patch(segments: &[&str]) -> Self {
        Self::new(Method::PATCH, segments)
    }

    /// `DELETE` of `/v1` followed by these segments.
    pub fn delete(segments: &[&str]) -> Self {
        Self::new(Method::DELETE, segments)
    }

    /// `GET` of a path outside `/v1`.
    pub(super) fn get_root(segment: &str) -> Self {
        Self { path: format!("/{segment}"), ..Self::new(Method::GET, &[]) }
    }

    fn new(method: Method, segments: &[&str]) -> Self {
        let mut path = String::from("/v1");
        for segment in segments {
            path.push('/');
            path.push_str(&percent_encoded(segment));
        }
        Self { method, path, query: String::new(), headers: HeaderMap::new(), body: None }
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

    /// Adds one query parameter if there is a value.
    #[must_use]
    pub fn query_optional(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.query(name, &value.to_string()),
            None => self,
        }
    }

    /// Adds one query parameter for each value.
    #[must_use]
    pub fn query_each(self, name: &str, values: &[String]) -> Self {
        values.iter().fold(self, |call, value| call.query(name, value))
    }

    /// Sets a header.
    ///
    /// # Errors
    /// `ClientError::Header` if the value has characters that a header cannot carry.
    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self, ClientError> {
        let value = HeaderValue::from_str(value).map_err(|_| ClientError::Header { name })?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Sets a header if there is a value.
    ///
    /// # Errors
    /// As [`Call::header`].
    pub fn header_optional(
        self,
        name: &'static str,
        value: Option<&str>,
    ) -> Result<Self, ClientError> {
        match value {
            Some(value) => self.header(name, value),
            None => Ok(self),
        }
    }

    /// Sets the body.
    ///
    /// # Errors
    /// `ClientError::Encode` if the value cannot be written as JSON.
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

/// Percent-encodes everything but the unreserved characters of RFC 3986, so that the text is one
/// path segment or one query value whatever it contains.
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
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
    fn a_header_with_a_line_break_is_rejected() {
        let error = Call::get(&["inbox"]).header("x-idempotency-key", "a\r\nb").unwrap_err();
        assert!(error.to_string().contains("x-idempotency-key"));
    }

    #[test]
    fn encoding_leaves_only_unreserved_characters() {
        assert_eq!(percent_encoded("order.*"), "order.%2A");
        assert_eq!(percent_encoded("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
    }
}
