//! What tests against a real API server share.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod control_port;
pub mod faults;
pub mod objects;
pub mod process;
pub mod state;

use faults::Faults;
use kube::{Api, client::ClientBuilder};
use paddock_cluster::{
    apiserver::Apiserver,
    tools::{self, Set},
};
use paddock_operator::{
    controllers::Ctx,
    kube::{
        Cache,
        client::{self, CallLayer},
    },
    metrics::Metrics,
    settings::Settings,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// An API server with our kinds and the operator's namespace.
pub async fn server() -> Apiserver {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Apiserver::start().await.expect("an API server");
    install(&server).await;
    server
}

/// Installs our kinds and makes the operator's namespace.
pub async fn install(server: &Apiserver) {
    server.kubectl(&["create", "namespace", "paddock-system"]).await.unwrap();
    for crd in paddock_crds::all() {
        server.apply(&serde_json::to_string(&crd).unwrap()).await.unwrap();
    }
    server.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).await.unwrap();
}

/// A context with the client that the operator really uses and a cache that is being filled.
pub async fn context(config: kube::Config, stop: &CancellationToken) -> Arc<Ctx> {
    let metrics = Arc::new(Metrics::new().unwrap());
    let client = client::build(config, &metrics).unwrap();
    with_client(client, metrics, Settings::default(), stop).await
}

/// A context over a client whose requests go as scripted, with a cache of its own as a new process has.
pub async fn faulty(server: &Apiserver, faults: &Faults, settings: Settings, stop: &CancellationToken) -> Arc<Ctx> {
    let metrics = Arc::new(Metrics::new().unwrap());
    let mut config = server.config().await.unwrap();
    config.default_retry = false;
    let client =
        ClientBuilder::try_from(config).unwrap().with_layer(faults).with_layer(&CallLayer(metrics.clone())).build();
    with_client(client, metrics, settings, stop).await
}

async fn with_client(
    client: kube::Client,
    metrics: Arc<Metrics>,
    settings: Settings,
    stop: &CancellationToken,
) -> Arc<Ctx> {
    let ctx = Ctx::detached(client.clone(), settings).unwrap();
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

/// Reconciles of a controller that ended.
pub fn reconciles(metrics: &Metrics, controller: &str) -> u64 {
    let family = metrics.registry().gather().into_iter().find(|family| family.name() == "paddock_reconcile_total");
    let all = family.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
    let ours = all.filter(|metric| metric.get_label().iter().any(|label| label.value() == controller));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    ours.map(|metric| metric.get_counter().get_value() as u64).sum()
}

/// How often an event with a reason was published about an object.
pub async fn told(server: &Apiserver, kind: &str, name: &str, reason: &str) -> i64 {
    let text = server.kubectl(&["get", "events.events.k8s.io", "-A", "-o", "json"]).await.unwrap();
    let events: Value = serde_json::from_str(&text).unwrap();
    let of_it = |event: &&Value| {
        event["regarding"]["kind"] == kind && event["regarding"]["name"] == name && event["reason"] == reason
    };
    let all = events["items"].as_array().unwrap().iter().filter(of_it);
    all.map(|event| event["series"]["count"].as_i64().unwrap_or(1)).sum()
}

/// Waits until something holds.
pub async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    within(PATIENCE, what, holds).await;
}

/// Waits until something holds, as long as it may take.
pub async fn within(patience: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(patience, wait).await.is_ok(), "never: {what}");
}

/// Another look at what is as wanted asks nothing of the kind that is counted (rule O1). Controllers run meanwhile, and events are published
/// in the background: their last requests may fall into a look, or make it fail by a conflict; a look that always asks never ends this.
pub async fn another_look_is_silent<T, E: Debug>(asked: impl Fn() -> u64, look: impl AsyncFn() -> Result<T, E>) {
    eventually("another look that is silent", async || {
        let before = asked();
        look().await.is_ok() && asked() == before
    })
    .await;
}

/// Polls the API server until an object's status is of its newest spec and as wanted; answers it, or the last one when time is up.
pub async fn status<K>(
    objects: &Api<K>,
    name: &str,
    patience: Duration,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value, Value>
where
    K: DeserializeOwned + Serialize + Clone + Debug,
{
    let started = Instant::now();
    loop {
        let object = serde_json::to_value(objects.get(name).await.unwrap()).unwrap();
        let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        if current && wanted(&object["status"]) {
            return Ok(object["status"].clone());
        }
        if started.elapsed() > patience {
            return Err(object["status"].clone());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The Gateway API's kinds, as the pinned Gateway controller brings them.
pub fn gateway_api() -> String {
    let program = tools::program(Set::EnvoyGateway, "envoy-gateway").expect("the Gateway controller is built");
    let folder = program.ancestors().find(|f| f.join("charts").is_dir()).expect("its charts came along");
    folder.join("charts/gateway-helm/charts/crds/crds/gatewayapi-crds.yaml").to_string_lossy().into_owned()
}

/// The authority that signs certificates of domains: Secret `domain-ca` of the operator's namespace.
pub fn authority() -> Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "domain-ca", "namespace": "paddock-system"},
        "stringData": {"tls.crt": params.self_signed(&key).unwrap().pem(), "tls.key": key.serialize_pem()}
    })
}
