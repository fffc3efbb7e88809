//! A complete answer of the node: status, headers that matter to callers, and the unparsed body.

use super::error::{ClientError, api_failure};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// One answer with a 2xx status, whose body is the JSON of a `T`. Any other answer is a
/// [`ClientError`].
#[derive(Debug, Clone)]
pub struct Reply<T> {
    /// The base address that answered.
    pub url: String,
    /// The HTTP status.
    pub status: u16,
    /// `X-Request-ID` of the answer.
    pub request_id: Option<String>,
    /// `Retry-After` in seconds, if it was a number.
    pub retry_after_seconds: Option<u64>,
    /// The node had already processed a request with this idempotency key and repeats its answer.
    pub is_replayed: bool,
    /// The body, byte for byte.
    pub body: Bytes,
    of: PhantomData<fn() -> T>,
}

impl<T> Reply<T> {
    pub(super) fn new(url: String, status: u16) -> Self {
        Self {
            url,
            status,
            request_id: None,
            retry_after_seconds: None,
            is_replayed: false,
            body: Bytes::new(),
            of: PhantomData,
        }
    }

    /// Reads the body.
    ///
    /// # Errors
    /// `ClientError::Unexpected` if the body does not have that shape.
    pub fn decode(&self) -> Result<T, ClientError>
    where
        T: DeserializeOwned,
    {
        self.decode_as()
    }

    /// Reads the body as another type, to get members that `T` does not have.
    ///
    /// # Errors
    /// `ClientError::Unexpected` if the body does not have that shape.
    pub fn decode_as<U: DeserializeOwned>(&self) -> Result<U, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| self.unexpected(error.to_string()))
    }

    /// The body as text, without surrounding white space.
    ///
    /// # Errors
    /// `ClientError::Unexpected` if the body is not UTF-8.
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
