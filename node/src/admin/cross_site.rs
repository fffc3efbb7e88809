//! What a browser's page must not do: change a node through the browser of somebody who reaches the admin listener.
//!
//! Nothing on the admin listener asks for a key, so a page from anywhere could make its visitor's browser drain a node, and
//! so could a webhook whose target is this listener.
//! Invariant: `CROSS-SITE-1` a request that may change something is refused if it is a webhook, or if a page sent it: browsers say so by
//! `Origin`, which they put on every such request, and by `Sec-Fetch-Site`. Tools send neither. Reading is not refused:
//! without CORS headers a page does not get to see the answer.

use crate::http::error::ApiError;
use axum::extract::Request;
use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use triggers_protocol::{ErrorCode, webhook};

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The middleware.
pub(super) async fn refuse(request: Request, next: Next) -> Result<Response, ApiError> {
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !is_reading && is_from_outside(request.headers()) {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "pages in a browser and webhooks may not change a node",
        ));
    }
    Ok(next.run(request).await)
}

fn is_from_outside(headers: &HeaderMap) -> bool {
    // `none` is a person who typed the address.
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
        let router = Router::new().route("/", routes).layer(axum::middleware::from_fn(refuse));
        let mut request = Request::builder().method(method).uri("/");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn pages_change_nothing_and_tools_do() {
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
        assert_eq!(status("GET", Some(of_pages[0])).await, 200, "reading is for everybody");
    }
}
