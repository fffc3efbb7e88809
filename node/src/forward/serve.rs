//! Answers requests that other nodes forward, with the routes of the public listener.
//!
//! - `SERVE-1`: at most [`STREAMS_MAX`] streamed responses are open. One that is not pulled for
//!   [`IDLE_TIMEOUT`] is dropped.
//! - `SERVE-2`: a part has at most [`PART_BYTES_MAX`] bytes and one more frame, so that many
//!   streams share a link.
//! - `SERVE-3`: a node can pull only the responses to its own requests.
//! - `SERVE-4`: before the node stops, requests in flight are answered. Later ones are rejected
//!   without effect.

use crate::http::client_address::Peer;
use crate::http::error::ApiError;
use crate::http::forwarded::{Forwarded, NotOwner};
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{RwLock, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tower::ServiceExt;
use triggers_actors::HttpService;
use triggers_actors::admission::count_rejection;
use triggers_actors::cluster::directory::Directory;
use triggers_protocol::lock::lock;
use triggers_protocol::peer::{HttpRequest, HttpResponse, PeerReply};
use triggers_protocol::{ErrorCode, PartitionId};
use triggers_store::kv::BoxFuture;

/// Target size in bytes of one part of a streamed response.
const PART_BYTES_MAX: usize = 512 * 1024;
/// A response known to be at most this large, in bytes, is sent in one message.
const COMPLETE_BYTES_MAX: u64 = 1024 * 1024;
const STREAMS_MAX: usize = 4_096;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a pull waits for the next bytes of a response.
const PULL_WAIT: Duration = Duration::from_secs(1);

type Puller = mpsc::Sender<oneshot::Sender<PeerReply>>;

/// Answers the requests that other nodes forward.
pub struct PeerRequests {
    router: Router,
    directory: Directory,
    streams: Arc<Mutex<BTreeMap<(String, u64), Puller>>>,
    next: AtomicU64,
    /// Whether new requests are rejected. Requests in flight hold a read lock.
    is_closed: RwLock<bool>,
}

impl PeerRequests {
    /// Answers with the routes of the public listener.
    pub fn new(router: Router, directory: Directory) -> Self {
        Self {
            router,
            directory,
            streams: Arc::default(),
            next: AtomicU64::new(1),
            is_closed: RwLock::new(false),
        }
    }

    /// Rejects new requests and waits until `deadline` for those in flight (`SERVE-4`).
    pub async fn close_requests(&self, deadline: Instant) {
        match timeout_at(deadline, self.is_closed.write()).await {
            Ok(mut is_closed) => *is_closed = true,
            Err(_) => tracing::warn!("forwarded requests were not answered in time"),
        }
    }

    async fn answer(&self, from: String, request: HttpRequest) -> PeerReply {
        let partition = request.partition;
        // This also fails while `close_requests` waits, so no request slips in.
        let Some(_in_flight) = self.is_closed.try_read().ok().filter(|is_closed| !**is_closed)
        else {
            return self.not_owner(partition);
        };
        let response = match http_request(request) {
            Some(request) => {
                let Ok(response) = self.router.clone().oneshot(request).await;
                response
            }
            None => {
                let message = "the request has no valid method or target";
                ApiError::new(ErrorCode::ValidationError, message).into_response()
            }
        };
        match response.extensions().get::<NotOwner>() {
            Some(_) => self.not_owner(partition),
            None => self.reply(from, response).await,
        }
    }

    fn not_owner(&self, partition: PartitionId) -> PeerReply {
        PeerReply::NotOwner {
            owner: self.directory.owner(partition).map(|fence| (fence.incarnation, fence.epoch)),
        }
    }

    async fn reply(&self, from: String, response: Response) -> PeerReply {
        let (parts, body) = response.into_parts();
        let pairs = parts.headers.iter();
        let headers = pairs.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        let headers = headers.collect();
        let mut reply =
            HttpResponse { status: parts.status.as_u16(), headers, body: Vec::new(), stream: None };
        if body.size_hint().upper().is_some_and(|bytes| bytes <= COMPLETE_BYTES_MAX) {
            match body.collect().await {
                Ok(collected) => reply.body = collected.to_bytes().to_vec(),
                Err(error) => {
                    tracing::warn!(%error, "a response for another node ended early");
                    return PeerReply::Rejected;
                }
            }
        } else {
            let Some(stream) = self.open(from, body) else { return PeerReply::Busy };
            reply.stream = Some(stream);
        }
        PeerReply::Http(Box::new(reply))
    }

    /// Keeps a response that the other node pulls, and returns its number. `None` if too many are
    /// open.
    fn open(&self, from: String, body: Body) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (puller, pulls) = mpsc::channel(1);
        let key = (from, number);
        let mut streams = lock(&self.streams);
        if streams.len() >= STREAMS_MAX {
            count_rejection("forwarded_responses");
            return None;
        }
        streams.insert(key.clone(), puller);
        drop(streams);
        let streams = self.streams.clone();
        tokio::spawn(async move {
            feed(body, pulls).await;
            lock(&streams).remove(&key);
        });
        Some(number)
    }

    async fn next_part(&self, from: String, stream: u64) -> Option<PeerReply> {
        let puller = lock(&self.streams).get(&(from, stream)).cloned()?;
        let (reply, part) = oneshot::channel();
        puller.send(reply).await.ok()?;
        part.await.ok()
    }
}

