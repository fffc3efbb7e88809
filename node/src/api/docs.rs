//! `/docs`: the API page, on which operations can be read and tried.
//!
//! - `DOCS-1`: the page loads nothing from elsewhere and has no inline script or style, so that it
//!   works under a strict content security policy.
//! - `DOCS-2`: a key that is typed in stays in the page's memory; it is not stored or put in a URL.
//! - `DOCS-3`: each error code has an element `error-<code>`, which the `type` of a problem names.
//!
//! The page reads operations from `/openapi.json` and errors from
//! `docs/reference/error-codes.md`.

use crate::http::edge::EdgeState;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{MethodRouter, get};

const PAGE: &str = include_str!("docs/index.html");
const SCRIPT: &str = include_str!("docs/app.js");
const MARKDOWN: &str = include_str!("docs/markdown.js");
const ERRORS: &str = include_str!("../../../docs/reference/error-codes.md");
const STYLE: &str = include_str!("docs/style.css");

/// The page, its script and its style.
pub(crate) fn routes() -> Router<EdgeState> {
    Router::new()
        .route("/docs", asset("text/html; charset=utf-8", PAGE))
        .route("/docs/app.js", asset("text/javascript; charset=utf-8", SCRIPT))
        .route("/docs/markdown.js", asset("text/javascript; charset=utf-8", MARKDOWN))
        .route("/docs/error-codes.md", asset("text/markdown; charset=utf-8", ERRORS))
        .route("/docs/style.css", asset("text/css; charset=utf-8", STYLE))
}

fn asset(media_type: &'static str, text: &'static str) -> MethodRouter<EdgeState> {
    get(move || async move { ([(CONTENT_TYPE, media_type)], text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_inline_or_from_elsewhere() {
        for (name, text) in
            [("page", PAGE), ("script", SCRIPT), ("text", MARKDOWN), ("style", STYLE)]
        {
            for forbidden in [
                "http://",
                "https://",
                "//cdn",
                "innerHTML",
                "eval(",
                " style=",
                "onclick=",
                "localStorage",
                "@import",
            ] {
                assert!(!text.contains(forbidden), "DOCS-1: {forbidden} in the {name}");
            }
        }
        assert!(PAGE.contains("src=\"/docs/app.js\"") && PAGE.contains("href=\"/docs/style.css\""));
        assert!(!PAGE.contains("<style") && PAGE.matches("<script src=\"/docs/").count() == 2);
        assert!(PAGE.matches("<script").count() == 2);
        assert!(SCRIPT.contains("/openapi.json") && SCRIPT.contains("/docs/error-codes.md"));
    }
}
