//! HTTP servers: bounds, metrics, extractors that refuse with problems.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, MatchedPath, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Problem;
use crate::telemetry::HttpMetrics;

/// Greatest body of a request.
const MAX_BODY: usize = 256 * 1024;
/// Longest time to an answer; longer than the timeouts of database and bus below it.
const ANSWER: Duration = Duration::from_secs(15);

/// A JSON body; refuses with `malformed-body`.
#[derive(Debug, Clone, Copy)]
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(Problem::new(rejection.status(), "malformed-body", rejection.body_text())),
        }
    }
}

/// Query parameters; refuses with `malformed-query`.
#[derive(Debug, Clone, Copy)]
pub struct QueryParams<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => Err(Problem::new(rejection.status(), "malformed-query", rejection.body_text())),
        }
    }
}

#[derive(Clone)]
struct Watched {
    port: &'static str,
    metrics: HttpMetrics,
}

/// A router with bounds and metrics around it.
pub(crate) fn bounded(router: Router, port: &'static str, metrics: HttpMetrics) -> Router {
    router
        .fallback(async || Problem::not_found("there is nothing at this path; see the API's description"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                http::StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "this path has other methods; see the API's description",
            )
        })
        .layer(middleware::from_fn_with_state(Watched { port, metrics }, watch))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// Counted when dropped, so that cancelled requests count too.
struct InFlight(prometheus::IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn watch(State(watched): State<Watched>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let gauge = watched.metrics.in_flight(watched.port);
    gauge.inc();
    let _in_flight = InFlight(gauge);
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |matched| matched.as_str().to_owned());
    // A handler that panics answers 500 and takes nothing else with it (rule O4).
    let handled = std::panic::AssertUnwindSafe(next.run(request));
    let response = match tokio::time::timeout(ANSWER, futures::FutureExt::catch_unwind(handled)).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => Problem::internal(anyhow::anyhow!("a handler of {method} {route} panicked")).into_response(),
        Err(_elapsed) => {
            Problem::unavailable("timeout", "no answer in time; repeat the request with the same key").into_response()
        }
    };
    watched.metrics.answered(watched.port, &method, &route, response.status().as_u16(), started.elapsed());
    response
}

/// Serves until told to end, then lets requests in flight end.
pub(crate) async fn serve(listener: TcpListener, router: Router, end: CancellationToken) -> std::io::Result<()> {
    let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(end.cancelled_owned()).await
}
