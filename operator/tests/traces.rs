//! Traces of the running operator: what a collector gets, and what a collector that takes nothing costs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: its failure is the message"
)]

mod support;

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Attribute},
    trace::v1::{ResourceSpans, Span},
};
use paddock_cluster::apiserver::Apiserver;
use prost::Message as _;
use serde_json::json;
use std::{
    collections::BTreeSet,
    process::ExitStatus,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use support::{PATIENCE, eventually, server};
use tokio::net::TcpListener;

const BODY: &str = "body-of-a-release";
const SECRET: &str = "s3cr3t-of-an-administrator";

/// One server for the whole file: starting one costs seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces() {
    let server = server().await;
    reconciles_reach_the_collector_without_what_is_in_objects(&server).await;
    a_collector_that_refuses_is_told_of_once(&server).await;
    a_collector_that_never_answers_holds_nothing_up(&server).await;
}

/// A collector for OTLP over HTTP, and what it was sent.
#[derive(Clone)]
struct Collector {
    answer: StatusCode,
    received: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    /// A collector that gives this answer, and its address.
    async fn start(answer: StatusCode) -> (Self, String) {
        async fn take(State(collector): State<Collector>, body: Bytes) -> StatusCode {
            collector.received.lock().unwrap().push(body);
            collector.answer
        }
        let collector = Self { answer, received: Arc::default() };
        let app = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (collector, address)
    }

    fn batches(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    fn resources(&self) -> Vec<ResourceSpans> {
        let received = self.received.lock().unwrap().clone();
        let decoded = received.into_iter().map(|body| ExportTraceServiceRequest::decode(body).unwrap());
        decoded.flat_map(|request| request.resource_spans).collect()
    }

    fn holds(&self, text: &str) -> bool {
        let received = self.received.lock().unwrap();
        received.iter().any(|body| body.windows(text.len()).any(|part| part == text.as_bytes()))
    }
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()? {
        Attribute::StringValue(text) => Some(text),
        _ => None,
    }
}

/// A running operator that sends its traces somewhere.
struct Operator {
    child: tokio::process::Child,
    log: tempfile::NamedTempFile,
}

impl Operator {
    /// `every`: how often finished spans are sent.
    fn start(server: &Apiserver, collector: &str, every: Duration) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_paddock-operator"))
            .args(["--http", "127.0.0.1:0", "--operator-namespace", "paddock-system", "--otlp-endpoint", collector])
            .env("KUBECONFIG", server.kubeconfig())
            .env("OTEL_BSP_SCHEDULE_DELAY", every.as_millis().to_string())
            .stdout(log.reopen().unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// Ends it as Kubernetes does; its log.
    async fn end(mut self) -> (ExitStatus, Vec<String>) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        let log = std::fs::read_to_string(self.log.path()).unwrap();
        (status, log.lines().map(str::to_owned).collect())
    }
}

/// Applies a Release and waits until the operator has written its status.
async fn reconciled(server: &Apiserver, name: &str) {
    let image = format!("r.example/p@sha256:{}", "0".repeat(64));
    let release = json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "Release", "metadata": {"name": name},
        "spec": {"version": "1", "source": {"author": BODY}, "components": [{"name": "rates", "image": image}]},
    });
    server.apply(&release.to_string()).await.unwrap();
    eventually(&format!("Release {name} is reconciled"), async || {
        let path = "jsonpath={.status.observedGeneration}";
        server.kubectl(&["get", "release.paddock.bet", name, "-o", path]).await.is_ok_and(|found| found == "1")
    })
    .await;
}

