//! Runs one connection: handshake, HTTP/1.1 or HTTP/2, and close.
//!
//! - `CONNECTION-1`: an idle connection, and one whose peer stops in a request head or does not
//!   read a response in time, is closed (see `stream`). An HTTP/2 connection is pinged as well.
//! - `CONNECTION-2`: when the node stops, requests that began are answered, and no others.
//! - `CONNECTION-3`: a fault affects only its connection and is logged at debug level, because
//!   peers cause it.

use super::activity::{Activity, OpenBody};
use super::stream::{StreamTimeouts, TimedStream};
use crate::http::client_address::Peer;
use crate::http::response_limits::ResponseDeadlines;
use axum::Router;
use axum::body::Body;
use axum::http::Version;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use metrics::Gauge;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::Service as _;
use triggers_actors::keyed_limit::KeyedPermit;
use triggers_cluster_config::ListenOptions;

/// Added to the options to get hyper's limit, so that clients get the error response of `respond`.
const HEAD_BYTES_ABOVE: usize = 72 * 1024;
const HEADERS_ABOVE: usize = 28;
/// hyper's default limit of header fields, up to which it keeps them on the stack.
const HEADERS_ON_STACK_MAX: usize = 100;
/// Concurrent requests on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the connections of a listener.
pub(super) struct Connections {
    router: Router,
    builder: auto::Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    timeouts: StreamTimeouts,
    shutdown: watch::Receiver<bool>,
    open: Gauge,
}

impl Connections {
    pub(super) fn new(
        router: Router,
        tls: Option<TlsAcceptor>,
        options: &ListenOptions,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Self {
            router,
            builder: builder(options),
            tls,
            timeouts: StreamTimeouts {
                write: Duration::from_millis(options.request_timeout_ms),
                head: Duration::from_millis(options.header_timeout_ms),
                idle: Duration::from_millis(options.idle_timeout_ms),
            },
            shutdown,
            open: metrics::gauge!("triggers_http_connections"),
        }
    }

    /// Runs a connection until it closes.
    pub(super) async fn run<S>(
        self: Arc<Self>,
        stream: S,
        peer: SocketAddr,
        _permit: KeyedPermit<IpAddr>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.open.increment(1);
        let _guard = GaugeGuard(&self.open);
        let activity = Arc::new(Activity::default());
        let stream = TimedStream::new(stream, self.timeouts, activity.clone());
        let Some(tls) = &self.tls else { return self.drive(stream, peer, activity).await };
        match timeout(self.timeouts.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.drive(stream, peer, activity).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
        }
    }

    async fn drive<S>(&self, stream: S, peer: SocketAddr, activity: Arc<Activity>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let deadlines = Arc::new(ResponseDeadlines::default());
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let (handling, sending) = activity.begin(request.version() == Version::HTTP_2);
            let mut request = request.map(Body::new);
            let response_deadlines = Some(deadlines.clone());
            request.extensions_mut().insert(Peer { address: peer, response_deadlines });
            self.router.clone().call(request).map(|response| {
                drop(handling);
                response.map(|response| response.map(|body| OpenBody::new(body, sending)))
            })
        });
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        // Polls only a signal that was woken, so that the signals cost nothing in normal operation.
        let mut signals = FuturesUnordered::<BoxFuture<'_, Signal>>::from_iter([
            stopped(self.shutdown.clone()).map(|()| Signal::Finish).boxed(),
            activity.http2_idle(self.timeouts.idle).map(|()| Signal::Finish).boxed(),
            deadlines.overdue().map(|()| Signal::Overdue).boxed(),
        ]);
        let mut is_finishing = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "connection failed");
                    }
                    return;
                }
                Some(signal) = signals.next() => match signal {
                    Signal::Overdue => {
                        tracing::debug!(%peer, "connection closed: response not read in time");
                        return;
                    }
                    Signal::Finish if !is_finishing => {
                        is_finishing = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Signal::Finish => {}
                }
            }
        }
    }
}

/// Completes when the node stops.
pub(super) async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // An error means that the sender was dropped, which also means stop.
    drop(shutdown.wait_for(|stop| *stop).await);
}

/// Reason to end a connection.
enum Signal {
    /// Answer the requests that began, and take no others.
    Finish,
    /// The client has not read a response in time.
    Overdue,
}

/// Decrements the gauge of open connections, also when the task is aborted.
struct GaugeGuard<'a>(&'a Gauge);

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Configures both protocols with the limits of the listener.
fn builder(options: &ListenOptions) -> auto::Builder<TokioExecutor> {
    let head_bytes_max = options.header_bytes_max + HEAD_BYTES_ABOVE;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `TimedStream` has timers. hyper's does not distinguish idle connections from slow heads.
        .header_read_timeout(None)
        .max_buf_size(head_bytes_max);
    let headers_max = options.headers_max + HEADERS_ABOVE;
    if headers_max > HEADERS_ON_STACK_MAX {
        // With an explicit limit hyper allocates memory for that many fields in each request.
        builder.http1().max_headers(headers_max);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(head_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
