//! BettingServices and Markets on a real API server with the real Deployment, Job and autoscaler controllers; pods become Ready
//! without running.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test: its failure is the message"
)]

mod support;

use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use paddock_cluster::apiserver::Apiserver;
use paddock_crds::v1alpha1::{BettingService, DatabaseClaim, Market};
use paddock_operator::controllers::{self, Ctx, Kind as _, Outcome};
use paddock_operator::kube::ChildKind;
use paddock_operator::settings::Settings;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::control_port::{ControlPorts, LIAR, QUICK, SILENT};
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "acme-prod";
const PATIENCE: Duration = Duration::from_mins(2);

struct World {
    server: Apiserver,
    client: Client,
    ctx: Arc<Ctx>,
    control: ControlPorts,
    stop: CancellationToken,
}

impl World {
    async fn start() -> Self {
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
        let settings = Settings { control_port: control.port, ..Settings::default() };
        let ctx = Ctx::detached(client.clone(), settings).unwrap();
        let ctx = Arc::new(Ctx { cache: paddock_operator::kube::Cache::new(), ..ctx });
        let stop = CancellationToken::new();
        ctx.cache.start(&client, "paddock-system", &ctx.metrics, &ctx.events, &stop);
        ctx.cache.watch_secrets(NAMESPACE);
        tokio::spawn(controllers::betting_service::start(ctx.clone(), stop.clone()));
        tokio::spawn(controllers::market::start(ctx.clone(), stop.clone()));
        Self { server, client, ctx, control, stop }
    }

