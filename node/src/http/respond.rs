//! The outermost middleware, which handles what all requests and responses have in common.
//!
//! Before the handler it creates the context, checks the head and answers preflights. Afterwards it
//! compresses and limits large responses, adds error bodies and headers, and records metrics and a
//! log line.
//!
//! - `RESPOND-1`: every response has a request id and the common headers, every error the one body.
//! - `RESPOND-2`: a request that takes longer than `request_timeout_ms` is answered with 503.
//! - `RESPOND-3`: a panic of a handler is a 500 of its request and affects no other.
//! - `RESPOND-4`: log lines contain no key, payload or query.
//! - `RESPOND-5`: a rejected request of an unknown sender is logged at debug level only.

mod headers;
mod measure;
mod render;

pub(crate) use headers::HEADERS_ADDED;

use super::client_address::Peer;
use super::coding::{self, Coding};
use super::edge::with_deadline;
use super::error::ApiError;
use super::request_context::{Counters, REQUEST_ID, RequestContext, with_request};
use super::response_limits::{self, ResponseDeadlines};
use crate::http::forwarded::{CompletedByOwner, Forwarded};
use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::Route;
use futures_util::FutureExt;
use futures_util::future::ready;
use headers::CommonHeaders;
use measure::{Measures, UNKNOWN_ROUTE};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tower::layer::layer_fn;
use tower::{Service as _, service_fn};
use tracing::Level;
use triggers_actors::admission::Admission;
use triggers_cluster_config::NodeOptions;
use triggers_protocol::{Environment, ErrorCode, Timestamp};

/// Bytes of a header field besides name and value: the colon, a space and the line end.
const FIELD_OVERHEAD_BYTES: usize = 4;

/// State of the middleware of one listener.
pub struct Responder {
    environment: Environment,
    counters: Arc<Counters>,
    common: CommonHeaders,
    measures: Measures,
    is_behind_proxy: bool,
    header_bytes_max: usize,
    headers_max: usize,
    timeout: Duration,
    response_timeout: Duration,
    /// Permits for the bytes of responses that are being sent.
    response_gate: Arc<Admission>,
}

impl Responder {
    /// Creates the middleware with a node's options.
    pub fn new(environment: Environment, options: &NodeOptions) -> Self {
        let listen = &options.listen;
        Self {
            environment,
            counters: Arc::new(Counters::new(&options.limits)),
            common: CommonHeaders::new(listen),
            measures: Measures::default(),
            is_behind_proxy: listen.is_behind_tls_proxy,
            header_bytes_max: listen.header_bytes_max,
            headers_max: listen.headers_max,
            timeout: Duration::from_millis(listen.request_timeout_ms),
            response_timeout: Duration::from_millis(listen.response_timeout_ms),
            response_gate: Admission::new(usize::MAX, options.broker.node_bytes_max),
        }
    }

    /// Rejects a request head over the limits.
    fn check_head(&self, request: &Request) -> Result<(), ApiError> {
        let headers = request.headers();
        let fields = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD_BYTES);
        let target = request.uri().path().len() + request.uri().query().map_or(0, str::len);
        let too_large = |what: String| Err(ApiError::new(ErrorCode::HeaderFieldsTooLarge, what));
        if headers.len() > self.headers_max {
            return too_large(format!(
                "a request may have at most {} header fields",
                self.headers_max
            ));
        }
        if fields.sum::<usize>() + target > self.header_bytes_max {
            return too_large(format!(
                "the head of a request may have at most {} bytes",
                self.header_bytes_max
            ));
        }
        Ok(())
    }

    /// Runs the handler; a timeout and a panic become errors.
    ///
    /// Not `async`, so that the future keeps only what it needs while the handler runs: it is moved
    /// with every request.
    fn handle(
        self: &Arc<Self>,
        request: Request,
        deadlines: Option<Arc<ResponseDeadlines>>,
        coding: Option<Coding>,
        inner: &mut Route,
    ) -> impl Future<Output = Response> + Send + use<> {
        // A forwarded request has used a part of its time on the other node.
        let left = request
            .extensions()
            .get::<Forwarded>()
            .map_or(self.timeout, |it| it.time_left.min(self.timeout));
        let end = Instant::now() + left;
        let work = AssertUnwindSafe(with_deadline(end, left, inner.call(request))).catch_unwind();
        let responder = self.clone();
        tokio::time::timeout_at(end, work).map(move |outcome| match outcome {
            Ok(Ok(Ok(response))) => {
                let is_complete = response.extensions().get::<CompletedByOwner>().is_some();
                let response =
                    if is_complete { response } else { coding::compress(response, coding) };
                let (gate, timeout) = (&responder.response_gate, responder.response_timeout);
                response_limits::limit(response, gate, deadlines.as_ref(), timeout).unwrap_or_else(
                    |_| ApiError::unavailable("too many response bytes").into_response(),
                )
            }
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(_panic)) => ApiError::internal("a handler panicked").into_response(),
            Err(_) => ApiError::unavailable("the request timed out").into_response(),
        })
    }
}

