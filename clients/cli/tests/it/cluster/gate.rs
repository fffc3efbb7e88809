//! A TCP proxy that can be shut to simulate a broken network.
//!
//! While the gate is shut, open connections stall; new connections are accepted and stall as well.

use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// The target of a gate.
#[derive(Clone)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A gate, which ends with the runtime of the test.
pub struct Gate {
    pub address: SocketAddr,
    is_open: watch::Sender<bool>,
    target: watch::Sender<Option<Target>>,
}

impl Gate {
    /// Starts a gate; without a target, connections wait until `leads_to` sets one.
    pub async fn to(target: Option<Target>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_open, state) = watch::channel(true);
        let (target, targets) = watch::channel(target);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(stream, targets.clone(), state.clone()));
            }
        });
        Self { address, is_open, target }
    }

    pub fn leads_to(&self, target: Target) {
        self.target.send_replace(Some(target));
    }

    pub fn shut(&self) {
        self.is_open.send_replace(false);
    }

    pub fn open(&self) {
        self.is_open.send_replace(true);
    }
}

async fn pass(
    client: TcpStream,
    mut targets: watch::Receiver<Option<Target>>,
    mut state: watch::Receiver<bool>,
) {
    let Ok(Some(target)) = targets.wait_for(Option::is_some).await.map(|target| target.clone())
    else {
        return;
    };
    // While the gate is shut, new connections wait.
    let _ = state.wait_for(|is_open| *is_open).await;
    // A target that cannot be reached looks like one that closes at once.
    match target {
        Target::Tcp(address) => {
            if let Ok(server) = TcpStream::connect(address).await {
                join(client, server, state).await;
            }
        }
        Target::Unix(path) => {
            if let Ok(server) = UnixStream::connect(path).await {
                join(client, server, state).await;
            }
        }
    }
}

async fn join(
    mut client: TcpStream,
    mut server: impl AsyncRead + AsyncWrite + Unpin,
    mut state: watch::Receiver<bool>,
) {
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        _ = state.wait_for(|is_open| !is_open) => {}
    }
    // Neither side notices that the gate is shut, as with a broken network.
    let _ = state.wait_for(|is_open| *is_open).await;
}
