//! HTTP over the simulated network, for the webhooks of nodes and for simulated clients.

use super::HostId;
use super::network::{Network, SimStream};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Request, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;
use tower::Service;
use triggers_node::webhook::TcpConnector;

impl Connection for SimStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Opens connections for the webhooks of a host.
#[derive(Clone)]
pub struct SimTcp {
    pub network: Network,
    pub host: HostId,
}

impl TcpConnector for SimTcp {}

impl Service<Uri> for SimTcp {
    type Response = TokioIo<SimStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { network, host } = self.clone();
        Box::pin(async move {
            if network.is_exhausted(host) {
                return Err(io::Error::from_raw_os_error(libc::EMFILE));
            }
            let ip = uri.host().and_then(|host| host.parse().ok());
            let ip =
                ip.ok_or_else(|| io::Error::other("a simulation connects to IP addresses only"))?;
            let to = SocketAddr::new(ip, uri.port_u16().unwrap_or(80));
            network.connect(host, to).await.map(TokioIo::new)
        })
    }
}

/// A complete HTTP answer.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    pub status: u16,
    /// The answer has the header `Idempotent-Replayed`.
    pub is_replayed: bool,
    pub body: Bytes,
}

/// Sends a request over a new connection. Returns none without a complete answer within `limit`.
pub async fn call(
    network: &Network,
    from: HostId,
    to: SocketAddr,
    request: Request<Full<Bytes>>,
    limit: Duration,
) -> Option<HttpAnswer> {
    let answer = async {
        let stream = network.connect(from, to).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let exchange = async {
            let response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            let is_replayed = response.headers().contains_key("idempotent-replayed");
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some(HttpAnswer { status, is_replayed, body })
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            // The connection ended; the answer may have arrived before.
            _ = connection => exchange.await,
        }
    };
    timeout(limit, answer).await.ok().flatten()
}
