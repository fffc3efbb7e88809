//! One keep-alive HTTP/1.1 connection of the load, driven inside its worker's own task.
//!
//! hyper splits a client connection into a sender and a driver, which is usually a task of its own.
//! Here the worker polls both, which saves two wake-ups a request: this program shares its cores
//! with the node it measures.
//!
//! - `CONNECTION-LOAD-1`: a connection has one request at a time, and an exchange ends within
//!   `REQUEST_TIMEOUT_MS`.
//! - `CONNECTION-LOAD-2`: a connection is not used again after a fault. Its worker opens another
//!   one.

use super::BenchError;
use super::clock::Clock;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tower::Service as _;
use triggers_client::{BaseAddress, ClientError, transport_reason};

/// Longest wait for an answer.
const REQUEST_TIMEOUT_MS: u64 = 30_000;
/// Longest wait for a connection, TLS included.
const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// Most connections being opened at once, fewer than a listener's backlog.
const DIALS_MAX: usize = 64;
/// Largest answer that is collected, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

type Connector = HttpsConnector<HttpConnector>;
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connector for `http` and `https`, with the public roots that are compiled in and Nagle's
/// algorithm off.
fn connector() -> Result<Connector, ClientError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let builder = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
        .map_err(|error| ClientError::Tls { reason: error.to_string() })?;
    Ok(builder.https_or_http().enable_http1().wrap_connector(tcp))
}

/// Opens connections to one address.
#[derive(Debug, Clone)]
pub struct Dialer {
    connector: Connector,
    address: BaseAddress,
    uri: Uri,
}

impl Dialer {
    /// Makes a dialer for a base address.
    ///
    /// # Errors
    /// If the address cannot be used or TLS cannot be set up.
    pub fn new(url: &str) -> Result<Self, BenchError> {
        let address = BaseAddress::parse(url)?;
        let uri = address.uri("/")?;
        Ok(Self { connector: connector()?, address, uri })
    }

    /// The base address that it opens connections to.
    pub fn address(&self) -> &BaseAddress {
        &self.address
    }

    /// Opens one connection.
    ///
    /// # Errors
    /// The reason, in words for people.
    pub async fn dial(&self) -> Result<Connection, String> {
        let open = async {
            let mut connector = self.connector.clone();
            poll_fn(|context| connector.poll_ready(context))
                .await
                .map_err(|error| transport_reason(error.as_ref()))?;
            let stream = connector
                .call(self.uri.clone())
                .await
                .map_err(|error| transport_reason(error.as_ref()))?;
            http1::handshake(stream).await.map_err(|error| transport_reason(&error))
        };
        match tokio::time::timeout(Duration::from_millis(CONNECT_TIMEOUT_MS), open).await {
            Ok(Ok((sender, driver))) => Ok(Connection::new(sender, driver)),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(format!("no connection within {CONNECT_TIMEOUT_MS} ms")),
        }
    }

    /// Opens `count` connections, a bounded number at a time. A failed one is `None`; its worker
    /// tries again later.
    ///
    /// # Errors
    /// `BenchError::Unreachable` if the first fails, because the address is probably wrong.
    pub async fn dial_all(&self, count: usize) -> Result<Vec<Option<Connection>>, BenchError> {
        let first = self.dial().await.map_err(|reason| BenchError::Unreachable {
            url: self.address.as_str().to_owned(),
            reason,
        })?;
        let rest = futures_util::stream::iter(1..count).map(|_| async { self.dial().await.ok() });
        let mut connections = vec![Some(first)];
        connections.extend(rest.buffer_unordered(DIALS_MAX).collect::<Vec<_>>().await);
        Ok(connections)
    }
}

/// Why an exchange did not end with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection had ended before the request was sent.
    Stale,
    /// The connection ended, or the timeout passed, while the request was in flight.
    Broken,
}

/// An open connection.
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Pin<Box<http1::Connection<Stream, Full<Bytes>>>>,
    driver_done: bool,
    deadline: Pin<Box<Sleep>>,
}

impl Connection {
    fn new(
        sender: http1::SendRequest<Full<Bytes>>,
        driver: http1::Connection<Stream, Full<Bytes>>,
    ) -> Self {
        let deadline = Box::pin(tokio::time::sleep_until(Clock::deadline(REQUEST_TIMEOUT_MS)));
        Self { sender, driver: Box::pin(driver), driver_done: false, deadline }
    }

    /// Sends one request and reads the complete answer: the status, and the body into `body` if
    /// there is one.
    ///
    /// # Errors
    /// `Fault`. The caller then drops the connection.
    pub async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        body: Option<&mut Vec<u8>>,
    ) -> Result<u16, Fault> {
        self.deadline.as_mut().reset(Clock::deadline(REQUEST_TIMEOUT_MS));
        let Self { sender, driver, driver_done, deadline } = self;
        drive(driver.as_mut(), driver_done, deadline.as_mut(), transfer(sender, request, body))
            .await
    }
}

async fn transfer(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    mut body: Option<&mut Vec<u8>>,
) -> Result<u16, Fault> {
    sender.ready().await.map_err(|_| Fault::Stale)?;
    let mut response = sender.send_request(request).await.map_err(|error| {
        // hyper cancels a request that it had not begun to write when the node closed the
        // connection.
        if error.is_canceled() { Fault::Stale } else { Fault::Broken }
    })?;
    let status = response.status().as_u16();
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(|_| Fault::Broken)?;
        if let (Some(body), Some(data)) = (body.as_deref_mut(), frame.data_ref()) {
            if body.len() + data.len() > BODY_BYTES_MAX {
                return Err(Fault::Broken);
            }
            body.extend_from_slice(data);
        }
    }
    Ok(status)
}

/// Polls the exchange and the connection until the exchange is over, the connection ended, or the
/// timeout passed.
async fn drive(
    mut driver: Pin<&mut http1::Connection<Stream, Full<Bytes>>>,
    driver_done: &mut bool,
    mut deadline: Pin<&mut Sleep>,
    exchange: impl Future<Output = Result<u16, Fault>>,
) -> Result<u16, Fault> {
    let mut exchange = pin!(exchange);
    poll_fn(|context| {
        if let Poll::Ready(result) = exchange.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        if !*driver_done {
            *driver_done = driver.as_mut().poll(context).is_ready();
            if let Poll::Ready(result) = exchange.as_mut().poll(context) {
                return Poll::Ready(result);
            }
        }
        // A driver that ended leaves the exchange an error or its last frames, which wake it. The
        // timeout covers every other case.
        if deadline.as_mut().poll(context).is_ready() {
            Poll::Ready(Err(Fault::Broken))
        } else {
            Poll::Pending
        }
    })
    .await
}
