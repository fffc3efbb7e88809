//! Reads content types and request bodies, with limits on size, time and memory.
//!
//! - `BODY-1`: no byte over the limit is kept. An announced length over it is rejected before the
//!   first read.
//! - `BODY-2`: a body must be complete within one timeout, however slowly it arrives.
//! - `BODY-3`: a body that ends early is an error, so half an event is never stored.
//! - `BODY-4`: a body in several pieces holds permits for its received bytes, first of its tenant,
//!   then of the node. Slow bodies cannot fill the memory or use the share of other tenants.
//!
//! A body in one piece, as small ones are, is returned without a copy. `members` checks the shape
//! of JSON, and handlers its meaning.

pub(crate) mod members;
pub(crate) mod query;

use super::error::ApiError;
use crate::http::edge::Edge;
use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use triggers_actors::BrokerError;
use triggers_actors::admission::{Admission, Permit, count_rejection};
use triggers_actors::keyed_limit::{KeyedLimit, KeyedPermit};
use triggers_protocol::{ErrorCode, TenantId};

/// Largest body of a request without events, in bytes.
pub(crate) const SMALL_BODY_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the first permits of a body in pieces. Later ones double the total.
const PERMIT_BYTES_MIN: usize = 4 * 1024;
/// Bytes of one acquisition of permits, at most.
const PERMIT_BYTES_MAX: usize = 64 * 1024;

/// Limits on reading a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits<'a> {
    /// Largest size in bytes.
    pub(crate) bytes_max: usize,
    /// Time for the complete body.
    pub(crate) timeout_ms: u64,
    /// Gate of the node's memory for bodies.
    pub(crate) gate: &'a Arc<Admission>,
    /// Share of that memory that the sender's tenant may use.
    share: Option<TenantShare<'a>>,
}

/// One tenant's share of the memory for bodies.
#[derive(Debug, Clone, Copy)]
struct TenantShare<'a> {
    bodies: &'a KeyedLimit<TenantId>,
    tenant: &'a TenantId,
    bytes_max: usize,
}

/// Permits for the memory of a body, held until they are dropped.
#[derive(Debug)]
pub(crate) struct BodyPermits {
    _tenant: Option<KeyedPermit<TenantId>>,
    _node: Permit,
}

impl<'a> BodyLimits<'a> {
    /// Allows up to `bytes_max` within the node's timeout and memory for bodies.
    pub(crate) fn up_to(bytes_max: usize, edge: &'a Edge) -> Self {
        Self {
            bytes_max,
            timeout_ms: edge.options.listen.body_timeout_ms,
            gate: &edge.body_gate,
            share: None,
        }
    }

    /// Limits the memory to the tenant's share as well.
    pub(crate) fn of_tenant(self, tenant: &'a TenantId, edge: &'a Edge) -> Self {
        let (bodies, bytes_max) = (edge.access.bodies(), edge.options.broker.tenant_bytes_max);
        Self { share: Some(TenantShare { bodies, tenant, bytes_max }), ..self }
    }

    /// Acquires permits for `bytes` more (`BODY-4`).
    ///
    /// # Errors
    /// 429 if the tenant's share is used up, 503 if the node's memory for bodies is.
    pub(crate) fn acquire(&self, bytes: usize) -> Result<BodyPermits, ApiError> {
        let tenant = match self.share {
            Some(TenantShare { bodies, tenant, bytes_max }) => {
                let permit = bodies.acquire(tenant.clone(), bytes, bytes_max);
                Some(permit.ok_or_else(|| rejected("tenant_bodies", BrokerError::TenantBusy))?)
            }
            None => None,
        };
        let node = self.gate.enter(bytes).map_err(|_| rejected("bodies", BrokerError::NodeBusy))?;
        Ok(BodyPermits { _tenant: tenant, _node: node })
    }
}

fn rejected(limit: &'static str, error: BrokerError) -> ApiError {
    count_rejection(limit);
    error.into()
}

/// Reads the complete body.
///
/// # Errors
/// 413 over the size limit, 408 after the timeout, 400 if it ended early, and as
/// [`BodyLimits::acquire`].
pub(crate) async fn read(body: Body, limits: BodyLimits<'_>) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > limits.bytes_max as u64 {
        return Err(too_large(limits.bytes_max));
    }
    let bytes = collect(body, limits);
    match tokio::time::timeout(Duration::from_millis(limits.timeout_ms), bytes).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let message = format!("the body did not arrive within {} ms", limits.timeout_ms);
            Err(ApiError::new(ErrorCode::RequestTimeout, message))
        }
    }
}

