//! The cluster that services run in, and what people and other controllers do there.

pub(crate) use crate::support::PATIENCE;
use crate::support::control_port::ControlPorts;
use crate::support::{another_look_is_silent, status};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use paddock_cluster::apiserver::Apiserver;
use paddock_crds::v1alpha1::{BettingService, Market};
use paddock_operator::controllers::{self, Ctx, Kind as _, Outcome};
use paddock_operator::kube::ChildKind;
use paddock_operator::settings::Settings;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(crate) const NAMESPACE: &str = "acme-prod";

pub(crate) struct World {
    pub(crate) server: Apiserver,
    pub(crate) client: Client,
    pub(crate) ctx: Arc<Ctx>,
    pub(crate) control: ControlPorts,
    pub(crate) stop: CancellationToken,
}

impl World {
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = Apiserver::builder().fake_nodes(1).start().await.expect("an API server");
        for crd in paddock_crds::all() {
            server.apply(&serde_json::to_string(&crd).unwrap()).await.unwrap();
            let name = format!("crd/{}", crd.name_any());
            server.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", &name]).await.unwrap();
        }
        let client = server.client().await.unwrap();
        let labels = json!({
            "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme", "paddock.bet/environment": "prod"
        });
        let world_objects = [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "paddock-system"}}),
            json!({
                "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": "acme"},
                "spec": {
                    "displayName": "Acme", "licences": [{"name": "mga-1", "jurisdiction": "MT"}], "currencies": ["EUR"],
                    "environments": [{
                        "name": "prod", "class": "Production", "release": "r",
                        "databaseClasses": [
                            {"engine": "PostgreSQL", "className": "pg"}, {"engine": "Kafka", "className": "bus"}
                        ]
                    }]
                }
            }),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}),
            json!({
                "apiVersion": "v1", "kind": "Secret", "stringData": {"token": "t"},
                "metadata": {"name": "paddock-control", "namespace": NAMESPACE, "labels": labels}
            }),
        ];
        for object in world_objects {
            server.apply(&object.to_string()).await.unwrap();
        }
        let control = ControlPorts::start().await;
        let ctx = Ctx::detached(client.clone(), Settings::default()).unwrap();
        let ctx = Arc::new(Ctx { cache: paddock_operator::kube::Cache::new(), ..ctx });
        let stop = CancellationToken::new();
        ctx.cache.start(&client, "paddock-system", &ctx.metrics, &ctx.events, &stop);
        ctx.cache.watch_secrets(NAMESPACE);
        tokio::spawn(controllers::betting_service::start(ctx.clone(), stop.clone()));
        tokio::spawn(controllers::market::start(ctx.clone(), stop.clone()));
        Self { server, client, ctx, control, stop }
    }

    pub(crate) fn services(&self) -> Api<BettingService> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) fn api(&self, kind: ChildKind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), NAMESPACE, &kind.api_resource())
    }

    pub(crate) async fn service(&self, name: &str, more: Value) {
        self.labelled(name, json!({}), more).await;
    }

    /// A service with labels: those of ours make it one of the environment's Release.
    pub(crate) async fn labelled(&self, name: &str, labels: Value, more: Value) {
        let mut spec = json!({
            "component": name, "version": "1.0",
            "image": "r.example/p@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "ports": [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}],
            "resources": {"requests": {"cpu": "0.1", "memory": "64Mi"}},
            "replicas": {"min": 2, "max": 2},
        });
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let object = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "BettingService",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "spec": spec
        });
        self.server.apply(&object.to_string()).await.unwrap();
    }

    /// Polls the API server until a service's status is as wanted.
    pub(crate) async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let last = match status(&self.services(), name, PATIENCE, wanted).await {
            Ok(status) => return status,
            Err(last) => last,
        };
        let all = self.server.kubectl(&["get", "all,bsvc,dbc,controllerrevision", "-n", NAMESPACE, "-o", "wide"]).await;
        panic!("{name} never was {what}: {last:#}\n{}", all.unwrap())
    }

    pub(crate) async fn settled(&self, name: &str) -> Value {
        self.until(name, "settled", |status| {
            condition(status, "Ready") == "True"
                && status["revision"] == status["stableRevision"]
                && condition(status, "Reconciling").is_empty()
        })
        .await
    }

    /// Polls the API server until a Market's status is as wanted.
    pub(crate) async fn market(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let api: Api<Market> = Api::namespaced(self.client.clone(), NAMESPACE);
        status(&api, name, PATIENCE, wanted).await.unwrap_or_else(|last| panic!("market {name}: {last:#}"))
    }

    /// A pod that follows the market book and is not ready.
    pub(crate) async fn follower(&self, name: &str, ip: &str, process: &str) {
        self.follower_in(NAMESPACE, name, ip, process).await;
    }

    pub(crate) async fn follower_in(&self, namespace: &str, name: &str, ip: &str, process: &str) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {
                "app.kubernetes.io/managed-by": "paddock", "paddock.bet/market-book": "true"
            }},
            "spec": {"schedulerName": "nobody", "containers": [{"name": name, "image": "r.example/p", "ports": [
                {"name": "http", "containerPort": 8080}, {"name": "control", "containerPort": self.control.port}
            ]}]}
        });
        self.server.apply(&pod.to_string()).await.unwrap();
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "containerStatuses": [{
            "name": name, "image": "r.example/p", "imageID": "", "ready": false, "restartCount": 0, "containerID": process,
            "state": {"running": {}}
        }]}});
        let pods: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &ChildKind::Pod.api_resource());
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    /// When a namespace was made, in seconds.
    pub(crate) async fn born(&self, name: &str) -> i64 {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &ChildKind::Namespace.api_resource());
        api.get(name).await.unwrap().metadata.creation_timestamp.unwrap().0.as_second()
    }

    /// Writes so far: applies that changed something, and statuses.
    pub(crate) fn writes(&self) -> u64 {
        let results = ["created", "configured", "drift_removed", "unsettled", "failed"];
        let kinds = [
            "ConfigMap",
            "Service",
            "ServiceAccount",
            "Deployment",
            "ControllerRevision",
            "HorizontalPodAutoscaler",
            "PodDisruptionBudget",
            "Job",
            "DatabaseClaim",
        ];
        let applied: u64 = kinds
            .iter()
            .flat_map(|kind| {
                results.iter().map(move |result| self.ctx.metrics.applies.with_label_values(&[kind, result]).get())
            })
            .sum();
        let written: u64 = ["BettingService", "Market"]
            .iter()
            .map(|kind| self.ctx.metrics.status_writes.with_label_values(&[kind, "written"]).get())
            .sum();
        applied + written
    }
}

