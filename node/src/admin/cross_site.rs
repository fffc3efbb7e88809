//! Protects the admin listener from web pages (cross-site request forgery) and from webhooks.
//!
//! The listener asks for no key, so any page could make the browser of a visitor drain a node, and
//! so could a webhook whose target is this listener.
//!
//! `CROSS-SITE-1`: a request that may change something is rejected if it is a webhook or comes from
//! a page. Browsers mark such requests with `Origin` and `Sec-Fetch-Site`; tools send neither.
//! Reads are allowed, because without CORS headers a page cannot see the answer.

use crate::http::error::ApiError;
use axum::extract::Request;
use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use triggers_protocol::{ErrorCode, webhook};

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Middleware that rejects requests from web pages and webhooks.
pub(super) async fn reject(request: Request, next: Next) -> Result<Response, ApiError> {
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !is_reading && is_from_outside(request.headers()) {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "web pages and webhooks may not change a node",
        ));
    }
    Ok(next.run(request).await)
}

fn is_from_outside(headers: &HeaderMap) -> bool {
    // `none` means that the user typed the address.
    headers.contains_key(ORIGIN)
        || headers.contains_key(webhook::ID_HEADER)
        || headers.get(SEC_FETCH_SITE).is_some_and(|site| site != "none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    async fn status(method: &str, header: Option<(&str, &str)>) -> u16 {
        let routes = get(async || "read").post(async || "changed").put(async || "changed");
        let router = Router::new().route("/", routes).layer(axum::middleware::from_fn(reject));
        let mut request = Request::builder().method(method).uri("/");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn only_tools_may_change_a_node() {
        let of_pages = [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("webhook-id", "1"),
        ];
        for method in ["POST", "PUT"] {
            for header in of_pages {
                assert_eq!(
                    status(method, Some(header)).await,
                    403,
                    "CROSS-SITE-1: {method} {header:?}"
                );
            }
            assert_eq!(status(method, None).await, 200);
        }
        assert_eq!(status("GET", Some(of_pages[0])).await, 200, "reading is allowed");
    }
}
