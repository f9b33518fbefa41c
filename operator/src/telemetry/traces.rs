//! Traces by OTLP over HTTP: what leaves the process, and how little a collector that is away costs.

use anyhow::Context as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::{Metadata, level_filters::LevelFilter};
use tracing_subscriber::filter::{FilterFn, filter_fn};

/// Spans go through a bounded queue to a thread of their own, so that no reconcile waits for the collector. What it does not take is
/// lost.
///
/// # Errors
/// An address that cannot be read.
pub fn provider(endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    let address = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(address).build().context(
        "the OTLP endpoint cannot be used: give the address of an OTLP/HTTP collector, such as http://collector:4318",
    )?;
    let resource = Resource::builder().with_service_name("paddock-operator").build();
    let exporter = Patient { exporter, away: AtomicBool::new(false) };
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Our own spans at `info`, whatever the log filter says. No log lines, and nothing of the libraries: their spans hold addresses, and
/// at finer levels what is in requests.
pub fn ours() -> FilterFn {
    let filter: fn(&Metadata<'_>) -> bool = |it| it.is_span() && it.target().starts_with("paddock_operator");
    filter_fn(filter).with_max_level_hint(LevelFilter::INFO)
}

/// Says once that the collector takes no traces and once that it takes them again. The library would say it with every batch.
#[derive(Debug)]
struct Patient<E> {
    exporter: E,
    away: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Patient<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        let before = self.away.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Err(error) if !before => {
                tracing::warn!(%error, "the collector takes no traces: they are lost until it does; check --otlp-endpoint");
            }
            Ok(()) if before => tracing::info!("the collector takes traces again"),
            _ => {}
        }
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
