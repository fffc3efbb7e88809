//! The id in a path, such as `{id}` in `/v1/events/{id}`.
//!
//! Invariant: `PATH-1` text that cannot be an id, also such as is not UTF-8, is the id of nothing: the answer is 404, as for
//! an id that was never given out. It does not know what the id is of; handlers parse it.

use crate::http::error::ApiError;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

/// The one id of a path, decoded.
pub(crate) struct PathId(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| ApiError::not_found("resource"))
    }
}