async fn collect(mut body: Body, limits: BodyLimits<'_>) -> Result<Bytes, ApiError> {
    let bytes_max = limits.bytes_max;
    let mut first = Bytes::new();
    let mut gathered = BytesMut::new();
    // Permits are for received bytes, not for the announced length, which costs a client nothing.
    let (mut permits, mut permits_bytes) = (Vec::new(), 0usize);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(ended_early)?.into_data() else { continue };
        let length = first.len() + gathered.len() + piece.len();
        if length > bytes_max {
            return Err(too_large(bytes_max));
        }
        if first.is_empty() && gathered.is_empty() {
            first = piece;
        } else {
            while length > permits_bytes {
                let bytes = permits_bytes.clamp(PERMIT_BYTES_MIN, PERMIT_BYTES_MAX);
                permits.push(limits.acquire(bytes)?);
                permits_bytes += bytes;
            }
            gathered.extend_from_slice(&std::mem::take(&mut first));
            gathered.extend_from_slice(&piece);
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(if gathered.is_empty() { first } else { gathered.freeze() })
}

fn too_large(bytes_max: usize) -> ApiError {
    ApiError::new(
        ErrorCode::PayloadTooLarge,
        format!("the body must have at most {bytes_max} bytes"),
    )
}

fn ended_early(error: axum::Error) -> ApiError {
    tracing::debug!(%error, "request body ended early");
    ApiError::new(ErrorCode::InvalidJson, "the body ended early")
}

/// Returns the body as text.
///
/// # Errors
/// 400 if it is not UTF-8.
pub(crate) fn text(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body)
        .map_err(|_| ApiError::new(ErrorCode::InvalidJson, "the body must be UTF-8"))
}

/// The content type without its parameters; empty if absent.
///
/// # Errors
/// 415 if it is not ASCII or has a charset other than UTF-8.
pub(crate) fn media_type(headers: &HeaderMap) -> Result<&str, ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok("") };
    let value = value.to_str().map_err(|_| unsupported("Content-Type must be ASCII"))?;
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    for parameter in parameters.split(';') {
        let (name, charset) = parameter.split_once('=').unwrap_or((parameter, ""));
        let charset = charset.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("charset") && !charset.eq_ignore_ascii_case("utf-8") {
            return Err(unsupported("the charset must be utf-8"));
        }
    }
    Ok(essence.trim())
}

/// Whether a media type is `application/json` or `application/…+json`.
pub(crate) fn is_json(media_type: &str) -> bool {
    if media_type.eq_ignore_ascii_case("application/json") {
        return true;
    }
    let starts =
        media_type.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("application/"));
    let ends = media_type.len().checked_sub(5).and_then(|at| media_type.get(at..));
    starts && media_type.len() > 17 && ends.is_some_and(|end| end.eq_ignore_ascii_case("+json"))
}

/// Creates a 415 error.
pub(crate) fn unsupported(message: &str) -> ApiError {
    ApiError::new(ErrorCode::UnsupportedMediaType, message)
}

