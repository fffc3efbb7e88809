//! Sends a request to the owner of its tenant and turns the answer into a response.
//!
//! - `FORWARD-1`: the body is read and held within the limits that hold for every body.
//! - `FORWARD-2`: headers of one connection are not forwarded. The client's address and the request
//!   id are.
//! - `FORWARD-3`: a streamed response is pulled as the client reads it, and closed when the client
//!   leaves.

use super::pending_request::PendingRequest;
use crate::http::body::{self, BodyLimits};
use crate::http::edge::EdgeState;
use crate::http::error::ApiError;
use crate::http::forwarded::CompletedByOwner;
use crate::http::request_context::{REQUEST_ID, RequestContext};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::cluster::{PeerError, PeerTransport};
use triggers_actors::model::rows::Fence;
use triggers_protocol::peer::{HttpRequest, HttpResponse, PeerReply, PeerRequest};

/// The owner gets this much less time than is left here, so that its answer still arrives in time.
const MARGIN: Duration = Duration::from_millis(50);
/// Timeout of a request for the next part of a response. The owner answers much sooner, if need be
/// with an empty part.
const PULL_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers that belong to one connection, or that travel in other fields of the message.
const NOT_SENT: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("x-forwarded-for"),
];

/// The outcome of forwarding.
pub(super) enum ForwardOutcome {
    /// The owner's response, or an error of the request itself.
    Answered(Response),
    /// The owner did nothing: another node owns the tenant.
    NotOwner(Option<Fence>),
    /// Nothing was done: the owner cannot be reached.
    NotReached,
    /// The owner may have carried out the request.
    Unknown,
}

pub(super) async fn forward(
    pending: &PendingRequest<'_>,
    peer: &str,
    until: Instant,
) -> ForwardOutcome {
    let request = match request(pending, until).await {
        Ok(request) => request,
        Err(error) => return ForwardOutcome::Answered(error.into_response()),
    };
    let message = PeerRequest::Http(Box::new(request)).encode();
    let time_left = until.saturating_duration_since(Instant::now());
    let transport = &pending.cluster.transport;
    let began = Instant::now();
    let reply = match transport.call(peer, message, time_left).await {
        Ok(reply) => PeerReply::decode(&reply),
        Err(PeerError::Unreachable) => return ForwardOutcome::NotReached,
        Err(PeerError::Unknown) => return ForwardOutcome::Unknown,
    };
    metrics::histogram!("triggers_forward_seconds").record(began.elapsed().as_secs_f64());
    match reply {
        Ok(PeerReply::Http(response)) => {
            ForwardOutcome::Answered(response_of(*response, pending, peer))
        }
        Ok(PeerReply::NotOwner { owner }) => {
            ForwardOutcome::NotOwner(owner.map(|(incarnation, epoch)| Fence { epoch, incarnation }))
        }
        Ok(PeerReply::Busy) => ForwardOutcome::Answered(
            ApiError::unavailable("the owner has too many requests in flight").into_response(),
        ),
        Ok(PeerReply::Rejected | PeerReply::Unsupported { .. }) => ForwardOutcome::NotReached,
        Ok(PeerReply::Done | PeerReply::Part { .. }) | Err(_) => ForwardOutcome::Unknown,
    }
}

async fn request(pending: &PendingRequest<'_>, until: Instant) -> Result<HttpRequest, ApiError> {
    let PendingRequest { edge, tenant, partition, parts, body, permits, .. } = pending;
    let context = RequestContext::of(&parts.extensions)?;
    let bytes_max = edge.options.limits.batch_bytes_max;
    let limits = BodyLimits::up_to(bytes_max, edge).of_tenant(tenant, edge);
    let body = body::read(body.reader(), limits).await?;
    if !body.is_empty() && permits.get().is_none() {
        // Attempts run one after the other, so the cell is still empty.
        let _ = permits.set(limits.acquire(body.len())?);
    }
    let fields =
        parts.headers.iter().filter(|(name, _)| !NOT_SENT.contains(name) && **name != REQUEST_ID);
    let mut headers: Vec<_> =
        fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    headers.push((REQUEST_ID.to_string(), context.request_id.as_str().as_bytes().to_vec()));
    let time_left = until.saturating_duration_since(Instant::now()).saturating_sub(MARGIN);
    Ok(HttpRequest {
        time_left_ms: u32::try_from(time_left.as_millis()).unwrap_or(u32::MAX),
        partition: *partition,
        address: context.address.to_string(),
        method: parts.method.as_str().to_owned(),
        target: parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        headers,
        body: body.to_vec(),
    })
}

fn response_of(response: HttpResponse, pending: &PendingRequest<'_>, peer: &str) -> Response {
    let HttpResponse { status, headers, body, stream } = response;
    let body = match stream {
        None => Body::from(body),
        Some(stream) => {
            let rest = ForwardedBody {
                edge: pending.edge.clone(),
                transport: pending.cluster.transport.clone(),
                peer: peer.to_owned(),
                stream,
                is_over: false,
            };
            rest.after(body.into())
        }
    };
    let Ok(status) = StatusCode::from_u16(status) else {
        return ApiError::internal("the owner's answer has no valid status").into_response();
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = fields(headers);
    answer.extensions_mut().insert(CompletedByOwner);
    answer
}

/// The headers with valid names and values.
fn fields(headers: Vec<(String, Vec<u8>)>) -> HeaderMap {
    let parse = |(name, value): (String, Vec<u8>)| {
        Some((name.parse().ok()?, HeaderValue::try_from(value).ok()?))
    };
    headers.into_iter().filter_map(parse).collect()
}

/// The part of a response body that the owner still holds. Dropping it closes the stream at the
/// owner.
struct ForwardedBody {
    edge: EdgeState,
    transport: Arc<dyn PeerTransport>,
    peer: String,
    stream: u64,
    is_over: bool,
}

impl ForwardedBody {
    /// A body of `first` and everything that the owner still holds.
    fn after(self, first: Bytes) -> Body {
        let first = (!first.is_empty()).then_some(first);
        Body::from_stream(stream::try_unfold((first, self), async |(first, mut rest)| {
            let bytes = match first {
                Some(first) => Some(first),
                None => rest.next().await?,
            };
            Ok::<_, io::Error>(bytes.map(|bytes| (bytes, (None, rest))))
        }))
    }

    /// The next bytes, or `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, io::Error> {
        while !self.is_over {
            let request = PeerRequest::Pull { stream: self.stream }.encode();
            let reply = self.transport.call(&self.peer, request, PULL_TIMEOUT).await;
            match PeerReply::decode(&reply.map_err(io::Error::other)?) {
                Ok(PeerReply::Part { bytes, is_last }) => {
                    self.is_over = is_last;
                    if !bytes.is_empty() {
                        return Ok(Some(bytes.into()));
                    }
                    // End between events, as a stream of this node would when it drains.
                    if self.edge.is_draining() {
                        return Ok(None);
                    }
                }
                _ => {
                    self.is_over = true;
                    return Err(io::Error::other("the owner has closed the response"));
                }
            }
        }
        Ok(None)
    }
}

impl Drop for ForwardedBody {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (transport, peer, stream) = (self.transport.clone(), self.peer.clone(), self.stream);
        tokio::spawn(async move {
            // An owner that misses this message closes the response after its idle timeout.
            let _ =
                transport.call(&peer, PeerRequest::Close { stream }.encode(), PULL_TIMEOUT).await;
        });
    }
}
