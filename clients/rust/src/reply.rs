//! A complete answer of the node: status, the headers the command line cares about, and the body as it came.
//!
//! Invariant: a `Reply` that leaves `Client::execute` has a 2xx status; any other became a `ClientError` here.
//! Decoding is separate from receiving, so that machine output is the node's own bytes and a field this version does not
//! know is passed on.
//!
//! It is not a stream: the body is in memory, bounded by `BODY_BYTES_MAX`.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::ClientError;
use super::error::api_failure;

/// One answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The base address that answered.
    pub url: String,
    /// The HTTP status.
    pub status: u16,
    /// `X-Request-ID` of the answer.
    pub request_id: Option<String>,
    /// `Retry-After`, in seconds, if it was a number.
    pub retry_after_seconds: Option<u64>,
    /// Whether this is the first answer to an idempotency key, given again.
    pub replayed: bool,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl Reply {
    /// Reads the body as JSON.
    ///
    /// # Errors
    /// `ClientError::Unexpected` when it does not have that shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| self.unexpected(error.to_string()))
    }

    /// The body as text, without surrounding white space.
    ///
    /// # Errors
    /// `ClientError::Unexpected` when it is not UTF-8.
    pub fn text(&self) -> Result<&str, ClientError> {
        std::str::from_utf8(&self.body)
            .map(str::trim)
            .map_err(|error| self.unexpected(error.to_string()))
    }

    pub(super) fn into_error(self) -> ClientError {
        match api_failure(self.status, &self.body) {
            Ok(mut failure) => {
                failure.request_id = failure.request_id.or(self.request_id);
                failure.retry_after_seconds = self.retry_after_seconds;
                ClientError::Api(Box::new(failure))
            }
            Err(reason) => self.unexpected(reason),
        }
    }

    fn unexpected(&self, reason: String) -> ClientError {
        ClientError::Unexpected { url: self.url.clone(), status: self.status, reason }
    }
}
