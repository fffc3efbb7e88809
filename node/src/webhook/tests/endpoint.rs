//! A webhook endpoint for tests. It writes raw HTTP, so that it can also break the protocol. It
//! records the requests and counts the connections.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _,
};
use tokio::io::{BufReader, copy, sink};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How an endpoint treats each connection or request.
#[derive(Debug, Clone)]
pub(super) enum Behaviour {
    /// Write this text and keep the connection.
    Answer(String),
    /// Write this text and close the connection.
    AnswerAndClose(String),
    /// Write this text without waiting for a request.
    AnswerAtOnce(String),
    /// Neither read nor write, and keep the connection.
    Silence,
    /// Send an endless chunked body: one chunk of `bytes` bytes after each `pause`.
    Chunks { bytes: usize, pause: Duration },
}

/// A received request.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// A listening endpoint; it ends with the runtime of its test.
pub(super) struct Endpoint {
    address: SocketAddr,
    seen: Arc<Observed>,
}

#[derive(Default)]
struct Observed {
    connections: AtomicUsize,
    ended: AtomicUsize,
    requests: Mutex<Vec<Received>>,
}

impl Endpoint {
    pub(super) async fn start(behaviour: Behaviour) -> Self {
        Self::listen(behaviour, None).await
    }

    pub(super) async fn start_with_tls(behaviour: Behaviour, tls: TlsAcceptor) -> Self {
        Self::listen(behaviour, Some(tls)).await
    }

    async fn listen(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Observed::default());
        tokio::spawn(accept(listener, tls, behaviour, seen.clone()));
        Self { address, seen }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// The number of connections that have ended.
    pub(super) fn ended(&self) -> usize {
        self.seen.ended.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> Vec<Received> {
        self.seen.requests.lock().unwrap().clone()
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    behaviour: Behaviour,
    seen: Arc<Observed>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        seen.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, behaviour, seen) = (tls.clone(), behaviour.clone(), seen.clone());
        // Errors here are intended by the test or visible to it at the other end.
        tokio::spawn(async move {
            let result = match tls {
                None => converse(stream, &behaviour, &seen).await,
                Some(tls) => converse(tls.accept(stream).await?, &behaviour, &seen).await,
            };
            seen.ended.fetch_add(1, Ordering::SeqCst);
            result
        });
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    behaviour: &Behaviour,
    seen: &Observed,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    match behaviour {
        Behaviour::Silence => std::future::pending().await,
        Behaviour::AnswerAtOnce(text) => {
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await?;
            copy(&mut stream, &mut sink()).await?;
        }
        _ => {}
    }
    while let Some(received) = receive(&mut stream).await? {
        seen.requests.lock().unwrap().push(received);
        match behaviour {
            Behaviour::Answer(text) => stream.write_all(text.as_bytes()).await?,
            Behaviour::AnswerAndClose(text) => {
                stream.write_all(text.as_bytes()).await?;
                return stream.shutdown().await;
            }
            Behaviour::AnswerAtOnce(_) | Behaviour::Silence => {}
            Behaviour::Chunks { bytes, pause } => {
                return write_chunks(&mut stream, *bytes, *pause).await;
            }
        }
        stream.flush().await?;
    }
    Ok(())
}

async fn write_chunks(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: usize,
    pause: Duration,
) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    let chunk = format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes));
    loop {
        stream.write_all(chunk.as_bytes()).await?;
        stream.flush().await?;
        tokio::time::sleep(pause).await;
    }
}

/// The next request; `None` if the client closed the connection.
async fn receive(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Received>> {
    let mut received = Received { head: String::new(), body: Vec::new() };
    while !received.head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut received.head).await? == 0 {
            return Ok(None);
        }
    }
    let length =
        received.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    received.body.resize(length, 0);
    stream.read_exact(&mut received.body).await?;
    Ok(Some(received))
}