impl HttpService for PeerRequests {
    fn request(&self, from: String, request: HttpRequest) -> BoxFuture<'_, PeerReply> {
        Box::pin(self.answer(from, request))
    }

    fn pull(&self, from: String, stream: u64) -> BoxFuture<'_, PeerReply> {
        Box::pin(async move { self.next_part(from, stream).await.unwrap_or(PeerReply::Rejected) })
    }

    fn close(&self, from: &str, stream: u64) {
        lock(&self.streams).remove(&(from.to_owned(), stream));
    }
}

fn http_request(request: HttpRequest) -> Option<Request> {
    let HttpRequest { time_left_ms, partition: _, address, method, target, headers, body } =
        request;
    let mut http = Request::new(Body::from(body));
    *http.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
    *http.uri_mut() = target.parse::<Uri>().ok()?;
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        http.headers_mut().append(name, HeaderValue::from_bytes(&value).ok()?);
    }
    let address = address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let address = SocketAddr::new(address, 0);
    let time_left = Duration::from_millis(time_left_ms.into());
    http.extensions_mut().insert(Peer { address, response_deadlines: None });
    http.extensions_mut().insert(Forwarded { time_left });
    Some(http)
}

/// Answers the pulls of one response until it ends or no pull arrives for [`IDLE_TIMEOUT`].
async fn feed(mut body: Body, mut pulls: mpsc::Receiver<oneshot::Sender<PeerReply>>) {
    while let Ok(Some(pull)) = timeout(IDLE_TIMEOUT, pulls.recv()).await {
        let Some((bytes, is_last)) = part(&mut body).await else {
            // The body failed: the response to the client must fail as well.
            let _ = pull.send(PeerReply::Rejected);
            return;
        };
        // A node that is gone does not pull again.
        let _ = pull.send(PeerReply::Part { bytes, is_last });
        if is_last {
            return;
        }
    }
}

/// The available bytes of a body and whether it has ended, after waiting for the first bytes.
/// `None` if the body failed.
async fn part(body: &mut Body) -> Option<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let Ok(mut frame) = timeout(PULL_WAIT, body.frame()).await else {
        return Some((bytes, false));
    };
    loop {
        let Some(next) = frame else { return Some((bytes, true)) };
        if let Ok(data) = next.ok()?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() >= PART_BYTES_MAX {
            return Some((bytes, false));
        }
        match body.frame().now_or_never() {
            Some(next) => frame = next,
            None => return Some((bytes, false)),
        }
    }
}
