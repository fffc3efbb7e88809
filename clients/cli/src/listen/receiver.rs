//! The HTTP server that receives webhooks on any path, checks signature and repetition, and passes
//! them on.
//!
//! - RECEIVER-1: a webhook whose signature does not fit is answered with 400 and not remembered.
//! - RECEIVER-2: memory is bounded: bodies by `BODY_BYTES_MAX`, webhooks not yet passed on by
//!   `WAITING_MAX`, ids by `IDS_MAX` and `ID_BYTES_MAX`.
//! - RECEIVER-3: a webhook that nobody will print is answered with 503.
//!
//! Without a key the receiver checks no signature, and says so with each webhook.

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use triggers_protocol::webhook::{
    ID_HEADER, SIGNATURE_HEADER, SignedHeaders, TIMESTAMP_HEADER, VerifyingKey, verify,
};
use triggers_protocol::{Environment, Timestamp};

/// Largest body in bytes.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most webhooks that wait to be passed on.
const WAITING_MAX: usize = 64;
/// Most ids that are remembered.
const IDS_MAX: usize = 10_000;
/// Longest id in bytes.
const ID_BYTES_MAX: usize = 256;

/// One webhook and the result of its checks.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) at: Timestamp,
    pub(super) id: Option<String>,
    pub(super) timestamp: Option<String>,
    pub(super) verdict: Verdict,
    /// Whether a webhook with this id came before.
    pub(super) repeat: bool,
    /// The body, byte for byte.
    pub(super) body: Bytes,
}

/// Result of checking a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    /// The signature does not fit, for this reason.
    Bad(String),
    /// There is no key to check it with.
    Unchecked,
}

/// A running server and the webhooks it has received. Dropping it stops the server.
#[derive(Debug)]
pub(super) struct Receiver {
    server: JoinHandle<()>,
    received: mpsc::Receiver<Received>,
}

/// What all requests share.
#[derive(Debug)]
struct Judge {
    key: Option<VerifyingKey>,
    answer: StatusCode,
    environment: Environment,
    seen: Mutex<Seen>,
    taken: mpsc::Sender<Received>,
}

/// The ids seen last.
#[derive(Debug, Default)]
struct Seen {
    ids: HashSet<Arc<str>>,
    order: VecDeque<Arc<str>>,
}

impl Receiver {
    /// Starts the server. It answers webhooks that pass the check, or need none, with `answer`.
    pub(super) fn start(
        listener: TcpListener,
        key: Option<VerifyingKey>,
        answer: StatusCode,
    ) -> Self {
        let (taken, received) = mpsc::channel(WAITING_MAX);
        let environment = Environment::system();
        let judge = Judge { key, answer, environment, seen: Mutex::default(), taken };
        let hooks = hooks(judge);
        let server = tokio::spawn(async move {
            // It runs until it is aborted, and retries errors of accepting.
            let _ = axum::serve(listener, hooks).await;
        });
        Self { server, received }
    }

    /// Waits for the next webhook. `None` once the server is stopped and all webhooks were
    /// returned.
    pub(super) async fn next(&mut self) -> Option<Received> {
        self.received.recv().await
    }

    /// Receives no further webhooks.
    pub(super) fn stop(&mut self) {
        self.server.abort();
        self.received.close();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn hooks(judge: Judge) -> MethodRouter {
    post(take).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(Arc::new(judge))
}

async fn take(State(judge): State<Arc<Judge>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let webhook = judge.judged(&headers, body);
    let answer = match webhook.verdict {
        Verdict::Bad(_) => StatusCode::BAD_REQUEST,
        Verdict::Good | Verdict::Unchecked => judge.answer,
    };
    match judge.taken.send(webhook).await {
        Ok(()) => answer,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl Judge {
    fn judged(&self, headers: &HeaderMap, body: Bytes) -> Received {
        let at = self.environment.now();
        let id = text(headers, ID_HEADER).map(str::to_owned);
        let verdict = match &self.key {
            None => Verdict::Unchecked,
            Some(key) => {
                checked(key, headers, &body, at).map_or_else(Verdict::Bad, |()| Verdict::Good)
            }
        };
        let remember = !matches!(verdict, Verdict::Bad(_));
        let repeat = id.as_deref().is_some_and(|id| self.is_repeat(id, remember));
        let timestamp = text(headers, TIMESTAMP_HEADER).map(str::to_owned);
        Received { at, id, timestamp, verdict, repeat, body }
    }

    fn is_repeat(&self, id: &str, remember: bool) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let repeat = seen.ids.contains(id);
        if remember && !repeat {
            seen.remember(id);
        }
        repeat
    }
}

impl Seen {
    fn remember(&mut self, id: &str) {
        if id.len() > ID_BYTES_MAX {
            return;
        }
        let id: Arc<str> = id.into();
        self.ids.insert(id.clone());
        self.order.push_back(id);
        if self.order.len() > IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// Checks the signature.
fn checked(
    key: &VerifyingKey,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), String> {
    let needed = |name: &'static str| {
        text(headers, name).ok_or_else(|| format!("the header {name} is missing"))
    };
    let headers = SignedHeaders {
        id: needed(ID_HEADER)?,
        timestamp: needed(TIMESTAMP_HEADER)?,
        signatures: needed(SIGNATURE_HEADER)?,
    };
    verify(key, headers, body, now).map_err(|error| error.to_string())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests;
