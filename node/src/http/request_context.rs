//! What is known about a request besides its content: id, address, trace, and, once it is authenticated, whose it is.
//!
//! The outermost middleware makes a [`RequestContext`] and puts it among the request's extensions; authentication adds
//! the tenant and the state of its rate; the middleware reads both when it finishes the response.
//! Invariants: `CONTEXT-1` a request id has 1 to 128 visible ASCII characters: the client's if it fits, else a new one;
//! `CONTEXT-2` a trace that does not have the form of W3C Trace Context is as good as none.

use crate::http::client_address::{Peer, client_address};
use crate::http::counters::Counters;
use crate::http::error::ApiError;
use crate::http::rate_limit::RateState;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::task::futures::TaskLocalFuture;
use triggers_protocol::{Environment, EventId, TenantId, Timestamp};

/// The header of the request's id, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID_LENGTH_MAX: usize = 128;
const UUID_FITS: &str = "the text of a UUID is a valid header value";

tokio::task_local! {
    static REQUEST: Arc<RequestContext>;
}

/// Runs the handler of a request, so that [`current`] finds the request within its task.
pub(crate) fn within<F: Future>(
    request: Arc<RequestContext>,
    handler: F,
) -> TaskLocalFuture<Arc<RequestContext>, F> {
    REQUEST.scope(request, handler)
}

/// The request that this task handles, if it handles one.
pub(crate) fn current() -> Option<Arc<RequestContext>> {
    REQUEST.try_with(Clone::clone).ok()
}

/// The id of a request; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's id if it has one that fits, else a new one.
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

    /// A new id: a UUID that grows with time.
    fn make(environment: &Environment, now: Timestamp) -> Self {
        let id = EventId::mint(EventId::ZERO, now, environment.bytes());
        Self(HeaderValue::from_str(id.write_to(&mut [0; EventId::TEXT_BYTES])).expect(UUID_FITS))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a header's value.
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
    /// Takes a header's value if it has the form `<version>-<trace id>-<parent id>-<flags>`.
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
        // Later versions may have more behind the flags; this one must not.
        let length_fits = if version == "00" {
            rest.is_empty()
        } else {
            rest.is_empty() || rest.starts_with('-')
        };
        let fits = version != "ff" && !is_zero(trace) && !is_zero(parent) && length_fits;
        fits.then(|| Self(value.clone()))
    }

    /// The whole value, to be passed on.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The 32 hexadecimal digits of the trace.
    pub fn trace_id(&self) -> &str {
        self.as_str().get(3..35).unwrap_or_default()
    }
}

/// Whose request it is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The tenant of the key.
    pub tenant: TenantId,
    /// The key's requests after this one.
    pub rate: RateState,
}

/// When a request came.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    /// By the wall clock.
    pub at: Timestamp,
    /// By the monotonic clock.
    pub monotonic: Duration,
}

/// What is known about a request besides its content.
pub struct RequestContext {
    /// The request's id.
    pub request_id: RequestId,
    /// Where it came from.
    pub address: IpAddr,
    /// When it came. Its key is judged, and its tokens are taken, as of this time.
    pub came: Came,
    /// The trace that it is part of.
    pub trace_parent: Option<TraceParent>,
    /// The counters that it has to pass.
    pub counters: Arc<Counters>,
    identity: OnceLock<Identity>,
    /// The key's rate after what was taken besides the request itself.
    charged: Mutex<Option<RateState>>,
}

impl RequestContext {
    /// The context of a request.
    pub(crate) fn new(
        peer: Option<&Peer>,
        headers: &HeaderMap,
        environment: &Environment,
        behind_proxy: bool,
        counters: &Arc<Counters>,
    ) -> Self {
        let came = Came { at: environment.now(), monotonic: environment.monotonic() };
        Self {
            request_id: RequestId::of(headers, environment, came.at),
            came,
            address: client_address(peer, headers, behind_proxy),
            trace_parent: headers.get(TRACE_PARENT).and_then(TraceParent::parse),
            counters: counters.clone(),
            identity: OnceLock::new(),
            charged: Mutex::new(None),
        }
    }

    /// The context that the middleware put among a request's extensions.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` if a route was put outside of the middleware.
    pub fn of(extensions: &Extensions) -> Result<Arc<Self>, ApiError> {
        let context = extensions.get::<Arc<Self>>();
        context
            .cloned()
            .ok_or_else(|| ApiError::internal("a route is not behind the outermost middleware"))
    }

    /// Notes whose request it is; the first note stays.
    pub fn identify(&self, tenant: TenantId, rate: RateState) {
        self.identity.get_or_init(|| Identity { tenant, rate });
    }

    /// Notes the key's rate after more was taken or refused; the last note counts.
    pub fn note_rate(&self, rate: RateState) {
        *self.charged.lock().unwrap_or_else(PoisonError::into_inner) = Some(rate);
    }

    /// What the response tells about the key's rate, once the key is known.
    pub fn rate(&self) -> Option<RateState> {
        let charged = *self.charged.lock().unwrap_or_else(PoisonError::into_inner);
        charged.or_else(|| self.identity().map(|identity| identity.rate))
    }

    /// Whose request it is, once that is known.
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
    fn a_fitting_request_id_is_kept_and_another_replaced() {
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
    fn a_trace_is_taken_only_in_its_form() {
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
