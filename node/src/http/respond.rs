//! The outermost middleware: what is true of every request and of every response, whatever the route.
//!
//! Before the handler: the request's id, address and trace, the limits of its head, preflights. Around it: the deadline,
//! and a handler's panic. After it: what a large response holds, the error's body, the common headers, the state of the
//! key's rate, metrics and one log line.
//! Invariants: `RESPOND-1` every response has an id and the common headers, and every error the one body; `RESPOND-2`
//! a request takes no longer than `request_timeout_ms`, after which the answer is 503; `RESPOND-3` a panic of a handler
//! is a 500 of that request and nothing more; `RESPOND-4` what is logged has no key, no payload and no query;
//! `RESPOND-5` a refused request whose sender is not known has its line at the level of debugging only.

mod headers;
mod measure;
mod render;

pub(crate) use headers::HEADERS_ADDED;

use super::client_address::Peer;
use super::counters::Counters;
use super::deadline;
use super::error::ApiError;
use super::request_context::{REQUEST_ID, RequestContext, within};
use super::sending::{self, Sending};
use crate::http::forwarded::{Forwarded, Made};
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
use triggers_protocol::{Environment, ErrorCode};

/// Bytes that a header field takes besides its name and value: a colon, a space, the line's end.
const FIELD_OVERHEAD_BYTES: usize = 4;

/// What the middleware works with: one for each listener.
pub struct Responder {
    environment: Environment,
    counters: Arc<Counters>,
    common: CommonHeaders,
    measures: Measures,
    behind_proxy: bool,
    header_bytes_max: usize,
    headers_max: usize,
    timeout: Duration,
    response_timeout: Duration,
    /// Bytes of responses that are being sent.
    sending: Arc<Admission>,
}

impl Responder {
    /// As a node's options say.
    pub fn new(environment: Environment, options: &NodeOptions) -> Self {
        let listen = &options.listen;
        Self {
            environment,
            counters: Arc::new(Counters::new(&options.limits)),
            common: CommonHeaders::new(listen),
            measures: Measures::default(),
            behind_proxy: listen.is_behind_tls_proxy,
            header_bytes_max: listen.header_bytes_max,
            headers_max: listen.headers_max,
            timeout: Duration::from_millis(listen.request_timeout_ms),
            response_timeout: Duration::from_millis(listen.response_timeout_ms),
            sending: Admission::new(usize::MAX, options.broker.node_bytes_max),
        }
    }

    /// Refuses a head that is over the limits.
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

    /// The handler's response, or an error's if time is up or the handler panicked.
    ///
    /// What is not needed any more once the handler has begun is no part of the future: it is as small as it can be, because it
    /// is moved with every request and kept while the request waits.
    fn handled(
        self: &Arc<Self>,
        request: Request,
        connection: Option<Arc<Sending>>,
        inner: &mut Route,
    ) -> impl Future<Output = Response> + Send + use<> {
        // What came from a member has been under way for a while.
        let left = request
            .extensions()
            .get::<Forwarded>()
            .map_or(self.timeout, |it| it.time_left.min(self.timeout));
        let end = Instant::now() + left;
        let work =
            AssertUnwindSafe(deadline::within(end, left, inner.call(request))).catch_unwind();
        let responder = self.clone();
        tokio::time::timeout_at(end, work).map(move |outcome| match outcome {
            Ok(Ok(Ok(response))) => {
                let timeout = responder.response_timeout;
                let held =
                    sending::hold(response, &responder.sending, connection.as_ref(), timeout);
                held.unwrap_or_else(|_| {
                    ApiError::unavailable("too much is being sent").into_response()
                })
            }
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(_panic)) => ApiError::internal("a handler panicked").into_response(),
            Err(_) => ApiError::unavailable("the request's time is up").into_response(),
        })
    }
}

