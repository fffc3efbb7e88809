//! Binds the TCP listeners of a node.

use super::error::StartError;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// Registers a listener with a runtime, so that its connections wake the threads of that runtime.
pub(super) fn rebind(listener: TcpListener, runtime: &Handle) -> io::Result<TcpListener> {
    let _entered = runtime.enter();
    TcpListener::from_std(listener.into_std()?)
}

/// Binds a listener and returns it with its address.
pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
