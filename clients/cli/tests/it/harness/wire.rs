//! A bare TCP connection to the node, for bytes that no well-behaved client sends.
//!
//! Answers are read back as ordinary `Answer`s: a head, then as many bytes as `Content-Length` says, or up to the end
//! of the stream when there is none. A reset after a complete answer is no fault: a server that refuses a body has
//! every right to close on the rest of it.
//!
//! 1. Every read has a deadline; a connection that hangs fails the test.
//!
//! Not here: chunked answers. The node's errors are short and carry their length.

use super::{Answer, STATE_DEADLINE_MS};
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection and what was read from it but not yet used.
pub struct Wire {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl Wire {
    /// Connects to the address of an `http://` URL.
    pub async fn connect(url: &str) -> Self {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let stream = TcpStream::connect(address).await.expect("the node listens");
        stream.set_nodelay(true).expect("a connected socket has options");
        Self { stream, pending: Vec::new() }
    }

    /// Writes all of it; false when the peer has closed.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Writes while reading, as a client does whose large body may be refused before its end; the answer.
    pub async fn write_and_answer(self, bytes: Vec<u8>) -> Option<Answer> {
        let (read, mut write) = self.stream.into_split();
        let writing = tokio::spawn(async move {
            // The peer may close on the rest of the body, which is what is tested.
            let _ = write.write_all(&bytes).await;
            write
        });
        let mut reading = Reading { stream: read, pending: self.pending };
        let answer = reading.answer().await;
        writing.abort();
        answer
    }

    /// The next answer; `None` when the connection ends before one is complete.
    pub async fn answer(&mut self) -> Option<Answer> {
        let mut reading =
            Reading { stream: &mut self.stream, pending: std::mem::take(&mut self.pending) };
        let answer = reading.answer().await;
        self.pending = reading.pending;
        answer
    }

    /// Ends this side of the connection; the answer can still be read.
    pub async fn finish(&mut self) {
        // The peer may have closed already.
        let _ = self.stream.shutdown().await;
    }

    /// Whether something came that was not read yet, or the peer has closed.
    pub async fn has_answer(&self) -> bool {
        let readable = tokio::time::timeout(Duration::from_millis(1), self.stream.readable()).await;
        readable.is_ok()
    }

    /// Waits until the peer has closed, dropping whatever else it sends.
    pub async fn closed(&mut self) {
        let mut reading = Reading { stream: &mut self.stream, pending: Vec::new() };
        while reading.more().await {}
    }
}

struct Reading<Stream> {
    stream: Stream,
    pending: Vec<u8>,
}

impl<Stream: tokio::io::AsyncRead + Unpin> Reading<Stream> {
    async fn answer(&mut self) -> Option<Answer> {
        let head_bytes = loop {
            if let Some(at) = self.pending.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                return None;
            }
        };
        let head: Vec<u8> = self.pending.drain(..head_bytes).collect();
        let (status, headers) = parse_head(&String::from_utf8_lossy(&head));
        let length_bytes =
            headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
        let is_bodiless = status < 200 || status == 204;
        let length_bytes = if is_bodiless { Some(0) } else { length_bytes };
        while length_bytes.is_none_or(|length_bytes: usize| self.pending.len() < length_bytes) {
            if !self.more().await {
                break;
            }
        }
        let end = length_bytes.unwrap_or(self.pending.len());
        (self.pending.len() >= end).then(|| {
            let body: Bytes = self.pending.drain(..end).collect();
            Answer { status, headers, body }
        })
    }

    /// Reads some bytes; false at the end of the stream or on a reset.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1_024];
        let reading = tokio::time::timeout(
            Duration::from_millis(STATE_DEADLINE_MS),
            self.stream.read(&mut buffer),
        );
        match reading.await.expect("the node answers or closes before the deadline") {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.pending.extend_from_slice(&buffer[..count]);
                true
            }
        }
    }
}

fn parse_head(head: &str) -> (u16, HeaderMap) {
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
    let fields = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::try_from(name.trim()).ok()?;
        Some((name, HeaderValue::try_from(value.trim()).ok()?))
    });
    (status, fields.collect())
}
