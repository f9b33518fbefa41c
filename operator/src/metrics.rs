//! Metrics of the operator. Label values come from fixed sets (rule O8), but for `tenant`, `environment`, `component` and claim names
//! of gauges, whose series the controllers remove when the object goes.

use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// All metrics, on a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Reconciles ended: `controller`, `outcome` (`done`, `again`, `gone`, `fault`).
    pub reconciles: IntCounterVec,
    /// How long a reconcile took: `controller`.
    pub reconcile_duration: HistogramVec,
    /// Faults: `controller`, `category`.
    pub reconcile_errors: IntCounterVec,
    /// Reconciles under way: `controller`.
    pub reconcile_active: IntGaugeVec,
    /// Objects that wait for a reconcile which is due: `controller`.
    pub queue_depth: IntGaugeVec,
    /// Objects whose last reconcile ended in a fault: `controller`.
    pub objects_in_backoff: IntGaugeVec,
    /// Applies: `kind`, `result` (`unchanged`, `created`, `configured`, `drift_removed`, `unsettled`, `failed`).
    pub applies: IntCounterVec,
    /// Objects deleted because nothing wants them any more: `kind`.
    pub pruned: IntCounterVec,
    /// Status writes: `kind`, `result` (`unchanged`, `written`, `failed`).
    pub status_writes: IntCounterVec,
    /// Requests to the apiserver: `verb`, `code` (an HTTP status, `timeout` or `error`).
    pub kube_requests: IntCounterVec,
    /// Time until the head of the apiserver's answer: `verb`.
    pub kube_request_duration: HistogramVec,
    /// Errors of watches: `kind`.
    pub watch_errors: IntCounterVec,
    /// Objects skipped because they cannot be decoded: `kind`.
    pub undecodable: IntCounterVec,
    /// Events that could not be published.
    pub events_lost: IntCounterVec,
    /// 1 while this process holds the lease.
    pub leader: IntGauge,
    /// CustomResourceDefinitions that are missing: `crd`.
    pub crd_missing: IntGaugeVec,
    /// Rights that are missing: `group`, `resource`, `verb`.
    pub rights_missing: IntGaugeVec,
    /// Tenants: `phase`.
    pub tenants: IntGaugeVec,
    /// Services in a rollout: `strategy`, `phase`.
    pub rollouts: IntGaugeVec,
    /// How long rollouts took: `strategy`, `outcome`.
    pub rollout_duration: HistogramVec,
    /// Database claims: `engine`, `phase`.
    pub database_claims: IntGaugeVec,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Two metrics of one name: a defect, which every test meets.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        let request_buckets = vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
        let rollout_buckets = vec![5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0];
        let metrics = Self {
            reconciles: counter(r, "paddock_reconcile_total", "Reconciles that ended.", &["controller", "outcome"])?,
            reconcile_duration: histogram(
                r,
                "paddock_reconcile_duration_seconds",
                "How long a reconcile took.",
                &["controller"],
                request_buckets.clone(),
            )?,
            reconcile_errors: counter(
                r,
                "paddock_reconcile_errors_total",
                "Reconciles that ended in a fault.",
                &["controller", "category"],
            )?,
            reconcile_active: gauge(r, "paddock_reconcile_active", "Reconciles under way.", &["controller"])?,
            queue_depth: gauge(r, "paddock_queue_depth", "Objects that wait for a due reconcile.", &["controller"])?,
            objects_in_backoff: gauge(
                r,
                "paddock_objects_in_backoff",
                "Objects whose last reconcile ended in a fault.",
                &["controller"],
            )?,
            applies: counter(r, "paddock_apply_total", "Applied objects.", &["kind", "result"])?,
            pruned: counter(r, "paddock_pruned_total", "Objects deleted because nothing wants them.", &["kind"])?,
            status_writes: counter(r, "paddock_status_writes_total", "Status writes.", &["kind", "result"])?,
            kube_requests: counter(r, "paddock_kube_requests_total", "Requests to the apiserver.", &["verb", "code"])?,
            kube_request_duration: histogram(
                r,
                "paddock_kube_request_duration_seconds",
                "Time until the head of the apiserver's answer.",
                &["verb"],
                request_buckets,
            )?,
            watch_errors: counter(r, "paddock_watch_errors_total", "Errors of watches.", &["kind"])?,
            undecodable: counter(r, "paddock_undecodable_objects_total", "Objects that cannot be decoded.", &["kind"])?,
            events_lost: counter(r, "paddock_events_lost_total", "Events that were not published.", &["reason"])?,
            leader: IntGauge::new("paddock_leader", "1 while this process holds the lease.")?,
            crd_missing: gauge(r, "paddock_crd_missing", "1 while the definition is not served.", &["crd"])?,
            rights_missing: gauge(
                r,
                "paddock_rights_missing",
                "1 while the operator lacks the right.",
                &["group", "resource", "verb"],
            )?,
            tenants: gauge(r, "paddock_tenants", "Tenants.", &["phase"])?,
            rollouts: gauge(r, "paddock_rollouts", "Services by phase of their rollout.", &["strategy", "phase"])?,
            rollout_duration: histogram(
                r,
                "paddock_rollout_duration_seconds",
                "How long rollouts took.",
                &["strategy", "outcome"],
                rollout_buckets,
            )?,
            database_claims: gauge(r, "paddock_database_claims", "Database claims.", &["engine", "phase"])?,
            registry: registry.clone(),
        };
        registry.register(Box::new(metrics.leader.clone()))?;
        let build = gauge(r, "paddock_build_info", "Version of the operator.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// The registry, for collectors that a controller computes at scrape time.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The text format that Prometheus scrapes.
    ///
    /// # Errors
    /// Two families of one name: a defect.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: Vec<f64>,
) -> Result<HistogramVec, prometheus::Error> {
    let metric = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_ours_and_rendered() {
        let metrics = Metrics::new().unwrap();
        metrics.kube_requests.with_label_values(&["get", "200"]).inc();
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        assert!(text.contains("paddock_kube_requests_total{code=\"200\",verb=\"get\"} 1"), "{text}");
        assert!(text.contains("paddock_build_info{version="));
        for family in metrics.registry.gather() {
            let name = family.name();
            assert!(name.starts_with("paddock_") || name.starts_with("process_"), "{name}");
        }
    }
}
