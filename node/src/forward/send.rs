//! Sends a request to the owner of its tenant, and makes a response of the answer.
//!
//! Invariants: `RELAY-1` a body is gathered under the limits of every body before it is sent, and held under them; `RELAY-2` what belongs to one
//! connection stays there; the client's address and the request's id go along; `RELAY-3` a response that is not whole is
//! pulled as the client takes it, and given up with it.

use super::Errand;
use crate::http::body::{self, Reading};
use crate::http::edge::EdgeState;
use crate::http::error::ApiError;
use crate::http::forwarded::Made;
use crate::http::request_context::{REQUEST_ID, RequestContext};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::cluster::transport::{PeerError, PeerTransport};
use triggers_protocol::ErrorCode;
use triggers_protocol::peer::{HttpRequest, HttpResponse, PeerReply, PeerRequest};
use triggers_store::tables::rows::Fence;

/// What the owner gets less of the time than the client's node, so that its answer can still arrive.
const MARGIN: Duration = Duration::from_millis(50);
/// For the next part of a response; the owner answers much sooner, if only that there is nothing yet.
const PULL_TIMEOUT: Duration = Duration::from_secs(10);
/// What belongs to a connection, and what the owner is told otherwise.
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

/// What came of it.
pub(super) enum Relayed {
    /// The response, the owner's or that of a fault of the request.
    Answer(Response),
    /// Nothing was done: another one owns the tenant.
    NotOwner(Option<Fence>),
    /// Nothing was done: there is no way to the owner now.
    Nothing,
    /// It may have been done.
    Unknown,
}

pub(super) async fn relay(errand: &Errand<'_>, peer: &str, until: Instant) -> Relayed {
    let request = match request(errand, until).await {
        Ok(request) => request,
        Err(error) => return Relayed::Answer(error.into_response()),
    };
    let message = PeerRequest::Http(Box::new(request)).encode();
    let time_left = until.saturating_duration_since(Instant::now());
    let transport = &errand.cluster.transport;
    let began = Instant::now();
    let reply = match transport.call(peer, message, time_left).await {
        Ok(reply) => PeerReply::decode(&reply),
        Err(PeerError::Unreachable) => return Relayed::Nothing,
        Err(PeerError::Unknown) => return Relayed::Unknown,
    };
    metrics::histogram!("triggers_relay_seconds").record(began.elapsed().as_secs_f64());
    match reply {
        Ok(PeerReply::Http(response)) => Relayed::Answer(whole(*response, errand, peer)),
        Ok(PeerReply::NotOwner { owner }) => {
            Relayed::NotOwner(owner.map(|(incarnation, epoch)| Fence { epoch, incarnation }))
        }
        Ok(PeerReply::Busy) => Relayed::Answer(
            ApiError::unavailable("the owner has too much under way").into_response(),
        ),
        Ok(PeerReply::Rejected | PeerReply::Unsupported { .. }) => Relayed::Nothing,
        Ok(PeerReply::Done | PeerReply::Part { .. }) | Err(_) => Relayed::Unknown,
    }
}

async fn request(errand: &Errand<'_>, until: Instant) -> Result<HttpRequest, ApiError> {
    let Errand { edge, tenant, partition, parts, body, places, .. } = errand;
    let context = RequestContext::of(&parts.extensions)?;
    let bytes_max = edge.options.limits.batch_bytes_max;
    let reading = Reading::up_to(bytes_max, edge).of(tenant, edge);
    let body = body::read(body.again(), reading).await?;
    if !body.is_empty() && places.get().is_none() {
        // One errand runs once at a time: nobody has set it meanwhile.
        let _ = places.set(reading.places(body.len())?);
    }
    let fields =
        parts.headers.iter().filter(|(name, _)| !NOT_SENT.contains(name) && **name != REQUEST_ID);
    let mut headers: Vec<_> =
        fields.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    headers.push((REQUEST_ID.as_str().to_owned(), context.request_id.as_str().as_bytes().to_vec()));
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

fn whole(response: HttpResponse, errand: &Errand<'_>, peer: &str) -> Response {
    let HttpResponse { status, headers, body, stream } = response;
    let body = match stream {
        None => Body::from(body),
        Some(stream) => {
            let (edge, transport) = (errand.edge.clone(), errand.cluster.transport.clone());
            let rest = Rest { edge, transport, peer: peer.to_owned(), stream, is_over: false };
            pulled(Bytes::from(body), rest)
        }
    };
    let mut answer = Response::new(body);
    match StatusCode::from_u16(status) {
        Ok(status) => *answer.status_mut() = status,
        Err(_) => {
            return ApiError::internal("the owner's answer has no valid status").into_response();
        }
    }
    *answer.headers_mut() = fields(headers);
    answer.extensions_mut().insert(Made);
    answer
}

fn fields(headers: Vec<(String, Vec<u8>)>) -> HeaderMap {
    let parsed = headers.into_iter().filter_map(|(name, value)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(&value).ok()?))
    });
    let mut map = HeaderMap::new();
    for (name, value) in parsed {
        map.append(name, value);
    }
    map
}

/// A response that goes on at the owner; giving it up tells the owner.
struct Rest {
    edge: EdgeState,
    transport: Arc<dyn PeerTransport>,
    peer: String,
    stream: u64,
    is_over: bool,
}

impl Rest {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, std::io::Error> {
        while !self.is_over {
            let request = PeerRequest::Pull { stream: self.stream }.encode();
            let reply = self
                .transport
                .call(&self.peer, request, PULL_TIMEOUT)
                .await
                .map_err(std::io::Error::other)?;
            match PeerReply::decode(&reply) {
                Ok(PeerReply::Part { bytes, is_last }) => {
                    self.is_over = is_last;
                    if !bytes.is_empty() {
                        return Ok(Some(bytes.into()));
                    }
                    // Between events, as a stream of this node would end.
                    if self.edge.is_draining() {
                        return Ok(None);
                    }
                }
                _ => {
                    self.is_over = true;
                    return Err(std::io::Error::other("the owner has given the response up"));
                }
            }
        }
        Ok(None)
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (transport, peer, stream) = (self.transport.clone(), self.peer.clone(), self.stream);
        tokio::spawn(async move {
            // An owner that does not hear of it gives the response up by itself, a little later.
            let _ =
                transport.call(&peer, PeerRequest::Close { stream }.encode(), PULL_TIMEOUT).await;
        });
    }
}

fn pulled(first: Bytes, rest: Rest) -> Body {
    let first = (!first.is_empty()).then_some(first);
    Body::from_stream(stream::try_unfold((first, rest), async |(first, mut rest)| {
        let bytes = match first {
            Some(first) => Some(first),
            None => rest.next().await?,
        };
        Ok::<_, std::io::Error>(bytes.map(|bytes| (bytes, (None, rest))))
    }))
}

/// The refusal of a request whose method or target is none.
pub(super) fn malformed() -> ApiError {
    ApiError::new(ErrorCode::ValidationError, "the request has no valid method or target")
}