pub(crate) fn condition(status: &Value, type_: &str) -> String {
    let found = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == type_);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned()
}

pub(crate) fn reason(status: &Value, type_: &str) -> String {
    let found = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == type_);
    found.and_then(|condition| condition["reason"].as_str()).unwrap_or_default().to_owned()
}

/// Another look at every service has nothing to do.
pub(crate) async fn rests(world: &World) {
    for object in world.ctx.cache.list_in::<BettingService>(NAMESPACE) {
        let now = || world.ctx.cache.get::<BettingService>(Some(NAMESPACE), &object.name_any()).unwrap();
        let look = async || match BettingService::reconcile(now(), world.ctx.clone()).await {
            Ok(Outcome::Done) => Ok(()),
            other => Err(other),
        };
        another_look_is_silent(|| world.writes(), look).await;
    }
}

/// The number of writes once it has not moved for two seconds.
pub(crate) async fn quiet(world: &World) -> u64 {
    let watch = async {
        let mut last = (world.writes(), tokio::time::Instant::now());
        while last.1.elapsed() < Duration::from_secs(2) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if world.writes() != last.0 {
                last = (world.writes(), tokio::time::Instant::now());
            }
        }
        last.0
    };
    tokio::time::timeout(PATIENCE, watch).await.expect("it comes to rest")
}
