//! Tests of the middleware around small routes, without a store or broker.

use super::*;
use crate::http::edge::deadline;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use serde_json::Value;
use tower::ServiceExt as _;
use triggers_cluster_config::ListenOptions;

const LARGE_BYTES: usize = 100_000;

async fn panics() -> &'static str {
    panic!("a fault of a handler")
}

fn router(change: impl FnOnce(&mut ListenOptions)) -> Router {
    let mut options = NodeOptions::default();
    change(&mut options.listen);
    // Only one large response fits.
    options.broker.node_bytes_max = LARGE_BYTES;
    let responder = Responder::new(Environment::system(), &options);
    let router = Router::new()
        .route("/good", get(async || "good"))
        .route("/large", get(async || vec![b'x'; LARGE_BYTES]))
        .route(
            "/deadline",
            get(async || {
                deadline(Duration::ZERO).duration_since(Instant::now()).as_secs().to_string()
            }),
        )
        .route("/slow", get(async || std::future::pending::<()>().await))
        .route("/panics", get(panics))
        .route(
            "/number/{number}",
            get(async |axum::extract::Path(_): axum::extract::Path<u8>| "number"),
        )
        .fallback(no_such_route);
    around(router, responder)
}

async fn answer(
    router: Router,
    request: axum::http::request::Builder,
) -> (StatusCode, HeaderMap, Value) {
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
    for name in [
        "x-content-type-options",
        "x-frame-options",
        "cache-control",
        "content-security-policy",
        "x-request-id",
    ] {
        assert!(parts.headers.contains_key(name), "RESPOND-1: {name}");
    }
    if parts.status.as_u16() >= 400 {
        assert_eq!(
            json["error"]["request_id"],
            parts.headers[REQUEST_ID].to_str().unwrap(),
            "RESPOND-1"
        );
    }
    (parts.status, parts.headers, json)
}

fn request(path: &str) -> axum::http::request::Builder {
    Request::builder().uri(path)
}

#[tokio::test]
async fn errors_of_the_framework_get_the_error_body() {
    let cases =
        [("GET", "/nowhere", 404, "NOT_FOUND"), ("PUT", "/good", 405, "METHOD_NOT_ALLOWED")];
    for (method, path, status, code) in cases {
        let (found, headers, json) = answer(router(|_| ()), request(path).method(method)).await;
        assert_eq!((found.as_u16(), &json["error"]["code"]), (status, &Value::from(code)));
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers.contains_key("allow"), status == 405);
    }
    let (status, _, json) = answer(router(|_| ()), request("/number/many")).await;
    assert_eq!((status.as_u16(), &json["error"]["code"]), (400, &Value::from("VALIDATION_ERROR")));
    assert!(json["error"]["details"][0]["field"].is_string());
}

#[tokio::test]
async fn a_slow_or_panicking_handler_is_an_error_of_its_request() {
    let (status, headers, json) =
        answer(router(|listen| listen.request_timeout_ms = 100), request("/slow")).await;
    assert_eq!(
        (status.as_u16(), &json["error"]["code"]),
        (503, &Value::from("UNAVAILABLE")),
        "RESPOND-2"
    );
    assert_eq!(headers["retry-after"], "1");
    let (status, _, json) = answer(router(|_| ()), request("/panics")).await;
    assert_eq!(
        (status.as_u16(), &json["error"]["code"]),
        (500, &Value::from("INTERNAL_ERROR")),
        "RESPOND-3"
    );
    assert!(!json.to_string().contains("a fault of a handler"));
}

#[tokio::test]
async fn a_head_over_the_limits_is_rejected() {
    let mut many = request("/good");
    for number in 0..17 {
        many = many.header(format!("x-{number}"), "x");
    }
    let large = request("/good").header("x-large", "x".repeat(9_000));
    let long = request(&format!("/good?{}", "x".repeat(9_000)));
    for builder in [many, large, long] {
        let limited = router(|listen| (listen.headers_max, listen.header_bytes_max) = (16, 8_192));
        let (status, _, json) = answer(limited, builder).await;
        assert_eq!(
            (status.as_u16(), &json["error"]["code"]),
            (431, &Value::from("HEADER_FIELDS_TOO_LARGE"))
        );
    }
}

#[tokio::test]
async fn a_client_that_asks_for_a_problem_gets_one() {
    let asking = request("/nowhere")
        .header("accept", "application/problem+json")
        .header("x-request-id", "mine");
    let (_, headers, json) = answer(router(|_| ()), asking).await;
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(
        (&json["status"], headers["x-request-id"].to_str().unwrap()),
        (&Value::from(404), "mine")
    );
}

#[tokio::test]
async fn only_preflights_of_configured_origins_are_answered() {
    let origin = "https://app.example.com";
    for (asked, status) in [(origin, 204), ("https://evil.example", 405)] {
        let listening = router(|listen| listen.cors_origins = vec![origin.to_owned()]);
        let preflight = request("/good")
            .method("OPTIONS")
            .header("origin", asked)
            .header("access-control-request-method", "POST");
        let (found, headers, _) = answer(listening, preflight).await;
        assert_eq!(found.as_u16(), status);
        assert_eq!(headers.contains_key("access-control-allow-methods"), asked == origin);
    }
}

#[tokio::test]
async fn an_unread_large_response_makes_the_next_one_fail() {
    let router = router(|_| ());
    let large = || router.clone().oneshot(request("/large").body(Body::empty()).unwrap());
    let unread = large().await.unwrap();
    assert_eq!(unread.status(), 200);
    let (status, headers, json) = answer(router.clone(), request("/large")).await;
    assert_eq!((status.as_u16(), &json["error"]["code"]), (503, &Value::from("UNAVAILABLE")));
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(answer(router.clone(), request("/good")).await.0, 200, "small responses pass");
    drop(unread);
    assert_eq!(large().await.unwrap().status(), 200);
}

#[tokio::test]
async fn handlers_get_the_deadline_of_their_request() {
    let listening = router(|listen| listen.request_timeout_ms = 500_000);
    let response =
        listening.oneshot(request("/deadline").body(Body::empty()).unwrap()).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), 100).await.unwrap();
    let seconds: u64 = std::str::from_utf8(&body).unwrap().parse().unwrap();
    assert!((400..500).contains(&seconds), "{seconds}");
}

#[test]
fn clients_without_a_key_cannot_fill_the_log() {
    let status = |status| StatusCode::from_u16(status).unwrap();
    assert_eq!(level(status(401), false), Level::DEBUG, "RESPOND-5");
    assert_eq!(level(status(429), true), Level::INFO);
    assert_eq!(level(status(503), false), Level::WARN);
    assert_eq!(level(status(200), true), Level::DEBUG);
}
