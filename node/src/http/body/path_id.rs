//! Extracts the id in a path, such as `{id}` in `/v1/events/{id}`. Handlers parse it.
//!
//! - `PATH-1`: text that cannot be an id, such as invalid UTF-8, is answered with 404, as an
//!   unknown id is.

use crate::http::error::ApiError;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

/// The percent-decoded id in a path.
pub(crate) struct PathId(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| ApiError::not_found("resource"))
    }
}
