//! The client against a small server that answers fixed texts. Tests of the binary run it against
//! real nodes.

use super::*;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::net::SocketAddr;
use std::time::Duration;

const FAILURE: &str = r#"{"error":{"code":"VALIDATION_ERROR","message":"the request is not valid",
    "details":[{"field":"payload","message":"must be a JSON object"}],
    "timestamp":"2026-01-01T00:00:00.000Z",
    "request_id":"request-7"}}"#;

const EVENT: &str = r#"{"event_id":"019a0000-0000-7000-8000-000000000001",
    "event_type":"order.created",
    "timestamp":"2026-01-01T00:00:00.000Z","payload":{"b":1.0,"a":2},"status":"received",
    "created_at":"2026-01-01T00:00:00.000Z","attempts":0,"last_attempt_at":null,
    "next_retry_at":null,
    "delivered_at":null,"failed_at":null,"last_error":null,"metadata":{"source_ip":"::1",
    "user_agent":null,
    "api_version":"v1","correlation_id":"r","idempotency_key":null},"later_member":true}"#;

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn client(address: SocketAddr) -> Client {
    Client::builder(format!("http://{address}")).api_key("trg_test_abc").build().unwrap()
}

#[tokio::test]
async fn an_answer_is_decoded_and_kept_byte_for_byte() {
    let answer = |headers: axum::http::HeaderMap| async move {
        assert_eq!(headers[header::AUTHORIZATION], "Bearer trg_test_abc");
        ([("x-request-id", "request-1"), ("idempotent-replayed", "true")], EVENT)
    };
    let address = serve(Router::new().route("/v1/events/{id}", get(answer))).await;
    let reply = client(address).get_event(1).await.unwrap();
    assert_eq!(reply.text().unwrap(), EVENT);
    assert_eq!(reply.request_id.as_deref(), Some("request-1"));
    assert!(reply.is_replayed);
    let event = reply.decode().unwrap();
    assert_eq!(event.payload.unwrap().get(), r#"{"b":1.0,"a":2}"#);
}

#[tokio::test]
async fn an_error_body_keeps_status_code_details_and_request_id() {
    let fail =
        || async { (StatusCode::BAD_REQUEST, [("retry-after", "3")], FAILURE).into_response() };
    let address = serve(Router::new().route("/v1/inbox", get(fail))).await;
    let error = client(address).list_inbox(&InboxQuery::default()).await.unwrap_err();
    let ClientError::Api(failure) = &error else { panic!("{error:?}") };
    assert_eq!((failure.status, failure.code.as_str()), (400, "VALIDATION_ERROR"));
    assert_eq!(failure.details[0].field, "payload");
    assert_eq!(failure.request_id.as_deref(), Some("request-7"));
    assert_eq!(
        error.to_string(),
        "400 VALIDATION_ERROR: the request is not valid\n  payload: must be a JSON object\n  \
         retry after: 3 s\n  request id: request-7"
    );
}

#[tokio::test]
async fn an_answer_of_another_program_is_recognised() {
    let strange = || async { (StatusCode::NOT_FOUND, "<html>nothing here</html>") };
    let address = serve(Router::new().route("/v1/inbox", get(strange))).await;
    let error = client(address).list_inbox(&InboxQuery::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unexpected { status: 404, .. }), "{error:?}");
    assert!(error.to_string().contains("right address"));
}

#[tokio::test]
async fn an_error_names_the_closed_port() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client(address).list_inbox(&InboxQuery::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot reach http://{address}: connection refused; is the node running?")
    );
    assert!(error.is_temporary());
}

#[tokio::test]
async fn a_call_to_a_silent_server_ends_after_the_timeout() {
    let silent = || async { std::future::pending::<()>().await };
    let address = serve(Router::new().route("/v1/inbox", get(silent))).await;
    let client = Client::builder(format!("http://{address}"));
    let client = client.request_timeout(Duration::from_millis(50)).build().unwrap();
    let error = client.list_inbox(&InboxQuery::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { timeout_ms: 50, .. }), "{error:?}");
}

#[test]
fn a_key_with_a_line_break_is_rejected() {
    let error = Client::builder("http://h").api_key("trg_test_a\nb").build().unwrap_err();
    assert!(matches!(error, ClientError::Key));
}

#[tokio::test]
async fn an_id_that_a_url_parser_would_resolve_is_rejected() {
    let client = Client::builder("http://127.0.0.1:1/prefix").build().unwrap();
    for id in [".", ".."] {
        let error = client.get_event(id).await.unwrap_err();
        assert!(matches!(error, ClientError::Path { .. }), "{id}: {error:?}");
    }
    let error = client.get_event("../keys").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stream_gives_events_until_it_ends() {
    let frames = format!(
        "retry: 1000\n\nevent: event\nid: 1\ndata: {}\n\n: keep-alive\n\n",
        EVENT.replace('\n', " ")
    );
    let answer = move || async move { ([(header::CONTENT_TYPE, "text/event-stream")], frames) };
    let address = serve(Router::new().route("/v1/inbox/stream", get(answer))).await;
    let mut stream = client(address).stream_inbox(&[], None).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().event_type, "order.created");
    assert!(stream.next().await.unwrap().is_none());
}
