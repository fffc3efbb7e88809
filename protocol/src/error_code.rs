//! The error codes of the public API and the HTTP status of each code.
//!
//! Invariant: `ERROR-1` a code always has the same status, and `docs/reference/error-codes.md` has
//! a section for each code (checked by a test).
//!
//! Other layers have error types of their own, without HTTP.

crate::text_form::named_enum! {
    /// The machine-readable code in `error.code` of an error response. The order is that of the
    /// statuses.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum ErrorCode {
        /// A field or parameter breaks a rule; `details` names it.
        ValidationError = "VALIDATION_ERROR",
        /// The body is not valid JSON.
        InvalidJson = "INVALID_JSON",
        /// The API did not issue this cursor to this tenant.
        InvalidCursor = "INVALID_CURSOR",
        /// The request has no valid API key.
        Unauthorized = "UNAUTHORIZED",
        /// The key lacks the required scope.
        Forbidden = "FORBIDDEN",
        /// The tenant has no such resource, or the route does not exist.
        NotFound = "NOT_FOUND",
        /// The route does not support the method.
        MethodNotAllowed = "METHOD_NOT_ALLOWED",
        /// The body did not arrive in time.
        RequestTimeout = "REQUEST_TIMEOUT",
        /// The state of the resource does not permit the operation.
        Conflict = "CONFLICT",
        /// The resource was deleted.
        Gone = "GONE",
        /// The body or payload exceeds its limit.
        PayloadTooLarge = "PAYLOAD_TOO_LARGE",
        /// The route does not accept the content type.
        UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE",
        /// The idempotency key was used for a different request.
        IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED",
        /// The key or the client address exceeded its request rate.
        RateLimitExceeded = "RATE_LIMIT_EXCEEDED",
        /// The tenant reached its limit of stored events or of requests in progress.
        TenantQuotaExceeded = "TENANT_QUOTA_EXCEEDED",
        /// The request has too many or too large header fields.
        HeaderFieldsTooLarge = "HEADER_FIELDS_TOO_LARGE",
        /// The node failed unexpectedly.
        InternalError = "INTERNAL_ERROR",
        /// The node or its store cannot handle the request at present.
        Unavailable = "UNAVAILABLE",
    }
}

impl ErrorCode {
    /// The HTTP status of a response with this code.
    pub const fn status(self) -> u16 {
        match self {
            Self::ValidationError | Self::InvalidJson | Self::InvalidCursor => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::Conflict => 409,
            Self::Gone => 410,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::IdempotencyKeyReused => 422,
            Self::RateLimitExceeded | Self::TenantQuotaExceeded => 429,
            Self::HeaderFieldsTooLarge => 431,
            Self::InternalError => 500,
            Self::Unavailable => 503,
        }
    }
}
