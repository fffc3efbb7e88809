//! A connection that is opened again after it broke, for one request at a time.
//!
//! A connection that breaks during a request costs one failure and is replaced after a growing
//! pause. A connection that ended while idle is replaced without a failure, because nothing was
//! lost.

use super::connection::{Connection, Dialer, Fault};
use super::tally::Failure;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use std::time::Duration;

/// First pause before connecting again, in milliseconds. It doubles each time.
const REDIAL_MS_MIN: u64 = 10;
/// Longest pause before connecting again, in milliseconds.
const REDIAL_MS_MAX: u64 = 1_000;

/// A connection to the node, or the place for the next one.
pub struct Link {
    dialer: Dialer,
    connection: Option<Connection>,
    redial_ms: u64,
}

impl Link {
    /// Makes a link, with its connection if it could be opened.
    pub fn new(dialer: Dialer, connection: Option<Connection>) -> Self {
        Self { dialer, connection, redial_ms: REDIAL_MS_MIN }
    }

    /// Sends the request that `request` makes and reads the complete answer: the status, and the
    /// body into `body` if there is one. A second call of `request` must return the same.
    ///
    /// # Errors
    /// `Failure::Transport` if there was no answer.
    pub async fn exchange(
        &mut self,
        request: impl Fn() -> Request<Full<Bytes>>,
        mut body: Option<&mut Vec<u8>>,
    ) -> Result<u16, Failure> {
        // An idle connection may have ended unnoticed, but a fresh one has not. So the second
        // attempt is the last.
        for _ in 0..2 {
            if let Some(body) = &mut body {
                body.clear();
            }
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => none.insert(redial(&self.dialer, &mut self.redial_ms).await?),
            };
            match connection.exchange(request(), body.as_deref_mut()).await {
                Ok(status) => return Ok(status),
                Err(Fault::Stale) => self.connection = None,
                Err(Fault::Broken) => {
                    self.connection = None;
                    return Err(Failure::Transport);
                }
            }
        }
        Err(Failure::Transport)
    }
}

/// Connects once. After a failure it waits, so that it does not flood a node that is down.
async fn redial(dialer: &Dialer, pause_ms: &mut u64) -> Result<Connection, Failure> {
    match dialer.dial().await {
        Ok(connection) => {
            *pause_ms = REDIAL_MS_MIN;
            Ok(connection)
        }
        Err(_) => {
            tokio::time::sleep(Duration::from_millis(*pause_ms)).await;
            *pause_ms = (*pause_ms * 2).min(REDIAL_MS_MAX);
            Err(Failure::Transport)
        }
    }
}
