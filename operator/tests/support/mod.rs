//! What tests against a real API server share.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod control_port;
pub mod faults;
pub mod objects;

use paddock_cluster::apiserver::Apiserver;
use paddock_operator::{
    controllers::Ctx,
    kube::{Cache, client},
    metrics::Metrics,
    settings::Settings,
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// An API server with our kinds and the operator's namespace.
pub async fn server() -> Apiserver {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Apiserver::start().await.expect("an API server");
    server
        .apply(
            &serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "paddock-system"}})
                .to_string(),
        )
        .await
        .unwrap();
    for crd in paddock_crds::all() {
        server.apply(&serde_json::to_string(&crd).unwrap()).await.unwrap();
    }
    server.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).await.unwrap();
    server
}

/// A context with the client that the operator really uses and a cache that is being filled.
pub async fn context(config: kube::Config, stop: &CancellationToken) -> Arc<Ctx> {
    let metrics = Arc::new(Metrics::new().unwrap());
    let client = client::build(config, &metrics).unwrap();
    with_client(client, metrics, stop).await
}

/// As [`context`], over a client of the caller's.
pub async fn with_client(client: kube::Client, metrics: Arc<Metrics>, stop: &CancellationToken) -> Arc<Ctx> {
    let ctx = Ctx::detached(client.clone(), Settings::default()).unwrap();
    let ctx = Arc::new(Ctx { cache: Cache::new(), metrics, ..ctx });
    ctx.cache.start(&client, "paddock-system", &ctx.metrics, &ctx.events, stop);
    tokio::time::timeout(PATIENCE, ctx.cache.wait_ready()).await.expect("every kind is listed");
    ctx
}

/// Requests other than those of watches, and those that wrote.
pub fn requests(metrics: &Metrics) -> (u64, u64) {
    let (mut all, mut writes) = (0, 0);
    for family in metrics.registry().gather() {
        if family.name() != "paddock_kube_requests_total" {
            continue;
        }
        for metric in family.get_metric() {
            let verb =
                metric.get_label().iter().find(|label| label.name() == "verb").map(|label| label.value().to_owned());
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let count = metric.get_counter().get_value() as u64;
            match verb.as_deref() {
                Some("watch" | "list") => {}
                Some("get") => all += count,
                _ => {
                    all += count;
                    writes += count;
                }
            }
        }
    }
    (all, writes)
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}");
}
