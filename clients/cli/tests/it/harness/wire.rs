//! A plain TCP connection to the node, for bytes that an HTTP client cannot send.
//!
//! Answers are read as ordinary `Answer`s: a header, then as many bytes as `Content-Length` says,
//! or up to the end of the stream. A connection reset after a complete answer is accepted: a server
//! that rejects a body may close the connection before reading it.
//!
//! 1. Every read has a deadline; a connection that hangs fails the test.
//! 2. Chunked answers are not supported; the node's errors have a length.

use super::{Answer, STATE_DEADLINE_MS};
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection, and the bytes read from it that are not used yet.
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

    /// Writes all bytes; returns false if the peer has closed the connection.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Reads the answer while writing, since the node may reject a large body before its end.
    pub async fn write_and_answer(self, bytes: Vec<u8>) -> Option<Answer> {
        let (read, mut write) = self.stream.into_split();
        let writing = tokio::spawn(async move {
            // The peer may close the connection before it has read the body.
            let _ = write.write_all(&bytes).await;
            write
        });
        let mut reading = Reading { stream: read, pending: self.pending };
        let answer = reading.answer().await;
        writing.abort();
        answer
    }

    /// Reads the next answer; `None` if the connection ends before it is complete.
    pub async fn answer(&mut self) -> Option<Answer> {
        let mut reading =
            Reading { stream: &mut self.stream, pending: std::mem::take(&mut self.pending) };
        let answer = reading.answer().await;
        self.pending = reading.pending;
        answer
    }

    /// Shuts down the write side of the connection; answers can still be read.
    pub async fn finish(&mut self) {
        // The peer may have closed the connection.
        let _ = self.stream.shutdown().await;
    }

    /// Tests whether unread bytes have arrived or the peer has closed the connection.
    pub async fn has_answer(&self) -> bool {
        let readable = tokio::time::timeout(Duration::from_millis(1), self.stream.readable()).await;
        readable.is_ok()
    }

    /// Waits until the peer closes the connection, discarding everything it sends.
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

    /// Reads some bytes; returns false at the end of the stream or on a reset.
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
