//! The reasons for which a call fails.
//!
//! - `CLIENT-ERROR-1`: a message never contains the key.
//! - `CLIENT-ERROR-2`: `Unreachable` means that the node cannot have processed the request; after
//!   `Interrupted` and `TimedOut` it may have.

use std::error::Error;
use std::fmt;
use std::io;
use triggers_protocol::api::{Detail, ErrorBody};

/// The reasons for which a call can fail.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base address cannot be used.
    #[error("the address {url:?} cannot be used: {reason}; write it like http://127.0.0.1:8080")]
    Address {
        /// The address, without credentials.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The API key is empty or malformed.
    #[error("the API key is empty or has characters that no key has; a key looks like trg_live_…")]
    Key,
    /// A header's value cannot be sent.
    #[error("the value for {name} has characters that a header cannot carry")]
    Header {
        /// Name of the header.
        name: &'static str,
    },
    /// A path segment is `.` or `..`.
    #[error("the path {path} has a segment that names nothing")]
    Path {
        /// The path with its query.
        path: String,
    },
    /// The request body could not be written as JSON.
    #[error("the request cannot be written as JSON: {reason}")]
    Encode {
        /// The encoder's message.
        reason: String,
    },
    /// TLS could not be set up on this machine.
    #[error("TLS cannot be set up: {reason}")]
    Tls {
        /// The TLS library's message.
        reason: String,
    },
    /// There was no connection, so the node processed nothing.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The base address.
        url: String,
        /// The reason, with a hint where there is one.
        reason: String,
    },
    /// The connection ended before the answer was complete.
    #[error(
        "the connection to {url} ended before the answer was complete ({reason}); the request may \
         have taken effect"
    )]
    Interrupted {
        /// The base address.
        url: String,
        /// The message of the HTTP library.
        reason: String,
    },
    /// There was no complete answer in time.
    #[error("no answer from {url} within {timeout_ms} ms; the request may have taken effect")]
    TimedOut {
        /// The base address.
        url: String,
        /// The request timeout, in milliseconds.
        timeout_ms: u64,
    },
    /// The node answered with an error.
    #[error(transparent)]
    Api(Box<ApiFailure>),
    /// The answer is not one of this API.
    #[error(
        "{url} answered {status} with something that is not a Triggers answer ({reason}); is this \
         the right address?"
    )]
    Unexpected {
        /// The base address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Why the answer could not be read.
        reason: String,
    },
}

impl ClientError {
    /// Whether the same call may succeed later: the node was unreachable, busy or limiting the
    /// rate.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } | Self::TimedOut { .. } => true,
            Self::Api(failure) => matches!(failure.status, 429 | 502..=504),
            _ => false,
        }
    }

    /// How long the node asked the caller to wait, in seconds.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Api(failure) => failure.retry_after_seconds,
            _ => None,
        }
    }
}

/// An error answer of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiFailure {
    /// The HTTP status.
    pub status: u16,
    /// The stable code, such as `VALIDATION_ERROR`.
    pub code: String,
    /// The explanation for people.
    pub message: String,
    /// The faults field by field; empty unless it was a validation error.
    pub details: Vec<Detail>,
    /// The request id, to quote when asking the operator.
    pub request_id: Option<String>,
    /// `Retry-After`, in seconds.
    pub retry_after_seconds: Option<u64>,
}

impl Error for ApiFailure {}

impl fmt::Display for ApiFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.status, self.code, self.message)?;
        for fault in &self.details {
            write!(formatter, "\n  {}: {}", fault.field, fault.message)?;
        }
        if let Some(seconds) = self.retry_after_seconds {
            write!(formatter, "\n  retry after: {seconds} s")?;
        }
        if let Some(id) = &self.request_id {
            write!(formatter, "\n  request id: {id}")?;
        }
        Ok(())
    }
}

/// Reads an error body.
///
/// # Errors
/// The parser's message if the body is not an error body of the API.
pub(super) fn api_failure(status: u16, body: &[u8]) -> Result<ApiFailure, String> {
    let ErrorBody { error } = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Ok(ApiFailure {
        status,
        code: error.code,
        message: error.message,
        details: error.details,
        request_id: Some(error.request_id),
        retry_after_seconds: None,
    })
}

/// Describes why a connection failed, from a chain of library errors.
pub fn transport_reason(error: &(dyn Error + 'static)) -> String {
    let mut current = Some(error);
    let mut deepest = error.to_string();
    while let Some(error) = current {
        let text = error.to_string();
        if text.starts_with("dns error") {
            return "the host name is not known".to_owned();
        }
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(words) = io_reason(io)
        {
            return words.to_owned();
        }
        deepest = text;
        current = error.source();
    }
    deepest
}

fn io_reason(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some("connection refused; is the node running?"),
        io::ErrorKind::TimedOut => {
            Some("no connection in time; is the address right and the port open?")
        }
        io::ErrorKind::ConnectionReset => Some("connection reset by the other side"),
        io::ErrorKind::HostUnreachable => Some("the host cannot be reached"),
        io::ErrorKind::NetworkUnreachable => Some("the network cannot be reached"),
        io::ErrorKind::UnexpectedEof => Some("the other side closed the connection"),
        _ if error.raw_os_error() == Some(24) => {
            Some("too many open files; raise the limit (ulimit -n)")
        }
        _ => None,
    }
}
