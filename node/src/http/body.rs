//! Reads content types and request bodies, with limits on size, time and memory.
//!
//! - `BODY-1`: no byte over the limit is kept. An announced length over it is rejected before the
//!   first read.
//! - `BODY-2`: a body must be complete within one timeout, however slowly it arrives.
//! - `BODY-3`: a body that ends early is an error, so half an event is never stored.
//! - `BODY-4`: a body in several pieces holds permits for its received bytes, a compressed one for
//!   its expanded bytes, first of its tenant, then of the node. Slow bodies cannot fill the memory
//!   or use the share of other tenants.
//!
//! A body in one piece, as small ones are, is returned without a copy. `members` checks the shape
//! of JSON, and handlers its meaning.

pub(crate) mod members;
pub(crate) mod query;

use super::coding::{Coding, Decoder};
use super::error::ApiError;
use crate::http::edge::Edge;
use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use std::io::{self, Write};
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

/// Reads the complete body and expands it if `Content-Encoding` says so. The limits hold for the
/// body as it was sent and for the expanded body.
///
/// # Errors
/// As [`read`]; 415 if the coding is not known, 400 if the body does not have it.
pub(crate) async fn read_decoded(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits<'_>,
) -> Result<Bytes, ApiError> {
    match Coding::of_body(headers)? {
        None => read(body, limits).await,
        // Boxed, so that the futures of plain bodies stay small.
        Some(coding) => Box::pin(in_time(limits, expand(coding, body, limits))).await,
    }
}

/// Reads the complete body as it was sent.
///
/// # Errors
/// 413 over the size limit, 408 after the timeout, 400 if it ended early, and as
/// [`BodyLimits::acquire`].
pub(crate) async fn read(body: Body, limits: BodyLimits<'_>) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > limits.bytes_max as u64 {
        return Err(too_large(limits.bytes_max));
    }
    in_time(limits, collect(body, limits)).await
}

/// Adds the timeout of a body. Not `async`, which would store the future twice.
fn in_time(
    limits: BodyLimits<'_>,
    bytes: impl Future<Output = Result<Bytes, ApiError>>,
) -> impl Future<Output = Result<Bytes, ApiError>> {
    let timeout_ms = limits.timeout_ms;
    tokio::time::timeout(Duration::from_millis(timeout_ms), bytes).map(move |outcome| {
        outcome.unwrap_or_else(|_| {
            let message = format!("the body did not arrive within {timeout_ms} ms");
            Err(ApiError::new(ErrorCode::RequestTimeout, message))
        })
    })
}

/// The permits of one body (`BODY-4`).
struct HeldPermits<'a> {
    limits: BodyLimits<'a>,
    permits: Vec<BodyPermits>,
    bytes: usize,
}

impl<'a> HeldPermits<'a> {
    fn none(limits: BodyLimits<'a>) -> Self {
        Self { limits, permits: Vec::new(), bytes: 0 }
    }

    /// Acquires permits until they are for at least so many bytes.
    fn grow_to(&mut self, bytes: usize) -> Result<(), ApiError> {
        while bytes > self.bytes {
            let more = self.bytes.clamp(PERMIT_BYTES_MIN, PERMIT_BYTES_MAX);
            self.permits.push(self.limits.acquire(more)?);
            self.bytes += more;
        }
        Ok(())
    }
}

async fn collect(mut body: Body, limits: BodyLimits<'_>) -> Result<Bytes, ApiError> {
    let bytes_max = limits.bytes_max;
    let mut first = Bytes::new();
    let mut gathered = BytesMut::new();
    // Permits are for received bytes, not for the announced length, which costs a client nothing.
    let mut held = HeldPermits::none(limits);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(ended_early)?.into_data() else { continue };
        let length = first.len() + gathered.len() + piece.len();
        if length > bytes_max {
            return Err(too_large(bytes_max));
        }
        if first.is_empty() && gathered.is_empty() {
            first = piece;
        } else {
            held.grow_to(length)?;
            gathered.extend_from_slice(&std::mem::take(&mut first));
            gathered.extend_from_slice(&piece);
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(if gathered.is_empty() { first } else { gathered.freeze() })
}

async fn expand(coding: Coding, mut body: Body, limits: BodyLimits<'_>) -> Result<Bytes, ApiError> {
    let mut expanded =
        Expanded { bytes: Vec::new(), held: HeldPermits::none(limits), rejection: None };
    expanded.held.grow_to(Expanded::held_bytes(0))?;
    let mut decoder = Decoder::new(coding, expanded).map_err(ApiError::unavailable)?;
    let failed = |decoder: &mut Decoder<Expanded<'_>>| {
        decoder.writer().rejection.take().unwrap_or_else(|| {
            let message = format!("the body is not {}, as Content-Encoding says", coding.name());
            ApiError::new(ErrorCode::InvalidJson, message)
        })
    };
    let mut sent_bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(ended_early)?.into_data() else { continue };
        sent_bytes += piece.len();
        if sent_bytes > limits.bytes_max {
            return Err(too_large(limits.bytes_max));
        }
        decoder.write(&piece).map_err(|_| failed(&mut decoder))?;
        if body.is_end_stream() {
            break;
        }
    }
    if sent_bytes > 0 {
        decoder.finish().map_err(|_| failed(&mut decoder))?;
    }
    Ok(std::mem::take(&mut decoder.writer().bytes).into())
}

/// An expanded body, which accepts no byte over its limits (`BODY-1`, `BODY-4`).
struct Expanded<'a> {
    bytes: Vec<u8>,
    held: HeldPermits<'a>,
    /// Why the last bytes were not accepted.
    rejection: Option<ApiError>,
}

impl Expanded<'_> {
    /// Bytes that permits are needed for, also for the decoder of a short body. So the largest body
    /// needs no more permits than a plain one.
    fn held_bytes(length: usize) -> usize {
        length.max(Decoder::<Self>::MEMORY_BYTES)
    }
}

impl Write for Expanded<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let (length, bytes_max) = (self.bytes.len() + piece.len(), self.held.limits.bytes_max);
        let accepted = match length > bytes_max {
            true => Err(too_large(bytes_max)),
            false => self.held.grow_to(Self::held_bytes(length)),
        };
        if let Err(error) = accepted {
            self.rejection = Some(error);
            return Err(io::ErrorKind::Other.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
/// As [`read_decoded`] and [`media_type`]; 415 if the content type is not JSON.
pub(crate) async fn read_small_json(
    headers: &HeaderMap,
    body: Body,
    edge: &Edge,
) -> Result<Option<Bytes>, ApiError> {
    let media_type = media_type(headers)?;
    let limits = BodyLimits::up_to(SMALL_BODY_BYTES_MAX, edge);
    let body = read_decoded(headers, body, limits).await?;
    if body.is_empty() {
        return Ok(None);
    }
    if !is_json(media_type) {
        return Err(unsupported("Content-Type must be application/json"));
    }
    Ok(Some(body))
}

#[cfg(test)]
mod tests;
