//! The error codes of the public API and the HTTP status of each code.
//!
//! Invariant: `ERROR-1` a code always has the same status, and `docs/reference/error-codes.md` has
//! a section for each code (checked by a test).
//!
//! Other layers have error types of their own, without HTTP.

/// The machine-readable code in `error.code` of an error response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A field or parameter breaks a rule; `details` names it.
    ValidationError,
    /// The body is not valid JSON.
    InvalidJson,
    /// The API did not issue this cursor to this tenant.
    InvalidCursor,
    /// The request has no valid API key.
    Unauthorized,
    /// The key lacks the required scope.
    Forbidden,
    /// The tenant has no such resource, or the route does not exist.
    NotFound,
    /// The route does not support the method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The state of the resource does not permit the operation.
    Conflict,
    /// The resource was deleted.
    Gone,
    /// The body or payload exceeds its limit.
    PayloadTooLarge,
    /// The route does not accept the content type.
    UnsupportedMediaType,
    /// The idempotency key was used for a different request.
    IdempotencyKeyReused,
    /// The key or the client address exceeded its request rate.
    RateLimitExceeded,
    /// The tenant reached its limit of stored events or of requests in progress.
    TenantQuotaExceeded,
    /// The request has too many or too large header fields.
    HeaderFieldsTooLarge,
    /// The node failed unexpectedly.
    InternalError,
    /// The node or its store cannot handle the request at present.
    Unavailable,
}

impl ErrorCode {
    /// Every code, in the order of the statuses.
    pub const ALL: [ErrorCode; 18] = [
        Self::ValidationError,
        Self::InvalidJson,
        Self::InvalidCursor,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Conflict,
        Self::Gone,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::IdempotencyKeyReused,
        Self::RateLimitExceeded,
        Self::TenantQuotaExceeded,
        Self::HeaderFieldsTooLarge,
        Self::InternalError,
        Self::Unavailable,
    ];

    /// The code as written in `error.code`, and its HTTP status.
    const fn row(self) -> (&'static str, u16) {
        match self {
            Self::ValidationError => ("VALIDATION_ERROR", 400),
            Self::InvalidJson => ("INVALID_JSON", 400),
            Self::InvalidCursor => ("INVALID_CURSOR", 400),
            Self::Unauthorized => ("UNAUTHORIZED", 401),
            Self::Forbidden => ("FORBIDDEN", 403),
            Self::NotFound => ("NOT_FOUND", 404),
            Self::MethodNotAllowed => ("METHOD_NOT_ALLOWED", 405),
            Self::RequestTimeout => ("REQUEST_TIMEOUT", 408),
            Self::Conflict => ("CONFLICT", 409),
            Self::Gone => ("GONE", 410),
            Self::PayloadTooLarge => ("PAYLOAD_TOO_LARGE", 413),
            Self::UnsupportedMediaType => ("UNSUPPORTED_MEDIA_TYPE", 415),
            Self::IdempotencyKeyReused => ("IDEMPOTENCY_KEY_REUSED", 422),
            Self::RateLimitExceeded => ("RATE_LIMIT_EXCEEDED", 429),
            Self::TenantQuotaExceeded => ("TENANT_QUOTA_EXCEEDED", 429),
            Self::HeaderFieldsTooLarge => ("HEADER_FIELDS_TOO_LARGE", 431),
            Self::InternalError => ("INTERNAL_ERROR", 500),
            Self::Unavailable => ("UNAVAILABLE", 503),
        }
    }

    /// The code as written in `error.code`.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status of a response with this code.
    pub const fn status(self) -> u16 {
        self.row().1
    }
}
