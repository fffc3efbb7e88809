//! One connection: handshake, HTTP/1.1 or HTTP/2, and its end.
//!
//! Invariants: `CONNECTION-1` a peer that sends no request, half a head, or nothing for `idle_timeout_ms` between two requests
//! loses its connection (see `stream`); an HTTP/2 connection is pinged while it is open and told to end when no request
//! was open on it for as long; a connection ends whose peer does not take an answer in time; `CONNECTION-2` when the node
//! stops, requests that began are answered and no further ones are taken; `CONNECTION-3` what fails here concerns its
//! connection alone and is logged for debugging only: it is the peer's doing.

use super::activity::Activity;
use super::open_body::OpenBody;
use super::stream::{TimedStream, Waits};
use crate::http::client_address::Peer;
use crate::http::sending::Sending;
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

/// How far the limits of the protocol are above our own, so that ours answer first.
const HEAD_BYTES_ABOVE: usize = 72 * 1024;
const HEADERS_ABOVE: usize = 28;
/// How many hyper takes unless it is told otherwise; it has room for those on its stack.
const HEADERS_ON_STACK_MAX: usize = 100;
/// Requests at the same time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What all connections of a listener share.
pub(super) struct Connections {
    router: Router,
    builder: auto::Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    waits: Waits,
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
            waits: Waits {
                write: Duration::from_millis(options.request_timeout_ms),
                head: Duration::from_millis(options.header_timeout_ms),
                idle: Duration::from_millis(options.idle_timeout_ms),
            },
            shutdown,
            open: metrics::gauge!("triggers_http_connections"),
        }
    }

    /// Drives a connection to its end.
    pub(super) async fn run<S>(
        self: Arc<Self>,
        stream: S,
        peer: SocketAddr,
        _permit: KeyedPermit<IpAddr>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.open.increment(1);
        let _counted = CountedDown(&self.open);
        let activity = Arc::new(Activity::default());
        let stream = TimedStream::new(stream, self.waits, activity.clone());
        let Some(tls) = &self.tls else { return self.drive(stream, peer, activity).await };
        match timeout(self.waits.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.drive(stream, peer, activity).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "tls handshake failed"),
            Err(_) => tracing::debug!(%peer, "tls handshake took too long"),
        }
    }

    async fn drive<S>(&self, stream: S, peer: SocketAddr, activity: Arc<Activity>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let sending = Arc::new(Sending::default());
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let (under_way, open) = activity.begin(request.version() == Version::HTTP_2);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer { address: peer, sending: Some(sending.clone()) });
            self.router.clone().call(request).map(|answer| {
                drop(under_way);
                answer.map(|answer| answer.map(|body| OpenBody::new(body, open)))
            })
        });
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        // Of these only the one that was woken is polled, so that they cost nothing while the connection works.
        let mut signals = FuturesUnordered::<BoxFuture<'_, Signal>>::from_iter([
            stopped(self.shutdown.clone()).map(|()| Signal::Finish).boxed(),
            activity.http2_idle(self.waits.idle).map(|()| Signal::Finish).boxed(),
            sending.overdue().map(|()| Signal::Overdue).boxed(),
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
                        tracing::debug!(%peer, "connection closed: an answer was not taken in time");
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

/// Ends when the node is told to stop.
pub(super) async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // An error means that the sender is gone: then nobody could tell any more.
    drop(shutdown.wait_for(|stop| *stop).await);
}

/// What ends a connection from outside.
enum Signal {
    /// It takes no further request.
    Finish,
    /// An answer has not been taken in time.
    Overdue,
}

/// Counts an open connection down, also when its task is aborted.
struct CountedDown<'a>(&'a Gauge);

impl Drop for CountedDown<'_> {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Both protocols with the listener's limits.
fn builder(options: &ListenOptions) -> auto::Builder<TokioExecutor> {
    let head_bytes_max = options.header_bytes_max + HEAD_BYTES_ABOVE;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The stream has the timers: hyper's would close idle connections as fast as half a head.
        .header_read_timeout(None)
        .max_buf_size(head_bytes_max);
    let headers_max = options.headers_max + HEADERS_ABOVE;
    if headers_max > HEADERS_ON_STACK_MAX {
        // Told how many there may be, hyper takes memory for as many with each request.
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
