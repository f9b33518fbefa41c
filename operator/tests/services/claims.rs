//! Claims of services, and migrations of their databases.

use crate::support::requests;
use crate::world::{NAMESPACE, PATIENCE, World, condition, quiet, reason, rests};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use paddock_crds::v1alpha1::{DatabaseClaim, Tenant};
use paddock_operator::controllers::betting_service::apply::apply_claims;
use paddock_operator::controllers::betting_service::dereference::Found;
use paddock_operator::controllers::betting_service::validate::{EnvironmentFacts, validate};
use paddock_operator::controllers::{Category, Ctx, Fault};
use paddock_operator::kube::{ChildKind, client};
use paddock_operator::metrics::Metrics;
use paddock_operator::settings::Settings;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What the DatabaseClaim controller says of a claim that it bound as it is.
pub(crate) async fn bound(claims: &Api<DatabaseClaim>, name: &str) {
    let generation = claims.get(name).await.unwrap().metadata.generation;
    let bound = json!({"status": {"observedGeneration": generation, "conditions": [{
        "type": "Bound", "status": "True", "reason": "Bound", "message": "", "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z"
    }]}});
    claims.patch_status(name, &PatchParams::default(), &Patch::Merge(&bound)).await.unwrap();
}

pub(crate) async fn claims_and_migrations(world: &World) {
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

/// A process whose cache has only what it is given.
struct Blind {
    ctx: Ctx,
    metrics: Arc<Metrics>,
    facts: EnvironmentFacts,
}

impl Blind {
    async fn start(world: &World) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let client = client::build(world.server.config().await.unwrap(), &metrics).unwrap();
        let ctx = Ctx { metrics: metrics.clone(), ..Ctx::detached(client, Settings::default()).unwrap() };
        let tenant: Tenant = Api::all(world.client.clone()).get("acme").await.unwrap();
        Self { ctx, metrics, facts: EnvironmentFacts::of(&tenant, "prod").unwrap() }
    }

    /// Applies a service's part of the claim `parts`, and says what came of it.
    async fn apply(&self, service: &str, partitions: i32) -> Result<(), Fault> {
        let object = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "BettingService",
            "metadata": {"name": service, "namespace": NAMESPACE, "uid": service, "labels": {
                "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme", "paddock.bet/environment": "prod"
            }},
            "spec": {
                "component": service, "version": "1", "image": "r.example/p@sha256:0", "replicas": {"min": 1, "max": 1},
                "needs": [{"name": "bus", "engine": "Kafka", "claim": "parts", "topics": {
                    "write": [{"name": "offer", "partitions": partitions}], "read": []
                }}]
            }
        });
        let service = validate(&serde_json::from_value(object).unwrap(), Some(self.facts.clone())).unwrap();
        apply_claims(&self.ctx, &service, &mut Found::default()).await
    }
}

/// A part is applied to the claim that was looked at: one that the cache does not know, or knows as it was, is looked at first.
pub(crate) async fn parts_of_claims(world: &World) {
    let claims: Api<DatabaseClaim> = Api::namespaced(world.client.clone(), NAMESPACE);
    let someone = PatchParams { field_manager: Some("someone".into()), ..PatchParams::default() };
    let patch = async |change: Value| claims.patch("parts", &someone, &Patch::Merge(&change)).await.unwrap();
    let roles = async || -> Vec<String> {
        claims.get("parts").await.unwrap().spec.roles.into_iter().map(|role| role.name).collect()
    };

    let blind = Blind::start(world).await;
    blind.apply("one", 6).await.unwrap();
    assert_eq!(requests(&blind.metrics), (1, 1), "who makes a claim asks nothing before");
    blind.apply("two", 6).await.unwrap();
    assert_eq!(roles().await, ["one", "two"], "a claim that the cache does not know yet");
    let refused = blind.apply("three", 3).await.unwrap_err();
    assert_eq!(refused.category, Category::InvalidSpec, "another shape of the same topic");

    blind.ctx.cache.observe(claims.get("parts").await.unwrap());
    patch(json!({"metadata": {"annotations": {"test.example/note": "later"}}})).await;
    blind.apply("three", 6).await.unwrap();
    assert_eq!(roles().await, ["one", "two", "three"], "that the cache is behind is no other opinion");

    blind.ctx.cache.observe(claims.get("parts").await.unwrap());
    let released = patch(json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}})).await;
    assert_eq!(blind.apply("four", 6).await.unwrap_err().category, Category::NotOurs);
    let another = Blind::start(world).await;
    assert_eq!(another.apply("four", 6).await.unwrap_err().category, Category::NotOurs);
    assert_eq!(claims.get("parts").await.unwrap().resource_version(), released.resource_version(), "left alone");
    claims.delete("parts", &DeleteParams::default()).await.unwrap();
}

/// A migration whose pod cannot start is told of, and recovers by itself when what keeps it is mended, also after its time.
pub(crate) async fn a_migration_that_cannot_start(world: &World) {
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
