//! Logs as JSON lines on standard output, metrics of HTTP.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use tracing_subscriber::EnvFilter;

/// Starts logging, once per process. `LOG_LEVEL` is a level or a filter by target; `info` is the default.
pub(crate) fn log_to_stdout() {
    let level = std::env::var("LOG_LEVEL").unwrap_or_else(|_| "info".to_owned());
    // rdkafka logs every end of a partition as an error; what matters comes back through the calls and is logged there.
    let quiet = "sqlx=warn,librdkafka=warn,rdkafka=off";
    let filter =
        EnvFilter::try_new(format!("{quiet},{level}")).unwrap_or_else(|_| EnvFilter::new(format!("{quiet},info")));
    // A second service in one process (tests) finds a subscriber already there.
    let _already_there = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .try_init();
}

/// Says why the process ends; also before logging was started.
pub(crate) fn last_words(message: &str) {
    log_to_stdout();
    tracing::error!(message, "the service ends");
}

/// Metrics of HTTP servers. Labels come from the router (`MatchedPath`), never from the request (rule O8).
#[derive(Debug, Clone)]
pub(crate) struct HttpMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGaugeVec,
}

impl HttpMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("paddock_http_requests_total", "Requests answered."),
            &["port", "method", "route", "status"],
        )?;
        let duration = HistogramVec::new(
            HistogramOpts::new("paddock_http_request_duration_seconds", "Time from request to response head.")
                .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
            &["port", "method", "route"],
        )?;
        let in_flight =
            IntGaugeVec::new(Opts::new("paddock_http_requests_in_flight", "Requests being answered."), &["port"])?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self { requests, duration, in_flight })
    }

    pub(crate) fn in_flight(&self, port: &str) -> prometheus::IntGauge {
        self.in_flight.with_label_values(&[port])
    }

    pub(crate) fn answered(&self, port: &str, method: &str, route: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[port, method, route, &status.to_string()]).inc();
        self.duration.with_label_values(&[port, method, route]).observe(took.as_secs_f64());
    }
}
