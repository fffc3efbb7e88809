//! The body of every error, in the form of `application/json` and in the form of RFC 9457.

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every error.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorMember,
}

/// The `error` member of an error's body.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorMember {
    /// One of the documented codes.
    #[schema(example = "VALIDATION_ERROR")]
    pub code: String,
    /// A sentence for people; it may change.
    pub message: String,
    /// The invalid fields; only with validation errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub details: Vec<Detail>,
    /// Time of the answer.
    #[schema(value_type = String, format = "date-time", example = "2026-01-01T00:00:00.000Z")]
    pub timestamp: Timestamp,
    /// The request's id, as in `X-Request-ID`.
    pub request_id: String,
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Detail {
    /// The field: a path into the body, or the name of a parameter or header.
    #[schema(example = "payload")]
    pub field: String,
    /// The rule that it breaks.
    #[schema(example = "must be a JSON object")]
    pub message: String,
}

/// An error in the form of RFC 9457, for clients that accept `application/problem+json`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the error's code.
    pub r#type: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// A sentence for people.
    pub detail: String,
    /// Names this occurrence.
    pub instance: String,
    /// The error in the form of `application/json`.
    pub error: ErrorMember,
}
