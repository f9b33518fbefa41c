//! Logs as JSON with a filter that can be changed at run time, and traces by OTLP if asked for.

mod traces;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::{sync::Arc, time::Duration};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

/// How long the end of the process waits for the collector to take the last traces.
const FLUSH: Duration = Duration::from_secs(3);
/// The exporter's own lines come with every batch that fails; [`traces`] says it once.
const QUIET: &str = "opentelemetry-otlp=off";

/// Handle on the process's telemetry.
#[derive(Clone)]
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    traces: Option<Arc<SdkTracerProvider>>,
}

impl Telemetry {
    /// Installs logging, and tracing to `otlp_endpoint` (base address of an OTLP/HTTP collector) if given. Once per process.
    ///
    /// # Errors
    /// A filter or endpoint that cannot be read, or telemetry that is installed already.
    pub fn install(filter: &str, otlp_endpoint: Option<&str>) -> anyhow::Result<Self> {
        let (filter, handle) = reload::Layer::new(parse(filter)?);
        let lines =
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
        let traces = otlp_endpoint.map(traces::provider).transpose()?;
        let spans = traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("paddock-operator"))
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_tracked_inactivity(false)
                .with_filter(traces::ours())
        });
        tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .with(spans)
            .try_init()
            .context("telemetry is installed already")?;
        Ok(Self { filter: handle, traces: traces.map(Arc::new) })
    }

    /// A filter that nothing listens to.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        let (layer, filter) = reload::Layer::new(EnvFilter::new("off"));
        // The handle works as long as its layer lives.
        std::mem::forget(layer);
        Self { filter, traces: None }
    }

    /// Replaces the log filter.
    ///
    /// # Errors
    /// A filter that cannot be read.
    pub fn set_filter(&self, filter: &str) -> anyhow::Result<()> {
        self.filter.reload(parse(filter)?).context("the log filter cannot be changed any more")
    }

    /// Sends the spans that are still here. At the end of the process.
    pub fn flush(&self) {
        if let Some(Err(error)) = self.traces.as_ref().map(|traces| traces.shutdown_with_timeout(FLUSH)) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(format!("{QUIET},{filter}"))
        .with_context(|| format!("`{filter}` is no log filter: write info, debug, info,kube=debug"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        assert!(parse("info,kube=debug").is_ok());
        let error = parse("info,kube=loud").unwrap_err().to_string();
        assert!(error.contains("info,kube=loud") && error.contains("write"), "{error}");
    }

    #[test]
    fn the_filter_changes_at_run_time() {
        let (layer, handle) = reload::Layer::<EnvFilter, Registry>::new(parse("warn").unwrap());
        let telemetry = Telemetry { filter: handle, traces: None };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
            telemetry.set_filter("debug").unwrap();
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            assert!(telemetry.set_filter("x=y=z=").is_err());
            assert!(tracing::enabled!(tracing::Level::DEBUG), "a bad filter changes nothing");
        });
    }
}
