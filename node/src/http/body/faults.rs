//! Collects the faults of one request, so that the client sees all of them at once.
//!
//! - `FAULTS-1`: each fault names the field as the client wrote it.
//! - `FAULTS-2`: at most [`FAULTS_MAX`] faults are kept, so that the error stays small.

use crate::http::error::ApiError;
use triggers_protocol::ErrorCode;
use triggers_protocol::api::Detail;

/// Faults in one error, at most.
const FAULTS_MAX: usize = 100;

/// The faults of a request.
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
