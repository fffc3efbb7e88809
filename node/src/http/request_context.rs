//! The context of a request: id, address, trace, counters and, after authentication, its tenant.
//!
//! The outermost middleware creates a [`RequestContext`] as an extension of the request.
//! Authentication adds the tenant and its rate, which the middleware reads for the response.
//!
//! - `CONTEXT-1`: a request id has 1 to 128 visible ASCII characters. It is the client's if valid,
//!   else a new one.
//! - `CONTEXT-2`: a `traceparent` that is not valid W3C Trace Context is ignored.

use crate::http::client_address::{Peer, client_address};
use crate::http::error::ApiError;
use crate::http::flood::Flood;
use crate::http::rate_limit::{RateLimits, RateState};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::task::futures::TaskLocalFuture;
use triggers_actors::keyed_limit::KeyedLimit;
use triggers_cluster_config::LimitOptions;
use triggers_protocol::lock::lock;
use triggers_protocol::{Environment, EventId, TenantId, Timestamp};

/// Header of the request id, in requests and responses.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID_LENGTH_MAX: usize = 128;
const UUID_FITS: &str = "the text of a UUID is a valid header value";

tokio::task_local! {
    static REQUEST: Arc<RequestContext>;
}

/// Runs the handler of a request with the context that [`current`] returns.
pub(crate) fn with_request<F: Future>(
    request: Arc<RequestContext>,
    handler: F,
) -> TaskLocalFuture<Arc<RequestContext>, F> {
    REQUEST.scope(request, handler)
}

/// Context of the request that this task handles, if any.
pub(crate) fn current() -> Option<Arc<RequestContext>> {
    REQUEST.try_with(Clone::clone).ok()
}

/// Id of a request; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's id if it is valid, else a new one.
    fn of(headers: &HeaderMap, environment: &Environment, now: Timestamp) -> Self {
        let fits = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            (1..=REQUEST_ID_LENGTH_MAX).contains(&bytes.len())
                && bytes.iter().all(u8::is_ascii_graphic)
        };
        headers
            .get(REQUEST_ID)
            .filter(fits)
            .map_or_else(|| Self::make(environment, now), |value| Self(value.clone()))
    }

    /// Creates a UUID that grows with time.
    fn make(environment: &Environment, now: Timestamp) -> Self {
        let id = EventId::mint(EventId::ZERO, now, environment.bytes());
        Self(HeaderValue::from_str(id.write_to(&mut [0; EventId::TEXT_BYTES])).expect(UUID_FITS))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a header value.
    pub fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A `traceparent` of W3C Trace Context; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(HeaderValue);

impl TraceParent {
    /// Parses a value of the form `<version>-<trace id>-<parent id>-<flags>`.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let text = value.to_str().ok()?;
        let (known, rest) = (text.get(..55)?, &text[55..]);
        let mut parts = known.split('-');
        let mut part = |length: usize| {
            let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            parts.next().filter(|part| part.len() == length && part.bytes().all(is_lower_hex))
        };
        let (version, trace, parent, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        // Only versions after 00 may have further fields.
        let length_fits = if version == "00" {
            rest.is_empty()
        } else {
            rest.is_empty() || rest.starts_with('-')
        };
        let fits = version != "ff" && !is_zero(trace) && !is_zero(parent) && length_fits;
        fits.then(|| Self(value.clone()))
    }

    /// The complete header value.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The 32 hexadecimal digits of the trace id.
    pub fn trace_id(&self) -> &str {
        self.as_str().get(3..35).unwrap_or_default()
    }
}

/// The authenticated sender of a request.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Tenant of the key.
    pub tenant: TenantId,
    /// State of the key's bucket of requests after this request.
    pub rate: RateState,
}

/// Time at which a request was received, by two clocks.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedAt {
    /// Time of the wall clock.
    pub wall: Timestamp,
    /// Time of the monotonic clock.
    pub monotonic: Duration,
}

/// Counters that limit the requests of a listener.
pub struct Counters {
    /// Request and event rates by key.
    pub rates: RateLimits,
    /// Unauthenticated requests by address.
    pub flood: Flood,
    /// Open streams by tenant.
    pub streams: KeyedLimit<TenantId>,
}

