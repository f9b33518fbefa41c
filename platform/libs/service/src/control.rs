//! The `metrics` and `control` ports of the contract.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{StatusCode, header};
use prometheus::{Encoder as _, Registry, TextEncoder};
use serde_json::json;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

use crate::binding::Bindings;
use crate::{BookHolder, Problem, PutBookError, Readiness};

/// What both ports need to know of the pod.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub readiness: Readiness,
    pub registry: Registry,
    pub bindings: Arc<Bindings>,
    pub book: Option<BookHolder>,
    pub draining: CancellationToken,
    pub drained: Arc<AtomicBool>,
    pub token: Arc<Path>,
}

/// `/livez`, `/readyz`, `/metrics`.
pub(crate) fn metrics(pod: Pod) -> Router {
    Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .with_state(pod)
}

async fn readyz(State(pod): State<Pod>) -> Response {
    let mut missing = pod.readiness.missing();
    if pod.draining.is_cancelled() {
        missing.insert(0, "draining".to_owned());
    }
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(missing)).into_response()
}

async fn exposition(State(pod): State<Pod>) -> Result<Response, Problem> {
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    encoder.encode(&pod.registry.gather(), &mut text).map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response())
}

/// `/drain`, `/bindings`, `/market-book`, behind the bearer token.
pub(crate) fn control(pod: Pod) -> Router {
    let mut router = Router::new()
        .route("/drain", post(drain))
        .route("/bindings", get(async |State(pod): State<Pod>| Json(pod.bindings.versions())));
    if pod.book.is_some() {
        router = router.route("/market-book", get(get_book).put(put_book));
    }
    router.layer(middleware::from_fn_with_state(pod.clone(), authenticate)).with_state(pod)
}

/// The token's file is read each time: it may be replaced, and calls are rare.
async fn authenticate(State(pod): State<Pod>, request: Request, next: Next) -> Response {
    let Ok(expected) = tokio::fs::read(&pod.token).await else {
        return Problem::unavailable(
            "control-token-missing",
            "the control token's file cannot be read; check Secret paddock-control",
        )
        .into_response();
    };
    let expected = expected.trim_ascii();
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    if expected.is_empty() || !bool::from(expected.ct_eq(given)) {
        return Problem::unauthorized("send the environment's control token as bearer").into_response();
    }
    next.run(request).await
}

async fn drain(State(pod): State<Pod>) -> Response {
    pod.draining.cancel();
    let drained = pod.drained.load(Ordering::Acquire);
    (StatusCode::ACCEPTED, Json(json!({ "drained": drained }))).into_response()
}

fn no_book() -> Problem {
    Problem::not_found("no market book is in force yet; PUT one")
}

async fn get_book(State(pod): State<Pod>) -> Result<Response, Problem> {
    let in_force = pod.book.as_ref().and_then(BookHolder::in_force).ok_or_else(no_book)?;
    Ok(Json(in_force).into_response())
}

async fn put_book(State(pod): State<Pod>, body: Bytes) -> Result<Response, Problem> {
    let book = pod.book.ok_or_else(no_book)?;
    // A task of its own: a caller that loses patience, while the book waits for those who hold the present one, finds it in force
    // when it asks again.
    let put = tokio::spawn(async move { book.put(&body).await });
    match put.await.map_err(Problem::internal)? {
        Ok(in_force) => Ok(Json(in_force).into_response()),
        Err(PutBookError::Newer(in_force)) => Ok((StatusCode::CONFLICT, Json(in_force)).into_response()),
        Err(error @ PutBookError::NotCompared) => {
            Err(Problem::unavailable("market-book-not-compared", error.to_string()))
        }
        Err(PutBookError::Refused(error)) => Err(Problem::unprocessable("market-book-refused", error.to_string())),
    }
}
