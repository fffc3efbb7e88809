//! An HTTP server that receives webhooks; the test chooses its answers.
//!
//! 1. A webhook is recorded before it is answered, so every webhook answered with 2xx is in the
//!    list.
//! 2. The server listens on a free port until it is dropped.
//!
//! Signatures are checked by the tests.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// The reaction of a receiver to a webhook.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// Answers with this status.
    Answer(u16),
    /// Answers with this status and header.
    With(u16, &'static str, String),
    /// Never answers a webhook.
    Hang,
    /// Answers 200 with a body of this many bytes.
    Large(usize),
    /// Answers 200 with a body that never ends, sent slowly.
    Endless,
}

/// A webhook that was received.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Arrived {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body of a webhook is JSON")
    }
}

#[derive(Default)]
struct ReceiverState {
    reaction: Mutex<Option<Reaction>>,
    arrived: Mutex<Vec<Arrived>>,
}

/// A running receiver, which stops when dropped.
pub struct Receiver {
    pub address: SocketAddr,
    state: Arc<ReceiverState>,
    server: JoinHandle<()>,
}

impl Receiver {
    pub async fn start(reaction: Reaction) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = Arc::new(ReceiverState {
            reaction: Mutex::new(Some(reaction)),
            arrived: Mutex::default(),
        });
        let router = Router::new().fallback(receive).with_state(state.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serving ends with the test");
        });
        Self { address, state, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn set(&self, reaction: Reaction) {
        *self.state.reaction.lock().expect("no test panics while holding the lock") =
            Some(reaction);
    }

    /// The received webhooks, in order.
    pub fn arrived(&self) -> Vec<Arrived> {
        self.state.arrived.lock().expect("no test panics while holding the lock").clone()
    }

    pub fn count(&self) -> usize {
        self.state.arrived.lock().expect("no test panics while holding the lock").len()
    }

    /// The number of received webhooks per webhook id.
    pub fn ids(&self) -> BTreeMap<String, usize> {
        let mut ids = BTreeMap::new();
        for arrived in self.arrived() {
            *ids.entry(arrived.header("webhook-id").to_owned()).or_default() += 1;
        }
        ids
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(State(state): State<Arc<ReceiverState>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    // If the sender is killed before the end of the body, no webhook was received.
    let Ok(body) = axum::body::to_bytes(body, 4 << 20).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let arrived = Arrived { headers: head.headers, body };
    state.arrived.lock().expect("no test panics while holding the lock").push(arrived);
    let reaction = state.reaction.lock().expect("no test panics while holding the lock").clone();
    let status = |code: u16| StatusCode::from_u16(code).expect("a test answers with a status");
    match reaction.unwrap_or(Reaction::Answer(200)) {
        Reaction::Answer(code) => status(code).into_response(),
        Reaction::With(code, name, value) => (status(code), [(name, value)]).into_response(),
        Reaction::Hang => std::future::pending().await,
        Reaction::Large(bytes) => vec![b'x'; bytes].into_response(),
        Reaction::Endless => {
            let pieces = stream::unfold((), |()| async {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
            });
            Body::from_stream(pieces).into_response()
        }
    }
}