impl Counters {
    /// Creates counters with the limits of a node.
    pub fn new(limits: &LimitOptions) -> Self {
        let window = Duration::from_secs(limits.unauthenticated_window_seconds);
        let addresses_max = limits.unauthenticated_addresses_max;
        Self {
            rates: RateLimits::new(limits.rate_limit_per_minute, limits.key_cache_max),
            flood: Flood::new(limits.unauthenticated_requests_max, window, addresses_max),
            streams: KeyedLimit::default(),
        }
    }
}

/// Facts about a request other than its content.
pub struct RequestContext {
    /// Id of the request.
    pub request_id: RequestId,
    /// Address of the client.
    pub address: IpAddr,
    /// Time of arrival, at which the key's expiry and rate are checked.
    pub received_at: ReceivedAt,
    /// Trace that the request belongs to.
    pub trace_parent: Option<TraceParent>,
    /// Counters of the listener.
    pub counters: Arc<Counters>,
    identity: OnceLock<Identity>,
    /// State of the key's rate after events were charged as well.
    charged: Mutex<Option<RateState>>,
}

impl RequestContext {
    /// Creates the context of a request that arrives now.
    pub(crate) fn new(
        peer: Option<&Peer>,
        headers: &HeaderMap,
        environment: &Environment,
        is_behind_proxy: bool,
        counters: &Arc<Counters>,
    ) -> Self {
        let received_at =
            ReceivedAt { wall: environment.now(), monotonic: environment.monotonic() };
        Self {
            request_id: RequestId::of(headers, environment, received_at.wall),
            received_at,
            address: client_address(peer, headers, is_behind_proxy),
            trace_parent: headers.get(TRACE_PARENT).and_then(TraceParent::parse),
            counters: counters.clone(),
            identity: OnceLock::new(),
            charged: Mutex::new(None),
        }
    }

    /// The context among the extensions of a request.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` if the middleware does not wrap the route.
    pub fn of(extensions: &Extensions) -> Result<Arc<Self>, ApiError> {
        let context = extensions.get::<Arc<Self>>();
        context.cloned().ok_or_else(|| ApiError::internal("the middleware does not wrap the route"))
    }

    /// Sets the identity, unless it is set already.
    pub fn identify(&self, tenant: TenantId, rate: RateState) {
        self.identity.get_or_init(|| Identity { tenant, rate });
    }

    /// Sets the state of the key's rate that the response reports. The last call counts.
    pub fn set_rate(&self, rate: RateState) {
        *lock(&self.charged) = Some(rate);
    }

    /// State of the key's rate for the response; `None` before authentication.
    pub fn rate(&self) -> Option<RateState> {
        let charged = *lock(&self.charged);
        charged.or_else(|| self.identity().map(|identity| identity.rate))
    }

    /// The sender; `None` before authentication.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request_id(value: &str) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        RequestId::of(&headers, &Environment::system(), Timestamp::EPOCH)
    }

    #[test]
    fn a_valid_request_id_is_kept_and_another_replaced() {
        for good in ["a", "abc-123", "!~#$%", &"x".repeat(128)] {
            assert_eq!(request_id(good).as_str(), good);
        }
        for bad in ["", "a b", "a\tb", "ü", &"x".repeat(129)] {
            let made = request_id(bad);
            assert_ne!(made.as_str(), bad);
            assert!(EventId::parse(made.as_str()).is_ok(), "{made:?}");
        }
    }

    #[test]
    fn a_malformed_trace_is_ignored() {
        let parse = |text: &str| TraceParent::parse(&HeaderValue::from_str(text).unwrap());
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(parse(good).unwrap().trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(
            parse(&good.replacen("00", "cc", 1)).map(|trace| trace.as_str().len()),
            Some(55)
        );
        assert!(parse(&format!("{}-more", good.replacen("00", "01", 1))).is_some());
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-more"),
            &good.to_uppercase(),
            &good.replacen("00", "ff", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0e473600f067aa0ba902b7--01",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
