//! A webhook endpoint that writes bytes instead of HTTP, so that it can be odd or broken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the endpoint does with one request.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Read it, write these bytes and wait for the next.
    Answer(String),
    /// Read it, write the first bytes and, after a moment, the others.
    AnswerSlowly(String, String),
    /// Read it, write these bytes and close the connection.
    AnswerAndClose(String),
    /// Read it, write these bytes and reset the connection.
    AnswerAndReset(String),
    /// Read it, write these bytes and then the last one for ever.
    AnswerWithoutEnd(String),
    /// Reset the connection without reading it.
    Reset,
}

/// A running endpoint, which stops when dropped.
pub struct RawReceiver {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl RawReceiver {
    /// Starts an endpoint. `script` gets the number of the request on its connection, from 0.
    pub async fn start(script: impl Fn(usize) -> Deed + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (script, requests) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
        let counted = requests.clone();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a listener accepts");
                let (script, counted) = (script.clone(), counted.clone());
                // Either side may break the connection: that is what is tested.
                tokio::spawn(async move { converse(stream, &*script, &counted).await });
            }
        });
        Self { address, requests, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The number of requests that were read.
    pub fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for RawReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn converse(
    stream: TcpStream,
    script: &(impl Fn(usize) -> Deed + Sync),
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    let mut stream = BufReader::with_capacity(1, stream);
    for number in 0.. {
        // Bytes that are unread when the connection is dropped reset it.
        if stream.fill_buf().await?.is_empty() {
            return Ok(());
        }
        let deed = script(number);
        if matches!(deed, Deed::Reset) {
            return Ok(());
        }
        receive(&mut stream).await?;
        requests.fetch_add(1, Ordering::SeqCst);
        match deed {
            Deed::Answer(text) => stream.write_all(text.as_bytes()).await?,
            Deed::AnswerSlowly(first, then) => {
                stream.write_all(first.as_bytes()).await?;
                tokio::time::sleep(Duration::from_millis(3)).await;
                stream.write_all(then.as_bytes()).await?;
            }
            Deed::AnswerAndClose(text) => {
                stream.write_all(text.as_bytes()).await?;
                return stream.shutdown().await;
            }
            Deed::AnswerAndReset(text) => {
                stream.write_all(text.as_bytes()).await?;
                // The client reads what was sent before it notices the reset.
                tokio::time::sleep(Duration::from_millis(20)).await;
                return stream.get_ref().set_zero_linger();
            }
            Deed::AnswerWithoutEnd(text) => {
                stream.write_all(text.as_bytes()).await?;
                let piece = text[text.len() - 1..].repeat(1_024);
                loop {
                    stream.write_all(piece.as_bytes()).await?;
                }
            }
            Deed::Reset => return Ok(()),
        }
    }
    Ok(())
}

/// Reads a request with a content length.
async fn receive(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().map_err(std::io::Error::other)?;
        }
        if line.is_empty() {
            return stream.read_exact(&mut vec![0; length]).await.map(drop);
        }
    }
}