    fn services(&self) -> Api<BettingService> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    fn api(&self, kind: ChildKind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), NAMESPACE, &kind.api_resource())
    }

    async fn service(&self, name: &str, more: Value) {
        self.labelled(name, json!({}), more).await;
    }

    /// A service with labels: those of ours make it one of the environment's Release.
    async fn labelled(&self, name: &str, labels: Value, more: Value) {
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
    async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let poll = async {
            loop {
                let object = serde_json::to_value(self.services().get(name).await.unwrap()).unwrap();
                let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
                if current && wanted(&object["status"]) {
                    return object["status"].clone();
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if let Ok(status) = tokio::time::timeout(PATIENCE, poll).await {
            return status;
        }
        let all = self.server.kubectl(&["get", "all,bsvc,dbc,controllerrevision", "-n", NAMESPACE, "-o", "wide"]).await;
        panic!(
            "{name} never was {what}: {:#}\n{}",
            json!(self.services().get(name).await.unwrap().status),
            all.unwrap()
        )
    }

    async fn settled(&self, name: &str) -> Value {
        self.until(name, "settled", |status| {
            condition(status, "Ready") == "True"
                && status["revision"] == status["stableRevision"]
                && condition(status, "Reconciling").is_empty()
        })
        .await
    }

    /// Polls the API server until a Market's status is as wanted.
    async fn market(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let api: Api<Market> = Api::namespaced(self.client.clone(), NAMESPACE);
        let poll = async {
            loop {
                let object = serde_json::to_value(api.get(name).await.unwrap()).unwrap();
                let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
                if current && wanted(&object["status"]) {
                    return object["status"].clone();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if let Ok(status) = tokio::time::timeout(PATIENCE, poll).await {
            return status;
        }
        panic!("market {name}: {:#}", json!(api.get(name).await.unwrap().status))
    }

    /// A pod that follows the market book and is not ready.
    async fn follower(&self, name: &str, ip: &str, process: &str) {
        self.follower_in(NAMESPACE, name, ip, process).await;
    }

    async fn follower_in(&self, namespace: &str, name: &str, ip: &str, process: &str) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {
                "app.kubernetes.io/managed-by": "paddock", "paddock.bet/market-book": "true"
            }},
            "spec": {"schedulerName": "nobody", "containers": [{"name": name, "image": "r.example/p"}]}
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
    async fn born(&self, name: &str) -> i64 {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &ChildKind::Namespace.api_resource());
        api.get(name).await.unwrap().metadata.creation_timestamp.unwrap().0.as_second()
    }

    /// Writes so far: applies that changed something, and statuses.
    fn writes(&self) -> u64 {
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

fn condition(status: &Value, type_: &str) -> String {
    let found = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == type_);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned()
}

fn reason(status: &Value, type_: &str) -> String {
    let found = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == type_);
    found.and_then(|condition| condition["reason"].as_str()).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn services_roll_out_scale_suspend_and_rest() {
    let world = World::start().await;

    // A first revision.
    world.service("rates", json!({})).await;
    let first = world.settled("rates").await;
    assert_eq!((&first["summary"], &first["stableVersion"]), (&json!("2/2"), &json!("1.0")));
    let old = format!("rates-{}", first["revision"].as_str().unwrap());
    for kind in
        [ChildKind::Deployment, ChildKind::ConfigMap, ChildKind::ControllerRevision, ChildKind::PodDisruptionBudget]
    {
        assert!(world.api(kind).get_opt(&old).await.unwrap().is_some(), "{kind}");
    }

    // At rest another look writes nothing, and nothing that we applied is kept in another form.
    let before = world.writes();
    for _ in 0..3 {
        let object = world.ctx.cache.get::<BettingService>(Some(NAMESPACE), "rates").unwrap();
        assert_eq!(BettingService::reconcile(object, world.ctx.clone()).await.unwrap(), Outcome::Done);
    }
    assert_eq!(world.writes(), before);

    // Another release: never fewer ready pods than before, and the old one ends at zero.
    world.service("rates", json!({"config": {"LOG_LEVEL": "debug"}, "version": "2.0"})).await;
    let watch = async {
        loop {
            let pods = world.api(ChildKind::Deployment).list(&ListParams::default()).await.unwrap();
            let ready: i64 =
                pods.items.iter().filter_map(|it| it.data.pointer("/status/readyReplicas")?.as_i64()).sum();
            assert!(ready >= 2, "{ready} pods serve");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let second = tokio::select! {
        () = watch => unreachable!(),
        status = world.until("rates", "on version 2", |status| status["stableVersion"] == "2.0") => status,
    };
    let now = format!("rates-{}", second["revision"].as_str().unwrap());
    assert_ne!(now, old);
    let gone = async {
        while world.api(ChildKind::Deployment).get(&old).await.unwrap().data["spec"]["replicas"] != json!(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the old revision goes to zero");
    world.settled("rates").await;

    // An autoscaler takes the size over without a restart or a reset.
    world
        .service("rates", json!({"config": {"LOG_LEVEL": "debug"}, "version": "2.0", "replicas": {"min": 2, "max": 5}}))
        .await;
    world.settled("rates").await;
    let autoscaler = world.api(ChildKind::HorizontalPodAutoscaler).get(&now).await.unwrap();
    assert_eq!(autoscaler.data["spec"]["maxReplicas"], json!(5));
    let scale = json!({"spec": {"replicas": 4}});
    let params = PatchParams { field_manager: Some("autoscaler".into()), ..PatchParams::default() };
    world.api(ChildKind::Deployment).patch(&now, &params, &Patch::Merge(&scale)).await.unwrap();
    world.until("rates", "at 4", |status| status["summary"] == "4/4").await;
    assert_eq!(world.api(ChildKind::Deployment).get(&now).await.unwrap().data["spec"]["replicas"], json!(4));

    // The next revision starts as large as the one that serves.
    world
        .service("rates", json!({"config": {"LOG_LEVEL": "trace"}, "version": "3.0", "replicas": {"min": 2, "max": 5}}))
        .await;
    world
        .until("rates", "on version 3 with 4 pods", |status| {
            status["stableVersion"] == "3.0" && status["summary"] == "4/4"
        })
        .await;

    // Somebody's sidecar is taken out again.
    let third = world.settled("rates").await;
    let now = format!("rates-{}", third["revision"].as_str().unwrap());
    let sidecar = json!({"spec": {"template": {"spec": {"containers": [{"name": "spy", "image": "r.example/spy"}]}}}});
    let params = PatchParams { field_manager: Some("someone".into()), ..PatchParams::default() };
    world.api(ChildKind::Deployment).patch(&now, &params, &Patch::Strategic(&sidecar)).await.unwrap();
    let clean = async {
        loop {
            let live = world.api(ChildKind::Deployment).get(&now).await.unwrap();
            if live.data["spec"]["template"]["spec"]["containers"].as_array().unwrap().len() == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, clean).await.expect("the sidecar goes");

    // Suspended, and back.
    world.service("rates", json!({"config": {"LOG_LEVEL": "trace"}, "version": "3.0", "suspended": true})).await;
    let status = world.until("rates", "suspended", |status| reason(status, "Ready") == "Suspended").await;
    assert_eq!(condition(&status, "Ready"), "False");
    let empty = async {
        while world.api(ChildKind::Deployment).get(&now).await.unwrap().data["spec"]["replicas"] != json!(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, empty).await.expect("no pods");
    world.service("rates", json!({"config": {"LOG_LEVEL": "trace"}, "version": "3.0"})).await;
    world.settled("rates").await;

    claims_and_migrations(&world).await;
    a_migration_that_cannot_start(&world).await;
    markets(&world).await;
    calls(&world).await;
    made_by_hand(&world).await;
    names_of_the_environment(&world).await;
    an_outage_is_told(&world).await;
    books_are_pushed(&world).await;
    a_namespace_made_again_goes_on_above(&world).await;
    a_fault_is_told_once(&world).await;

    // Everything together rests.
    rests(&world).await;
    assert_eq!(world.ctx.metrics.applies.with_label_values(&["Deployment", "unsettled"]).get(), 0);
    world.stop.cancel();
}

/// Another look at every service writes nothing (rule O1).
async fn rests(world: &World) {
    let before = quiet(world).await;
    for object in world.ctx.cache.list_in::<BettingService>(NAMESPACE) {
        BettingService::reconcile(object, world.ctx.clone()).await.unwrap();
    }
    assert_eq!(world.writes(), before);
}

/// The number of writes once it has not moved for two seconds.
async fn quiet(world: &World) -> u64 {
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

/// Labels of what the Tenant makes for the environment's Release.
fn of_release() -> Value {
    json!({
        "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme", "paddock.bet/environment": "prod"
    })
}

/// Components of a Release get tokens for those that they call.
async fn calls(world: &World) {
    world.labelled("settlement", of_release(), json!({"calls": ["calculations", "account"]})).await;
    let status = world.settled("settlement").await;
    let name = format!("settlement-{}", status["revision"].as_str().unwrap());
    let deployment = world.api(ChildKind::Deployment).get(&name).await.unwrap();
    let volumes = deployment.data["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let tokens = volumes.iter().find(|volume| volume["name"] == "tokens").unwrap();
    let audiences: Vec<_> = tokens["projected"]["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|source| source["serviceAccountToken"]["audience"].as_str().unwrap())
        .collect();
    assert_eq!(audiences, ["account", "calculations"]);
}

/// What somebody makes by hand in an environment gets no token, no route, no control port, no market book, no login of what the
/// Release's components have, and no Secret of the environment by the name of a binding.
async fn made_by_hand(world: &World) {
    let control = json!([{"name": "http", "port": 8080}, {"name": "control", "port": 9091}]);
    for (name, more, field) in [
        ("caller", json!({"calls": ["account"]}), "spec.calls"),
        ("door", json!({"route": {"path": "/"}}), "spec.route"),
        ("drainer", json!({"ports": control}), "spec.ports"),
        ("bookie", json!({"marketBook": true}), "spec.marketBook"),
    ] {
        world.service(name, more).await;
        let status = world.until(name, "refused", |status| condition(status, "Stalled") == "True").await;
        assert_eq!(reason(&status, "Ready"), "InvalidSpec");
        assert!(status.to_string().contains(&format!("{field}: only components of a Release")), "{status}");
    }

    let claims: Api<DatabaseClaim> = Api::namespaced(world.client.clone(), NAMESPACE);
    let needs = |claim: &str| json!({"needs": [{"name": "db", "engine": "PostgreSQL", "claim": claim}]});
    world.labelled("ledger", of_release(), needs("ledger-db")).await;
    world.until("ledger", "waiting", |status| reason(status, "Reconciling") == "WaitingForClaims").await;
    world.service("spy", needs("ledger-db")).await;
    let status = world.until("spy", "refused", |status| condition(status, "Stalled") == "True").await;
    assert!(status.to_string().contains("claim ledger-db belongs to components of a Release"), "{status}");
    let roles = claims.get("ledger-db").await.unwrap().spec.roles;
    assert_eq!(roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>(), ["ledger"]);

    // A binding that would be called like the Secret of the control ports.
    world.service("control", needs("paddock")).await;
    world.until("control", "waiting", |status| reason(status, "Reconciling") == "WaitingForClaims").await;
    bound(&claims, "paddock").await;
    let status = world
        .until("control", "told", |status| status.to_string().contains("binding Secret paddock-control is not there"))
        .await;
    assert_eq!(reason(&status, "ClaimsBound"), "WaitingForClaims");

    let deployments = world.api(ChildKind::Deployment).list(&ListParams::default()).await.unwrap();
    for name in ["caller", "door", "drainer", "bookie", "ledger", "spy", "control"] {
        let started = deployments.items.iter().any(|it| it.name_any().starts_with(&format!("{name}-")));
        assert!(!started, "{name} runs");
        world.server.kubectl(&["delete", "bsvc", name, "-n", NAMESPACE]).await.unwrap();
    }
}

/// What serves is deleted and holds on: that nothing is ready is told although the reconcile cannot get on.
async fn an_outage_is_told(world: &World) {
    world.service("fragile", json!({})).await;
    let status = world.settled("fragile").await;
    let name = format!("fragile-{}", status["revision"].as_str().unwrap());
    let deployments = world.api(ChildKind::Deployment);
    let hold = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    let params = PatchParams { field_manager: Some("someone".into()), ..PatchParams::default() };
    deployments.patch(&name, &params, &Patch::Merge(&hold(json!(["test.example/hold"])))).await.unwrap();
    world
        .server
        .kubectl(&["delete", "deployment", &name, "-n", NAMESPACE, "--cascade=foreground", "--wait=false"])
        .await
        .unwrap();
    let status = world.until("fragile", "without pods", |status| status["summary"] == "0/2").await;
    assert_eq!((condition(&status, "Available"), condition(&status, "Ready")), ("False".into(), "False".into()));
    deployments.patch(&name, &params, &Patch::Merge(&hold(json!(null)))).await.unwrap();
    world.settled("fragile").await;
}

/// Services whose names are those of instances of the environment's own objects leave these alone.
async fn names_of_the_environment(world: &World) {
    let mut labels = of_release();
    labels["app.kubernetes.io/name"] = json!("environment.paddock.bet");
    labels["app.kubernetes.io/instance"] = json!(NAMESPACE);
    let issuer = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"issuer": "i"},
        "metadata": {"name": "token-issuer", "namespace": NAMESPACE, "labels": labels}
    });
    world.server.apply(&issuer.to_string()).await.unwrap();
    let uids = async || {
        let all = world.api(ChildKind::ConfigMap);
        [all.get("token-issuer").await.unwrap().uid(), all.get("market-book").await.unwrap().uid()]
    };
    let before = uids().await;
    for name in [NAMESPACE, "market-book"] {
        world.service(name, json!({})).await;
        world.settled(name).await;
    }
    assert_eq!(uids().await, before);
}

/// What the DatabaseClaim controller says of a claim that it bound as it is.
async fn bound(claims: &Api<DatabaseClaim>, name: &str) {
    let generation = claims.get(name).await.unwrap().metadata.generation;
    let bound = json!({"status": {"observedGeneration": generation, "conditions": [{
        "type": "Bound", "status": "True", "reason": "Bound", "message": "", "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z"
    }]}});
    claims.patch_status(name, &PatchParams::default(), &Patch::Merge(&bound)).await.unwrap();
}

async fn claims_and_migrations(world: &World) {
    let needs = json!([
        {"name": "db", "engine": "PostgreSQL"},
        {"name": "bus", "engine": "Kafka", "claim": "bus", "topics": {"write": [{"name": "ledger", "partitions": 6}], "read": []}}
    ]);
    let migrations = json!({"need": "db", "expand": {"command": ["/paddock-account", "migrate"]}});
    world.service("account", json!({"needs": needs, "migrations": migrations})).await;
    world
        .service("gateway", json!({"needs": [{"name": "bus", "engine": "Kafka", "claim": "bus", "topics": {"write": [], "read": ["ledger"]}}]}))
        .await;
    world.until("account", "waiting", |status| reason(status, "Reconciling") == "WaitingForClaims").await;
    world.until("gateway", "waiting", |status| reason(status, "Reconciling") == "WaitingForClaims").await;
    let claims: Api<DatabaseClaim> = Api::namespaced(world.client.clone(), NAMESPACE);
    let bus = claims.get("bus").await.unwrap();
    let mut roles: Vec<_> = bus.spec.roles.iter().map(|role| role.name.as_str()).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["account", "gateway"], "each service keeps its own role on a shared claim");
    assert_eq!(bus.spec.kafka.as_ref().unwrap().topics[0].partitions, 6);
    assert_eq!(bus.metadata.owner_references, None);
    let before =
        world.ctx.cache.get::<DatabaseClaim>(Some(NAMESPACE), "bus").unwrap().metadata.resource_version.clone();

    // What the DatabaseClaim controller does.
    for (claim, secrets) in
        [("bus", vec!["bus-account", "bus-gateway"]), ("account-db", vec!["account-db-account", "account-db-migrate"])]
    {
        for secret in secrets {
            binding(world, claim, secret).await;
        }
        bound(&claims, claim).await;
    }
    assert_eq!(claims.get("bus").await.unwrap().metadata.generation, bus.metadata.generation, "{before:?}");
    world.settled("gateway").await;
    // The migration ends before the first pod starts.
    let done = world.settled("account").await;
    assert_eq!(condition(&done, "MigrationsApplied"), "True");
    let jobs = world.api(ChildKind::Job).list(&ListParams::default()).await.unwrap();
    assert_eq!(jobs.items.len(), 1);
    let name = jobs.items[0].name_any();
    let started = format!("account-{}", done["revision"].as_str().unwrap());
    let started = world.api(ChildKind::Deployment).get(&started).await.unwrap().metadata.creation_timestamp.unwrap();
    let ended = jobs.items[0].data["status"]["completionTime"].as_str().unwrap().to_owned();
    assert!(ended.parse::<k8s_openapi::jiff::Timestamp>().unwrap() <= started.0, "{ended} {started:?}");

    // A claim that cannot be applied holds up the new revision; so does one that is not bound yet as it is wanted now.
    let gateway = |version: &str, topics: Value| {
        world.service(
            "gateway",
            json!({
                "version": version, "config": {"VERSION": version},
                "needs": [{"name": "bus", "engine": "Kafka", "claim": "bus", "topics": topics}]
            }),
        )
    };
    gateway("2.0", json!({"write": [{"name": "ledger", "partitions": 3}], "read": []})).await;
    let status = world.until("gateway", "refused", |status| condition(status, "Stalled") == "True").await;
    assert_eq!(
        (reason(&status, "Stalled"), reason(&status, "ClaimsBound")),
        ("InvalidSpec".into(), "WaitingForClaims".into())
    );
    assert_eq!((condition(&status, "Ready"), &status["stableVersion"]), ("True".into(), &json!("1.0")));
    gateway("3.0", json!({"write": [], "read": ["ledger", "offer"]})).await;
    let status = world.until("gateway", "waiting", |status| reason(status, "Reconciling") == "WaitingForClaims").await;
    assert!(status.to_string().contains("not bound yet as it is wanted now"), "{status}");
    quiet(world).await;
    let gateways = async || {
        let all = world.api(ChildKind::Deployment).list(&ListParams::default()).await.unwrap();
        all.items.iter().filter(|it| it.name_any().starts_with("gateway-")).count()
    };
    assert_eq!(gateways().await, 1, "no other revision has begun");
    bound(&claims, "bus").await;
    world.until("gateway", "on version 3", |status| status["stableVersion"] == "3.0").await;
    world.settled("gateway").await;
    // Also while one of those that share a claim writes no topic.
    rests(world).await;

    // A need that is dropped: its login goes when the pods that had it have.
    world.service("gateway", json!({"version": "4.0"})).await;
    world.until("gateway", "on version 4", |status| status["stableVersion"] == "4.0").await;
    let alone = async {
        loop {
            let roles = claims.get("bus").await.unwrap().spec.roles;
            if roles.iter().map(|role| role.name.as_str()).eq(["account"]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, alone).await.expect("the gateway has no role on the bus");
    bound(&claims, "bus").await;

    // The record outlives the Job: it is not run again.
    world.server.kubectl(&["delete", "job", &name, "-n", NAMESPACE, "--wait=true"]).await.unwrap();
    quiet(world).await;
    assert_eq!(world.api(ChildKind::Job).list(&ListParams::default()).await.unwrap().items.len(), 0);
    world.settled("account").await;
}

/// A migration whose pod cannot start is told of, and recovers by itself when what keeps it is mended, also after its time.
async fn a_migration_that_cannot_start(world: &World) {
    let late = json!({
        "needs": [{"name": "db", "engine": "PostgreSQL"}], "resources": {"requests": {"cpu": "3000", "memory": "64Mi"}},
        "migrations": {"need": "db", "expand": {"command": ["/paddock-late", "migrate"], "timeout": "20s"}},
    });
    world.service("late", late).await;
    world.until("late", "waiting", |status| reason(status, "Reconciling") == "WaitingForClaims").await;
    let claims: Api<DatabaseClaim> = Api::namespaced(world.client.clone(), NAMESPACE);
    for secret in ["late-db-late", "late-db-migrate"] {
        binding(world, "late-db", secret).await;
    }
    bound(&claims, "late-db").await;
    let status = world.until("late", "unscheduled", |status| reason(status, "Reconciling") == "Unschedulable").await;
    assert!(status.to_string().contains("migration Job late-migrate-"), "{status}");
    let jobs = async || -> Vec<DynamicObject> {
        let all = world.api(ChildKind::Job).list(&ListParams::default()).await.unwrap().items;
        all.into_iter().filter(|job| job.name_any().starts_with("late-migrate-")).collect()
    };
    let first = jobs().await[0].uid();
    let pods = world.api(ChildKind::Pod);
    let of_job = ListParams::default().labels("app.kubernetes.io/instance=late-migrate");
    let pod = pods.list(&of_job).await.unwrap().items[0].name_any();
    let pulling = json!({"status": {"containerStatuses": [{
        "name": "migrate", "image": "r.example/p", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}
    }]}});
    pods.patch_status(&pod, &PatchParams::default(), &Patch::Merge(&pulling)).await.unwrap();
    world.until("late", "without image", |status| reason(status, "Reconciling") == "ImagePullFailed").await;
    world.until("late", "given up", |status| reason(status, "Stalled") == "MigrationFailed").await;
    let again = async {
        while jobs().await.first().is_none_or(|job| job.uid() == first) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("the Job is made again");
    let status = world.until("late", "stalled", |status| condition(status, "Stalled") == "True").await;
    assert_eq!(condition(&status, "Ready"), "False");

    // A larger node comes.
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(world.client.clone());
    let node = nodes.list(&ListParams::default()).await.unwrap().items[0].name_any();
    let room = json!({"status": {"allocatable": {"cpu": "9000"}, "capacity": {"cpu": "9000"}}});
    nodes.patch_status(&node, &PatchParams::default(), &Patch::Merge(&room)).await.unwrap();
    let status = world.settled("late").await;
    assert_eq!(
        (condition(&status, "MigrationsApplied"), condition(&status, "Stalled")),
        ("True".into(), String::new())
    );
    world.server.kubectl(&["delete", "bsvc", "late", "-n", NAMESPACE]).await.unwrap();
}

/// The Secret that the DatabaseClaim controller makes for a role.
async fn binding(world: &World, claim: &str, secret: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": {"type": "x"},
        "metadata": {"name": secret, "namespace": NAMESPACE, "labels": {
            "app.kubernetes.io/managed-by": "paddock", "paddock.bet/claim": claim
        }}
    });
    world.server.apply(&object.to_string()).await.unwrap();
}

async fn markets(world: &World) {
    let book = || async {
        let object = world.api(ChildKind::ConfigMap).get_opt("market-book").await.unwrap()?;
        serde_json::from_str::<Value>(object.data["data"]["book.json"].as_str()?).ok()
    };
    let empty = book().await.expect("an environment without Markets has an empty book");
    let first = world.born(NAMESPACE).await + 1;
    assert_eq!((empty["rules"].as_array().map(Vec::len), &empty["generation"]), (Some(0), &json!(first)));
    let market = |name: &str, more: Value| {
        let mut spec = json!({
            "sport": "soccer", "marketType": "match-result",
            "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}},
            "limits": [{"currency": "EUR", "minStake": "0.10", "maxStake": "500.00", "maxPayout": "10000.00", "liability": "50000.00"}],
        });
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "Market", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}).to_string()
    };
    world.server.apply(&market("results", json!({}))).await.unwrap();
    let status = world.market("results", |status| condition(status, "Ready") == "True").await;
    assert_eq!(status["book"], json!({"generation": first + 1, "acknowledged": first + 1}));
    world
        .server
        .apply(&market(
            "strange",
            json!({"margin": {"method": "Shin", "overround": {"preMatch": "0.02", "live": "0.02"}}}),
        ))
        .await
        .unwrap();
    let status = world.market("strange", |status| condition(status, "Accepted") == "False").await;
    assert_eq!(reason(&status, "Accepted"), "Overlap");
    assert_eq!(book().await.unwrap()["generation"], json!(first + 1), "a refused rule changes no book");
    let began = std::time::Instant::now();
    world.server.apply(&market("results", json!({"state": "Suspended"}))).await.unwrap();
    world
        .market("results", |status| condition(status, "Suspended") == "True" && condition(status, "Ready") == "True")
        .await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    world.server.kubectl(&["delete", "market", "results", "strange", "-n", NAMESPACE]).await.unwrap();
    let gone = async {
        while book().await.unwrap()["rules"] != json!([]) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the book follows a deletion");
    // A lost ConfigMap comes back with a generation that pods take.
    world.server.apply(&market("results", json!({}))).await.unwrap();
    let before = world.market("results", |status| condition(status, "Ready") == "True").await["book"]["generation"]
        .as_i64()
        .unwrap();
    world.server.kubectl(&["delete", "configmap", "market-book", "-n", NAMESPACE]).await.unwrap();
    let back = async {
        loop {
            if let Some(found) = book().await {
                return found["generation"].as_i64().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let after = tokio::time::timeout(PATIENCE, back).await.expect("the book comes back");
    assert!(after >= before, "{after} {before}");
}

/// A pod that is not ready is told at once, one that never answers holds up nobody, and a Market says what is in force everywhere.
async fn books_are_pushed(world: &World) {
    let api: Api<Market> = Api::namespaced(world.client.clone(), NAMESPACE);
    let poll = async |what: &str, done: &dyn Fn() -> bool| {
        let poll = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("never {what}: {}", world.control.book()));
    };
    let generation = world.market("results", |status| condition(status, "Ready") == "True").await["book"]["generation"]
        .as_u64()
        .unwrap();
    let before = api.get("results").await.unwrap().metadata.resource_version;

    world.follower("quick", QUICK, "containerd://1").await;
    world.follower("silent", SILENT, "containerd://2").await;
    poll("a new pod has the book", &|| world.control.book()["generation"] == generation).await;
    let first = world.control.asked();
    poll("the silent pod is asked again", &|| world.control.asked() > first + 1).await;
    let after = api.get("results").await.unwrap().metadata.resource_version;
    assert_eq!(after, before, "pods come and go, the book does not change");

    for state in ["Suspended", "Open", "Suspended"] {
        let began = Instant::now();
        let patch = json!({"spec": {"state": state}});
        api.patch("results", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        poll(state, &|| world.control.book()["rules"][0]["state"] == state).await;
        assert!(began.elapsed() < Duration::from_millis(1500), "{state} after {:?}", began.elapsed());
    }
    let status = world
        .market("results", |status| {
            status["book"]["generation"] == json!(generation + 3) && reason(status, "Ready") == "WaitingForPods"
        })
        .await;
    assert_eq!(status["book"]["acknowledged"], json!(generation));
    let message = status["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "Ready").unwrap()["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(message.contains("silent: ") && !message.contains("quick: "), "{message}");

    let everywhere = |status: &Value| {
        condition(status, "Ready") == "True" && status["book"]["acknowledged"] == status["book"]["generation"]
    };
    world.server.kubectl(&["delete", "pod", "silent", "-n", NAMESPACE, "--grace-period=0", "--force"]).await.unwrap();
    let status = world.market("results", everywhere).await;
    assert_eq!(status["book"]["acknowledged"], json!(generation + 3));

    // A process that got another book with our number is told again, above it.
    world.control.hold(json!({"generation": generation + 3, "rules": ["others"]}));
    world.follower("quick", QUICK, "containerd://3").await;
    poll("our rules are in force", &|| world.control.book()["rules"][0]["state"] == "Suspended").await;
    let above = |status: &Value| everywhere(status) && status["book"]["generation"].as_u64() > Some(generation + 3);
    let status = world.market("results", above).await;

    // One that claims books which nobody published leads the environment nowhere: it is waited for, and told again less and less often.
    let generation = status["book"]["generation"].as_u64().unwrap();
    for (claim, process) in [(0, "containerd://4"), (u64::MAX, "containerd://5")] {
        world.control.claim(claim);
        let before = world.control.claimed();
        world.follower("liar", LIAR, process).await;
        poll("the pod claims", &|| world.control.claimed() > before + 4).await;
        let status = world.market("results", |status| status.to_string().contains("liar: it claims market book")).await;
        assert_eq!(status["book"]["generation"].as_u64(), Some(generation + 2), "{claim}: {status}");
    }
    for pod in ["quick", "liar"] {
        world.server.kubectl(&["delete", "pod", pod, "-n", NAMESPACE, "--grace-period=0", "--force"]).await.unwrap();
    }
    world.market("results", everywhere).await;
}

/// A namespace that is made again has a higher book than it had, although all that knew its number has gone: databases of its services
/// refuse lower ones. Pods are told although no Tenant's pass has begun the watch of its Secrets.
async fn a_namespace_made_again_goes_on_above(world: &World) {
    let name = "acme-dev";
    let labels = json!({
        "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme", "paddock.bet/environment": "dev"
    });
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": {"token": "t"},
        "metadata": {"name": "paddock-control", "namespace": name, "labels": labels}
    });
    let resource = ChildKind::ConfigMap.api_resource();
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), name, &resource);
    let mut numbers = Vec::new();
    for process in ["containerd://1", "containerd://2"] {
        world.server.apply(&namespace.to_string()).await.unwrap();
        let poll = async {
            loop {
                if let Some(object) = api.get_opt("market-book").await.unwrap() {
                    return object.annotations()["paddock.bet/book-generation"].parse::<u64>().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let number = tokio::time::timeout(PATIENCE, poll).await.expect("an empty book");
        world.control.hold(Value::Null);
        world.server.apply(&secret.to_string()).await.unwrap();
        world.follower_in(name, "quick", QUICK, process).await;
        let told = async {
            while world.control.book()["generation"] != json!(number) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("its pod is told");
        numbers.push(number);
        world.server.kubectl(&["delete", "namespace", name, "--wait=true", "--timeout=60s"]).await.unwrap();
    }
    assert!(numbers[1] > numbers[0], "{numbers:?}");
}

/// A book that cannot be published is a condition and one event on the Market, and stands in `/debug/state`.
async fn a_fault_is_told_once(world: &World) {
    let name = "acme-qa";
    let namespace = |labels: Value| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}).to_string()
    };
    world.server.apply(&namespace(json!({}))).await.unwrap();
    let foreign =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "market-book", "namespace": name}});
    world.server.apply(&foreign.to_string()).await.unwrap();
    let market = json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "Market", "metadata": {"name": "results", "namespace": name},
        "spec": {
            "sport": "soccer", "marketType": "match-result",
            "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}},
            "limits": [{
                "currency": "EUR", "minStake": "0.10", "maxStake": "500.00", "maxPayout": "10000.00", "liability": "50000.00"
            }]
        }
    });
    world.server.apply(&market.to_string()).await.unwrap();
    let api: Api<Market> = Api::namespaced(world.client.clone(), name);
    let becomes = async |wanted: &str| {
        let poll = async {
            while reason(&json!(api.get("results").await.unwrap().status), "Ready") != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("never {wanted}"));
    };
    becomes("NotAnEnvironment").await;
    let labels = json!({
        "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme", "paddock.bet/environment": "qa"
    });
    world.server.apply(&namespace(labels)).await.unwrap();
    becomes("NotOurs").await;
    let faults = || {
        let states = world.ctx.states.snapshot();
        states.get("market").map_or(0, |state| state.last_faults.iter().filter(|fault| fault.object == name).count())
    };
    let again = async {
        while faults() < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("it is tried again");
    let events = world.server.kubectl(&["get", "events.events.k8s.io", "-n", name, "-o", "json"]).await.unwrap();
    let events: Value = serde_json::from_str(&events).unwrap();
    let told: Vec<&Value> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["regarding"]["kind"] == "Market" && event["series"].is_null())
        .map(|event| &event["reason"])
        .collect();
    assert_eq!(told.len(), 2, "{events:#}");
    assert!(told.contains(&&json!("NotAnEnvironment")) && told.contains(&&json!("NotOurs")), "{told:?}");
    world.server.kubectl(&["delete", "namespace", name, "--wait=false"]).await.unwrap();
}
