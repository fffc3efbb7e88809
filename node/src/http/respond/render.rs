//! Renders error bodies: the error JSON, or on request a problem of RFC 9457.
//!
//! - `RENDER-1`: the `error` member is the same in both formats.
//! - `RENDER-2`: an error response of the framework (unknown route, wrong method, rejection by an
//!   extractor) gets the body of the code for its status. The framework's text is dropped.
//!
//! `triggers-protocol` defines the codes.

use crate::http::error::ApiError;
use axum::body::Body;
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use triggers_protocol::api::{ErrorBody, ErrorMember, Problem};
use triggers_protocol::{ErrorCode, Timestamp};

const PROBLEM: &str = "application/problem+json";
/// Address of the section that explains a code, without the code.
const PROBLEM_TYPE_BASE: &str = "/docs#error-";

/// Whether the client names the media type of RFC 9457 in `Accept`.
pub(super) fn accepts_problem(headers: &HeaderMap) -> bool {
    let asks = |value: &HeaderValue| {
        let Ok(text) = value.to_str() else { return false };
        text.split(',').any(|range| {
            let name = range.split(';').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case(PROBLEM)
        })
    };
    headers.get_all(ACCEPT).iter().any(asks)
}

/// Returns the error of a handler, or else the one for the response's status.
pub(super) fn error_of(response: &mut Response) -> ApiError {
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        return error;
    }
    of_status(response.status())
}

/// The error for a status that the framework chose.
fn of_status(status: StatusCode) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => ApiError::new(ErrorCode::NotFound, "no such route"),
        StatusCode::METHOD_NOT_ALLOWED => ApiError::new(
            ErrorCode::MethodNotAllowed,
            "the route does not have this method; Allow lists its methods",
        ),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            ApiError::validation("request", "has a malformed path, query or header")
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(ErrorCode::PayloadTooLarge, "the body is too large")
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "the route does not accept this content type",
        ),
        status if status.is_server_error() => {
            ApiError::internal(format_args!("a response has the status {status}"))
        }
        status => {
            let code = ErrorCode::ALL.into_iter().find(|code| code.status() == status.as_u16());
            let code = code.unwrap_or(ErrorCode::ValidationError);
            ApiError::new(code, "the request cannot be served")
        }
    }
}

/// Sets the status, the headers and the body of an error in a response.
pub(super) fn render(
    response: &mut Response,
    error: ApiError,
    now: Timestamp,
    request_id: &str,
    is_problem: bool,
) {
    *response.status_mut() = error.status();
    let content_type = if is_problem { PROBLEM } else { "application/json" };
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(seconds) = error.retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(codings) = error.accept_encoding {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(codings));
    }
    if error.code == ErrorCode::Unauthorized {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"triggers\""));
    }
    *response.body_mut() = Body::from(body(error, now, request_id, is_problem));
}

fn body(error: ApiError, now: Timestamp, request_id: &str, is_problem: bool) -> Vec<u8> {
    let code = error.code;
    let member = ErrorMember {
        code: code.as_str().to_owned(),
        message: error.message,
        details: error.details,
        timestamp: now,
        request_id: request_id.to_owned(),
    };
    let body = if is_problem {
        serde_json::to_vec(&Problem {
            r#type: format!(
                "{PROBLEM_TYPE_BASE}{}",
                code.as_str().to_ascii_lowercase().replace('_', "-")
            ),
            title: title(code).to_owned(),
            status: code.status(),
            detail: member.message.clone(),
            instance: format!("#request-{}", percent_encoded(request_id)),
            error: member,
        })
    } else {
        serde_json::to_vec(&ErrorBody { error: member })
    };
    body.expect("strings and numbers can be written as JSON")
}

/// Title of the problems with a code: the reason phrase of its status.
fn title(code: ErrorCode) -> &'static str {
    let status = StatusCode::from_u16(code.status()).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or("Error")
}

/// Encodes a request id, which may have characters that a URI reference may not.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use serde_json::Value;

    fn rendered(error: ApiError, is_problem: bool) -> Value {
        serde_json::from_slice(&body(error, Timestamp::from_millis(0), "r\"1", is_problem)).unwrap()
    }

    #[test]
    fn both_formats_have_the_error_member() {
        let error = ApiError::validation("payload", "must be a JSON object");
        let plain = rendered(error.clone(), false);
        assert_eq!(plain["error"]["code"], "VALIDATION_ERROR");
        assert_eq!(plain["error"]["details"][0]["field"], "payload");
        assert_eq!(plain["error"]["timestamp"], "1970-01-01T00:00:00.000Z");
        assert_eq!(plain["error"]["request_id"], "r\"1");
        let problem = rendered(error, true);
        assert_eq!(problem["error"], plain["error"], "RENDER-1");
        assert_eq!(problem["status"], 400);
        assert_eq!(problem["type"], "/docs#error-validation-error");
        assert_eq!(problem["instance"], "#request-r%221");
        assert!(
            rendered(ApiError::new(ErrorCode::Gone, "x"), false)["error"].get("details").is_none()
        );
    }

    #[test]
    fn errors_of_the_framework_get_a_code() {
        for status in 400..600 {
            let mut response = StatusCode::from_u16(status).unwrap().into_response();
            let error = error_of(&mut response);
            assert_eq!(error.status().is_server_error(), status >= 500, "RENDER-2: {status}");
        }
        assert_eq!(of_status(StatusCode::METHOD_NOT_ALLOWED).code, ErrorCode::MethodNotAllowed);
    }

    #[test]
    fn a_client_gets_problems_only_if_it_names_their_media_type() {
        let asks = |value: &'static str| {
            accepts_problem(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]))
        };
        assert!(asks("application/problem+json"));
        assert!(asks("application/json;q=0.5, Application/Problem+JSON;q=0.9"));
        assert!(!asks("*/*") && !asks("application/json") && !asks("application/problem+json-not"));
    }
}
