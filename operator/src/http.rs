//! `/livez`, `/readyz`, `/metrics`, `/debug/state` and `PUT /debug/log-level`.

use crate::{
    controllers::{States, measure},
    kube::Cache,
    leader::Leadership,
    metrics::Metrics,
    readiness::Readiness,
    telemetry::Telemetry,
};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tower_http::timeout::TimeoutLayer;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest log filter, in bytes.
const FILTER_LIMIT: usize = 1024;

/// What the answers are made of.
#[derive(Clone)]
pub struct App {
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// What some of them are counted from.
    pub cache: Cache,
    /// Gates.
    pub readiness: Readiness,
    /// Election.
    pub leader: Leadership,
    /// Controllers.
    pub states: States,
    /// Log filter.
    pub telemetry: Telemetry,
}

/// The routes.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/debug/state", get(state))
        .route("/debug/log-level", put(log_level).layer(DefaultBodyLimit::max(FILTER_LIMIT)))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, DEADLINE))
        .with_state(app)
}

async fn readyz(State(app): State<App>) -> Response {
    let report = app.readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    app.metrics.leader.set(i64::from(app.leader.is_leader()));
    // One process counts, or the sum over all would be too large.
    if app.leader.is_leader() {
        measure(&app.cache, &app.metrics);
    }
    match app.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn state(State(app): State<App>) -> Response {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "leader": {"leading": app.leader.is_leader(), "epoch": app.leader.epoch(), "holder": app.leader.holder()},
        "readiness": app.readiness.report(),
        "controllers": app.states.snapshot(),
    }))
    .into_response()
}

async fn log_level(State(app): State<App>, filter: String) -> Response {
    match app.telemetry.set_filter(filter.trim()) {
        Ok(()) => {
            tracing::info!(filter = filter.trim(), "log filter changed");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    async fn call(app: &App, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
        let response = router(app.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn answers_before_anything_else_works() {
        let leader = Leadership::new();
        let app = App {
            metrics: Arc::new(Metrics::new().unwrap()),
            cache: Cache::new(),
            readiness: Readiness::new(Cache::new(), leader.clone()),
            leader: leader.clone(),
            states: States::default(),
            telemetry: Telemetry::detached(),
        };
        assert_eq!(call(&app, "GET", "/livez", "").await.0, StatusCode::OK);
        let (status, body) = call(&app, "GET", "/readyz", "").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("nobody holds the lease"), "{body}");
        let (status, body) = call(&app, "GET", "/metrics", "").await;
        assert!(status.is_success() && body.contains("paddock_leader 0"), "{body}");
        let (_, body) = call(&app, "GET", "/debug/state", "").await;
        let state: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(state["leader"], json!({"leading": false, "epoch": 0, "holder": null}));
        assert_eq!(call(&app, "PUT", "/debug/log-level", "info,kube=debug").await.0, StatusCode::NO_CONTENT);
        assert_eq!(call(&app, "PUT", "/debug/log-level", "a=b=c").await.0, StatusCode::BAD_REQUEST);
        assert_eq!(call(&app, "PUT", "/debug/log-level", &"x".repeat(2000)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        let app = App { leader: Leadership::alone(3), ..app };
        let (_, body) = call(&app, "GET", "/metrics", "").await;
        assert!(body.contains("paddock_leader 1") && body.contains(r#"paddock_tenants{phase="settled"} 0"#), "{body}");
    }
}
