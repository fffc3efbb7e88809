//! Accepts connections of peers; each TLS handshake runs in a task of its own, with a deadline.
//!
//! Invariants: `PEER-LISTENER-1` a connection without a certificate of the cluster's authority
//! never reaches ractor_cluster; `PEER-LISTENER-2` at most [`HANDSHAKES_MAX`] handshakes run at a
//! time; further connections wait to be accepted.

use ractor::ActorRef;
use ractor_cluster::{NetworkStream, NodeServerMessage};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const HANDSHAKES_MAX: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Certificates for both sides of a connection.
#[derive(Clone)]
pub struct PeerTls {
    /// For incoming connections; it must require a certificate.
    pub acceptor: TlsAcceptor,
    /// For outgoing connections; it must present a certificate.
    pub connector: TlsConnector,
}

/// Accepts connections until the task is aborted.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<PeerTls>,
    server: ActorRef<NodeServerMessage>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let permit =
            handshakes.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a peer's connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, server) = (tls.clone(), server.clone());
        tokio::spawn(async move {
            let _permit = permit;
            match timeout(HANDSHAKE_TIMEOUT, protect(stream, address, tls)).await {
                Ok(Ok(stream)) => {
                    let opened = NodeServerMessage::ConnectionOpened {
                        stream: Box::new(stream),
                        is_server: true,
                    };
                    // A server that has stopped drops the connection, which closes it.
                    let _ = server.cast(opened);
                }
                Ok(Err(error)) => {
                    tracing::warn!(%address, %error, "a peer connection was rejected")
                }
                Err(_) => tracing::warn!(%address, "a handshake took too long"),
            }
        });
    }
}

async fn protect(
    stream: TcpStream,
    peer_addr: SocketAddr,
    tls: Option<PeerTls>,
) -> io::Result<NetworkStream> {
    stream.set_nodelay(true)?;
    let local_addr = stream.local_addr()?;
    Ok(match tls {
        None => NetworkStream::Raw { peer_addr, local_addr, stream },
        Some(tls) => {
            let stream = tls.acceptor.accept(stream).await?;
            NetworkStream::TlsServer { peer_addr, local_addr, stream }
        }
    })
}
