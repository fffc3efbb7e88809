//! The one error type of the HTTP server: a code and what the client needs to know.
//!
//! - `API-ERROR-1`: the status follows from the code alone.
//! - `API-ERROR-2`: messages are written for clients. Reasons of actors and stores go to the log,
//!   never into an [`ApiError`].
//! - `API-ERROR-3`: 429 and 503 always have `Retry-After`.
//! - `FAULTS-1`: each fault names the field as the client wrote it.
//! - `FAULTS-2`: at most `FAULTS_MAX` faults are kept, so that the error stays small.
//!
//! The response of an error has only its status, and the error as an extension. [`super::respond`]
//! adds the body, which depends on the request.

use crate::http::forwarded::NotOwner;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use triggers_actors::BrokerError;
use triggers_actors::model::TableError;
use triggers_protocol::ErrorCode;
use triggers_protocol::api::Detail;
use triggers_store::kv::{Fault, StoreError};

/// Default of `Retry-After` in seconds.
const RETRY_AFTER_SECONDS: u64 = 1;
/// Faults in one error, at most.
const FAULTS_MAX: usize = 100;
const UNAVAILABLE: &str = "the service cannot take this request now; try again";

/// A rejected or failed request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct ApiError {
    /// Code of the error, which determines the status.
    pub code: ErrorCode,
    /// Explanation for people.
    pub message: String,
    /// Invalid fields of a validation error.
    pub details: Vec<Detail>,
    /// `Retry-After` in whole seconds, at least 1.
    pub retry_after_seconds: Option<u64>,
    /// Value of `Accept-Encoding` for a 415 because of the coding.
    pub accept_encoding: Option<&'static str>,
    /// The request had no effect, because another node owns the tenant.
    pub is_not_owner: bool,
}

impl ApiError {
    /// Creates an error with a message for the client. 429 and 503 get a `Retry-After` of 1 s.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let retry_after_seconds = matches!(code.status(), 429 | 503).then_some(RETRY_AFTER_SECONDS);
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
            retry_after_seconds,
            accept_encoding: None,
            is_not_owner: false,
        }
    }

    /// Creates a validation error of one field. The message continues its name: "must be …".
    pub fn validation(field: impl Into<String>, message: impl Into<String>) -> Self {
        let (field, message) = (field.into(), message.into());
        Self::new(ErrorCode::ValidationError, format!("{field} {message}"))
            .with_detail(field, message)
    }

    /// Adds a field that is not valid.
    pub fn with_detail(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.details.push(Detail { field: field.into(), message: message.into() });
        self
    }

    /// Sets `Retry-After` in whole seconds, at least 1.
    pub fn with_retry_after_seconds(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds.max(1));
        self
    }

    /// Creates a 503. The reason is logged and not sent to the client.
    pub fn unavailable(reason: impl std::fmt::Display) -> Self {
        tracing::warn!(%reason, "request rejected as unavailable");
        Self::new(ErrorCode::Unavailable, UNAVAILABLE)
    }

    /// Creates the 503 of a request that had no effect, because another node owns the tenant.
    pub(crate) fn not_owner() -> Self {
        Self { is_not_owner: true, ..Self::new(ErrorCode::Unavailable, UNAVAILABLE) }
    }

    /// Creates a 500. The reason is logged and not sent to the client.
    pub fn internal(reason: impl std::fmt::Display) -> Self {
        tracing::error!(%reason, "request failed");
        Self::new(ErrorCode::InternalError, "the request failed because of a fault of the service")
    }

    /// Creates the 404 of a resource that the tenant does not have.
    pub fn not_found(what: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("no such {what}"))
    }

    /// HTTP status of the code.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Creates the 503 of a write whose outcome is not known.
    pub(crate) fn unknown_outcome(reason: impl std::fmt::Display) -> Self {
        tracing::warn!(%reason, "request has an unknown outcome");
        let message = "the outcome is not known: the request may have been accepted; \
                       try again, with the same idempotency key if it creates something";
        Self::new(ErrorCode::Unavailable, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        if self.is_not_owner {
            response.extensions_mut().insert(NotOwner);
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Retryable(_) => Self::unavailable(error),
            StoreError::MaybeCommitted(_) => Self::unknown_outcome(error),
            StoreError::Fatal {
                fault: Fault::Full | Fault::DeadlinePassed | Fault::Stopped,
                ..
            } => Self::unavailable(error),
            StoreError::Fatal {
                fault: Fault::LimitExceeded | Fault::Corrupt | Fault::Unsupported,
                ..
            } => Self::internal(error),
        }
    }
}

impl From<TableError> for ApiError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Store(error) => error.into(),
            TableError::NotOwner { .. } => Self::not_owner(),
            TableError::HeadMoved { .. } => Self::unavailable(error),
        }
    }
}

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::TenantBusy => Self::new(
                ErrorCode::TenantQuotaExceeded,
                "the tenant has too many requests in flight; try again",
            ),
            BrokerError::Unknown => Self::unknown_outcome("the broker does not know"),
            BrokerError::Store(error) => error.into(),
            BrokerError::NotOwner => Self::not_owner(),
            BrokerError::ClockSuspect => Self::new(ErrorCode::Unavailable, error.to_string()),
            BrokerError::NodeBusy | BrokerError::NodeExhausted | BrokerError::DeadlinePassed => {
                Self::unavailable(error)
            }
        }
    }
}

/// Collects the faults of a request, so that the client sees all of them at once.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Detail>);

impl Faults {
    /// Adds a fault of a field.
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(Detail { field: field.into(), message: message.into() });
        }
    }

    /// Whether there is no fault.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The error that lists all faults.
    pub(crate) fn into_error(self) -> ApiError {
        let message = match self.0.as_slice() {
            [only] => format!("{} {}", only.field, only.message),
            several => format!("{} fields are not valid", several.len()),
        };
        ApiError { details: self.0, ..ApiError::new(ErrorCode::ValidationError, message) }
    }

    /// Checks that there is no fault.
    ///
    /// # Errors
    /// 400 that lists all faults.
    pub(crate) fn check(self) -> Result<(), ApiError> {
        if self.is_empty() { Ok(()) } else { Err(self.into_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_rejection_has_retry_after() {
        for code in ErrorCode::ALL {
            let error = ApiError::new(code, "x");
            assert_eq!(
                error.retry_after_seconds.is_some(),
                matches!(error.status().as_u16(), 429 | 503),
                "API-ERROR-3: {error}"
            );
        }
        assert_eq!(
            ApiError::new(ErrorCode::Unavailable, "x")
                .with_retry_after_seconds(0)
                .retry_after_seconds,
            Some(1)
        );
    }

    #[test]
    fn clients_do_not_see_the_reasons_of_the_store() {
        let faults = [
            Fault::Full,
            Fault::DeadlinePassed,
            Fault::LimitExceeded,
            Fault::Corrupt,
            Fault::Stopped,
        ];
        for fault in faults {
            let error = ApiError::from(StoreError::fatal(fault, "/var/secret"));
            assert!(!error.message.contains("secret"), "API-ERROR-2: {error}");
            assert!(error.status().is_server_error(), "{error}");
        }
        let unknown = ApiError::from(StoreError::MaybeCommitted("/var/secret".into()));
        assert_eq!(unknown.code, ErrorCode::Unavailable);
        assert!(
            unknown.message.contains("may have been accepted")
                && !unknown.message.contains("secret")
        );
    }
}