/// What has to be kept of a request until its response is there.
struct Noted {
    context: Arc<RequestContext>,
    method: Method,
    route: Option<MatchedPath>,
    origin: Option<HeaderValue>,
    as_problem: bool,
}

impl Noted {
    fn route(&self) -> &str {
        self.route.as_ref().map_or(UNKNOWN_ROUTE, MatchedPath::as_str)
    }
}

/// Puts the middleware around every route of a router, its fallback among them.
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

/// The response to a request. Made of combinators and not `async`, which would keep each of its parts twice.
fn respond(
    responder: &Arc<Responder>,
    mut request: Request,
    inner: &mut Route,
) -> impl Future<Output = Response> + Send + use<> {
    let environment = &responder.environment;
    let peer = request.extensions_mut().remove::<Peer>();
    let (headers, counters) = (request.headers(), &responder.counters);
    let context =
        RequestContext::new(peer.as_ref(), headers, environment, responder.behind_proxy, counters);
    let context = Arc::new(context);
    let noted = Noted {
        method: request.method().clone(),
        route: request.extensions().get::<MatchedPath>().cloned(),
        origin: responder.common.allowed_origin(request.headers()),
        as_problem: render::accepts_problem(request.headers()),
        context: context.clone(),
    };
    let is_preflight =
        noted.origin.is_some() && headers::is_preflight(&noted.method, request.headers());
    let response = match responder.check_head(&request) {
        _ if is_preflight => ready(headers::preflight()).left_future(),
        Err(error) => ready(error.into_response()).left_future(),
        Ok(()) => {
            request.extensions_mut().insert(context.clone());
            responder.handled(request, peer.and_then(|peer| peer.sending), inner).right_future()
        }
    };
    let responder = responder.clone();
    within(context, response.map(move |response| finish(&responder, noted, response)))
}

/// The fallback of a router: no route has this path.
pub async fn no_such_route() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "no such route")
}

fn finish(responder: &Responder, noted: Noted, mut response: Response) -> Response {
    let came = noted.context.came;
    let elapsed = responder.environment.monotonic().saturating_sub(came.monotonic);
    let now = came.at.plus(elapsed);
    let mut code = None;
    let is_made = response.extensions().get::<Made>().is_some();
    if is_made {
        // The owner has done it all.
    } else if response.status().is_client_error() || response.status().is_server_error() {
        let error = render::error_of(&mut response);
        code = Some(error.code.as_str());
        render::render(
            &mut response,
            error,
            now,
            noted.context.request_id.as_str(),
            noted.as_problem,
        );
    }
    let status = response.status();
    responder.measures.record(noted.route(), &noted.method, status, elapsed);
    log(&noted, status, code, elapsed);
    if !is_made {
        add_headers(responder, noted, response.headers_mut(), now);
    }
    response
}

fn add_headers(
    responder: &Responder,
    noted: Noted,
    headers: &mut HeaderMap,
    now: triggers_protocol::Timestamp,
) {
    let is_docs = noted.route().starts_with("/docs");
    responder.common.add(headers, is_docs, noted.origin);
    headers.insert(REQUEST_ID, noted.context.request_id.to_header());
    if let Some(rate) = noted.context.rate() {
        headers::add_rate(headers, &rate, now);
    }
}

/// One line a request: its level is that of its outcome.
fn log(noted: &Noted, status: StatusCode, code: Option<&str>, elapsed: Duration) {
    let tenant = noted.context.identity().map(|identity| identity.tenant.as_str());
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                method = noted.method.as_str(),
                route = noted.route(),
                status = status.as_u16(),
                code,
                tenant,
                address = %noted.context.address,
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

/// A refused request is news only if its sender has a key: everybody else could fill the log.
fn level(status: StatusCode, is_identified: bool) -> Level {
    match status {
        status if status.is_server_error() => Level::WARN,
        status if status.is_client_error() && is_identified => Level::INFO,
        _ => Level::DEBUG,
    }
}

#[cfg(test)]
mod tests;
