//! Connections to endpoints: one exchange at a time, and those that are kept for the next.
//!
//! - `POOL-1`: a kept connection is used again only within the idle time, and only if nothing has
//!   come over it since its last answer.
//! - `POOL-2`: a connection that is not used again is closed at most a quarter of the idle time
//!   late.
//! - `POOL-3`: no more connections are kept than attempts may be in progress, and of one endpoint
//!   at most a quarter of that.

use super::answer::{AnswerReader, NoAnswer};
use bytes::Buf;
use std::collections::BTreeMap;
use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::time::{Instant, sleep, timeout_at};
use triggers_protocol::lock::lock;

/// One endpoint may have this part of the idle connections that are kept.
const ENDPOINT_SHARE: usize = 4;
/// Time for the rest of an answer after its status. It decides only whether the connection can be
/// used again, and a new one costs less than a longer wait.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// The bytes of a connection, with TLS or without.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> ByteStream for S {}

/// One open connection to an endpoint; dropping it closes it.
pub(super) struct EndpointConnection {
    reader: AnswerReader<ReadHalf<Pin<Box<dyn ByteStream>>>>,
    writer: WriteHalf<Pin<Box<dyn ByteStream>>>,
    is_reusable: bool,
}

/// Reason why an exchange ended without a status.
pub(super) enum ExchangeFault {
    NoAnswer(NoAnswer),
    /// The status did not come in time.
    Late,
}

impl ExchangeFault {
    /// Whether the endpoint has answered nothing, and what came instead, if anything, belongs to
    /// an earlier exchange: true only of a connection that was used before.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self, Self::NoAnswer(NoAnswer::Nothing | NoAnswer::NotHttp))
    }
}

impl EndpointConnection {
    pub(super) fn new(stream: impl ByteStream + 'static) -> Self {
        let stream: Pin<Box<dyn ByteStream>> = Box::pin(stream);
        let (reader, writer) = split(stream);
        Self { reader: AnswerReader::new(reader), writer, is_reusable: false }
    }

    /// Sends a request and reads its answer by the deadline. Returns the status.
    pub(super) async fn exchange(
        &mut self,
        mut request: impl Buf,
        deadline: Instant,
        body_bytes_max: usize,
    ) -> Result<u16, ExchangeFault> {
        let Self { reader, writer, is_reusable } = self;
        let mut is_sent = false;
        let writing = async {
            // An endpoint may answer and close before it has read everything: the reader finds out.
            is_sent =
                writer.write_all_buf(&mut request).await.is_ok() && writer.flush().await.is_ok();
            pending().await
        };
        let reading = async {
            let status = timeout_at(deadline, reader.status()).await;
            let line = status.map_err(|_| ExchangeFault::Late)?.map_err(ExchangeFault::NoAnswer)?;
            let deadline = deadline.min(Instant::now() + REST_TIMEOUT);
            let rest = timeout_at(deadline, reader.finish(line, body_bytes_max)).await;
            Ok((line, rest.unwrap_or(false)))
        };
        let (line, is_complete) = tokio::select! {
            biased;
            answer = writing => answer,
            answer = reading => answer,
        }?;
        *is_reusable = is_complete && is_sent;
        Ok(line.status)
    }

    /// The value of `Retry-After` in the last answer.
    pub(super) fn retry_after(&self) -> &str {
        self.reader.retry_after()
    }
}

impl Drop for EndpointConnection {
    fn drop(&mut self) {
        // Tells a TLS endpoint that the end is intended, if there is room to say so.
        let mut context = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.writer).poll_shutdown(&mut context);
    }
}

/// The idle connections to all endpoints. Cheap to clone; clones share them.
#[derive(Clone)]
pub(super) struct Pool {
    kept: Arc<Mutex<KeptConnections>>,
    idle_timeout: Duration,
    kept_max: usize,
}

#[derive(Default)]
struct KeptConnections {
    /// By scheme and authority, the most recently used last.
    by_endpoint: BTreeMap<String, Vec<(EndpointConnection, Instant)>>,
    count: usize,
    is_swept: bool,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// An empty pool; with an idle time of zero it stays empty.
    pub(super) fn new(idle_timeout: Duration, kept_max: usize) -> Self {
        Self { kept: Arc::default(), idle_timeout, kept_max }
    }

    /// Takes the connection to an endpoint that was used last.
    pub(super) fn take(&self, endpoint: &str) -> Option<EndpointConnection> {
        let mut kept = lock(&self.kept);
        let KeptConnections { by_endpoint, count, .. } = &mut *kept;
        let connections = by_endpoint.get_mut(endpoint)?;
        while let Some((mut connection, idle_since)) = connections.pop() {
            *count -= 1;
            if idle_since.elapsed() < self.idle_timeout && connection.reader.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, or closes it.
    pub(super) fn put(&self, endpoint: &str, connection: EndpointConnection) {
        if !connection.is_reusable || self.idle_timeout.is_zero() {
            return;
        }
        let mut kept = lock(&self.kept);
        if kept.count >= self.kept_max {
            return;
        }
        let entry = (connection, Instant::now());
        match kept.by_endpoint.get_mut(endpoint) {
            Some(connections) if connections.len() >= self.kept_max.div_ceil(ENDPOINT_SHARE) => {
                return;
            }
            Some(connections) => connections.push(entry),
            None => drop(kept.by_endpoint.insert(endpoint.to_owned(), vec![entry])),
        }
        kept.count += 1;
        if !std::mem::replace(&mut kept.is_swept, true) {
            tokio::spawn(self.clone().sweep());
        }
    }

    /// Closes connections that nobody uses, until none is left.
    async fn sweep(self) {
        loop {
            sleep(self.idle_timeout / 4).await;
            let mut kept = lock(&self.kept);
            kept.by_endpoint.retain(|_, connections| {
                connections.retain_mut(|(connection, idle_since)| {
                    idle_since.elapsed() < self.idle_timeout && connection.reader.is_quiet()
                });
                !connections.is_empty()
            });
            kept.count = kept.by_endpoint.values().map(Vec::len).sum();
            if kept.count == 0 {
                kept.is_swept = false;
                return;
            }
        }
    }
}
