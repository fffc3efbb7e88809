//! The faults of one request, gathered so that a client learns of all of them at once.
//!
//! Invariants: `FAULTS-1` each fault names the field as the client wrote it; `FAULTS-2` at most [`FAULTS_MAX`] are kept,
//! so that an error stays small whatever was sent. It is not the error itself, which is [`ApiError`].

use crate::http::error::ApiError;
use triggers_protocol::ErrorCode;
use triggers_protocol::api::Detail;

/// Faults that one error lists.
const FAULTS_MAX: usize = 100;

/// Gathers faults.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Detail>);

impl Faults {
    /// Adds a fault of a field.
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(Detail { field: field.into(), message: message.into() });
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The error that lists them all.
    pub(crate) fn into_error(self) -> ApiError {
        let message = match self.0.as_slice() {
            [only] => format!("{} {}", only.field, only.message),
            several => format!("{} fields are not valid", several.len()),
        };
        ApiError { details: self.0, ..ApiError::new(ErrorCode::ValidationError, message) }
    }

    /// Nothing, or the error that lists them all.
    ///
    /// # Errors
    /// 400 if there is a fault.
    pub(crate) fn check(self) -> Result<(), ApiError> {
        if self.is_empty() { Ok(()) } else { Err(self.into_error()) }
    }
}
