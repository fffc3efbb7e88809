//! The mode baseline: a bare HTTP server in this process, on the runtime of the load, that stores
//! nothing.
//!
//! It accepts the requests that a node accepts and answers with bodies of the same shape and size.
//! Its rate is what HTTP, the kernel and the load generator allow on this machine, so a node's rate
//! is compared with it. It listens on a free loopback port and ends with the load. It checks no key
//! and no body.

use super::BenchError;
use super::bodies::{EVENT_HEAD, payload};
use super::plan::Plan;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The answer that the server imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaselineShape {
    /// The answer to one event.
    Single,
    /// The answer to a batch.
    Batch,
    /// A page of the inbox.
    Read,
}

const EVENT_ID: &str = "019a0000-0000-7000-8000-000000000001";
const BEFORE_PAYLOAD: &[u8] = concat!(
    r#"{"event_id":"019a0000-0000-7000-8000-000000000001","event_type":"bench.event","#,
    r#""timestamp":"2026-01-01T00:00:00.000Z","payload":"#
)
.as_bytes();
const AFTER_PAYLOAD: &[u8] = concat!(
    r#","status":"received","created_at":"2026-01-01T00:00:00.000Z","attempts":0,"#,
    r#""last_attempt_at":null,"next_retry_at":null,"delivered_at":null,"failed_at":null,"#,
    r#""last_error":null,"metadata":{"source_ip":"127.0.0.1","#,
    r#""user_agent":"triggers-cli/0.1.0","api_version":"v1","#,
    r#""correlation_id":"019a0000-0000-7000-8000-000000000002","idempotency_key":null}}"#
)
.as_bytes();

/// The running server.
#[derive(Debug)]
pub struct Baseline {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Baseline {
    /// Starts the server for a shape.
    ///
    /// # Errors
    /// `BenchError::Baseline` if it cannot listen on loopback.
    pub async fn start(shape: BaselineShape, plan: &Plan) -> Result<Self, BenchError> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(BenchError::Baseline)?;
        let address = listener.local_addr().map_err(BenchError::Baseline)?;
        let listener = listener.tap_io(|stream| {
            // With the delay the socket is only slower.
            let _ = stream.set_nodelay(true);
        });
        let router = router(shape, plan);
        let server = tokio::spawn(async move {
            // It runs until it is aborted with the load, and retries errors of accepting.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, server })
    }

    /// The base address of the server.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn router(shape: BaselineShape, plan: &Plan) -> Router {
    match shape {
        BaselineShape::Single => Router::new().route("/v1/events", post(single)),
        BaselineShape::Batch => {
            let answer = Bytes::from(batch_answer(plan.batch_size));
            let handler = move |body: Bytes| async move {
                drop(body);
                json(StatusCode::CREATED, answer)
            };
            Router::new()
                .route("/v1/events/batch", post(handler))
                .layer(axum::extract::DefaultBodyLimit::max(8 * 1024 * 1024 + 64 * 1024))
        }
        BaselineShape::Read => {
            let answer = Bytes::from(page_answer(plan.payload_bytes));
            Router::new()
                .route("/v1/inbox", get(move || async move { json(StatusCode::OK, answer) }))
        }
    }
}

async fn single(body: Bytes) -> Response {
    json(StatusCode::CREATED, Bytes::from(event_answer(&body)))
}

/// A node's answer to one event: the event, with the payload that was sent.
fn event_answer(body: &[u8]) -> Vec<u8> {
    let payload = body.get(EVENT_HEAD.len()..body.len().saturating_sub(1)).unwrap_or(b"{}");
    [BEFORE_PAYLOAD, payload, AFTER_PAYLOAD].concat()
}

fn batch_answer(events: u32) -> String {
    let results: Vec<String> = (0..events)
        .map(|index| {
            format!(
                concat!(
                    r#"{{"index":{index},"event_id":"{event_id}","status":"received","#,
                    r#""timestamp":"2026-01-01T00:00:00.000Z"}}"#
                ),
                index = index,
                event_id = EVENT_ID
            )
        })
        .collect();
    format!(r#"{{"success_count":{events},"failure_count":0,"results":[{}]}}"#, results.join(","))
}

fn page_answer(payload_bytes: usize) -> Vec<u8> {
    let event = [BEFORE_PAYLOAD, &payload(payload_bytes), AFTER_PAYLOAD].concat();
    let cursor = "A".repeat(64);
    let end = format!(
        concat!(
            r#"],"cursor":"{cursor}","has_more":true,"pagination":{{"limit":50,"#,
            r#""cursor":"{cursor}","has_more":true,"total_count":1000000}}}}"#
        ),
        cursor = cursor
    );
    [br#"{"events":["#, &vec![event; 50].join(&b',')[..], end.as_bytes()].concat()
}

fn json(status: StatusCode, body: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::bodies::single_bodies;
    use super::*;
    use triggers_client::api::BatchAnswer;
    use triggers_client::{Event, InboxPage};

    #[test]
    fn answers_have_the_shape_of_a_node_s() {
        let body = &single_bodies(1_024)[0];
        let sent: Value = serde_json::from_slice(body).unwrap();
        let event: Event = serde_json::from_slice(&event_answer(body)).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(event.payload.unwrap().get()).unwrap(),
            sent["payload"]
        );
        let batch: BatchAnswer = serde_json::from_str(&batch_answer(100)).unwrap();
        assert_eq!((batch.success_count, batch.results.len()), (100, 100));
        let page: InboxPage = serde_json::from_slice(&page_answer(1_024)).unwrap();
        assert_eq!(page.events.len(), 50);
    }
}
