//! The client against a small server of its own: decoding of answers and errors, and the words for a closed port.
//!
//! The server answers fixed texts on a port the system chose. What is tested is what a person sees: that an answer is
//! kept byte for byte, that an error keeps its code, details and request id, and that a message names the address.
//!
//! Nothing here needs a node; that client and node agree is tested with the real binary.

use std::net::SocketAddr;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::resources::Event;
use super::*;

const FAILURE: &str = r#"{"error":{"code":"VALIDATION_ERROR","message":"the request is not valid",
    "details":[{"field":"payload","message":"must be a JSON object"}],"timestamp":"2026-01-01T00:00:00.000Z",
    "request_id":"request-7"}}"#;

const EVENT: &str = r#"{"event_id":"019a0000-0000-7000-8000-000000000001","event_type":"order.created",
    "timestamp":"2026-01-01T00:00:00.000Z","payload":{"b":1.0,"a":2},"status":"received",
    "created_at":"2026-01-01T00:00:00.000Z","attempts":0,"later_member":true}"#;

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn client(address: SocketAddr) -> Client {
    Client::new(&ClientOptions::new(format!("http://{address}"), Some("trg_test_abc".to_owned())))
        .unwrap()
}

#[tokio::test]
async fn an_answer_is_decoded_and_kept_byte_for_byte() {
    let answer = |headers: axum::http::HeaderMap| async move {
        assert_eq!(headers[header::AUTHORIZATION], "Bearer trg_test_abc");
        ([("x-request-id", "request-1"), ("idempotent-replayed", "true")], EVENT)
    };
    let address = serve(Router::new().route("/v1/events/{id}", get(answer))).await;
    let reply = client(address).execute(Call::get(&["events", "1"])).await.unwrap();
    assert_eq!(reply.text().unwrap(), EVENT);
    assert_eq!(reply.request_id.as_deref(), Some("request-1"));
    assert!(reply.replayed);
    let event: Event = reply.decode().unwrap();
    assert_eq!(event.payload.unwrap().get(), r#"{"b":1.0,"a":2}"#);
}

#[tokio::test]
async fn an_error_body_keeps_status_code_details_and_request_id() {
    let refuse =
        || async { (StatusCode::BAD_REQUEST, [("retry-after", "3")], FAILURE).into_response() };
    let address = serve(Router::new().route("/v1/inbox", get(refuse))).await;
    let error = client(address).execute(Call::get(&["inbox"])).await.unwrap_err();
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
async fn a_stranger_s_answer_is_said_to_be_one() {
    let strange = || async { (StatusCode::NOT_FOUND, "<html>nothing here</html>") };
    let address = serve(Router::new().route("/v1/inbox", get(strange))).await;
    let error = client(address).execute(Call::get(&["inbox"])).await.unwrap_err();
    assert!(matches!(error, ClientError::Unexpected { status: 404, .. }), "{error:?}");
    assert!(error.to_string().contains("right address"));
}

#[tokio::test]
async fn a_closed_port_is_named_in_plain_words() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client(address).execute(Call::get(&["inbox"])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot reach http://{address}: connection refused; is the node running?")
    );
    assert!(error.is_temporary());
}

#[tokio::test]
async fn a_silent_server_is_left_after_the_deadline() {
    let silent = || async { std::future::pending::<()>().await };
    let address = serve(Router::new().route("/v1/inbox", get(silent))).await;
    let mut options = ClientOptions::new(format!("http://{address}"), None);
    options.request_timeout_ms = 50;
    let error = Client::new(&options).unwrap().execute(Call::get(&["inbox"])).await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { timeout_ms: 50, .. }), "{error:?}");
}

#[test]
fn a_key_with_a_line_break_never_reaches_a_header() {
    let error =
        Client::new(&ClientOptions::new("http://h", Some("trg_test_a\nb".to_owned()))).unwrap_err();
    assert!(matches!(error, ClientError::Key));
}
