//! The client for the apiserver: counted, with a deadline per request and a bounded retry.

use crate::metrics::Metrics;
use http::{Method, Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, retry::RetryPolicy},
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::{BoxError, Layer, Service, retry::RetryLayer};

/// How long the apiserver may take until the head of its answer.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection may be silent. The apiserver ends a watch that has nothing to tell after 290 s; one that says nothing for longer is
/// no connection any more, and what is watched through it would stay as it was for ever.
const SILENCE: Duration = Duration::from_mins(5);
/// Repetitions of a request that the apiserver asked to repeat (429, 503, 504).
const RETRIES: u32 = 3;

/// A client of the given configuration.
///
/// # Errors
/// Unusable certificates or addresses.
pub fn build(mut config: Config, metrics: &Arc<Metrics>) -> anyhow::Result<Client> {
    // The default repeats 15 times and would pin one reconcile for minutes.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    let policy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(5), RETRIES, false)?;
    let builder = ClientBuilder::try_from(config)?.with_layer(&CallLayer(metrics.clone()));
    // A clone of a boxed service does not exist: a buffer makes the stack cloneable for the retry.
    let builder = builder.with_layer(&tower::buffer::BufferLayer::new(1024)).with_layer(&RetryLayer::new(policy));
    Ok(builder.build())
}

/// Counts requests and gives each a deadline.
#[derive(Clone)]
pub struct CallLayer(pub Arc<Metrics>);

impl<S> Layer<S> for CallLayer {
    type Service = Call<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Call { inner, metrics: self.0.clone() }
    }
}

/// See [`CallLayer`].
#[derive(Clone)]
pub struct Call<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B> Service<Request<Body>> for Call<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let verb = verb(&request);
        let metrics = self.metrics.clone();
        let timer = metrics.kube_request_duration.with_label_values(&[verb]).start_timer();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let result = tokio::time::timeout(DEADLINE, answer).await;
            timer.observe_duration();
            let (code, result) = match result {
                Ok(Ok(response)) => (response.status().as_u16().to_string(), Ok(response)),
                Ok(Err(error)) => ("error".to_owned(), Err(error.into())),
                Err(_) => ("timeout".to_owned(), Err(tower::timeout::error::Elapsed::new().into())),
            };
            metrics.kube_requests.with_label_values(&[verb, &code]).inc();
            result
        })
    }
}

/// What the request is to the apiserver, in the words of RBAC.
fn verb<B>(request: &Request<B>) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    if query.split('&').any(|part| part == "watch=true" || part == "watch=1") {
        return "watch";
    }
    let content =
        request.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match *request.method() {
        Method::GET if has_name(request.uri().path()) => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::DELETE => "delete",
        Method::PATCH if content.starts_with("application/apply-patch") => "apply",
        Method::PATCH => "patch",
        _ => "other",
    }
}

/// Whether a path names one object: `/api/v1[/namespaces/ns]/plural/name…`, `/apis/group/v1[/namespaces/ns]/plural/name…`.
fn has_name(path: &str) -> bool {
    let mut parts =
        path.split('/').filter(|part| !part.is_empty()).skip_while(|part| *part != "api" && *part != "apis");
    let start = if parts.next() == Some("apis") { 2 } else { 1 };
    let rest: Vec<&str> = parts.skip(start).collect();
    !matches!(rest.as_slice(), [] | [_] | ["namespaces", _, _])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_those_of_rbac() {
        let request = |method: &str, uri: &str, content: &str| {
            Request::builder().method(method).uri(uri).header("content-type", content).body(()).unwrap()
        };
        for (method, uri, content, expected) in [
            ("GET", "/api/v1/namespaces", "", "list"),
            ("GET", "/api/v1/namespaces/acme-prod", "", "get"),
            ("GET", "/api/v1/namespaces/acme-prod/pods", "", "list"),
            ("GET", "/api/v1/namespaces/acme-prod/pods?watch=true&timeoutSeconds=290", "", "watch"),
            ("GET", "/apis/paddock.bet/v1alpha1/tenants", "", "list"),
            ("GET", "/apis/paddock.bet/v1alpha1/tenants/acme", "", "get"),
            ("GET", "/apis/apps/v1/namespaces/a/deployments/b", "", "get"),
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/b", "application/apply-patch+yaml", "apply"),
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/b", "application/json-patch+json", "patch"),
            ("PUT", "/x", "", "update"),
            ("DELETE", "/x", "", "delete"),
            ("POST", "/x", "", "create"),
        ] {
            assert_eq!(verb(&request(method, uri, content)), expected, "{method} {uri}");
        }
    }
}
