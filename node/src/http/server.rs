//! The accept loop of a listener: connections in, each driven by a task of its own, until it is
//! told to stop.
//!
//! Stopping: accept no more, let every connection finish the requests it has, for at most
//! `drain_timeout_ms`, then close what is left. Invariants: `SERVER-1` at most `connections_max`
//! connections are open: the next one waits in the operating system's backlog; at most
//! `connections_per_address_max` of them are of one address: the next one is closed, unless a proxy
//! is in front, which all of them come from; `SERVER-2` every wait on a peer ends: for the
//! handshake, a head, a write, a whole answer, the end (`connection`, `stream`); `SERVER-3` when
//! [`serve`] returns no connection is left. It is not the place of limits on requests:
//! [`super::respond`] has those, and the limits here are set wider, so that its answers are the
//! ones clients see.

mod activity;
mod connection;
mod open_body;
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

/// The metric of connections that were closed because of their address.
pub(crate) const CONNECTIONS_REJECTED: &str = "triggers_http_connections_rejected_total";

/// A TCP listener as [`serve`] takes it.
pub fn tcp(listener: TcpListener) -> impl Listener<Addr = SocketAddr> {
    listener.tap_io(|stream| {
        // Without it small answers wait for acknowledgements; with a peer that has gone it fails,
        // and so will the rest.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay not set");
        }
    })
}

/// Serves a router, with TLS if there is any, until `shutdown` becomes true or its sender is gone.
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
                    None => refuse(stream, peer),
                }
            }
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => note(ended),
        }
    }
    drop(listener);
    drain(tasks, Duration::from_millis(options.drain_timeout_ms)).await;
}

/// Closes a connection whose sender has as many as it may.
fn refuse<S>(stream: S, peer: SocketAddr) {
    metrics::counter!(CONNECTIONS_REJECTED).increment(1);
    tracing::debug!(%peer, "connection refused: its address has as many as it may");
    drop(stream);
}

/// Waits for the connections to end, and ends them when time is up.
async fn drain(mut tasks: JoinSet<()>, timeout: Duration) {
    let finished = async {
        while let Some(ended) = tasks.join_next().await {
            note(ended);
        }
    };
    if tokio::time::timeout(timeout, finished).await.is_err() {
        tracing::warn!(
            connections = tasks.len(),
            "connections closed before their requests were answered"
        );
        tasks.shutdown().await;
    }
}

fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "connection task failed");
    }
}

#[cfg(test)]
mod tests;
