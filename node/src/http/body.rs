//! Reading what a client sends: its content type, the bytes of its body, the members of its JSON
//! and its parameters.
//!
//! Invariants: `BODY-1` nothing beyond the limit is ever held: an announced length over it is
//! refused before a byte is read, an unannounced one where it passes the limit; `BODY-2` the whole
//! body comes within one deadline, however it drips; `BODY-3` a body that ends early is an error,
//! so that half an event is never an event; `BODY-4` bodies that come in pieces hold places for as
//! much as has come, of their tenant's part where it is known and of the node's memory, so that
//! many slow ones can neither fill the memory nor take it from other tenants. A body that comes in
//! one piece, as small ones do, is handed on without a copy. It is not the check of what the body
//! says: that is `members` for shape and the handlers for meaning.

pub(crate) mod faults;
pub(crate) mod members;
pub(crate) mod path_id;
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

/// The largest body of a request that carries no events.
pub(crate) const SMALL_BODY_BYTES_MAX: usize = 256 * 1024;

/// The first place that a body in pieces takes. The next ones grow as it does, up to
/// [`PLACE_BYTES_MAX`].
const PLACE_BYTES_MIN: usize = 4 * 1024;
/// What a large body in pieces takes at a time.
const PLACE_BYTES_MAX: usize = 64 * 1024;

/// How much of a body is read, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// Bytes at most.
    pub(crate) bytes_max: usize,
    /// Milliseconds for the whole body.
    pub(crate) timeout_ms: u64,
    /// Places for what is being gathered on this node.
    pub(crate) gathering: &'a Arc<Admission>,
    /// The part of them that the sender's tenant may have.
    part: Option<Part<'a>>,
}

/// What one tenant may have of the memory for bodies.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    bodies: &'a KeyedLimit<TenantId>,
    tenant: &'a TenantId,
    bytes_max: usize,
}

/// Memory for bodies, of the tenant if it is known and of the node, until it is dropped.
pub(crate) type Places = (Option<KeyedPermit<TenantId>>, Permit);

impl<'a> Reading<'a> {
    /// Reading up to `bytes_max` within the time and the memory that the node has for bodies.
    pub(crate) fn up_to(bytes_max: usize, edge: &'a Edge) -> Self {
        Self {
            bytes_max,
            timeout_ms: edge.options.listen.body_timeout_ms,
            gathering: &edge.gathering,
            part: None,
        }
    }

    /// The same, within the part of that memory that one tenant may have.
    pub(crate) fn of(self, tenant: &'a TenantId, edge: &'a Edge) -> Self {
        let bytes_max = edge.options.broker.tenant_bytes_max;
        Self { part: Some(Part { bodies: edge.access.bodies(), tenant, bytes_max }), ..self }
    }

    /// Places for `bytes` more: the tenant's first, so that one that has its part never takes the
    /// node's.
    ///
    /// # Errors
    /// 503 if too much is being gathered already, 429 if it is too much of one tenant.
    pub(crate) fn places(&self, bytes: usize) -> Result<Places, ApiError> {
        let of_tenant = match self.part {
            Some(Part { bodies, tenant, bytes_max }) => {
                let place = bodies.acquire(tenant.clone(), bytes, bytes_max);
                Some(place.ok_or_else(|| rejected("tenant_bodies", BrokerError::TenantBusy))?)
            }
            None => None,
        };
        let of_node =
            self.gathering.enter(bytes).map_err(|_| rejected("bodies", BrokerError::NodeBusy))?;
        Ok((of_tenant, of_node))
    }
}

fn rejected(limit: &'static str, error: BrokerError) -> ApiError {
    count_rejection(limit);
    error.into()
}

/// The whole body.
///
/// # Errors
/// 413 over the limit, 408 after the deadline, 400 if it ended early, 503 if too much is being
/// gathered already, 429 if it is too much of one tenant.
pub(crate) async fn read(body: Body, reading: Reading<'_>) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > reading.bytes_max as u64 {
        return Err(too_large(reading.bytes_max));
    }
    let whole = collect(body, reading);
    match tokio::time::timeout(Duration::from_millis(reading.timeout_ms), whole).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let message = format!("the body did not arrive within {} ms", reading.timeout_ms);
            Err(ApiError::new(ErrorCode::RequestTimeout, message))
        }
    }
}

async fn collect(mut body: Body, reading: Reading<'_>) -> Result<Bytes, ApiError> {
    let bytes_max = reading.bytes_max;
    let mut whole = Bytes::new();
    let mut gathered = BytesMut::new();
    // Places are taken for what has come, not for what was announced: that costs nothing to
    // announce and not to send.
    let (mut places, mut places_bytes) = (Vec::new(), 0usize);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(ended_early)?.into_data() else { continue };
        let length = whole.len() + gathered.len() + piece.len();
        if length > bytes_max {
            return Err(too_large(bytes_max));
        }
        if whole.is_empty() && gathered.is_empty() {
            whole = piece;
        } else {
            while length > places_bytes {
                let bytes = places_bytes.clamp(PLACE_BYTES_MIN, PLACE_BYTES_MAX);
                places.push(reading.places(bytes)?);
                places_bytes += bytes;
            }
            gathered.extend_from_slice(&std::mem::take(&mut whole));
            gathered.extend_from_slice(&piece);
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(if gathered.is_empty() { whole } else { gathered.freeze() })
}

fn too_large(bytes_max: usize) -> ApiError {
    ApiError::new(
        ErrorCode::PayloadTooLarge,
        format!("the body must have at most {bytes_max} bytes"),
    )
}

fn ended_early(error: axum::Error) -> ApiError {
    tracing::debug!(%error, "body ended early");
    ApiError::new(ErrorCode::InvalidJson, "the body ended before its end was sent")
}

/// The body as text.
///
/// # Errors
/// 400 if it is not UTF-8.
pub(crate) fn text(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body)
        .map_err(|_| ApiError::new(ErrorCode::InvalidJson, "the body must be UTF-8"))
}

