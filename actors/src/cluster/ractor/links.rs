//! Links: one task for each member that keeps a connection to it, and closes one that does not answer.
//!
//! Invariants: `LINKS-1` a member that has not answered [`MISSES_MAX`] pings in a row has its connections closed: a process that
//! is frozen keeps them open for ever; `LINKS-2` of two members the one whose name comes first dials, the other one only
//! when it has had no link for [`PATIENCE`], so that they seldom meet in the middle; `LINKS-3` dialling is repeated for as
//! long as the member is there, ever more slowly up to [`BACKOFF_MAX`].

use super::{Inner, server_name};
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
const PATIENCE: u32 = 30;

/// Looks after the link to one member, until it is aborted.
pub(super) async fn keep(inner: Arc<Inner>, peer: String, address: String) {
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
                        tracing::debug!(peer, address, error, "a member cannot be dialled");
                    }
                }
                // Also after a connection that was made: what comes of it is not known yet.
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

/// Connects, and gives the connection to ractor_cluster, which goes on with the cookie.
async fn dial(inner: &Inner, peer: &str, address: &str) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (peer_addr, local_addr) = (stream.peer_addr()?, stream.local_addr()?);
    let stream = match &inner.tls {
        None => NetworkStream::Raw { peer_addr, local_addr, stream },
        Some(tls) => {
            let name =
                server_name(peer).ok_or_else(|| io::Error::other("its name is no DNS name"))?;
            let stream = tls.connector.connect(name, stream).await?;
            NetworkStream::TlsClient { peer_addr, local_addr, stream }
        }
    };
    let opened = NodeServerMessage::ConnectionOpened { stream: Box::new(stream), is_server: false };
    inner.server.cast(opened).map_err(|_| io::Error::other("the node stops"))
}
