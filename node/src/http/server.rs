//! Accepts the connections of a listener and runs each in a task, until the node stops.
//!
//! To stop, it accepts no more connections, lets requests finish for at most `drain_timeout_ms`,
//! and then closes the remaining connections.
//!
//! - `SERVER-1`: at most `connections_max` connections are open; the next one waits in the backlog
//!   of the operating system. Without a proxy, a connection over `connections_per_address_max` of
//!   its address is closed.
//! - `SERVER-2`: every wait for a peer is bounded: for the handshake, a request head, a write, a
//!   response and the close (`connection`, `stream`).
//! - `SERVER-3`: no connection is open when [`serve`] returns.
//!
//! The limits on requests are in [`super::respond`]. Those here are wider, so that clients get its
//! error responses.

mod activity;
mod connection;
mod stream;

use super::client_address::sender;
use axum::Router;
use axum::serve::{Listener, ListenerExt as _};
use connection::{Connections, stopped};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use triggers_actors::keyed_limit::KeyedLimit;
use triggers_cluster_config::ListenOptions;

/// Metric of the connections that were closed because their address had too many.
pub(crate) const CONNECTIONS_REJECTED: &str = "triggers_http_connections_rejected_total";

/// Prepares a TCP listener for [`serve`].
pub fn tcp(listener: TcpListener) -> impl Listener<Addr = SocketAddr> {
    listener.tap_io(|stream| {
        // Otherwise small responses wait for acknowledgements. It fails only if the peer is gone.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
    })
}

/// Serves a router, over TLS if given, until `shutdown` is true or its sender is dropped.
pub async fn serve<L>(
    mut listener: L,
    router: Router,
    tls: Option<TlsAcceptor>,
    options: ListenOptions,
    shutdown: watch::Receiver<bool>,
) where
    L: Listener<Addr = SocketAddr>,
{
    let shared = Arc::new(Connections::new(router, tls, &options, shutdown.clone()));
    // Behind a proxy all connections come from its address.
    let is_limited = !options.is_behind_tls_proxy;
    let per_sender_max = if is_limited { options.connections_per_address_max } else { usize::MAX };
    let senders = KeyedLimit::default();
    let mut tasks = JoinSet::new();
    let mut stop = pin!(stopped(shutdown));
    loop {
        tokio::select! {
            () = &mut stop => break,
            (stream, peer) = listener.accept(), if tasks.len() < options.connections_max => {
                match senders.acquire(sender(peer.ip()), 1, per_sender_max) {
                    Some(permit) => drop(tasks.spawn(shared.clone().run(stream, peer, permit))),
                    None => reject(stream, peer),
                }
            }
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => log_panic(ended),
        }
    }
    drop(listener);
    drain(tasks, Duration::from_millis(options.drain_timeout_ms)).await;
}

/// Closes a connection whose sender has too many.
fn reject<S>(stream: S, peer: SocketAddr) {
    metrics::counter!(CONNECTIONS_REJECTED).increment(1);
    tracing::debug!(%peer, "connection rejected: too many from its address");
    drop(stream);
}

/// Waits for the connections to end, and closes those left after the timeout.
async fn drain(mut tasks: JoinSet<()>, timeout: Duration) {
    let finished = async {
        while let Some(ended) = tasks.join_next().await {
            log_panic(ended);
        }
    };
    if tokio::time::timeout(timeout, finished).await.is_err() {
        tracing::warn!(connections = tasks.len(), "connections closed with unanswered requests");
        tasks.shutdown().await;
    }
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "connection task failed");
    }
}

#[cfg(test)]
mod tests;
