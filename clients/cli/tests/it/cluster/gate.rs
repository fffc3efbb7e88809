//! A TCP proxy that can be shut, as a broken network is: what is open hangs, what is new is accepted and hangs as well.

use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// Where a gate leads.
#[derive(Clone)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A gate; it is gone with the runtime of the test.
pub struct Gate {
    pub address: SocketAddr,
    is_open: watch::Sender<bool>,
    target: watch::Sender<Option<Target>>,
}

impl Gate {
    /// Where it leads may be told later; what comes until then waits.
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
    // A gate that is shut keeps what comes until it is opened.
    let _ = state.wait_for(|is_open| *is_open).await;
    // Who is not there is as good as one that closes at once.
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
    // Nothing passes any more, and neither side is told, until the network is well again.
    let _ = state.wait_for(|is_open| *is_open).await;
}
