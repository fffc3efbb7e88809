//! Adds the common headers of responses: security, rate of the key, CORS.
//!
//! - `HEADERS-1`: every response has the security headers, also an error.
//! - `HEADERS-2`: an origin that is not configured gets no CORS headers; its preflight is handled
//!   like any other request.
//! - `HEADERS-3`: of these headers a handler can set only the content security policy.

use crate::http::rate_limit::RateState;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ORIGIN, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use std::fmt::{self, Write as _};
use triggers_cluster_config::ListenOptions;
use triggers_protocol::Timestamp;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const X_RATE_LIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// The API page loads its own script and style, calls this API, and loads nothing from other hosts.
const POLICY_OF_DOCS: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const REQUEST_HEADERS: &str = "authorization, content-type, content-encoding, x-api-key, \
     x-request-id, x-idempotency-key, idempotency-key, prefer, traceparent, last-event-id, \
     ce-specversion, ce-id, ce-source, ce-type, ce-time, ce-subject, ce-dataschema";
const RESPONSE_HEADERS: &str = "location, retry-after, x-request-id, idempotent-replayed, \
     preference-applied, ratelimit, ratelimit-policy, x-ratelimit-limit, x-ratelimit-remaining, \
     x-ratelimit-reset";
/// `Access-Control-Max-Age` in seconds.
const PREFLIGHT_AGE_SECONDS: &str = "600";
/// `Strict-Transport-Security` for one year.
const TRANSPORT_SECURITY: &str = "max-age=31536000; includeSubDomains";
/// Capacity for the headers added here, so that a map grows once.
pub(crate) const HEADERS_ADDED: usize = 16;
/// Typical size in bytes of the values of the rate headers.
const RATE_BYTES: usize = 128;

/// Adds the common headers of one listener.
pub(super) struct CommonHeaders {
    is_tls: bool,
    origins: Vec<HeaderValue>,
}

impl CommonHeaders {
    /// Creates the headers that the listener's options ask for.
    pub(super) fn new(options: &ListenOptions) -> Self {
        let origin = |origin: &String| HeaderValue::from_str(origin).ok();
        Self {
            is_tls: options.is_behind_tls_proxy || options.tls_certificate_file.is_some(),
            origins: options.cors_origins.iter().filter_map(origin).collect(),
        }
    }

    /// The origin of a request, if it is configured.
    pub(super) fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() {
            return None;
        }
        let origin = headers.get(ORIGIN)?;
        self.origins.contains(origin).then(|| origin.clone())
    }

    /// Adds the headers to a response.
    pub(super) fn add(&self, headers: &mut HeaderMap, is_docs: bool, origin: Option<HeaderValue>) {
        headers.reserve(HEADERS_ADDED);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let policy = if is_docs { POLICY_OF_DOCS } else { POLICY };
        headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(policy));
        if self.is_tls {
            headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(TRANSPORT_SECURITY));
        }
        if !self.origins.is_empty() {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers
                .insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS));
        }
    }
}

/// Whether the request is a CORS preflight.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The response to a preflight of a configured origin.
pub(super) fn preflight() -> Response {
    let allowed = [
        (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE_SECONDS),
    ];
    (StatusCode::NO_CONTENT, allowed).into_response()
}