/// The content type without its parameters; empty if there is none.
///
/// # Errors
/// 415 if it names a character set other than UTF-8 or is not text.
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

/// Whether a media type is JSON: `application/json`, or `application/` anything `+json`.
pub(crate) fn is_json(media_type: &str) -> bool {
    if media_type.eq_ignore_ascii_case("application/json") {
        return true;
    }
    let starts =
        media_type.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("application/"));
    let ends = media_type.len().checked_sub(5).and_then(|at| media_type.get(at..));
    starts && media_type.len() > 17 && ends.is_some_and(|end| end.eq_ignore_ascii_case("+json"))
}

/// A 415 error.
pub(crate) fn unsupported(message: &str) -> ApiError {
    ApiError::new(ErrorCode::UnsupportedMediaType, message)
}

/// Reads a small JSON body; none if it is empty, whatever its content type then is.
///
/// # Errors
/// As [`read`] and [`text`]; 415 if it is not JSON by its content type.
pub(crate) async fn read_small_json(
    headers: &HeaderMap,
    body: Body,
    edge: &Edge,
) -> Result<Option<Bytes>, ApiError> {
    let media_type = media_type(headers)?;
    let body = read(body, Reading::up_to(SMALL_BODY_BYTES_MAX, edge)).await?;
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

    /// Reads up to eight bytes.
    async fn read_eight(body: Body, timeout_ms: u64) -> Result<Bytes, ApiError> {
        let gathering = Admission::new(usize::MAX, PLACE_BYTES_MAX);
        read(body, Reading { bytes_max: 8, timeout_ms, gathering: &gathering, part: None }).await
    }

    #[tokio::test]
    async fn what_is_gathered_at_the_same_time_is_bounded() {
        let gathering = Admission::new(usize::MAX, 2 * PLACE_BYTES_MAX);
        let reading = Reading {
            bytes_max: 4 * PLACE_BYTES_MAX,
            timeout_ms: 60_000,
            gathering: &gathering,
            part: None,
        };
        let other = gathering.enter(PLACE_BYTES_MAX).unwrap();
        assert_eq!(
            read(pieces(&["12", "34"]), reading).await.unwrap(),
            "1234",
            "there is room for one more"
        );
        let large: &'static str = "x".repeat(PLACE_BYTES_MAX).leak();
        assert_eq!(code(read(pieces(&["12", large]), reading).await), ErrorCode::Unavailable);
        assert_eq!(
            read(pieces(&[large]), reading).await.unwrap(),
            large,
            "one piece is not gathered"
        );
        drop(other);
        assert_eq!(read(pieces(&["12", large]), reading).await.unwrap().len(), PLACE_BYTES_MAX + 2);
    }

    /// Two pieces, and then nothing more.
    fn slow(piece: &'static str) -> Body {
        let sent = stream::iter([
            Ok::<_, std::io::Error>(Bytes::from_static(b"{")),
            Ok(Bytes::from(piece)),
        ]);
        Body::from_stream(stream::StreamExt::chain(sent, stream::pending()))
    }

    #[tokio::test]
    async fn slow_bodies_hold_what_has_come_and_no_more_than_their_tenants_part() {
        let node = Admission::new(usize::MAX, 4 * PLACE_BYTES_MAX);
        let bodies = KeyedLimit::default();
        let [one, two] = ["one", "two"].map(|id| TenantId::parse(id).unwrap());
        let of = |tenant| Reading {
            bytes_max: 4 * PLACE_BYTES_MAX,
            timeout_ms: 60_000,
            gathering: &node,
            part: Some(Part { bodies: &bodies, tenant, bytes_max: 2 * PLACE_BYTES_MAX }),
        };
        let mut held: Vec<_> = (0..32).map(|_| Box::pin(read(slow("x"), of(&one)))).collect();
        for body in &mut held {
            assert!(poll!(body).is_pending(), "BODY-4: many that sent little have room");
        }
        assert_eq!(code(read(slow("x"), of(&one)).await), ErrorCode::TenantQuotaExceeded, "BODY-4");
        let large: &'static str = "x".repeat(PLACE_BYTES_MAX).leak();
        assert_eq!(
            read(pieces(&["12", large]), of(&two)).await.unwrap().len(),
            PLACE_BYTES_MAX + 2,
            "BODY-4"
        );
        held.clear();
        assert!(
            poll!(pin!(read(slow(large), of(&one)))).is_pending(),
            "what is given up makes room"
        );
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
    async fn a_broken_or_slow_body_is_an_error() {
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
    fn parameters_are_dropped_and_charsets_checked() {
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
