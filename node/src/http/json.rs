//! Builds responses with a JSON body.

use super::error::ApiError;
use super::respond::HEADERS_ADDED;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

/// Capacity for the headers of a JSON response, including those that every response gets.
const HEADERS_MAX: usize = HEADERS_ADDED + 4;

/// Builds a response with a JSON body. `bytes_hint` is the expected size of the body in bytes.
///
/// # Errors
/// 500 if the value cannot be written as JSON.
pub(crate) fn respond<T: Serialize>(
    status: StatusCode,
    value: &T,
    bytes_hint: usize,
) -> Result<Response, ApiError> {
    let mut body = Vec::with_capacity(bytes_hint);
    serde_json::to_writer(&mut body, value).map_err(ApiError::internal)?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().reserve(HEADERS_MAX);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
