//! Keeps the connection to each peer: one task for each peer dials it and pings it.
//!
//! Invariants: `LINKS-1` the connections of a peer that has missed [`MISSES_MAX`] consecutive pings
//! are closed, because a frozen process would keep them open for ever; `LINKS-2` of two nodes the
//! one whose name sorts first dials, the other dials only after [`PATIENCE`] checks without a link,
//! so that they seldom dial at the same time; `LINKS-3` dialling is repeated while the peer exists,
//! with a growing pause up to [`BACKOFF_MAX`].

use super::{LinkTable, server_name};
use crate::cluster::LinkState;
use ractor_cluster::{NetworkStream, NodeServerMessage};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use triggers_protocol::peer::PeerRequest;

const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_millis(500);
const MISSES_MAX: u32 = 3;
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// Checks without a link before a node dials although its peer should.
const PATIENCE: u32 = 30;

/// Keeps the link to one peer until the task is aborted.
pub(super) async fn keep(inner: Arc<LinkTable>, peer: String, address: String) {
    let dials_first = inner.peer < peer;
    let (mut backoff, mut waited, mut misses) = (BACKOFF_MIN, 0, 0);
    loop {
        if inner.gateway_of(&peer).is_none() {
            inner.set_state(&peer, LinkState::Down);
            waited += 1;
            if dials_first || waited > PATIENCE {
                match timeout(DIAL_TIMEOUT, dial(&inner, &peer, &address)).await {
                    Ok(Ok(())) => {}
                    failed => {
                        let error = failed
                            .map_or_else(|_| "no answer in time".to_owned(), |e| format!("{e:?}"));
                        tracing::debug!(peer, address, error, "a peer could not be dialled");
                    }
                }
                // Also after a connection was made, because its handshake may still fail.
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
            sleep(backoff).await;
            continue;
        }
        (waited, backoff) = (0, BACKOFF_MIN);
        match inner.call(&peer, PeerRequest::Ping.encode(), PING_TIMEOUT).await {
            Ok(_) => {
                misses = 0;
                inner.set_state(&peer, LinkState::Up);
                sleep(PING_INTERVAL).await;
            }
            Err(_) => {
                misses += 1;
                if misses >= MISSES_MAX {
                    inner.set_state(&peer, LinkState::Down);
                    inner.close(&peer).await;
                    misses = 0;
                }
                sleep(PING_INTERVAL - PING_TIMEOUT).await;
            }
        }
    }
}

/// Connects and passes the connection to ractor_cluster, which checks the cookie.
async fn dial(inner: &LinkTable, peer: &str, address: &str) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (peer_addr, local_addr) = (stream.peer_addr()?, stream.local_addr()?);
    let stream = match &inner.tls {
        None => NetworkStream::Raw { peer_addr, local_addr, stream },
        Some(tls) => {
            let name = server_name(peer)
                .ok_or_else(|| io::Error::other("the peer's name is not a DNS name"))?;
            let stream = tls.connector.connect(name, stream).await?;
            NetworkStream::TlsClient { peer_addr, local_addr, stream }
        }
    };
    let opened = NodeServerMessage::ConnectionOpened { stream: Box::new(stream), is_server: false };
    inner.server.cast(opened).map_err(|_| io::Error::other("the node is stopping"))
}