/// The parts of a request that its response needs.
struct RequestInfo {
    context: Arc<RequestContext>,
    method: Method,
    route: Option<MatchedPath>,
    origin: Option<HeaderValue>,
    accepts_problem: bool,
    coding: Option<Coding>,
}

impl RequestInfo {
    fn route(&self) -> &str {
        self.route.as_ref().map_or(UNKNOWN_ROUTE, MatchedPath::as_str)
    }
}

/// Wraps every route of a router, including its fallback, in the middleware.
pub fn around<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    responder: Responder,
) -> Router<S> {
    let responder = Arc::new(responder);
    router.layer(layer_fn(move |mut inner: Route| {
        let responder = responder.clone();
        service_fn(move |request| respond(&responder, request, &mut inner).map(Ok::<_, Infallible>))
    }))
}

/// Responds to a request. Not `async`, which would store each of its parts twice.
fn respond(
    responder: &Arc<Responder>,
    mut request: Request,
    inner: &mut Route,
) -> impl Future<Output = Response> + Send + use<> {
    let environment = &responder.environment;
    let peer = request.extensions_mut().remove::<Peer>();
    let (headers, counters) = (request.headers(), &responder.counters);
    let context = RequestContext::new(
        peer.as_ref(),
        headers,
        environment,
        responder.is_behind_proxy,
        counters,
    );
    let context = Arc::new(context);
    let info = RequestInfo {
        method: request.method().clone(),
        route: request.extensions().get::<MatchedPath>().cloned(),
        origin: responder.common.allowed_origin(request.headers()),
        accepts_problem: render::accepts_problem(request.headers()),
        coding: Coding::of_response(request.headers()),
        context: context.clone(),
    };
    let is_preflight =
        info.origin.is_some() && headers::is_preflight(&info.method, request.headers());
    let response = match responder.check_head(&request) {
        _ if is_preflight => ready(headers::preflight()).left_future(),
        Err(error) => ready(error.into_response()).left_future(),
        Ok(()) => {
            request.extensions_mut().insert(context.clone());
            let deadlines = peer.and_then(|peer| peer.response_deadlines);
            responder.handle(request, deadlines, info.coding, inner).right_future()
        }
    };
    let responder = responder.clone();
    with_request(context, response.map(move |response| finish(&responder, info, response)))
}

/// Fallback of a router for unknown paths.
pub async fn no_such_route() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "no such route")
}

fn finish(responder: &Responder, info: RequestInfo, mut response: Response) -> Response {
    let received_at = info.context.received_at;
    let elapsed = responder.environment.monotonic().saturating_sub(received_at.monotonic);
    let now = received_at.wall.plus(elapsed);
    let mut code = None;
    let is_complete = response.extensions().get::<CompletedByOwner>().is_some();
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    if is_error && !is_complete {
        let error = render::error_of(&mut response);
        code = Some(error.code.as_str());
        let request_id = info.context.request_id.as_str();
        render::render(&mut response, error, now, request_id, info.accepts_problem);
        response = coding::compress(response, info.coding);
    }
    let status = response.status();
    responder.measures.record(info.route(), &info.method, status, elapsed);
    log(&info, status, code, elapsed);
    if !is_complete {
        add_headers(responder, info, response.headers_mut(), now);
    }
    response
}

fn add_headers(responder: &Responder, info: RequestInfo, headers: &mut HeaderMap, now: Timestamp) {
    let is_docs = info.route().starts_with("/docs");
    responder.common.add(headers, is_docs, info.origin);
    headers.insert(REQUEST_ID, info.context.request_id.to_header());
    if let Some(rate) = info.context.rate() {
        headers::add_rate(headers, &rate, now);
    }
}

/// Logs one line for the request, at the level of its outcome.
fn log(info: &RequestInfo, status: StatusCode, code: Option<&str>, elapsed: Duration) {
    let tenant = info.context.identity().map(|identity| identity.tenant.as_str());
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                method = info.method.as_str(),
                route = info.route(),
                status = status.as_u16(),
                code,
                tenant,
                address = %info.context.address,
                latency_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
                "request answered"
            )
        };
    }
    match level(status, tenant.is_some()) {
        Level::WARN => line!(warn),
        Level::INFO => line!(info),
        _ => line!(debug),
    }
}

/// Level of the log line. Without a key it is low, so that strangers cannot fill the log.
fn level(status: StatusCode, is_identified: bool) -> Level {
    match status {
        status if status.is_server_error() => Level::WARN,
        status if status.is_client_error() && is_identified => Level::INFO,
        _ => Level::DEBUG,
    }
}

#[cfg(test)]
mod tests;