/// Adds the state of the key's rate as `X-RateLimit-*` and as the headers of the IETF draft.
pub(super) fn add_rate(headers: &mut HeaderMap, state: &RateState, now: Timestamp) {
    let RateState { rate, remaining, full_in_seconds } = *state;
    let (limit, window_seconds) = (rate.burst, rate.window_seconds());
    let reset = u64::try_from(now.as_seconds()).unwrap_or(0).saturating_add(full_in_seconds);
    // All values share one allocation.
    let mut text = BytesMut::with_capacity(RATE_BYTES);
    let mut insert = |name, value: fmt::Arguments<'_>| {
        text.write_fmt(value).expect("the buffer grows");
        let value = HeaderValue::from_maybe_shared(text.split().freeze());
        headers.insert(name, value.expect("digits and punctuation are a valid header value"));
    };
    insert(X_RATE_LIMIT_LIMIT, format_args!("{limit}"));
    insert(X_RATE_LIMIT_REMAINING, format_args!("{remaining}"));
    insert(X_RATE_LIMIT_RESET, format_args!("{reset}"));
    insert(RATE_LIMIT, format_args!("\"default\";r={remaining};t={full_in_seconds}"));
    insert(RATE_LIMIT_POLICY, format_args!("\"default\";q={limit};w={window_seconds}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::rate_limit::Rate;

    fn listen(origins: &[&str], is_tls: bool) -> CommonHeaders {
        let options = ListenOptions {
            cors_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            is_behind_tls_proxy: is_tls,
            ..ListenOptions::default()
        };
        CommonHeaders::new(&options)
    }

    fn added(common: &CommonHeaders, origin: &'static str) -> HeaderMap {
        let request = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
        let mut headers = HeaderMap::new();
        common.add(&mut headers, false, common.allowed_origin(&request));
        headers
    }

    #[test]
    fn only_configured_origins_get_cors_headers() {
        let common = listen(&["https://app.example.com"], false);
        let good = added(&common, "https://app.example.com");
        assert_eq!(good[ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example.com");
        assert_eq!(good[VARY], "origin");
        for origin in
            ["https://app.example.com.evil.example", "http://app.example.com", "null", "*"]
        {
            assert!(
                !added(&common, origin).contains_key(ACCESS_CONTROL_ALLOW_ORIGIN),
                "HEADERS-2: {origin}"
            );
        }
        assert!(!added(&listen(&[], false), "null").contains_key(VARY));
    }

    #[test]
    fn strict_transport_security_is_set_only_with_tls() {
        assert!(added(&listen(&[], true), "null").contains_key(STRICT_TRANSPORT_SECURITY));
        assert!(!added(&listen(&[], false), "null").contains_key(STRICT_TRANSPORT_SECURITY));
    }

    #[test]
    fn a_policy_set_by_a_handler_is_kept() {
        let mut headers =
            HeaderMap::from_iter([(CONTENT_SECURITY_POLICY, HeaderValue::from_static("mine"))]);
        listen(&[], false).add(&mut headers, true, None);
        assert_eq!(headers[CONTENT_SECURITY_POLICY], "mine", "HEADERS-3");
    }

    #[test]
    fn the_rate_is_reported_in_both_forms() {
        let mut headers = HeaderMap::new();
        let state = RateState {
            rate: Rate { per_minute: 600, burst: 10 },
            remaining: 7,
            full_in_seconds: 1,
        };
        add_rate(&mut headers, &state, Timestamp::from_millis(5_000));
        assert_eq!(
            (&headers[X_RATE_LIMIT_LIMIT], &headers[X_RATE_LIMIT_REMAINING]),
            (&"10".parse().unwrap(), &"7".parse().unwrap())
        );
        assert_eq!(headers[X_RATE_LIMIT_RESET], "6");
        assert_eq!(headers[RATE_LIMIT], "\"default\";r=7;t=1");
        assert_eq!(headers[RATE_LIMIT_POLICY], "\"default\";q=10;w=1");
        let most = Rate { per_minute: 1, burst: u32::MAX };
        let state = RateState { rate: most, remaining: u32::MAX, full_in_seconds: u64::MAX };
        add_rate(&mut headers, &state, Timestamp::from_millis(5_000));
        assert_eq!(headers[X_RATE_LIMIT_LIMIT], u32::MAX.to_string());
        assert_eq!(headers[RATE_LIMIT], format!("\"default\";r={};t={}", u32::MAX, u64::MAX));
        assert_eq!(
            headers[RATE_LIMIT_POLICY],
            format!("\"default\";q={};w={}", u32::MAX, most.window_seconds())
        );
    }
}
