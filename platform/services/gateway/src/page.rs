//! The page of a brand: plain files that are part of the program.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, header};

/// Nothing but our own files, our own API and our own stream.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Routes of the page.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", include_str!("page/index.html"))))
        .route("/page/app.css", get(async || file("text/css; charset=utf-8", include_str!("page/app.css"))))
        .route("/page/icon.svg", get(async || file("image/svg+xml", include_str!("page/icon.svg"))))
        .route("/page/app.js", get(async || file(SCRIPT, include_str!("page/app.js"))))
        .route("/page/api.js", get(async || file(SCRIPT, include_str!("page/api.js"))))
        .route("/page/board.js", get(async || file(SCRIPT, include_str!("page/board.js"))))
        .route("/page/brand.js", get(async || file(SCRIPT, include_str!("page/brand.js"))))
        .route("/page/dom.js", get(async || file(SCRIPT, include_str!("page/dom.js"))))
        .route("/page/me.js", get(async || file(SCRIPT, include_str!("page/me.js"))))
        .route("/page/placing.js", get(async || file(SCRIPT, include_str!("page/placing.js"))))
        .route("/page/slip.js", get(async || file(SCRIPT, include_str!("page/slip.js"))))
}

fn file(content_type: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        // Replicas of two revisions may serve one page: ask each time.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, content).into_response()
}
