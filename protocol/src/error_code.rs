//! The error codes of the public API, and the HTTP status each one goes with.
//!
//! Invariant: `ERROR-1` a code always has the same status; `docs/reference/error-codes.md` has a section for each, which a test
//! compares. It is not the error type of any layer: actors and stores have their own, free of HTTP.

/// A machine-readable code in `error.code` of an error response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A field or parameter breaks a rule; `details` names it.
    ValidationError,
    /// The body is not JSON.
    InvalidJson,
    /// The cursor is not one that this API gave to this tenant.
    InvalidCursor,
    /// No valid API key.
    Unauthorized,
    /// The key lacks the scope.
    Forbidden,
    /// No such route or resource for this tenant.
    NotFound,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The resource is in a state that does not allow this.
    Conflict,
    /// Deleted before.
    Gone,
    /// The body or payload is over its limit.
    PayloadTooLarge,
    /// The content type is none that this route takes.
    UnsupportedMediaType,
    /// The idempotency key was used with another body.
    IdempotencyKeyReused,
    /// The key's or the address's request rate is used up.
    RateLimitExceeded,
    /// The tenant has as much stored or in flight as it may.
    TenantQuotaExceeded,
    /// Too many or too large header fields.
    HeaderFieldsTooLarge,
    /// A fault of the node.
    InternalError,
    /// The node or its store cannot take this now.
    Unavailable,
}

impl ErrorCode {
    /// Every code, in the order of their statuses.
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

    /// The code as it stands in `error.code`, and its HTTP status.
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

    /// The code as it stands in `error.code`.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status it goes with.
    pub const fn status(self) -> u16 {
        self.row().1
    }
}