async fn reconciles_reach_the_collector_without_what_is_in_objects(server: &Apiserver) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pg-admin", "namespace": "paddock-system"},
        "stringData": {"username": "admin", "password": SECRET},
    });
    server.apply(&secret.to_string()).await.unwrap();
    let class = json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass", "metadata": {"name": "pg"},
        "spec": {"engine": "PostgreSQL", "environmentClass": "NonProduction", "servers": [{
            "name": "a", "adminSecret": "pg-admin", "endpoints": {"readWrite": "localhost:1"},
            "tls": {"mode": "VerifyFull", "caSecret": "pg-ca"}, "network": {"namespace": "databases", "podLabels": {"app": "pg"}, "ports": [5432]}}]},
    });
    server.apply(&class.to_string()).await.unwrap();

    let (collector, address) = Collector::start(StatusCode::OK).await;
    // Nothing is due before the end: what comes was flushed.
    let operator = Operator::start(server, &address, Duration::from_hours(1));
    reconciled(server, "traced").await;
    eventually("the class is reconciled", async || {
        let path = "jsonpath={.status.observedGeneration}";
        server.kubectl(&["get", "databaseclass", "pg", "-o", path]).await.is_ok_and(|found| found == "1")
    })
    .await;
    assert_eq!(collector.batches(), 0);
    let (status, log) = operator.end().await;
    assert!(status.success(), "{status}: {log:?}");

    let resources = collector.resources();
    let service = |it: &ResourceSpans| {
        it.resource.as_ref().and_then(|it| text(&it.attributes, "service.name").map(str::to_owned))
    };
    assert!(resources.iter().all(|it| service(it).as_deref() == Some("paddock-operator")), "{resources:?}");
    let spans: Vec<&Span> = resources.iter().flat_map(|it| &it.scope_spans).flat_map(|it| &it.spans).collect();
    for (controller, kind, object, outcome) in
        [("release", "Release", "traced", "done"), ("databaseclass", "DatabaseClass", "pg", "again")]
    {
        let wanted = [("controller", controller), ("kind", kind), ("object", object), ("outcome", outcome)];
        let found =
            spans.iter().find(|span| wanted.iter().all(|(key, value)| text(&span.attributes, key) == Some(value)));
        let span = found.unwrap_or_else(|| panic!("{wanted:?}: {spans:?}"));
        assert!(span.name == "reconcile" && span.end_time_unix_nano > span.start_time_unix_nano, "{span:?}");
    }
    let known = BTreeSet::from(["controller", "kind", "object", "outcome", "category"]);
    for span in spans {
        let keys: BTreeSet<&str> = span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert!(keys.is_subset(&known) && span.events.is_empty(), "{span:?}");
    }
    for text in [BODY, SECRET] {
        assert!(!collector.holds(text), "{text}");
    }
}

async fn a_collector_that_refuses_is_told_of_once(server: &Apiserver) {
    let (collector, address) = Collector::start(StatusCode::BAD_REQUEST).await;
    let operator = Operator::start(server, &address, Duration::from_millis(20));
    let mut number = 0;
    while collector.batches() < 4 {
        assert!(number < 50, "spans are sent all the time");
        reconciled(server, &format!("refused-{number}")).await;
        number += 1;
    }
    let (status, log) = operator.end().await;
    assert!(status.success(), "{status}: {log:?}");
    let told: Vec<&String> =
        log.iter().filter(|line| line.contains("collector") || line.to_lowercase().contains("opentelemetry")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("takes no traces"), "{told:?}");
}

async fn a_collector_that_never_answers_holds_nothing_up(server: &Apiserver) {
    // Connections come about and stay unanswered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let operator = Operator::start(server, &address, Duration::from_millis(20));
    for number in 0..3 {
        reconciled(server, &format!("silent-{number}")).await;
    }
    let begin = Instant::now();
    let (status, log) = operator.end().await;
    assert!(status.success(), "{status}: {log:?}");
    // The chart's terminationGracePeriodSeconds.
    let grace = Duration::from_secs(75);
    assert!(begin.elapsed() < grace, "longer than a pod has: {:?}: {log:?}", begin.elapsed());
    let told = log.iter().filter(|line| line.contains("traces")).count();
    assert!(told <= 2, "{log:?}");
}