/// Reads a small JSON body; `None` if it is empty, with any content type.
///
/// # Errors
/// As [`read`] and [`media_type`]; 415 if the content type is not JSON.
pub(crate) async fn read_small_json(
    headers: &HeaderMap,
    body: Body,
    edge: &Edge,
) -> Result<Option<Bytes>, ApiError> {
    let media_type = media_type(headers)?;
    let body = read(body, BodyLimits::up_to(SMALL_BODY_BYTES_MAX, edge)).await?;
    if body.is_empty() {
        return Ok(None);
    }
    if !is_json(media_type) {
        return Err(unsupported("Content-Type must be application/json"));
    }
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use futures_util::{poll, stream};
    use std::pin::pin;

    fn pieces(pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())))
            .collect();
        Body::from_stream(stream::iter(pieces))
    }

    fn code(outcome: Result<Bytes, ApiError>) -> ErrorCode {
        outcome.unwrap_err().code
    }

    /// Reads a body of at most eight bytes.
    async fn read_eight(body: Body, timeout_ms: u64) -> Result<Bytes, ApiError> {
        let gate = Admission::new(usize::MAX, PERMIT_BYTES_MAX);
        read(body, BodyLimits { bytes_max: 8, timeout_ms, gate: &gate, share: None }).await
    }

    #[tokio::test]
    async fn concurrent_bodies_are_bounded() {
        let gate = Admission::new(usize::MAX, 2 * PERMIT_BYTES_MAX);
        let limits = BodyLimits {
            bytes_max: 4 * PERMIT_BYTES_MAX,
            timeout_ms: 60_000,
            gate: &gate,
            share: None,
        };
        let other = gate.enter(PERMIT_BYTES_MAX).unwrap();
        assert_eq!(read(pieces(&["12", "34"]), limits).await.unwrap(), "1234", "it fits");
        let large: &'static str = "x".repeat(PERMIT_BYTES_MAX).leak();
        assert_eq!(code(read(pieces(&["12", large]), limits).await), ErrorCode::Unavailable);
        let single = read(pieces(&[large]), limits).await.unwrap();
        assert_eq!(single, large, "one piece needs no permit");
        drop(other);
        assert_eq!(read(pieces(&["12", large]), limits).await.unwrap().len(), large.len() + 2);
    }

    /// Sends two pieces and never ends.
    fn slow(piece: &'static str) -> Body {
        let sent = stream::iter([
            Ok::<_, std::io::Error>(Bytes::from_static(b"{")),
            Ok(Bytes::from(piece)),
        ]);
        Body::from_stream(stream::StreamExt::chain(sent, stream::pending()))
    }

    #[tokio::test]
    async fn slow_bodies_hold_only_received_bytes_within_the_share_of_their_tenant() {
        let node = Admission::new(usize::MAX, 4 * PERMIT_BYTES_MAX);
        let bodies = KeyedLimit::default();
        let [one, two] = ["one", "two"].map(|id| TenantId::parse(id).unwrap());
        let of = |tenant| BodyLimits {
            bytes_max: 4 * PERMIT_BYTES_MAX,
            timeout_ms: 60_000,
            gate: &node,
            share: Some(TenantShare { bodies: &bodies, tenant, bytes_max: 2 * PERMIT_BYTES_MAX }),
        };
        let mut held: Vec<_> = (0..32).map(|_| Box::pin(read(slow("x"), of(&one)))).collect();
        for body in &mut held {
            assert!(poll!(body).is_pending(), "BODY-4: many bodies with few bytes fit");
        }
        assert_eq!(code(read(slow("x"), of(&one)).await), ErrorCode::TenantQuotaExceeded, "BODY-4");
        let large: &'static str = "x".repeat(PERMIT_BYTES_MAX).leak();
        let body = read(pieces(&["12", large]), of(&two)).await.unwrap();
        assert_eq!(body.len(), large.len() + 2, "BODY-4");
        held.clear();
        let pending = poll!(pin!(read(slow(large), of(&one)))).is_pending();
        assert!(pending, "dropped bodies release their permits");
    }

    #[tokio::test]
    async fn pieces_become_one_body_up_to_the_limit() {
        assert_eq!(read_eight(pieces(&[]), 60_000).await.unwrap(), "");
        assert_eq!(read_eight(pieces(&["12345678"]), 60_000).await.unwrap(), "12345678");
        assert_eq!(
            read_eight(pieces(&["12", "", "3456", "78"]), 60_000).await.unwrap(),
            "12345678"
        );
        assert_eq!(
            code(read_eight(pieces(&["12", "3456", "789"]), 60_000).await),
            ErrorCode::PayloadTooLarge
        );
        assert_eq!(
            code(read_eight(Body::from("123456789"), 60_000).await),
            ErrorCode::PayloadTooLarge
        );
    }

    #[tokio::test]
    async fn an_interrupted_or_slow_body_is_an_error() {
        let broken =
            stream::iter([Ok(Bytes::from_static(b"12")), Err(std::io::Error::other("gone"))]);
        assert_eq!(
            code(read_eight(Body::from_stream(broken), 60_000).await),
            ErrorCode::InvalidJson
        );
        let stuck = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(code(read_eight(stuck, 1).await), ErrorCode::RequestTimeout);
    }

    #[test]
    fn json_types_are_recognised() {
        for good in [
            "application/json",
            "Application/JSON",
            "application/problem+json",
            "application/a+JSON",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in [
            "",
            "text/json",
            "application/jsonx",
            "application/+json",
            "application/json+",
            "json",
            "ä+json",
        ] {
            assert!(!is_json(bad), "{bad}");
        }
    }

    #[test]
    fn parameters_are_removed_and_charsets_checked() {
        let of = |value: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            media_type(&headers).map(str::to_owned).map_err(|error| error.code)
        };
        assert_eq!(of("application/json; charset=utf-8"), Ok("application/json".into()));
        assert_eq!(of("application/json;CHARSET=\"UTF-8\" ; a=b"), Ok("application/json".into()));
        assert_eq!(of("application/json; charset=latin1"), Err(ErrorCode::UnsupportedMediaType));
        assert_eq!(media_type(&HeaderMap::new()).unwrap(), "");
    }
}
