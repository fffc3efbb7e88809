//! `/docs`: the API page, where operations can be read and tried.
//!
//! Invariants: `DOCS-1` it loads nothing from elsewhere and works under its strict content security policy: its script and
//! style are files of their own, nothing is inline; `DOCS-2` a key that is typed in stays in the page's memory; it is
//! neither stored nor put into an address. It knows no operation by itself: all come from `/openapi.json`.

use super::EdgeState;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{MethodRouter, get};

const PAGE: &str = include_str!("docs/index.html");
const SCRIPT: &str = include_str!("docs/app.js");
const STYLE: &str = include_str!("docs/style.css");

/// The page and what it is made of.
pub(crate) fn routes() -> Router<EdgeState> {
    Router::new()
        .route("/docs", asset("text/html; charset=utf-8", PAGE))
        .route("/docs/app.js", asset("text/javascript; charset=utf-8", SCRIPT))
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
        for (name, text) in [("page", PAGE), ("script", SCRIPT), ("style", STYLE)] {
            for forbidden in
                ["http://", "https://", "//cdn", "innerHTML", "eval(", " style=", "onclick=", "localStorage", "@import"]
            {
                assert!(!text.contains(forbidden), "DOCS-1: {forbidden} in the {name}");
            }
        }
        assert!(PAGE.contains("src=\"/docs/app.js\"") && PAGE.contains("href=\"/docs/style.css\""));
        assert!(!PAGE.contains("<style") && PAGE.matches("<script").count() == 1);
        assert!(SCRIPT.contains("/openapi.json"));
    }
}
